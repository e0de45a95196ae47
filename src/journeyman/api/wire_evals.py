"""OpenAI's wire shapes for evals, their runs and output items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from journeyman.api.strict import Metadata, Strict
from journeyman.grade.score import Sample
from journeyman.storage.documents import Document


class DataSourceConfig(Strict):
    """What an eval's items look like."""

    type: Literal["custom", "logs", "stored_completions"]
    item_schema: dict[str, Any] | None = None
    include_sample_schema: bool | None = None
    metadata: dict[str, Any] | None = None


class CreateEval(Strict):
    """The body of POST /v1/evals."""

    name: str | None = None
    metadata: Metadata | None = None
    data_source_config: DataSourceConfig
    testing_criteria: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=100)]


class UpdateEval(Strict):
    """The body of POST /v1/evals/{id}."""

    name: str | None = None
    metadata: Metadata | None = None


class Row(Strict):
    """An item, and the sample where it is there already."""

    item: dict[str, Any]
    sample: dict[str, Any] | None = None


class Source(Strict):
    """Where a run's items come from."""

    type: Literal["file_content", "file_id", "stored_completions"]
    content: Annotated[list[Row], Field(min_length=1, max_length=100_000)] | None = None
    id: str | None = None
    metadata: Metadata | None = None
    model: str | None = None
    created_after: int | None = None
    created_before: int | None = None
    limit: Annotated[int, Field(ge=1)] | None = None


class InputMessages(Strict):
    """What the model is asked, with `{{ item.key }}` in it, or where the item holds it."""

    type: Literal["template", "item_reference"]
    template: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None
    item_reference: str | None = None


class SamplingParams(Strict):
    """How the model answers; OpenAI's defaults."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: int | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completions_tokens: Annotated[int, Field(ge=1)] | None = None
    reasoning_effort: str | None = None
    response_format: dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None


class DataSource(Strict):
    """A run's items, and the model that answers them where they bring no samples."""

    type: Literal["jsonl", "completions", "responses"]
    source: Source
    model: str | None = None
    input_messages: InputMessages | None = None
    sampling_params: SamplingParams | None = None


class CreateRun(Strict):
    """The body of POST /v1/evals/{id}/runs."""

    name: str | None = None
    metadata: Metadata | None = None
    data_source: DataSource


def eval_shown(document: Document) -> dict[str, Any]:
    """An eval as clients see it; OpenAI lists them by when they were updated, and does not show it."""
    shown = {key: value for key, value in document.body.items() if key != "updated_at"}
    return {"object": "eval", "id": document.id, "created_at": int(document.created_at), **shown}


def config_shown(config: DataSourceConfig) -> dict[str, Any]:
    """A data source as OpenAI gives it back: the item's schema inside the schema of a whole row."""
    if config.type != "custom":
        return {"type": config.type, "metadata": config.metadata or {}, "schema": {}}
    properties: dict[str, Any] = {"item": config.item_schema or {}}
    if config.include_sample_schema:
        properties["sample"] = {"type": "object", "properties": {"output_text": {"type": "string"}}}
    return {
        "type": "custom",
        "schema": {"type": "object", "properties": properties, "required": list(properties)},
    }


RUN_KEYS = (
    "status", "model", "name", "report_url", "result_counts", "per_model_usage", "per_testing_criteria_results",
    "data_source", "metadata", "error",
)  # fmt: skip


def run_shown(document: Document) -> dict[str, Any]:
    """A run as clients see it."""
    return {
        "object": "eval.run",
        "id": document.id,
        "eval_id": document.parent,
        "created_at": int(document.created_at),
        **{key: document.body[key] for key in RUN_KEYS},
    }


def item_shown(document: Document, run: Document) -> dict[str, Any]:
    """An output item as clients see it."""
    return {
        "object": "eval.run.output_item",
        "id": document.id,
        "run_id": run.id,
        "eval_id": run.parent,
        "created_at": int(document.created_at),
        **document.body,
    }


def sample_shown(
    asked: list[dict[str, Any]], sample: Sample, finish_reason: str, model: str, usage: Mapping[str, int],
    params: Mapping[str, Any], error: Mapping[str, str] | None,
) -> dict[str, Any]:  # fmt: skip
    """What was asked and answered in an output item; nothing was answered where there is an error."""
    calls = {"tool_calls": list(sample.output_tools)} if sample.output_tools else {}
    return {
        "input": asked,
        "output": [] if error else [{"role": "assistant", "content": sample.output_text, **calls}],
        "finish_reason": finish_reason,
        "model": model,
        "usage": dict(usage),
        "error": dict(error or {"code": "", "message": ""}),
        "temperature": params["temperature"],
        "max_completion_tokens": params["max_completion_tokens"],
        "top_p": params["top_p"],
        "seed": params["seed"],
    }
