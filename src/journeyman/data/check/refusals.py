"""The one place where an Example is refused for what it says, and the table of all reasons for a refusal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from journeyman.data.refused import READING, SHAPING, Refused, printable, quoted
from journeyman.records import Example


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reason to refuse an Example. `find` gives what is wrong, with the offending value, or None."""

    code: str
    meaning: str
    find: Callable[[Example], str | None]
    mend: str


def check_example(example: Example, text: str = "") -> Refused | None:
    """The first rule that the example breaks, as a refusal; None where it can be learned from. Never raises."""
    for refusal in REFUSALS:
        reason = refusal.find(example)
        if reason is not None:
            return Refused(example.place, refusal.code, printable(reason), refusal.mend, printable(text))
    return None


def _lone_surrogate(example: Example) -> str | None:
    for where, text in _texts(example):
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            return f"{where} holds U+{ord(text[error.start]):04X}, half of a character, at position {error.start}"
    return None


def _nul(example: Example) -> str | None:
    return next(
        (
            f"{where} holds a NUL character at position {t.index(chr(0))}"
            for where, t in _texts(example)
            if "\0" in t
        ),
        None,
    )


def _texts(example: Example) -> Iterator[tuple[str, str]]:
    for index, message in enumerate(example.messages):
        yield f"messages[{index}].content", message.content
        yield from _nested([message.name, message.tool_calls, message.tool_call_id], f"messages[{index}]")
    yield from _nested(example.tools, "tools")
    yield from _nested(example.item, "the row")


def _nested(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for key, child in value.items():
            yield f"a key of {where}", key
            yield from _nested(child, where)
    elif isinstance(value, list | tuple):
        for child in value:
            yield from _nested(child, where)


def _weight_elsewhere(example: Example) -> str | None:
    for index, message in enumerate(example.messages):
        if message.weight is not None and message.role != "assistant":
            return f"messages[{index}] has weight {message.weight} and the role {message.role}"
    return None


def _no_assistant(example: Example) -> str | None:
    roles = [message.role for message in example.messages]
    return None if "assistant" in roles else f"the roles are {', '.join(roles[:8])}"


def _ends_elsewhere(example: Example) -> str | None:
    last = example.messages[-1].role
    return (
        None
        if last == "assistant"
        else f"the last turn, messages[{len(example.messages) - 1}], has the role {last}"
    )


def _nothing_learned(example: Example) -> str | None:
    if any(message.learned for message in example.messages):
        return None
    return "every assistant turn has weight 0"


def _ideal_not_learned(example: Example) -> str | None:
    return None if example.ideal.learned else "the last assistant turn has weight 0"


def _missing_user(example: Example) -> str | None:
    roles = [message.role for message in example.prompt]
    return (
        None
        if "user" in roles
        else f"before the last assistant turn there is {', '.join(roles[:8]) or 'nothing'}"
    )


def _system_order(example: Example) -> str | None:
    for index, message in enumerate(example.messages):
        if index > 0 and message.role in ("system", "developer"):
            return f"messages[{index}] has the role {message.role}, after {example.messages[index - 1].role}"
    return None


def _tool_order(example: Example) -> str | None:
    called: set[str] = set()
    for index, message in enumerate(example.messages):
        if message.role == "tool" and message.tool_call_id not in called:
            return f"messages[{index}] answers the call {quoted(message.tool_call_id)}, which no turn before it makes"
        called.update(call["id"] for call in message.tool_calls)
    return None


def _bad_arguments(example: Example) -> str | None:
    for where, function in _called(example):
        try:
            value = json.loads(function["arguments"], parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            return f"{where}.arguments is not JSON: {quoted(function['arguments'])}"
        if not isinstance(value, dict):
            return f"{where}.arguments is not a JSON object: {quoted(function['arguments'])}"
    return None


def _refuse_constant(text: str) -> None:
    raise ValueError(text)


def _unknown_function(example: Example) -> str | None:
    names = [tool["function"]["name"] for tool in example.tools]
    for where, function in _called(example):
        if function["name"] not in names:
            return f"{where}.name is {quoted(function['name'])}; the row's tools are {quoted(names)}"
    return None


def _called(example: Example) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for index, message in enumerate(example.messages):
        for number, call in enumerate(message.tool_calls):
            yield f"messages[{index}].tool_calls[{number}].function", call["function"]


def _empty_input(example: Example) -> str | None:
    for index, message in enumerate(example.messages):
        if message.role == "user" and not message.content.strip():
            return f"the user turn messages[{index}] is {quoted(message.content)}"
    return None


def _empty_output(example: Example) -> str | None:
    for index, message in enumerate(example.messages):
        if message.learned and not message.content.strip() and not message.tool_calls:
            return f"the assistant turn messages[{index}] is {quoted(message.content)}"
    return None


REFUSALS: tuple[Refusal, ...] = (
    Refusal(
        "lone_surrogate",
        "a text holds half of a character",
        _lone_surrogate,
        "write the character whole, or remove it",
    ),
    Refusal("nul_character", "a text holds a NUL character", _nul, "remove the character"),
    Refusal("no_assistant", "no assistant turn", _no_assistant, "add the ideal answer as a last assistant turn"),
    Refusal(
        "ends_on_user",
        "the last turn is not the assistant's",
        _ends_elsewhere,
        "end on the ideal answer, or remove the turns after it",
    ),
    Refusal("missing_user", "no user turn before the ideal answer", _missing_user, "add what the user says"),
    Refusal(
        "system_order",
        "a system or developer turn after the first turn",
        _system_order,
        "put all instructions into one first turn",
    ),
    Refusal(
        "tool_order",
        "a tool turn that answers no call before it",
        _tool_order,
        "let it follow the assistant turn with that call id",
    ),
    Refusal(
        "bad_arguments",
        "a tool call whose arguments are not a JSON object",
        _bad_arguments,
        'write the arguments as JSON text: "{\\"city\\": \\"Riga\\"}"',
    ),
    Refusal(
        "unknown_function",
        "a tool call of a function that the row's tools lack",
        _unknown_function,
        "add the function to `tools`, or correct its name",
    ),
    Refusal(
        "weight_elsewhere",
        "a weight on a turn that is not the assistant's",
        _weight_elsewhere,
        "remove the weight: only assistant turns are learned",
    ),
    Refusal(
        "nothing_learned",
        "every assistant turn has weight 0",
        _nothing_learned,
        "give the turn to be learned weight 1",
    ),
    Refusal(
        "ideal_not_learned",
        "the last assistant turn has weight 0",
        _ideal_not_learned,
        "give it weight 1, or end the row on the turn to be learned",
    ),
    Refusal("empty_input", "an empty user turn", _empty_input, "write what the user says, or remove the turn"),
    Refusal(
        "empty_output",
        "an empty turn would be learned",
        _empty_output,
        "write the ideal answer, or give the turn weight 0",
    ),
)

REASONS: Mapping[str, tuple[str, str]] = {
    **READING,
    **SHAPING,
    **{refusal.code: (refusal.meaning, refusal.mend) for refusal in REFUSALS},
}
"""Every code with which a row can be refused: what it means, and the mend."""
