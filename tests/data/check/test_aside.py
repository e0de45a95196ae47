"""A check of many rows in two processes finds what a check in one finds."""

from __future__ import annotations

import sys

import pytest

from journeyman.data.check import rules
from journeyman.data.check.aside import Aside
from journeyman.data.check.rule import Rows
from journeyman.data.check.rules import ASIDE, RULES, check

SAMPLES = [rule.example.rows() for rule in RULES]
ROWS = Rows(
    train=[row for sample in SAMPLES for row in sample.train],
    held_out=[row for sample in SAMPLES for row in sample.held_out],
    refused=[row for sample in SAMPLES for row in sample.refused],
    training_file_rows=sum(len(sample.train) for sample in SAMPLES),
)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """What a check of few rows in two processes tells of its progress."""
    monkeypatch.setattr(rules, "MANY_ROWS", 1)
    monkeypatch.setattr(rules, "cores", lambda: 2)
    return []


def test_what_another_process_yields_arrives_in_its_order() -> None:
    aside = Aside(rules._find_aside, ROWS)
    assert list(aside.arrived(wait=True)) == list(rules._find_aside(ROWS))
    assert list(aside.arrived(wait=True)) == []
    aside.stop()


def test_two_processes_find_what_one_finds(told: list[tuple[str, int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    in_two = check(ROWS, on_progress=lambda *step: told.append(step))
    assert {finding.code for finding in in_two.findings} & {rule.code for rule in ASIDE}
    monkeypatch.setattr(rules, "MANY_ROWS", len(ROWS.all) + 1)
    assert in_two == check(ROWS)
    done = [step[1] for step in told]
    assert done == sorted(done) and told[-1] == ("", len(RULES), len(RULES))


@pytest.mark.parametrize("executable", ["no/such/python", "/bin/false"])
def test_a_process_that_does_not_start_or_fails_is_done_without(executable: str, told: list[tuple[str, int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    in_two = check(ROWS, on_progress=lambda *step: told.append(step))
    monkeypatch.setattr(rules, "MANY_ROWS", len(ROWS.all) + 1)
    assert in_two == check(ROWS)


def test_what_can_not_be_handed_over_is_done_here(told: list[tuple[str, int, int]]) -> None:
    graders = [{"type": "text_similarity", "of": lambda: None}]
    assert check(ROWS, graders=graders).findings
