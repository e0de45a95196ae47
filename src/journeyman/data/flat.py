"""Rows of plain texts to Examples: prompt and completion, Alpaca, and the columns of a table."""

from __future__ import annotations

import itertools
from typing import Any, cast

from journeyman.data.columns import Columns
from journeyman.data.messages import RowError, read_messages, read_tools
from journeyman.data.parse import WrittenFloat
from journeyman.data.refused import Row, quoted
from journeyman.records import Example, Message, Role


def from_pair(row: Row) -> Example:
    """Prompt and completion: strings, or lists of message objects. Raises RowError."""
    prompt, completion = needed(row, "prompt"), needed(row, "completion")
    messages = _turns(prompt, "prompt", "user") + _turns(completion, "completion", "assistant")
    return Example(
        messages, row.place, read_tools(row.value), others(row, "prompt", "completion", "tools", "functions")
    )


def _turns(value: Any, key: str, role: Role) -> tuple[Message, ...]:
    """A string is one turn; a list holds message objects, as TRL's conversational form has them."""
    return read_messages(value, key) if isinstance(value, list) else (Message(role, as_text(value, key)),)


def from_alpaca(row: Row) -> Example:
    """Instruction, input, output, and where given system and history. Raises RowError."""
    instruction = as_text(needed(row, "instruction"), "instruction")
    given = as_text(row.value.get("input") or "", "input")
    messages = [Message("system", as_text(row.value["system"], "system"))] if row.value.get("system") else []
    for index, turn in enumerate(_history(row)):
        messages.append(Message("user", as_text(turn[0], f"history[{index}][0]")))
        messages.append(Message("assistant", as_text(turn[1], f"history[{index}][1]")))
    messages.append(Message("user", f"{instruction}\n\n{given}" if given.strip() else instruction))
    messages.append(Message("assistant", as_text(needed(row, "output"), "output")))
    return Example(
        tuple(messages), row.place, (), others(row, "instruction", "input", "output", "system", "history")
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


def from_columns(row: Row, columns: Columns) -> Example:
    """The columns chosen become turns; the others stay with the row as its item. Raises RowError."""
    used = [name for name in (columns.system, columns.input, columns.output) if name is not None]
    messages = []
    for name, role in zip(used, (("system",) if columns.system else ()) + ("user", "assistant"), strict=True):
        text = as_text(needed(row, name), f"the column {name}")
        if role != "system" or text.strip():
            messages.append(Message(cast(Role, role), text))
    return Example(tuple(messages), row.place, (), others(row, *used))


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


def needed(row: Row, key: str) -> Any:
    """The value of a key that the shape needs. Raises RowError `missing_key`."""
    if key not in row.value:
        raise RowError(
            "missing_key", f"the row has no {key!r}; it has {quoted(list(itertools.islice(row.value, 20)))}"
        )
    return row.value[key]


def others(row: Row, *used: str) -> dict[str, Any]:
    """The row's remaining keys, which graders may name."""
    return {key: value for key, value in row.value.items() if key not in used}
