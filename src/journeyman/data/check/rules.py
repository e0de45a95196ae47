"""All rules about a dataset, in order of harm within a severity, and the check that runs them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from journeyman.data.check import (
    bias,
    calls,
    contradiction,
    coverage,
    facts,
    form,
    graded,
    labels,
    leakage,
    learned,
    private_rules,
    repetition,
    shape,
    tone,
)
from journeyman.data.check.aside import Aside, cores
from journeyman.data.check.finding import SEVERITIES, Finding, Report
from journeyman.data.check.rule import Asked, Checked, FindNames, Rows, Rule, Tokenized
from journeyman.data.similar import Similar

RULES: tuple[Rule, ...] = (
    *shape.RULES,
    *private_rules.RULES,
    *calls.RULES,
    *leakage.RULES,
    *contradiction.RULES,
    *labels.RULES,
    *repetition.RULES,
    *form.RULES,
    *graded.RULES,
    *facts.RULES,
    *tone.RULES,
    *coverage.RULES,
    *bias.RULES,
    *learned.RULES,
)

FURTHER = ("cut_rows", "untrainable_rows", "base_not_fetched", "no_row_losses")
"""Codes of findings that only a base model or a training shows."""

CODES: tuple[str, ...] = (*(rule.code for rule in RULES), *FURTHER)
"""What a check can be told to leave out of its report; for other codes `train` would refuse."""

ASIDE: tuple[Rule, ...] = (*labels.RULES, *form.RULES, *facts.RULES, *tone.RULES, *bias.RULES)
"""Rules that share nothing costly with the others, and take about as long as these together."""

MANY_ROWS = 10_000
"""From so many rows on a second process is worth its start."""


def _quiet(_title: str, _done: int, _of: int) -> None:
    """An `on_progress` for callers that do not follow along."""


def check(
    dataset: Checked,
    *,
    against: Sequence[Asked] = (),
    instructions: str = "",
    graders: Sequence[Mapping[str, Any]] = (),
    tokenized: Tokenized | None = None,
    losses: Sequence[Sequence[float]] = (),
    input_similarity: Similar | None = None,
    names: FindNames | None = None,
    on_progress: Callable[[str, int, int], None] = _quiet,
) -> Report:
    """Look at a whole dataset. The findings are the same for the same rows, whatever else is on the machine.

    `input_similarity` are the groups of the inputs, where they are known; they hold without a file to compare with only.
    `names` finds people's names in texts (`names.Names`).
    `on_progress` is told the title of the rule at work, how many are done, and of how many.
    """
    rows = Rows(
        dataset.train,
        dataset.validation,
        dataset.held_out,
        dataset.refused,
        dataset.training_file_rows,
        against,
        instructions,
        graders,
        tokenized,
        losses,
        None if against else input_similarity,
        names,
    )
    found = _found(rows, on_progress)
    on_progress("", len(RULES), len(RULES))
    findings = [finding for rule in RULES for finding in found[rule.code]]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Report(tuple(findings)).masked()


def _found(rows: Rows, on_progress: Callable[[str, int, int], None]) -> dict[str, list[Finding]]:
    """What each rule finds, by its code. With many rows and two cores those of ASIDE run in a process of their own."""
    found: dict[str, list[Finding]] = {}
    aside: Aside | None = None
    try:
        if len(rows.all) >= MANY_ROWS and cores() > 1:
            aside = Aside(_find_aside, replace(rows, tokenized=None, losses=(), known_similarity=None, names=None))
        for rule in RULES:
            if aside is None or rule not in ASIDE:
                on_progress(rule.title, len(found), len(RULES))
                found[rule.code] = list(rule.find(rows))
            found.update(aside.arrived(wait=False) if aside else ())
        for code, findings in aside.arrived(wait=True) if aside else ():
            found[code] = findings
            on_progress(_next_title(found), len(found), len(RULES))
    finally:
        if aside:
            aside.stop()
    for rule in RULES:
        if rule.code not in found:  # the other process has failed
            on_progress(rule.title, len(found), len(RULES))
            found[rule.code] = list(rule.find(rows))
    return found


def _find_aside(rows: Rows) -> Iterator[tuple[str, list[Finding]]]:
    for rule in ASIDE:
        yield rule.code, list(rule.find(rows))


def _next_title(found: Collection[str]) -> str:
    return next((rule.title for rule in ASIDE if rule.code not in found), "")
