"""What a job that has not ended still reads: a client's files until its rows were read, and what it goes on from to its end."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from journeyman.jobs.store import Job


def given_paths(job: Job) -> list[Path]:
    """The files and folders that a job was given: its rows, and the validation and held-out rows that were named."""
    request = job.request or {}
    given = (job.source, *(request.get(name) for name in ("validation", "held_out")))
    return [Path(path) for path in given if path]


def reader_of(path: Path, jobs: Iterable[Job]) -> Job | None:
    """A job of these that has not ended and has still to read this file. With its plan a job has rows of its own."""
    for job in jobs:
        if not job.status.terminal and not (job.folder / "plan.json").is_file() and path in given_paths(job):
            return job
    return None


def follower_of(names: Collection[str], jobs: Iterable[Job]) -> Job | None:
    """A job of these that has not ended and goes on from a model or checkpoint of these names, at every resume anew."""
    return next((job for job in jobs if not job.status.terminal and (job.request or {}).get("base") in names), None)
