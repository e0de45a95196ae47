"""Bytes to raw rows that remember file:line. What a row means is `shapes.py`'s business.

| format  | told by                                              | a row is                              |
|---------|------------------------------------------------------|---------------------------------------|
| jsonl   | any other text                                       | a line                                |
| json    | .json, or text that is one array                     | an element of the array, or an object |
| csv     | .csv, .tsv, .tab                                     | a record below the header             |
| xlsx    | .xlsx, .xlsm                                         | a row of the first sheet              |
| parquet | .parquet, or its first four bytes                    | a row                                 |
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from journeyman import settings
from journeyman.data.jsonl import read_array, read_jsonl, read_objects
from journeyman.data.lines import SAMPLE_BYTES, chunks, lines, require_text
from journeyman.data.parse import Parser, skip_space
from journeyman.data.refused import Refused, Row
from journeyman.data.tables import further_sheets, read_csv, read_parquet, read_xlsx
from journeyman.errors import DataError

Reader = Callable[[Path, str], Iterator[Row | Refused]]

READERS: dict[str, Reader] = {
    "jsonl": read_jsonl,
    "json": read_array,
    "objects": read_objects,
    "csv": read_csv,
    "xlsx": read_xlsx,
    "parquet": read_parquet,
}

_BY_SUFFIX = {".csv": "csv", ".tsv": "csv", ".tab": "csv", ".xlsx": "xlsx", ".xlsm": "xlsx"}


def read_rows(path: Path) -> Iterator[Row | Refused]:
    """Every row of a file, as it stands or refused with its reason, in the file's order.

    Raises DataError before the first row where the file as a whole can't be read (`file_not_found`, `not_a_file`,
    `unreadable`, `empty_file`, `not_text`, `file_too_large`, `bad_header`), and in the midst of it where the rest
    can't be decoded (`damaged_file`, `not_utf8`).
    """
    file = shown_path(path)
    reader = READERS[file_format(path)]
    try:
        yield from reader(path, file)
    except OSError as error:
        raise _unreadable(path, error) from error


def unread(path: Path, form: str) -> tuple[str, ...]:
    """What of a file that was read is left out, in words for its owner."""
    sheets = further_sheets(path) if form == "xlsx" else []
    return (f"only the first sheet is read; left out: {', '.join(map(repr, sheets))}",) if sheets else ()


def shown_path(path: Path) -> str:
    """The path as the user gave it, with any byte that is not UTF-8 replaced so that it can be written down."""
    return os.fsencode(path).decode("utf-8", "replace")


def file_format(path: Path) -> str:
    """The name of the file's format, by suffix and content. Raises DataError as `read_rows` does."""
    sample = _sample(path)
    if not sample:
        raise DataError(
            "the file is empty", where=shown_path(path), fix="write at least ten examples", code="empty_file"
        )
    if sample.startswith(b"PAR1") or path.suffix.lower() == ".parquet":
        return "parquet"
    name = _BY_SUFFIX.get(path.suffix.lower(), "")
    if name == "xlsx":
        return name
    require_text(path, sample)
    text = _decode(sample).lstrip(" \t\r\n")
    if not text and _blank(path):
        raise DataError(
            "the file holds only blank lines",
            where=shown_path(path),
            fix="write at least ten examples",
            code="empty_file",
        )
    if name == "csv":
        return name
    if text.startswith("[") and not _list_in_lines(path):
        return "json"
    if text.startswith("{") and not _complete(text):
        if path.suffix.lower() == ".json":
            return "objects"
        _require_lines(path, text)
    return "jsonl"


def _sample(path: Path) -> bytes:
    try:
        if not path.exists():
            raise DataError(
                "there is no such file", where=shown_path(path), fix="check the path", code="file_not_found"
            )
        if not path.is_file():
            kind = "a folder" if path.is_dir() else "not a regular file"
            raise DataError(
                f"this is {kind}", where=shown_path(path), fix="name a file of examples", code="not_a_file"
            )
        size = path.stat().st_size
        if size > settings.MAX_FILE_BYTES:
            raise DataError(
                f"the file has {size:,} bytes; the limit is {settings.MAX_FILE_BYTES:,}",
                where=shown_path(path),
                fix="split the file",
                code="file_too_large",
            )
        with path.open("rb") as file:
            return file.read(SAMPLE_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return DataError(
        f"the file can't be read: {reason}",
        where=shown_path(path),
        fix="check the path and its permissions",
        code="unreadable",
    )


def _decode(sample: bytes) -> str:
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return codecs.getincrementaldecoder("utf-16")("ignore").decode(sample)
    return sample.removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace")


def _blank(path: Path) -> bool:
    """Whether nothing but white space follows a sample of white space."""
    return not any(chunk.strip() for chunk in chunks(path))


def _list_in_lines(path: Path) -> bool:
    """Whether text that begins with [ is JSON Lines all the same: its first line is a list, or has a stray bracket.

    Within an array, what follows a line that ends a value is a comma or a closing bracket. Read as an array, such a file
    would be blamed on its second line, and all rows below would be lost with it.
    """
    filled = (line for line in lines(chunks(path), settings.MAX_LINE_BYTES) if line.data.strip())
    first, second = next(filled), next(filled, None)
    if first.oversized or second is None:
        return False
    below = second.data.strip()
    # A comma at the end of the second line tells of an array in which one is missing after the first.
    return first.data.strip().endswith((b"]", b"}")) and below.startswith((b"{", b"[")) and not below.endswith(b",")


def _require_lines(path: Path, text: str) -> None:
    """Raise DataError `json_over_lines` where the first object goes on below its first line: every line would be refused."""
    if Parser().parse(text, 0).complete:
        raise DataError(
            "this looks like JSON laid out over several lines, where each line should be an object of its own",
            where=shown_path(path),
            fix="name the file .json, or write one object a line",
            code="json_over_lines",
        )


def _complete(text: str) -> bool:
    """Whether the first line is a value of its own, or too long to tell."""
    line = re.split(r"[\r\n]", text, maxsplit=1)[0]
    return Parser().parse(line, skip_space(line, 0)).complete or len(line) == len(text)
