"""One file of examples, read and checked: the rows kept, the rows refused, and what it was taken for."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from journeyman import files
from journeyman.data.check.refusals import check_example
from journeyman.data.columns import Columns
from journeyman.data.read import file_format, read_rows, shown_path, unread
from journeyman.data.refused import Refused, Row, in_lines
from journeyman.data.shapes import Shape, detect, to_example
from journeyman.errors import DataError
from journeyman.records import Example

SAMPLE_ROWS = 200
"""The shape and the columns are told from so many readable rows at the beginning of a file."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file's rows: every row read is in `kept` or in `refused`."""

    path: Path
    format: str
    shape: Shape
    kept: list[Example]
    refused: list[Refused]
    notes: tuple[str, ...] = ()
    """What of the file was not read, such as further sheets."""

    def as_dict(self) -> dict[str, object]:
        """The source as it stands in the manifest."""
        return {
            "file": shown_path(self.path),
            "hash": files.hash_file(self.path),
            "format": self.format,
            "shape": self.shape.name,
            "reason": self.shape.reason,
            "columns": self.shape.columns.as_dict() if self.shape.columns else None,
            "rows": len(self.kept) + len(self.refused),
            "kept": len(self.kept),
            "refused": len(self.refused),
            "notes": list(self.notes),
        }


def read_source(path: Path, columns: Columns | None = None) -> Source:
    """Read a file and check each row.

    Raises DataError where the file as a whole can't be read, where none of its rows can (`no_rows`), or where its
    shape or columns are not clear (see `detect`). Where rows can be read but none is kept, `kept` is empty.
    """
    form = file_format(path)
    rows = read_rows(path)
    sample: list[Row | Refused] = []
    readable: list[Row] = []
    while len(readable) < SAMPLE_ROWS and (row := next(rows, None)) is not None:
        sample.append(row)
        if isinstance(row, Row):
            readable.append(row)
    if not readable:
        raise _nothing_readable(path, [row for row in sample if isinstance(row, Refused)])
    shape = detect(readable, columns)
    kept: list[Example] = []
    refused: list[Refused] = []
    for row in itertools.chain(sample, rows):
        fate = outcome(row, shape)
        if isinstance(fate, Example):
            kept.append(fate)
        else:
            refused.append(fate)
    return Source(path, form, shape, kept, refused, unread(path, form))


def outcome(row: Row | Refused, shape: Shape) -> Example | Refused:
    """What becomes of a row in a file of this shape: an Example to keep, or the reason why it is refused."""
    if isinstance(row, Refused):
        return row
    example = to_example(row, shape)
    if isinstance(example, Refused):
        return example
    return check_example(example, row.text) or example


def _nothing_readable(path: Path, refused: Sequence[Refused]) -> DataError:
    problems, fix = in_lines(refused[:5])
    return DataError(
        f"none of its {len(refused)} row(s) can be read" if refused else "it has no rows below the names of its columns",
        where=shown_path(path),
        fix=fix if refused else "write a first row of column names, and rows below it",
        code="no_rows",
        problems=problems,
    )


def require_examples(source: Source) -> None:
    """Raise DataError `no_examples`, with the first reasons, where no row of a file was kept."""
    if not source.kept:
        problems, fix = in_lines(source.refused[:5])
        raise DataError(
            f"none of its {len(source.refused)} row(s) can be used",
            where=shown_path(source.path),
            fix=fix,
            code="no_examples",
            problems=problems,
        )
