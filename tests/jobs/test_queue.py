"""The queue: whose turn it is, who holds a job, and what becomes of one whose process dies. On SQLite and PostgreSQL."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import sqlalchemy as sa
from job_rows import write_rows

from journeyman import database
from journeyman.errors import DiskFull, JobConflict, RequestError
from journeyman.files import hash_file
from journeyman.jobs import queue, worker
from journeyman.jobs.lease import Lease
from journeyman.jobs.presence import SILENT_S, Presence, present
from journeyman.jobs.state import JobState, LeaseLost, claim, move, new_owner, release, renew
from journeyman.jobs.store import JobStore
from journeyman.plan.plan import Wishes
from journeyman.request import TrainRequest
from journeyman.train.lora import ADAPTER_FILE
from journeyman.workspace import Workspace

POSTGRES = os.environ.get("JOURNEYMAN_TEST_POSTGRES") or "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"


def postgres_database():
    """The URL of a fresh database, or a skip where no server answers."""
    pytest.importorskip("psycopg")
    admin = sa.create_engine(POSTGRES, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 2})
    name = f"journeyman_test_{secrets.token_hex(4)}"
    try:
        with admin.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
    except sa.exc.OperationalError as error:
        pytest.skip(f"no PostgreSQL server answers (JOURNEYMAN_TEST_POSTGRES names one): {error.orig}")
    return admin, name


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request, tmp_path_factory):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('db') / 'journeyman.db'}"
        return
    admin, name = postgres_database()
    yield str(sa.make_url(POSTGRES).set(database=name).render_as_string(hide_password=False))
    with admin.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def store(url, tmp_path):
    engine = database.open_database(url)
    yield JobStore(engine, tmp_path / "jobs")
    with engine.begin() as connection:
        connection.execute(database.jobs.delete())
    engine.dispose()


def queued(store, project="", **more):
    return store.create(base="b", source="s", suffix="", wishes=Wishes(), project=project, **more).id


def next_of(store, lease_s=60.0):
    return queue.claim_next(store.engine, new_owner(), lease_s=lease_s)


def test_every_job_is_claimed_once_by_many_workers(store):
    jobs = {queued(store) for _ in range(12)}
    claimed: list[str] = []
    start = threading.Barrier(4)

    def work():
        start.wait()
        while job := next_of(store):
            claimed.append(job)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left = set(iter(lambda: next_of(store), None))
    assert sorted([*claimed, *left]) == sorted(jobs)


def test_projects_take_turns_and_within_one_the_oldest_is_first(store):
    many = [queued(store, "many") for _ in range(3)]
    one = queued(store, "one")
    order = []
    for _ in range(4):
        order.append(next_of(store))
        time.sleep(0.002)  # turns go by when a project's last job began
    assert order == [many[0], one, many[1], many[2]]
    assert next_of(store) is None


def test_a_dead_holders_job_is_taken_up_first_and_a_living_ones_never(store):
    dead, living, fresh = queued(store), queued(store), queued(store)
    owner = new_owner()
    assert claim(store.engine, dead, "gone", lease_s=0.01, of=queue.WAITING)
    assert claim(store.engine, living, owner, lease_s=0.01, of=queue.WAITING)
    renew(store.engine, living, owner, lease_s=60)
    time.sleep(0.05)
    assert [next_of(store), next_of(store), next_of(store)] == [dead, fresh, None]
    with pytest.raises(LeaseLost):
        renew(store.engine, dead, "gone", lease_s=60)
    with pytest.raises(LeaseLost):
        move(store.engine, dead, JobState.SUCCEEDED, owner="gone")
    release(store.engine, dead, "gone")
    assert store.get(dead).lease_owner not in (None, "gone")


def test_a_worker_is_seen_while_it_lives(store):
    ours = Presence(store.engine, slot=1)
    ours.beat(None)
    ours.beat("ftjob-1")
    (seen,) = [worker for worker in present(store.engine) if worker.id == ours.id]
    assert (seen.slot, seen.job) == (1, "ftjob-1")
    assert 0 <= seen.silent_s < 5
    with store.engine.begin() as connection:  # killed, and silent since
        connection.execute(database.workers.update().values(seen_at=database.workers.c.seen_at - SILENT_S - 1))
    assert not present(store.engine)
    ours.beat(None)
    assert present(store.engine)
    ours.leave()
    assert not present(store.engine)


def test_a_foreground_training_is_nobodys_to_take(store):
    queued(store, owner=new_owner(), lease_s=60)
    assert next_of(store) is None


def test_a_job_whose_process_keeps_dying_is_failed_with_the_reason(store):
    job = queued(store)
    for _ in range(queue.MOST_DEATHS):
        owner = new_owner()
        assert queue.claim_next(store.engine, owner, lease_s=60) == job
        release(store.engine, job, owner, death="killed by SIGKILL")
    assert next_of(store) is None
    failed = store.get(job)
    assert (failed.status, failed.error["code"]) == (JobState.FAILED, "process_died")
    assert "5 times in a row" in failed.error["message"] and "SIGKILL" in failed.error["message"]


def test_a_new_checkpoint_forgives_the_deaths_before_it(store):
    job = queued(store)
    for _ in range(queue.MOST_DEATHS + 3):
        owner = new_owner()
        assert queue.claim_next(store.engine, owner, lease_s=60) == job
        store.record_checkpoint(job, step=2, steps=9, trained_tokens=50)
        release(store.engine, job, owner, death="killed by SIGKILL")
    assert store.get(job).status is JobState.RUNNING


def test_a_paused_job_waits_for_its_process_and_then_for_its_user(store):
    job, owner = queued(store), new_owner()
    assert queue.claim_next(store.engine, owner, lease_s=60) == job
    move(store.engine, job, JobState.PAUSED)
    with Lease(store.engine, job, owner, lease_s=60) as lease:
        assert lease.must_stop()
        move(store.engine, job, JobState.QUEUED)
        assert next_of(store) is None, "its process has not stopped yet"
    release(store.engine, job, owner)
    assert next_of(store) == job


def test_a_lease_that_another_took_is_lost_within_a_renewal(store):
    job, owner, lost = queued(store), new_owner(), threading.Event()
    assert queue.claim_next(store.engine, owner, lease_s=1) == job
    with Lease(store.engine, job, owner, lease_s=1, on_lost=lost.set) as lease:
        assert not lease.must_stop()
        assert claim(store.engine, job, "another", lease_s=60, of=queue.WAITING, dead=owner)
        assert lost.wait(5)
        with pytest.raises(LeaseLost):
            lease.must_stop()


def test_jobs_are_listed_page_by_page_with_their_labels(store):
    ids = [queued(store, metadata={"team": "a" if i % 2 else "b", 'odd "key"': "x"}) for i in range(5)]
    plain = queued(store)
    first, more = store.page(limit=4)
    rest, end = store.page(after=first[-1].id, limit=4)
    assert [j.id for j in [*first, *rest]] == [plain, *ids[::-1]]
    assert (more, end) == (True, False)
    assert [j.id for j in store.page(metadata={"team": "a", 'odd "key"': "x"})[0]] == [ids[3], ids[1]]
    assert [j.id for j in store.page(unlabelled=True)[0]] == [plain]
    assert store.page(limit=6)[1] is False


# ── with processes ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def home(url, tmp_path, monkeypatch):
    monkeypatch.setenv("JOURNEYMAN_DATABASE_URL", url)
    workspace = Workspace(tmp_path / "home")
    yield workspace
    with workspace.jobs.engine.begin() as connection:
        connection.execute(database.models.delete())
        connection.execute(database.jobs.delete())


@pytest.fixture(scope="module")
def asked(bases, tmp_path_factory):
    rows = write_rows(tmp_path_factory.mktemp("data") / "rows.jsonl")
    return TrainRequest(str(rows), str(bases("llama")), Wishes(epochs=3, batch_size=4, learning_rate=1e-2, rank=4))


def wait_for(what, timeout_s=120.0):
    deadline_s = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline_s, "waited too long"
        time.sleep(0.02)
    return found


def test_a_killed_process_and_a_killed_worker_end_with_the_same_bytes(home, asked, tmp_path):
    """A worker that is killed leaves its job's process to go on; a job whose process is killed is resumed by a worker."""
    straight = Workspace(tmp_path / "straight")
    _, whole = straight.train(asked)
    job = home.submit(replace(asked, wishes=replace(asked.wishes, epochs=3)), metadata={"a": "b"})
    assert (job.status, job.metadata) == (JobState.QUEUED, {"a": "b"})

    def killed_once_it_trains() -> bool:
        lock = job.folder / "run.lock"
        if not any((job.folder / "checkpoints").glob("step-*")):
            return False
        os.kill(int(lock.read_text()), signal.SIGKILL)
        return True

    command = [sys.executable, "-m", "journeyman", "worker"]
    process = subprocess.Popen(command, env=home.settings.environment())
    try:
        wait_for(killed_once_it_trains)
        wait_for(lambda: any(e.type in ("died", "registered") for e in home.events(job.id, limit=99)[0]))
        process.kill()
    finally:
        process.kill()
        process.wait()

    def ended_job():  # where the killed worker had begun the job again, its process goes on by itself
        home.work(once=True)
        return (job_now := home.job(job.id)).status.terminal and job_now

    ended = wait_for(ended_job)
    assert (ended.status, ended.error) == (JobState.SUCCEEDED, None)
    assert home.registry.get(ended.model).files[ADAPTER_FILE] == whole.files[ADAPTER_FILE]
    assert hash_file(home.registry.get(ended.model).folder / ADAPTER_FILE) == whole.files[ADAPTER_FILE]
    assert [v.id for v in home.registry.list() if v.job == job.id] == [ended.model]


def test_a_file_that_can_not_be_trained_on_fails_its_job_and_not_its_worker(bases, tmp_path):
    home = Workspace(tmp_path / "home")
    few = write_rows(tmp_path / "few.jsonl", 4)
    job = home.submit(TrainRequest(str(few), str(bases("llama"))))
    home.work(once=True)
    failed = home.job(job.id)
    assert (failed.status, failed.error["code"]) == (JobState.FAILED, "invalid_n_examples")


def test_pause_requeue_and_cancel_of_a_job_that_waits(home, asked):
    job = home.submit(asked)
    assert home.pause(job.id).status is JobState.PAUSED
    home.work(once=True)
    assert home.requeue(job.id).status is JobState.QUEUED
    assert home.cancel(job.id).status is JobState.CANCELLED
    for refused in (home.cancel, home.pause, home.requeue):
        with pytest.raises(JobConflict, match="cancelled"):
            refused(job.id)
    home.work(once=True)
    assert [e.type for e in home.events(job.id)[0]] == ["cancelled", "queued", "created"]


def test_a_pause_or_resume_that_is_heard_twice_is_one(home, asked):
    """A client that had no answer asks again; a worker may have claimed the job between the two."""
    job = home.submit(asked)
    assert [home.pause(job.id).status for _ in range(2)] == [JobState.PAUSED] * 2
    with ThreadPoolExecutor(8) as pool:
        states = list(pool.map(lambda _: home.requeue(job.id).status, range(8)))
        assert set(states) == {JobState.QUEUED}
    assert queue.claim_next(home.jobs.engine, "worker", lease_s=60) == job.id
    assert home.requeue(job.id).status is JobState.RUNNING
    assert home.job(job.id).lease_owner == "worker"
    assert [e.type for e in home.events(job.id)[0]] == ["queued", "created"]


HALF_WRITTEN = """
import resource, signal, sys
from pathlib import Path
from journeyman.jobs import events
folder = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
size = (folder / events.FILE).stat().st_size + 20
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
events.append(folder, {"type": "step", "step": 1})
"""
"""A process whose disk has room for 20 bytes more."""


def test_what_happens_after_a_full_disk_is_not_joined_to_the_half_line_that_it_left(home, asked):
    job = home.submit(asked)
    home.pause(job.id)
    full = subprocess.run([sys.executable, "-c", HALF_WRITTEN, job.folder], capture_output=True, text=True)
    assert "File too large" in full.stderr
    assert not (job.folder / "events.jsonl").read_text().endswith("\n")
    home.requeue(job.id)
    assert [e.type for e in home.events(job.id)[0]] == ["queued", "created"]
    home.work(once=True)
    assert home.job(job.id).status is JobState.SUCCEEDED


def test_events_and_checkpoints_are_listed(tmp_path, asked):
    home = Workspace(tmp_path)
    job, _ = home.train(asked)
    pages, after, more = [], None, True
    while more:
        page, more = home.events(job.id, after=after, limit=7)
        pages += page
        after = page[-1].id
    told = [e["type"] for e in worker.read_events(job.folder)]
    assert [e.type for e in pages] == told[::-1]
    assert len({e.id for e in pages}) == len(pages)
    with pytest.raises(RequestError):
        home.events(job.id, after="ftevent-nothing")
    checkpoints = home.checkpoints(job.id)
    assert [c.step for c in checkpoints] == sorted((c.step for c in checkpoints), reverse=True)
    assert sum(c.epoch_end for c in checkpoints) == 3
    assert checkpoints[0].metrics.keys() >= {"train_loss", "valid_loss", "full_valid_loss"}


LIMITED = """if True:
    import resource, sys
    from journeyman.workspace import Workspace
    home = Workspace()
    limit = int(sys.argv[2])
    def on_event(event):
        if event["type"] == "checkpoint":
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    home.resume(sys.argv[1], on_event=on_event)
"""


def test_a_full_disk_during_a_checkpoint_pauses_the_job_and_loses_nothing(tmp_path, asked):
    """A limit on the size of files stands for the disk, which the SQLite database is on too."""
    straight, whole = Workspace(tmp_path / "straight").train(asked)
    home = Workspace(tmp_path / "home")
    job = home.submit(asked)
    adapter_bytes = (straight.folder / "model" / ADAPTER_FILE).stat().st_size
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, job.id, str(adapter_bytes // 2)],
        env=home.settings.environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert DiskFull.__name__ in done.stderr
    assert str(job.folder) in done.stderr and "resume the job" in done.stderr
    assert not home.job(job.id).status.terminal
    assert not list((job.folder / "checkpoints").glob(".step-*"))
    _, version = home.resume(job.id)
    assert version.files[ADAPTER_FILE] == whole.files[ADAPTER_FILE]
    assert home.job(job.id).error is None
