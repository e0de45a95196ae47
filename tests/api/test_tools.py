"""Tools over HTTP: a model that was trained on calls answers with them."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

import tiny
from journeyman.errors import RequestError
from journeyman.files import write_jsonl
from journeyman.generate.calls import with_calls
from journeyman.generate.engine import Piece
from journeyman.generate.sampling import Sampling
from journeyman.plan.plan import Wishes
from journeyman.records import Message, ToolUse, Usage
from journeyman.request import TrainRequest
from journeyman.starter import path as starter_path
from journeyman.text.tools import TagReader
from journeyman.workspace import Workspace

from .conftest import Running, running
from .scripted import Scripted, serving

STOCK = {"type": "function", "function": {"name": "stock", "parameters": {"type": "object", "properties": {}}}}
ASKED = "Is it in stock?"
BODY = {"model": "starter", "messages": [{"role": "user", "content": ASKED}], "tools": [STOCK]}
CALL = {"name": "stock", "arguments": '{"item": "mug"}'}
STARTER_TEMPLATE = (starter_path() / "chat_template.jinja").read_text(encoding="utf-8")


def calling_rows(path: Path) -> Path:
    """Rows in which a question about stock is answered with a call, and everything else with a word."""
    call = {"id": "call_1", "type": "function", "function": CALL}
    rows = []
    for n in range(24):
        asks = n % 2 == 0
        answer = {"role": "assistant", "tool_calls": [call]} if asks else {"role": "assistant", "content": "Hello."}
        question = {"role": "user", "content": ASKED if asks else "Good day."}
        rows.append({"messages": [question, answer], "tools": [STOCK]})
    write_jsonl(path, rows)
    return path


@pytest.fixture(scope="module", params=["tags", "list"])
def tuned(request, tmp_path_factory, bases) -> tuple[Running, str]:
    """A tiny model, taught to call within a minute, whose template writes calls in either form."""
    home = tmp_path_factory.mktemp(request.param)
    base = home / "tiny"
    if request.param == "tags":
        tiny.write_base(base, "llama", tiny.CHATML)
    else:
        special = {"<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>"}
        tiny.write_base(base, "llama", STARTER_TEMPLATE)
        tokens = json.loads((base / "tokenizer.json").read_text())
        for token, name in zip(tokens["added_tokens"][3:], sorted(special), strict=False):
            tokens["model"]["vocab"][name] = tokens["model"]["vocab"].pop(token["content"])
            token["content"] = name
        (base / "tokenizer.json").write_text(json.dumps(tokens))
    rows = calling_rows(home / "rows.jsonl")
    workspace = Workspace(home / "home")
    wishes = Wishes(epochs=40, batch_size=8, learning_rate=1e-2, full=True)
    # The same rows on purpose: the model is to know them by heart, which the check would refuse.
    request_ = TrainRequest(str(rows), base=str(base), wishes=wishes, validation=rows, held_out=rows, despite_errors=True)
    _, version = workspace.train(request_)
    assert version is not None
    with running(home / "home", base) as server:
        yield server, version.id


def ask(tuned, **body):
    server, model = tuned
    wish = {**BODY, "model": model, "temperature": 0, "max_tokens": 110, **body}
    return server.client().chat.completions.create(**wish)


def test_a_model_trained_on_calls_answers_with_one(tuned):
    answer = ask(tuned)
    ChatCompletion.model_validate(answer.model_dump(), strict=True)
    (choice,) = answer.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    (call,) = choice.message.tool_calls
    assert (call.type, call.function.name, json.loads(call.function.arguments)) == ("function", "stock", {"item": "mug"})
    assert call.id.startswith("call_")


def test_a_streamed_call_is_the_plain_one(tuned):
    chunks = list(ask(tuned, stream=True))
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk.model_dump(), strict=True)
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    assert {call.index for call in calls} == {0}
    assert calls[0].id.startswith("call_") and calls[0].function.name == "stock"
    assert json.loads("".join(call.function.arguments for call in calls)) == {"item": "mug"}
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ""
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["tool_calls"]


def test_the_sdks_stream_helper_puts_the_call_together(tuned):
    server, model = tuned
    client = server.client()
    with client.chat.completions.stream(**{**BODY, "model": model}, temperature=0, max_tokens=110) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.name == "stock"


def test_an_answer_in_words_stays_one(tuned):
    choice = ask(tuned, messages=[{"role": "user", "content": "Good day."}]).choices[0]
    assert (choice.finish_reason, choice.message.content, choice.message.tool_calls) == ("stop", "Hello.", None)


@pytest.mark.parametrize("body", [{"tool_choice": "none"}, {"tools": openai.NOT_GIVEN}])
def test_without_tools_or_with_tool_choice_none_a_call_is_text(tuned, body):
    choice = ask(tuned, **body).choices[0]
    assert choice.message.tool_calls is None
    assert choice.finish_reason != "tool_calls"


def test_the_conversation_goes_on_with_the_sdks_own_message(tuned):
    first = ask(tuned)
    messages = [*BODY["messages"], first.choices[0].message]
    messages.append({"role": "tool", "tool_call_id": first.choices[0].message.tool_calls[0].id, "content": "7"})
    assert ask(tuned, messages=messages, max_tokens=3).usage.prompt_tokens > first.usage.prompt_tokens


# ── around an answer ──────────────────────────────────────────────────────────────────────────────────────────


def two_calls():
    made = [{"id": f"call_{n}", "type": "function", "function": {**CALL, "name": f"f{n}"}} for n in range(2)]
    yield Piece(0, "Let me look.")
    yield Piece(0, "", calls=(made[0],))
    yield Piece(0, "", "end", Usage(3, 9), calls=(made[1],))


def test_words_and_several_calls_in_one_answer():
    with serving(Scripted(two_calls)) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)
        plain = client.chat.completions.create(**BODY).choices[0]
        with client.chat.completions.stream(**BODY) as stream:
            streamed = stream.get_final_completion().choices[0]
    for choice in (plain, streamed):
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Let me look.")
        assert [call.function.name for call in choice.message.tool_calls] == ["f0", "f1"]
        assert [call.id for call in choice.message.tool_calls] == ["call_0", "call_1"]


def test_functions_are_tools_by_their_older_name():
    """Scripts of 2023 send `functions` and read `message.function_call`."""
    asked: list[dict] = []

    class Remembering(Scripted):
        def stream(self, model, messages, sampling, **more):
            asked.append(more)
            return super().stream(model, messages, sampling)

    body = {**BODY, "functions": [STOCK["function"]]}
    del body["tools"]
    with serving(Remembering(two_calls)) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)
        plain = client.chat.completions.create(**body).choices[0]
        frames = [f.choices[0] for f in client.chat.completions.create(**body, stream=True) if f.choices]
        client.chat.completions.create(**body, function_call={"name": "stock"})
        client.chat.completions.create(**body, function_call="none")
    assert (plain.finish_reason, plain.message.content) == ("function_call", "Let me look.")
    assert (plain.message.function_call.name, plain.message.tool_calls) == ("f0", None)
    deltas = [f.delta.function_call for f in frames if f.delta.function_call]
    assert (deltas[0].name, frames[-1].finish_reason) == ("f0", "function_call")
    assert "".join(d.arguments for d in deltas[:2]) == CALL["arguments"]
    assert [a["tools"] for a in asked] == [[STOCK]] * 3 + [[]]
    only = frozenset({"stock"})
    assert [a["use"] for a in asked] == [ToolUse(most=1)] * 2 + [ToolUse(only, must=True, most=1), ToolUse(most=1)]


def test_tools_reach_the_model_as_they_were_sent_and_none_hides_them():
    """The chat template writes keys in their order: a tool must look as it did in training."""
    asked: list[dict] = []

    class Remembering(Scripted):
        def stream(self, model, messages, sampling, **more):
            asked.append(more)
            return super().stream(model, messages, sampling)

    tool = {"function": {"parameters": {"b": 1, "a": 2}, "description": "d", "name": "stock"}, "type": "function"}
    with serving(Remembering()) as url:
        one = {"type": "function", "function": {"name": "stock"}}
        some = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [one]}}
        choices = ("auto", "none", "required", one, some)
        for more in ({"parallel_tool_calls": False}, *({"tool_choice": choice} for choice in choices)):
            reply = httpx.post(f"{url}/v1/chat/completions", json={**BODY, "tools": [tool], **more})
            assert reply.status_code == 200, reply.text
    sent = json.dumps([tool])
    assert [json.dumps(a["tools"]) for a in asked] == [sent, sent, "[]", sent, sent, sent]
    only = frozenset({"stock"})
    assert [a["use"] for a in asked] == [
        ToolUse(most=1), ToolUse(), ToolUse(), ToolUse(must=True), ToolUse(only, must=True, most=1), ToolUse(only),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"tool_choice": "sometimes"}, "tool_choice", "invalid_value"),
        ({"tool_choice": {"type": "function"}}, "tool_choice", "invalid_value"),
        ({"tool_choice": {"type": "function", "function": {"name": "price"}}}, "tool_choice", "invalid_value"),
        ({"tool_choice": "required", "tools": []}, "tool_choice", "invalid_parameter_combination"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}}, "tool_choice.allowed_tools.tools", None),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}}]}, "tools[0].function", "invalid_value"),
        ({"tools": [{**STOCK, "type": "custom"}]}, "tools[0]", "unsupported_parameter"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", None),
        ({"tools": [{"type": "function", "function": {"name": "two words"}}]}, "tools[0].function.name", None),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, "tools[0].function.parameters", None),
        ({"tools": [{"type": "function", "function": {"name": "f", "strict": "yes"}}]}, "tools[0].function.strict", "invalid_type"),
        ({"tools": [STOCK] * 129}, "tools", None),
        ({"tools": "stock"}, "tools", None),
        ({"functions": [{"name": "f"}]}, "functions", "invalid_parameter_combination"),
        ({"tools": None, "functions": [{"name": "two words"}]}, "functions[0].name", None),
        ({"tools": None, "functions": [{"name": "f"}], "function_call": {"name": "g"}}, "function_call", "invalid_value"),
        ({"function_call": "auto"}, "function_call", "invalid_parameter_combination"),
        ({"tools": None, "functions": [{"name": "f"}], "function_call": "required"}, "function_call", None),
    ],
)  # fmt: skip
def test_what_can_not_be_honoured_is_named(body, param, code):
    with serving(Scripted()) as url:
        reply = httpx.post(f"{url}/v1/chat/completions", json={**BODY, **body})
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, param)
    assert code is None or error["code"] == code
    assert error["message"]


def test_a_template_without_calls_refuses_tools(tmp_path, bases):
    workspace = Workspace(tmp_path)
    with pytest.raises(RequestError, match="writes no tool calls") as caught:
        workspace.stream(str(bases("llama", tiny.LLAMA3)), [Message("user", "Hi")], Sampling(), tools=[STOCK])
    assert (caught.value.where, caught.value.code) == ("tools", "unsupported_parameter")


def test_only_so_many_calls_as_asked_for_are_given():
    one = '<tool_call>{"name": "stock", "arguments": {}}</tool_call>'
    for most, count in ((None, 3), (1, 1), (2, 2)):
        pieces = (piece for piece in (Piece(0, one), Piece(0, f" {one}"), Piece(0, one, "end", Usage(1, 1))))
        got = list(with_calls(pieces, [TagReader(["stock"])], most=most))
        assert sum(len(piece.calls) for piece in got) == count
        assert "".join(piece.text for piece in got) == ""
