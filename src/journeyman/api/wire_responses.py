"""OpenAI's wire shapes for responses: what is asked for in chat form, and what is shown of the answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from journeyman.api.strict import Metadata, Strict
from journeyman.errors import RequestError

LOGPROBS = "message.output_text.logprobs"
"""What `include` names for the log-probabilities of the answer's text."""


INCLUDABLE = frozenset(
    {
        LOGPROBS,
        "code_interpreter_call.outputs",
        "computer_call_output.output.image_url",
        "file_search_call.results",
        "message.input_image.image_url",
        "reasoning.encrypted_content",
        "web_search_call.action.sources",
        "web_search_call.results",
    }
)
"""What OpenAI lets `include` name. All but the log-probabilities belong to what no answer here has."""

_NOT_HERE = {
    "conversation": "use previous_response_id",
    "max_tool_calls": "it counts calls of OpenAI's own tools, which are not here; for one call at most set parallel_tool_calls to false",
    "prompt": "send the prompt's text as instructions and input",
    "context_management": "use truncation, or send fewer turns",
}
"""Fields of OpenAI's that would change an answer, each with what to do instead."""

_INNER = {
    "text": frozenset({"format", "verbosity"}),
    "reasoning": frozenset({"context", "effort", "generate_summary", "summary"}),
    "stream_options": frozenset({"include_obfuscation"}),
}
_ITEM_KEYS = {
    "message": frozenset({"type", "id", "status", "role", "content", "phase"}),
    "function_call": frozenset({"type", "id", "status", "call_id", "name", "arguments"}),
    "function_call_output": frozenset({"type", "id", "status", "call_id", "output"}),
}


class ResponseRequest(Strict):
    """The body of POST /v1/responses. Fields that can't change an answer here are accepted and have no effect."""

    model: str = Field(min_length=1)
    input: Annotated[str, Field(min_length=1)] | Annotated[list[dict[str, Any]], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=16)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: dict[str, Any] | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    include: list[str] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    reasoning: dict[str, Any] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: str | None = None
    moderation: dict[str, Any] | None = None
    service_tier: str | None = None
    background: bool | None = None
    conversation: Any = None
    max_tool_calls: Any = None
    prompt: Any = None
    context_management: Any = None

    def refuse_what_is_not_here(self) -> None:
        """Raises RequestError by field."""
        if self.background:
            raise _unsupported("background", "answers are given at once; leave it out")
        for name, instead in _NOT_HERE.items():
            if getattr(self, name) is not None:
                raise _unsupported(name, instead)
        for tool in self.tools or ():
            if tool.get("type", "function") != "function":
                raise _unsupported("tools", "only functions can be called")
        for name, known in _INNER.items():
            _refuse_unknown(getattr(self, name) or {}, known, name)
        for number, item in enumerate(self.items()):
            kind = item.get("type", "message")
            _refuse_unknown(item, _ITEM_KEYS.get(kind) if isinstance(kind, str) else None, f"input[{number}]")
        for number, value in enumerate(self.include or ()):
            if value not in INCLUDABLE:
                raise RequestError(
                    f"Invalid value for 'include[{number}]': {value[:100]!r}", where=f"include[{number}]",
                    fix=f"name some of {', '.join(sorted(INCLUDABLE))}", code="invalid_value",
                )  # fmt: skip

    def chat(self, before: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The same request as the body of a chat completion, after the messages of earlier turns."""
        messages: list[dict[str, Any]] = []
        if self.instructions:
            messages.append({"role": "system", "content": self.instructions})
        messages += [dict(message) for message in before]
        messages += chat_messages(self.items())
        _refuse_lone_outputs(messages)
        body = {
            "model": self.model,
            "messages": messages,
            "max_completion_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "tools": [nested_tool(tool) for tool in self.tools] if self.tools else None,
            "tool_choice": _nested_choice(self.tool_choice),
            "parallel_tool_calls": self.parallel_tool_calls,
            "response_format": nested_format(self.text),
            "logprobs": self.wants_logprobs or None,
            "top_logprobs": self.top_logprobs,
            "stream": self.stream,
        }
        return {name: value for name, value in body.items() if value is not None}

    @property
    def wants_logprobs(self) -> bool:
        """Whether the answer's text comes with log-probabilities: by name, or because the likeliest tokens are asked for."""
        return LOGPROBS in (self.include or ()) or self.top_logprobs is not None

    def items(self) -> list[dict[str, Any]]:
        """The input as a list of items."""
        if isinstance(self.input, str):
            return [{"type": "message", "role": "user", "content": self.input}]
        return self.input


class CountRequest(ResponseRequest):
    """The body of POST /v1/responses/input_tokens: what is counted, and not answered."""


def _refuse_unknown(value: Mapping[str, Any], known: frozenset[str] | None, where: str) -> None:
    """Raises RequestError for a key that says something and is not `known`; None where any is."""
    for key in value:
        if known is not None and key not in known and value[key] is not None:
            raise RequestError(
                f"Unknown parameter: '{where}.{key[:100]}'", where=f"{where}.{key[:100]}", code="unknown_parameter"
            )


def _refuse_lone_outputs(messages: Sequence[Mapping[str, Any]]) -> None:
    """Raises RequestError, in OpenAI's words, for the output of a call that no turn before it makes."""
    made: set[str] = set()
    for message in messages:
        made |= {str(call["id"]) for call in message.get("tool_calls", ())}
        call_id = message.get("tool_call_id")
        if isinstance(call_id, str) and call_id not in made:
            raise RequestError(
                f"No tool call found for function call output with call_id {call_id[:100]}.", where="input",
                code="invalid_value",
            )  # fmt: skip


def own_names(text: str, body: ResponseRequest, asked: Mapping[str, Any]) -> str:
    """A refusal of the request's chat form (`asked`), in the names that the request has here."""
    places: list[int] = []
    if isinstance(body.input, list):
        chat_messages(body.input, places)
    earlier = len(asked["messages"]) - (len(places) or 1)

    def item(match: re.Match[str]) -> str:
        number = int(match[1]) - earlier
        if isinstance(body.input, str) or not 0 <= number < len(places):
            return "input"
        inside = (match[2] or "").replace("tool_call_id", "call_id")
        return f"input[{places[number]}]" + ("" if inside.startswith(".tool_calls") else inside)

    text = re.sub(r"\bmessages\[(\d+)\]((?:\.\w+(?:\[\d+\])*)*)", item, text)
    text = re.sub(r"\bresponse_format(\.json_schema)?\b", "text.format", text)
    text = text.replace("max_completion_tokens", "max_output_tokens").replace("'messages'", "'input'")
    flat = not any("function" in tool for tool in body.tools or ())
    text = re.sub(r"\b(tools\[\d+\])\.function\b", r"\1", text) if flat else text
    return "input" if text == "messages" else text


def chat_messages(
    items: Sequence[Mapping[str, Any]], places: list[int] | None = None
) -> list[dict[str, Any]]:
    """Items as chat messages; calls that follow each other are one assistant's turn. Raises RequestError.

    `places` is given the number of each message's first item.
    """
    messages: list[dict[str, Any]] = []
    for number, item in enumerate(items):
        if places is not None and len(places) < len(messages):
            places.append(number - 1)
        kind = item.get("type", "message")
        if kind == "message":
            messages.append({"role": item.get("role"), "content": _content(item.get("content"), number)})
        elif kind == "function_call":
            call = {
                "id": item.get("call_id"),
                "type": "function",
                "function": {"name": item.get("name"), "arguments": item.get("arguments")},
            }
            if messages and messages[-1]["role"] == "assistant":
                messages[-1].setdefault("tool_calls", []).append(call)
            else:
                messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        elif kind == "function_call_output":
            output = _content(item.get("output"), number, "output")
            text = output if isinstance(output, str | list) else json.dumps(output, ensure_ascii=False)
            messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": text})
        elif kind != "reasoning":
            raise RequestError(
                f"an item of the type {str(kind)[:100]!r} can't be read", where=f"input[{number}]",
                fix="send messages, function calls and their outputs", code="unsupported_parameter",
            )  # fmt: skip
    if places is not None and len(places) < len(messages):
        places.append(len(items) - 1)
    return messages


def kept_item(item: Mapping[str, Any], item_id: str) -> dict[str, Any]:
    """An input item as it is listed: with an id and a status, and a message's text as parts, however it was sent."""
    kept = {"type": "message", "id": item_id, "status": "completed", **item}
    content = kept.get("content")
    if kept["type"] == "message" and isinstance(content, str):
        by_model = kept.get("role") == "assistant"
        part = {"type": "output_text", "text": content, "annotations": []} if by_model else {"type": "input_text", "text": content}
        kept["content"] = [part]
    return kept


def _content(content: Any, number: int, field: str = "content") -> Any:
    """A message's content, or a call's output, with its parts in chat form; a refusal is what the turn said."""
    if not isinstance(content, list):
        return content
    parts = []
    for part in content:
        if isinstance(part, dict) and part.get("type") == "refusal":
            parts.append({"type": "text", "text": part.get("refusal")})
            continue
        if not isinstance(part, dict) or part.get("type") not in ("input_text", "output_text", "text"):
            raise RequestError(
                "only text can be read", where=f"input[{number}].{field}", fix="send input_text parts",
                code="unsupported_parameter",
            )  # fmt: skip
        parts.append({"type": "text", "text": part.get("text")})
    return parts


def _nested_choice(choice: Any) -> Any:
    """A choice of tools, flat in this API, in chat form."""
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") == "function" and "function" not in choice:
        return {"type": "function", "function": {key: v for key, v in choice.items() if key != "type"}}
    if choice.get("type") == "allowed_tools" and "allowed_tools" not in choice:
        inner = {key: value for key, value in choice.items() if key != "type"}
        if isinstance(inner.get("tools"), list):
            inner["tools"] = [_nested_choice(tool) for tool in inner["tools"]]
        return {"type": "allowed_tools", "allowed_tools": inner}
    return choice


def nested_format(text: Mapping[str, Any] | None) -> Any:
    """The format of an answer, flat in `text.format`, in chat form; None where none is asked for."""
    wanted = (text or {}).get("format")
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return wanted
    return {"type": "json_schema", "json_schema": {key: v for key, v in wanted.items() if key != "type"}}


def nested_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A flat tool in chat form; one that is nested already, as OpenAI's own guide has it, stays."""
    if "function" in tool:
        return {"type": "function", "function": tool["function"]}
    function = {key: value for key, value in tool.items() if key != "type" and value is not None}
    return {"type": "function", "function": function}


def _unsupported(field: str, fix: str) -> RequestError:
    return RequestError(
        f"Unsupported parameter: '{field}'", where=field, fix=fix, code="unsupported_parameter"
    )


# ── what is shown ─────────────────────────────────────────────────────────────────────────────────────────────


class ResponseDeleted(BaseModel):
    """The receipt of a deletion."""

    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True


class ItemList(BaseModel):
    """A page of input items."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class InputTokens(BaseModel):
    """How many tokens an input is."""

    object: Literal["response.input_tokens"] = "response.input_tokens"
    input_tokens: int


def message_item(
    item_id: str, text: str | None, status: str = "completed", logprobs: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """The answer's text as an item; None where none has come yet."""
    content = [] if text is None else [text_part(text, logprobs)]
    return {"type": "message", "id": item_id, "status": status, "role": "assistant", "content": content}


def text_part(text: str, logprobs: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """A piece of content."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(logprobs)}


def call_item(item_id: str, call: Mapping[str, Any], status: str = "completed") -> dict[str, Any]:
    """A function call as an item."""
    function = call["function"]
    arguments = function["arguments"] if status == "completed" else ""
    return {
        "type": "function_call",
        "id": item_id,
        "call_id": call["id"],
        "name": function["name"],
        "arguments": arguments,
        "status": status,
    }


def shown(
    body: ResponseRequest, response_id: str, model: str, created_at: float, *, status: str, output: list[dict[str, Any]],
    usage: tuple[int, int, int] | None = None, completed_at: float | None = None, error: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A response object, in any state."""
    return {
        "id": response_id,
        "object": "response",
        "created_at": int(created_at),
        "completed_at": None if completed_at is None else int(completed_at),
        "status": status,
        "error": error,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "model": model,
        "output": output,
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "reasoning": {"effort": None, "summary": None},
        "store": body.store is not False,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "text": body.text or {"format": {"type": "text"}},
        "tool_choice": body.tool_choice or "auto",
        "tools": [_flat(tool) for tool in body.tools or ()],
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "truncation": body.truncation or "disabled",
        "usage": None if usage is None else _usage(*usage),
        "user": body.user,
        "metadata": body.metadata or {},
    }


def _flat(tool: Mapping[str, Any]) -> dict[str, Any]:
    inner = tool.get("function") if isinstance(tool.get("function"), Mapping) else tool
    assert isinstance(inner, Mapping)
    return {
        "type": "function",
        "name": inner.get("name"),
        "description": inner.get("description"),
        "parameters": inner.get("parameters"),
        "strict": bool(inner.get("strict")),
    }


def _usage(read: int, written: int, cached: int) -> dict[str, Any]:
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + written,
    }
