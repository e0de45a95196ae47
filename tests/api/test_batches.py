"""Batches through the SDK: files of requests, answered as single ones are."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types import Batch

from journeyman.api.batches import KIND
from journeyman.generate.engine import Piece
from journeyman.records import Usage
from journeyman.workspace import Workspace

from .conftest import Running, add_version, running
from .scripted import serving

HI = [{"role": "user", "content": "Hi"}]
CHAT = "/v1/chat/completions"


def line(name: str, body: dict[str, Any], url: str = CHAT) -> str:
    return json.dumps({"custom_id": name, "method": "POST", "url": url, "body": body})


def begun(client: openai.OpenAI, lines: list[str], endpoint: str = CHAT, **more: Any) -> Batch:
    file = client.files.create(file=("in.jsonl", "\n".join(lines).encode()), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **more)


def ended(client: openai.OpenAI, batch: Batch) -> Batch:
    deadline = time.monotonic() + 60
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    return batch


def told(client: openai.OpenAI, file_id: str) -> dict[str, dict[str, Any]]:
    """The lines of an output file by their custom ids."""
    lines = [json.loads(text) for text in client.files.content(file_id).text.splitlines()]
    return {shown["custom_id"]: shown for shown in lines}


def test_every_line_is_answered_as_a_request_of_its_own_is(client):
    asked = {"model": "tiny", "messages": HI, "temperature": 0, "max_tokens": 4}
    lines = [line(f"q{n}", {**asked, "messages": [{"role": "user", "content": f"Say {n}"}]}) for n in range(40)]
    lines += ["", line("nope", {**asked, "model": "nope"}), line("hot", {**asked, "temperature": 9})]
    batch = begun(client, lines, metadata={"run": "1"})
    assert batch.object == "batch" and batch.status in ("validating", "in_progress") and batch.metadata == {"run": "1"}
    batch = ended(client, batch)
    assert batch.status == "completed" and batch.errors is None
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (42, 40, 2)
    assert batch.in_progress_at and batch.completed_at and batch.expires_at == batch.created_at + 24 * 3600
    answers, refused = told(client, batch.output_file_id), told(client, batch.error_file_id)
    assert set(answers) == {f"q{n}" for n in range(40)}
    single = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "Say 7"}], temperature=0, max_tokens=4
    )
    seventh = answers["q7"]["response"]
    assert seventh["status_code"] == 200 and seventh["request_id"].startswith("req_") and answers["q7"]["error"] is None
    assert seventh["body"]["choices"][0]["message"]["content"] == single.choices[0].message.content
    shown = {name: (r["response"]["status_code"], r["response"]["body"]["error"]["code"]) for name, r in refused.items()}
    assert shown == {"nope": (404, "model_not_found"), "hot": (400, "invalid_value")}
    assert client.files.retrieve(batch.output_file_id).purpose == "batch_output"


@pytest.mark.parametrize(
    ("url", "body", "kind"),
    [
        ("/v1/responses", {"model": "tiny", "input": "Hi", "max_output_tokens": 16}, "response"),
        ("/v1/completions", {"model": "tiny", "prompt": "Hi", "max_tokens": 2}, "text_completion"),
    ],
)
def test_the_other_routes_that_answer(client, url, body, kind):
    batch = ended(client, begun(client, [line("a", body, url)], url))
    assert told(client, batch.output_file_id)["a"]["response"]["body"]["object"] == kind
    assert batch.error_file_id is None


def test_a_file_that_can_not_be_read_fails_with_its_lines(client):
    good = {"model": "tiny", "messages": HI}
    lines = [line("a", good), "{", line("a", good), line("b", good, "/v1/responses"), '{"custom_id": "c"}']
    batch = ended(client, begun(client, [*lines, line("s", {**good, "stream": True})]))
    assert batch.status == "failed" and batch.output_file_id is None
    assert [(e.line, e.code) for e in batch.errors.data] == [
        (2, "invalid_json_line"),
        (3, "duplicate_custom_id"),
        (4, "mismatched_endpoint"),
        (5, "missing_required_parameter"),
        (6, "invalid_request"),
    ]
    empty = ended(client, begun(client, [" ", ""]))
    assert [e.code for e in empty.errors.data] == ["empty_file"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input_file_id": "file-nope"}, "input_file_id"),
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
    ],
)
def test_what_can_not_be_begun_is_refused_by_field(client, change, param):
    file = client.files.create(file=("in.jsonl", line("a", {}).encode()), purpose="batch")
    asked = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h"}
    with pytest.raises(openai.BadRequestError) as caught:
        client.batches.create(**{**asked, **change})
    assert caught.value.param == param
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_nope")


def test_batches_page_from_the_newest(client):
    made = [begun(client, [line("a", {"model": "nope", "messages": HI})]).id for _ in range(3)]
    listed = [batch.id for batch in client.batches.list(limit=2)]
    assert [id for id in listed if id in made] == made[::-1]
    assert ended(client, client.batches.retrieve(made[0])).request_counts.failed == 1
    with pytest.raises(openai.BadRequestError) as caught:
        client.batches.cancel(made[0])
    assert caught.value.code == "batch_ended"


def test_a_batch_asks_only_what_its_project_may(tmp_path, base):
    model = "ft:tiny:local:theirs:Aa11Bb22"
    with running(tmp_path, base) as server:
        add_version(server.workspace, base, model)
        desk = server.client(server.workspace.keys.create("k", "desk")[1])
        lines = [line("theirs", {"model": model, "messages": HI, "max_tokens": 1}), line("base", {"model": "tiny", "messages": HI, "max_tokens": 1})]
        batch = ended(desk, begun(desk, lines))
        assert set(told(desk, batch.output_file_id)) == {"base"} and set(told(desk, batch.error_file_id)) == {"theirs"}
        with pytest.raises(openai.NotFoundError):
            server.client(server.workspace.keys.create("k", "lab")[1]).batches.retrieve(batch.id)


class Slow(Workspace):
    """Answers the first request at once, and the others when it is let."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.let = threading.Event()
        self.asked = 0

    def stream(self, *args: Any, **more: Any) -> Iterator[Piece]:
        self.asked += 1
        if self.asked > 1:
            self.let.wait(30)
        yield Piece(0, "Hello", "end", Usage(3, 1))


def client_of(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="sk-any", max_retries=0, _strict_response_validation=True)


def test_a_cancelled_batch_keeps_what_was_answered(tmp_path):
    workspace = Slow(tmp_path)
    lines = [line(f"q{n}", {"model": "starter", "messages": HI}) for n in range(5)]
    with serving(workspace) as url:
        client = client_of(url)
        batch = begun(client, lines)
        while client.batches.retrieve(batch.id).request_counts.completed < 1:
            time.sleep(0.05)
        assert client.batches.cancel(batch.id).status == "cancelling"
        batch = ended(client, client.batches.retrieve(batch.id))
        workspace.let.set()
        assert batch.status == "cancelled" and batch.cancelled_at
        assert list(told(client, batch.output_file_id)) == ["q0"]


def test_the_end_of_a_batch_is_told(server: Running):
    hook, _ = server.workspace.webhooks.create("http://127.0.0.1:1/hook", (), "default")
    batch = ended(server.client(), begun(server.client(), ["{"]))
    (delivery,) = server.workspace.webhooks.deliveries(hook.id)
    server.workspace.webhooks.remove(hook.id)
    assert delivery.type == "batch.failed" and json.loads(delivery.body)["data"] == {"id": batch.id}


def test_a_batch_whose_server_is_gone_has_failed(server: Running):
    documents, client = server.workspace.documents, server.client()
    batch = begun(client, [line("a", {"model": "nope", "messages": HI})])
    ended(client, batch)
    host = documents.get(KIND, batch.id).body["server"].split(":")[0]
    for status, seen in (("in_progress", "failed"), ("cancelling", "cancelled")):
        for gone in ("999999999", str(os.getpid())):  # the second one had the number that this process has
            kept = documents.get(KIND, batch.id)
            documents.change(kept, {"status": status, "server": f"{host}:{gone}:another"})
            assert client.batches.retrieve(batch.id).status == seen


def test_a_batch_out_of_time_says_which_requests_were_not_answered(tmp_path, monkeypatch):
    monkeypatch.setattr("journeyman.api.batches.WINDOW_S", -1)
    workspace = Slow(tmp_path)
    lines = [line(f"q{n}", {"model": "starter", "messages": HI}) for n in range(40)]
    with serving(workspace) as url:
        client = client_of(url)
        batch = ended(client, begun(client, lines))
        workspace.let.set()
        assert batch.status == "expired" and batch.request_counts.total == 40
        late = told(client, batch.error_file_id)
        assert all(shown["error"]["code"] == "batch_expired" and shown["response"] is None for shown in late.values())
        answered = told(client, batch.output_file_id) if batch.output_file_id else {}
        assert {*late, *answered} == {f"q{n}" for n in range(40)} and not {*late} & {*answered}
