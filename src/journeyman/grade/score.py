"""What is graded, and what comes out: samples, items, scores. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from journeyman.records import Example

Fault = Literal["judge_away", "judge_unclear"]
"""Of what a grader could not measure, what was a judge model's doing: it could not be asked, or gave no verdict."""

Item = Mapping[str, Any]
"""What graders may name as `{{ item.key }}`."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A model's output, as graders see it: `{{ sample.output_text }}`, `.output_json`, `.output_tools`."""

    output_text: str
    output_tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """One grader's word on one sample.

    `value` is None, with the reason in `error`, where the grader could not measure: that is no 0, and neither
    passes nor fails. `passed` is also None for a grader that has no threshold. An output that can't be read as
    the grader needs (no JSON, a missing key) is the model's doing: it has value 0, fails, and says so in `error`.
    `parts` are the values that a multi's formula was given, by their keys in it.
    """

    name: str
    value: float | None
    passed: bool | None
    error: str | None = None
    fault: Fault | None = None
    parts: Mapping[str, float] = field(default_factory=dict, hash=False)

    def as_dict(self) -> dict[str, Any]:
        """The score as it stands in a scores file."""
        return {"name": self.name, "value": self.value, "passed": self.passed, "error": self.error}


@dataclass(frozen=True, slots=True)
class Graded:
    """All graders' words on one sample.

    `passed` is true where every grader that passes or fails has passed, false where one has failed, and None
    where that can't be said: a grader had an error, or none has a threshold.
    """

    scores: tuple[Score, ...]
    passed: bool | None

    def as_dict(self) -> dict[str, Any]:
        """The grades as they stand in a scores file."""
        return {"passed": self.passed, "scores": [score.as_dict() for score in self.scores]}


@dataclass(frozen=True, slots=True)
class Measured:
    """A value, and whether it passes (None: the grader has no threshold); `parts` as a Score has them."""

    value: float
    passed: bool | None
    parts: Mapping[str, float] = field(default_factory=dict, hash=False)


class BadOutputError(Exception):
    """The sample can't be read as the grader needs it; it fails."""


class NotMeasurableError(Exception):
    """The grader can't say: its item, its own formula or its judge gives no value."""

    def __init__(self, message: str, *, fault: Fault | None = None) -> None:
        super().__init__(message)
        self.fault = fault


Measure = Callable[[Sample, Item], Measured]
"""Measures a sample; raises BadOutputError or NotMeasurableError."""


@dataclass(frozen=True, slots=True)
class Grader:
    """A grader that was checked: its name, its type, the object it was read from, and how it measures."""

    name: str
    type: str
    source: Mapping[str, Any]
    measure: Measure

    def grade(self, sample: Sample, item: Item) -> Score:
        """Measure a sample; what can't be measured is an error in the score."""
        try:
            measured = self.measure(sample, item)
        except BadOutputError as error:
            return Score(self.name, 0.0, False, str(error))
        except NotMeasurableError as error:
            return Score(self.name, None, None, str(error), error.fault)
        return Score(self.name, measured.value, measured.passed, parts=measured.parts)


def item_of(example: Example) -> dict[str, Any]:
    """What graders may name for a row: its further keys, `ideal` (the ideal output) and `input` (the last user text).

    `ideal` and `input` are reserved: they replace keys of that name in the row; where the ideal output calls tools so is
    `ideal_tools`, its calls.
    """
    asked = [message.content for message in example.prompt if message.role == "user"]
    calls = {"ideal_tools": [dict(call) for call in example.ideal.tool_calls]} if example.ideal.tool_calls else {}
    return {**example.item, "ideal": example.ideal.content, "input": asked[-1] if asked else "", **calls}
