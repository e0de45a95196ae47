"""Whatever the weights, an answer calls as it was asked to, and each call fits its tool's schema."""

from __future__ import annotations

import json

import jsonschema
import pytest

import tiny
from journeyman.errors import RequestError
from journeyman.generate.call_grammar import call_grammar, is_needed
from journeyman.generate.constrain import Constraint, Vocabulary
from journeyman.generate.engine import Engine, Request
from journeyman.generate.sampling import Sampling
from journeyman.records import ToolUse
from journeyman.text.tools import ListReader, TagReader

PROMPTS = [tuple(row.ids_T.tolist()) for row in tiny.rows(2, seed=3, shortest=2, longest=20)]
DAY = {"type": "string", "pattern": "^[0-9]{4}-[01][0-9]$"}
SCHEMAS = {
    "stock": {
        "$defs": {"Day": DAY},
        "type": "object",
        "properties": {"item": {"enum": ["mug", "Töpfe"]}, "on": {"$ref": "#/$defs/Day"}},
        "required": ["item", "on"],
        "additionalProperties": False,
    },
    "price_of-1": {"properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["n"], "additionalProperties": False},
    "now": {"type": "object", "properties": {}, "additionalProperties": False},
}  # fmt: skip
TOOLS = [
    {"type": "function", "function": {"name": "stock", "parameters": SCHEMAS["stock"]}},
    {"type": "function", "function": {"name": "price_of-1", "parameters": SCHEMAS["price_of-1"]}},
    {"type": "function", "function": {"name": "now"}},
]
ANSWER = json.dumps(
    {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
)
READERS = {"tags": TagReader, "list": ListReader}
MUST = ToolUse(must=True)


@pytest.fixture(scope="module")
def engine(bases) -> Engine:
    return Engine(bases("llama"))


def calls_of(form: str, text: str) -> tuple[str, list[tuple[str, dict]]]:
    """The text beside the calls, and each call's function and arguments."""
    reader = READERS[form]([tool["function"]["name"] for tool in TOOLS])
    (said, first), (rest, last) = reader.push(text), reader.finish()
    functions = [call["function"] for call in [*first, *last]]
    return said + rest, [(f["name"], json.loads(f["arguments"])) for f in functions]


def may_stand(engine: Engine, grammar: str, text: str, *, whole: bool = True) -> bool:
    """Whether a text can be written, and, where it is meant to be whole, the answer can end after it."""
    constraint = Constraint(grammar, Vocabulary(engine.chat))
    from torch import isfinite, zeros

    logits_V = zeros(tiny.VOCAB)
    for token_id in engine.chat.ids(text):
        if not isfinite(constraint.mask(logits_V)[token_id]):
            return False
        constraint.take(token_id)
    return not whole or bool(isfinite(constraint.mask(logits_V)[engine.chat.stop_ids[0]]))


@pytest.mark.parametrize("form", READERS)
@pytest.mark.parametrize(
    ("use", "names"),
    [
        (ToolUse(must=True, most=1), set(SCHEMAS)),
        (ToolUse(names=frozenset({"now"}), must=True, most=1), {"now"}),
        (ToolUse(names=frozenset({"stock", "now"}), must=True, most=1), {"stock", "now"}),
    ],
)
def test_a_forced_call_is_made_whatever_the_weights(engine, form, use, names):
    grammar = call_grammar(form, TOOLS, use)
    samplings = [Sampling(max_tokens=150, grammar=grammar)] + [
        Sampling(max_tokens=150, temperature=2, seed=seed, grammar=grammar) for seed in range(3)
    ]
    for answer in engine.answers([Request(p, None, s) for p in PROMPTS for s in samplings]):
        text, calls = calls_of(form, answer.text)
        assert (answer.stop, text, len(calls)) == ("end", "", 1), answer.text
        name, arguments = calls[0]
        assert name in names
        jsonschema.validate(arguments, SCHEMAS[name])


CALL = {
    "tags": '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
    "list": '[{"name": "now", "arguments": {}}]',
}
TWO = {
    "tags": f"{CALL['tags']}\n{CALL['tags']}",
    "list": '[{"name": "now", "arguments": {}}, {"name":"now","arguments":{}}]',
}


@pytest.mark.parametrize("form", READERS)
def test_how_many_calls_there_may_be(engine, form):
    for use in (MUST, ToolUse(must=True, most=1)):
        grammar = call_grammar(form, TOOLS, use)
        assert may_stand(engine, grammar, CALL[form])
        assert may_stand(engine, grammar, TWO[form]) == (use.most is None)
        assert not may_stand(engine, grammar, "Hello", whole=False)
        assert not may_stand(engine, grammar, "")


@pytest.mark.parametrize("form", READERS)
def test_text_stays_free_and_no_call_but_the_allowed_can_be_begun(engine, form):
    """Without a need to call; what would be read as a call to another function can't be written."""
    grammar = call_grammar(form, TOOLS, ToolUse(names=frozenset({"now"})))
    for text in ("", "Hello <b> [1, 2] [{}] {", f"Let me look.\n{CALL[form]}", CALL[form], TWO[form]):
        assert may_stand(engine, grammar, text), text
    begin = "<tool_call>" if form == "tags" else "["
    for text in (f'{begin}{{"name": "stock', f'{begin} {{ "name" :"stock', f'Hm. {begin}{{"name": "nowhere'):
        assert not may_stand(engine, grammar, text, whole=False), text


@pytest.mark.parametrize("form", READERS)
def test_json_or_calls(engine, form):
    grammar = call_grammar(form, TOOLS, ToolUse(), ANSWER)
    assert may_stand(engine, grammar, '{"ok": true}') and may_stand(engine, grammar, CALL[form])
    for text in ("Hello", '{"no', '{"ok": true} and'):
        assert not may_stand(engine, grammar, text, whole=False)
    assert not may_stand(engine, call_grammar(form, TOOLS, MUST, ANSWER), '{"ok": true}', whole=False)


def test_a_grammar_is_for_what_needs_one():
    strict = [{"type": "function", "function": {"name": "f", "strict": True}}]
    assert not is_needed(TOOLS, ToolUse(most=1), None) and not is_needed([], MUST, ANSWER)
    assert (
        is_needed(TOOLS, MUST, None)
        and is_needed(TOOLS, ToolUse(), ANSWER)
        and is_needed(strict, ToolUse(), None)
    )
    assert is_needed(TOOLS, ToolUse(names=frozenset({"now"})), None)


@pytest.mark.parametrize("form", READERS)
def test_the_tool_whose_schema_can_not_be_held_to_is_named(form):
    bad = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"not": {}}}}}}
    with pytest.raises(RequestError) as caught:
        call_grammar(form, [*TOOLS, bad], MUST)
    assert (caught.value.where, caught.value.code) == ("tools[3].function.parameters", "invalid_json_schema")
    call_grammar(form, [*TOOLS, bad], ToolUse(names=frozenset({"now"})))
