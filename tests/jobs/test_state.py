"""A job's states: what may follow what, who may run it, and what its row says."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from journeyman.database import open_database
from journeyman.errors import JobConflict, JobNotFound
from journeyman.jobs import lock
from journeyman.jobs.state import TRANSITIONS, JobState, move
from journeyman.jobs.store import Job, JobStore
from journeyman.plan.plan import Wishes

WAYS = {
    JobState.QUEUED: (),
    JobState.RUNNING: (JobState.RUNNING,),
    JobState.PAUSED: (JobState.RUNNING, JobState.PAUSED),
    JobState.SUCCEEDED: (JobState.RUNNING, JobState.SUCCEEDED),
    JobState.FAILED: (JobState.FAILED,),
    JobState.CANCELLED: (JobState.CANCELLED,),
}
"""How a fresh job comes into each state."""


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> JobStore:
    home = tmp_path_factory.mktemp("home")
    return JobStore(open_database(f"sqlite:///{home / 'journeyman.db'}"), home / "jobs")


def job_in(store: JobStore, state: JobState) -> Job:
    job = store.create(base="starter-1", source="rows.jsonl", suffix="", wishes=Wishes(epochs=2))
    for step in WAYS[state]:
        move(store.engine, job.id, step)
    assert store.get(job.id).status is state
    return job


@pytest.mark.parametrize("to", JobState)
@pytest.mark.parametrize("state", JobState)
def test_a_job_moves_where_it_may_and_nowhere_else(store, state, to):
    job = job_in(store, state)
    before = store.get(job.id)
    if to in TRANSITIONS[state]:
        move(store.engine, job.id, to, step=7)
        after = store.get(job.id)
        assert (after.status, after.step) == (to, 7)
        assert (after.finished_at is not None) == to.terminal
    else:
        with pytest.raises(JobConflict, match=rf"is {state} and can't become {to}"):
            move(store.engine, job.id, to, step=7)
        assert store.get(job.id) == before


def test_what_has_ended_has_ended():
    assert {state for state in JobState if not TRANSITIONS[state]} == {s for s in JobState if s.terminal}
    assert set(TRANSITIONS) == set(JobState)


def test_every_state_can_be_reached():
    assert set(JobState) == {JobState.QUEUED}.union(*TRANSITIONS.values())


def test_of_two_that_end_a_job_at_once_one_wins(store):
    for _ in range(10):
        job = job_in(store, JobState.RUNNING)
        outcomes: list[str] = []
        barrier = threading.Barrier(2)

        def end(to: JobState, job=job, barrier=barrier, outcomes=outcomes) -> None:
            barrier.wait()
            try:
                move(store.engine, job.id, to)
                outcomes.append(to)
            except JobConflict:
                outcomes.append("conflict")

        threads = [threading.Thread(target=end, args=(to,)) for to in (JobState.SUCCEEDED, JobState.CANCELLED)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == sorted(["conflict", store.get(job.id).status])


def test_an_unknown_job_is_an_error(store):
    with pytest.raises(JobNotFound, match="ftjob-nobody"):
        move(store.engine, "ftjob-nobody", JobState.RUNNING)
    with pytest.raises(JobNotFound, match="ftjob-nobody"):
        store.get("ftjob-nobody")


def test_a_job_comes_back_as_it_was_created(store):
    job = store.create(base="b", source="s", suffix="x", wishes=Wishes(epochs=2, learning_rate=1e-4, full=True))
    assert store.get(job.id) == job
    assert job.folder.is_dir()
    assert job.id.startswith("ftjob-")
    assert store.list()[0] == job
    store.record_progress(job.id, step=3, steps=9, trained_tokens=100)
    seen = store.get(job.id)
    assert (seen.step, seen.steps, seen.trained_tokens) == (3, 9, 100)


HOLD = """if True:
    import pathlib, sys, time
    from journeyman.jobs import lock
    with lock.held(pathlib.Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(60)
"""


def test_a_lock_is_one_process_and_dies_with_it(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        assert lock.is_held(tmp_path)
        with pytest.raises(JobConflict, match=f"process {process.pid}"), lock.held(tmp_path):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    started_s = time.monotonic()
    assert not lock.is_held(tmp_path)
    with lock.held(tmp_path):
        assert lock.is_held(tmp_path)
    assert not lock.is_held(tmp_path)
    assert time.monotonic() - started_s < 5
