"""Forgetting: what a tuned model lost, against its base, on things that it was not tuned for.

Each skill of the general probe set is compared item by item. General prose is a skill too: the share of its tokens
that are the model's first guess, compared text by text. A model is within its budget where no skill is significantly
worse by more than the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from journeyman.evaluate.probing import Probe, Probed, bundled_probes, bundled_texts, probe, text_likelihoods
from journeyman.evaluate.statistics import (
    LEVEL,
    Interval,
    Missing,
    bootstrap_mean,
    holm,
    mcnemar,
    paired,
    proportion,
    smallest_detectable,
)
from journeyman.evaluate.verdict import USEFUL
from journeyman.generate.engine import Engine
from journeyman.generate.likelihood import Likelihood

BUDGET = 0.02
"""The loss of a skill that is allowed, as a share: 2 points."""

TEXT = "general prose"

SkillVerdict = Literal["worse", "better", "no_difference_seen", "not_enough_rows", "at_chance"]

REMEDIES = (
    ("--learning-rate", "a third of the plan's value: the first to try"),
    ("--rehearsal 0.2", "mix in the base's own answers and prose: as strong, and the one that helps an over-trained job"),
    ("--epochs, --rank", "fewer passes, smaller adapters: no help to the starter, but larger bases may differ"),
)
"""What forgetting is mended with: the flag of `train`, and what it does, as measured (docs/results.md)."""


@dataclass(frozen=True, slots=True)
class Flip:
    """An item whose outcome differs between base and tuned model."""

    skill: str
    asked: str
    right: str
    base: str
    tuned: str
    lost: bool


@dataclass(frozen=True, slots=True)
class Skill:
    """One skill before and after: shares of items passed (of tokens guessed, for general prose).

    `verdict` is at_chance where the base does no better than guessing: it has nothing to forget. p-values are exact
    (McNemar's; for prose the sign test over texts), corrected by Holm over the skills that could be lost.
    """

    name: str
    items: int
    unmeasured: int
    chance: float
    base: float | Missing
    tuned: float | Missing
    difference: float | Missing
    interval: Interval | Missing
    p_value: float | Missing
    smallest_detectable: float | Missing
    verdict: SkillVerdict


@dataclass(frozen=True, slots=True)
class TextLoss:
    """Mean loss on general prose, in nats a token, base and tuned, with the interval of the difference over texts."""

    texts: int
    tokens: int
    base: float
    tuned: float
    interval: Interval | Missing


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What a model lost and gained besides its task."""

    skills: tuple[Skill, ...]
    text: TextLoss
    flips: tuple[Flip, ...]
    budget: float

    @property
    def over_budget(self) -> tuple[Skill, ...]:
        """The skills that are significantly worse by more than the budget."""
        return tuple(s for s in self.skills if _is_over(s, self.budget))

    @property
    def within_budget(self) -> bool:
        """Whether no skill is over the budget."""
        return not self.over_budget

    @property
    def sentence(self) -> str:
        """The outcome in words, with its numbers."""
        chance = [s.name for s in self.skills if s.verdict == "at_chance"]
        end = f" The base was at chance on {_listed(chance)}: there was nothing to forget." if chance else ""
        if self.over_budget:
            worst = sorted(self.over_budget, key=lambda s: _number(s.difference))
            lost = _listed([f"{s.name} {_points(s.difference)} points" for s in worst])
            return f"Forgot more than the budget of {100 * self.budget:g} points allows: {lost}.{end}"
        seen = [s for s in self.skills if s.verdict == "worse"]
        small = f" Smaller losses: {_listed([f'{s.name} {_points(s.difference)}' for s in seen])}." if seen else ""
        return f"No skill is significantly worse by more than {100 * self.budget:g} points.{small}{end}"

    def as_dict(self) -> dict[str, Any]:
        """Forgetting as JSON, as `evaluate --json` gives it."""
        return {
            "skills": [_skill_json(s) for s in self.skills],
            "within_budget": self.within_budget,
            "budget": self.budget,
            "over_budget": [s.name for s in self.over_budget],
            "sentence": self.sentence,
            "text_loss": {
                "texts": self.text.texts,
                "tokens": self.text.tokens,
                "base": self.text.base,
                "tuned": self.text.tuned,
                "difference": self.text.tuned - self.text.base,
                "interval": _json(self.text.interval),
                "unit": "nats a token",
            },
            "flips": [
                {"skill": f.skill, "asked": f.asked, "right": f.right, "base": f.base, "tuned": f.tuned, "lost": f.lost}
                for f in self.flips
            ],
        }


@dataclass(frozen=True, slots=True)
class Measured:
    """One model on the probe set."""

    probed: tuple[Probed, ...]
    texts: tuple[Likelihood, ...]


def measure(
    engine: Engine,
    adapter: str | None,
    probes: Sequence[Probe] | None = None,
    *,
    on_progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Measured:
    """Put the probe set (the bundled one, unless told otherwise) and the general prose to a model."""
    items = bundled_probes() if probes is None else probes
    probed = probe(engine, adapter, items, on_progress=on_progress)
    return Measured(tuple(probed), tuple(text_likelihoods(engine, adapter, bundled_texts())))


def forgetting(
    base: Measured, tuned: Measured, probes: Sequence[Probe] | None = None, *, budget: float = BUDGET
) -> Forgetting:
    """Compare two measurements of the same probes, skill by skill."""
    items = bundled_probes() if probes is None else probes
    names = list(dict.fromkeys(p.skill for p in items))
    skills = [_text_skill(base.texts, tuned.texts)]
    for name in names:
        places = [i for i, p in enumerate(items) if p.skill == name]
        skills.append(
            _skill(name, [items[i] for i in places], [base.probed[i] for i in places], [tuned.probed[i] for i in places])
        )
    return Forgetting(tuple(_corrected(skills)), _text_loss(base.texts, tuned.texts), _flips(items, base, tuned), budget)


def _skill(name: str, items: Sequence[Probe], base: Sequence[Probed], tuned: Sequence[Probed]) -> Skill:
    pairs = [
        (b.passed, t.passed) for b, t in zip(base, tuned, strict=True) if b.passed is not None and t.passed is not None
    ]
    chance = sum(p.chance for p in items) / len(items)
    result = paired([b for b, _ in pairs], [t for _, t in pairs])
    if isinstance(result, Missing):
        none = Missing.NO_DATA
        return Skill(name, 0, len(items), chance, none, none, none, none, none, none, "not_enough_rows")
    before = result.both + result.lost
    known = proportion(before, result.total)
    guessing = isinstance(known, Missing) or known.interval.low <= chance
    detectable = smallest_detectable(result.total, result.gained + result.lost)
    small = isinstance(detectable, Missing) or detectable > USEFUL
    return Skill(
        name=name,
        items=result.total,
        unmeasured=len(items) - result.total,
        chance=chance,
        base=before / result.total,
        tuned=(result.both + result.gained) / result.total,
        difference=result.difference,
        interval=result.interval,
        p_value=result.p_value,
        smallest_detectable=detectable,
        verdict="at_chance" if guessing else "not_enough_rows" if small else "no_difference_seen",
    )


def _text_skill(base: Sequence[Likelihood], tuned: Sequence[Likelihood]) -> Skill:
    """General prose, with the texts as units: words of one text are not independent of each other."""
    before, after = ([t.correct / t.tokens for t in texts] for texts in (base, tuned))
    differences = [a - b for a, b in zip(after, before, strict=True)]
    mean = bootstrap_mean(differences)
    interval: Interval | Missing = mean if isinstance(mean, Missing) else mean.interval
    return Skill(
        name=TEXT,
        items=len(base),
        unmeasured=0,
        chance=0.0,
        base=sum(before) / len(before),
        tuned=sum(after) / len(after),
        difference=sum(differences) / len(differences),
        interval=interval,
        p_value=mcnemar(sum(d > 0 for d in differences), sum(d < 0 for d in differences)),
        smallest_detectable=Missing.NO_DATA,
        verdict="no_difference_seen",
    )


def _corrected(skills: Sequence[Skill]) -> list[Skill]:
    """Holm's correction over the skills that could be lost, and with it better and worse."""
    tested = [i for i, s in enumerate(skills) if s.verdict != "at_chance" and not isinstance(s.p_value, Missing)]
    corrected = dict(zip(tested, holm([_number(skills[i].p_value) for i in tested]), strict=True))
    return [_judged(s, corrected[i]) if i in corrected else s for i, s in enumerate(skills)]


def _judged(skill: Skill, p_value: float) -> Skill:
    out = replace(skill, p_value=p_value)
    significant = p_value < 1 - LEVEL and not isinstance(skill.interval, Missing) and 0.0 not in skill.interval
    if significant:
        return replace(out, verdict="better" if _number(skill.difference) > 0 else "worse")
    return out


def _text_loss(base: Sequence[Likelihood], tuned: Sequence[Likelihood]) -> TextLoss:
    tokens = sum(t.tokens for t in base)
    differences = [(b.log_probability - t.log_probability) / b.tokens for b, t in zip(base, tuned, strict=True)]
    mean = bootstrap_mean(differences)
    return TextLoss(
        texts=len(base),
        tokens=tokens,
        base=-sum(t.log_probability for t in base) / tokens,
        tuned=-sum(t.log_probability for t in tuned) / tokens,
        interval=mean if isinstance(mean, Missing) else mean.interval,
    )


def _flips(items: Sequence[Probe], base: Measured, tuned: Measured) -> tuple[Flip, ...]:
    """Lost items first."""
    flips = [
        Flip(p.skill, p.asked, _wanted(p), b.said, t.said, bool(b.passed))
        for p, b, t in zip(items, base.probed, tuned.probed, strict=True)
        if None not in (b.passed, t.passed) and b.passed != t.passed
    ]
    return tuple(sorted(flips, key=lambda f: not f.lost))


def _wanted(item: Probe) -> str:
    """What would have passed, for people."""
    return item.right or str(item.item.get("ideal", "")) or ", ".join(g.name for g in item.graders)


def _is_over(skill: Skill, budget: float) -> bool:
    return skill.verdict == "worse" and _number(skill.difference) < -budget


def _skill_json(skill: Skill) -> dict[str, Any]:
    values = {name: getattr(skill, name) for name in skill.__slots__}
    return {name: _json(value) for name, value in values.items()}


def _json(value: Any) -> Any:
    if isinstance(value, Missing):
        return {"missing": value.value}
    return [value.low, value.high] if isinstance(value, Interval) else value


def _number(value: float | Missing) -> float:
    return 0.0 if isinstance(value, Missing) else value


def _points(value: float | Missing) -> str:
    return f"{100 * _number(value):+.1f}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
