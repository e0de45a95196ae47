"""JSON Lines, and a .json file that holds one array, to raw rows."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from journeyman import settings
from journeyman.data.lines import Line, chunks, lines
from journeyman.data.parse import Parsed, Parser, skip_space
from journeyman.data.refused import TEXT_SHOWN, Refused, Row, quoted, refuse
from journeyman.errors import DataError
from journeyman.records import Place

NOT_UTF8 = re.compile("[\udc80-\udcff]")
"""What Python's surrogateescape writes for a byte that is not UTF-8."""

MAX_ARRAY_BYTES = 1 << 30
"""A JSON array is parsed in memory; a larger one has to be JSON Lines."""


def read_jsonl(path: Path, file: str) -> Iterator[Row | Refused]:
    """One row a line; blank lines are not rows."""
    parser = Parser()
    for line in lines(chunks(path), settings.MAX_LINE_BYTES):
        place = Place(file, line.number)
        if line.oversized:
            yield too_long(line, place)
        elif line.data.strip():
            yield _row(line, place, parser)


def too_long(line: Line, place: Place) -> Refused:
    """The refusal of a line over the limit."""
    text = line.data[:4096].decode("utf-8", "replace")
    reason = f"the line is over {settings.MAX_LINE_BYTES:,} bytes"
    return refuse(place, "line_too_long", reason, text)


def _row(line: Line, place: Place, parser: Parser) -> Row | Refused:
    try:
        text = line.data.decode("utf-8").strip("\r\n")
    except UnicodeDecodeError as error:
        shown = line.data[:4096].strip(b"\r\n").decode("utf-8", "backslashreplace")
        reason = f"byte {error.start + 1} of the line is 0x{line.data[error.start]:02x}, which is not UTF-8"
        return refuse(place, "invalid_utf8", reason, shown)
    start = skip_space(text, 0)
    parsed = parser.parse(text, start)
    if parsed.code is None and text[parsed.end :].strip():
        reason = f"something follows the object at column {parsed.end + 1}: {quoted(text[parsed.end :].strip(), 30)}"
        return refuse(place, "invalid_json", reason, text)
    return _object(parsed, place, text)


def _object(parsed: Parsed, place: Place, text: str) -> Row | Refused:
    if parsed.code is not None:
        return refuse(place, parsed.code, parsed.reason, text)
    if not isinstance(parsed.value, dict):
        reason = f"the row is {_kind(parsed.value)}, {quoted(parsed.value, 40)}"
        return refuse(place, "not_an_object", reason, text)
    return Row(parsed.value, place, text[:TEXT_SHOWN])


def _kind(value: Any) -> str:
    kinds = {list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")


def read_array(path: Path, file: str) -> Iterator[Row | Refused]:
    """One row an element of the array; each row's place is the line on which it begins.

    Where the syntax is broken the rest can't be told apart: it is one refused row that says so.
    Raises DataError `file_too_large` for an array over MAX_ARRAY_BYTES.
    """
    text = _whole(path)
    position = skip_space(text, 0) + 1
    line, parser = _Lines(text), Parser()
    for count in itertools.count():
        position = skip_space(text, position)
        if text[position : position + 1] == "]":
            break
        if count:
            if text[position : position + 1] != ",":
                reason = "a comma or ] is missing" if position < len(text) else "the array is truncated"
                yield _rest(text, position, Place(file, line.at(position)), reason)
                return
            position = skip_space(text, position + 1)
        place = Place(file, line.at(position))
        parsed = parser.parse(text, position)
        yield _element(text, position, parsed, place)
        if not parsed.complete:
            return
        position = parsed.end
    after = skip_space(text, position + 1)
    if after < len(text):
        yield _rest(text, after, Place(file, line.at(after)), "something follows the array")


def read_objects(path: Path, file: str) -> Iterator[Row | Refused]:
    """One row an object of a file of objects laid out over several lines each.

    Broken syntax and the limit are as in `read_array`.
    """
    text = _whole(path)
    line, parser = _Lines(text), Parser()
    position = skip_space(text, 0)
    while position < len(text):
        parsed = parser.parse(text, position)
        yield _element(text, position, parsed, Place(file, line.at(position)))
        if not parsed.complete:
            return
        position = skip_space(text, parsed.end)


def _element(text: str, start: int, parsed: Parsed, place: Place) -> Row | Refused:
    if not parsed.complete:
        return _rest(text, start, place, parsed.reason)
    shown = text[start : min(parsed.end, start + TEXT_SHOWN)]
    bad = NOT_UTF8.search(text, start, parsed.end)
    if bad is not None:
        return refuse(
            place,
            "invalid_utf8",
            f"the row holds the byte 0x{ord(bad[0]) - 0xDC00:02x}, which is not UTF-8",
            shown,
        )
    return _object(parsed, place, shown)


def _rest(text: str, start: int, place: Place, reason: str) -> Refused:
    where = "the rest of the array can't be told apart"
    return refuse(
        place,
        "invalid_json",
        f"{reason}; {where}",
        text[start : start + TEXT_SHOWN],
        "repair the JSON at this line",
    )


def _whole(path: Path) -> str:
    if path.stat().st_size > min(MAX_ARRAY_BYTES, settings.MAX_FILE_BYTES):
        raise DataError(
            f"a JSON array of {path.stat().st_size:,} bytes is too large to hold in memory",
            where=str(path),
            fix="write it as JSON Lines: one object a line, without the brackets",
            code="file_too_large",
        )
    return b"".join(chunks(path)).decode("utf-8", "surrogateescape")


class _Lines:
    """Line numbers of growing positions in a text, counted once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.end = "\n" if "\n" in text else "\r"
        self.position = 0
        self.number = 1

    def at(self, position: int) -> int:
        self.number += self.text.count(self.end, self.position, position)
        self.position = position
        return self.number
