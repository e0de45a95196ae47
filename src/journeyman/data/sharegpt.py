"""ShareGPT rows to Examples: conversations of from and value, with function calls as LLaMA-Factory writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from journeyman.data.flat import as_text, others
from journeyman.data.messages import RowError, read_messages, read_tools, read_weight
from journeyman.data.refused import Row, quoted
from journeyman.records import Example, Message, Role

ROLES: Mapping[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
    "function_call": "assistant",
}


def from_sharegpt(row: Row) -> Example:
    """The row as an Example. Raises RowError."""
    key = "conversations" if "conversations" in row.value else "messages"
    turns = row.value[key]
    if not isinstance(turns, list) or not turns:
        raise RowError("bad_messages", f"`{key}` is {quoted(turns)}")
    rest = others(row, key, "system", "tools")
    messages = [Message("system", as_text(row.value["system"], "system"))] if row.value.get("system") else []
    if all(isinstance(turn, dict) and "role" in turn for turn in turns):
        return Example((*messages, *read_messages(turns, key)), row.place, _tools(row), rest)
    for index, turn in enumerate(turns):
        messages.append(_turn(turn, f"{key}[{index}]", messages))
    return Example(tuple(messages), row.place, _tools(row), rest)


def _turn(turn: Any, where: str, before: Sequence[Message]) -> Message:
    if not isinstance(turn, dict):
        raise RowError("bad_messages", f"{where} is {quoted(turn)}, not an object")
    unknown = sorted(set(turn) - {"from", "value", "weight"})
    if unknown:
        raise RowError(
            "unknown_key", f"{where} has the key {quoted(unknown[0])}", "keep from, value and weight"
        )
    speaker = turn.get("from")
    if not isinstance(speaker, str) or speaker.lower() not in ROLES:
        raise RowError("unknown_role", f"{where}.from is {quoted(speaker)}", f"use one of {', '.join(ROLES)}")
    role, text, weight = (
        ROLES[speaker.lower()],
        as_text(turn.get("value"), f"{where}.value"),
        read_weight(turn, where),
    )
    if speaker.lower() == "function_call":
        return Message(role, "", weight, tool_calls=(_call(text, where),))
    if role == "tool":
        return Message(role, text, weight, tool_call_id=_answered(before, where))
    return Message(role, text, weight)


def _call(text: str, where: str) -> Mapping[str, Any]:
    """The call of a text such as {"name": ..., "arguments": {...}}, in OpenAI's form; its id is its place."""
    try:
        call = json.loads(text)
    except (ValueError, RecursionError):
        call = None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str) or "arguments" not in call:
        fix = 'write {"name": ..., "arguments": {...}} as JSON'
        raise RowError("bad_tool_call", f"{where}.value is {quoted(text)}", fix)
    arguments = call["arguments"]
    written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {
        "id": f"call_{where}",
        "type": "function",
        "function": {"name": call["name"], "arguments": written},
    }


def _answered(before: Sequence[Message], where: str) -> str:
    calls = [call for message in before for call in message.tool_calls]
    if not calls:
        raise RowError(
            "bad_tool_call",
            f"{where} answers a call, and no turn before it makes one",
            "put the function_call before it",
        )
    return str(calls[-1]["id"])


def _tools(row: Row) -> tuple[Mapping[str, Any], ...]:
    """The tools, which this shape writes as a list or as its JSON text, bare functions or OpenAI's objects."""
    value = row.value.get("tools")
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else None
        except (ValueError, RecursionError):
            raise RowError("bad_tools", f"`tools` is not JSON: {quoted(value)}") from None
    if isinstance(value, list) and all(isinstance(tool, dict) and "type" not in tool for tool in value):
        return read_tools({"functions": value})
    return read_tools({"tools": value})
