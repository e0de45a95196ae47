"""Batches through the SDK: files of requests, answered as single ones are."""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types import Batch

from journeyman.api.batch_answers import Answers
from journeyman.api.batches import KIND
from journeyman.generate.engine import Piece
from journeyman.records import Usage
from journeyman.workspace import Workspace

from .conftest import Running, add_version, running
from .scripted import a_server, serving

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


def told_whole(client: openai.OpenAI, file_id: str) -> str:
    return client.files.content(file_id).text


def told(client: openai.OpenAI, file_id: str) -> dict[str, dict[str, Any]]:
    """The lines of an output file by their custom ids."""
    lines = [json.loads(text) for text in told_whole(client, file_id).splitlines()]
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
        self.counting = threading.Lock()
        self.asked = 0

    def stream(self, *args: Any, **more: Any) -> Iterator[Piece]:
        with self.counting:
            self.asked += 1
            first = self.asked == 1
        if not first:
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
        assert len(told(client, batch.output_file_id)) == batch.request_counts.completed == 1


def test_the_end_of_a_batch_is_told(server: Running):
    hook, _ = server.workspace.webhooks.create("http://127.0.0.1:1/hook", (), "default")
    batch = ended(server.client(), begun(server.client(), ["{"]))
    (delivery,) = server.workspace.webhooks.deliveries(hook.id)
    server.workspace.webhooks.remove(hook.id)
    assert delivery.type == "batch.failed" and json.loads(delivery.body)["data"] == {"id": batch.id}


KILLS = 3


def test_a_batch_whose_server_is_killed_goes_on_where_it_was(tmp_path):
    """kill -9 at random moments: no request is answered twice, none is lost, and what was answered before stays as it was."""

    def asked(n: int) -> dict[str, Any]:
        messages = [{"role": "user", "content": f"Say {n}"}]
        return {"model": "starter", "temperature": 0, "max_tokens": 1 + n % 24, "messages": messages}

    lines = [line(f"q{n}", asked(n)) for n in range(200)]
    lines += [line(f"x{n}", {**asked(n), "model": "nope"}) for n in range(3)]
    rng, answered, batch = random.Random(0), "", None
    for kill in range(KILLS + 1):
        with a_server(tmp_path) as (url, process):
            client = client_of(url)
            batch = client.batches.retrieve(batch.id) if batch else begun(client, lines)
            assert batch.status in ("validating", "in_progress")
            if kill == KILLS:
                batch = ended(client, batch)
                output, error = told_whole(client, batch.output_file_id), told_whole(client, batch.error_file_id)
                break
            if kill == 1:
                client.files.delete(batch.input_file_id)
            partial = tmp_path / "batches" / batch.id / "output.jsonl"
            wanted, deadline = answered.count("\n") + rng.randint(1, 20), time.monotonic() + 60
            while not partial.exists() or partial.read_bytes().count(b"\n") < wanted:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            process.kill()
            process.wait()
        now = partial.read_text()
        assert now.startswith(answered)
        answered = now[: now.rindex("\n") + 1]
        with partial.open("a") as file:
            file.write('{"id": "batch_req_1", "custom_id": "q')  # as a kill in the middle of a write leaves it
    assert (batch.status, batch.request_counts.to_dict()) == ("completed", {"total": 203, "completed": 200, "failed": 3})
    assert output.startswith(answered)
    assert sorted(json.loads(text)["custom_id"] for text in output.splitlines()) == sorted(f"q{n}" for n in range(200))
    assert sorted(json.loads(text)["custom_id"] for text in error.splitlines()) == ["x0", "x1", "x2"]
    assert not list((tmp_path / "batches").iterdir())


def test_of_two_servers_one_answers_a_batch(tmp_path, monkeypatch):
    monkeypatch.setattr("journeyman.api.batches.TAKE_UP_S", 0.02)
    workspace, other = Slow(tmp_path), Slow(tmp_path)
    for one in (workspace, other):
        one.let.set()
    lines = [line(f"q{n}", {"model": "starter", "messages": HI}) for n in range(100)]
    with serving(workspace) as url, serving(other) as other_url:
        batches = [begun(client_of(at), lines) for at in (url, other_url)]
        for batch in (ended(client_of(url), batch) for batch in batches):
            assert batch.request_counts.completed == 100
            assert len(client_of(url).files.content(batch.output_file_id).text.splitlines()) == 100
    assert workspace.asked + other.asked == 200


@pytest.mark.parametrize("status", ["validating", "in_progress", "cancelling", "finalizing"])
def test_a_batch_is_taken_up_in_any_state_and_its_files_are_kept_once(tmp_path, status, monkeypatch):
    monkeypatch.setattr("journeyman.api.batches.TAKE_UP_S", 0.05)
    workspace = Slow(tmp_path)
    workspace.let.set()
    with serving(workspace) as url:
        client = client_of(url)
        batch = ended(client, begun(client, [line(f"q{n}", {"model": "starter", "messages": HI}) for n in range(6)]))
        whole = client.files.content(batch.output_file_id).text
        folder = tmp_path / "batches" / batch.id
        answered = {"validating": 0, "in_progress": 2, "cancelling": 2, "finalizing": 6}[status]
        was = ("completed_at", "output_file_id", "error_file_id")  # as they were before its end
        documents = workspace.documents
        kept = documents.get(KIND, batch.id)
        if status != "finalizing":  # which was killed after its file was kept
            client.files.delete(batch.output_file_id)
        folder.mkdir(parents=True)
        (folder / "output.jsonl").write_text("".join(whole.splitlines(keepends=True)[:answered]))
        assert documents.change(kept, {"status": status, **dict.fromkeys(was)})
        again = ended(client, client.batches.retrieve(batch.id))
        assert again.status == ("cancelled" if status == "cancelling" else "completed")
        text = client.files.content(again.output_file_id).text
        assert text.startswith("".join(whole.splitlines(keepends=True)[:answered]))
        expected = answered if status == "cancelling" else 6
        assert again.request_counts.completed == expected
        assert len({json.loads(shown)["custom_id"] for shown in text.splitlines()}) == len(text.splitlines()) == expected
        assert [file.id for file in client.files.list(purpose="batch_output")] == [again.output_file_id]


def test_a_batch_that_no_server_survives_is_given_up(tmp_path):
    workspace = Slow(tmp_path)
    workspace.let.set()
    with serving(workspace) as url:
        batch = ended(client_of(url), begun(client_of(url), [line("q", {"model": "starter", "messages": HI})]))
    kept = workspace.documents.get(KIND, batch.id)
    workspace.documents.change(
        kept, {"status": "in_progress", "taken_up": {"times": 5, "answered": 0, "server": "a:1:b"}}
    )
    with serving(workspace) as url:
        failed = ended(client_of(url), client_of(url).batches.retrieve(batch.id))
    assert (failed.status, [error.code for error in failed.errors.data]) == ("failed", ["server_stopped"])


def test_a_batch_needs_no_hard_links(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    workspace = Slow(tmp_path)
    workspace.let.set()
    with serving(workspace) as url:
        client = client_of(url)
        batch = ended(client, begun(client, [line("q", {"model": "starter", "messages": HI})]))
        assert batch.status == "completed" and set(told(client, batch.output_file_id)) == {"q"}
    assert not [path.name for path in (tmp_path / "files").iterdir() if path.name.startswith(".")]


def test_a_batch_waits_for_room_on_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("journeyman.api.batches.TAKE_UP_S", 0.05)
    full, add = itertools.count(), Answers.add

    def add_where_there_is_room(answers: Answers, shown: dict[str, Any]) -> None:
        if 3 <= next(full) < 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(answers, shown)

    monkeypatch.setattr(Answers, "add", add_where_there_is_room)
    workspace = Slow(tmp_path)
    workspace.let.set()
    with serving(workspace) as url:
        client = client_of(url)
        batch = ended(client, begun(client, [line(f"q{n}", {"model": "starter", "messages": HI}) for n in range(6)]))
        assert batch.status == "completed" and batch.request_counts.completed == 6
        assert set(told(client, batch.output_file_id)) == {f"q{n}" for n in range(6)}


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
