"""Measures beside the task's graders: exact match, similarity to the ideal, JSON field by field, and the model's own loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from journeyman.errors import DataError
from journeyman.evaluate.run import ScoredRow, Scores
from journeyman.evaluate.statistics import Interval, Mean, Missing, Proportion, bootstrap_mean, proportion
from journeyman.generate.engine import Engine
from journeyman.grade.similarity import METRICS
from journeyman.grade.strict_json import parse_json, same_json
from journeyman.records import Example
from journeyman.text.encode import Encoded, prompt_and_answer

SIMILARITY = "rouge_l"
"""How like the ideal an output is: the longest common run of words (Lin 2004, "ROUGE"), between 0 and 1."""

Pair = tuple[Proportion | Missing, Proportion | Missing]


@dataclass(frozen=True, slots=True)
class FieldLine:
    """One key of the ideal JSON objects: rows in which the output has an equal value, before and after."""

    key: str
    before: Proportion | Missing
    after: Proportion | Missing


@dataclass(frozen=True, slots=True)
class JsonReport:
    """Where the ideals are JSON objects: outputs that are JSON objects at all, and each key's value."""

    valid: Pair
    fields: tuple[FieldLine, ...]


@dataclass(frozen=True, slots=True)
class LossPair:
    """Mean loss on the ideal answers of held-out rows, in nats a token; the interval is of the difference, over rows."""

    rows: int
    unmeasured: int
    before: float | Missing
    after: float | Missing
    interval: Interval | Missing


@dataclass(frozen=True, slots=True)
class Measures:
    """What can be measured without graders."""

    exact: Pair
    similarity: tuple[Mean | Missing, Mean | Missing]
    json: JsonReport | None
    loss: LossPair | None = None


def measures(before: Scores, after: Scores) -> Measures:
    """Measure two answerers' outputs against the ideals. Rows that were not answered are left out."""
    return Measures(
        exact=(_exact(before), _exact(after)),
        similarity=(_similarity(before), _similarity(after)),
        json=_json_report(before, after),
    )


def row_losses(engine: Engine, adapter: str | None, examples: Sequence[Example]) -> list[tuple[float, int] | None]:
    """For each row, the summed loss of its ideal answer in nats and its tokens; None where it does not fit the context."""
    encoded = [_ideal(engine, example) for example in examples]
    likelihoods = iter(engine.likelihoods([e for e in encoded if e is not None], adapter=adapter))
    found = [None if e is None else next(likelihoods) for e in encoded]
    return [None if f is None else (-f.log_probability, f.tokens) for f in found]


def loss_pair(before: Sequence[tuple[float, int] | None], after: Sequence[tuple[float, int] | None]) -> LossPair:
    """Two models' losses on the same rows: summed, divided once by the tokens."""
    pairs = [(b, a) for b, a in zip(before, after, strict=True) if b is not None and a is not None]
    if not pairs:
        return LossPair(0, len(before), Missing.NO_DATA, Missing.NO_DATA, Missing.NO_DATA)
    old, new = (sum(p[i][0] for p in pairs) / sum(p[i][1] for p in pairs) for i in (0, 1))
    mean = bootstrap_mean([a[0] / a[1] - b[0] / b[1] for b, a in pairs])
    return LossPair(len(pairs), len(before) - len(pairs), old, new, mean if isinstance(mean, Missing) else mean.interval)


def _ideal(engine: Engine, example: Example) -> Encoded | None:
    turns = (*example.prompt, example.ideal)
    try:
        prompt, answer = prompt_and_answer(turns, example.tools, engine.chat)
    except DataError:  # this base's template refuses the conversation: it could not be asked either
        return None
    given = engine.chat.ids(prompt)
    said = answer if answer is not None else example.ideal.content + engine.chat.end_of_turn
    learned = engine.chat.ids(said, after=prompt)
    if len(given) + len(learned) > engine.context_tokens:
        return None
    weights_T = np.array([0.0] * len(given) + [1.0] * len(learned), dtype=np.float32)
    return Encoded(np.array([*given, *learned], dtype=np.int32), weights_T, example.place)


def _answered(scores: Scores) -> list[tuple[str, str]]:
    """(ideal, output) of the rows that were answered, white space at the ends left out."""
    return [(row.ideal.strip(), row.output.strip()) for row in scores.rows if row.output is not None]


def _exact(scores: Scores) -> Proportion | Missing:
    pairs = _answered(scores)
    return proportion(sum(ideal == output for ideal, output in pairs), len(pairs))


def _similarity(scores: Scores) -> Mean | Missing:
    return bootstrap_mean([METRICS[SIMILARITY](output, ideal) for ideal, output in _answered(scores)], resamples=1000, bounds=(0, 1))


def _json_report(before: Scores, after: Scores) -> JsonReport | None:
    """None where not all ideals are JSON objects."""
    ideals = [_object(row.ideal) for row in after.rows]
    wanted = [ideal for ideal in ideals if ideal is not None]
    if not wanted or len(wanted) < len(ideals):
        return None
    keys = dict.fromkeys(key for ideal in wanted for key in ideal)
    lines = (FieldLine(key, _field(before, key, wanted), _field(after, key, wanted)) for key in keys)
    return JsonReport((_valid(before), _valid(after)), tuple(lines))


def _valid(scores: Scores) -> Proportion | Missing:
    outputs = [_object(row.output) for row in scores.rows if row.output is not None]
    return proportion(sum(output is not None for output in outputs), len(outputs))


def _field(scores: Scores, key: str, ideals: Sequence[dict[str, Any]]) -> Proportion | Missing:
    """Rows whose value of the key is right, of those whose ideal has it; an output that is no JSON has no value."""
    hits = [_has(row, key, ideal[key]) for row, ideal in zip(scores.rows, ideals, strict=True) if key in ideal and row.output is not None]
    return proportion(sum(hits), len(hits))


def _has(row: ScoredRow, key: str, value: Any) -> bool:
    output = _object(row.output)
    return output is not None and key in output and same_json(output[key], value)


def _object(text: str | None) -> dict[str, Any] | None:
    try:
        value = parse_json(text or "")
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
