"""Raw rows to Examples: which shape a file has, and what a row of it says."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from journeyman.data.columns import Columns, find_columns, require_columns
from journeyman.data.messages import RowError, read_messages, read_tools, read_weight
from journeyman.data.parse import WrittenFloat
from journeyman.data.refused import Refused, Row, quoted, refuse
from journeyman.errors import DataError
from journeyman.records import Example, Message, Role

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

SHAREGPT_ROLES: Mapping[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "system": "system",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a file's rows and why it is taken for that; for flat rows, the columns."""

    name: ShapeName
    reason: str
    columns: Columns | None = None


def detect(rows: Sequence[Row], columns: Columns | None = None) -> Shape:
    """The shape that most of `rows` (the beginning of a file) have; `columns` is the user's own choice.

    Raises DataError: `no_rows`; `preference_file` and `reinforcement_file` (methods that are not here yet);
    `ambiguous_columns`, `unknown_column` and `no_header` from the search for columns.
    """
    if not rows:
        raise DataError(
            "no row of the file can be read", fix="see the refused rows for the reasons", code="no_rows"
        )
    values, file = [row.value for row in rows], rows[0].place.file
    if columns is not None:
        require_columns(values, columns, file)
        return Shape("columns", columns.reason, columns)
    # Ties fall to the shape met first, so that the answer does not depend on hashing.
    kind, count = Counter(_kind(value) for value in values).most_common(1)[0]
    if kind in ("preference", "reinforcement"):
        raise _not_here(kind, rows[0])
    reason = f"{count} of the first {len(values)} rows have it"
    if kind == "columns":
        return Shape("columns", reason, find_columns([v for v in values if _kind(v) == "columns"], file))
    return Shape(cast(ShapeName, kind), reason)


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
            return _from_columns(row, shape.columns)
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
    item = {key: value for key, value in row.value.items() if key not in CHAT_KEYS}
    if set(item) == {"item"} and isinstance(item["item"], dict):
        item = item["item"]
    parallel = row.value.get("parallel_tool_calls")
    if parallel is not None and not isinstance(parallel, bool):
        raise RowError("bad_tools", f"`parallel_tool_calls` is {quoted(parallel)}", "write true or false")
    return Example(read_messages(row.value.get("messages")), row.place, read_tools(row.value), item)


def _from_pair(row: Row) -> Example:
    prompt, completion = _needed(row, "prompt"), _needed(row, "completion")
    messages = _turns(prompt, "prompt", "user") + _turns(completion, "completion", "assistant")
    return Example(
        messages, row.place, read_tools(row.value), _others(row, "prompt", "completion", "tools", "functions")
    )


def _turns(value: Any, key: str, role: Role) -> tuple[Message, ...]:
    """A string is one turn; a list holds message objects, as TRL's conversational form has them."""
    return read_messages(value, key) if isinstance(value, list) else (Message(role, as_text(value, key)),)


def _from_alpaca(row: Row) -> Example:
    instruction = as_text(_needed(row, "instruction"), "instruction")
    given = as_text(row.value.get("input") or "", "input")
    messages = [Message("system", as_text(row.value["system"], "system"))] if row.value.get("system") else []
    for index, turn in enumerate(_history(row)):
        messages.append(Message("user", as_text(turn[0], f"history[{index}][0]")))
        messages.append(Message("assistant", as_text(turn[1], f"history[{index}][1]")))
    messages.append(Message("user", f"{instruction}\n\n{given}" if given.strip() else instruction))
    messages.append(Message("assistant", as_text(_needed(row, "output"), "output")))
    return Example(
        tuple(messages), row.place, (), _others(row, "instruction", "input", "output", "system", "history")
    )


def _history(row: Row) -> list[list[Any]]:
    history = row.value.get("history") or []
    if not isinstance(history, list) or not all(
        isinstance(turn, list) and len(turn) == 2 for turn in history
    ):
        raise RowError(
            "not_text", f"`history` is {quoted(history)}", "write a list of [user, assistant] pairs of text"
        )
    return history


def _from_sharegpt(row: Row) -> Example:
    key = "conversations" if "conversations" in row.value else "messages"
    turns = row.value[key]
    if not isinstance(turns, list) or not turns:
        raise RowError("bad_messages", f"`{key}` is {quoted(turns)}")
    messages = [Message("system", as_text(row.value["system"], "system"))] if row.value.get("system") else []
    messages += [_sharegpt_turn(turn, f"{key}[{index}]") for index, turn in enumerate(turns)]
    return Example(tuple(messages), row.place, (), _others(row, key, "system"))


def _sharegpt_turn(turn: Any, where: str) -> Message:
    if not isinstance(turn, dict):
        raise RowError("bad_messages", f"{where} is {quoted(turn)}, not an object")
    if "role" in turn:
        return read_messages([turn], where)[0]
    unknown = sorted(set(turn) - {"from", "value", "weight"})
    if unknown:
        raise RowError(
            "unknown_key", f"{where} has the key {quoted(unknown[0])}", "keep from, value and weight"
        )
    speaker = turn.get("from")
    if not isinstance(speaker, str) or speaker.lower() not in SHAREGPT_ROLES:
        raise RowError(
            "unknown_role", f"{where}.from is {quoted(speaker)}", f"use one of {', '.join(SHAREGPT_ROLES)}"
        )
    return Message(
        SHAREGPT_ROLES[speaker.lower()],
        as_text(turn.get("value"), f"{where}.value"),
        read_weight(turn, where),
    )


def _from_columns(row: Row, columns: Columns) -> Example:
    used = [name for name in (columns.system, columns.input, columns.output) if name is not None]
    messages = []
    for name, role in zip(used, (("system",) if columns.system else ()) + ("user", "assistant"), strict=True):
        text = as_text(_needed(row, name), f"the column {name}")
        if role != "system" or text.strip():
            messages.append(Message(cast(Role, role), text))
    return Example(tuple(messages), row.place, (), _others(row, *used))


_READ: Mapping[str, Callable[[Row], Example]] = {
    "openai_chat": _from_chat,
    "prompt_completion": _from_pair,
    "alpaca": _from_alpaca,
    "sharegpt": _from_sharegpt,
}


def as_text(value: Any, where: str) -> str:
    """A value as the text of a turn: strings as they are, numbers and booleans as they were written, null as ""."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, WrittenFloat):
        return value.written
    if isinstance(value, int | float):
        return repr(value)
    raise RowError(
        "not_text", f"{where} is {quoted(value)}", "write a text; a JSON object has to be written as a string"
    )


def _needed(row: Row, key: str) -> Any:
    if key not in row.value:
        raise RowError(
            "missing_key", f"the row has no {key!r}; it has {quoted(list(itertools.islice(row.value, 20)))}"
        )
    return row.value[key]


def _others(row: Row, *used: str) -> dict[str, Any]:
    return {key: value for key, value in row.value.items() if key not in used}
