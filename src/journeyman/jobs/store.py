"""Jobs as rows: create, get, list. States change in `state.py` only."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from journeyman import database
from journeyman.errors import JobNotFound
from journeyman.jobs.state import JobState
from journeyman.models.names import random_key
from journeyman.plan.plan import Wishes


@dataclass(frozen=True, slots=True)
class Job:
    """A training that was asked for, and how far it is."""

    id: str
    status: JobState
    base: str
    source: str
    suffix: str
    wishes: Wishes
    folder: Path
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    step: int = 0
    steps: int | None = None
    trained_tokens: int | None = None
    model: str | None = None
    error: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The job as the faces show it."""
        return {**asdict(self), "status": str(self.status), "folder": str(self.folder)}


class JobStore:
    """The jobs of one JOURNEYMAN_HOME."""

    def __init__(self, engine: sa.Engine, folder: Path) -> None:
        self.engine = engine
        self._folder = folder

    def create(self, *, base: str, source: str, suffix: str, wishes: Wishes) -> Job:
        """A new job, queued, with a folder of its own."""
        job_id = f"ftjob-{random_key(24)}"
        folder = self._folder / job_id
        folder.mkdir(parents=True)
        job = Job(job_id, JobState.QUEUED, base, source, suffix, wishes, folder, time.time())
        with self.engine.begin() as connection:
            connection.execute(database.jobs.insert().values(job.as_dict()))
        return job

    def get(self, job_id: str) -> Job:
        """A job by id. Raises JobNotFound."""
        with self.engine.connect() as connection:
            row = connection.execute(
                sa.select(database.jobs).where(database.jobs.c.id == job_id)
            ).one_or_none()
        if row is None:
            raise JobNotFound(f"no job {job_id!r}", where="job", fix="`journeyman jobs` lists them")
        return _job(row)

    def list(self) -> list[Job]:
        """All jobs, newest first."""
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(database.jobs).order_by(database.jobs.c.created_at.desc())).all()
        return [_job(row) for row in rows]

    def record_progress(self, job_id: str, *, step: int, steps: int, trained_tokens: int) -> None:
        """How far a running job is."""
        with self.engine.begin() as connection:
            connection.execute(
                database.jobs.update()
                .where(database.jobs.c.id == job_id)
                .values(step=step, steps=steps, trained_tokens=trained_tokens)
            )


def _job(row: Any) -> Job:
    values = dict(row._mapping)
    values["status"] = JobState(values["status"])
    values["wishes"] = Wishes(**values["wishes"])
    values["folder"] = Path(values["folder"])
    return Job(**values)
