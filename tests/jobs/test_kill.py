"""A job survives anything: twenty kill -9 at random moments, a pause, and the same bytes at the end."""

import json
import multiprocessing
import os
import random
import signal
import sqlite3
import time

import pytest

from journeyman.errors import JobConflict
from journeyman.files import hash_file
from journeyman.generate.sampling import Sampling
from journeyman.jobs.state import JobState
from journeyman.jobs.worker import read_events
from journeyman.models.registry import Registry
from journeyman.plan.plan import Wishes
from journeyman.records import Message
from journeyman.request import TrainRequest
from journeyman.train.lora import ADAPTER_FILE
from journeyman.workspace import Workspace

KILLS = 20
SHORTEST_S = 0.8
"""A job takes about this long on a quiet machine. Kills fall within what one has taken here, so that every part of it is hit."""


@pytest.fixture(scope="module")
def request_(bases, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    pairs = [(f"question {i} {i * i % 97}", f"the answer is {i * 7 % 31}") for i in range(60)]
    lines = [
        json.dumps({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}) for q, a in pairs
    ]
    path.write_text("\n".join(lines) + "\n")
    return TrainRequest(str(path), str(bases("llama")), Wishes(epochs=8, batch_size=4, seed=3))


def _work(home, request):
    """Go on with the job that is under way, or begin one; runs in a process of its own, to be killed."""
    workspace = Workspace(home)
    under_way = [j for j in workspace.jobs.list() if not j.status.terminal and _has_begun(j)]
    if under_way:
        workspace.resume(under_way[0].id)
    else:
        workspace.train(request)


def _has_begun(job):
    """A job that died while its rows were read has nothing to go on with."""
    return (job.folder / "dataset" / "manifest.json").exists()


def _digests(folder):
    """Every file of the checkpoints that are left, what became of every row, and what each cost."""
    files = [f for f in (folder / "checkpoints").rglob("*") if f.is_file()]
    return {str(f.relative_to(folder)): hash_file(f) for f in [*files, folder / "ledger.jsonl", folder / "rows.jsonl"]}


def test_twenty_kills_end_with_the_same_bytes(request_, tmp_path):
    Workspace(tmp_path / "first").train(request_)  # what is loaded once must not count
    started_s = time.perf_counter()
    untouched_job, untouched = Workspace(tmp_path / "whole").train(request_)
    longest_life_s = max(SHORTEST_S, time.perf_counter() - started_s)
    wanted = _digests(untouched_job.folder)

    home = tmp_path / "killed"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["journeyman.jobs.worker", "journeyman.training", "journeyman.workspace"])
    rng = random.Random(0)
    kills = interrupted = 0
    finishing = False
    while kills < KILLS or not finishing:
        finishing = kills == KILLS
        process = context.Process(target=_work, args=(home, request_))
        process.start()
        process.join(None if finishing else rng.uniform(0.02, longest_life_s))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
            interrupted += any(map(_has_begun, Workspace(home).jobs.list()))
        else:
            assert process.exitcode == 0
    assert interrupted >= KILLS // 2, "too many kills fell before there was a job to go on with"

    workspace = Workspace(home)
    begun = [job for job in workspace.jobs.list() if _has_begun(job)]
    assert begun
    for job in begun:
        assert job.status is JobState.SUCCEEDED
        version = workspace.registry.get(job.model)
        assert version.files[ADAPTER_FILE] == untouched.files[ADAPTER_FILE] == hash_file(version.folder / ADAPTER_FILE)
        assert _digests(job.folder) == wanted
        steps = [e["step"] for e in read_events(job.folder) if e["type"] == "step"]
        assert set(steps) == set(range(1, untouched.metrics["steps"] + 1))
        assert not list(job.folder.glob(".model*"))
    assert sorted(v.id for v in workspace.registry.list()) == sorted(job.model for job in begun)
    with sqlite3.connect(home / "journeyman.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_pause_keeps_a_checkpoint_and_resume_goes_on(request_, tmp_path):
    workspace = Workspace(tmp_path)
    job, version = workspace.train(request_, should_stop=lambda: True)
    assert (job.status, version) == (JobState.PAUSED, None)
    job, version = workspace.resume(job.id)
    assert version is not None
    assert workspace.registry.get(version.id).job == job.id
    with pytest.raises(JobConflict):
        workspace.resume(job.id)


def test_a_failed_job_says_why(bases, tmp_path):
    path = tmp_path / "few.jsonl"
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    path.write_text(json.dumps(row) + "\n")
    workspace = Workspace(tmp_path / "home")
    with pytest.raises(Exception, match="must have at least 10 examples"):
        workspace.train(TrainRequest(str(path), str(bases("llama"))))
    (job,) = workspace.jobs.list()
    assert (job.status, job.error["code"]) == (JobState.FAILED, "invalid_n_examples")


def test_a_home_that_was_moved_answers_and_shows_its_jobs_as_before(request_, tmp_path):
    """A backup put back elsewhere, or a container that mounts the home at another place."""
    _, version = Workspace(tmp_path / "home").train(request_)
    question = [Message("user", "a b")]
    before = Workspace(tmp_path / "home").answer(version.id, question, Sampling(max_tokens=5))
    (tmp_path / "home").rename(tmp_path / "moved")
    moved = Workspace(tmp_path / "moved")
    assert moved.answer(version.id, question, Sampling(max_tokens=5)).text == before.text
    assert moved.jobs.get(version.job).folder.is_relative_to(tmp_path / "moved")


def test_the_registry_is_whole_after_a_second_registration(request_, tmp_path):
    """A process that dies between registering and finishing registers again; the first entry counts."""
    workspace = Workspace(tmp_path)
    _, version = workspace.train(request_)
    again = Registry(workspace.registry._engine, workspace.settings.jobs_folder).add(version)
    assert again == workspace.registry.get(version.id)
    assert len(workspace.registry.list()) == 1
