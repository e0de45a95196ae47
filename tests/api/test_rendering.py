"""Text that no UTF-8 can hold: refused where it comes in, readable where an earlier version kept it."""

from __future__ import annotations

import io
import json
import time

import httpx
import pytest

from journeyman.api.rendering import json_bytes
from journeyman.storage.documents import DEFAULT_PROJECT

from .scripted import serving
from .test_any_request import KEY, Answering

JSON_TYPE = {"content-type": "application/json"}


@pytest.fixture
def it(tmp_path):
    workspace = Answering(tmp_path)
    object.__setattr__(workspace.settings, "api_keys", ("sk-owner",))
    with serving(workspace) as url, httpx.Client(base_url=url, headers=KEY, timeout=20) as client:
        yield workspace, client


def test_what_json_bytes_writes_is_json():
    assert json.loads(json_bytes({"a\ud83d": ["é", "\ud83d", "😀"]})) == {"a\ud83d": ["é", "\ud83d", "😀"]}


def test_kept_halves_do_not_make_a_list_unreadable(it):
    workspace, client = it
    kept = client.post("/v1/responses", json={"model": "starter", "input": "Hi"}).json()["id"]
    documents = workspace.documents.of(DEFAULT_PROJECT)
    documents.change(documents.get("response", kept), {"input": [{"id": "msg_1", "type": "message", "role": "user", "content": "\ud800"}]})
    reply = client.get(f"/v1/responses/{kept}/input_items")
    assert reply.status_code == 200 and reply.json()["data"][0]["content"] == "\ud800"


def test_an_unsound_body_is_refused_and_leaves_nothing(it):
    _, client = it
    config = {"type": "custom", "item_schema": {"type": "object", "title": "\ud800"}}
    body = json.dumps({"data_source_config": config, "testing_criteria": []})
    reply = client.post("/v1/evals", content=body, headers=JSON_TYPE)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "data_source_config.item_schema.title")
    assert client.get("/v1/evals").json()["data"] == []
    for path in ("/v1/files?after=%00", "/v1/models/a%00"):
        assert client.get(path).status_code == 400
    form = client.post("/v1/files", files={"file": ("a.jsonl", io.BytesIO(b"{}"))}, data={"purpose": "\0"})
    assert (form.status_code, form.json()["error"]["param"]) == (400, "purpose")


def test_u0000_is_read_where_nothing_is_kept(it):
    _, client = it
    messages = [{"role": "user", "content": "a\0"}]
    asked = {"model": "starter", "messages": messages}
    assert client.post("/v1/chat/completions", json=asked).status_code == 200
    assert client.post("/v1/chat/completions", json={**asked, "store": True}).status_code == 400
    assert client.post("/v1/responses", json={"model": "starter", "input": "a\0"}).status_code == 400
    asked = {"model": "starter", "input": "a\0", "store": False}
    assert client.post("/v1/responses", json=asked).status_code == 200


def test_an_unsound_line_fails_by_itself(it):
    _, client = it
    lines = [
        {"custom_id": str(i), "method": "POST", "url": "/v1/chat/completions", "body": {"model": "starter", "messages": [{"role": "user", "content": text}]}}
        for i, text in enumerate(("Hi", "\ud83d"))
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    file = client.post("/v1/files", files={"file": ("a.jsonl", content)}, data={"purpose": "batch"}).json()["id"]
    asked = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = client.post("/v1/batches", json=asked).json()["id"]
    deadline_s = time.monotonic() + 20
    while (now := client.get(f"/v1/batches/{batch}").json())["status"] not in ("completed", "failed"):
        assert time.monotonic() < deadline_s, now
        time.sleep(0.1)
    assert now["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
