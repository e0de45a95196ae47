"""JSON text to values, strictly: every departure from a plain finite object is named, none raises."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from journeyman.data.refused import quoted

MAX_DEPTH = 64
"""Nesting above this is refused: tool schemas stay well below it, and every later walk may then recurse."""

_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"
_WHITESPACE = " \t\n\r"


class WrittenFloat(float):
    """A float that remembers how it was written, so that 1.50 stays 1.50 where it becomes a text."""

    __slots__ = ("written",)
    written: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """A value, or the code and reason why there is none.

    `end` is where it stops in the text, which is known (`complete`) also of a value refused for what it holds.
    """

    value: Any = None
    end: int = 0
    code: str | None = None
    reason: str = ""
    complete: bool = True


class Parser:
    """A strict JSON reader; one for each file being read, since it is not to be shared between threads.

    Its hooks note a problem and go on, so that the place where the value ends is known all the same.
    """

    def __init__(self) -> None:
        self._found: list[tuple[str, str]] = []
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._pairs,
            parse_constant=self._constant,
            parse_float=self._float,
            parse_int=self._integer,
        )

    def parse(self, text: str, start: int = 0) -> Parsed:
        """Read the one JSON value that begins at `start`. Never raises."""
        self._found.clear()
        try:
            value, end = self._decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            return Parsed(code="invalid_json", end=error.pos, reason=_syntax(text, error), complete=False)
        except RecursionError:
            return Parsed(code="too_deep", end=len(text), reason=_TOO_DEEP, complete=False)
        if self._found:
            code, reason = self._found[0]
            return Parsed(code=code, end=end, reason=reason)
        if (
            text.count("[", start, end) + text.count("{", start, end) > MAX_DEPTH
            and _depth(value) > MAX_DEPTH
        ):
            return Parsed(code="too_deep", end=end, reason=_TOO_DEEP)
        return Parsed(value, end)

    def _pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(pairs)
        if len(out) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            self._found.append(("duplicate_key", f"the key {quoted(twice)} stands twice in one object"))
        return out

    def _constant(self, text: str) -> None:
        self._found.append(("not_finite", f"{text} is not JSON"))

    def _float(self, text: str) -> float:
        value = WrittenFloat(text)
        value.written = text
        if math.isinf(value):
            self._found.append(("not_finite", f"{quoted(text)} is larger than any float"))
        return value

    def _integer(self, text: str) -> int:
        try:
            return int(text)
        except ValueError:  # Python refuses to read more than 4,300 digits
            self._found.append(("number_too_long", f"a number of {len(text)} digits"))
            return 0


def skip_space(text: str, start: int) -> int:
    """The first position from `start` that is not JSON white space."""
    while start < len(text) and text[start] in _WHITESPACE:
        start += 1
    return start


def _syntax(text: str, error: json.JSONDecodeError) -> str:
    if not text[error.pos :].strip() or error.msg.startswith("Unterminated string"):
        return "the row is truncated: it ends in the middle of a value"
    column = error.pos - text.rfind("\n", 0, error.pos)
    return f"{error.msg[0].lower()}{error.msg[1:]} at column {column}, near {quoted(text[error.pos : error.pos + 20])}"


def _depth(value: Any) -> int:
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        deepest = max(deepest, depth)
        waiting += [(child, depth + 1) for child in _children(item) if isinstance(child, dict | list)]
    return deepest


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value
