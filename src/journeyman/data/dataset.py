"""A dataset: a folder of split examples, refused rows and a manifest that says where every row came from.

    train.jsonl  validation.jsonl  held_out.jsonl    examples, one a line, each with its place
    refused.jsonl                                    every row that is not kept, with the reason and the mend
    manifest.json                                    sources, counts, splits, seed, hash
    report.json                                      what a check found, where one was kept

The same input bytes at the same paths give the same files, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from journeyman import files
from journeyman.data.check.finding import Report, report_from_dict
from journeyman.data.columns import Columns
from journeyman.data.refused import Refused, refused_from_dict
from journeyman.data.similar import Similar, input_text, similar
from journeyman.data.source import Source, read_source, require_examples
from journeyman.data.split import HELD_OUT_SHARE, VALIDATION_SHARE, SplitName, split
from journeyman.errors import DataError
from journeyman.records import Example, example_from_dict

FORMAT = "journeyman.dataset"
VERSION = 1
SPLITS: tuple[SplitName, ...] = ("train", "validation", "held_out")


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset, its rows in memory: what to learn from, what to watch, what no model sees before it is evaluated."""

    folder: Path
    manifest: Mapping[str, Any]
    train: list[Example]
    validation: list[Example]
    held_out: list[Example]
    refused: list[Refused]
    input_similarity: Similar | None = field(default=None, repr=False, compare=False)
    """Groups of the rows' inputs, train, validation and held-out rows in this order, where `build` has just found them."""

    @property
    def hash(self) -> str:
        """The hash of what the three splits say; it does not depend on the paths of the source files."""
        return str(self.manifest["hash"])

    @property
    def training_file_rows(self) -> int:
        """The kept rows of the training file, those split off from it included."""
        return int(self.manifest["sources"][0]["kept"])

    @property
    def columns(self) -> Columns | None:
        """The columns of the training file, where it is a table."""
        columns = self.manifest["sources"][0]["columns"]
        return Columns(**columns) if columns else None

    def keep(self, report: Report) -> None:
        """Keep the report of a check in the dataset's folder."""
        files.write_json(self.folder / "report.json", report.as_dict())

    def report(self) -> Report:
        """The report that was kept. Raises FileNotFoundError where none was."""
        return report_from_dict(files.read_json(self.folder / "report.json"))


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
    """Read and split a file of examples into `folder` (files there are replaced); the rows as a whole are `check`ed apart.

    A validation or held-out file is used as it is, and nothing is then split off for it. Rows of the training file
    that nearly repeat one of theirs stay, and are reported (`leakage`).
    Raises DataError where a file can't be read, or where none of its rows can be kept (`no_examples`; the reasons
    are then in folder/refused.jsonl).
    """
    given: dict[SplitName, Path | None] = {"train": train, "validation": validation, "held_out": held_out}
    sources = {name: read_source(path, columns) for name, path in given.items() if path is not None}
    refused = [row for source in sources.values() for row in source.refused]
    files.write_jsonl(folder / "refused.jsonl", (row.as_dict() for row in refused))
    for source in sources.values():
        require_examples(source)
    shares = {
        "validation_share": 0.0 if validation else validation_share,
        "held_out_share": 0.0 if held_out else held_out_share,
    }
    splits, input_similarity = _split(sources, shares, seed)
    for name in SPLITS:
        files.write_jsonl(folder / f"{name}.jsonl", (example.as_dict() for example in splits[name]))
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "hash": _content_hash(splits),
        "seed": seed,
        **shares,
        "counts": _counts(sources, splits, refused),
        "splits": {name: _split_file(folder, name, splits[name]) for name in SPLITS},
        "sources": [{"split": name, **source.as_dict()} for name, source in sources.items()],
    }
    dataset = Dataset(folder, manifest, splits["train"], splits["validation"], splits["held_out"], refused, input_similarity)
    # Last, so that a folder with a manifest is whole.
    files.write_json(folder / "manifest.json", manifest)
    return dataset


def open_dataset(folder: Path) -> Dataset:
    """Open what `build` wrote.

    Raises DataError `not_a_dataset` for another folder or another version, and `dataset_changed` where a file of
    examples is not the one that the manifest names.
    """
    try:
        manifest = files.read_json(folder / "manifest.json")
        if (manifest["format"], manifest["version"]) != (FORMAT, VERSION):
            raise ValueError(f"it is {manifest['format']} version {manifest['version']}")
        for name in SPLITS:
            if files.hash_file(folder / f"{name}.jsonl") != manifest["splits"][name]["hash"]:
                raise _changed(folder / f"{name}.jsonl")
        train, validation, held_out = (
            [example_from_dict(r) for r in files.read_jsonl(folder / f"{n}.jsonl")] for n in SPLITS
        )
        refused = [refused_from_dict(row) for row in files.read_jsonl(folder / "refused.jsonl")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"this is not a dataset of version {VERSION}: {error}",
            where=str(folder),
            fix="build it again",
            code="not_a_dataset",
        ) from error
    return Dataset(folder, manifest, train, validation, held_out, refused)


def _changed(path: Path) -> DataError:
    return DataError(
        "the file was changed after the dataset was built",
        where=str(path),
        fix="change the source file and build the dataset again",
        code="dataset_changed",
    )


def _split(
    sources: Mapping[SplitName, Source], shares: Mapping[str, float], seed: int
) -> tuple[dict[SplitName, list[Example]], Similar]:
    rows = sources["train"].kept
    # Grouped together with the given files, as the check does: else two training rows that are linked by a held-out
    # row would be split, and reported as a leak of our own making.
    given = {name: sources[name].kept for name in SPLITS[1:] if name in sources}
    every = [*rows, *(row for kept in given.values() for row in kept)]
    inputs = [input_text(example) for example in every]
    groups = similar(inputs)
    names = split(inputs[: len(rows)], groups.near[: len(rows)], seed=seed, **shares)
    names += [name for name, kept in given.items() for _ in kept]
    indexes = {wanted: [index for index, name in enumerate(names) if name == wanted] for wanted in SPLITS}
    splits = {name: [every[index] for index in of] for name, of in indexes.items()}
    return splits, groups.in_order([index for of in indexes.values() for index in of])


def _counts(
    sources: Mapping[SplitName, Source], splits: Mapping[SplitName, list[Example]], refused: list[Refused]
) -> dict[str, int]:
    rows: dict[str, int] = {name: len(splits[name]) for name in SPLITS}
    read = sum(len(source.kept) + len(source.refused) for source in sources.values())
    counts = {"read": read, "kept": sum(rows.values()), "refused": len(refused), **rows}
    if counts["read"] != counts["kept"] + counts["refused"]:
        raise RuntimeError(f"rows were lost: {counts}")
    return counts


def _split_file(folder: Path, name: SplitName, rows: list[Example]) -> dict[str, object]:
    return {"file": f"{name}.jsonl", "rows": len(rows), "hash": files.hash_file(folder / f"{name}.jsonl")}


def _content_hash(splits: Mapping[SplitName, Iterable[Example]]) -> str:
    digest = hashlib.sha256()
    for name in SPLITS:
        digest.update(f"{name}\n".encode())
        for example in splits[name]:
            row = {key: value for key, value in example.as_dict().items() if key != "place"}
            digest.update(json.dumps(row, ensure_ascii=False, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()
