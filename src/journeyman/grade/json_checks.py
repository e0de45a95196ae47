"""Checks of JSON output: json_schema and json_equal. Both are ours."""

from __future__ import annotations

import re
from typing import Any

from journeyman.grade.fields import Fields
from journeyman.grade.score import BadOutputError, Item, Measure, Measured, NotMeasurableError, Sample
from journeyman.grade.strict_json import parse_json, same_json
from journeyman.grade.text_checks import OUTPUT


def json_schema(fields: Fields) -> Measure:
    """The input is JSON, strictly read, and fits the schema (JSON Schema 2020-12). References to the network are not followed."""
    import jsonschema  # slow to import, and used by this grader only
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    given, schema = fields.template("input", OUTPUT), fields.mapping("schema")
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        fields.problem(
            "schema", f"is not a JSON Schema: {error.message}", "see https://json-schema.org/learn"
        )
    validator = jsonschema.Draft202012Validator(schema, registry=Registry())

    def measure(sample: Sample, item: Item) -> Measured:
        value = _read_output(given.fill(sample, item))
        try:
            error = next(iter(validator.iter_errors(value)), None)
        except (Unresolvable, re.error) as broken:
            raise NotMeasurableError(f"the schema can't be used: {broken}") from broken
        if error is not None:
            raise BadOutputError(f"{error.json_path}: {error.message}")
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
