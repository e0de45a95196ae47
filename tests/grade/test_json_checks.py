import json

import pytest

from journeyman.grade.parse import parse
from journeyman.grade.score import Sample

SCHEMA = {
    "type": "object",
    "required": ["name", "price"],
    "additionalProperties": False,
    "properties": {"name": {"type": "string"}, "price": {"type": ["string", "null"]}},
}


def grade(grader, text, **item):
    return parse([{"name": "g", **grader}])[0].grade(Sample(text), item)


@pytest.mark.parametrize(
    ("text", "passed", "words"),
    [
        ('{"name": "a", "price": null}', True, None),
        ('{"name": "a"}', False, "'price' is a required property"),
        ('{"name": "a", "price": 3}', False, "$.price"),
        ('{"name": "a", "price": null, "x": 1}', False, "'x' was unexpected"),
        ('{"name": "a", "name": "b", "price": null}', False, "twice"),
        ('Sure! {"name": "a", "price": null}', False, "not JSON"),
    ],
)
def test_schema(text, passed, words):
    score = grade({"type": "json_schema", "schema": SCHEMA}, text)
    assert (score.value, score.passed) == (float(passed), passed)
    assert score.error is None if words is None else words in score.error


@pytest.mark.parametrize("schema", [{"$ref": "https://example.invalid/s.json"}, {"$ref": "#/$defs/nope"}])
def test_a_schema_that_leads_nowhere_is_an_error_in_the_score(schema):
    score = grade({"type": "json_schema", "schema": schema}, "{}")
    assert (score.value, score.passed) == (None, None)


@pytest.mark.parametrize(
    ("output", "value"),
    [
        ({"a": 1, "b": "x", "c": None, "d": [1]}, 1),
        ({"d": [1], "c": None, "b": "x", "a": 1.0}, 1),
        ({"a": 1, "b": "y", "c": None, "d": [1]}, 3 / 4),
        ({"a": 1, "b": "x", "d": [1]}, 3 / 4),
        ({"a": 1, "b": "x", "c": None, "d": [1], "e": 0}, 4 / 5),
        ({}, 0),
        ({"a": True, "b": "X", "c": "", "d": [1, 1]}, 0),
    ],
)
def test_json_equal_is_the_share_of_equal_keys(output, value):
    ideal = json.dumps({"a": 1, "b": "x", "c": None, "d": [1]})
    score = grade({"type": "json_equal"}, json.dumps(output), ideal=ideal)
    assert score.value == pytest.approx(value)
    assert score.passed is (value == 1)


def test_json_equal_blames_the_output_or_the_row():
    assert grade({"type": "json_equal"}, "[]", ideal="{}").passed is False
    assert grade({"type": "json_equal"}, "nope", ideal="{}").passed is False
    assert grade({"type": "json_equal"}, "{}", ideal="nope").passed is None
    assert grade({"type": "json_equal"}, "{}", ideal="[]").value is None
