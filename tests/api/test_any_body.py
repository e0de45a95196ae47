"""Whatever a client sends: OpenAI's envelope or an answer, never 422, never a 5xx."""

from __future__ import annotations

import json

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.api.wire import ChatRequest

from .scripted import Scripted, serving

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)
ROLE = st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"])
MESSAGE = st.fixed_dictionaries(
    {"role": ROLE | JSON, "content": st.text() | JSON},
    optional={"name": JSON, "tool_calls": JSON, "tool_call_id": JSON, "function_call": JSON, "refusal": JSON},
)
FIELDS = sorted(ChatRequest.model_fields.keys() - {"model", "messages", "n"})
NEAR_MISS = st.builds(
    lambda messages, n, more: {"model": "starter", "messages": messages, "n": n, **more},
    st.just([{"role": "user", "content": "Hi"}]) | st.lists(MESSAGE, max_size=2),
    st.integers(-1, 3),
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=2),
)


@pytest.fixture(scope="module")
def http():
    with serving(Scripted()) as url, httpx.Client(base_url=url) as client:
        yield client


@settings(max_examples=150, deadline=None)
@given(body=JSON | NEAR_MISS)
def test_any_json_body(http, body):
    expect_openai(
        http.post(
            "/v1/chat/completions", content=json.dumps(body), headers={"content-type": "application/json"}
        )
    )


@settings(max_examples=30, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes(http, content):
    expect_openai(
        http.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
    )


@settings(max_examples=30, deadline=None)
@given(name=st.text(min_size=1, max_size=30))
def test_any_model_name(http, name):
    expect_openai(http.get(f"/v1/models/{httpx.QueryParams({'m': name})}"))


def expect_openai(reply: httpx.Response) -> None:
    assert reply.headers["x-request-id"]
    if reply.status_code == 200:
        return
    assert reply.status_code in (400, 404), reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str) and error["type"] == "invalid_request_error"
    assert len(reply.text) < 5000
