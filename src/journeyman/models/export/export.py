"""A model out of Journeyman, as other tools load it: its adapter, merged weights, or a GGUF file.

A folder is written beside its place, replayed, and only then renamed into it: it exists whole and checked, or not at
all. What is replayed is read back from the files, by the same path as a user's (`load_base`, an adapter on its base)
or, for GGUF, from the metadata and tensors of the file alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from journeyman.errors import ExportError
from journeyman.files import hash_file, write_json, write_text
from journeyman.models.export.card import BASE_CARD, card
from journeyman.models.export.formats import WRITERS, OnStage, check_type, file_name
from journeyman.models.export.place import RECORD_FILE, beside, check_place, publish
from journeyman.models.export.source import Source, check_files


@dataclass(frozen=True, slots=True)
class Export:
    """What came out: the folder, its files, and how far they answer from the model they were made of."""

    model: str
    format: str
    type: str
    folder: Path
    files: tuple[str, ...]
    replay: Mapping[str, Any]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The result as `--json` shows it."""
        return {name: getattr(self, name) for name in self.__slots__} | {"folder": str(self.folder)}


def export(
    source: Source,
    *,
    to: str,
    out: Path | None = None,
    dtype: str | None = None,
    force: bool = False,
    on_stage: OnStage = lambda _: None,
) -> Export:
    """Write `source` into the folder `out` as adapter, merged or gguf, replay it, and publish it.

    `out` is by default named after model and format, in the current folder; `dtype` (f32, f16, bf16, or q8_0 for GGUF)
    by default the base's own. `force` replaces an earlier export, never anything else. Raises ExportError where the
    format can't hold this model exactly, where disk or memory does not suffice, or where the replay differs; then
    nothing is left behind.
    """
    if to not in WRITERS:
        raise ExportError(f"there is no format {to!r}", where="--to", fix=f"use one of {', '.join(WRITERS)}")
    check_type(to, dtype)
    out = (out or Path(f"{file_name(source.id)}-{to}")).expanduser().absolute()
    check_place(out, force=force)
    check_files(source)
    with beside(out) as scratch:
        done = WRITERS[to](source, scratch, dtype, on_stage)
        if source.base_card is not None:
            shutil.copyfile(source.base_card, scratch / BASE_CARD)
        files = {f.name: hash_file(f) for f in sorted(scratch.iterdir())}
        record = {
            "model": source.id,
            "format": to,
            "type": done.type,
            "base": source.base,
            "base_fingerprint": source.base_fingerprint,
            "dataset_hash": source.version.dataset_hash if source.version else None,
            "replay": dict(done.replay),
            "notes": list(done.notes),
            "files": files,
        }
        write_json(scratch / RECORD_FILE, record)
        write_text(scratch / "README.md", card(source.version, record))
        names = tuple(sorted(f.name for f in scratch.iterdir()))
        on_stage("publishing")
        publish(scratch, out)
    return Export(source.id, to, done.type, out, names, done.replay, done.notes)
