"""Grader objects to graders: everything is checked at once, before anything is graded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from journeyman.errors import GraderError
from journeyman.grade import json_checks, judged, python, text_checks
from journeyman.grade.fields import Fields
from journeyman.grade.formula import Formula
from journeyman.grade.judged import Judge, no_judge
from journeyman.grade.score import Grader, Item, Measure, Measured, NotMeasurableError, Sample
from journeyman.grade.similarity import METRICS

_METRICS_LATER = {
    "cosine": "an embedding model is missing",
    "meteor": "its synonym dictionary (WordNet) is missing",
}


_DEFAULT_NAMES = {"python": "python"}
"""OpenAI's guide writes its python graders without a name, its reference with one."""


def parse(objects: Sequence[Mapping[str, Any]], judge: Judge = no_judge) -> tuple[Grader, ...]:
    """Read grader objects, OpenAI's and ours. `judge` asks the models that some of them name; without, they measure nothing.

    Raises GraderError with all problems at once: each names the grader, the field, and the mend.
    """
    problems: list[str] = []
    graders = [_grader(value, f"grader {number}", problems, judge) for number, value in enumerate(objects, 1)]
    names = [grader.name for grader in graders if grader is not None and grader.name]
    for name in dict.fromkeys(n for n in names if names.count(n) > 1):
        problems.append(
            f"grader {name!r}, name: {names.count(name)} graders have it; mend: give each its own name"
        )
    if problems:
        one = len(problems) == 1
        raise GraderError(
            "a grader can't be used" if one else f"the graders have {len(problems)} problems",
            where="graders",
            problems=problems,
        )
    return tuple(grader for grader in graders if grader is not None)


def _grader(value: object, place: str, problems: list[str], judge: Judge, *, nested: bool = False) -> Grader | None:
    if not isinstance(value, Mapping):
        problems.append(
            f"{place}: {value!r} is not an object; mend: write a grader object with type and name"
        )
        return None
    name = value.get("name")
    fields = Fields(value, f"{place} {name!r}" if isinstance(name, str) and name else place, problems)
    kind = fields.raw("type")
    name = fields.text("name", _DEFAULT_NAMES.get(str(kind)))
    if fields.has("name") and not name.strip():
        fields.problem("name", "is empty", "give the grader a name")
    if kind == "multi" and nested:
        fields.problem(
            "type", "a multi grader can't stand inside another", "put its graders into the outer one"
        )
        return None
    build = _builders(judge).get(kind) if isinstance(kind, str) else None
    if build is None:
        message = "is missing" if kind is None else f"{kind!r} is not known"
        fields.problem("type", message, f"write one of {', '.join(TYPES)}")
        return None
    measure = build(fields)
    fields.finish()
    return Grader(name, str(kind), value, measure)


def _text_similarity(fields: Fields) -> Measure:
    """OpenAI's text_similarity; without a `pass_threshold` it gives a value and neither passes nor fails."""
    given, reference = fields.template("input"), fields.template("reference")
    metric = _metric(fields)
    threshold = fields.number("pass_threshold")

    def measure(sample: Sample, item: Item) -> Measured:
        return text_checks.against(threshold, METRICS[metric](given.fill(sample, item), reference.fill(sample, item)))

    return measure


def _metric(fields: Fields) -> str:
    metric = fields.raw("evaluation_metric")
    if isinstance(metric, str) and metric in _METRICS_LATER:
        message = f"{metric} is not available: {_METRICS_LATER[metric]}"
        fields.problem("evaluation_metric", message, f"use one of {', '.join(METRICS)}")
        return "fuzzy_match"
    return fields.choice("evaluation_metric", tuple(METRICS))


def _multi(fields: Fields, judge: Judge) -> Measure:
    """OpenAI's multi: a formula over the values of its graders; `pass_threshold` is ours."""
    graders: dict[str, Grader] = {}
    objects = _by_key(fields)
    if fields.has("graders") and not objects:
        fields.problem(
            "graders", "is empty", 'give graders by the key they have in the formula: {"a": {...}}'
        )
    for key, value in objects.items():
        if not key.isidentifier():
            fields.problem("graders", f"{key!r} can't stand in a formula", "use letters, digits and _")
        grader = _grader(value, f"{fields.where}, graders.{key}", fields.problems, judge, nested=True)
        if grader is not None:
            graders[key] = grader
    text = fields.text("calculate_output")
    threshold = fields.number("pass_threshold")
    try:
        formula = Formula.parse(text, objects) if text else Formula.parse("0", {})
    except ValueError as error:
        fields.problem("calculate_output", str(error), 'write a formula such as "0.8 * a + 0.2 * b"')
        formula = Formula.parse("0", {})

    def measure(sample: Sample, item: Item) -> Measured:
        values: dict[str, float] = {}
        for key, grader in graders.items():
            score = grader.grade(sample, item)
            if score.value is None:
                raise NotMeasurableError(f"{key}: {score.error}", fault=score.fault)
            values[key] = score.value
        try:
            return replace(text_checks.against(threshold, formula.value(values)), parts=values)
        except ValueError as error:
            raise NotMeasurableError(str(error)) from error

    return measure


def _by_key(fields: Fields) -> Mapping[str, Any]:
    """The graders of a multi by the key they have in its formula.

    OpenAI's guide writes them so; its reference shows a list, and its SDK a single grader. Then it is their names.
    """
    given = fields.raw("graders")
    if isinstance(given, Mapping) and isinstance(given.get("type"), str):
        given = [given]
    if not isinstance(given, list):
        return fields.mapping("graders")
    names = [_name_in_a_list(value) if isinstance(value, Mapping) else str(n) for n, value in enumerate(given)]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        fields.problem("graders", f"{names.count(name)} of them are called {name!r}", "give each its own name")
    return dict(zip(names, given, strict=True))


def _name_in_a_list(value: Mapping[str, Any]) -> str:
    return str(value.get("name") or _DEFAULT_NAMES.get(str(value.get("type"))))


def objects(grader: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A grader object that was read, and those inside it."""
    inside = grader.get("graders") or ()
    if isinstance(inside, Mapping):
        inside = [inside] if isinstance(inside.get("type"), str) else inside.values()
    return [grader, *inside]


def runs_source(grader: Mapping[str, Any]) -> bool:
    """Whether a grader object that was read, or one inside it, runs source that came with it."""
    return any(one.get("type") == "python" for one in objects(grader))


def normalised(grader: Mapping[str, Any]) -> dict[str, Any]:
    """A grader object that was read, with the values that its missing fields stand for, and without nulls."""
    kind, out = str(grader["type"]), {key: value for key, value in grader.items() if value is not None}
    if kind in _DEFAULT_NAMES:
        out.setdefault("name", _DEFAULT_NAMES[kind])
    if kind == "score_model":
        out.setdefault("range", list(judged.RANGE))
    if kind == "multi":
        out["graders"] = _each_normalised(out["graders"])
    return out


def _each_normalised(graders: Any) -> Any:
    """Those of a multi, in the form in which it has them."""
    if isinstance(graders, list):
        return [normalised(value) for value in graders]
    if isinstance(graders.get("type"), str):
        return normalised(graders)
    return {key: normalised(value) for key, value in graders.items()}


def _builders(judge: Judge) -> dict[str, Callable[[Fields], Measure]]:
    """What reads each type of grader."""
    return _PLAIN | {kind: lambda fields, build=build: build(fields, judge) for kind, build in _JUDGED.items()}


_PLAIN: dict[str, Callable[[Fields], Measure]] = {
    "string_check": text_checks.string_check,
    "text_similarity": _text_similarity,
    "python": python.python,
    "regex": text_checks.regex,
    "length": text_checks.length,
    "shared_words": text_checks.shared_words,
    "json_schema": json_checks.json_schema,
    "json_equal": json_checks.json_equal,
}
_JUDGED: dict[str, Callable[[Fields, Judge], Measure]] = {
    "multi": _multi,
    "label_model": judged.label_model,
    "score_model": judged.score_model,
}
TYPES = (*_PLAIN, *_JUDGED)
"""What can be graded with."""
