"""Jobs as rows: create, get, list. States change in `state.py` only."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from journeyman import database
from journeyman.database import Condition
from journeyman.errors import JobNotFound
from journeyman.jobs.state import JobState
from journeyman.models.names import random_key
from journeyman.plan.plan import Wishes
from journeyman.storage.documents import DEFAULT_PROJECT


@dataclass(frozen=True, slots=True)
class Job:
    """A training that was asked for, and how far it is.

    `project` is whose it is (the queue takes turns by it), `request` the rest of what was asked for, `metadata` the
    user's own labels, and `details` what the face that took the request wants to know again. `deaths` counts how
    often its process died since its last checkpoint.
    """

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
    project: str = DEFAULT_PROJECT
    request: Mapping[str, Any] | None = None
    metadata: Mapping[str, str] | None = None
    details: Mapping[str, Any] | None = None
    lease_owner: str | None = field(default=None, compare=False)
    lease_expires: float | None = field(default=None, compare=False)
    deaths: int = 0
    last_death: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The job as the faces show it."""
        hidden = ("lease_owner", "lease_expires", "deaths", "last_death", "request", "details")
        shown = {name: value for name, value in asdict(self).items() if name not in hidden}
        return {**shown, "status": str(self.status), "folder": str(self.folder)}


class JobStore:
    """The jobs of one JOURNEYMAN_HOME."""

    def __init__(self, engine: sa.Engine, folder: Path) -> None:
        self.engine = engine
        self._folder = folder

    def create(
        self,
        *,
        base: str,
        source: str,
        suffix: str,
        wishes: Wishes,
        project: str = DEFAULT_PROJECT,
        request: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        details: Mapping[str, Any] | None = None,
        owner: str | None = None,
        lease_s: float = 0.0,
        condition: Condition | None = None,
    ) -> Job:
        """A new job, queued, with a folder of its own, where the condition lets it.

        With `owner` it is leased from the start, and no worker takes it.
        """
        job_id = f"ftjob-{random_key(24)}"
        folder = self._folder / job_id
        job = Job(
            job_id, JobState.QUEUED, base, source, suffix, wishes, folder, time.time(),
            project=project, request=request, metadata=metadata or None, details=details, lease_owner=owner,
        )  # fmt: skip
        row: dict[str, Any] = {**asdict(job), "folder": job_id}  # below the home, so that a home can be moved
        if owner is not None:
            row["lease_expires"] = database.clock(self.engine) + lease_s
        with database.writing(self.engine, condition) as connection:
            folder.mkdir(parents=True)
            connection.execute(database.jobs.insert().values(row))
        return job

    def get(self, job_id: str) -> Job:
        """A job by id. Raises JobNotFound."""
        with self.engine.connect() as connection:
            row = connection.execute(
                sa.select(database.jobs).where(database.jobs.c.id == job_id)
            ).one_or_none()
        if row is None:
            raise JobNotFound(f"no job {job_id!r}", where="job", fix="`journeyman jobs` lists them")
        return self._job(row)

    def page(
        self,
        *,
        after: str | None = None,
        limit: int | None = 20,
        metadata: Mapping[str, str] | None = None,
        unlabelled: bool = False,
        project: str | None = None,
    ) -> tuple[list[Job], bool]:
        """Jobs newest first, and whether there are older ones that fit. `after` is the last id of the page before.

        `metadata` keeps jobs that bear all these labels, `unlabelled` those that bear none. Raises JobNotFound where
        `after` is no job.
        """
        table = database.jobs
        query = sa.select(table).order_by(table.c.created_at.desc(), table.c.id.desc())
        if after is not None:
            last = self.get(after)
            query = query.where(sa.tuple_(table.c.created_at, table.c.id) < (last.created_at, last.id))
        if project is not None:
            query = query.where(table.c.project == project)
        found: list[Job] = []
        with self.engine.connect() as connection:
            for row in connection.execute(query):
                job = self._job(row)
                labels = job.metadata or {}
                if (unlabelled and labels) or (metadata and not metadata.items() <= labels.items()):
                    continue
                if limit is not None and len(found) == limit:
                    return found, True
                found.append(job)
        return found, False

    def beginning(self, prefix: str) -> list[Job]:
        """The jobs whose ids begin with `prefix`, newest first. No character of it stands for others."""
        table = database.jobs
        job_id = database.bytewise(self.engine, table.c.id)
        query = sa.select(table).where(job_id >= prefix, job_id < prefix + "~")  # which comes after all that ids are made of
        with self.engine.connect() as connection:
            rows = connection.execute(query.order_by(table.c.created_at.desc(), table.c.id.desc())).all()
        return [self._job(row) for row in rows]

    def count_live(self, project: str, connection: sa.Connection) -> int:
        """How many jobs of a project are queued or running, to the transaction that a connection is in."""
        table = database.jobs
        query = sa.select(sa.func.count()).where(
            table.c.project == project, table.c.status.in_([JobState.QUEUED, JobState.RUNNING])
        )
        return int(connection.execute(query).scalar_one())

    def unended(self) -> list[Job]:
        """The jobs of all projects that have not ended."""
        table = database.jobs
        states = [state for state in JobState if not state.terminal]
        with self.engine.connect() as connection:
            return [self._job(row) for row in connection.execute(sa.select(table).where(table.c.status.in_(states)))]

    def list(self) -> list[Job]:
        """All jobs, newest first."""
        return self.page(limit=None)[0]

    def record_progress(self, job_id: str, *, step: int, steps: int, trained_tokens: int) -> None:
        """How far a running job is."""
        self._set(job_id, step=step, steps=steps, trained_tokens=trained_tokens)

    def record_checkpoint(self, job_id: str, *, step: int, steps: int, trained_tokens: int) -> None:
        """How far a job with a new checkpoint is: whatever killed its process before, it got further."""
        self._set(job_id, step=step, steps=steps, trained_tokens=trained_tokens, deaths=0)

    def _set(self, job_id: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(database.jobs.update().where(database.jobs.c.id == job_id).values(**values))

    def _job(self, row: Any) -> Job:
        values = dict(row._mapping)
        values["status"] = JobState(values["status"])
        values["wishes"] = Wishes(**values["wishes"])
        values["folder"] = self._folder / values["folder"]
        return Job(**values)
