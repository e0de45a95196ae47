"""All rules about a dataset, in order of harm within a severity, and the check that runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from journeyman.data.check import (
    bias,
    contradiction,
    coverage,
    facts,
    form,
    graded,
    labels,
    leakage,
    learned,
    private,
    repetition,
    shape,
    tone,
)
from journeyman.data.check.finding import SEVERITIES, Finding, Report
from journeyman.data.check.rule import Asked, Checked, Rows, Rule, Tokenized
from journeyman.data.similar import Similar

RULES: tuple[Rule, ...] = (
    *shape.RULES,
    *private.RULES,
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
    on_progress: Callable[[str, int, int], None] = _quiet,
) -> Report:
    """Look at a whole dataset. The findings are the same for the same rows, whatever else is on the machine.

    `input_similarity` are the groups of the inputs, where they are known; they hold without a file to compare with only.
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
    )
    found: list[Finding] = []
    for done, rule in enumerate(RULES):
        on_progress(rule.title, done, len(RULES))
        found += rule.find(rows)
    on_progress("", len(RULES), len(RULES))
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Report(tuple(found))
