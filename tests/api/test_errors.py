from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import httpx
import openai
import pytest

from journeyman.api.errors import envelope_of, misfit_envelope, status_of
from journeyman.errors import (
    BaseNotFound,
    CheckpointError,
    DataError,
    JobConflict,
    JourneymanError,
    ModelNotFound,
    QueueFull,
    RequestError,
)
from journeyman.generate.engine import Piece

from .conftest import Running, running
from .scripted import Scripted, serving

HI = [{"role": "user", "content": "Hi"}]
BODY = {"model": "tiny", "messages": HI, "max_tokens": 2}


def refused(reply: httpx.Response, status: int) -> dict:
    """The error of a reply, which must have OpenAI's shape."""
    assert reply.status_code == status, reply.text
    assert reply.headers["x-request-id"].startswith("req_")
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and list(reply.json()) == ["error"]
    assert error["message"] and error["type"] in ("invalid_request_error", "server_error")
    return error


@pytest.fixture(scope="module")
def http(server: Running):
    with httpx.Client(base_url=server.url, timeout=20) as client:
        yield client


# ── bodies ────────────────────────────────────────────────────────────────────────────────────────────────────

UNSUPPORTED = {
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "wav"},
    "web_search_options": {},
}


@pytest.mark.parametrize("field", UNSUPPORTED)
def test_what_is_not_here_yet_is_refused_by_name(server: Running, field):
    with pytest.raises(openai.BadRequestError) as caught:
        server.client().chat.completions.create(**BODY, extra_body={field: UNSUPPORTED[field]})
    assert caught.value.code == "unsupported_parameter" and caught.value.param == field
    assert f"'{field}'" in caught.value.message


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": "Hi"}, "messages", "invalid_type"),
        ({"messages": [{"role": "user"}]}, "messages", "invalid_value"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content", "invalid_type"),
        ({"messages": [{"role": "user", "content": "x", "wieght": 1}]}, "messages[0].wieght", "unknown_parameter"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages", "invalid_value"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "tool", "tool_call_id": "c", "content": "x"}]}, "messages[1].role", "invalid_value"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages[0].content[0]", "unsupported_parameter"),
        ({"temperature": "1"}, "temperature", "invalid_type"),
        ({"temperature": True}, "temperature", "invalid_type"),
        ({"temperature": 2.1}, "temperature", "invalid_value"),
        ({"top_p": -0.1}, "top_p", "invalid_value"),
        ({"frequency_penalty": 2.1}, "frequency_penalty", "invalid_value"),
        ({"presence_penalty": "1"}, "presence_penalty", "invalid_type"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5", "invalid_value"),
        ({"logit_bias": [5]}, "logit_bias", "invalid_type"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 129}, "n", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": 1.5}, "max_tokens", "invalid_type"),
        ({"max_completion_tokens": 2}, "max_tokens", "invalid_parameter_combination"),
        ({"seed": 2**63}, "seed", "invalid_value"),
        ({"stop": ["a"] * 5}, "stop", "invalid_value"),
        ({"stop": ""}, "stop", "invalid_value"),
        ({"stop": [1]}, "stop[0]", "invalid_type"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_parameter_combination"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"response_format": "json"}, "response_format", "invalid_type"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_required_parameter"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format.json_schema.schema", "missing_required_parameter"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}}, "response_format.json_schema.name", "invalid_value"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "objec"}}}}, "response_format.json_schema.schema", "invalid_json_schema"),
        ({"response_format": {"type": "json_object", "json_schema": {"name": "x", "schema": {}}}}, "response_format.json_schema", "invalid_parameter_combination"),
        ({"temprature": 1}, "temprature", "unknown_parameter"),
        ({"model": None}, "model", "invalid_type"),
        ({"model": "x\ud800"}, "model", "invalid_value"),
        ({"k\ud800": 1}, None, "invalid_value"),
        ({"messages": [{"role": "user", "content": "cut \ud83d"}]}, "messages[0].content", "invalid_value"),
        ({"messages": [{"role": "user", "content": "cut \ud83d"}], "stream": True}, "messages[0].content", "invalid_value"),
        ({"user": "\0"}, "user", "invalid_value"),
        ({"prediction": {"a": float("nan")}}, "prediction.a", "invalid_value"),
        ({"messages": [{"role": "user", "content": "\0"}], "store": True}, "messages[0].content", "invalid_value"),
        ({"metadata": {"k" * 65: "v"}}, "metadata", "invalid_value"),
        ({"k" * 10_000: 1}, None, "unknown_parameter"),
    ],
)  # fmt: skip
def test_a_body_that_does_not_fit_is_refused_by_field(http, change, param, code):
    reply = http.post(
        "/v1/chat/completions",
        content=json.dumps({**BODY, **change}),
        headers={"content-type": "application/json"},
    )
    error = refused(reply, 400)
    assert error["code"] == code
    assert param is None or error["param"] == param
    assert len(error["message"]) < 1000


def test_several_problems_are_named_at_once(http):
    error = refused(http.post("/v1/chat/completions", json={**BODY, "n": 0, "top_p": 3}), 400)
    assert "'n'" in error["message"] and "'top_p'" in error["message"]


def test_what_is_wrong_in_several_places_is_said_once(http):
    image = {"type": "image_url", "image_url": {"url": "x"}}
    messages = [{"role": "user", "content": [image, image]}, {"role": "user", "content": [image]}]
    message = refused(http.post("/v1/chat/completions", json={**BODY, "messages": messages}), 400)["message"]
    places = "'messages[0].content[0]', 'messages[0].content[1]', 'messages[1].content[0]'"
    assert message == f"Unsupported parameter: {places}. Only text parts can be read."


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/v1/files/file-nope", None, "No such File object: file-nope"),
        ("/v1/fine_tuning/jobs/ftjob-nope", None, "Could not find fine tune: ftjob-nope"),
        ("/v1/fine_tuning/jobs", {"model": "tiny", "training_file": "file-nope"}, "invalid training_file: file-nope"),
        (
            "/v1/uploads",
            {"filename": "a.txt", "purpose": "fine-tune", "bytes": 1, "mime_type": "text/plain"},
            "Invalid file format for Fine-Tuning API. Must be .jsonl",
        ),
    ],
)
def test_openais_own_texts_are_exact(http, path, body, text):
    reply = http.get(path) if body is None else http.post(path, json=body)
    assert reply.json()["error"]["message"] == text


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"\xef\xbb\xbf{}", b"[1]", b'"x"', b"null", b"[" * 100_000, b'{"temperature": NaN}', b'{"n": ' + b"1" * 5000 + b"}"]
)  # fmt: skip
def test_a_body_that_is_not_a_json_object(http, content):
    refused(
        http.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"}), 400
    )


def test_nan_is_no_number(http):
    content = json.dumps({**BODY, "temperature": float("nan")})
    reply = http.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
    refused(reply, 400)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", None])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/fine_tuning/jobs"])
def test_a_body_that_does_not_say_it_is_json(http, kind, path):
    """A web page can send these without asking; it can't send JSON."""
    headers = {} if kind is None else {"content-type": kind}
    error = refused(http.post(path, content=json.dumps(BODY), headers=headers), 400)
    assert error["code"] == "unsupported_content_type" and error["param"] is None
    assert "Content-Type: application/json" in error["message"]
    assert not kind or f"'{kind}'" in error["message"]


def test_a_conversation_longer_than_the_context(server: Running):
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            long = [{"role": "user", "content": "x" * 500}]
            server.client().chat.completions.create(model="tiny", messages=long, stream=stream)
        assert caught.value.code == "context_length_exceeded" and caught.value.param == "messages"


# ── routes ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "path", ["/v1/nope", "/v1", "/", "/v1/file", "/v1/chat/completions/", "/v1/fine_tuning/job"]
)
def test_an_unknown_url(http, path):
    assert refused(http.get(path), 404)["code"] == "unknown_url"


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/v1/chat/completions"), ("PUT", "/v1/models"), ("POST", "/healthz")]
)
def test_a_wrong_method(http, method, path):
    reply = http.request(method, path)
    assert refused(reply, 405)["code"] == "method_not_allowed" and reply.headers["allow"]


def test_healthz_and_headers(http):
    reply = http.get("/healthz")
    assert reply.json()["status"] == "ok"
    assert reply.headers["x-request-id"] != http.get("/healthz").headers["x-request-id"]
    assert int(reply.headers["openai-processing-ms"]) >= 0
    assert "server" not in reply.headers and "access-control-allow-origin" not in reply.headers


def test_a_body_above_the_limit(http):
    """It is refused by the length it announces, before any of it is read."""
    length = 16 * 1024 * 1024 + 1
    with socket.create_connection((http.base_url.host, http.base_url.port), timeout=5) as raw:
        raw.sendall(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n".encode()
        )
        reply = ""
        while "}}" not in reply:
            reply += raw.recv(10_000).decode()
    assert reply.startswith("HTTP/1.1 413") and '"code":"request_too_large"' in reply


def test_a_body_without_a_length_is_counted(http):
    def chunks():
        for _ in range(17):
            yield b" " * 1024 * 1024

    reply = http.post("/v1/chat/completions", content=chunks(), headers={"content-type": "application/json"})
    assert refused(reply, 413)["code"] == "request_too_large"


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_with_keys_set_only_they_are_accepted(tmp_path, base):
    with running(tmp_path, base, keys=("sk-one", "sk-zwei-ü")) as server:
        for key in ("sk-wrong", "sk-on", "sk-onee"):
            with pytest.raises(openai.AuthenticationError) as caught:
                server.client(key).models.list()
            assert caught.value.code == "invalid_api_key" and key not in caught.value.message
        assert server.client("sk-one").models.list().data
        for headers in (
            {},
            {"authorization": "Basic sk-one"},
            {"authorization": "Bearer"},
            {"authorization": b"Bearer \xff"},
        ):
            reply = httpx.get(f"{server.url}/v1/models", headers=headers)
            assert refused(reply, 401)["code"] == "invalid_api_key"
            assert reply.headers["www-authenticate"] == "Bearer"
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        assert httpx.get(f"{server.url}/v1/nope").status_code == 401


def test_without_keys_only_this_machines_names_are_answered(http):
    error = refused(http.get("/v1/models", headers={"host": "evil.example:8000"}), 403)
    assert error["code"] == "host_not_allowed"
    for host in ("localhost:1", "127.0.0.1", "[::1]:8000", "LOCALHOST"):
        assert http.get("/healthz", headers={"host": host}).status_code == 200


ELSEWHERE = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://localhost:3000", "host": "localhost:8000"},
    {"sec-fetch-site": "cross-site"},
]


@pytest.mark.parametrize("headers", ELSEWHERE)
def test_without_keys_pages_of_other_origins_upload_nothing(http, headers):
    form = {"files": {"file": ("a.txt", b"x")}, "data": {"purpose": "user_data"}}
    before = http.get("/v1/files").json()["data"]
    error = refused(http.post("/v1/files", headers=headers, **form), 403)
    assert error["code"] == "origin_not_allowed"
    assert http.get("/v1/files").json()["data"] == before


def test_pages_of_the_same_origin_and_those_with_a_key_are_answered(http):
    same = {"origin": "http://localhost:8000", "host": "LOCALHOST:8000", "sec-fetch-site": "same-origin"}
    assert http.get("/v1/models", headers=same).status_code == 200
    with serving(Scripted(keys=("sk-one",))) as url:
        for headers in ELSEWHERE:
            reply = httpx.get(f"{url}/v1/models", headers={**headers, "authorization": "Bearer sk-one"})
            assert reply.status_code == 200


# ── failures ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_bug_before_the_first_token_is_500_without_its_words(caplog):
    def broken():
        raise ZeroDivisionError("a secret of the server")
        yield

    for stream in (False, True):
        with serving(Scripted(broken)) as url:
            body = {"model": "starter", "messages": HI, "stream": stream}
            reply = httpx.post(f"{url}/v1/chat/completions", json=body)
        error = refused(reply, 500)
        assert error["type"] == "server_error" and reply.headers["x-request-id"] in error["message"]
        assert "secret" not in reply.text and "Traceback" not in reply.text
        assert "a secret of the server" in caplog.text and reply.headers["x-request-id"] in caplog.text
        assert reply.headers["x-should-retry"] == "false"


def test_a_failure_while_streaming_is_a_last_frame_that_the_sdk_raises():
    from journeyman.generate.engine import Piece

    def breaking():
        yield Piece(0, "Hel")
        raise RuntimeError("a secret of the server")

    with serving(Scripted(breaking)) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)
        seen = ""
        with pytest.raises(openai.APIError) as caught:
            for chunk in client.chat.completions.create(model="starter", messages=HI, stream=True):
                seen += chunk.choices[0].delta.content or ""
    assert seen == "Hel" and caught.value.code == "internal_error" and "secret" not in str(caught.value.body)


@pytest.mark.parametrize(
    ("error", "status", "param"),
    [
        (RequestError("m", where="messages"), 400, "messages"),
        (RequestError("m", where="/home/me/file:3"), 400, None),
        (ModelNotFound("m", where="model"), 404, None),
        (BaseNotFound("m", where="/home/me"), 404, None),
        (DataError("m", where="x.jsonl"), 400, None),
        (JobConflict("m", where="job"), 400, None),
        (CheckpointError("m", where="/home/me"), 500, None),
        (JourneymanError("m"), 500, None),
    ],
)
def test_each_error_has_its_status(error, status, param):
    assert status_of(error) == status
    got, body = envelope_of(error, "req_1")
    assert got == status and body.error.param == param and body.error.code == error.code
    assert "/home" not in body.model_dump_json()


def test_the_mend_and_every_problem_reach_the_client():
    _, body = envelope_of(RequestError("It is wrong", fix="make it right", problems=["So is that."]), "req_1")
    assert body.error.message == "It is wrong. So is that. Mend: make it right."


def test_no_problem_at_all_is_still_an_envelope():
    assert misfit_envelope([]).error.code == "invalid_request"

def test_a_full_queue_is_429_with_retry_after_in_openais_envelope():
    def full() -> Iterator[Piece]:
        raise QueueFull(256, 7)
        yield

    with serving(Scripted(full)) as url, pytest.raises(openai.RateLimitError) as caught:
        openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0).chat.completions.create(
            model="starter", messages=[{"role": "user", "content": "Hi"}]
        )
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.body["code"] == "rate_limit_exceeded" and caught.value.body["type"] == "requests"
