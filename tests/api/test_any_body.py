"""Whatever a client sends: OpenAI's envelope or an answer, never 422, never a 5xx."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from urllib.parse import quote

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from journeyman.api.app import create_app
from journeyman.api.wire import ChatRequest

from .scripted import Scripted

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=8) | st.sampled_from(["\ud83d", "a\udc00", "\0"])
"""Half of a surrogate pair too: st.text() draws none by itself."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=6,
)
ROLE = st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"])
MESSAGE = st.fixed_dictionaries(
    {"role": ROLE | JSON, "content": ANY_TEXT | JSON},
    optional={"name": JSON, "tool_calls": JSON, "tool_call_id": JSON, "function_call": JSON, "refusal": JSON},
)
FIELDS = sorted(ChatRequest.model_fields.keys() - {"model", "messages", "n"})
NEAR_MISS = st.builds(
    lambda messages, n, more: {"model": "starter", "messages": messages, "n": n, **more},
    st.just([{"role": "user", "content": "Hi"}]) | st.lists(MESSAGE, max_size=2),
    st.integers(-1, 3),
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=2),
)
ITEM = st.dictionaries(
    st.sampled_from(["type", "role", "content", "call_id", "name", "arguments", "output", "id", "status"]),
    st.sampled_from(["message", "function_call", "function_call_output", "user", "assistant"]) | JSON,
    max_size=4,
)
RESPONSE = st.fixed_dictionaries(
    {"model": st.just("starter"), "input": st.lists(ITEM, min_size=1, max_size=2) | JSON, "store": st.just(False)},
    optional={
        "tools": st.lists(st.fixed_dictionaries({"type": st.just("function") | JSON}, optional={"name": JSON}), max_size=2) | JSON,
        "tool_choice": st.fixed_dictionaries({"type": st.sampled_from(["function", "allowed_tools"]) | JSON, "tools": JSON}) | JSON,
        "text": st.fixed_dictionaries({"format": st.fixed_dictionaries({"type": JSON}) | JSON}) | JSON,
        "include": JSON,
    },
)


JSON_TYPE = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def send() -> Iterator[Callable[..., httpx.Response]]:
    """Send a request to the app in this thread: hundreds of them are no wait."""
    transport = httpx.ASGITransport(app=create_app(Scripted()))
    client = httpx.AsyncClient(transport=transport, base_url="http://localhost")
    with asyncio.Runner() as runner:
        yield lambda method, path, **more: runner.run(client.request(method, path, **more))
        runner.run(client.aclose())


@settings(max_examples=150, deadline=None)
@given(body=JSON | NEAR_MISS)
def test_any_json_body(send, body):
    expect_openai(send("POST", "/v1/chat/completions", content=json.dumps(body), headers=JSON_TYPE))


@settings(max_examples=200, deadline=None)
@given(body=RESPONSE)
@example(body={"model": "starter", "input": [{"type": ["x"]}]})
@example(body={"model": "starter", "input": [{"type": {"a": 1}}]})
def test_any_input_of_a_response(send, body):
    expect_openai(send("POST", "/v1/responses", content=json.dumps(body), headers=JSON_TYPE))


@settings(max_examples=30, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes(send, content):
    expect_openai(send("POST", "/v1/chat/completions", content=content, headers=JSON_TYPE))


@settings(max_examples=30, deadline=None)
@given(name=st.text(min_size=1, max_size=30))
def test_any_model_name(send, name):
    expect_openai(send("GET", f"/v1/models/{quote(name, safe='')}"))


def expect_openai(reply: httpx.Response) -> None:
    assert reply.headers["x-request-id"]
    if reply.status_code == 200:
        return
    assert reply.status_code in (400, 404), reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str) and error["type"] == "invalid_request_error"
    assert len(reply.text) < 5000
