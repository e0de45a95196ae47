"""Runs of evals: many items at once, and a server that is killed under them."""

from __future__ import annotations

import errno
import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.evals import RunRetrieveResponse

from journeyman.api.alive import this_server
from journeyman.api.eval_runs import AT_ONCE, ITEM, MAX_RUNS
from journeyman.generate.engine import Piece
from journeyman.records import Usage
from journeyman.storage.documents import Document, Documents
from journeyman.workspace import Workspace

from .scripted import a_server, serving

LONG = {"type": "string_check", "name": "said", "input": "{{sample.output_text}}", "reference": "e", "operation": "ilike"}
CUSTOM = {"type": "custom", "item_schema": {"type": "object", "properties": {"n": {"type": "string"}}}}


def client_of(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="sk-any", max_retries=0)


def source(rows: int, **params: Any) -> dict[str, Any]:
    return {
        "type": "completions",
        "model": "starter",
        "source": {"type": "file_content", "content": [{"item": {"n": str(n)}} for n in range(rows)]},
        "input_messages": {"type": "template", "template": [{"role": "user", "content": "Say {{item.n}}"}]},
        "sampling_params": {"max_completion_tokens": 4, "temperature": 0, **params},
    }


def begun(client: openai.OpenAI, rows: int) -> RunRetrieveResponse:
    of = client.evals.create(data_source_config=CUSTOM, testing_criteria=[LONG])
    run = client.evals.runs.create(of.id, data_source=source(rows))
    return client.evals.runs.retrieve(run.id, eval_id=of.id)


def ended(client: openai.OpenAI, run: RunRetrieveResponse) -> RunRetrieveResponse:
    deadline = time.monotonic() + 60
    while run.status in ("queued", "in_progress"):
        assert time.monotonic() < deadline, run
        time.sleep(0.05)
        run = client.evals.runs.retrieve(run.id, eval_id=run.eval_id)
    return run


def items(client: openai.OpenAI, run: RunRetrieveResponse) -> list[Any]:
    return list(client.evals.runs.output_items.list(run.id, eval_id=run.eval_id, limit=100))


def test_a_run_that_begins_while_it_is_cancelled_is_cancelled_all_the_same(tmp_path, monkeypatch):
    workspace = Counting(tmp_path)
    with serving(workspace) as url:
        client = client_of(url)
        runs = [begun(client, 3) for _ in range(MAX_RUNS + 1)]
        queued, get = runs[-1].id, Documents.get
        begins = iter([True])

        def read_as_it_begins(self: Documents, kind: str, id: str, **more: Any) -> Document:
            found = get(self, kind, id, **more)
            if id == queued and next(begins, False):
                assert found.body["status"] == "queued"
                self.change(found, {"status": "in_progress"})
            return found

        monkeypatch.setattr(Documents, "get", read_as_it_begins)
        assert client.evals.runs.cancel(queued, eval_id=runs[-1].eval_id).status == "canceled"
        workspace.let.set()
        for run in runs[:-1]:
            ended(client, run)
        assert client.evals.runs.retrieve(queued, eval_id=runs[-1].eval_id).status == "canceled"
        with pytest.raises(openai.BadRequestError, match="canceled already"):
            client.evals.runs.cancel(queued, eval_id=runs[-1].eval_id)


class Counting(Workspace):
    """Answers when it is let, and knows how many it was asked for at once."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.let = threading.Event()
        self.lock, self.now, self.most, self.asked = threading.Lock(), 0, 0, 0

    def stream(self, *args: Any, **more: Any) -> Iterator[Piece]:
        with self.lock:
            self.asked += 1
            self.now += 1
            self.most = max(self.most, self.now)
        self.let.wait(30)
        with self.lock:
            self.now -= 1
        yield Piece(0, "Hello", "end", Usage(3, 1))


def test_items_are_answered_together_and_kept_in_order(tmp_path):
    workspace = Counting(tmp_path)
    with serving(workspace) as url:
        client = client_of(url)
        run = begun(client, 40)
        deadline = time.monotonic() + 20
        while workspace.now < AT_ONCE and time.monotonic() < deadline:
            time.sleep(0.01)
        workspace.let.set()
        run = ended(client, run)
        assert [item.datasource_item_id for item in items(client, run)] == list(range(40))
    assert workspace.most == AT_ONCE and workspace.asked == 40
    assert (run.result_counts.total, run.result_counts.passed) == (40, 40)
    assert run.per_model_usage[0].invocation_count == 40 and run.per_model_usage[0].total_tokens == 160


def test_a_run_whose_server_is_killed_goes_on_where_it_was(tmp_path):
    """kill -9 at random moments: every item is there once, in its order, and the counts are those of the items."""
    rng, run, kept = random.Random(0), None, []
    for kill in range(3):
        with a_server(tmp_path) as (url, process):
            client = client_of(url)
            if run is None:
                run = begun(client, 300)
            if kill == 2:
                run = ended(client, client.evals.runs.retrieve(run.id, eval_id=run.eval_id))
                found = items(client, run)
                break
            wanted, deadline = len(kept) + rng.randint(1, 30), time.monotonic() + 60
            while len(kept) < wanted:
                assert time.monotonic() < deadline
                kept = [item.id for item in items(client, run)]
            process.kill()
            process.wait()
    assert run.status == "completed", run.error
    assert [item.datasource_item_id for item in found] == list(range(300))
    assert [item.id for item in found][: len(kept)] == kept, "what was answered before stays"
    assert run.result_counts.total == 300
    assert run.result_counts.passed == sum(item.status == "pass" for item in found)
    assert run.per_model_usage[0].completion_tokens == sum(item.sample.usage.completion_tokens for item in found)


def test_a_server_that_stops_leaves_its_runs_to_the_next(tmp_path):
    workspace = Counting(tmp_path)
    with serving(workspace) as url:
        run = begun(client_of(url), 40)
        deadline = time.monotonic() + 20
        while not workspace.now and time.monotonic() < deadline:
            time.sleep(0.01)
    workspace.let.set()
    for thread in threading.enumerate():
        if thread.name.startswith("eval"):
            thread.join(20)
    left = workspace.documents.get("eval.run", run.id)
    assert left.body["status"] == "in_progress" and workspace.asked < 40
    # as a process with another number, that is gone, has left it
    workspace.documents.change(left, {"runner": f"{this_server().split(':')[0]}:4000000:x"})
    following = Counting(tmp_path)
    following.let.set()
    with serving(following) as url:
        client = client_of(url)
        run = ended(client, client.evals.runs.retrieve(run.id, eval_id=run.eval_id))
        assert [item.datasource_item_id for item in items(client, run)] == list(range(40))
    assert (run.status, run.result_counts.passed) == ("completed", 40)


def test_a_run_that_no_server_survives_is_given_up(tmp_path):
    workspace = Counting(tmp_path)
    workspace.let.set()
    with serving(workspace) as url:
        run = ended(client_of(url), begun(client_of(url), 3))
    kept = workspace.documents.get("eval.run", run.id)
    gone = {"status": "in_progress", "runner": f"{this_server().split(':')[0]}:4000000:x"}
    workspace.documents.change(kept, {**gone, "deaths": {"times": 5, "items": 3}})
    with serving(workspace) as url:
        client = client_of(url)
        failed = ended(client, client.evals.runs.retrieve(run.id, eval_id=run.eval_id))
    assert (failed.status, failed.error.code) == ("failed", "server_stopped")


def test_rows_that_changed_under_a_run_are_not_mixed(tmp_path):
    workspace = Counting(tmp_path)
    workspace.let.set()
    with serving(workspace) as url:
        run = ended(client_of(url), begun(client_of(url), 3))
    kept = workspace.documents.get("eval.run", run.id)
    other = {**kept.body["data_source"], "source": {"type": "file_content", "content": [{"item": {"n": "9"}}] * 4}}
    gone = {"status": "in_progress", "runner": f"{this_server().split(':')[0]}:4000000:x"}
    workspace.documents.change(kept, {**gone, "data_source": other})
    with serving(workspace) as url:
        client = client_of(url)
        failed = ended(client, client.evals.runs.retrieve(run.id, eval_id=run.eval_id))
    assert (failed.status, failed.error.code) == ("failed", "rows_changed")


def test_a_run_waits_for_room_on_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("journeyman.api.eval_runs.TAKE_UP_S", 0.05)
    workspace, refused = Counting(tmp_path), threading.Event()
    workspace.let.set()
    add = Documents.add

    def full_at_first(self: Documents, kind: str, *args: Any, **more: Any) -> Document:
        if kind == ITEM and not refused.is_set():
            refused.set()
            raise OSError(errno.ENOSPC, "No space left on device")
        return add(self, kind, *args, **more)

    monkeypatch.setattr(Documents, "add", full_at_first)
    with serving(workspace) as url:
        client = client_of(url)
        run = ended(client, begun(client, 20))
        assert [item.datasource_item_id for item in items(client, run)] == list(range(20))
    assert refused.is_set() and (run.status, run.result_counts.passed) == ("completed", 20)


def test_items_that_lack_a_required_key_are_refused_or_errored_without_an_answer(tmp_path):
    workspace = Counting(tmp_path)
    workspace.let.set()
    needs_n = {"type": "custom", "item_schema": {**CUSTOM["item_schema"], "required": ["n"]}}
    with serving(workspace) as url:
        client = client_of(url)
        of = client.evals.create(data_source_config=needs_n, testing_criteria=[LONG])
        content = [{"item": {"n": "1"}}, {"item": {"m": "2"}}]
        with pytest.raises(openai.BadRequestError, match="item 1 has no 'n'") as refused:
            client.evals.runs.create(of.id, data_source={**source(1), "source": {"type": "file_content", "content": content}})
        assert refused.value.param == "data_source.source.content[1].item"
        lines = "\n".join(map(json.dumps, content)).encode()
        file = client.files.create(file=("items.jsonl", lines), purpose="evals")
        run = client.evals.runs.create(of.id, data_source={**source(1), "source": {"type": "file_id", "id": file.id}})
        run = ended(client, client.evals.runs.retrieve(run.id, eval_id=of.id))
        assert (run.status, run.result_counts.errored, workspace.asked) == ("completed", 1, 1)
