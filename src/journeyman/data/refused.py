"""A row that can't be used, and the table of reasons that reading and shaping give.

What a row is refused for once it has become an Example stands in `check/refusals.py`, which also joins both tables.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from journeyman.records import Place

TEXT_SHOWN = 200
"""How much of a refused row is kept in the ledger, in characters."""


@dataclass(frozen=True, slots=True)
class Row:
    """A raw row: its values by name, and where it was read. `text` is how the row begins in its file."""

    value: Mapping[str, object]
    place: Place
    text: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that was read and is not kept: where, why (with the offending value), how to mend it, how it begins."""

    place: Place
    code: str
    reason: str
    fix: str
    text: str = ""

    def as_dict(self) -> dict[str, object]:
        """The refusal as a line of refused.jsonl."""
        return {
            "file": self.place.file,
            "line": self.place.line,
            "code": self.code,
            "reason": self.reason,
            "fix": self.fix,
            "text": self.text,
        }

    def __str__(self) -> str:
        return f"{self.place}: {self.code}: {self.reason}; {self.fix}"


def in_lines(rows: Sequence[Refused]) -> tuple[list[str], str | None]:
    """Rows in a line each, and their mend apart where it is the same for all of them; else each line has its own."""
    mends = {row.fix for row in rows}
    if len(mends) != 1:
        return [str(row) for row in rows], None
    return [f"{row.place}: {row.code}: {row.reason}" for row in rows], mends.pop()


READING: Mapping[str, tuple[str, str]] = {
    "invalid_json": ("the line is not valid JSON, or is cut off", "write one complete JSON object a line"),
    "invalid_utf8": ("the row is not UTF-8", "save the file as UTF-8"),
    "line_too_long": ("the row is longer than any training pair", "split the row, or shorten it"),
    "duplicate_key": ("an object names the same key twice", "keep one of the two"),
    "not_finite": ("NaN or Infinity, which JSON does not have", "write a number, a text or null"),
    "number_too_long": ("a number with thousands of digits", "write it as a text"),
    "too_deep": ("objects nested deeper than any example is", "flatten the row"),
    "not_an_object": ("the row is not a JSON object", 'write an object, such as {"messages": [...]}'),
    "wrong_field_count": (
        "more or fewer cells than the header",
        "quote cells that hold the separator or a line end",
    ),
    "invalid_csv": ("quotes that do not match", 'double a quote inside a quoted cell: ""'),
    "no_result": (
        "a formula without a result: never computed, or an error such as #REF!",
        "open the file in a spreadsheet program, mend the formula, and save it again",
    ),
    "binary_value": ("a cell of bytes where text belongs", "remove the column, or store text"),
    "damaged": ("a part of the file that can't be decoded", "write the file again from its source"),
}

SHAPING: Mapping[str, tuple[str, str]] = {
    "wrong_shape": (
        "the row does not have the shape of the rest of the file",
        "give every row the same keys",
    ),
    "missing_key": ("a key that the shape needs is not there", "add the key"),
    "unknown_key": (
        "a message has a key that OpenAI's chat form does not have",
        "remove the key, or correct its name",
    ),
    "not_text": ("something else stands where text belongs", "write a string"),
    "unsupported_part": (
        "a part of the content is not text (image, audio, file)",
        "keep the text parts only",
    ),
    "unknown_role": (
        "a role that is not known",
        "use system, developer, user, assistant or tool",
    ),
    "missing_content": ("a message has neither content nor tool calls", "write the content"),
    "bad_messages": ("`messages` is not a list of objects with at least one", "write a list of messages"),
    "bad_weight": ("a weight that is neither 0 nor 1", "write 0 to skip an assistant turn, 1 to learn it"),
    "bad_tools": (
        "tools or functions that are not OpenAI function objects",
        'write {"type": "function", "function": {"name": ...}}',
    ),
    "bad_tool_call": (
        "a tool call that is not OpenAI's form",
        'write {"id", "type": "function", "function": {"name", "arguments": "JSON text"}}',
    ),
    "preference_row": (
        "a preference (DPO) row",
        "training by preference is not here yet; write the preferred answer as an assistant turn",
    ),
    "reinforcement_row": (
        "a reinforcement row: it ends on the user and waits for a grader",
        "reinforcement is not here yet; write the ideal answer as an assistant turn",
    ),
}


def refuse(place: Place, code: str, reason: str, text: str = "", fix: str | None = None) -> Refused:
    """A refusal whose mend is the table's unless a better one is known."""
    mend = fix or {**READING, **SHAPING}[code][1]
    return Refused(place, code, printable(reason), mend, printable(text[:TEXT_SHOWN]))


def refused_from_dict(row: Mapping[str, Any]) -> Refused:
    """Read back a refusal that `Refused.as_dict` wrote (trusted input: our own files)."""
    return Refused(Place(row["file"], row["line"]), row["code"], row["reason"], row["fix"], row["text"])


def printable(text: str) -> str:
    r"""`text` with what UTF-8 can't hold written as \udcff, so that the ledger can always be written."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def quoted(value: object, limit: int = 60) -> str:
    """A value as a message shows it: JSON where that is possible, cut off at `limit` characters."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
