"""What is exported, and whether it is still what was registered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from journeyman import starter
from journeyman.errors import CheckpointError
from journeyman.files import hash_file
from journeyman.models.bases import STARTER, Base
from journeyman.models.export.replay import MAX_ROWS
from journeyman.models.registry import Version
from journeyman.records import Example


@dataclass(frozen=True)
class Source:
    """What is exported: `folder` holds weights in transformers' format (the base's, or a full fine-tune's own).

    `adapter` is the LoRA folder on it, None for a base or a full fine-tune; `version` is None for a base.
    `examples` are replayed; without any, fixed texts are. `base_card` holds the base's licence.
    """

    id: str
    base: str
    base_fingerprint: str
    folder: Path
    adapter: Path | None = None
    version: Version | None = None
    base_card: Path | None = None
    examples: tuple[Example, ...] = ()


def source_of(version: Version | None, base: Base | None, examples: Sequence[Example] = ()) -> Source:
    """What to export: a base, a LoRA version with the base it stands on, or a fully tuned version (no base needed)."""
    rows = tuple(examples[:MAX_ROWS])
    if version is None:
        assert base is not None, "either a version or a base is exported"
        return Source(
            base.name,
            base.name,
            base.fingerprint,
            base.folder,
            base_card=_card_of(base.folder),
            examples=rows,
        )
    folder, adapter = (base.folder, version.folder) if base else (version.folder, None)
    card = _card_of(base.folder) if base else _card_of(starter.path()) if version.base == STARTER else None
    return Source(version.id, version.base, version.base_fingerprint, folder, adapter, version, card, rows)


def _card_of(base: Path) -> Path | None:
    return base / "README.md" if (base / "README.md").is_file() else None


def check_files(source: Source) -> None:
    """Raises CheckpointError where a file is not the one that was registered."""
    if source.version is None:
        return
    folder = source.version.folder
    problems = [
        f"{name} is missing or was changed"
        for name, digest in source.version.files.items()
        if not (folder / name).is_file() or hash_file(folder / name) != digest
    ]
    if problems:
        raise CheckpointError(
            "the model's files are not the registered ones",
            where=str(folder),
            fix="train it again",
            problems=problems,
        )
