"""The checkpoints a job has on disk, with what was measured at each, and what they are called as models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from journeyman.errors import BaseNotFound, ModelNotFound
from journeyman.jobs.events import read_events
from journeyman.jobs.store import Job, JobStore
from journeyman.models import bases
from journeyman.models.names import CHECKPOINT, ModelName

_METRICS = {
    "step": ("train_loss", "train_mean_token_accuracy"),
    "validation": ("valid_loss", "valid_mean_token_accuracy"),
}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint: `metrics` has what was measured at its step, and only that; `epoch_end` whether a pass ended there."""

    id: str
    step: int
    folder: Path
    created_at: float
    metrics: Mapping[str, float]
    epoch_end: bool


def checkpoints(folder: Path) -> list[Checkpoint]:
    """The checkpoints of the job in `folder`, newest first. Of steps that a resume repeated, the last measure counts."""
    measured: dict[int, dict[str, float]] = {}
    ends: set[int] = set()
    for event in read_events(folder):
        if (names := _METRICS.get(event["type"])) is None:
            continue
        at = measured.setdefault(event["step"], {})
        at |= {name: event[name] for name in names}
        if event.get("full"):
            ends.add(event["step"])
            at |= {f"full_{name}": event[name] for name in names}
    return [
        Checkpoint(
            id=f"ftckpt_{folder.name.removeprefix('ftjob-')}{step:08d}",
            step=step,
            folder=path,
            created_at=created_at,
            metrics=measured.get(step, {}),
            epoch_end=step in ends,
        )
        for step, path, created_at in kept(folder)
    ]


def kept(folder: Path) -> list[tuple[int, Path, float]]:
    """The step of each checkpoint that the job in `folder` has on disk, its folder and when it was written, newest first."""
    found = []
    for path in (folder / "checkpoints").glob("step-*"):
        if match := re.fullmatch(r"step-(\d{6,})", path.name):
            with suppress(FileNotFoundError):  # not written to its end, or thrown away just now
                found.append((int(match[1]), path, (path / "state.json").stat().st_mtime))
    return sorted(found, reverse=True)


def name_of(job: Job, step: int, org: str) -> str:
    """What a job's checkpoint is called as a model: an id of the job's own, and the step. Raises BaseNotFound."""
    return f"{ModelName(bases.resolve(job.base).name, org, job.suffix, _key_of(job.id))}{CHECKPOINT}{step}"


def names_of(job: Job, org: str) -> dict[str, float]:
    """What each checkpoint that a job has on disk is called, newest first, and when it was written.

    Empty where the base, whose name is part of theirs, is gone: they can't be called then.
    """
    try:
        return {name_of(job, step, org): created_at for step, _, created_at in kept(job.folder)}
    except BaseNotFound:
        return {}


def find(name: str, jobs: JobStore, org: str) -> tuple[Job, Path]:
    """The job and the folder of the checkpoint of that name. Raises ModelNotFound."""
    model, _, step = name.rpartition(CHECKPOINT)
    key = model.rpartition(":")[2]
    may_be = step.isascii() and step.isdigit() and len(step) < 12 and key.isascii() and key.isalnum()
    for job in jobs.beginning(f"ftjob-{key}") if may_be else ():
        folder = job.folder / "checkpoints" / f"step-{int(step):06d}"
        if key == _key_of(job.id) and folder.is_dir() and name_of(job, int(step), org) == name:
            return job, folder
    raise ModelNotFound(f"The model `{name[:200]}` does not exist or you do not have access to it.", where="model")


def _key_of(job_id: str) -> str:
    """The eight characters of a job's id by which its checkpoints are called."""
    return job_id.removeprefix("ftjob-")[:8]
