"""Tool calls: arguments held against the function's parameters, and calls that nobody answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.data.check.finding import Finding
from journeyman.data.check.rule import Rows
from journeyman.data.check.rules import RULES
from journeyman.records import Example, Message, Place

RULE = {rule.code: rule for rule in RULES}
SCHEMA = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "how": {"enum": ["post", "van"]}, "stops": {"type": "array", "items": {"type": "integer"}}},
    "required": ["id"],
}
USER, DONE = Message("user", "Where is it?"), Message("assistant", "On its way.")


def call(arguments: Any, call_id: str = "c1", weight: Any = None, name: str = "find") -> Message:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return Message("assistant", weight=weight, tool_calls=({"id": call_id, "type": "function", "function": {"name": name, "arguments": text}},))


def answer(call_id: str = "c1") -> Message:
    return Message("tool", "here", tool_call_id=call_id)


def found(code: str, messages: tuple[Message, ...], schema: Any = SCHEMA) -> list[Finding]:
    tools = ({"type": "function", "function": {"name": "find", **({} if schema is None else {"parameters": schema})}},)
    return list(RULE[code].find(Rows([Example(messages, Place("x.jsonl", 1), tools)])))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"idx": "a"}, "'id' is a required property"),
        ({}, "'id' is a required property"),
        ({"id": 5}, "at $.id: 5 is not of type 'string'"),
        ({"id": "a", "how": "sea"}, "at $.how: 'sea' is not one of ['post', 'van']"),
        ({"id": "a", "stops": [1, "b"]}, "at $.stops[1]: 'b' is not of type 'integer'"),
    ],
)
def test_arguments_that_the_parameters_do_not_allow_are_an_error(arguments: Any, says: str) -> None:
    [finding] = found("wrong_tool_calls", (USER, call(arguments)))
    assert finding.severity == "error"
    assert says in finding.message and says in finding.rows[0].note
    assert 'messages[1].tool_calls[0] of "find"' in finding.rows[0].note and "x.jsonl:1" in finding.message
    assert "parameters" in finding.fix


def test_an_argument_that_the_schema_forbids_or_only_lacks() -> None:
    extra = (USER, call({"id": "a", "idx": "b"}))
    [lacks] = found("wrong_tool_calls", extra)
    [forbids] = found("wrong_tool_calls", extra, {**SCHEMA, "additionalProperties": False})
    assert (lacks.severity, forbids.severity) == ("warning", "error")
    [both] = found("wrong_tool_calls", (USER, call({"idx": "b"})), {**SCHEMA, "additionalProperties": False})
    assert "'idx' was unexpected" in both.message and "'id' is a required property" in both.message and '{"idx": "b"}' in both.message
    assert '"idx"' in lacks.message and "'idx' was unexpected" in forbids.message
    assert found("wrong_tool_calls", extra, {**SCHEMA, "additionalProperties": True}) == []
    assert found("wrong_tool_calls", extra, {"type": "object"}) == []


def test_what_fits_and_what_is_not_learned_is_fine() -> None:
    assert found("wrong_tool_calls", (USER, call({"id": "a", "how": "van", "stops": [1]}))) == []
    assert found("wrong_tool_calls", (USER, call({}, weight=0), answer(), call({"id": "a"}, "c2"))) == []
    assert found("wrong_tool_calls", (USER, call({"any": 1})), None) == [], "a function without parameters says nothing of them"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "dict"},
        {"type": "object", "properties": {"id": {"type": "str"}}},
        {"$ref": "#"},
        {"$ref": "https://example.com/schema"},
        {"properties": {"id": {"pattern": "("}}},
        {"properties": []},
        {"required": "id"},
    ],
)
def test_a_schema_that_can_not_be_used_is_said_to_be_so(schema: Any) -> None:
    [finding] = found("wrong_tool_calls", (USER, call({"id": "a"})), schema)
    assert finding.severity == "warning" and "can't be checked" in finding.message
    assert len(finding.message) < 600


def test_references_that_double_the_work_at_each_level_are_told_and_not_followed() -> None:
    """2^60 steps: it would not end."""
    levels = {f"l{n}": {"allOf": [{"$ref": f"#/$defs/l{n + 1}"}] * 2} for n in range(60)}
    doubling = {"type": "object", "$defs": {**levels, "l60": {"type": "object"}}, "$ref": "#/$defs/l0"}
    several = tuple(turn for n in range(30) for turn in (call({"id": "a"}, f"c{n}"), answer(f"c{n}")))
    [finding] = found("wrong_tool_calls", (USER, *several, DONE), doubling)
    assert finding.severity == "warning" and "more than 100,000 steps" in finding.message
    assert finding.numbers["calls"] == 30


JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.sampled_from(["type", "properties", "required", "$ref", "enum", "multipleOf", "items", "anyOf"]), inner, max_size=4), max_leaves=8)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["type", "properties", "required", "$ref", "$schema", "$id", "enum", "multipleOf", "items", "anyOf", "pattern"]), JSON, max_size=4), st.dictionaries(st.text(max_size=3), JSON, max_size=3))
def test_no_schema_makes_it_raise(schema: Any, arguments: Any) -> None:
    found("wrong_tool_calls", (USER, call(json.dumps(arguments))), schema)


def test_a_call_that_is_passed_over_is_found_and_a_last_one_is_not() -> None:
    good = call({"id": "a"})
    [finding] = found("unanswered_calls", (USER, good, USER, DONE))
    assert finding.severity == "warning"
    assert 'messages[1].tool_calls[0] of "find" has the id "c1"' in finding.message and "messages[2], of the role user" in finding.message
    assert found("unanswered_calls", (USER, good)) == []
    assert found("unanswered_calls", (USER, good, answer(), DONE)) == []
    assert found("unanswered_calls", (USER, good, answer("c2"), DONE)) != []
    both = Message("assistant", tool_calls=good.tool_calls + call({"id": "b"}, "c2").tool_calls)
    assert found("unanswered_calls", (USER, both, answer("c2"), answer(), DONE)) == []
    [one] = found("unanswered_calls", (USER, both, answer("c2"), DONE))
    assert '"c1"' in one.rows[0].note and '"c2"' not in one.rows[0].note


@pytest.mark.parametrize(
    "of_id",
    [
        {"type": "string", "pattern": "(a+)+$"},
        {"type": "object", "patternProperties": {"(a+)+$": {}}, "additionalProperties": False},
    ],
)
def test_a_pattern_that_would_backtrack_for_ever_is_not_run(of_id: Any) -> None:
    text = "a" * 64 + "!"
    schema = {"type": "object", "properties": {"id": of_id}}
    assert found("wrong_tool_calls", (USER, call({"id": text if of_id["type"] == "string" else {text: 1}})), schema) == []
