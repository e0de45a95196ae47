"""What an eval and a run must bring along: one that could measure nothing is refused before it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from journeyman.api.errors import RefusedError
from journeyman.api.eval_messages import WHERE, referred, templates
from journeyman.api.graders import parsed
from journeyman.api.wire_evals import DataSource, DataSourceConfig, InputMessages, Row, Source
from journeyman.errors import ObjectNotFound
from journeyman.storage.documents import Document

if TYPE_CHECKING:
    from journeyman.storage.files import FileStore

# Of each type of an object: the fields that it must have, and those that it can have.
_CONFIGS = {
    "custom": (("item_schema",), ("include_sample_schema",)),
    "logs": ((), ("metadata",)),
    "stored_completions": ((), ("metadata",)),
}
_SOURCES = {
    "file_content": (("content",), ()),
    "file_id": (("id",), ()),
    "stored_completions": ((), ("metadata", "model", "created_after", "created_before", "limit")),
}
_MESSAGES = {"template": (("template",), ()), "item_reference": (("item_reference",), ())}

_OF_STORED = ("input", "metadata")
"""What the item of a stored completion has."""


def insist_on_config(config: DataSourceConfig) -> None:
    """The fields of its type and no others, and a schema that an item can fit. Raises RefusedError."""
    where = "data_source_config"
    _insist_on_fields(config, config.type, _CONFIGS, where)
    if (reason := _misfit(config.item_schema or {})) is not None:
        raise RefusedError(
            400, f"The item_schema {reason}", code="invalid_value", where=f"{where}.item_schema",
            fix="see https://json-schema.org/learn",
        )  # fmt: skip


def _misfit(schema: Mapping[str, Any]) -> str | None:
    """Why no item fits a schema."""
    import jsonschema  # slow to import, and used where an eval is made only

    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        return f"is not a JSON Schema: {error.message[:300]}"
    kinds = schema.get("type", "object")
    return None if "object" in ([kinds] if isinstance(kinds, str) else kinds) else "has a type that is not object"


def criteria_named(criteria: Sequence[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Each grader with its name, as an eval can use them. Raises RefusedError."""
    found = []
    for number, criterion in enumerate(criteria):
        where = f"testing_criteria[{number}]"
        if criterion.get("type") == "multi":
            raise RefusedError(400, "An eval takes no multi grader", code="invalid_grader", where=where)
        grader = parsed({key: value for key, value in criterion.items() if key != "id"}, where)
        if grader.type == "text_similarity" and criterion.get("pass_threshold") is None:
            raise missing(f"{where}.pass_threshold")
        found.append((grader.name, criterion))
    return found


def insist_on_source(of: Document, source: DataSource, files: FileStore) -> None:
    """The fields of its types and no others, items that are there, messages that can be asked. Raises RequestError."""
    _insist_on_fields(source.source, source.source.type, _SOURCES, "data_source.source")
    if source.source.type == "file_id":
        _insist_on_file(source.source.id or "", files)
    if source.type != "jsonl":
        for name in ("model", "input_messages"):
            if getattr(source, name) is None:  # either field, by its name
                raise missing(f"data_source.{name}")
    if source.input_messages is not None:
        _insist_on_fields(source.input_messages, source.input_messages.type, _MESSAGES, WHERE)
        templates(source.input_messages)
        _insist_on_reference(of, source.source, source.input_messages)
    for number, row in enumerate(source.source.content or ()):
        if (key := lacking(of, row)) is not None:
            raise RefusedError(
                400, f"The item {number} has no {key!r}, which the eval's item_schema requires", code="invalid_item",
                where=f"data_source.source.content[{number}].item",
            )  # fmt: skip


def lacking(of: Document, row: Row) -> str | None:
    """A key that the eval's item_schema requires and the item has not."""
    required = _item_schema(of).get("required")
    keys = required if isinstance(required, list) else []
    return next((key for key in keys if isinstance(key, str) and key not in row.item), None)


def missing(where: str) -> RefusedError:
    """The refusal of a request without a field, in OpenAI's words."""
    message = f"Missing required parameter: '{where}'."
    return RefusedError(400, message, code="missing_required_parameter", where=where)


def _insist_on_fields(
    given: BaseModel, kind: str, fields: Mapping[str, tuple[Sequence[str], Sequence[str]]], where: str
) -> None:
    """A field that is null is as good as absent; one of another type would be dropped without a word."""
    needed, possible = fields[kind]
    there = given.model_dump(exclude_none=True).keys() - {"type"}
    for name in needed:
        if name not in there:
            raise missing(f"{where}.{name}")
    for name in sorted(there - {*needed, *possible}):
        message = f"Unknown parameter: '{where}.{name}' does not go with the type '{kind}'."
        raise RefusedError(400, message, code="unknown_parameter", where=f"{where}.{name}")


def _insist_on_file(file_id: str, files: FileStore) -> None:
    try:
        files.path(files.get(file_id))
    except ObjectNotFound:
        where = "data_source.source.id"
        raise RefusedError(400, f"invalid {where}: {file_id[:100]}", code="invalid_file", where=where) from None


def _insist_on_reference(of: Document, source: Source, messages: InputMessages) -> None:
    """A key that its schema names or one of its items has; of a file without such a schema nothing is known yet."""
    if messages.type != "item_reference":
        return
    named = set(_item_schema(of).get("properties") or ())
    named |= {key for row in source.content or () for key in row.item}
    if source.type == "stored_completions":
        named |= set(_OF_STORED)
    if referred(messages) not in named and (named or source.type != "file_id"):
        known = ", ".join(f"item.{key}" for key in sorted(named)[:20])
        raise RefusedError(
            400, f"No item has {str(messages.item_reference)[:100]!r}", code="invalid_value", where=f"{WHERE}.item_reference",
            fix=f"name one of {known}" if known else "name a key that the items have",
        )  # fmt: skip


def _item_schema(of: Document) -> Mapping[str, Any]:
    schema = of.body["data_source_config"].get("schema") or {}
    found: Mapping[str, Any] = (schema.get("properties") or {}).get("item") or {}
    return found
