"""What training hardly shows, and what only a few rows ask about."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from journeyman.data.check import coverage
from journeyman.data.check.finding import Finding
from journeyman.data.check.rule import Asked, Rows, pair
from journeyman.data.check.rules import RULES
from journeyman.records import Example, Place

THINGS = ("mug", "bowl", "vase", "teapot", "plate", "jug")
COLOURS = ("blue", "green", "white", "brown")
ASKED = ("back in the shop again", "safe to put in the oven", "sold with a lid", "made by hand in Graz")
KNOWN = [f"is the {colour} {thing} {asked}" for colour in COLOURS for thing in THINGS for asked in ASKED]
FOREIGN = [
    f"which courier brings parcels to {town} on Sundays"
    for town in ("Lyon", "Ghent", "Turku", "Porto", "Split", "Bruges")
]
ALIKE = [f"is the grey {thing} {asked}" for thing in THINGS for asked in ASKED]


def _examples(inputs: Sequence[str], file: str) -> list[Example]:
    return [
        Example(pair(text, f"This is answer {n}, in a sentence."), Place(file, n))
        for n, text in enumerate(inputs, 1)
    ]


def _rows(train: Sequence[str], held_out: Sequence[str] = (), against: Sequence[str] = ()) -> Rows:
    asked = [Asked(text, Place("traffic.jsonl", n)) for n, text in enumerate(against, 1)]
    return Rows(
        _examples(train, "train.jsonl"),
        held_out=_examples(held_out, "held_out.jsonl"),
        training_file_rows=len(train),
        against=asked,
    )


def _found(code: str, rows: Rows) -> list[Finding]:
    return [finding for rule in RULES if rule.code == code for finding in rule.find(rows)]


def test_traffic_on_another_subject_is_named_row_by_row_and_counted() -> None:
    (finding,) = _found("hardly_shown", _rows(KNOWN, against=[*ALIKE, *FOREIGN]))
    assert finding.severity == "warning"
    assert [(row.split, row.index) for row in finding.rows] == [
        ("against", len(ALIKE) + n) for n in range(len(FOREIGN))
    ]
    assert finding.numbers["rows"] == len(FOREIGN) and finding.numbers["of"] == len(ALIKE) + len(FOREIGN)


def test_a_single_far_row_of_much_traffic_is_for_information() -> None:
    (finding,) = _found("hardly_shown", _rows(KNOWN, against=[*ALIKE * 2, FOREIGN[0]]))
    assert (finding.severity, len(finding.rows)) == ("info", 1)


@pytest.mark.parametrize("given", ["held_out", "against"])
def test_what_asks_as_training_does_is_no_finding(given: str) -> None:
    assert not _found("hardly_shown", _rows(KNOWN, **{given: ALIKE}))


def test_held_out_rows_of_another_subject_are_a_warning() -> None:
    (finding,) = _found("hardly_shown", _rows(KNOWN, held_out=[*ALIKE, *FOREIGN]))
    assert finding.severity == "warning"
    assert {row.place for row in finding.rows} == {
        Place("held_out.jsonl", len(ALIKE) + 1 + n) for n in range(len(FOREIGN))
    }


def test_words_that_training_has_not_make_a_row_far_though_it_shares_others() -> None:
    (finding,) = _found(
        "hardly_shown",
        _rows(
            KNOWN, against=[*ALIKE, "is the refrigerator compressor humming loudly near microwave antennas"]
        ),
    )
    assert [row.index for row in finding.rows] == [len(ALIKE)]


@pytest.mark.parametrize("count", [1, 4])
def test_a_subject_with_few_rows_is_named_whole(count: int) -> None:
    (finding,) = _found("thin_subjects", _rows([*KNOWN, *FOREIGN[:count]]))
    assert sorted(row.index for row in finding.rows) == [len(KNOWN) + n for n in range(count)]
    assert finding.numbers["subjects"] == 1


def test_a_subject_with_rows_enough_and_rows_that_are_all_alike_are_no_finding() -> None:
    assert not _found("thin_subjects", _rows([*KNOWN, *FOREIGN]))
    assert not _found("thin_subjects", _rows(KNOWN))


def test_labels_are_counted_by_another_rule() -> None:
    rows = [
        Example(pair(text, "yes" if n % 2 else "no"), Place("train.jsonl", n))
        for n, text in enumerate([*KNOWN, FOREIGN[0]], 1)
    ]
    assert not _found("thin_subjects", Rows(rows, training_file_rows=len(rows)))


def test_of_more_rows_than_are_drawn_none_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "KNOWN_ROWS", 40)
    train = [*KNOWN[:50], *FOREIGN, *KNOWN[50:]]
    assert not [
        row
        for finding in _found("thin_subjects", _rows(train))
        for row in finding.rows
        if 50 <= row.index < 56
    ]
    asked = [
        *ALIKE,
        "which courier brings parcels to Lyon on Mondays",
        "how tall is the church tower over there",
    ]
    named = {
        row.index for finding in _found("hardly_shown", _rows(train, against=asked)) for row in finding.rows
    }
    assert len(ALIKE) not in named and len(ALIKE) + 1 in named


def test_rows_without_a_telling_word_are_no_failure() -> None:
    rows = _rows(["a", "?!"] * 20, held_out=["the"])
    found = {finding.code for rule in coverage.RULES for finding in rule.find(rows)}
    assert found <= {"thin_subjects"}


def test_a_subject_that_shares_its_words_with_others_is_named_by_the_company_it_keeps() -> None:
    shops = [f"{shop} {number}" for shop in ("north", "south", "east", "west") for number in range(20)]
    known = [f"is the {thing} {asked} in {shop}" for shop in shops for thing, asked in zip(THINGS[:4], ASKED, strict=True)]
    left_out = [f"can the {thing} be engraved with a name in {shop}" for thing in THINGS[:2] for shop in shops[:6]]
    alike = [" ".join(reversed(text.split())) for text in known[::5]]
    (finding,) = _found("hardly_shown", _rows(known, against=[*alike, *left_out]))
    assert {row.index for row in finding.rows} == {len(alike) + n for n in range(len(left_out))}


def test_a_file_that_is_another_as_a_whole_is_said_to_be_so_and_is_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many rows keep each other's company as are named; that is the only thing replaced here."""
    named = len(ALIKE) // 2 + 1
    monkeypatch.setattr(coverage, "_company_of_others", lambda shown, others, groups: [(i, 0.9) for i in range(min(named, len(groups)))])
    (finding,) = _found("hardly_shown", _rows(KNOWN, held_out=ALIKE))
    assert (finding.severity, "the file as a whole is another" in finding.message) == ("info", True)
    named -= 1
    (finding,) = _found("hardly_shown", _rows(KNOWN, held_out=ALIKE))
    assert (finding.severity, "ask what training hardly shows" in finding.message) == ("warning", True)
