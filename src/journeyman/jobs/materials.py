"""What a training is made of. Without torch, since a check and a plan ask for it too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from journeyman.data.dataset import Dataset
from journeyman.models.bases import Base


@dataclass(frozen=True, slots=True)
class Start:
    """The fine-tuned model, or another job's checkpoint, that a training goes on from; `rank` and `top_layers` are of its adapter."""

    id: str
    base: str
    base_fingerprint: str
    full: bool
    rank: int
    top_layers: int
    folder: Path


@dataclass(frozen=True, slots=True)
class Materials:
    """What a job is made of: base, dataset, and what it goes on from, if it does."""

    base: Base
    dataset: Dataset
    start: Start | None = None
