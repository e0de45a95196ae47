"""OpenAI's message objects to Messages: every key is known, every value has its type, or the row is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from journeyman.data.refused import quoted
from journeyman.records import ROLES, Message, Role

KEYS = ("role", "content", "name", "weight", "tool_calls", "tool_call_id", "function_call")
EMPTY_KEYS = ("refusal", "audio", "annotations")
"""Keys that a response of OpenAI's API carries, accepted where they say nothing."""


class RowError(Exception):
    """A row that has no Example: the code and the reason of its refusal."""

    def __init__(self, code: str, reason: str, fix: str | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.fix = fix


def read_messages(value: object, key: str = "messages") -> tuple[Message, ...]:
    """The messages of a list of OpenAI message objects. Raises RowError, which names the message and the value."""
    if not isinstance(value, list) or not value:
        raise RowError("bad_messages", f"`{key}` is {quoted(value)}")
    out: list[Message] = []
    for index, item in enumerate(value):
        out.append(_message(item, f"{key}[{index}]", out))
    return tuple(out)


def _message(value: object, where: str, before: Sequence[Message]) -> Message:
    if not isinstance(value, dict):
        raise RowError("bad_messages", f"{where} is {quoted(value)}, not an object")
    for key in value:
        if key not in KEYS and not (key in EMPTY_KEYS and not value[key]):
            raise RowError("unknown_key", f"{where} has the key {quoted(key)}")
    role = _role(value, where)
    calls = _calls(value, where)
    if calls and role != "assistant":
        raise RowError(
            "bad_tool_call",
            f"{where} has tool calls and the role {quoted(value.get('role'))}",
            "move the calls to an assistant turn",
        )
    return Message(
        role=role,
        content=_content(value, where, optional=bool(calls)),
        weight=read_weight(value, where),
        name=_optional_text(value, "name", where),
        tool_calls=calls,
        tool_call_id=_answered_call(value, where, role, before),
    )


def _role(value: Mapping[str, Any], where: str) -> Role:
    role = value.get("role")
    if role is None:
        raise RowError("missing_key", f"{where} has no role")
    if role == "function":
        return "tool"
    if role not in ROLES:
        raise RowError("unknown_role", f"{where}.role is {quoted(role)}")
    return cast(Role, role)


def _content(value: Mapping[str, Any], where: str, optional: bool) -> str:
    content = value.get("content")
    if content is None:
        if optional:
            return ""
        raise RowError("missing_content", f"{where} has no content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_part(part, f"{where}.content[{index}]") for index, part in enumerate(content))
    raise RowError("not_text", f"{where}.content is {quoted(content)}")


def _part(part: object, where: str) -> str:
    if not isinstance(part, dict):
        raise RowError("not_text", f"{where} is {quoted(part)}", 'write {"type": "text", "text": ...}')
    if part.get("type") != "text":
        raise RowError("unsupported_part", f"{where} has the type {quoted(part.get('type'))}")
    text = part.get("text")
    if not isinstance(text, str):
        raise RowError("not_text", f"{where}.text is {quoted(text)}")
    return text


def read_weight(value: Mapping[str, Any], where: str) -> Literal[0, 1] | None:
    """The training weight of a turn. Raises RowError `bad_weight`."""
    weight = value.get("weight")
    # True == 1 in Python, and 1.0 too: neither is what OpenAI takes.
    if weight is not None and (type(weight) is not int or weight not in (0, 1)):
        raise RowError("bad_weight", f"{where}.weight is {quoted(weight)}")
    return cast(Literal[0, 1] | None, weight)


def _optional_text(value: Mapping[str, Any], key: str, where: str) -> str | None:
    text = value.get(key)
    if text is not None and not isinstance(text, str):
        raise RowError("not_text", f"{where}.{key} is {quoted(text)}")
    return text


def _calls(value: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], ...]:
    """The tool calls; the older `function_call` becomes the one call, named after its place."""
    calls, legacy = value.get("tool_calls"), value.get("function_call")
    if legacy is not None:
        if calls:
            raise RowError(
                "bad_tool_call", f"{where} has both tool_calls and function_call", "keep tool_calls"
            )
        return (
            {
                "id": f"call_{where}",
                "type": "function",
                "function": _function(legacy, f"{where}.function_call"),
            },
        )
    if calls is None:
        return ()
    if not isinstance(calls, list):
        raise RowError("bad_tool_call", f"{where}.tool_calls is {quoted(calls)}")
    return tuple(_call(call, f"{where}.tool_calls[{index}]") for index, call in enumerate(calls))


def _call(call: object, where: str) -> Mapping[str, Any]:
    if not isinstance(call, dict):
        raise RowError("bad_tool_call", f"{where} is {quoted(call)}")
    unknown = sorted(set(call) - {"id", "type", "function", "index"})
    if unknown:
        raise RowError("bad_tool_call", f"{where} has the key {quoted(unknown[0])}")
    if call.get("type") != "function":
        raise RowError("bad_tool_call", f"{where}.type is {quoted(call.get('type'))}")
    if not isinstance(call.get("id"), str) or not call["id"]:
        raise RowError("bad_tool_call", f"{where}.id is {quoted(call.get('id'))}")
    return {
        "id": call["id"],
        "type": "function",
        "function": _function(call.get("function"), f"{where}.function"),
    }


def _function(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RowError("bad_tool_call", f"{where} is {quoted(value)}")
    unknown = sorted(set(value) - {"name", "arguments"})
    if unknown:
        raise RowError("bad_tool_call", f"{where} has the key {quoted(unknown[0])}")
    for key in ("name", "arguments"):
        if not isinstance(value.get(key), str):
            raise RowError("bad_tool_call", f"{where}.{key} is {quoted(value.get(key))}, not a text")
    return {"name": value["name"], "arguments": value["arguments"]}


def _answered_call(value: Mapping[str, Any], where: str, role: Role, before: Sequence[Message]) -> str | None:
    """The id of the call that a tool turn answers; a turn of the older role `function` answers by name."""
    call_id = _optional_text(value, "tool_call_id", where)
    if role != "tool":
        if call_id is not None:
            raise RowError(
                "bad_tool_call",
                f"{where} has a tool_call_id and the role {quoted(role)}",
                "remove it, or use the role tool",
            )
        return None
    if value["role"] == "function":
        calls = [
            call
            for message in before
            for call in message.tool_calls
            if call["function"]["name"] == value.get("name")
        ]
        if not calls:
            raise RowError(
                "bad_tool_call",
                f"{where} answers the function {quoted(value.get('name'))}, which no turn before it calls",
            )
        return str(calls[-1]["id"])
    if call_id is None:
        raise RowError(
            "bad_tool_call",
            f"{where} has the role tool and no tool_call_id",
            "name the id of the call it answers",
        )
    return call_id


def read_tools(row: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The row's tools; the older `functions` become tools. Raises RowError `bad_tools`."""
    tools = list(_objects(row, "tools"))
    for index, tool in enumerate(tools):
        if tool.get("type") != "function":
            raise RowError("bad_tools", f"tools[{index}].type is {quoted(tool.get('type'))}")
        _named(tool.get("function"), f"tools[{index}].function")
    for index, function in enumerate(_objects(row, "functions")):
        tools.append({"type": "function", "function": _named(function, f"functions[{index}]")})
    return tuple(tools)


def _objects(row: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = row.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise RowError("bad_tools", f"`{key}` is {quoted(value)}")
    return value


def _named(function: object, where: str) -> Mapping[str, Any]:
    if not isinstance(function, dict):
        raise RowError("bad_tools", f"{where} is {quoted(function)}")
    if not isinstance(function.get("name"), str) or not function["name"]:
        raise RowError("bad_tools", f"{where}.name is {quoted(function.get('name'))}")
    if not isinstance(function.get("parameters", {}), dict):
        raise RowError("bad_tools", f"{where}.parameters is {quoted(function['parameters'])}")
    return function
