"""The states of a job and the only code that changes them.

    queued ──► running ──► succeeded
       │         │  ▲ └──► failed
       │         ▼  │
       │        paused
       └────────►└──┴────► cancelled

A running job whose process died stays `running` until it is resumed: its lock is then free, and `resume` takes it.
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from journeyman import database
from journeyman.errors import JobConflict, JobNotFound


class JobState(StrEnum):
    """Where a job stands; the names are OpenAI's."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether the job has ended for good."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.FAILED}),
    JobState.RUNNING: frozenset(
        {JobState.RUNNING, JobState.PAUSED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
    ),
    JobState.PAUSED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}
"""What may follow what. running → running is a job taken over after its process died."""


def move(engine: sa.Engine, job_id: str, to: JobState, **values: Any) -> None:
    """Change a job's state, and other columns of its row, in one statement that only fits an allowed state.

    Raises JobNotFound for an unknown id and JobConflict where the present state does not allow it.
    """
    allowed = [state for state, following in TRANSITIONS.items() if to in following]
    table = database.jobs
    times = {"finished_at": time.time()} if to.terminal else {}
    statement = (
        table.update().where(table.c.id == job_id, table.c.status.in_(allowed)).values(status=to, **times, **values)
    )
    with engine.begin() as connection:
        if connection.execute(statement).rowcount == 1:
            return
        status = connection.execute(sa.select(table.c.status).where(table.c.id == job_id)).scalar()
    if status is None:
        raise JobNotFound(f"no job {job_id!r}", where="job", fix="`journeyman jobs` lists them")
    raise JobConflict(f"the job {job_id} is {status} and can't become {to}", where="job")
