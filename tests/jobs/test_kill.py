"""A job survives anything: twenty kill -9 at random moments, a pause, and the same bytes at the end."""

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest

from journeyman.errors import JobConflict
from journeyman.jobs.state import JobState
from journeyman.jobs.worker import read_events
from journeyman.models.registry import Registry
from journeyman.plan.plan import Wishes
from journeyman.train.lora import ADAPTER_FILE
from journeyman.workspace import TrainRequest, Workspace

KILLS = 20


@pytest.fixture(scope="module")
def request_(bases, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    pairs = [(f"question {i} {i * i % 97}", f"the answer is {i * 7 % 31}") for i in range(60)]
    lines = [
        json.dumps({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}) for q, a in pairs
    ]
    path.write_text("\n".join(lines) + "\n")
    return TrainRequest(str(path), str(bases("llama")), Wishes(epochs=8, batch_size=1, seed=3))


def _slow(event):
    """Small models train faster than a kill can be aimed; a step here takes at least 4 ms."""
    if event["type"] == "step":
        time.sleep(0.004)


def _work(home, job_id):
    os.setsid()
    Workspace(home).resume(job_id, on_event=_slow)


def _create(home, request):
    """A job that has begun and was paused after its first step."""
    return Workspace(home).train(request, should_stop=lambda: True)[0]


def test_twenty_kills_end_with_the_same_bytes(request_, tmp_path):
    whole = Workspace(tmp_path / "whole")
    _, untouched = whole.train(request_)
    assert untouched is not None

    home = tmp_path / "killed"
    job = _create(home, request_)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["journeyman.jobs.worker", "journeyman.workspace", "journeyman.database"])
    rng = random.Random(0)
    killed = 0
    while killed < KILLS:
        process = context.Process(target=_work, args=(home, job.id))
        process.start()
        process.join(rng.uniform(0.05, 0.9))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            assert process.exitcode == -signal.SIGKILL
        killed += 1
        if Workspace(home).jobs.get(job.id).status.terminal:
            break
    workspace = Workspace(home)
    if not workspace.jobs.get(job.id).status.terminal:
        workspace.resume(job.id)

    finished = workspace.jobs.get(job.id)
    assert finished.status is JobState.SUCCEEDED
    (version,) = workspace.registry.list()
    assert version.id == finished.model
    assert (Path(version.folder) / ADAPTER_FILE).read_bytes() == (untouched.folder / ADAPTER_FILE).read_bytes()
    steps = [e["step"] for e in read_events(job.folder) if e["type"] == "step"]
    assert set(steps) == set(range(1, max(steps) + 1))


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


def test_the_registry_is_whole_after_a_second_registration(request_, tmp_path):
    """A process that dies between registering and finishing registers again; the first entry counts."""
    workspace = Workspace(tmp_path)
    _, version = workspace.train(request_)
    again = Registry(workspace.registry._engine).add(version)
    assert again == workspace.registry.get(version.id)
    assert len(workspace.registry.list()) == 1
