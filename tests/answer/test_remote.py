import json

import httpx
import pytest

from journeyman.answer.remote import RemoteModel
from journeyman.errors import JourneymanError, RequestError
from journeyman.generate.sampling import Sampling
from journeyman.records import Message

QUESTION = [(Message("system", "Rules"), Message("user", "Hello", weight=None))]


def completion(text, finish="stop"):
    return {
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 3},
    }


class Server:
    """Replies in turn, and keeps the requests."""

    def __init__(self, *replies):
        self.replies, self.seen = list(replies), []

    def __call__(self, request):
        self.seen.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        status, body, *headers = reply
        return httpx.Response(status, json=body, headers=headers[0] if headers else {})


def remote(server, waits=None, **more):
    waited = [] if waits is None else waits
    return RemoteModel(
        "http://model.test/v1/",
        "big",
        key="k",
        transport=httpx.MockTransport(server),
        sleep=waited.append,
        **more,
    )


def test_a_request_holds_model_messages_and_key_and_the_usage_is_the_servers():
    server = Server((200, completion("Hi", "length")))
    (answer,) = remote(server).answers(QUESTION, Sampling(max_tokens=9))
    assert (answer.text, answer.stop, answer.usage.prompt_tokens, answer.usage.completion_tokens) == (
        "Hi",
        "length",
        12,
        3,
    )
    assert answer.latency_s >= 0
    (request,) = server.seen
    assert (str(request.url), request.headers["authorization"]) == (
        "http://model.test/v1/chat/completions",
        "Bearer k",
    )
    assert json.loads(request.content) == {
        "model": "big",
        "messages": [{"role": "system", "content": "Rules"}, {"role": "user", "content": "Hello"}],
        "max_tokens": 9,
        "temperature": 0.0,
    }


def test_busy_servers_are_asked_again_with_growing_waits():
    waits = []
    server = Server(
        (503, {}), httpx.ConnectError("no"), (429, {}, {"retry-after": "7"}), (200, completion("ok"))
    )
    assert remote(server, waits).answers(QUESTION, Sampling())[0].text == "ok"
    assert waits == [1.0, 2.0, 7.0]


def test_an_end_of_patience_names_url_model_and_problem():
    server = Server(*[(500, {"error": {"message": "on fire"}})] * 3)
    with pytest.raises(JourneymanError) as failed:
        remote(server, retries=2).answers(QUESTION, Sampling())
    assert failed.value.code == "remote_failed"
    assert all(
        text in str(failed.value) for text in ("http://model.test/v1", "big", "HTTP 500: on fire", "mend:")
    )


def test_a_refused_key_is_not_tried_again():
    server = Server((401, {"error": {"message": "bad key"}}))
    with pytest.raises(JourneymanError, match="bad key"):
        remote(server).answers(QUESTION, Sampling())
    assert len(server.seen) == 1


def test_a_prompt_that_is_too_long_is_about_that_row_only():
    server = Server((400, {"error": {"message": "maximum context length is 5 tokens"}}))
    with pytest.raises(RequestError, match="maximum context length"):
        remote(server).answers(QUESTION, Sampling())


def test_a_reply_without_usage_is_refused_rather_than_counted_as_none():
    server = Server((200, {"choices": completion("x")["choices"]}))
    with pytest.raises(JourneymanError, match="no chat completion"):
        remote(server).answers(QUESTION, Sampling())


def test_a_schema_that_the_answer_must_fit_is_asked_for_as_openai_has_it():
    server = Server((200, completion('{"result": 1}')))
    remote(server).answers(QUESTION, Sampling(json_schema='{"type": "object"}'))
    form = json.loads(server.seen[0].content)["response_format"]
    assert form == {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True}}
