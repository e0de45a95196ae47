"""Choosing a checkpoint by the task's graders: what the loop is given to ask at each validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from journeyman.answer.local import LocalModel
from journeyman.evaluate.probing import bundled_texts, text_likelihoods
from journeyman.evaluate.run import answer_room, drawn, score
from journeyman.generate.engine import Engine
from journeyman.grade.parse import parse
from journeyman.plan.plan import Plan
from journeyman.records import Example
from journeyman.text.template import ChatFormat

JUDGED_ROWS = 100
"""So many validation rows, drawn once, are answered at each validation."""

Judge = Callable[[nn.Module], Mapping[str, float]]


def make_judge(
    plan: Plan,
    chat: ChatFormat,
    validation: Sequence[Example],
    graders: Sequence[Mapping[str, Any]],
    *,
    base_penalty: float = 1.0,
) -> Judge:
    """A function that scores a model in training.

    It answers as it will be served: with the plan's repetition penalty, or with `base_penalty`, the base's own, where the
    plan has none.
    `score` is the share of validation rows that pass all graders, left out where none could be measured;
    `general_prose` the share of general prose's tokens that the model guesses, which falls as it forgets.
    """
    rows = drawn(validation, JUDGED_ROWS)
    compiled = parse(graders)
    room = answer_room(rows, chat)
    penalty = base_penalty if plan.repetition_penalty.value == 1 else plan.repetition_penalty.value

    def judge(model: nn.Module) -> dict[str, float]:
        engine = Engine.around(
            model,
            chat,
            context_tokens=plan.shape.context_tokens,
            device=plan.device.value,
            repetition_penalty=penalty,
        )
        scores = score(LocalModel(engine), rows, compiled, max_tokens=room)
        passed = [row.graded.passed for row in scores.rows if row.graded.passed is not None]
        prose = text_likelihoods(engine, None, bundled_texts())
        said = {"general_prose": sum(t.correct for t in prose) / sum(t.tokens for t in prose)}
        return {"score": sum(passed) / len(passed), **said} if passed else said

    return judge
