"""How the service stands: what waits, who works, how much room is left."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from journeyman import database
from journeyman.jobs.presence import Worker, present
from journeyman.jobs.state import JobState, is_free
from journeyman.jobs.supervisor import LEAST_DISK_BYTES


@dataclass(frozen=True, slots=True)
class Standing:
    """What /healthz and /metrics tell. `waiting` counts jobs that any worker could take up now."""

    jobs: Mapping[JobState, int]
    waiting: int
    oldest_waiting_s: float
    workers: Sequence[Worker]
    free_disk_bytes: int

    def problems(self) -> dict[str, str]:
        """What keeps jobs from going on, by `disk` and `workers`; answering is not touched by it."""
        found = {}
        if self.free_disk_bytes < LEAST_DISK_BYTES:
            least, free = LEAST_DISK_BYTES // 2**20, self.free_disk_bytes // 2**20
            found["disk"] = f"{free} MiB free; below {least} MiB no job is begun"
        if self.waiting and not self.workers:
            found["workers"] = f"{self.waiting} jobs wait, and no worker lives"
        return found


def standing(engine: sa.Engine, home: Path) -> Standing:
    """Ask the database and the disk. Raises what SQLAlchemy raises where the database can't be reached."""
    table = database.jobs
    free = sa.and_(table.c.status.in_([JobState.QUEUED, JobState.RUNNING]), is_free(engine))
    with engine.connect() as connection:
        counts = connection.execute(sa.select(table.c.status, sa.func.count()).group_by(table.c.status)).all()
        age_s = database.clock(engine) - sa.func.min(table.c.created_at)
        waiting, oldest_s = connection.execute(sa.select(sa.func.count(), age_s).where(free)).one()
    there = {JobState(status): count for status, count in counts}
    return Standing(
        jobs={state: there.get(state, 0) for state in JobState},
        waiting=waiting,
        oldest_waiting_s=max(0.0, float(oldest_s or 0.0)),
        workers=present(engine),
        free_disk_bytes=shutil.disk_usage(_existing(home)).free,
    )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it: a home is made when it is first written to."""
    return next(path for path in (folder, *folder.parents) if path.exists())
