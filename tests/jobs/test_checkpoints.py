"""A checkpoint is found by its name, however many jobs there are."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from journeyman.errors import ModelNotFound
from journeyman.jobs.store import Job, JobStore
from journeyman.plan.plan import Wishes
from journeyman.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


def a_job(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, key: str, *, suffix: str = "", steps: tuple[int, ...] = (3,)) -> Job:
    """A job whose id is made of this, with checkpoints of these steps."""
    monkeypatch.setattr("journeyman.jobs.store.random_key", lambda length: key.ljust(length, "0"))
    job = workspace.jobs.create(base="starter", source="s", suffix=suffix, wishes=Wishes())
    for step in steps:
        folder = job.folder / "checkpoints" / f"step-{step:06d}"
        folder.mkdir(parents=True)
        (folder / "state.json").touch()
    return job


def test_a_checkpoint_is_found_by_its_name_and_no_other_job_is_read(workspace, monkeypatch):
    jobs = [a_job(workspace, monkeypatch, key) for key in ("AbcdEfgh1", "AbcdEfgi1", "abcdefgh1", "AbcdEfg", "zzzzzzzz")]
    read: list[str] = []
    whole = JobStore._job
    monkeypatch.setattr(JobStore, "_job", lambda store, row: read.append(row.id) or whole(store, row))
    for job in jobs:
        found, folder = workspace.checkpoint_folder(workspace.checkpoint_name(job, 3))
        assert (found, folder) == (job, job.folder / "checkpoints" / "step-000003")
    assert read == [job.id for job in jobs]


def test_jobs_whose_ids_begin_alike_are_all_tried(workspace, monkeypatch):
    old = a_job(workspace, monkeypatch, "AbcdEfgh1", steps=(3,))
    new = a_job(workspace, monkeypatch, "AbcdEfgh2", steps=(3, 4))
    other = a_job(workspace, monkeypatch, "AbcdEfgh3", suffix="mine", steps=(5,))
    assert workspace.jobs.beginning("ftjob-AbcdEfgh") == [other, new, old]
    assert workspace.checkpoint_name(old, 3) == workspace.checkpoint_name(new, 3)
    for step, suffixed, job in ((3, new, new), (4, old, new), (5, other, other)):
        assert workspace.checkpoint_folder(workspace.checkpoint_name(suffixed, step))[0] == job
    with pytest.raises(ModelNotFound):
        workspace.checkpoint_folder(workspace.checkpoint_name(old, 5))


@pytest.mark.parametrize("key", ["%", "%%%%%%%%", "________", "AbcdEf__", "AbcdEfg%", "Abcd*", "abcdefgh", "AbcdEfg", "AbcdEfgh1", "", "\0", "ÄbcdEfgh", "~", "'"])
def test_no_other_name_finds_it(workspace, monkeypatch, key):
    name = workspace.checkpoint_name(a_job(workspace, monkeypatch, "AbcdEfgh1"), 3)
    assert workspace.checkpoint_folder(name)
    with pytest.raises(ModelNotFound):
        workspace.checkpoint_folder(name.replace("AbcdEfgh", key))
    if key.isprintable():
        beginnings = [job.id[6:] for job in workspace.jobs.beginning(f"ftjob-{key}")]
        assert beginnings == [i for i in ["AbcdEfgh1".ljust(24, "0")] if i.startswith(key)]


@pytest.mark.parametrize("step", ["", "03", "-3", "3 ", "³", "9" * 30, "3:ckpt-step-3"])
def test_a_step_is_written_in_one_way(workspace, monkeypatch, step):
    name = workspace.checkpoint_name(a_job(workspace, monkeypatch, "AbcdEfgh1"), 3)
    with pytest.raises(ModelNotFound):
        workspace.checkpoint_folder(name.removesuffix("3") + step)


def test_ids_are_looked_up_in_their_index(workspace):
    engine = workspace.jobs.engine
    if engine.dialect.name != "sqlite":
        pytest.skip("the plan is told in SQLite's words")
    said: list[tuple[str, object]] = []
    sa.event.listen(engine, "before_cursor_execute", lambda c, cursor, statement, parameters, *_: said.append((statement, parameters)))
    workspace.jobs.beginning("ftjob-AbcdEfgh")
    (statement, parameters), = said
    with engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    assert any("SEARCH jobs USING INDEX" in row.detail and "id>? AND id<?" in row.detail for row in plan)
