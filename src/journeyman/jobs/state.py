"""The states of a job and the only code that changes them.

    queued ──► running ──► succeeded
     ▲ │  ▲      │  ▲ └──► failed
     │ │  └──────┤  │
     │ ▼         ▼  │
     paused ◄───────┘
       └────────►└──┴────► cancelled

Who runs a job holds its lease: a name in the job's row, with a time by the database's clock until which it counts.
The process renews it while it lives. A running job whose lease has run out is taken over by whoever claims it next; a
job that was paused or cancelled keeps its lease until its process has stopped.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from journeyman import database
from journeyman.errors import JobConflict, JobNotFound
from journeyman.storage.webhooks import announce


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
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.PAUSED, JobState.CANCELLED, JobState.FAILED}),
    JobState.RUNNING: frozenset(JobState),
    JobState.PAUSED: frozenset({JobState.QUEUED, JobState.RUNNING, JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}
"""What may follow what. running → running is a job taken over after its process died, running → queued one whose
worker was told to stop."""


class LeaseLost(Exception):
    """Another process runs this job now, or nobody may: this one stops without touching its row."""


def new_owner() -> str:
    """A name for a lease: the machine, the process, and a random part, since process ids come again."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(6)}"


def is_free(engine: sa.Engine) -> sa.ColumnElement[bool]:
    """Whether nobody holds a job's lease, by the database's clock."""
    expires = database.jobs.c.lease_expires
    return sa.or_(expires.is_(None), expires < database.clock(engine))


def move(
    engine: sa.Engine,
    job_id: str,
    to: JobState,
    *,
    of: frozenset[JobState] = frozenset(JobState),
    owner: str | None = None,
    condition: database.Condition | None = None,
    **values: Any,
) -> None:
    """Change a job's state, and other columns of its row, in one statement that only fits an allowed state out of `of`.

    The webhooks that are told of a job's end are so in the same transaction. `owner` is the holder of the lease who
    moves the job out of its hands: the statement then fits only while the lease is its own, gives it back, and raises
    LeaseLost otherwise. What a `condition` raises leaves the job as it is. Raises JobNotFound for an unknown id and JobConflict where the present state does not allow it.
    """
    allowed = [state for state, following in TRANSITIONS.items() if to in following and state in of]
    table = database.jobs
    if to.terminal:
        values["finished_at"] = time.time()
    if owner is not None and to is not JobState.RUNNING:
        values |= {"lease_owner": None, "lease_expires": None}
    fits = [table.c.id == job_id, table.c.status.in_(allowed)]
    if owner is not None:
        fits.append(table.c.lease_owner == owner)
    with database.writing(engine, condition) as connection:
        if connection.execute(table.update().where(*fits).values(status=to, **values)).rowcount == 1:
            if to.terminal:
                project = connection.execute(sa.select(table.c.project).where(table.c.id == job_id)).scalar_one()
                announce(connection, f"fine_tuning.job.{to}", project, job_id)
            return
        row = connection.execute(
            sa.select(table.c.status, table.c.lease_owner).where(table.c.id == job_id)
        ).one_or_none()
    if row is None:
        raise JobNotFound(f"no job {job_id!r}", where="job", fix="`journeyman jobs` lists them")
    if owner is not None and row.lease_owner != owner:
        raise LeaseLost(job_id)
    raise JobConflict(f"the job {job_id} is {row.status} and can't become {to}", where="job")


def claim(
    engine: sa.Engine, job_id: str, owner: str, *, lease_s: float, of: frozenset[JobState], dead: str | None = None
) -> bool:
    """Make a job of one of the states `of` running, with its lease in the hands of `owner`; of many who try, one succeeds.

    `dead` names a holder known to be dead, whose lease need not run out first. Every claim counts as a death until
    the job reaches a new checkpoint or is given back: a process that is killed can't count itself.
    """
    table = database.jobs
    now = database.clock(engine)
    free = is_free(engine) if dead is None else sa.or_(is_free(engine), table.c.lease_owner == dead)
    statement = (
        table.update()
        .where(table.c.id == job_id, table.c.status.in_(of), free)
        .values(
            status=JobState.RUNNING,
            lease_owner=owner,
            lease_expires=now + lease_s,
            started_at=sa.func.coalesce(table.c.started_at, now),
            deaths=table.c.deaths + 1,
            error=None,
        )
    )
    with engine.begin() as connection:
        return connection.execute(statement).rowcount == 1


def renew(engine: sa.Engine, job_id: str, owner: str, *, lease_s: float) -> JobState:
    """Hold the lease for another `lease_s`, and learn the job's state. Raises LeaseLost where it is another's."""
    table = database.jobs
    with engine.begin() as connection:
        held = connection.execute(
            table.update()
            .where(table.c.id == job_id, table.c.lease_owner == owner)
            .values(lease_expires=database.clock(engine) + lease_s)
        ).rowcount
    if not held:
        raise LeaseLost(job_id)
    return state_of(engine, job_id, owner)


def state_of(engine: sa.Engine, job_id: str, owner: str) -> JobState:
    """The state of a job whose lease `owner` holds. Raises LeaseLost where it is another's."""
    table = database.jobs
    with engine.connect() as connection:
        status = connection.execute(
            sa.select(table.c.status).where(table.c.id == job_id, table.c.lease_owner == owner)
        ).scalar()
    if status is None:
        raise LeaseLost(job_id)
    return JobState(status)


def release(engine: sa.Engine, job_id: str, owner: str, *, death: str | None = None) -> None:
    """Give the lease back, the job's state as it is. `death` says how the process that held it ended, where it was killed.

    A lease that is another's by now is left alone.
    """
    table = database.jobs
    values: dict[str, Any] = {"lease_owner": None, "lease_expires": None}
    values |= {"deaths": 0} if death is None else {"last_death": death}
    with engine.begin() as connection:
        connection.execute(
            table.update().where(table.c.id == job_id, table.c.lease_owner == owner).values(**values)
        )
