"""Holding a job: a lease in its row, renewed in the background for as long as this process lives."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType

import sqlalchemy as sa

from journeyman.database import UNREACHABLE
from journeyman.jobs.state import JobState, LeaseLost, renew, state_of

log = logging.getLogger("journeyman.jobs")

RENEWALS = 5
"""How often a lease is renewed within its length, so that one slow answer of the database does not lose it."""


def _now_s() -> float:
    """Seconds that also pass while the machine sleeps, where the system can tell: a lease runs out in its sleep too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Lease:
    """The lease that `owner` has on a job; as a context, it is renewed until the end of the block.

    A lease that is lost, or that could not be renewed before it ran out, calls `on_lost` once; from then on `must_stop`
    raises LeaseLost.
    """

    def __init__(
        self,
        engine: sa.Engine,
        job_id: str,
        owner: str,
        *,
        lease_s: float,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._job_id = job_id
        self.owner = owner
        self._lease_s = lease_s
        self._on_lost = on_lost
        self._lost = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease of {job_id}", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(timeout=1)

    def must_stop(self) -> bool:
        """Whether the job was paused or cancelled meanwhile, from any machine. Raises LeaseLost.

        While the database can't be reached the answer is no: the work goes on until the lease runs out.
        """
        if self._lost:
            raise LeaseLost(self._job_id)
        try:
            return state_of(self._engine, self._job_id, self.owner) is not JobState.RUNNING
        except UNREACHABLE as error:
            log.warning("%s: the database does not answer: %s", self._job_id, error)
            return False

    def _renew(self) -> None:
        renewed_s = _now_s()
        while not self._ended.wait(self._lease_s / RENEWALS):
            asked_s = _now_s()
            try:
                renew(self._engine, self._job_id, self.owner, lease_s=self._lease_s)
                renewed_s = asked_s
            except LeaseLost:
                break
            except UNREACHABLE as error:
                log.warning("%s: its lease could not be renewed: %s", self._job_id, error)
                if _now_s() - renewed_s > self._lease_s * (RENEWALS - 1) / RENEWALS:
                    break
        if not self._ended.is_set():
            self._lost = True
            self._on_lost()
