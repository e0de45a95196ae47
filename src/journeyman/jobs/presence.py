"""Which workers live: each writes its row every few seconds, by the clock of the database that all machines share."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

import sqlalchemy as sa

from journeyman import database
from journeyman.database import UNREACHABLE
from journeyman.jobs.state import new_owner

BEAT_S = 5.0
SILENT_S = 20.0
"""A worker that was not heard of for so long counts as gone: three beats may be late."""
FORGOTTEN_S = 3600.0
"""After so long the row of a worker that was killed is deleted."""

_TABLE = database.workers


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that lives: machine, process and a random part as its id, and the job it is at, if any."""

    id: str
    slot: int | None
    job: str | None
    silent_s: float


class Presence:
    """One worker's row."""

    def __init__(self, engine: sa.Engine, slot: int | None) -> None:
        self._engine = engine
        self._slot = slot
        self.id = new_owner()
        self._job: str | None = None
        self._beat_s = float("-inf")

    def beat(self, job: str | None) -> None:
        """Say what this worker is at, at most every BEAT_S unless that changed. A database that fails is no reason to stop."""
        if job == self._job and time.monotonic() - self._beat_s < BEAT_S:
            return
        now = database.clock(self._engine)
        with suppress(*UNREACHABLE), self._engine.begin() as connection:
            seen = _TABLE.update().where(_TABLE.c.id == self.id).values(job=job, seen_at=now)
            if connection.execute(seen).rowcount == 0:
                row = {"id": self.id, "slot": self._slot, "job": job, "began_at": now, "seen_at": now}
                connection.execute(_TABLE.insert().values(**row))
                connection.execute(_TABLE.delete().where(_TABLE.c.seen_at < now - FORGOTTEN_S))
            self._job, self._beat_s = job, time.monotonic()

    def leave(self) -> None:
        """The worker stops."""
        with suppress(*UNREACHABLE), self._engine.begin() as connection:
            connection.execute(_TABLE.delete().where(_TABLE.c.id == self.id))


def present(engine: sa.Engine) -> list[Worker]:
    """The workers of all machines that were heard of lately."""
    silent_s = database.clock(engine) - _TABLE.c.seen_at
    query = sa.select(_TABLE.c.id, _TABLE.c.slot, _TABLE.c.job, silent_s.label("silent_s"))
    with engine.connect() as connection:
        rows = connection.execute(query.where(silent_s < SILENT_S).order_by(_TABLE.c.began_at, _TABLE.c.id))
        return [Worker(**row._mapping) for row in rows]
