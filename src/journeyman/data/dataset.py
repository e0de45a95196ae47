"""A dataset: a folder of split examples, refused rows and a manifest that says where every row came from.

    train.jsonl  validation.jsonl  held_out.jsonl    examples, one a line, each with its place
    refused.jsonl                                    every row that is not kept, with the reason and the mend
    report.json                                      findings about the dataset as a whole
    manifest.json                                    sources, counts, splits, seed, hash

The same input bytes at the same paths give the same files, byte for byte.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from journeyman import files
from journeyman.data.check.dataset import Finding, Report, check
from journeyman.data.check.rows import check_example
from journeyman.data.columns import Columns
from journeyman.data.read import file_format, read_rows, shown_path
from journeyman.data.refused import Refused, Row
from journeyman.data.shapes import Shape, detect, to_example
from journeyman.data.similar import input_text, near_groups
from journeyman.data.split import HELD_OUT_SHARE, VALIDATION_SHARE, SplitName, split
from journeyman.errors import DataError
from journeyman.records import Example, Place, example_from_dict

FORMAT = "journeyman.dataset"
VERSION = 1
SPLITS: tuple[SplitName, ...] = ("train", "validation", "held_out")
SAMPLE_ROWS = 200
"""The shape and the columns are told from so many rows at the beginning of a file."""


@dataclass(frozen=True)
class Dataset:
    """A dataset on disk. Rows are read when first asked for."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def hash(self) -> str:
        """The hash of what the three splits say; it does not depend on the paths of the source files."""
        return str(self.manifest["hash"])

    @cached_property
    def train(self) -> list[Example]:
        """The rows to learn from."""
        return self._rows("train")

    @cached_property
    def validation(self) -> list[Example]:
        """The rows that the loss is watched on during training."""
        return self._rows("validation")

    @cached_property
    def held_out(self) -> list[Example]:
        """The rows that no model sees before it is evaluated."""
        return self._rows("held_out")

    @cached_property
    def refused(self) -> list[Refused]:
        """The rows that were not kept."""
        rows = files.read_jsonl(self.folder / "refused.jsonl")
        return [
            Refused(Place(r["file"], r["line"]), r["code"], r["reason"], r["fix"], r["text"]) for r in rows
        ]

    @cached_property
    def report(self) -> Report:
        """The findings about the dataset as a whole."""
        return _report(files.read_json(self.folder / "report.json"))

    def _rows(self, name: SplitName) -> list[Example]:
        return [example_from_dict(row) for row in files.read_jsonl(self.folder / f"{name}.jsonl")]


@dataclass(frozen=True, slots=True)
class _Source:
    """One file, read: its rows kept and refused, and what the manifest says of it."""

    kept: list[Example]
    refused: list[Refused]
    manifest: dict[str, Any]


def build(
    train: Path,
    folder: Path,
    *,
    validation: Path | None = None,
    held_out: Path | None = None,
    validation_share: float = VALIDATION_SHARE,
    held_out_share: float = HELD_OUT_SHARE,
    seed: int = 0,
    columns: Columns | None = None,
) -> Dataset:
    """Read, check and split a file of examples into `folder` (files there are replaced).

    A validation or held-out file is used as it is, and nothing is then split off for it. Rows of the training file
    that nearly repeat one of theirs stay, and are reported (`leakage`).
    Raises DataError where a file can't be read, or where none of its rows can be kept (`no_examples`; the reasons
    are then in folder/refused.jsonl).
    """
    given = {"train": train, "validation": validation, "held_out": held_out}
    sources = {name: _read(path, columns) for name, path in given.items() if path is not None}
    refused = [row for source in sources.values() for row in source.refused]
    files.write_jsonl(folder / "refused.jsonl", (row.as_dict() for row in refused))
    for source in sources.values():
        _require_examples(source)
    shares = {
        "validation_share": 0.0 if validation else validation_share,
        "held_out_share": 0.0 if held_out else held_out_share,
    }
    splits = _split(sources, shares, seed)
    report = check(
        splits["train"],
        splits["validation"],
        splits["held_out"],
        refused=refused,
        training_file_rows=len(sources["train"].kept),
    )
    for name in SPLITS:
        files.write_jsonl(folder / f"{name}.jsonl", (example.as_dict() for example in splits[name]))
    files.write_json(folder / "report.json", report.as_dict())
    counts = {
        "read": sum(source.manifest["read"] for source in sources.values()),
        "kept": sum(len(rows) for rows in splits.values()),
        "refused": len(refused),
    }
    _require_conserved(counts)
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "hash": _content_hash(splits),
        "seed": seed,
        **shares,
        "counts": counts,
        "splits": {
            name: {"rows": len(splits[name]), "hash": files.hash_file(folder / f"{name}.jsonl")}
            for name in SPLITS
        },
        "sources": {name: source.manifest for name, source in sources.items()},
    }
    files.write_json(folder / "manifest.json", manifest)
    return Dataset(folder, manifest)


def open_dataset(folder: Path) -> Dataset:
    """Open what `build` wrote.

    Raises DataError `not_a_dataset` for another folder or a newer version, and `dataset_changed` where a file of
    examples is not the one that the manifest names.
    """
    try:
        manifest = files.read_json(folder / "manifest.json")
        if (manifest["format"], manifest["version"]) != (FORMAT, VERSION):
            raise ValueError(f"it is {manifest['format']} version {manifest['version']}")
        hashes = {name: manifest["splits"][name]["hash"] for name in SPLITS}
        changed = [name for name in SPLITS if files.hash_file(folder / f"{name}.jsonl") != hashes[name]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"this is not a dataset of version {VERSION}: {error}",
            where=str(folder),
            fix="build it again",
            code="not_a_dataset",
        ) from error
    if changed:
        raise DataError(
            f"{changed[0]}.jsonl was changed after the dataset was built",
            where=str(folder / f"{changed[0]}.jsonl"),
            fix="change the source file and build the dataset again",
            code="dataset_changed",
        )
    return Dataset(folder, manifest)


def read_examples(path: Path, columns: Columns | None = None) -> tuple[list[Example], list[Refused], Shape]:
    """Every row of one file, kept or refused, and the shape it was taken for. Raises DataError as `build` does."""
    rows = read_rows(path)
    sample = list(itertools.islice(rows, SAMPLE_ROWS))
    if not any(isinstance(row, Row) for row in sample):
        # A long run of damaged rows must not hide the good ones below it.
        sample += itertools.islice((row for row in rows), None)
    readable = [row for row in sample if isinstance(row, Row)]
    if not readable:
        raise _nothing_readable(path, [row for row in sample if isinstance(row, Refused)])
    shape = detect(readable, columns)
    kept: list[Example] = []
    refused: list[Refused] = []
    for row in itertools.chain(sample, rows):
        outcome = row if isinstance(row, Refused) else to_example(row, shape)
        if isinstance(outcome, Example) and isinstance(row, Row):
            outcome = check_example(outcome, row.text) or outcome
        if isinstance(outcome, Refused):
            refused.append(outcome)
        else:
            kept.append(outcome)
    return kept, refused, shape


def _read(path: Path, columns: Columns | None) -> _Source:
    kept, refused, shape = read_examples(path, columns)
    manifest = {
        "file": shown_path(path),
        "hash": files.hash_file(path),
        "format": file_format(path),
        "shape": shape.name,
        "reason": shape.reason,
        "columns": shape.columns.as_dict() if shape.columns else None,
        "read": len(kept) + len(refused),
        "kept": len(kept),
        "refused": len(refused),
    }
    return _Source(kept, refused, manifest)


def _nothing_readable(path: Path, refused: Sequence[Refused]) -> DataError:
    return DataError(
        f"none of its {len(refused)} row(s) can be read",
        where=shown_path(path),
        fix=refused[0].fix if refused else "write a first row of column names, and rows below it",
        code="no_rows",
        problems=[str(row) for row in refused[:5]],
    )


def _require_examples(source: _Source) -> None:
    if not source.kept:
        raise DataError(
            f"none of its {len(source.refused)} row(s) can be used",
            where=str(source.manifest["file"]),
            fix=source.refused[0].fix,
            code="no_examples",
            problems=[str(row) for row in source.refused[:5]],
        )


def _split(
    sources: Mapping[str, _Source], shares: Mapping[str, float], seed: int
) -> dict[SplitName, list[Example]]:
    rows = sources["train"].kept
    inputs = [input_text(example) for example in rows]
    names = split(inputs, near_groups(inputs), seed=seed, **shares)
    out: dict[SplitName, list[Example]] = {name: [] for name in SPLITS}
    for example, name in zip(rows, names, strict=True):
        out[name].append(example)
    out["validation"] += sources["validation"].kept if "validation" in sources else []
    out["held_out"] += sources["held_out"].kept if "held_out" in sources else []
    return out


def _require_conserved(counts: Mapping[str, int]) -> None:
    if counts["read"] != counts["kept"] + counts["refused"]:
        raise RuntimeError(f"rows were lost: {dict(counts)}")


def _content_hash(splits: Mapping[SplitName, Iterable[Example]]) -> str:
    digest = hashlib.sha256()
    for name in SPLITS:
        digest.update(f"{name}\n".encode())
        for example in splits[name]:
            row = {key: value for key, value in example.as_dict().items() if key != "place"}
            digest.update(json.dumps(row, ensure_ascii=False, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _report(value: Mapping[str, Any]) -> Report:
    findings = [
        Finding(
            f["code"],
            f["severity"],
            f["message"],
            tuple(Place(r["file"], r["line"]) for r in f["rows"]),
            f["fix"],
        )
        for f in value["findings"]
    ]
    return Report(value["verdict"], tuple(findings))
