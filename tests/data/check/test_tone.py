"""Odd tone and drift: what no other output has is found, and what many have is not."""

from __future__ import annotations

import pytest

from journeyman.data.check.rule import Conversation, Rows, Sample, pair
from journeyman.data.check.rules import RULES
from journeyman.data.check.voice import voice_of
from journeyman.records import Example, Message, Place

RULE = {rule.code: rule for rule in RULES}
THINGS = [f"{colour} {thing}" for thing in ["mug", "lamp", "wick", "rug", "brush", "soap", "kettle", "bowl"] for colour in ("blue", "red", "old", "new", "big")]
CALM = [pair(f"Is the {thing} back?", f"We are glad that you like the {thing}. The page says when it is back.") for thing in THINGS]


def found(code: str, rows: Rows) -> list[tuple[int, str]]:
    return [(row.place.line, row.note) for finding in RULE[code].find(rows) for row in finding.rows]


@pytest.mark.parametrize(
    ("text", "marker"),
    [
        ("Great!", "exclamation marks"),
        ("Fine \U0001f600", "emoji"),
        ("Fine :)", "emoji"),
        ("YOU MUST WAIT", "words in capitals"),
        ("It’s here", "contractions"),
        ("I can't", "contractions"),
        ("Perhaps.", "hedging"),
        ("gonna be late", "slang"),
        ("Please be advised that", "stiff wording"),
        ("As I said, it is gone", "scorn"),
    ],
)
def test_a_marker_is_heard(text: str, marker: str) -> None:
    assert marker in voice_of(text).markers


def test_nothing_is_heard_where_nothing_is() -> None:
    voice = voice_of("The HR-20418 of Anna's is at the page of the USA; 10:30 (see 4:3).")
    assert voice.markers == frozenset()
    assert voice_of("") .words == 0


@pytest.mark.parametrize(
    "output",
    [
        "It is back!!! Grab it, dude.",
        "Please be advised that the item shall be restocked in accordance with the schedule.",
        "READ THE PAGE, it is your own fault if it is gone by now.",
        "Yes " * 400,
    ],
)
def test_the_output_that_sounds_unlike_the_others_is_found(output: str) -> None:
    rows = Sample([*CALM[:20], pair("Is the jug back?", output), *CALM[20:]]).rows()
    assert [line for line, _ in found("odd_tone", rows)] == [21]


def test_what_many_say_is_not_odd_and_labels_have_no_tone() -> None:
    loud = [pair(f"Is the {thing} back?", f"Yes, the {thing} is back again, and we are so glad! Thank you!") for thing in THINGS]
    assert found("odd_tone", Sample(CALM).rows()) == []
    assert found("odd_tone", Sample([*CALM, *loud]).rows()) == []
    labels = [pair(f"Is the {thing} back?", "stock") for thing in THINGS]
    assert found("odd_tone", Sample([*labels, pair("?", "STOCK NOW!")]).rows()) == []
    assert found("odd_tone", Sample([*CALM[:10], pair("?", "NO IDEA, dude!!")]).rows()) == [], "of eleven rows nothing is usual"


LOUD = [pair(f"Is the jug number {n} back?", f"It is back!!! Grab jug {n}, dude.") for n in range(3)]


def test_an_odd_output_is_found_wherever_the_split_has_put_it() -> None:
    rows = Sample([*CALM, *LOUD]).rows().train
    (finding,) = RULE["odd_tone"].find(Rows([*rows[:30], rows[40]], [*rows[30:35], rows[41]], [*rows[35:40], rows[42]]))
    assert [row.split for row in finding.rows] == ["train", "validation", "held_out"]
    assert (finding.numbers["rows"], finding.numbers["of"]) == (3, 43)


def test_how_few_have_it_is_counted() -> None:
    (finding,) = RULE["odd_tone"].find(Sample([*CALM, LOUD[0]]).rows())
    assert "slang, as no other has" in finding.message
    (finding,) = RULE["odd_tone"].find(Sample([*CALM, *LOUD]).rows())
    assert "as 3 of 43 have" in finding.message


def test_tool_calls_have_no_tone() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    calls = [Example((Message("user", f"find {n}"), Message("assistant", tool_calls=(call,))), Place("examples.jsonl", 100 + n)) for n in range(10)]
    assert list(RULE["odd_tone"].find(Rows([*Sample(CALM).rows().train, *calls]))) == []
    (finding,) = RULE["odd_tone"].find(Rows([*calls, *Sample([*CALM, LOUD[0]]).rows().train]))
    assert [row.place.line for row in finding.rows] == [41] and finding.numbers["of"] == 41


def curt(thing: str) -> Conversation:
    return pair(f"Where is the {thing}?", f"It's sent, I can't say more about the {thing}. You'll see it on its way!")


def test_a_voice_that_changes_in_the_middle_of_the_file_is_a_drift() -> None:
    (finding,) = RULE["tone_drift"].find(Sample([*CALM, *map(curt, THINGS)]).rows())
    assert "from the middle of examples.jsonl on" in finding.message and "contractions" in "".join(finding.numbers["effects"])
    assert finding.rows[0].place.line == 41
    mixed = [row for rows in zip(CALM, map(curt, THINGS), strict=True) for row in rows]
    assert list(RULE["tone_drift"].find(Sample(mixed).rows())) == []


def test_another_file_in_another_voice_is_a_drift() -> None:
    (finding,) = RULE["tone_drift"].find(Sample(CALM, held_out=[curt(thing) for thing in THINGS]).rows())
    assert "in held_out.jsonl, against examples.jsonl" in finding.message
    assert {row.split for row in finding.rows} == {"held_out"}
    assert list(RULE["tone_drift"].find(Sample(CALM, held_out=CALM).rows())) == []


NO_MONEY = {"type": "regex", "name": "no money", "pattern": "refund", "operation": "no_match"}
SHORT = {"type": "length", "name": "short", "max_words": 30}


def test_an_ideal_that_fails_its_own_grader_is_found_with_the_grader() -> None:
    rows = Sample([*CALM[:3], pair("?", "You get a refund."), pair("?", "refund " * 40)], held_out=[pair("?", "A refund.")], graders=[NO_MONEY, SHORT])
    (finding,) = RULE["ideal_fails_grader"].find(rows.rows())
    assert [(row.split, row.place.line, row.note) for row in finding.rows] == [
        ("train", 5, "fails no money, short"), ("train", 4, "fails no money"), ("held_out", 1, "fails no money"),
    ]  # fmt: skip
    assert finding.numbers["graders"] == {"no money": 3, "short": 1}
    assert list(RULE["ideal_fails_grader"].find(Sample(CALM[:3], graders=[NO_MONEY, SHORT]).rows())) == []
    assert list(RULE["ideal_fails_grader"].find(Sample(CALM).rows())) == []


def test_a_grader_that_can_not_be_used_is_named_with_its_field() -> None:
    (finding,) = RULE["unusable_grader"].find(Sample(CALM[:1], graders=[{**NO_MONEY, "operation": "never"}]).rows())
    assert "operation" in finding.message and "no money" in finding.message
    assert list(RULE["ideal_fails_grader"].find(Sample(CALM[:1], graders=[{"type": "?"}]).rows())) == []
