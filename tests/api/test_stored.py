"""Stored chat completions, through the SDK: kept, found by label, and made into a training file and an eval."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionDeleted

from journeyman.data.messages import read_messages

ASKED: dict[str, Any] = {
    "model": "tiny",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
    ],
    "max_tokens": 4,
    "seed": 3,
}
WHOLE = {
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "a", "schema": {"enum": ["yes", "no"]}},
    },
    "max_tokens": 20,
}


@pytest.fixture(scope="module")
def stored(client) -> list[ChatCompletion]:
    """Three completions: two of one label, one of which was cut, and one that was streamed."""
    create = client.chat.completions.create
    first = create(**ASKED, store=True, metadata={"team": "shop", "it's": "1"})
    second = create(**{**ASKED, **WHOLE}, store=True, metadata={"team": "shop"})
    chunks = list(create(**{**ASKED, **WHOLE}, store=True, stream=True))
    create(**ASKED)  # not stored
    return [first, second, client.chat.completions.retrieve(chunks[0].id)]


def ids(page: Any) -> list[str]:
    return [completion.id for completion in page]


def test_what_was_stored_comes_back(client, stored):
    got = client.chat.completions.retrieve(stored[0].id)
    assert got.choices == stored[0].choices and got.usage == stored[0].usage
    assert (got.metadata, got.seed, got.temperature) == ({"team": "shop", "it's": "1"}, 3, 1.0)
    ChatCompletion.model_validate(got.to_dict(), strict=True)
    streamed = client.chat.completions.retrieve(stored[2].id)
    assert streamed.choices[0].message.content in ('"yes"', '"no"')
    messages = client.chat.completions.messages.list(stored[0].id)
    assert [(m.role, m.content) for m in messages] == [("system", "Be brief."), ("user", "Hi")]
    page = client.chat.completions.messages.list(stored[0].id, limit=1, order="desc")
    assert [m.role for m in page.data] == ["user"] and [m.role for m in page] == ["user", "system"]


def test_what_was_asked_is_shown_as_it_was_sent(client, server):
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    schema = {"type": "object", "properties": {"a": {"const": None}}}
    format = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    named = {"type": "function", "function": {"name": "look"}}
    for choice in ("none", named):
        asked = {**ASKED, "tools": [tool], "tool_choice": choice, "response_format": format, "user": "u-1"}
        made = httpx.post(f"{server.url}/v1/chat/completions", json={**asked, "store": True}).json()
        got = httpx.get(f"{server.url}/v1/chat/completions/{made['id']}").json()
        assert (got["tool_choice"], got["response_format"], got["input_user"]) == (choice, format, "u-1")
        assert client.chat.completions.delete(made["id"]).deleted


def test_lists_are_paged_and_filtered(client, stored):
    everything = ids(client.chat.completions.list(limit=1))
    assert [i for i in everything if i in ids(stored)] == ids(stored)
    assert ids(client.chat.completions.list(order="desc", limit=2)) == everything[::-1]
    assert ids(client.chat.completions.list(metadata={"team": "shop"}, limit=1)) == ids(stored[:2])
    assert ids(client.chat.completions.list(metadata={"it's": "1"})) == ids(stored[:1])
    assert ids(client.chat.completions.list(metadata={"team": "shop", "it's": "2"})) == []
    assert ids(client.chat.completions.list(model="starter-1")) == []
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.list(after="chatcmpl-nope")
    assert caught.value.param == "after"


def test_labels_change_and_completions_are_forgotten(client):
    made = client.chat.completions.create(**ASKED, store=True)
    assert client.chat.completions.update(made.id, metadata={"a": "b"}).metadata == {"a": "b"}
    assert ids(client.chat.completions.list(metadata={"a": "b"})) == [made.id]
    deleted = client.chat.completions.delete(made.id)
    ChatCompletionDeleted.model_validate(deleted.to_dict(), strict=True)
    for call in (
        client.chat.completions.retrieve,
        client.chat.completions.delete,
        client.chat.completions.messages.list,
    ):
        with pytest.raises(openai.NotFoundError):
            call(made.id)


def test_stored_completions_become_a_training_file(client, server, stored):
    url = f"{server.url}/v1/chat/completions/training_file"
    made = httpx.post(url, json={"metadata": {"team": "shop"}, "filename": "shop.jsonl"}).json()
    assert (made["object"], made["purpose"], made["filename"]) == ("file", "fine-tune", "shop.jsonl")
    rows = [json.loads(line) for line in client.files.content(made["id"]).text.splitlines()]
    # The first was cut at four tokens: half an answer is nothing to learn from.
    assert len(rows) == 1
    assert rows[0]["messages"][:2] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]
    assert read_messages(rows[0]["messages"])[-1].content == stored[1].choices[0].message.content
    none = httpx.post(url, json={"metadata": {"team": "nobody"}})
    assert (none.status_code, none.json()["error"]["code"]) == (400, "no_stored_completions")


def test_an_eval_takes_stored_completions(client, stored):
    client = client.copy(_extra_kwargs={"_strict_response_validation": False})  # the SDK knows them as input only
    check = {
        "type": "string_check",
        "name": "word",
        "operation": "like",
        "input": "{{sample.output_text}}",
        "reference": '"',
    }
    made = client.evals.create(
        name="e", data_source_config={"type": "stored_completions"}, testing_criteria=[check]
    )
    source = {"type": "jsonl", "source": {"type": "stored_completions", "metadata": {"team": "shop"}}}
    run = client.evals.runs.create(made.id, data_source=source)
    deadline = time.monotonic() + 60
    while run.status in ("queued", "in_progress") and time.monotonic() < deadline:
        time.sleep(0.05)
        run = client.evals.runs.retrieve(run.id, eval_id=made.id)
    assert (run.status, run.result_counts.total) == ("completed", 2), run.error
    assert run.result_counts.passed >= 1
