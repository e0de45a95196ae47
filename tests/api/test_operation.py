"""How the service is watched and stopped: /healthz, /metrics, the log, SIGTERM."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from journeyman import logs
from journeyman.api.health import STUCK_S, Progress
from journeyman.api.server import prepare, url_of
from journeyman.generate.engine import Piece
from journeyman.generate.loop import Load
from journeyman.jobs.presence import Presence
from journeyman.jobs.standing import Standing
from journeyman.plan.plan import Wishes
from journeyman.request import TrainRequest
from journeyman.workspace import Workspace

from .conftest import running
from .scripted import Scripted, serving

CHAT = {"model": "starter", "messages": [{"role": "user", "content": "hello"}]}


def numbers(url: str, **headers: str) -> dict[tuple[str, ...], float]:
    reply = httpx.get(f"{url}/metrics", headers=headers)
    assert reply.status_code == 200, reply.text
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def write_rows(path: Path, count: int = 12) -> Path:
    def row(i: int) -> str:
        asked, answer = f"Where is parcel {i}?", f"Parcel {i} is on its way."
        return json.dumps({"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]})

    path.write_text("".join(row(i) + "\n" for i in range(count)))
    return path


def queue_job(workspace: Workspace, base: Path, folder: Path) -> None:
    workspace.submit(TrainRequest(str(write_rows(folder / "rows.jsonl")), str(base)))


# ── /healthz ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_healthz_tells_of_jobs_that_wait_for_nobody(tmp_path, base):
    with running(tmp_path / "home", base) as server:
        reply = httpx.get(f"{server.url}/healthz")
        assert (reply.status_code, reply.json()["status"]) == (200, "ok")
        queue_job(server.workspace, base, tmp_path)
        time.sleep(1.1)  # one look counts for a second
        report = httpx.get(f"{server.url}/healthz").json()
        assert report["status"] == "degraded"
        waits = "1 jobs wait, and no worker lives"
        assert report["checks"] == {"database": "ok", "engine": "ok", "disk": "ok", "workers": waits}
        Presence(server.workspace.jobs.engine, 0).beat(None)
        time.sleep(1.1)
        assert httpx.get(f"{server.url}/healthz").json()["status"] == "ok"


def test_healthz_fails_where_the_database_is_gone_and_says_when_the_disk_is_full():
    workspace = Scripted()
    with serving(workspace) as url:
        workspace.standing = lambda: Standing({}, 0, 0.0, (), 2**20)
        full = httpx.get(f"{url}/healthz")
        assert (full.status_code, full.json()["status"]) == (200, "degraded")
        assert full.json()["checks"]["disk"].startswith("1 MiB free")

        def gone() -> Standing:
            raise sa.exc.OperationalError("SELECT 1", {}, Exception("secret-host refused"))

        workspace.standing = gone
        time.sleep(1.1)
        down = httpx.get(f"{url}/healthz")
        assert (down.status_code, down.json()["status"]) == (503, "failing")
        assert "secret-host" not in down.text
        assert numbers(url)[("journeyman_database_up",)] == 0


def test_a_database_that_hangs_holds_one_thread_and_no_client():
    workspace, looks, let_go = Scripted(), [], threading.Event()

    def hangs() -> Standing:
        looks.append(1)
        let_go.wait(20)
        return Standing({}, 0, 0.0, (), 2**40)

    workspace.standing = hangs
    with serving(workspace) as url:
        began_s = time.monotonic()
        assert {httpx.get(f"{url}/healthz", timeout=10).status_code for _ in range(2)} == {503}
        assert time.monotonic() - began_s < 9
        assert len(looks) == 1
        let_go.set()


def test_an_engine_that_has_work_and_does_none_is_found_and_one_that_goes_on_is_not(monkeypatch):
    now_s, load, progress = 1000.0, Load(), Progress()
    monkeypatch.setattr(time, "monotonic", lambda: now_s)

    def look(after_s: float, **changes: int) -> str | None:
        nonlocal now_s
        now_s += after_s
        for name, value in changes.items():
            setattr(load, name, value)
        return progress.stuck({"tiny": load})

    assert look(0) is None
    assert look(3600) is None, "it has no work"
    assert look(1, running=2, waiting=1) is None
    assert look(STUCK_S - 5) is None
    assert look(1, passes=1) is None, "it got on"
    assert look(STUCK_S - 5) is None
    assert look(10) == "3 requests under way, and no pass of the model ended for 65 s"
    assert look(1, running=0, waiting=0) is None


# ── /metrics ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_requests_are_counted_by_pattern_and_status(tmp_path, base):
    with running(tmp_path / "home", base) as server:
        for path in ("/v1/files/file-1", "/v1/files/file-2", "/v1/no/such/thing"):
            httpx.get(f"{server.url}{path}")
        httpx.request("PROPFIND", f"{server.url}/v1/models")
        queue_job(server.workspace, base, tmp_path)
        usage = server.client().chat.completions.create(**{**CHAT, "model": "tiny"}, max_tokens=5).usage
        found = numbers(server.url)
    assert found[("journeyman_http_requests_total", "/v1/files/{file_id}", "404", "GET")] == 2
    assert found[("journeyman_http_requests_total", "404", "GET", "unknown")] == 1
    assert sum(n for key, n in found.items() if key[0] == "journeyman_http_requests_total" and "other" in key) == 1
    assert found[("journeyman_http_request_seconds_count", "/v1/files/{file_id}")] == 2
    assert found[("journeyman_engine_requests_total", "tiny")] == 1
    assert found[("journeyman_engine_generated_tokens_total", "tiny")] == usage.completion_tokens
    assert found[("journeyman_engine_prompt_tokens_total", "tiny")] == usage.prompt_tokens
    assert found[("journeyman_http_requests_under_way",)] == 1, "the scrape itself"
    assert found[("journeyman_jobs", "queued")] == found[("journeyman_jobs_waiting",)] == 1
    assert found[("journeyman_workers", "idle")] == 0
    assert found[("journeyman_disk_free_bytes",)] > 0
    assert found[("process_resident_memory_bytes",)] > 0


def test_metrics_are_for_the_owner(tmp_path, base):
    with running(tmp_path / "home", base, keys=("sk-owner",)) as server:
        _, theirs = server.workspace.keys.create("them", "theirs")
        statuses = [
            httpx.get(f"{server.url}/metrics", headers=headers).status_code
            for headers in ({}, {"authorization": f"Bearer {theirs}"}, {"authorization": "Bearer sk-owner"})
        ]
    assert statuses == [401, 403, 200]


# ── the log ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def lines():
    """What is logged meanwhile, as JSON lines."""
    stream, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(stream), root.level
    handler.setFormatter(logs.JsonLines())
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.removeHandler(handler)
    root.setLevel(level)


def test_a_line_of_the_log_names_the_request_and_the_job(tmp_path, base, lines):
    with running(tmp_path / "home", base) as server:
        rows = write_rows(tmp_path / "rows.jsonl")
        client = server.client()
        file = client.files.create(file=rows, purpose="fine-tune")
        job = client.fine_tuning.jobs.create(model="tiny", training_file=file.id, extra_query={"secret": "s3cret"})
    created = [line for line in lines() if line["message"] == f"{job.id}: created"]
    assert [(line["job_id"], line["request_id"]) for line in created] == [(job.id, job._request_id)]
    asked = [line for line in lines() if line.get("request_id") == job._request_id and line["logger"] == "journeyman.access"]
    assert [(line["method"], line["path"], line["status"], line["project"]) for line in asked] == [
        ("POST", "/v1/fine_tuning/jobs", 200, "default")
    ]
    ours = [line for line in lines() if line["logger"].startswith("journeyman")]
    assert not any("s3cret" in json.dumps(line) for line in ours)


def test_an_exception_is_one_line_of_json():
    try:
        raise ValueError("a\nb")
    except ValueError:
        record = logging.getLogger("x").makeRecord("x", logging.ERROR, "f", 1, "failed: %s", ("ü",), sys.exc_info())
    text = logs.JsonLines().format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert (line["level"], line["message"]) == ("error", "failed: ü")
    assert line["exception"].endswith("ValueError: a\nb")
    assert "request_id" not in line


# ── SIGTERM ───────────────────────────────────────────────────────────────────────────────────────────────────


def endless() -> Iterator[Piece]:
    while True:
        yield Piece(0, "and ", None)
        time.sleep(0.05)


@contextmanager
def stopping() -> Iterator[tuple[str, Callable[[], None]]]:
    """A server whose answers have no end, and what tells it to stop."""
    server, listening = prepare(Scripted(endless), "127.0.0.1", 0, drain_s=1)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()

    def stop() -> None:
        server.should_exit = True

    try:
        yield url_of(listening), stop
    finally:
        stop()
        thread.join(15)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("path", "body"), [("chat/completions", CHAT), ("responses", {"model": "starter", "input": "hello", "store": False})]
)
def test_a_stream_that_is_not_over_when_the_server_stops_ends_with_an_error(caplog, path, body):
    frames = []
    with (
        stopping() as (url, stop),
        httpx.stream("POST", f"{url}/v1/{path}", json={**body, "stream": True}, timeout=30) as reply,
    ):
        for line in reply.iter_lines():
            frames += [json.loads(line.removeprefix("data: "))] if line.startswith("data: ") else []
            stop()
    last = frames[-1].get("error", frames[-1])
    assert len(frames) > 5 and last["code"] == "server_stopping"
    assert "Traceback" not in caplog.text and "Exception in ASGI" not in caplog.text


def test_what_is_not_answered_when_the_server_stops_is_refused(caplog):
    with stopping() as (url, stop), socket.create_connection(("127.0.0.1", httpx.URL(url).port), timeout=30) as slow:
        slow.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n")
        slow.sendall(b'content-type: application/json\r\n\r\n{"model": ')
        threading.Timer(0.5, stop).start()
        reply = httpx.post(f"{url}/v1/chat/completions", json=CHAT, timeout=30)
        assert b" 503 " in slow.recv(1000).partition(b"\r\n")[0]
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "server_stopping")
    assert "x-should-retry" not in reply.headers
    assert "Traceback" not in caplog.text and "Exception in ASGI" not in caplog.text


def test_sigterm_lets_a_stream_end_and_hands_the_job_back(tmp_path, base):
    home = tmp_path / "home"
    workspace = Workspace(home)
    rows = write_rows(tmp_path / "rows.jsonl", 600)
    job = workspace.submit(TrainRequest(str(rows), str(base), Wishes(epochs=50, batch_size=1, rank=4)))
    environment = {**os.environ, "JOURNEYMAN_HOME": str(home), "JOURNEYMAN_LOG": "json"}
    command = [sys.executable, "-m", "journeyman", "serve", "--port", "0", "--drain", "60"]
    with (tmp_path / "log").open("w+") as log:
        server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            line = server.stdout.readline()
            url = line.split()[2]
            deadline_s = time.monotonic() + 300
            while not (now := workspace.job(job.id)).step:
                assert not now.status.terminal and time.monotonic() < deadline_s, now
                time.sleep(0.1)
            body = {**CHAT, "stream": True, "max_tokens": 200, "logit_bias": {}, "temperature": 0}
            frames = []
            with httpx.stream("POST", f"{url}/chat/completions", json=body, timeout=120) as reply:
                for frame in reply.iter_lines():
                    if frame.startswith("data: "):
                        frames.append(frame)
                    if len(frames) == 2:
                        server.send_signal(signal.SIGTERM)
            assert frames[-1] == "data: [DONE]"
            assert server.wait(60) == 0
        finally:
            server.kill()
        said = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    left = workspace.job(job.id)
    assert (left.status, left.lease_owner) == ("queued", None)
    assert any((left.folder / "checkpoints").glob("step-*"))
    assert not workspace.standing().workers
    assert {"journeyman.access", "journeyman.jobs"} <= {line["logger"] for line in said}
    assert [line["job_id"] for line in said if line["message"] == f"{job.id}: begun"] == [job.id]
