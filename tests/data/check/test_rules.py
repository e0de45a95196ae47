"""Every rule keeps the promises of `Rule`, whatever it looks for."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.data.check.finding import (
    SEVERITIES,
    Drop,
    Finding,
    FoundRow,
    Replace,
    Report,
    SetOutput,
    report_from_dict,
)
from journeyman.data.check.rule import Rows, Rule
from journeyman.data.check.rules import RULES, check
from journeyman.records import Example, Message, Place

EVERY = pytest.mark.parametrize("rule", RULES, ids=[rule.code for rule in RULES])


@EVERY
def test_a_rule_finds_its_own_sample(rule: Rule) -> None:
    found = list(rule.find(rule.example.rows()))
    assert found
    for finding in found:
        assert finding.code == rule.code
        assert SEVERITIES.index(finding.severity) >= SEVERITIES.index(rule.severity)
        assert finding.message and finding.fix
    assert rule.severity in {finding.severity for finding in found}
    shown = Report(tuple(found)).as_dict()
    assert report_from_dict(json.loads(json.dumps(shown, allow_nan=False))).as_dict() == shown


@EVERY
def test_a_rule_says_what_it_is(rule: Rule) -> None:
    assert all([rule.title, rule.meaning, rule.why, rule.mend])
    assert [other.code for other in RULES].count(rule.code) == 1


@EVERY
def test_a_rule_finds_nothing_in_nothing_but_too_few_rows(rule: Rule) -> None:
    assert rule.code == "invalid_n_examples" or list(rule.find(Rows(train=[]))) == []


TEXTS = st.text(max_size=30) | st.sampled_from(["yes", "no", '{"a": 1}', "Hello,\n\nit is 3.50 €.\n\nBye", "0", "\n"])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS, st.booleans()), max_size=25))
def test_no_rows_make_a_rule_raise_and_the_same_rows_give_the_same_findings(
    texts: list[tuple[str, str, bool]],
) -> None:
    examples = [
        Example((Message("user", said), Message("assistant", output)), Place("x.jsonl", line))
        for line, (said, output, _) in enumerate(texts, 1)
    ]
    train = [e for e, (_, _, trained) in zip(examples, texts, strict=True) if trained]
    held_out = [e for e, (_, _, trained) in zip(examples, texts, strict=True) if not trained]
    reports = [check(Rows(train, held_out=held_out, training_file_rows=len(train))) for _ in range(2)]
    assert reports[0] == reports[1]
    assert report_from_dict(json.loads(json.dumps(reports[0].as_dict(), allow_nan=False))) == reports[0]
    for finding in reports[0].findings:
        for row in finding.rows:
            of_split = {"train": train, "held_out": held_out}[row.split]
            assert of_split[row.index].place == row.place


def test_a_report_is_as_bad_as_its_worst_finding_and_says_what_to_do_first() -> None:
    bad, odd, fyi = (Finding(s, s, "m", (), f"mend {s}") for s in SEVERITIES)
    assert Report(()).as_dict() == {"verdict": "ok", "ready": "ready", "first": [], "findings": []}
    assert Report((fyi,)).verdict == "ok"
    assert (Report((odd, fyi)).verdict, Report((odd,)).as_dict()["ready"]) == ("warnings", "ready with remarks")
    worst = Report((bad, bad, odd, odd, fyi)).as_dict()
    assert (worst["verdict"], worst["ready"]) == ("errors", "not yet")
    assert [item["do"] for item in worst["first"]] == ["mend error", "mend error", "mend warning"]
    assert Report((odd, fyi)).first == (odd,)


@pytest.mark.parametrize("mend", [None, Drop(), Replace((("a", "b"), ("c", ""))), SetOutput("x")])
def test_a_mend_is_read_back(mend: Drop | Replace | SetOutput | None) -> None:
    row = FoundRow(Place("x.csv", 3), "train", 2, "why", mend)
    report = Report((Finding("c", "info", "m", (row,), "f", {"n": [1, {"a": 0.5}]}),))
    read = report_from_dict(json.loads(json.dumps(report.as_dict())))
    # What is private is not stored: of a replacement only what is written is read back.
    assert read == report or isinstance(mend, Replace)
    assert read.as_dict() == report.as_dict()


def test_nothing_that_is_shown_has_what_is_private_in_clear() -> None:
    key = "ghp_" + "q7Zt2mXv9LbR4cWn8HsK1dq7Zt2mXv9LbR4c"
    secret = FoundRow(Place("x", 1), "train", 0, "secret ghp…", Replace(((key, "[SECRET_1]"),)))
    other = FoundRow(Place("x", 1), "train", 0, f"it says {key}", SetOutput(f"use {key}!"))
    report = Report((Finding("a", "error", "m", (secret,), "f"), Finding("b", "warning", f'answered "{key}"', (other,), "f"))).masked()
    assert key not in json.dumps(report.as_dict())
    assert key not in "".join(f.message + row.note for f in report.findings for row in f.rows)
    mends = [row.mend for f in report.findings for row in f.rows]
    assert mends == [Replace(((key, "[SECRET_1]"),)), SetOutput(f"use {key}!")], "`--fix` has them still"


def test_rows_know_their_split_and_place_in_it() -> None:
    def example(line: int, file: str) -> Example:
        return Example((Message("user", "q"), Message("assistant", "a")), Place(file, line))

    rows = Rows(
        [example(1, "t"), example(2, "t")], [example(1, "v")], [example(1, "h"), example(1, "h")]
    )
    found = [rows.found(index) for index in range(5)]
    assert [(row.split, row.index) for row in found] == [
        ("train", 0), ("train", 1), ("validation", 0), ("held_out", 0), ("held_out", 1),
    ]  # fmt: skip
