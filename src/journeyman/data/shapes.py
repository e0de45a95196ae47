"""Raw rows to Examples: which shape a file has, and what a row of it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from journeyman.data.columns import Columns, find_columns, require_columns
from journeyman.data.flat import from_alpaca, from_columns, from_pair
from journeyman.data.messages import RowError, read_messages, read_tools
from journeyman.data.refused import Refused, Row, quoted, refuse
from journeyman.data.sharegpt import from_sharegpt
from journeyman.errors import DataError
from journeyman.records import Example

__all__ = ["Columns", "Shape", "ShapeName", "detect", "to_example"]

ShapeName = Literal["openai_chat", "prompt_completion", "alpaca", "sharegpt", "columns"]

PREFERENCE_KEYS = {
    "preferred_output",
    "non_preferred_output",
    "preferred_completion",
    "non_preferred_completion",
    "chosen",
    "rejected",
}
CHAT_KEYS = ("messages", "tools", "functions", "parallel_tool_calls", "function_call")


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a file's rows and why it is taken for that; for flat rows, the columns."""

    name: ShapeName
    reason: str
    columns: Columns | None = None


def detect(rows: Sequence[Row], columns: Columns | None = None) -> Shape:
    """The shape that most of `rows` (the beginning of a file) have; `columns` is the user's own choice.

    Raises DataError: `no_rows`; `preference_file` and `reinforcement_file` (methods that are not here yet);
    `nested_rows`; `ambiguous_columns`, `one_column`, `unknown_column` and `no_header` from the search for columns.
    """
    if not rows:
        raise DataError(
            "no row of the file can be read", fix="see the refused rows for the reasons", code="no_rows"
        )
    values, file = [row.value for row in rows], rows[0].place.file
    if columns is not None:
        require_columns(values, columns, file)
        return Shape("columns", columns.reason, columns)
    _require_flat(rows)
    # Ties fall to the shape met first, so that the answer does not depend on hashing.
    kind, count = Counter(_kind(value) for value in values).most_common(1)[0]
    if kind in ("preference", "reinforcement"):
        raise _not_here(kind, rows[0])
    reason = f"{count} of the first {len(values)} rows have it"
    if kind == "columns":
        return Shape("columns", reason, find_columns([v for v in values if _kind(v) == "columns"], file))
    return Shape(cast(ShapeName, kind), reason)


def _require_flat(rows: Sequence[Row]) -> None:
    """Raise DataError `nested_rows` for a file of one object that holds the rows: a response of an API, often."""
    if len(rows) > 1 or _kind(rows[0].value) != "columns":
        return
    for key, value in rows[0].value.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            raise DataError(
                f"the file is one object, and its {len(value):,} rows seem to stand below {quoted(key)}",
                where=str(rows[0].place),
                fix="write that list alone, or better one of its objects a line",
                code="nested_rows",
            )


def to_example(row: Row, shape: Shape) -> Example | Refused:
    """The row as an Example, or the reason why it has none. Never raises for any row."""
    try:
        kind = _kind(row.value)
        if kind in ("preference", "reinforcement") and shape.name != "columns":
            raise RowError(f"{kind}_row", f"the row has the keys {quoted(sorted(row.value))}")
        if kind != shape.name and not _MAY_HOLD[shape.name](row.value):
            raise RowError(
                "wrong_shape", f"the file is {shape.name}; this row has the keys {quoted(list(row.value))}"
            )
        if shape.columns is not None:
            return from_columns(row, shape.columns)
        return _READ[shape.name](row)
    except RowError as bad:
        return refuse(row.place, bad.code, bad.reason, row.text, bad.fix)


def _kind(row: Mapping[str, Any]) -> str:
    keys = row.keys()
    if len(PREFERENCE_KEYS & keys) >= 2:
        return "preference"
    turns = row.get("messages")
    if isinstance(turns, list) and not _is_sharegpt(turns):
        return "reinforcement" if _waits_for_grader(row, turns) else "openai_chat"
    if isinstance(row.get("conversations", turns), list):
        return "sharegpt"
    if "prompt" in keys and "completion" in keys:
        return "prompt_completion"
    if "instruction" in keys and "output" in keys:
        return "alpaca"
    return "columns"


def _is_sharegpt(turns: Sequence[Any]) -> bool:
    return bool(turns) and isinstance(turns[0], dict) and "from" in turns[0]


def _waits_for_grader(row: Mapping[str, Any], turns: Sequence[Any]) -> bool:
    """OpenAI's reinforcement form: it ends on the user, no turn answers, and other keys hold what graders need."""
    roles = [turn.get("role") for turn in turns if isinstance(turn, dict)]
    return (
        bool(roles) and roles[-1] == "user" and "assistant" not in roles and bool(set(row) - set(CHAT_KEYS))
    )


def _not_here(kind: str, row: Row) -> DataError:
    names = {"preference": "preferences (DPO)", "reinforcement": "reinforcement"}
    return DataError(
        f"this is a file for training by {names[kind]}, which is not here yet; its rows have the keys {quoted(sorted(row.value))}",
        where=str(row.place),
        fix="write the ideal answer of each row as a last assistant turn: supervised training is here",
        code=f"{kind}_file",
    )


_MAY_HOLD: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "openai_chat": lambda row: "messages" in row,
    "sharegpt": lambda row: "conversations" in row or "messages" in row,
    "prompt_completion": lambda row: "prompt" in row or "completion" in row,
    "alpaca": lambda row: "instruction" in row or "output" in row,
    "columns": lambda row: True,
}


def _from_chat(row: Row) -> Example:
    item: dict[str, Any] = {key: value for key, value in row.value.items() if key not in CHAT_KEYS}
    if item.keys() <= {"item", "place"} and isinstance(item.get("place"), dict):  # a file of our own datasets
        own = item.get("item")
        item = dict(own) if isinstance(own, dict) else {}
    parallel = row.value.get("parallel_tool_calls")
    if parallel is not None and not isinstance(parallel, bool):
        raise RowError("bad_tools", f"`parallel_tool_calls` is {quoted(parallel)}", "write true or false")
    return Example(read_messages(row.value.get("messages")), row.place, read_tools(row.value), item)


_READ: Mapping[str, Callable[[Row], Example]] = {
    "openai_chat": _from_chat,
    "prompt_completion": from_pair,
    "alpaca": from_alpaca,
    "sharegpt": from_sharegpt,
}
