"""A better prompt, searched on the validation rows within a budget: parts of the instructions, and sets of examples.

Nothing is written anew: a candidate is the instructions with parts left out, with or without worked examples. First
each part is left out by itself, then all those together without which the score was no lower; then the best
instructions are tried with sets of examples drawn by the seed. Held-out rows are never looked at.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from journeyman.records import Example

BUDGET = 12
"""Candidates tried, unless told otherwise."""

VALIDATION_ROWS = 32
"""So many validation rows judge each candidate: one batch."""

SIZES = (2, 4, 8, 1)
"""Numbers of examples that are tried in turn."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A prompt that may be better, and how it was made."""

    instructions: str
    shots: tuple[Example, ...] = ()
    made: str = "the instructions as they are"


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate with its mean grade on the validation rows and the tokens that it costs a request."""

    candidate: Candidate
    score: float
    prompt_tokens: float

    def as_dict(self) -> dict[str, Any]:
        """The trial as the comparison's folder keeps it."""
        return {
            "made": self.candidate.made,
            "score": self.score,
            "prompt_tokens": self.prompt_tokens,
            "instructions": self.candidate.instructions,
            "shots": [str(shot.place) for shot in self.candidate.shots],
        }


Try = Callable[[Candidate], tuple[float, float]]
"""Measures a candidate: its mean grade, and the tokens read a request."""


def search(
    instructions: str, train: Sequence[Example], measure: Try, *, budget: int = BUDGET, seed: int = 0
) -> list[Trial]:
    """Every trial, best first: by score, then by fewer tokens, then in the order tried. At most `budget` of them."""
    trials: list[Trial] = []

    def attempt(candidate: Candidate) -> Trial | None:
        known = [(t.candidate.instructions, t.candidate.shots) for t in trials]
        if len(trials) >= budget or (candidate.instructions, candidate.shots) in known:
            return None
        trials.append(Trial(candidate, *measure(candidate)))
        return trials[-1]

    attempt(Candidate(instructions))
    parts = parts_of(instructions)
    if len(parts) > 1:
        _leave_out(parts, attempt, trials[0], budget // 2)
    best = min(trials, key=_order).candidate
    draw = random.Random(seed)
    for turn in range(2 * budget):
        size = min(SIZES[turn % len(SIZES)], len(train))
        if size and len(trials) < budget:
            shots = tuple(draw.sample(list(train), size))
            made = f"{best.made}, with {size} examples drawn by seed {seed}"
            attempt(Candidate(best.instructions, shots, made))
    return best_first(trials)


def best_first(trials: Sequence[Trial]) -> list[Trial]:
    """By score, then by fewer tokens, then in the order tried."""
    return sorted(trials, key=_order)


def parts_of(instructions: str) -> list[str]:
    """The instructions at their headings; where there are none, at their empty lines."""
    text = instructions.strip()
    parts = re.split(r"(?m)^(?=#)", text) if len(re.findall(r"(?m)^#", text)) > 1 else text.split("\n\n")
    return [part.strip() for part in parts if part.strip()]


def _leave_out(
    parts: Sequence[str], attempt: Callable[[Candidate], Trial | None], whole: Trial, most: int
) -> None:
    needless = []
    longest_first = sorted(range(len(parts)), key=lambda i: -len(parts[i]))
    for index in longest_first[:most]:
        trial = attempt(_without(parts, [index]))
        if trial is not None and trial.score >= whole.score:
            needless.append(index)
    if 1 < len(needless) < len(parts):
        attempt(_without(parts, needless))


def _without(parts: Sequence[str], left_out: Sequence[int]) -> Candidate:
    names = ", ".join(f'"{_title(parts[i])}"' for i in sorted(left_out))
    kept = "\n\n".join(part for i, part in enumerate(parts) if i not in left_out)
    return Candidate(kept, made=f"the instructions without {names}")


def _title(part: str) -> str:
    return part.splitlines()[0].lstrip("# ")[:40]


def _order(trial: Trial) -> tuple[float, float]:
    return -trial.score, trial.prompt_tokens
