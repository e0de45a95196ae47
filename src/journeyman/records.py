"""Frozen records that cross the borders between layers. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

T_co = TypeVar("T_co", covariant=True)

Role = Literal["system", "developer", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row was read: the file as the user named it, and its 1-based line (row, for spreadsheets)."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    `weight` is OpenAI's training weight: None where the file gives none (an assistant turn is then learned),
    0 for a turn that is read but not learned, 1 for one that is. Text parts are joined into `content`.
    """

    role: Role
    content: str = ""
    weight: Literal[0, 1] | None = None
    name: str | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    tool_call_id: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The message in OpenAI's chat form, without the keys that are not set."""
        out: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.weight is not None:
            out["weight"] = self.weight
        if self.name is not None:
            out["name"] = self.name
        if self.tool_calls:
            out["tool_calls"] = [dict(call) for call in self.tool_calls]
        if self.tool_call_id is not None:
            out["tool_call_id"] = self.tool_call_id
        return out

    @property
    def learned(self) -> bool:
        """Whether this turn is a target of training."""
        return self.role == "assistant" and self.weight != 0


@dataclass(frozen=True, slots=True)
class Example:
    """A training pair in chat form: the conversation, its tools, and where it was read.

    `item` holds the row's remaining keys, which graders may name as `{{ item.key }}`.
    """

    messages: tuple[Message, ...]
    place: Place
    tools: tuple[Mapping[str, Any], ...] = ()
    item: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The example in OpenAI's chat form, with its place, as it stands in a dataset file."""
        out: dict[str, Any] = {"messages": [m.as_dict() for m in self.messages]}
        if self.tools:
            out["tools"] = [dict(tool) for tool in self.tools]
        if self.item:
            out["item"] = dict(self.item)
        out["place"] = {"file": self.place.file, "line": self.place.line}
        return out

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The messages before the last assistant turn: what the model is asked."""
        return self.messages[: self._last_answer()]

    @property
    def ideal(self) -> Message:
        """The last assistant turn: the ideal output."""
        return self.messages[self._last_answer()]

    def _last_answer(self) -> int:
        for index in range(len(self.messages) - 1, -1, -1):
            if self.messages[index].role == "assistant":
                return index
        raise ValueError(f"{self.place}: no assistant turn")


@dataclass(frozen=True, slots=True)
class ToolUse:
    """How an answer may use the tools it is offered.

    `names` are the functions it may call (None: all of them), `must` says whether it has to call one, and `most` how
    many calls it may hold (None: any number).
    """

    names: frozenset[str] | None = None
    must: bool = False
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written by one request."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens


Stop = Literal["end", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answerer said, why it stopped, and what it cost."""

    text: str
    stop: Stop
    usage: Usage
    latency_s: float | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()


def as_written(text: str, tool_calls: Sequence[Mapping[str, Any]]) -> str:
    """An answer as one text: what is said, and each call on a line of its own. Ids, and the order of arguments, say nothing."""
    return "\n".join([*([text] if text or not tool_calls else []), *map(_call_as_written, tool_calls)])


def _call_as_written(call: Mapping[str, Any]) -> str:
    name, arguments = call["function"]["name"], call["function"]["arguments"]
    with suppress(ValueError):
        arguments = json.loads(arguments)
    return json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False, sort_keys=True)


@dataclass(frozen=True, slots=True)
class Choice(Generic[T_co]):
    """A value that was chosen, with the reason a person can dispute and the source of the rule.

    `source` is "user" where the user's wish decided, else the paper, page or measurement behind the rule.
    """

    value: T_co
    reason: str
    source: str

    def as_dict(self) -> dict[str, Any]:
        """The choice as it stands in a plan file."""
        return {"value": self.value, "reason": self.reason, "source": self.source}


def messages_from_dicts(rows: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Read back messages that `Message.as_dict` wrote (trusted input: our own files)."""
    return tuple(
        Message(
            role=row["role"],
            content=row.get("content") or "",
            weight=row.get("weight"),
            name=row.get("name"),
            tool_calls=tuple(row.get("tool_calls") or ()),
            tool_call_id=row.get("tool_call_id"),
        )
        for row in rows
    )


def example_from_dict(row: Mapping[str, Any]) -> Example:
    """Read back an example that `Example.as_dict` wrote (trusted input: our own files)."""
    place = row["place"]
    return Example(
        messages=messages_from_dicts(row["messages"]),
        place=Place(place["file"], place["line"]),
        tools=tuple(row.get("tools") or ()),
        item=row.get("item") or {},
    )
