"""A worker: claims the next job, runs it in a process of its own, and writes down how that process ended.

The job's process renews its own lease. It outlives a killed worker, and a killed process costs its worker nothing:
neither can take the other along. Where a worker has a slot, its job's process holds it too, so that a new worker
in the same slot waits until the last job of the old one is through, and a machine never runs more than it has slots.
"""

from __future__ import annotations

import fcntl
import logging
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from journeyman.database import UNREACHABLE
from journeyman.jobs import events
from journeyman.jobs.lease import RENEWALS
from journeyman.jobs.presence import Presence
from journeyman.jobs.queue import claim_next
from journeyman.jobs.state import LeaseLost, new_owner, release, renew

log = logging.getLogger("journeyman.jobs")

POLL_S = 0.5
"""How often an idle worker asks for a job: one small query, soon enough for a person who waits."""

LEAST_DISK_BYTES = 512 * 2**20
"""With less room than this below the home no job is begun: a checkpoint and the model would hardly fit."""

LEASE_LOST, BUSY = 75, 76
"""Exit codes of a job's process that ended without a word about the job: its lease is another's, or its folder is."""


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker needs. `command` gives the command line that runs a claimed job, from its id and the lease's owner."""

    engine: sa.Engine
    jobs_folder: Path
    lease_s: float
    command: Callable[[str, str], Sequence[str]]
    environment: Mapping[str, str]

    def work(
        self,
        should_stop: Callable[[], bool],
        *,
        should_end: Callable[[], bool] = lambda: False,
        slot: int | None = None,
        once: bool = False,
    ) -> None:
        """Take up jobs until `should_stop`; a job under way then writes a checkpoint and goes back into the queue.

        `should_end` lets the job under way finish first; `once` ends as soon as no job is free. A database or disk
        that fails is waited for.
        """
        self.jobs_folder.mkdir(parents=True, exist_ok=True)
        with _slot(self.jobs_folder.parent, slot, lambda: should_stop() or should_end()) as slot_file:
            presence = Presence(self.engine, slot)
            try:
                while not (should_stop() or should_end()):
                    presence.beat(None)
                    owner = new_owner()
                    job_id = self._next(owner)
                    if job_id is not None:
                        self._run(job_id, owner, slot_file, presence, should_stop)
                    elif once:
                        return
                    else:
                        time.sleep(POLL_S)
            finally:
                presence.leave()

    def _next(self, owner: str) -> str | None:
        free = shutil.disk_usage(self.jobs_folder).free
        if free < LEAST_DISK_BYTES:
            log.warning("%s has only %d MiB left: no job is begun", self.jobs_folder, free // 2**20)
            return None
        try:
            return claim_next(self.engine, owner, lease_s=self.lease_s)
        except UNREACHABLE as error:
            log.warning("the database does not answer: %s", error)
            return None

    def _run(
        self,
        job_id: str,
        owner: str,
        slot_file: int | None,
        presence: Presence,
        should_stop: Callable[[], bool],
    ) -> None:
        log.info("%s: begun", job_id, extra={"job_id": job_id})
        folder = self.jobs_folder / job_id
        with (folder / "process.log").open("ab") as output:
            process = subprocess.Popen(
                [*self.command(job_id, owner)],
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=() if slot_file is None else (slot_file,),
                start_new_session=True,  # Ctrl-C is for the worker, which passes on what is meant
            )
        self._watch(process, job_id, owner, presence, should_stop)
        if process.returncode == BUSY:
            time.sleep(POLL_S)
        how = None if process.returncode in (0, LEASE_LOST, BUSY) else _ending(process.returncode, folder)
        with suppress(*UNREACHABLE):  # the lease runs out by itself
            release(self.engine, job_id, owner, death=how)
        if how is not None and process.returncode < 0:
            log.warning("%s: its process was %s", job_id, how, extra={"job_id": job_id})
            events.append(folder, {"type": "died", "reason": how})
        else:
            code = process.returncode
            log.info("%s: its process ended", job_id, extra={"job_id": job_id, "exit_status": code})

    def _watch(
        self,
        process: subprocess.Popen[bytes],
        job_id: str,
        owner: str,
        presence: Presence,
        should_stop: Callable[[], bool],
    ) -> None:
        """Wait for the process. The lease is renewed from here too, since the process needs a while to begin."""
        asked = False
        renewed_s = time.monotonic()
        while process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.1)
            presence.beat(job_id)
            if should_stop() and not asked:
                asked = True
                process.send_signal(signal.SIGTERM)
            if time.monotonic() - renewed_s > self.lease_s / RENEWALS:
                renewed_s = time.monotonic()
                with suppress(LeaseLost, *UNREACHABLE):  # the process finds out for itself
                    renew(self.engine, job_id, owner, lease_s=self.lease_s)


def _ending(code: int, folder: Path) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"ended with exit status {code}; {folder / 'process.log'} has what it said"


@contextmanager
def _slot(home: Path, number: int | None, should_stop: Callable[[], bool]) -> Iterator[int | None]:
    """Hold a slot's lock, waiting for it. Processes that inherit the descriptor hold it on."""
    if number is None:
        yield None
        return
    folder = home / "workers"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"slot-{number}.lock").open("a") as file:
        while not should_stop():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(POLL_S)
        yield file.fileno()
