"""Tool calls in a model's own words: found in what it writes, in the form in which its chat template writes them.

Two forms are read. Hermes and Qwen write each call between tags, after what is said if anything is:

    Let me look.
    <tool_call>
    {"name": "stock", "arguments": {"item": "blue mug"}}
    </tool_call>

The starter writes all calls as one JSON list at the end of the turn:

    Let me look.[{"name": "stock", "arguments": {"item": "blue mug"}}]
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Literal, Protocol

from journeyman.errors import DataError
from journeyman.records import Message
from journeyman.text.encode import prompt_and_answer
from journeyman.text.template import ChatFormat

Call = Mapping[str, Any]
"""A tool call in OpenAI's form: id, type, function with its name and its arguments as JSON text."""

CallForm = Literal["tags", "list"]
"""How a model's template writes calls: each between tags, or all as one JSON list."""

Read = tuple[str, list[Call]]
"""Text that is not part of a call, and the calls that have become whole."""


class CallReader(Protocol):
    """Separates the calls of one answer from its text while it arrives.

    What could still become a call is held back. What turns out to be none, because it is no JSON of a name and
    arguments or names a function that was not offered, is text like any other: nothing the model wrote is lost.
    """

    form: ClassVar[CallForm]

    def push(self, text: str) -> Read:
        """Take the next piece of the answer."""

    def finish(self) -> Read:
        """What was still held back when the answer has ended."""

    def cut(self) -> Read:
        """What was still held back when the answer was cut: a call that had begun comes with as much as there is of it."""


def call_readers(chat: ChatFormat, names: Collection[str], answers: int = 1) -> list[CallReader]:
    """A reader for each of `answers`, of calls of the functions `names`; none where the template writes calls in neither form."""
    probe = {"name": "probe", "arguments": '{"key": "value"}'}
    call = {"id": "call00000", "type": "function", "function": probe}  # Mistral's templates insist on nine characters
    tools = [{"type": "function", "function": {"name": "probe", "parameters": {"type": "object", "properties": {}}}}]
    try:
        _, answer = prompt_and_answer(
            [Message("user", "a"), Message("assistant", tool_calls=(call,))], tools if chat.tool_template else (), chat
        )
    except DataError:
        return []
    written = (answer or "").removesuffix(chat.end_of_turn)
    for form in (TagReader, ListReader):
        reader = form(["probe"])
        if [found["function"] for _, calls in (reader.push(written), reader.finish()) for found in calls] == [probe]:
            return [form(names) for _ in range(answers)]
    return []


class TagReader:
    """Reads `<tool_call>{...}</tool_call>`, each call as soon as it is closed."""

    form: ClassVar[CallForm] = "tags"
    _OPEN, _CLOSE = "<tool_call>", "</tool_call>"

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._held = ""
        self._called = False

    def push(self, text: str) -> Read:
        """Take the next piece of the answer."""
        self._held += text
        said, calls = "", list[Call]()
        while self._CLOSE in self._held.partition(self._OPEN)[2]:
            before, _, rest = self._held.partition(self._OPEN)
            inside, _, self._held = rest.partition(self._CLOSE)
            call = _call(_value(inside), self._names)
            said += before.rstrip() if call else f"{before}{self._OPEN}{inside}{self._CLOSE}"
            calls += [call] if call else []
        self._called = self._called or bool(calls)
        # White space before a tag belongs to the form, so it waits for what follows.
        free = len(self._held[: self._tag_start()].rstrip())
        said, self._held = said + self._held[:free], self._held[free:]
        return said, calls

    def finish(self) -> Read:
        """What was still held back: a call whose closing tag is missing counts, since the turn closes it too."""
        held, self._held = self._held, ""
        before, tag, inside = held.partition(self._OPEN)
        call = _call(_value(inside), self._names) if tag else None
        if call:
            return before.rstrip(), [call]
        return ("" if self._called and not held.strip() else held), []

    def cut(self) -> Read:
        """As `finish`, with the call that was under way."""
        before, tag, inside = self._held.partition(self._OPEN)
        begun = _begun(inside, self._names) if tag and _call(_value(inside), self._names) is None else None
        if begun is None:
            return self.finish()
        self._held = ""
        return before.rstrip(), begun

    def _tag_start(self) -> int:
        """Where in the text that is held a tag begins, or could begin."""
        start = self._held.find(self._OPEN)
        if start >= 0:
            return start
        cut = next((n for n in range(len(self._OPEN) - 1, 0, -1) if self._held.endswith(self._OPEN[:n])), 0)
        return len(self._held) - cut


class ListReader:
    """Reads a JSON list of calls at the end of the answer."""

    form: ClassVar[CallForm] = "list"
    _BEGINNINGS = ('[{"name":', '[{"arguments":')

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._held = ""

    def push(self, text: str) -> Read:
        """Take the next piece of the answer."""
        self._held += text
        start = self._held.find("[")
        while start >= 0 and not self._could_begin(self._held[start:]):
            start = self._held.find("[", start + 1)
        free = len(self._held) if start < 0 else start
        said, self._held = self._held[:free], self._held[free:]
        return said, []

    def finish(self) -> Read:
        """What was still held back, as calls where all of it is a list of calls."""
        held, self._held = self._held, ""
        value = _value(held)
        calls = [_call(item, self._names) for item in value] if isinstance(value, list) else []
        found = [call for call in calls if call]
        return ("", found) if found and len(found) == len(calls) else (held, [])

    def cut(self) -> Read:
        """As `finish`, with the call that was under way after those that are whole."""
        held, calls = self._held.lstrip()[1:], list[Call]()
        if _value(self._held) is None:
            while (found := _first(held.lstrip(" \r\n\t,"))) and (call := _call(found[0], self._names)):
                held, calls = found[1], [*calls, call]
            begun = _begun(held.lstrip(" \r\n\t,"), self._names)
            if begun is not None and (begun or calls):
                self._held = ""
                return "", [*calls, *begun]
        return self.finish()

    def _could_begin(self, text: str) -> bool:
        squeezed = "".join(text[:40].split())
        return any(b.startswith(squeezed) or squeezed.startswith(b) for b in self._BEGINNINGS)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _first(text: str) -> tuple[Any, str] | None:
    """The JSON value at the beginning of a text, and what follows it."""
    try:
        value, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return value, text[end:]


_BEGUN = re.compile(r'\s*\{\s*"name"\s*:\s*"([^"]*)"\s*,\s*"arguments"\s*:\s*(.*)', re.DOTALL)
_TO_THE_NAME = '{"name":"'


def _begun(text: str, names: Collection[str]) -> list[Call] | None:
    """A call of which the end is missing; none yet where its name is, and None for text that is no call."""
    match = _BEGUN.match(text)
    if match and match[1] in names:
        function = {"name": match[1], "arguments": match[2]}
        return [{"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}]
    squeezed = "".join(text.split())
    name, _, rest = squeezed.removeprefix(_TO_THE_NAME).partition('"')
    named = squeezed.startswith(_TO_THE_NAME) and any(known.startswith(name) for known in names)
    return [] if _TO_THE_NAME.startswith(squeezed) or (named and ',"arguments":'.startswith(rest)) else None


def _call(value: Any, names: Collection[str]) -> Call | None:
    """What the model wrote as a call in OpenAI's form, with an id of its own; None where it is no call."""
    if not isinstance(value, dict) or set(value) != {"name", "arguments"} or value["name"] not in names:
        return None
    arguments = value["arguments"]
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments, ensure_ascii=False)
    elif not isinstance(arguments, str) or not isinstance(_value(arguments), dict):
        return None
    function = {"name": value["name"], "arguments": arguments}
    return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}
