"""Evals through the SDK: what is refused before it is kept, and items that can't be answered."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import openai
import pytest

CHECK = {"type": "string_check", "name": "said", "input": "{{sample.output_text}}", "reference": "{{item.label}}", "operation": "eq"}
CONFIG = {"type": "custom", "item_schema": {"type": "object", "properties": {"q": {"type": "string"}, "turns": {"type": "array"}}}}
SIMILAR = {"type": "text_similarity", "name": "s", "input": "a", "reference": "a", "evaluation_metric": "bleu"}
CONTENT = {"type": "file_content", "content": [{"item": {"q": "Hi", "label": "x"}}]}


@pytest.fixture(scope="module")
def made(client):
    return client.evals.create(data_source_config=CONFIG, testing_criteria=[CHECK])


def asked(template: Any, source: Any = CONTENT) -> dict[str, Any]:
    return {
        "type": "completions", "model": "tiny", "source": source, "input_messages": template,
        "sampling_params": {"max_completion_tokens": 2},
    }  # fmt: skip


def template(content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "template", "template": [{"role": "user", "content": content, **more}]}


def ended(client: openai.OpenAI, run: Any) -> Any:
    deadline = time.monotonic() + 60
    while run.status in ("queued", "in_progress") and time.monotonic() < deadline:
        time.sleep(0.02)
        run = client.evals.runs.retrieve(run.id, eval_id=run.eval_id)
    return run


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"data_source_config": {"type": "custom"}}, "data_source_config.item_schema"),
        ({"data_source_config": {"type": "custom", "item_schema": None}}, "data_source_config.item_schema"),
        ({"data_source_config": {"type": "custom", "item_schema": {"type": "nonsense"}}}, "data_source_config.item_schema"),
        ({"data_source_config": {"type": "custom", "item_schema": {"type": "array"}}}, "data_source_config.item_schema"),
        ({"data_source_config": {"type": "logs", "item_schema": {}}}, "data_source_config.item_schema"),
        ({"data_source_config": {**CONFIG, "metadata": {"a": "b"}}}, "data_source_config.metadata"),
        ({"testing_criteria": [CHECK, SIMILAR]}, "testing_criteria[1].pass_threshold"),
    ],
)
def test_an_eval_that_could_measure_nothing_is_refused(client, server, change, param):
    body = {"data_source_config": CONFIG, "testing_criteria": [CHECK], **change}
    before = len(list(client.evals.list()))
    reply = httpx.post(f"{server.url}/v1/evals", json=body)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param), reply.json()
    assert len(list(client.evals.list())) == before


def test_what_openai_takes_makes_an_eval(client):
    for config in (CONFIG, {"type": "custom", "item_schema": {}}, {"type": "logs", "metadata": {"a": "b"}}):
        made = client.evals.create(data_source_config=config, testing_criteria=[CHECK, {**SIMILAR, "pass_threshold": 0.5}])
        assert client.evals.delete(made.id).deleted


@pytest.mark.parametrize(
    ("source", "param"),
    [
        ({"type": "jsonl", "source": {"type": "file_content"}}, "data_source.source.content"),
        ({"type": "jsonl", "source": {"type": "file_content", "content": []}}, "data_source.source.content"),
        ({"type": "jsonl", "source": {**CONTENT, "id": "file-x"}}, "data_source.source.id"),
        ({"type": "jsonl", "source": {"type": "file_id"}}, "data_source.source.id"),
        ({"type": "jsonl", "source": {"type": "file_id", "id": "file-nope"}}, "data_source.source.id"),
        (asked({"type": "template"}), "data_source.input_messages.template"),
        (asked(template(None)), "data_source.input_messages.template[0]"),
        (asked(template("{{ nope }}")), "data_source.input_messages.template[0]"),
        (asked(template("Hi", role="nobody")), "data_source.input_messages.template[0]"),
        (asked({"type": "item_reference"}), "data_source.input_messages.item_reference"),
        (asked({"type": "item_reference", "item_reference": "item.nope"}), "data_source.input_messages.item_reference"),
        ({**asked(template("Hi")), "model": None}, "data_source.model"),
    ],
)
def test_a_run_that_could_measure_nothing_is_refused(client, server, made, source, param):
    reply = httpx.post(f"{server.url}/v1/evals/{made.id}/runs", json={"data_source": source})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param), reply.json()
    assert not list(client.evals.runs.list(made.id))


def test_an_item_that_can_not_be_answered_is_errored_and_the_others_go_on(client):
    made = client.evals.create(data_source_config=CONFIG, testing_criteria=[CHECK])
    items = [{"q": "Hi"}, {"q": "far too long " * 20_000}, {"n": "no q"}, {"q": "Hello"}]
    items = [{"label": "x", **item} for item in items]
    content = {"type": "file_content", "content": [{"item": item} for item in items]}
    run = ended(client, client.evals.runs.create(made.id, data_source=asked(template("{{item.q}}"), content)))
    counts = run.result_counts
    assert (run.status, counts.total, counts.errored, counts.passed + counts.failed) == ("completed", 4, 2, 2), run.error
    found = list(client.evals.runs.output_items.list(run.id, eval_id=made.id))
    assert [item.sample.error.code for item in found] == ["", "context_length_exceeded", "invalid_template", ""]
    assert "item.q" in found[2].sample.error.message and "item.q" in str(found[2].results[0].sample)
    assert [len(item.sample.output) for item in found] == [1, 0, 0, 1]
    assert [item.status for item in found][1:3] == ["fail", "fail"]


def test_messages_of_an_item_are_asked(client, made):
    items = [{"turns": [{"role": "user", "content": "Hi"}], "label": "x"}, {"label": "no turns"}]
    lines = "\n".join(json.dumps({"item": item}) for item in items).encode()
    file = client.files.create(file=("items.jsonl", lines), purpose="evals")
    reference = {"type": "item_reference", "item_reference": "item.turns"}
    run = client.evals.runs.create(made.id, data_source=asked(reference, {"type": "file_id", "id": file.id}))
    run = ended(client, run)
    assert (run.status, run.result_counts.total, run.result_counts.errored) == ("completed", 2, 1)
    first = next(iter(client.evals.runs.output_items.list(run.id, eval_id=made.id)))
    assert [(m.role, m.content) for m in first.sample.input] == [("user", "Hi")]
    assert client.evals.runs.delete(run.id, eval_id=made.id).deleted


def test_the_labels_of_an_eval_are_taken_away_by_null(client):
    made = client.evals.create(name="e", metadata={"a": "b"}, data_source_config=CONFIG, testing_criteria=[CHECK])
    assert client.evals.update(made.id, name="f").metadata == {"a": "b"}
    cleared = client.evals.update(made.id, metadata=None)
    assert (cleared.metadata, cleared.name) == ({}, "f")
