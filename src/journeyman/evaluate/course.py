"""The course of a training, checkpoint by checkpoint: the task's score on validation rows, and what was forgotten so far.

Validation rows and never held-out ones, so that a checkpoint may be chosen by this without spoiling the evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from journeyman.evaluate.forgetting import Forgetting
from journeyman.evaluate.statistics import Missing, Proportion


@dataclass(frozen=True, slots=True)
class CheckpointScore:
    """One checkpoint: validation rows passed, and what it lost against the base. `published` says that it became the model."""

    name: str
    step: int
    published: bool
    passed: Proportion | Missing
    forgetting: Forgetting

    @property
    def lost(self) -> tuple[str, ...]:
        """The skills over the budget."""
        return tuple(skill.name for skill in self.forgetting.over_budget)

    @property
    def prose_loss(self) -> float:
        """Nats a token of general prose more than the base."""
        return self.forgetting.text.tuned - self.forgetting.text.base


def advice(course: Sequence[CheckpointScore]) -> str | None:
    """What the course says about the published checkpoint, in a sentence; None where another is not clearly better.

    Another is better that passes as many rows or more and is over the budget in fewer skills.
    """
    known = [c for c in course if not isinstance(c.passed, Missing)]
    mine = next((c for c in known if c.published), None)
    if mine is None:
        return None
    better = [c for c in known if len(c.lost) < len(mine.lost) and _share(c) >= _share(mine)]
    if not better:
        return None
    best = max(better, key=lambda c: (_share(c), -len(c.lost)))
    return (
        f"The checkpoint of step {best.step} passes {_share(best):.1%} of the validation rows against {_share(mine):.1%}, and is "
        f"over the budget in {len(best.lost)} skill(s) against {len(mine.lost)}: call it as {best.name}"
    )


def _share(one: CheckpointScore) -> float:
    return 0.0 if isinstance(one.passed, Missing) else one.passed.share
