"""Patterns and schemas that would not end, and what becomes of those that are tried beside them."""

import os
import signal
import threading
import time

import pytest

from journeyman.errors import GraderError
from journeyman.grade import apart
from journeyman.grade.parse import parse
from journeyman.grade.score import Sample

ENDLESS = "(a+)+$"
TEXT = "a" * 40 + "!"
DOUBLING = {
    "$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)} | {"d40": {}},
    "$ref": "#/$defs/d0",
}


def grade(grader, text):
    return parse([{"name": "g", **grader}])[0].grade(Sample(text), {})


@pytest.mark.parametrize(
    ("grader", "text", "named"),
    [
        ({"type": "regex", "pattern": ENDLESS}, TEXT, ENDLESS),
        ({"type": "regex", "pattern": ENDLESS, "operation": "count", "count": 1}, TEXT, ENDLESS),
        ({"type": "json_schema", "schema": {"pattern": f"^{ENDLESS}"}}, f'"{TEXT}"', f"^{ENDLESS}"),
        ({"type": "json_schema", "schema": {"patternProperties": {f"^{ENDLESS}": {}}}}, f'{{"{TEXT}": 1}}', f"^{ENDLESS}"),
        (
            {"type": "json_schema", "schema": {"additionalProperties": False, "patternProperties": {f"^{ENDLESS}": {}}}},
            f'{{"{TEXT}": 1}}',
            f"^{ENDLESS}",
        ),
        (
            {"type": "json_schema", "schema": {"unevaluatedProperties": False, "patternProperties": {f"^{ENDLESS}": {}}}},
            f'{{"{TEXT}": 1}}',
            f"^{ENDLESS}",
        ),
        ({"type": "json_schema", "schema": DOUBLING}, "{}", "schema"),
    ],
)
def test_what_does_not_end_is_no_score_and_names_pattern_and_limit(grader, text, named):
    began_s = time.monotonic()
    score = grade(grader, text)
    assert time.monotonic() - began_s < 20
    assert (score.value, score.passed) == (None, None)
    assert named in score.error and "longer than 1 s" in score.error


def test_others_go_on_meanwhile():
    slow = threading.Thread(target=grade, args=({"type": "regex", "pattern": ENDLESS}, TEXT))
    slow.start()
    graded = 0
    while slow.is_alive():
        assert grade({"type": "regex", "pattern": "a{40}!$"}, TEXT).passed
        graded += 1
    assert graded > 10


def test_a_pattern_that_takes_long_to_read_is_refused():
    started_s = time.monotonic()
    with pytest.raises(GraderError) as caught:
        parse([{"type": "regex", "name": "g", "pattern": "[\0-\uffff]" * 300, "flags": "i"}])
    assert "longer than 1 s" in caught.value.problems[0] and time.monotonic() - started_s < 20


def test_a_pattern_of_more_than_2000_characters_is_refused():
    parse([{"type": "regex", "name": "g", "pattern": "a" * 2000}])
    with pytest.raises(GraderError) as caught:
        parse([{"type": "regex", "name": "g", "pattern": "a" * 2001}])
    assert "2,000 characters" in caught.value.problems[0]


@pytest.mark.parametrize("pattern", ["(" * 1000 + ")" * 1000, "a{99999999999}", "(?P<n"])
def test_a_text_that_is_no_pattern_is_named(pattern):
    with pytest.raises(GraderError) as caught:
        parse([{"type": "regex", "name": "g", "pattern": pattern}])
    assert "not a regular expression" in caught.value.problems[0]


@pytest.mark.parametrize(
    ("pattern", "text", "passed"),
    [("x{e}", "x{e}", True), ("x{e}", "x", False), ("[[:alpha:]]", "a", False), (r"^\w$", "\u0301", False), (r"^\w$", "²", True)],
)
def test_patterns_mean_what_they_mean_in_re(pattern, text, passed):
    assert grade({"type": "regex", "pattern": pattern}, text).passed is passed


def test_a_process_that_somebody_ended_is_replaced():
    checks = apart.Apart("regex")
    question = {"pattern": "a", "flags": 0, "text": "a", "count": False}
    assert checks.ask(question) == {"found": 1}
    (process,) = checks._idle
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert checks.ask(question) == {"found": 1}
