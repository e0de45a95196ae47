"""What `journeyman clean` frees, and what it never touches."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from journeyman import database
from journeyman.cli.main import app
from journeyman.errors import ObjectNotFound, RequestError
from journeyman.jobs.state import JobState, move
from journeyman.models.registry import Version
from journeyman.plan.plan import Wishes
from journeyman.workspace import Workspace

ALL = ("leftovers", "jobs", "checkpoints", "files")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


def a_job(workspace: Workspace, state: JobState | None, *, source: str = "s", base: str = "b", days_ago: float = 60) -> Path:
    """The folder of a job that came to that state so long ago."""
    job = workspace.jobs.create(base=base, source=source, suffix="", wishes=Wishes(), project="default")
    for name in ("checkpoints/step-000001", "model", "dataset"):
        (job.folder / name).mkdir(parents=True)
        (job.folder / name / "data").write_bytes(b"x" * 1000)
    if state is JobState.SUCCEEDED:
        move(workspace.jobs.engine, job.id, JobState.RUNNING)
    if state is not None:
        move(workspace.jobs.engine, job.id, state)
    with workspace.jobs.engine.begin() as connection:
        table = database.jobs
        connection.execute(
            table.update()
            .where(table.c.id == job.id, table.c.finished_at.is_not(None))
            .values(finished_at=time.time() - days_ago * 86_400)
        )
    return job.folder


def register(workspace: Workspace, folder: Path, *, base_source: str = "starter") -> Version:
    return workspace.registry.add(
        Version(
            id=f"ft:starter-1:local::{folder.name[-8:]}", job=folder.name, base="starter-1", base_source=base_source,
            base_fingerprint="0", dataset_hash="0", method="lora", plan={}, metrics={}, files={}, folder=folder / "model",
            created_at=time.time(),
        )
    )  # fmt: skip


def a_file(workspace: Workspace, *, days_ago: float = 60, project: str = "default", expires_s: int | None = None):
    store = workspace.files.of(project)
    scratch = store.scratch()
    scratch.write_bytes(b"{}\n")
    document = store.keep(scratch, "rows.jsonl", "fine-tune", expires_s=expires_s)
    with workspace.jobs.engine.begin() as connection:
        table = database.documents
        connection.execute(
            table.update().where(table.c.id == document.id).values(created_at=time.time() - days_ago * 86_400)
        )
    return store, document


def paths(workspace: Workspace, *kinds: str, **asked) -> set[Path]:
    return {item.path for item in workspace.clean(kinds or ALL, **asked)}


def test_jobs_that_ended_without_a_model_go_and_all_others_stay(workspace):
    failed, cancelled = (a_job(workspace, state) for state in (JobState.FAILED, JobState.CANCELLED))
    deleted = a_job(workspace, JobState.SUCCEEDED)
    a_job(workspace, JobState.FAILED, days_ago=1)
    for state in (None, JobState.PAUSED, JobState.RUNNING):
        a_job(workspace, state)
    tuned = a_job(workspace, JobState.SUCCEEDED)
    register(workspace, tuned)
    found = workspace.clean(("jobs",))
    assert {item.path for item in found} == {failed, cancelled, deleted}
    assert {item.size_bytes for item in found} == {3000}
    assert {item.reason for item in found} == {"the job is failed", "the job is cancelled", "its model was deleted"}
    assert all(item.path.is_dir() for item in found), "nothing is deleted unasked"
    assert {item.path for item in workspace.clean(("jobs",), delete=True)} == {failed, cancelled, deleted}
    assert not any(item.path.exists() for item in found)
    assert not workspace.clean(("jobs",))
    assert workspace.job(failed.name).status is JobState.FAILED, "the row stays"
    assert (tuned / "model" / "data").is_file()


def test_a_process_that_still_stops_keeps_its_jobs_folder(workspace):
    folder = a_job(workspace, JobState.CANCELLED)
    with workspace.jobs.engine.begin() as connection:
        connection.execute(database.jobs.update().values(lease_owner="somebody"))
    assert not paths(workspace)
    with workspace.jobs.engine.begin() as connection:
        connection.execute(database.jobs.update().values(lease_owner=None))
    assert paths(workspace) == {folder}


def test_checkpoints_go_without_the_model_and_its_rows(workspace):
    tuned = a_job(workspace, JobState.SUCCEEDED)
    register(workspace, tuned)
    assert paths(workspace, "leftovers", "jobs") == set()
    assert paths(workspace, "checkpoints", delete=True) == {tuned / "checkpoints"}
    assert sorted(path.name for path in tuned.iterdir() if path.is_dir()) == ["dataset", "model"]


def test_what_another_model_or_a_waiting_job_is_built_on_stays(workspace):
    base = a_job(workspace, JobState.SUCCEEDED)
    source = a_job(workspace, JobState.FAILED)
    checkpoint = a_job(workspace, JobState.SUCCEEDED)
    register(workspace, checkpoint)
    tuned = a_job(workspace, JobState.SUCCEEDED, days_ago=0)
    register(workspace, tuned, base_source=str(base / "model"))
    a_job(workspace, None, source=str(source / "dataset" / "data"), base=str(checkpoint / "checkpoints" / "step-000001"))
    assert paths(workspace) == set()


def test_files_go_by_age_or_when_they_expired_unless_a_waiting_job_reads_them(workspace):
    (store, old), (_, expired) = a_file(workspace), a_file(workspace, project="other", expires_s=3600)
    read, young = a_file(workspace)[1], a_file(workspace, days_ago=1)[1]
    with workspace.jobs.engine.begin() as connection:
        table = database.documents
        connection.execute(
            table.update()
            .where(table.c.id == expired.id)
            .values(created_at=time.time(), body={**expired.body, "expires_at": time.time() - 1})
        )
    waiting = a_job(workspace, None, source=str(store.path(read)))
    assert paths(workspace, "leftovers", "jobs", "checkpoints") == set()
    found = workspace.clean(("files",), delete=True)
    assert {item.file.id for item in found} == {old.id, expired.id}
    with pytest.raises(ObjectNotFound):
        store.get(old.id)
    assert store.path(store.get(read.id)).is_file() and store.path(store.get(young.id)).is_file()
    move(workspace.jobs.engine, waiting.name, JobState.CANCELLED)
    assert store.path(read) in paths(workspace, "files")


def a_document(workspace: Workspace, kind: str, *, days_ago: float = 60, project: str = "default", parent: str | None = None, **body) -> str:
    made = workspace.documents.of(project).add(kind, body, parent=parent)
    with workspace.jobs.engine.begin() as connection:
        table = database.documents
        connection.execute(table.update().where(table.c.id == made.id).values(created_at=time.time() - days_ago * 86_400))
    return made.id


def a_response(workspace: Workspace, previous: str | None = None, **more) -> str:
    return a_document(workspace, "response", response={"previous_response_id": previous}, input=[], **more)


def left(workspace: Workspace, kind: str) -> list[str]:
    return [document.id for document in workspace.documents.everywhere(kind)]


def test_responses_go_by_age_unless_a_younger_one_goes_on_from_them(workspace):
    first = a_response(workspace)
    second = a_response(workspace, first)
    aside = a_response(workspace, first)
    others = a_response(workspace, "resp_gone", project="other")
    young = a_response(workspace, second, days_ago=1)
    assert not workspace.clean(("leftovers", "jobs", "files"))
    shown = workspace.clean(("responses",))
    assert {tuple(item.ids) for item in shown} == {(aside,), (others,)}
    assert all(item.size_bytes > 20 and item.path is None for item in shown)
    assert len(left(workspace, "response")) == 5, "nothing is deleted unasked"
    workspace.clean(("responses",), delete=True)
    assert left(workspace, "response") == [first, second, young]
    assert len(workspace.clean(("responses",), older_than_days=0)) == 1, "a conversation that is over goes as a whole"


def test_stored_completions_go_by_age(workspace):
    old = [a_document(workspace, "chat.completion", messages=[]) for _ in range(1200)]
    young = a_document(workspace, "chat.completion", days_ago=1)
    assert [list(item.ids) for item in workspace.clean(("completions",), delete=True)] == [old]
    assert left(workspace, "chat.completion") == [young]


def test_runs_of_evals_that_ended_go_with_their_items_and_the_eval_stays(workspace):
    of = a_document(workspace, "eval")
    runs = {
        status: a_document(workspace, "eval.run", parent=of, status=status)
        for status in ("queued", "in_progress", "completed", "canceled", "failed")
    }
    items = {run: a_document(workspace, "eval.run.output_item", parent=run, text="x" * 1000) for run in runs.values()}
    young = a_document(workspace, "eval.run", parent=of, status="completed", days_ago=1)
    (found,) = workspace.clean(("eval-runs",), delete=True)
    assert list(found.ids) == [runs["completed"], runs["canceled"], runs["failed"]] and found.size_bytes > 3000
    stay = [runs["queued"], runs["in_progress"]]
    assert left(workspace, "eval.run") == [*stay, young] and left(workspace, "eval") == [of]
    assert left(workspace, "eval.run.output_item") == [items[run] for run in stay]


def test_what_arrived_in_part_goes_once_it_can_not_arrive_any_more(workspace):
    scratch = workspace.files.scratch()
    scratch.write_bytes(b"x" * 10)
    parts = workspace.settings.uploads_folder / "upload_x"
    parts.mkdir(parents=True)
    (parts / "part_1").write_bytes(b"x" * 20)
    assert paths(workspace) == set()
    for path in (scratch, parts, parts / "part_1"):
        os.utime(path, (0, time.time() - 3 * 3600))
    assert [(item.path, item.size_bytes) for item in workspace.clean(ALL, delete=True)] == [(parts, 20), (scratch, 10)]
    assert not scratch.exists() and not parts.exists()


def test_the_command_shows_first_and_deletes_when_asked_to(workspace, monkeypatch):
    monkeypatch.setenv("JOURNEYMAN_HOME", str(workspace.settings.home))
    folder = a_job(workspace, JobState.FAILED)
    _, old = a_file(workspace)
    shown = json.loads(CliRunner().invoke(app, ["clean", "--json"]).stdout)
    assert (shown["deleted"], shown["bytes"], [item["path"] for item in shown["items"]]) == (False, 3000, [str(folder)])
    assert folder.is_dir()
    done = json.loads(CliRunner().invoke(app, ["clean", "--delete", "--json"]).stdout)
    assert done["bytes"] == 3000 and not folder.exists()
    assert workspace.files.get(old.id), "files go only where they are named"
    stored = a_document(workspace, "chat.completion")
    done = json.loads(CliRunner().invoke(app, ["clean", "--only", "completions", "--delete", "--json"]).stdout)
    assert [(item["kind"], item["path"]) for item in done["items"]] == [("completions", None)]
    assert stored not in left(workspace, "chat.completion")
    with pytest.raises(RequestError, match="models"):
        workspace.clean(("models",))
