"""Rules about tool calls: arguments that their function doesn't take, and calls that nobody answers.

That the arguments are a JSON object, and the function one of the row's tools, a row is refused for (`refusals.py`). Here they
are held against the function's own `parameters`, a JSON Schema (2020-12). Only turns that are learned are judged so: a wrong
call with weight 0 is read, with the tool's complaint after it, and not copied.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any

from journeyman.data.check.finding import Finding, Severity
from journeyman.data.check.rule import Rows, Rule, Sample
from journeyman.data.refused import printable, quoted
from journeyman.records import Example, Message

SHOWN_CHARACTERS = 160
"""So much of a schema's complaint is shown; it may repeat a long value."""

SHOWN_ERRORS = 3

MOST_STEPS = 100_000
"""Keywords of a schema that are looked at for one call, about a second's work; no schema written for use needs a tenth."""

_TOO_LONG = f"its references lead to more than {MOST_STEPS:,} steps"

OPEN_WORDS = frozenset(
    "additionalProperties patternProperties unevaluatedProperties propertyNames dependentSchemas $ref allOf anyOf oneOf not if".split()
)
"""Where a schema uses one of these, a key that its `properties` lack may be meant; where none, it is not refused, and still no parameter."""

SAID: Mapping[Severity, str] = {"error": "with arguments that don't fit its parameters", "warning": "in a way that its parameters don't foresee"}

Complaint = tuple[Severity, str]
"""How bad a call is, and what is wrong with it."""

Check = Callable[[Mapping[str, Any]], Complaint | None]
"""What a function's schema says against arguments."""


def _wrong_calls(rows: Rows) -> Iterator[Finding]:
    check_for = cache(_check_for)
    found: dict[Severity, dict[int, list[str]]] = {"error": defaultdict(list), "warning": defaultdict(list)}
    calls = 0
    for index, example in enumerate(rows.all):
        schemas = _schemas(example)
        for where, function in _learned_calls(example):
            calls += 1
            arguments = _object(function["arguments"])
            schema = schemas.get(function["name"])
            complaint = check_for(schema)(arguments) if schema is not None and arguments is not None else None
            if complaint:
                severity, said = complaint
                found[severity][index].append(f"{where} of {quoted(function['name'], 40)} {said}")
    for severity, wrong in found.items():
        if wrong:
            first = next(iter(wrong))
            yield Finding(
                "wrong_tool_calls",
                severity,
                f"{len(wrong)} row(s) call a tool {SAID[severity]}, such as {rows.all[first].place}: {wrong[first][0]}",
                tuple(rows.found(index, "; ".join(said)) for index, said in wrong.items()),
                "write the arguments as the tool's `parameters` say, or correct the `parameters`",
                {"rows": len(wrong), "calls": calls},
            )


def _schemas(example: Example) -> Mapping[str, str]:
    """The parameters of each of the row's functions, as text: many rows have the same ones."""
    functions = [tool["function"] for tool in example.tools] if any(m.tool_calls for m in example.messages) else []
    return {f["name"]: json.dumps(f["parameters"], sort_keys=True) for f in functions if isinstance(f.get("parameters"), dict)}


def _learned_calls(example: Example) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for index, message in enumerate(example.messages):
        for number, call in enumerate(message.tool_calls if message.learned else ()):
            yield f"messages[{index}].tool_calls[{number}]", call["function"]


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _check_for(schema_text: str) -> Check:
    """What to hold arguments against; a schema that can't be used says so of every call.

    Regular expressions of a schema are not run: one that backtracks would keep the check, and the server it runs in, for ever.
    """
    import jsonschema  # slow to import, and used only where rows call tools
    from jsonschema.exceptions import best_match
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    schema = json.loads(schema_text)
    kind = jsonschema.Draft202012Validator
    broken = best_match(kind(kind.META_SCHEMA).iter_errors(schema))
    if broken is not None:
        unusable: Complaint = ("warning", f"can't be checked: the parameters of the tool are no JSON Schema, {_shown(broken.json_path, broken.message)}")
        return lambda _: unusable
    if '"patternProperties"' in schema_text:
        return lambda _: None
    budget = _Budget()
    keywords = {word: budget.counting(rule) for word, rule in {**kind.VALIDATORS, "pattern": _compile_only}.items()}
    validator = jsonschema.validators.extend(kind, keywords)(schema, registry=Registry())  # references to the network are not followed
    names = _only_names(schema)

    def check(arguments: Mapping[str, Any]) -> Complaint | None:
        try:
            budget.begin()
            errors = [best_match([error]) or error for error in islice(validator.iter_errors(arguments), SHOWN_ERRORS)]
        except (Unresolvable, re.error, RecursionError, ArithmeticError, _TooLongError) as reason:
            return "warning", f"can't be checked: the parameters of the tool can't be used, {_shown('$', str(reason))}"
        if errors:
            said = "; ".join(_shown(error.json_path, error.message) for error in errors)
            return "error", f"has the arguments {quoted(arguments, 80)}, which don't fit: {said}"
        unknown = [key for key in arguments if key not in names] if names else []
        return ("warning", f"has the argument {quoted(unknown[0], 40)}; the parameters are {quoted(sorted(names), 120)}") if unknown else None

    return check


class _TooLongError(Exception):
    """A schema that takes too many steps to be held against arguments."""


class _Budget:
    """How many keywords of one schema may be looked at for one call: references can double the work at each of their levels."""

    def __init__(self) -> None:
        self._left = MOST_STEPS
        self._spent = False

    def begin(self) -> None:
        """A new call. Raises _TooLongError where an earlier one was too long already."""
        if self._spent:
            raise _TooLongError(_TOO_LONG)
        self._left = MOST_STEPS

    def counting(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """A keyword's rule that counts; it raises _TooLongError when there were too many."""

        def counted(*given: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                self._spent = True
                raise _TooLongError(_TOO_LONG)
            return rule(*given)

        return counted


def _compile_only(_: Any, pattern: str, *__: Any) -> None:
    """Raises re.error for a pattern that is none."""
    re.compile(pattern)


def _only_names(schema: Mapping[str, Any]) -> frozenset[str]:
    """The parameters' names, where the schema lists them and leaves nothing open on purpose; else none."""
    return frozenset() if OPEN_WORDS & schema.keys() else frozenset(schema.get("properties", ()))


def _shown(path: str, message: str) -> str:
    """Where in the arguments (or in the schema) and what, short enough to read."""
    text = f"at {path}: {printable(message)}" if path != "$" else printable(message)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


# ── calls without an answer ───────────────────────────────────────────────────────────────────────────────────


def _unanswered(rows: Rows) -> Iterator[Finding]:
    open_calls = {index: said for index, example in enumerate(rows.all) if (said := _open_calls(example.messages))}
    if open_calls:
        first = next(iter(open_calls))
        yield Finding(
            "unanswered_calls",
            "warning",
            f"{len(open_calls)} row(s) go on after a tool call without its answer, such as {rows.all[first].place}: {open_calls[first][0]}",
            tuple(rows.found(index, "; ".join(said)) for index, said in open_calls.items()),
            "let a tool turn with the call's id follow each call, or end the row on the call",
            {"rows": len(open_calls)},
        )


def _open_calls(messages: tuple[Message, ...]) -> list[str]:
    """The calls that no tool turn answers before the conversation goes on; of those that end it, none is awaited."""
    out: list[str] = []
    for index, message in enumerate(messages):
        after = messages[index + 1 :] if message.tool_calls else ()
        answers = next((n for n, one in enumerate(after) if one.role != "tool"), None)
        if answers is None:
            continue
        answered = {one.tool_call_id for one in after[:answers]}
        out += [
            f"messages[{index}].tool_calls[{number}] of {quoted(call['function']['name'], 40)} has the id {quoted(call['id'], 40)}, "
            f"which no tool turn answers before messages[{index + 1 + answers}], of the role {after[answers].role}"
            for number, call in enumerate(message.tool_calls)
            if call["id"] not in answered
        ]
    return out


# ── samples and rules ─────────────────────────────────────────────────────────────────────────────────────────

_FIND_ORDER: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": "find_order",
        "parameters": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"], "additionalProperties": False},
    },
}


def _called(said: str, arguments: str, *after: Message) -> tuple[Message, ...]:
    call = {"id": "call_1", "type": "function", "function": {"name": "find_order", "arguments": arguments}}
    return (Message("user", said), Message("assistant", tool_calls=(call,)), *after)


_ANSWER = Message("tool", "on its way", tool_call_id="call_1")

RULES = (
    Rule(
        "wrong_tool_calls",
        "Tool calls that don't fit their tools",
        "error",
        "the arguments of a learned tool call don't fit the function's `parameters` (a key that is required is missing, a value has "
        "another type or is none of the `enum`); a warning where a key is none of the parameters though the schema does not forbid it, "
        "and where the `parameters` are no JSON Schema that can be used",
        "The model learns to call the function so, and every such call fails where it is run.",
        "write the arguments as the tool's `parameters` say, or correct the `parameters`",
        Sample(
            [
                _called("Where is order HR-20?", '{"id": "HR-20"}'),
                _called("Where is order HR-21?", '{"idx": "HR-21"}'),
                _called("And order 22?", '{"id": 22}'),
                _called("Where is my order?", "{}"),
            ],
            tools=[_FIND_ORDER],
        ),
        _wrong_calls,
    ),
    Rule(
        "unanswered_calls",
        "Tool calls without an answer",
        "warning",
        "the conversation goes on after a tool call, and no tool turn has answered it; a call that ends the row is fine",
        "OpenAI's API refuses such a conversation, and no agent will ever hold one: what is learned from it has no use.",
        "let a tool turn with the call's id follow each call, or end the row on the call",
        Sample(
            [
                _called("Where is order HR-20?", '{"id": "HR-20"}', _ANSWER, Message("assistant", "It is on its way.")),
                _called("Where is order HR-21?", '{"id": "HR-21"}', Message("user", "Hello?"), Message("assistant", "It is on its way.")),
            ],
            tools=[_FIND_ORDER],
        ),
        _unanswered,
    ),
)
