"""The advice of a comparison: few rules, computed from the scored rows, in plain words with their numbers.

Five paired differences decide, corrected together (Holm): fine-tuned against the best prompt, documents against the best
prompt, fine-tuned against documents, and fine-tuned with documents against each of the two. The first rule that
holds gives the verdict:

1. `not_enough_rows`: no fine-tuned model or no prompt was measured.
2. `both`: fine-tuned with documents is better than fine-tuned alone and than documents alone.
3. `retrieval`: documents are better than the best prompt, and fine-tuning is not better than documents.
4. `classifier`: fine-tuning is better than the prompt, and a plain classifier is as good as it or better.
5. `fine_tune`: fine-tuning is better than the best prompt.
6. `not_enough_rows`: the rows could have missed a difference that is worth having.
7. `none`: no contender does the task at all (HOPELESS).
8. `prompt`: none of these; the prompt is the cheapest.

The best prompt is the one that scores highest on these very rows. That flatters the prompt a little, so that
advice to fine-tune is the harder to earn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from journeyman.evaluate.contenders import Role
from journeyman.evaluate.judgement import (
    USEFUL,
    USEFUL_MEAN,
    Judgement,
    Values,
    corrected,
    is_pass_or_fail,
    judged,
    score_of,
)
from journeyman.evaluate.statistics import LEVEL, Interval, Missing

AdviceVerdict = Literal["prompt", "retrieval", "fine_tune", "both", "classifier", "none", "not_enough_rows"]
IN_WORDS: dict[AdviceVerdict, str] = {
    "prompt": "stay with the prompt",
    "retrieval": "use retrieval",
    "fine_tune": "fine-tune",
    "both": "fine-tune, and use retrieval with it",
    "classifier": "use a plain classifier",
    "none": "none of these does the task",
    "not_enough_rows": "not enough rows to tell",
}

HOPELESS = 0.05
"""Where even the best scores below this, the cheapest is no advice: it would be kept for nothing."""

POOR = 0.5
"""A winner that scores below this is said to be poor: better is not yet good."""

FACTS_SHARE = 0.02
"""From this share of training outputs with facts that change on, the advice says so (the data check's own limit)."""


@dataclass(frozen=True, slots=True)
class Contested:
    """What the advice looks at of a contender."""

    name: str
    title: str
    role: Role
    values: Values


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts that change, as the data check tells them: in training outputs, and in held-out ideals that the model missed."""

    training_rows: int
    rows_with_facts: int
    missed: tuple[str, ...] = ()
    """Held-out rows whose ideal states such a fact, and which the fine-tuned model got wrong: place and fact."""

    failed: int = 0
    """Held-out rows that the fine-tuned model got wrong."""


@dataclass(frozen=True, slots=True)
class Advice:
    """The verdict with its reason, and what else should be known before acting on it."""

    verdict: AdviceVerdict
    reason: str
    remarks: tuple[str, ...] = ()
    rows_needed: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The advice as `compare --json` gives it."""
        return {
            "verdict": self.verdict,
            "in_words": IN_WORDS[self.verdict],
            "reason": self.reason,
            "remarks": list(self.remarks),
            "rows_needed": self.rows_needed,
        }


def advise(contested: Sequence[Contested], facts: Facts | None = None) -> Advice:
    """The first rule that holds, with its numbers."""
    field = _Field(contested)
    verdict, reason, needed = _decide(field)
    return Advice(verdict, reason, tuple(_remarks(field, verdict, facts)), needed)


class _Field:
    """The best contender of each role, and the differences between them."""

    def __init__(self, contested: Sequence[Contested]) -> None:
        self.pass_or_fail = is_pass_or_fail([c.values for c in contested])
        self._best: dict[Role, Contested] = {}
        for one in contested:
            score, best = self.score(one), self._best.get(one.role)
            if score is not None and (best is None or score > (self.score(best) or 0.0)):
                self._best[one.role] = one
        pairs: list[tuple[Role, Role]] = [
            ("prompt", "tuned"), ("prompt", "retrieval"), ("retrieval", "tuned"), ("tuned", "both"), ("retrieval", "both"),
        ]  # fmt: skip
        known = [p for p in pairs if p[0] in self._best and p[1] in self._best]
        raw = [self._judged(*pair) for pair in known]
        self._differences = dict(zip(known, corrected(raw), strict=True))
        self.level = 1 - (1 - LEVEL) / max(1, len(known))
        """What one of the differences must reach by itself at most, so that it still holds after the correction."""

        # the classifier needs no correction: it is asked whether it is worse, not whether it is better
        self.outsider_against_tuned = (
            self._judged("tuned", "outsider") if {"tuned", "outsider"} <= self._best.keys() else None
        )

    @property
    def best_scores(self) -> list[float]:
        """The score of the best of each role."""
        return [score for one in self._best.values() if (score := self.score(one)) is not None]

    def __getitem__(self, role: Role) -> Contested:
        return self._best[role]

    def has(self, *roles: Role) -> bool:
        return all(role in self._best for role in roles)

    def score(self, one: Contested) -> float | None:
        value = score_of(one.values, pass_or_fail=self.pass_or_fail).value
        return None if isinstance(value, Missing) else value

    def difference(self, before: Role, after: Role) -> Judgement | None:
        return self._differences.get((before, after))

    def is_better(self, before: Role, after: Role) -> bool:
        difference = self.difference(before, after)
        return difference is not None and difference.outcome == "better"

    def shown(self, role: Role) -> str:
        one = self[role]
        score = self.score(one)
        assert score is not None
        value = f"{score:.1%}" if self.pass_or_fail else f"{score:.3f}"
        return f"{one.title} ({value})"

    def points(self, judgement: Judgement) -> str:
        if isinstance(judgement.difference, Missing):
            return "no data"
        unit = " points" if self.pass_or_fail else ""
        text = f"{self._signed(judgement.difference)}{unit}"
        if isinstance(judgement.interval, Interval):
            low, high = self._signed(judgement.interval.low), self._signed(judgement.interval.high)
            text += f", 95% interval {low} to {high}"
        return text

    def _signed(self, value: float) -> str:
        return f"{100 * value:+.1f}" if self.pass_or_fail else f"{value:+.3f}"

    def _judged(self, before: Role, after: Role) -> Judgement:
        return judged(self[before].values, self[after].values, pass_or_fail=self.pass_or_fail)


def _decide(field: _Field) -> tuple[AdviceVerdict, str, int | None]:
    if not field.has("prompt", "tuned"):
        missing = "a prompt" if field.has("tuned") else "a fine-tuned model"
        return "not_enough_rows", f"Nothing can be said: {missing} was not measured.", None
    tuned = field.difference("prompt", "tuned")
    assert tuned is not None
    if field.is_better("tuned", "both") and field.is_better("retrieval", "both"):
        with_documents, without = field.difference("tuned", "both"), field.difference("retrieval", "both")
        assert with_documents and without
        reason = (
            f"{field.shown('both')} is better than {field.shown('tuned')} ({field.points(with_documents)}) "
            f"and than {field.shown('retrieval')} ({field.points(without)})."
        )
        return "both", reason, None
    retrieval = field.difference("prompt", "retrieval")
    if retrieval is not None and retrieval.outcome == "better" and not field.is_better("retrieval", "tuned"):
        reason = (
            f"{field.shown('retrieval')} is better than the best prompt, {field.shown('prompt')} "
            f"({field.points(retrieval)}), and fine-tuning ({field.shown('tuned')}) is not better than it."
        )
        return "retrieval", reason, None
    if tuned.outcome == "better":
        return _tune_or_classify(field, tuned)
    if tuned.outcome == "not_enough_rows":
        return "not_enough_rows", *_too_few(field, tuned)
    if max(field.best_scores) < HOPELESS:
        return "none", _none(field), None
    return "prompt", _stay(field, tuned), None


def _none(field: _Field) -> str:
    best = max(field.best_scores)
    shown = f"{best:.1%}" if field.pass_or_fail else f"{best:.3f}"
    return (
        f"The best of all scores {shown}: this base does not do the task by prompt, and did not learn it from these rows. Try a "
        "larger base or more rows, or ask for less in one answer."
    )


def _tune_or_classify(field: _Field, tuned: Judgement) -> tuple[AdviceVerdict, str, None]:
    gain = f"{field.shown('tuned')} is better than the best prompt, {field.shown('prompt')} ({field.points(tuned)})"
    outsider = field.outsider_against_tuned
    if outsider is not None and outsider.outcome in ("better", "no_difference_seen"):
        how = "better still" if outsider.outcome == "better" else "not seen to be worse"
        reason = (
            f"{gain}, but {field.shown('outsider')} is {how} ({field.points(outsider)} against the fine-tuned model), "
            "and it is far cheaper to train and to run."
        )
        return "classifier", reason, None
    return "fine_tune", f"{gain}.", None


def _too_few(field: _Field, tuned: Judgement) -> tuple[str, int | None]:
    """The reason, and the rows that are needed: for the difference seen, or for one that would be worth having."""
    least = 0.1 if field.pass_or_fail else USEFUL_MEAN
    seen = tuned.difference
    size = least if isinstance(seen, Missing) or abs(seen) < least else seen
    needed = tuned.rows_for(size, field.level)
    assert not isinstance(needed, Missing)
    shown = f"{100 * abs(size):.0f} points" if field.pass_or_fail else f"{abs(size):.2f}"
    more = max(0, needed - tuned.rows)
    return (
        f"{tuned.rows} held-out rows can't tell {field.shown('tuned')} from the best prompt, {field.shown('prompt')} "
        f"({field.points(tuned)}). A true difference of {shown} would show four times in five on about {needed:,} rows: "
        f"{more:,} more."
    ), needed


def _stay(field: _Field, tuned: Judgement) -> str:
    if tuned.outcome == "worse":
        return (
            f"{field.shown('tuned')} is worse than the best prompt, {field.shown('prompt')} ({field.points(tuned)})."
        )
    limit = "" if isinstance(tuned.smallest_detectable, Missing) else (
        f"; a true difference of {100 * tuned.smallest_detectable:.0f} points would have shown"
        if field.pass_or_fail
        else f"; a true difference of {tuned.smallest_detectable:.3f} would have shown"
    )  # fmt: skip
    return (
        f"Nothing gained by fine-tuning is seen: the best prompt, {field.shown('prompt')}, against {field.shown('tuned')} "
        f"({field.points(tuned)}){limit}. The prompt is the cheapest to keep and to change."
    )


def _remarks(field: _Field, verdict: AdviceVerdict, facts: Facts | None) -> list[str]:
    out = []
    scores = field.best_scores
    if scores and max(scores) < POOR and verdict != "none":
        best = f"{max(scores):.1%}" if field.pass_or_fail else f"{max(scores):.3f}"
        out.append(
            f"Better is not yet good: the best of all scores {best}. A larger base or more rows come before any of this."
        )
    if facts is not None and facts.training_rows and facts.rows_with_facts >= FACTS_SHARE * facts.training_rows:
        out.append(
            f"{facts.rows_with_facts:,} of {facts.training_rows:,} training outputs state facts that change "
            "(prices, dates, stock, ...): give them with the request by retrieval, do not train them in."
        )
    if facts is not None and facts.missed:
        shown = "; ".join(facts.missed[:3])
        out.append(
            f"{len(facts.missed)} of the {facts.failed} held-out rows that the fine-tuned model gets wrong ask for facts "
            f"that change: {shown}."
        )
    if verdict == "fine_tune":
        out.append("What it forgot elsewhere is not measured here: `journeyman evaluate` shows it.")
    return out


__all__ = ["IN_WORDS", "USEFUL", "Advice", "Contested", "Facts", "advise"]
