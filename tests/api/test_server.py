from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest

from journeyman.api import server
from journeyman.api.server import prepare, serve
from journeyman.api.wire import NO_EFFECT, ChatRequest
from journeyman.errors import BaseNotFound, JourneymanError
from journeyman.generate.engine import Piece
from journeyman.records import Usage

from .scripted import Scripted, serving

BODY = {"model": "starter", "messages": [{"role": "user", "content": "Hi"}]}


class Endless:
    """A script that answers until it is closed, and remembers who ran it."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.begun = threading.Event()
        self.ended = threading.Event()
        self.closed_in = 0

    def __call__(self):
        try:
            while True:
                self.threads.add(threading.get_ident())
                yield Piece(0, "word ")
                self.begun.set()
                time.sleep(0.002)
        finally:
            self.closed_in = threading.get_ident()
            self.ended.set()


@contextmanager
def asked(url: str, body: dict) -> Iterator[None]:
    """A request whose client leaves at the end of the block."""
    content, address = json.dumps(body).encode(), httpx.URL(url)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    with socket.create_connection((address.host, address.port)) as raw:
        raw.sendall(head.encode() + content)
        yield


def test_a_client_that_leaves_a_stream_ends_the_decoding_in_its_own_thread():
    script = Endless()
    with serving(Scripted(script)) as url:
        with httpx.stream("POST", f"{url}/v1/chat/completions", json={**BODY, "stream": True}) as reply:
            lines = reply.iter_lines()
            for _ in range(5):
                next(lines)
        assert script.ended.wait(5)
    assert script.threads == {script.closed_in}


def test_a_client_that_leaves_a_plain_request_ends_the_decoding():
    script = Endless()
    with serving(Scripted(script)) as url:
        with asked(url, BODY):
            assert script.begun.wait(5)
        assert script.ended.wait(5)


def test_a_stop_ends_streams_that_do_not_end_by_themselves(monkeypatch):
    monkeypatch.setattr(server, "DRAIN_S", 1)
    script = Endless()
    with serving(Scripted(script)) as url, httpx.Client() as client:
        request = client.build_request("POST", f"{url}/v1/chat/completions", json={**BODY, "stream": True})
        reply = client.send(request, stream=True)
        assert script.begun.wait(5)
    assert script.ended.wait(5)
    with suppress(httpx.HTTPError):
        assert "[DONE]" not in reply.read().decode()


def test_what_is_not_asked_for_any_more_while_it_waits_is_never_begun():
    release, begun, times = threading.Event(), threading.Event(), []

    def script():
        times.append(time.monotonic())
        begun.set()
        release.wait(10)
        yield Piece(0, "x", "end", Usage(1, 1))

    with serving(Scripted(script)) as url:
        with asked(url, {**BODY, "n": 3}):
            assert begun.wait(5)
        for _ in range(3):  # when these are answered, the server has seen the first client leave
            httpx.get(f"{url}/healthz")
        release.set()
    assert len(times) == 1


def test_the_document_describes_refusals_as_they_are():
    with serving(Scripted()) as url:
        document = httpx.get(f"{url}/openapi.json").json()
    answers = document["paths"]["/v1/chat/completions"]["post"]["responses"]
    assert set(answers) == {"200", "4XX", "5XX"}


def test_no_page_of_the_server_names_another_host():
    """A script of another host would run in the operator's browser, beside what the server holds."""
    with serving(Scripted()) as url:
        paths = httpx.get(f"{url}/openapi.json").json()["paths"]
        places = ["/", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"]
        places += [path for path, methods in paths.items() if "get" in methods and path.startswith("/v1") is False]
        replies = [httpx.get(url + place) for place in places]
    for reply in replies:
        assert not reply.headers["content-type"].startswith("text/html"), reply.url
        assert "http://" not in reply.text.replace(url, "") and "https://" not in reply.text, reply.url


def test_penalties_and_biases_reach_the_sampling():
    workspace = Scripted()
    fields = {"frequency_penalty": 0.5, "presence_penalty": -1, "logit_bias": {"5": 10, "7": -100}}
    with serving(workspace) as url:
        assert httpx.post(f"{url}/v1/chat/completions", json={**BODY, **fields}).status_code == 200
        assert httpx.post(f"{url}/v1/chat/completions", json=BODY).status_code == 200
    (_, _, asked), (_, _, plain) = workspace.asked
    assert (asked.frequency_penalty, asked.presence_penalty, asked.logit_bias) == (0.5, -1, {5: 10, 7: -100})
    assert (plain.frequency_penalty, plain.presence_penalty, plain.logit_bias) == (0, 0, {})


def test_every_field_is_honoured_refused_or_named_as_without_effect():
    assert ChatRequest.model_fields.keys() >= NO_EFFECT
    for name in NO_EFFECT:
        assert not ChatRequest.model_fields[name].metadata


def test_a_server_takes_requests_before_torch_is_loaded(tmp_path):
    script = """
import sys
from journeyman.api import server
from journeyman.cli.main import app

def serve(workspace, **_):
    print("torch" in sys.modules)
    workspace.prepare_answers()
    print("torch" in sys.modules)

server.serve = serve
app(["serve", "--port", "0", "--workers", "0"], standalone_mode=False)
"""
    environment = {**os.environ, "JOURNEYMAN_HOME": str(tmp_path)}
    said = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert said.stdout.split() == ["False", "True"]


def test_a_slow_answer_does_not_hold_up_others():
    release = threading.Event()

    def slow():
        release.wait(10)
        yield Piece(0, "late", "end", Usage(1, 1))

    with serving(Scripted(slow)) as url:
        answers: list[httpx.Response] = []
        waiting = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{url}/v1/chat/completions", json=BODY, timeout=20))
        )
        waiting.start()
        assert httpx.get(f"{url}/healthz", timeout=2).status_code == 200
        assert httpx.get(f"{url}/v1/models", timeout=2).status_code == 200
        release.set()
        waiting.join(10)
    assert answers[0].json()["choices"][0]["message"]["content"] == "late"


def test_a_whole_stream_ends_with_done():
    with serving(Scripted()) as url:
        reply = httpx.post(f"{url}/v1/chat/completions", json={**BODY, "stream": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    frames = reply.text.split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    deltas = [json.loads(frame.removeprefix("data: "))["choices"][0]["delta"] for frame in frames[:-2]]
    assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
    assert deltas[1:] == [{"content": "Hello"}, {"content": " there"}, {}]


def test_the_defaults_are_openais():
    workspace = Scripted()
    with serving(workspace) as url:
        httpx.post(f"{url}/v1/chat/completions", json=BODY)
    sampling = workspace.asked[0][2]
    assert (sampling.temperature, sampling.top_p, sampling.seed, sampling.stop) == (1.0, 1.0, None, ())
    assert sampling.max_tokens > 1_000_000


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.com"])
def test_other_machines_need_a_key(host):
    with pytest.raises(JourneymanError) as caught:
        serve(Scripted(), host, 0)
    assert caught.value.code == "key_needed" and "JOURNEYMAN_API_KEY" in caught.value.fix


def test_with_a_key_any_address_may_be_used():
    _, listening = prepare(Scripted(keys=("sk-1",)), "0.0.0.0", 0)
    listening.close()


def test_a_taken_port_is_named():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(JourneymanError) as caught:
            serve(Scripted(), "127.0.0.1", port)
    assert caught.value.code == "port_taken" and str(port) in caught.value.message


@pytest.mark.parametrize(("host", "port"), [("no.such.host.invalid", 0), ("127.0.0.1", 70_000)])
def test_an_address_that_can_not_be_used(host, port):
    with pytest.raises(JourneymanError) as caught:
        prepare(Scripted(keys=("sk-1",)), host, port)
    assert caught.value.code == "address_unusable"


def test_a_base_that_is_not_here_is_named_at_the_start(tmp_path):
    with pytest.raises(BaseNotFound):
        prepare(Scripted(), "127.0.0.1", 0, bases=[str(tmp_path)])


def test_a_name_that_two_bases_would_have_is_refused_at_the_start(base):
    with pytest.raises(BaseNotFound, match="which is starter-1 already"):
        prepare(Scripted(), "127.0.0.1", 0, bases=[f"starter-1={base}"])


PROGRAM = """
import sys
from pathlib import Path
from journeyman.api.server import serve
from journeyman.workspace import Workspace

def ready(url):
    print(url, "torch" in sys.modules, flush=True)

serve(Workspace(Path(sys.argv[1])), port=0, on_ready=ready)
print("stopped", flush=True)
"""


def test_it_starts_without_torch_and_ctrl_c_stops_it(tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith("JOURNEYMAN_")}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )
    try:
        url, torch_loaded = process.stdout.readline().split()
        assert torch_loaded == "False"
        models = httpx.get(f"{url}/models", timeout=10).json()
        assert [model["id"] for model in models["data"]] == ["starter-1"]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    finally:
        process.kill()
    assert out == "stopped\n" and process.returncode == 0
    assert "Traceback" not in err
