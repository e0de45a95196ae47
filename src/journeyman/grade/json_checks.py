"""Checks of JSON output: json_schema and json_equal. Both are ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from journeyman.grade import apart
from journeyman.grade.fields import Fields
from journeyman.grade.score import BadOutputError, Item, Measure, Measured, NotMeasurableError, Sample
from journeyman.grade.strict_json import parse_json, same_json
from journeyman.grade.text_checks import OUTPUT


def json_schema(fields: Fields) -> Measure:
    """The input is JSON, strictly read, and fits the schema (JSON Schema 2020-12). References to the network are not followed."""
    given, schema = fields.template("input", OUTPUT), fields.mapping("schema")
    try:
        text = json.dumps(dict(schema), default=str)
    except RecursionError:
        fields.problem("schema", "is nested too deeply", "see https://json-schema.org/learn")
        text = "{}"
    if wrong := apart.wrong_schema(text):
        fields.problem("schema", f"is not a JSON Schema: {wrong}", "see https://json-schema.org/learn")

    def measure(sample: Sample, item: Item) -> Measured:
        output = given.fill(sample, item)
        _read_output(output)
        try:
            misfit = apart.misfit(text, output)
        except apart.UnansweredError as error:
            raise NotMeasurableError(f"the schema can't be used: {error}{_patterns_of(schema)}") from error
        if misfit is not None:
            raise BadOutputError(misfit)
        return Measured(1.0, True)

    return measure


def json_equal(fields: Fields) -> Measure:
    """The share of keys whose values are equal, over the keys of either object; passes where all are."""
    given, reference = fields.template("input", OUTPUT), fields.template("reference", "{{ item.ideal }}")

    def measure(sample: Sample, item: Item) -> Measured:
        wanted = _read_reference(reference.fill(sample, item))
        value = _read_output(given.fill(sample, item))
        if not isinstance(value, dict):
            raise BadOutputError("the output is JSON, but no object")
        keys = wanted.keys() | value.keys()
        equal = sum(key in wanted and key in value and same_json(wanted[key], value[key]) for key in keys)
        return Measured(equal / len(keys) if keys else 1.0, equal == len(keys))

    return measure


def _patterns_of(schema: Any) -> str:
    """What may have taken a schema its time, in words; nothing where it has no patterns."""
    patterns = [*dict.fromkeys(_patterns(schema))][:3]
    return f" (its patterns: {', '.join(f'{pattern!r:.100}' for pattern in patterns)})" if patterns else ""


def _patterns(schema: Any) -> Iterator[str]:
    for key, value in schema.items() if isinstance(schema, dict) else ():
        if key == "pattern" and isinstance(value, str):
            yield value
        elif key == "patternProperties" and isinstance(value, dict):
            yield from value
        yield from _patterns(value)
    for value in schema if isinstance(schema, list) else ():
        yield from _patterns(value)


def _read_output(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise BadOutputError(f"the output is {error}") from error


def _read_reference(text: str) -> dict[str, Any]:
    try:
        value = parse_json(text)
    except ValueError as error:
        raise NotMeasurableError(f"the reference is {error}") from error
    if not isinstance(value, dict):
        raise NotMeasurableError("the reference is JSON, but no object")
    return value
