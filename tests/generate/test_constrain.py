"""Constrained answers fit their schema, whatever the model would rather write."""

from __future__ import annotations

import json

import jsonschema
import pytest
import torch

import tiny
from journeyman.errors import RequestError
from journeyman.generate.constrain import ANY_OBJECT, Constraint, Vocabulary, json_grammar
from journeyman.generate.engine import Engine, Request
from journeyman.generate.sampling import Sampling

PROMPTS = [tuple(row.ids_T.tolist()) for row in tiny.rows(3, seed=3, shortest=2, longest=30)]


def an_object(**properties):
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


SCHEMAS = {
    "enum": an_object(queue={"enum": ["billing", "Über\u4f60", 3, None]}),
    "root": {"enum": ["refund", "repair"]},
    "number": an_object(n={"type": "integer", "minimum": -5, "maximum": 99}, whole={"type": "boolean"}),
    "nested": an_object(a=an_object(c={"const": "x"})),
    "array": an_object(tags={"type": "array", "items": {"type": "string", "maxLength": 3}, "minItems": 1, "maxItems": 2}),
    "reference": {
        "$defs": {"Day": {"type": "string", "pattern": "^[0-9]{4}-[01][0-9]$"}},
        **an_object(day={"$ref": "#/$defs/Day"}, other={"anyOf": [{"type": "null"}, {"$ref": "#/$defs/Day"}]}),
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def engine(bases) -> Engine:
    return Engine(bases("llama"))


@pytest.mark.parametrize("name", SCHEMAS)
def test_whatever_the_weights_an_answer_fits_its_schema(engine, name):
    """Greedy and sampled, one batch; the same request without a schema answers no JSON."""
    text = json.dumps(SCHEMAS[name])
    samplings = [Sampling(max_tokens=150, json_schema=text)] + [
        Sampling(max_tokens=150, temperature=2, seed=seed, json_schema=text) for seed in range(2)
    ]
    requests = [Request(p, None, s) for p in PROMPTS for s in samplings]
    answers = engine.answers(requests)
    for answer in answers:
        assert answer.stop == "end"
        jsonschema.validate(json.loads(answer.text), SCHEMAS[name])
    assert answers[-1].text == engine.answers(requests[-1:])[0].text, (
        "a batch or a repetition changes the answer"
    )
    with pytest.raises(json.JSONDecodeError):
        json.loads(engine.answers([Request(PROMPTS[0], None, Sampling(max_tokens=20))])[0].text)


def test_rows_with_and_without_a_schema_do_not_touch_each_other(engine):
    plain = Request(PROMPTS[0], None, Sampling(max_tokens=16))
    held = Request(PROMPTS[1], None, Sampling(max_tokens=150, json_schema=json.dumps(SCHEMAS["number"])))
    assert [a.text for a in engine.answers([plain, held])] == [
        engine.answers([r])[0].text for r in (plain, held)
    ]


def test_an_answer_that_is_cut_says_so(engine):
    sampling = Sampling(max_tokens=3, json_schema=json.dumps(SCHEMAS["nested"]))
    answer = engine.answers([Request(PROMPTS[0], None, sampling)])[0]
    assert answer.stop == "length" and answer.text.startswith("{") and answer.usage.completion_tokens == 3


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ('{"type": "objec"}', "Invalid type: objec"),
        ('{"type": "object", "properties": {"a": {"not": {}}}}', "not"),
        ('{"type": "array", "uniqueItems": true}', "uniqueItems"),
        ('{"type": "array", "uniqueItems": true, "x-guidance": {"lenient": true}}', "uniqueItems"),
        ('{"type": "string", "pattern": "(("}', "regex parse error"),
        ('{"$ref": "#/$defs/gone"}', "gone"),
        ('{"$ref": "#"}', "nothing can fit it"),
        ('{"enum": []}', "Unsatisfiable"),
        ('{"items": ' * 300 + "{}" + "}" * 300, "recursion limit"),
        ("[]", "object"),
    ],
)
def test_a_schema_that_can_not_be_followed_is_refused_before_anything_is_answered(engine, schema, reason):
    good = Request(PROMPTS[0], None, Sampling(max_tokens=5))
    bad = Request(PROMPTS[1], None, Sampling(max_tokens=5, json_schema=schema))
    with pytest.raises(RequestError) as caught:
        next(engine.stream([good, bad]))
    assert caught.value.code == "invalid_json_schema" and reason in caught.value.message
    assert caught.value.where == "response_format.json_schema.schema" and "\n" not in caught.value.message


def may_follow(engine: Engine, schema: str, written: str) -> set[int]:
    """The tokens that are allowed after a text."""
    constraint = Constraint(json_grammar(schema), Vocabulary(engine.chat))
    logits_V = torch.zeros(tiny.VOCAB + 7)  # models pad their vocabulary
    for token_id in engine.chat.ids(written):
        assert constraint.mask(logits_V)[token_id] == 0, written
        constraint.take(token_id)
    return set(torch.isfinite(constraint.mask(logits_V)).nonzero().flatten().tolist())


def test_an_answer_ends_where_its_value_is_complete_and_nowhere_else(engine):
    stops, special = set(engine.chat.stop_ids), set(range(len(tiny.SPECIAL)))
    for unfinished in ("", "{", '{"a', '{"a": 1', '{"a": [{}'):
        assert not may_follow(engine, ANY_OBJECT, unfinished) & special, unfinished
    assert may_follow(engine, ANY_OBJECT, '{"a": 1}') & special == stops
    assert max(may_follow(engine, ANY_OBJECT, '{"a')) < tiny.VOCAB


def test_whitespace_does_not_run_on(engine):
    space, tab = engine.chat.ids(" ")[0], engine.chat.ids("\t")[0]
    assert space in may_follow(engine, ANY_OBJECT, "{")
    assert not {space, tab} & may_follow(engine, ANY_OBJECT, "{ ")
    assert not {space, tab} & may_follow(engine, ANY_OBJECT, "{\n" + "\t" * 8)
