"""The checkpoints a job has on disk, with what was measured at each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from journeyman.jobs.events import read_events

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
