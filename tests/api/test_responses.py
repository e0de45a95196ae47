"""Responses, graders and evals, through the SDK, on a tiny base."""

from __future__ import annotations

import time

import httpx
import openai
import pytest
from openai.types import EvalCreateResponse
from openai.types.evals import RunRetrieveResponse
from openai.types.evals.runs import OutputItemListResponse
from openai.types.fine_tuning.alpha import GraderRunResponse
from openai.types.responses import Response

from journeyman.api.responses import _Answer
from journeyman.generate.row import Piece

CHECK = {
    "type": "string_check",
    "name": "match",
    "input": "{{sample.output_text}}",
    "reference": "{{item.label}}",
    "operation": "eq",
}


def test_a_response_is_kept_and_gone_on_from(client):
    first = client.responses.create(
        model="tiny", input="Say 3", instructions="Be terse.", max_output_tokens=16
    )
    Response.model_validate(first.to_dict())
    assert first.status in ("completed", "incomplete") and first.usage.total_tokens > 0
    assert client.responses.retrieve(first.id).output == first.output
    second = client.responses.create(
        model="tiny", input="And?", previous_response_id=first.id, max_output_tokens=16
    )
    assert second.previous_response_id == first.id and second.usage.input_tokens > first.usage.input_tokens
    assert [item.type for item in client.responses.input_items.list(second.id)] == ["message"]
    httpx_reply = client.responses.delete(first.id)
    assert httpx_reply is None
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="tiny", input="x", previous_response_id=first.id)
    assert (caught.value.code, caught.value.param) == ("previous_response_not_found", "previous_response_id")


def test_logprobs_are_told_where_they_are_asked_for(client):
    asked = {"model": "tiny", "input": "Say 3", "max_output_tokens": 16, "temperature": 0, "top_logprobs": 2}
    wanted = ["message.output_text.logprobs"]
    (item,) = client.responses.create(**asked, include=wanted).output
    part = item.content[0]
    chat = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "Say 3"}], max_tokens=16, temperature=0, logprobs=True
    )
    assert [token.token for token in part.logprobs] == [token.token for token in chat.choices[0].logprobs.content]
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in part.logprobs)
    events = list(client.responses.create(**asked, include=wanted, stream=True))
    streamed = [token.token for e in events if e.type == "response.output_text.delta" for token in e.logprobs]
    assert [token.token for token in part.logprobs][: len(streamed)] == streamed and streamed
    (plain,) = client.responses.create(model="tiny", input="Say 3", max_output_tokens=16).output
    assert plain.content[0].logprobs == []


def test_the_item_at_which_an_answer_was_cut_says_so(client):
    statuses = set()
    for tokens in (16, 400):
        answer = client.responses.create(model="tiny", input="Say 3", temperature=0, max_output_tokens=tokens)
        *before, last = [item.status for item in answer.output]
        assert last == answer.status and set(before) <= {"completed"}
        assert client.responses.retrieve(answer.id).output == answer.output
        statuses.add(last)
    assert "incomplete" in statuses
    call = {"id": "c", "function": {"name": "f", "arguments": '{"a": '}}
    cut = _Answer()
    cut.take(Piece(0, "Let me see.", "length", calls=(call, call)))
    assert [item["status"] for item in cut.output()] == ["completed", "completed", "incomplete"]
    assert cut.output()[-1]["arguments"] == '{"a": '


def test_fields_without_effect_are_accepted(client):
    more = {
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "prompt_cache_options": {"mode": "implicit"},
        "moderation": {"model": "omni-moderation-latest"},
        "safety_identifier": "s",
        "text": {"verbosity": "low"},
    }
    assert client.responses.create(model="tiny", input="Say 3", max_output_tokens=16, **more).output


def test_input_items_begin_after_one_of_them_only(client):
    kept = client.responses.create(model="tiny", input="Say 3", max_output_tokens=16)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.input_items.list(kept.id, after="msg_nope")
    assert caught.value.param == "after"


def test_a_stream_has_openais_events_in_its_order(client):
    events = list(client.responses.create(model="tiny", input="Say 3", stream=True, max_output_tokens=16))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] in ("response.completed", "response.incomplete")
    assert [event.sequence_number for event in events] == list(range(len(events)))
    told = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert told == events[-1].response.output_text


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"background": True}, "background"),
        ({"max_tool_calls": 1}, "max_tool_calls"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"max_output_tokens": 15}, "max_output_tokens"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"extra_body": {"inptu": 1}}, "inptu"),
        ({"input": [{"role": "user", "content": "x"}, {"role": "robot", "content": "x"}]}, "input[1].role"),
        ({"input": [{"role": "user", "content": "x", "zz": 1}]}, "input[0].zz"),
        ({"extra_body": {"input": [3]}}, "input[0]"),
        ({"extra_body": {"input": 3}}, "input"),
        ({"input": "x " * 5000}, "input"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"zz": 1}}, "text.zz"),
        ({"reasoning": {"zz": 1}}, "reasoning.zz"),
        ({"include": ["nope"]}, "include[0]"),
        ({"tools": [{"type": "function", "name": "two words", "parameters": {}}]}, "tools[0].name"),
    ],
)
def test_what_can_not_be_answered_is_refused_by_field(client, more, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**{"model": "tiny", "input": "x", **more})
    assert caught.value.param == param


def test_the_oldest_turns_make_room_where_that_is_asked_for(client):
    turns = [{"role": "user", "content": "x " * 2000}, {"role": "assistant", "content": "x"}, {"role": "user", "content": "Say 3"}]
    more = {"model": "tiny", "instructions": "Be terse.", "max_output_tokens": 16, "input": turns}
    assert client.responses.create(**more, truncation="auto").usage.input_tokens < 500
    with pytest.raises(openai.BadRequestError, match="context"):
        client.responses.create(**more)


def test_a_refusal_and_the_texts_of_an_output_are_read(client):
    said = [{"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, {"role": "user", "content": "Why?"}]
    assert client.responses.create(model="tiny", input=said, max_output_tokens=16).output
    for turn in ({"content": [{"type": "refusal", "refusal": "No."}]}, {"content": None, "refusal": "No."}):
        messages = [{"role": "assistant", **turn}, {"role": "user", "content": "Why?"}]
        assert client.chat.completions.create(model="tiny", messages=messages, max_tokens=16).choices
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    outputs = ("a", [{"type": "input_text", "text": "a"}])
    counts = {
        client.responses.input_tokens.count(
            model="tiny", input=[call, {"type": "function_call_output", "call_id": "c", "output": output}]
        ).input_tokens
        for output in outputs
    }
    assert len(counts) == 1


def test_a_stored_response_is_not_streamed_again(client):
    kept = client.responses.create(model="tiny", input="Say 3", max_output_tokens=16)
    with pytest.raises(openai.BadRequestError) as caught:
        client.get(f"/responses/{kept.id}?stream=true", cast_to=object)
    assert caught.value.param == "stream"


def test_graders_are_checked_and_run(client, server):
    graders = client.fine_tuning.alpha.graders
    assert graders.validate(grader=CHECK).grader.type == "string_check"
    run = graders.run(grader=CHECK, item={"label": "x"}, model_sample="x")
    GraderRunResponse.model_validate(run.to_dict())
    assert run.reward == 1 and not run.metadata.errors.other_error
    unknown = graders.run(grader=CHECK, item={}, model_sample="x")
    assert unknown.reward == 0 and unknown.metadata.errors.invalid_variable_error
    reply = httpx.post(
        f"{server.url}/v1/fine_tuning/alpha/graders/validate", json={"grader": {"type": "nope", "name": "n"}}
    )
    assert reply.status_code == 400 and "nope" in reply.json()["error"]["message"]


@pytest.mark.parametrize("graders", [{"match": CHECK}, [CHECK], CHECK], ids=["by key", "a list", "one"])
def test_the_graders_of_a_multi_are_read_in_every_form(client, graders):
    multi = {"type": "multi", "name": "all", "graders": graders, "calculate_output": "0.5 * match"}
    run = client.fine_tuning.alpha.graders.run(grader=multi, item={"label": "x"}, model_sample="x")
    assert run.reward == 0.5


def test_a_run_is_cancelled_as_old_and_new_sdks_ask_for_it(client, server):
    config = {"type": "custom", "item_schema": {"type": "object", "properties": {}}}
    of = client.evals.create(data_source_config=config, testing_criteria=[CHECK])
    content = [{"item": {"label": str(n)}} for n in range(3000)]
    source = {
        "type": "completions",
        "model": "tiny",
        "source": {"type": "file_content", "content": content},
        "input_messages": {"type": "template", "template": [{"role": "user", "content": "Hi"}]},
        "sampling_params": {"max_completion_tokens": 2},
    }
    for way in ("", "/cancel"):
        run = client.evals.runs.create(of.id, data_source=source)
        reply = httpx.post(f"{server.url}/v1/evals/{of.id}/runs/{run.id}{way}")
        assert reply.json()["status"] == "canceled"
    assert client.evals.delete(of.id).deleted


def test_an_eval_counts_what_passed(client):
    config = {
        "type": "custom",
        "item_schema": {"type": "object", "properties": {"label": {"type": "string"}}},
    }
    made = client.evals.create(name="e", data_source_config=config, testing_criteria=[CHECK])
    EvalCreateResponse.model_validate(made.to_dict())
    content = [{"item": {"label": "a"}, "sample": {"output_text": text}} for text in "ab"]
    source = {"type": "jsonl", "source": {"type": "file_content", "content": content}}
    run = client.evals.runs.create(made.id, data_source=source)
    deadline = time.monotonic() + 20
    while run.status in ("queued", "in_progress") and time.monotonic() < deadline:
        run = client.evals.runs.retrieve(run.id, eval_id=made.id)
    RunRetrieveResponse.model_validate(run.to_dict())
    assert run.status == "completed", run.error
    counts = run.result_counts
    assert (counts.total, counts.passed, counts.failed, counts.errored) == (2, 1, 1, 0)
    items = list(client.evals.runs.output_items.list(run.id, eval_id=made.id))
    assert [item.status for item in items] == ["pass", "fail"]
    OutputItemListResponse.model_validate(items[0].to_dict())
    assert client.evals.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.evals.runs.retrieve(run.id, eval_id=made.id)


SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
NAMED = {"name": "answer", "schema": SCHEMA}


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("completions", {"response_format": {"type": "json_schema", "json_schema": NAMED}}),
        ("responses", {"text": {"format": {"type": "json_schema", **NAMED}}}),
    ],
)
def test_the_answers_of_an_eval_fit_its_format(client, kind, params):
    client = client.copy(_extra_kwargs={"_strict_response_validation": False})  # a grader of our own type
    check = {"type": "json_schema", "name": "fits", "input": "{{sample.output_text}}", "schema": SCHEMA}
    config = {"type": "custom", "item_schema": {"type": "object"}}
    made = client.evals.create(name="e", data_source_config=config, testing_criteria=[check])
    source = {
        "type": kind,
        "model": "tiny",
        "source": {"type": "file_content", "content": [{"item": {"q": "Say 3"}}]},
        "input_messages": {"type": "template", "template": [{"role": "user", "content": "{{item.q}}"}]},
        "sampling_params": {"max_completion_tokens": 60, **params},
    }
    run = client.evals.runs.create(made.id, data_source=source)
    deadline = time.monotonic() + 60
    while run.status in ("queued", "in_progress") and time.monotonic() < deadline:
        run = client.evals.runs.retrieve(run.id, eval_id=made.id)
        time.sleep(0.05)
    assert (run.status, run.result_counts.passed) == ("completed", 1), run.error
    (key,) = params
    with pytest.raises(openai.BadRequestError) as caught:
        client.evals.runs.create(
            made.id,
            data_source={**source, "sampling_params": {key: {"format": {"type": "xml"}, "type": "xml"}}},
        )
    assert caught.value.param == "data_source.sampling_params"
