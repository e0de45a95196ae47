"""Whose turn it is: the next job that is free, by turns of projects and then by age.

Projects take turns because a thousand jobs of one must not keep another's single job waiting: the project whose latest
start lies longest ago is next. A job whose process died is taken up before any that has not begun.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from journeyman import database
from journeyman.jobs.state import JobState, claim, is_free, move

MOST_DEATHS = 5
"""A job whose process died this often in a row without a new checkpoint is failed: it would only die again."""

WAITING = frozenset({JobState.QUEUED, JobState.RUNNING})
"""What a worker takes up, where nobody holds the lease."""


def claim_next(engine: sa.Engine, owner: str, *, lease_s: float) -> str | None:
    """Make the next free job running, with its lease in the hands of `owner`; its id, or None where none is free.

    A job whose process keeps dying is failed on the way, with the reason.
    """
    for job in _free_jobs(engine):
        if not claim(engine, job.id, owner, lease_s=lease_s, of=WAITING):
            continue  # another worker was quicker
        if job.deaths < MOST_DEATHS:
            return str(job.id)
        move(engine, job.id, JobState.FAILED, owner=owner, error=_dies(job.deaths, job.last_death))
    return None


def _free_jobs(engine: sa.Engine) -> Sequence[Any]:
    """The first jobs in order. More than one, since other workers reach for the same; few, since most get the first."""
    table, others = database.jobs, database.jobs.alias("others")
    latest_start = (
        sa.select(sa.func.coalesce(sa.func.max(others.c.started_at), 0.0))
        .where(others.c.project == table.c.project)
        .scalar_subquery()
    )
    begun_first = sa.case((table.c.status == JobState.RUNNING, 0), else_=1)
    query = (
        sa.select(table.c.id, table.c.deaths, table.c.last_death)
        .where(table.c.status.in_(WAITING), is_free(engine))
        .order_by(begun_first, latest_start, table.c.created_at, table.c.id)
        .limit(16)
    )
    with engine.connect() as connection:
        return connection.execute(query).all()


def _dies(deaths: int, how: str | None) -> dict[str, Any]:
    return {
        "code": "process_died",
        "message": f"the job's process died {deaths} times in a row without reaching a new checkpoint; "
        f"the last time: {how or 'it fell silent, with its worker or its machine'}",
        "where": None,
        "fix": "most often the memory was not enough (killed by SIGKILL): use a smaller base, a smaller --max-tokens or "
        "fewer workers, and start a new job",
        "problems": [],
    }
