from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import openai
import pydantic
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from journeyman.plan.shape import ModelShape

from .conftest import Running

HI = [{"role": "user", "content": "Hi"}]


def ask(client: openai.OpenAI, **body):
    return client.chat.completions.create(**{"model": "tiny", "messages": HI, "max_tokens": 12, **body})


def text(client: openai.OpenAI, **body) -> str:
    return ask(client, **body).choices[0].message.content


def test_a_plain_answer_has_openais_shape(client):
    answer = ask(client)
    ChatCompletion.model_validate(answer.model_dump(), strict=True)
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-")
    assert answer.model == "tiny" and answer._request_id.startswith("req_")
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_usage_has_its_details_and_says_what_was_known_of_the_prompt(client):
    messages = [{"role": "user", "content": "all of this is said here for the first time " * 3}]

    def usage(**more):
        return client.chat.completions.create(model="tiny", messages=messages, max_tokens=2, **more).usage

    first, second = usage(), usage()
    assert first.prompt_tokens_details.cached_tokens < second.prompt_tokens_details.cached_tokens
    assert second.prompt_tokens_details.cached_tokens <= second.prompt_tokens
    assert second.completion_tokens_details.reasoning_tokens == 0
    streamed = client.chat.completions.create(
        model="tiny", messages=messages, max_tokens=2, stream=True, stream_options={"include_usage": True}
    )
    told = [chunk.usage for chunk in streamed if chunk.usage]
    assert [u.prompt_tokens_details.cached_tokens for u in told] == [second.prompt_tokens_details.cached_tokens]
    text = messages[0]["content"]
    older = [client.completions.create(model="tiny", prompt=text, max_tokens=2, n=2).usage for _ in range(2)]
    assert older[0].prompt_tokens_details.cached_tokens < older[1].prompt_tokens_details.cached_tokens


def test_max_tokens_ends_an_answer_with_length(client):
    for name in ("max_tokens", "max_completion_tokens"):
        answer = client.chat.completions.create(model="tiny", messages=HI, temperature=0, **{name: 5})
        assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 5


def test_without_max_tokens_the_context_is_the_limit(client, base):
    answer = client.chat.completions.create(model="tiny", messages=HI, temperature=0)
    assert answer.usage.total_tokens <= ModelShape.read(base).context_tokens


def test_streamed_text_equals_the_plain_one(client):
    plain = ask(client, seed=3)
    chunks = list(ask(client, seed=3, stream=True, stream_options={"include_usage": True}))
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk.model_dump(), strict=True)
    choices = [c.choices[0] for c in chunks if c.choices]
    assert choices[0].delta.role == "assistant" and choices[0].delta.content == ""
    assert "".join(c.delta.content or "" for c in choices) == plain.choices[0].message.content
    assert [c.finish_reason for c in choices if c.finish_reason] == [plain.choices[0].finish_reason]
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == plain.usage.total_tokens
    assert len({(c.id, c.created, c.model) for c in chunks}) == 1
    for details in ("prompt_tokens_details", "completion_tokens_details"):
        assert getattr(chunks[-1].usage, details).to_dict().keys() == getattr(plain.usage, details).to_dict().keys()


def test_streamed_logprobs_have_the_keys_of_plain_ones(client):
    plain = ask(client, logprobs=True)
    streamed = [c.choices[0].logprobs for c in ask(client, logprobs=True, stream=True) if c.choices and c.choices[0].logprobs]
    assert streamed and {frozenset(one.to_dict()) for one in streamed} == {frozenset(plain.choices[0].logprobs.to_dict())}


def test_usage_is_not_streamed_unasked(client):
    assert all("usage" not in chunk.model_fields_set for chunk in ask(client, stream=True))


def test_the_sdks_stream_helper(client):
    stop = text(client, temperature=0)[3:5]  # the helper raises where an answer ends by its length
    body = {"model": "tiny", "messages": HI, "temperature": 0, "stop": stop}
    with client.chat.completions.stream(**body) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content is not None


def test_async_client(server: Running):
    async def read() -> str:
        client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0)
        stream = await client.chat.completions.create(
            model="tiny", messages=HI, max_tokens=8, seed=1, stream=True
        )
        return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

    assert asyncio.run(read())


def test_a_seed_repeats_an_answer_and_another_does_not(client):
    assert text(client, seed=5) == text(client, seed=5)
    assert len({text(client, seed=seed) for seed in range(4)}) > 1


def test_temperature_zero_is_repeatable(client):
    assert text(client, temperature=0) == text(client, temperature=0)


@pytest.mark.parametrize(
    "sampling",
    [{"temperature": 1e-300}, {"temperature": 1e-4}, {"temperature": 2.0}, {"top_p": 0}, {"top_p": 1e-12}, {"seed": -1}, {"seed": 2**63 - 1, "n": 2}, {"max_tokens": 10**30}],
)  # fmt: skip
def test_sampling_at_its_edges(client, sampling):
    assert ask(client, **sampling).choices


def test_top_p_zero_takes_the_most_likely_token(client):
    assert text(client, top_p=0) == text(client, temperature=0)


def test_stop_ends_an_answer_before_its_text(client):
    whole = text(client, temperature=0)
    stop = whole[3:5]
    for form in (stop, [stop, "never in there"]):
        answer = ask(client, temperature=0, stop=form)
        assert answer.choices[0].message.content == whole[: whole.index(stop)]
        assert answer.choices[0].finish_reason == "stop"


def test_n_answers_are_repeatable_and_differ(client):
    first, second = ask(client, n=3, seed=2), ask(client, n=3, seed=2)
    texts = [choice.message.content for choice in first.choices]
    assert [choice.index for choice in first.choices] == [0, 1, 2]
    assert texts == [choice.message.content for choice in second.choices] and len(set(texts)) > 1
    assert texts[0] == text(client, seed=2)
    chunks = [c.choices[0] for c in ask(client, n=3, seed=2, stream=True)]
    assert ["".join(c.delta.content or "" for c in chunks if c.index == index) for index in range(3)] == texts


def test_several_turns_with_the_sdks_own_message_object(client):
    first = ask(client)
    messages = [
        {"role": "system", "content": "Be brief."},
        *HI,
        first.choices[0].message,
        {"role": "user", "content": [{"type": "text", "text": "And "}, {"type": "text", "text": "then?"}]},
    ]
    second = ask(client, messages=messages)
    assert second.usage.prompt_tokens > first.usage.prompt_tokens


def test_text_parts_are_joined(client):
    parts = [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]
    assert text(client, messages=[{"role": "user", "content": parts}], seed=1) == text(client, seed=1)


def test_earlier_tool_calls_can_be_read(client):
    call = {"id": "call_1", "type": "function", "function": {"name": "stock", "arguments": "{}"}}
    messages = [
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "7"},
    ]
    assert ask(client, messages=messages).choices


def test_fields_without_effect_are_accepted(client):
    answer = ask(
        client,
        user="u",
        metadata={"run": "1"},
        service_tier="auto",
        store=False,
        logprobs=False,
        frequency_penalty=0,
        presence_penalty=0.0,
        logit_bias={},
        response_format={"type": "text"},
        tool_choice="none",
        modalities=["text"],
        reasoning_effort="low",
        verbosity="low",
        moderation={"model": "omni-moderation-latest"},
        prompt_cache_key="k",
        safety_identifier="s",
    )
    assert answer.choices


def test_null_is_as_good_as_absent(client):
    assert ask(client, temperature=None, top_p=None, n=None, stop=None, stream=None, seed=None).choices


def test_many_clients_at_once(server: Running):
    client = server.client()
    alone = [text(client, seed=seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda seed: text(client, seed=seed), range(8)))
    assert together == alone


class Ticket(pydantic.BaseModel, extra="forbid"):
    queue: Literal["billing", "repair"]
    urgent: bool
    parts: list[Literal["hinge", "seal"]] = pydantic.Field(max_length=2)


def test_the_sdk_parses_an_answer_into_a_pydantic_model(client):
    for seed in range(2):
        answer = client.chat.completions.parse(model="tiny", messages=HI, response_format=Ticket, seed=seed)
        assert isinstance(answer.choices[0].message.parsed, Ticket)
        assert answer.choices[0].finish_reason == "stop"


def test_a_streamed_answer_in_json_is_the_plain_one(client):
    wish = {"name": "ticket", "schema": Ticket.model_json_schema(), "strict": False}
    body = {"max_tokens": 180, "seed": 3, "response_format": {"type": "json_schema", "json_schema": wish}}
    streamed = "".join(c.choices[0].delta.content or "" for c in ask(client, stream=True, **body))
    assert streamed == text(client, **body)
    Ticket.model_validate_json(streamed)


def test_json_object_begins_an_object(client):
    for seed in range(3):
        assert text(client, seed=seed, response_format={"type": "json_object"}).startswith("{")


def test_logprobs_are_those_of_the_text_whole_and_streamed(client):
    answer = ask(client, temperature=0, logprobs=True, top_logprobs=3, seed=1)
    ChatCompletion.model_validate(answer.model_dump(), strict=True)
    choice = answer.choices[0]
    tokens = choice.logprobs.content
    assert len(tokens) == answer.usage.completion_tokens and choice.finish_reason == "length"
    assert b"".join(bytes(t.bytes) for t in tokens).decode("utf-8", "replace") == choice.message.content
    for token in tokens:
        assert token.top_logprobs[0].logprob == token.logprob <= 0, "the most likely token was taken"
        assert [t.logprob for t in token.top_logprobs] == sorted((t.logprob for t in token.top_logprobs), reverse=True)
    chunks = list(ask(client, temperature=0, logprobs=True, top_logprobs=3, stream=True))
    streamed = [t for c in chunks if c.choices and c.choices[0].logprobs for t in c.choices[0].logprobs.content]
    assert [(t.token, round(t.logprob, 3)) for t in streamed] == [(t.token, round(t.logprob, 3)) for t in tokens]
    plain = ask(client, temperature=0, logprobs=True).choices[0]
    assert all(t.top_logprobs == [] for t in plain.logprobs.content)
    assert ask(client).choices[0].logprobs is None


def test_a_bias_changes_the_answer_and_not_its_logprobs(client):
    first = ask(client, temperature=0, max_tokens=1, logprobs=True, top_logprobs=2).choices[0].logprobs.content[0]
    biased = ask(client, temperature=0, max_tokens=1, logprobs=True, top_logprobs=2, logit_bias={"300": 100})
    token = biased.choices[0].logprobs.content[0]
    assert token.token != first.token and token.logprob < first.logprob
    assert [t.token for t in token.top_logprobs] == [t.token for t in first.top_logprobs]


def test_no_logprob_is_told_of_what_a_stop_text_cuts_off(client):
    whole = ask(client, temperature=0, logprobs=True).choices[0]
    stop = whole.message.content[3:5]
    cut = ask(client, temperature=0, logprobs=True, stop=stop).choices[0]
    told = "".join(t.token for t in cut.logprobs.content)
    assert told.startswith(cut.message.content) and len(cut.logprobs.content) < len(whole.logprobs.content)


def test_top_logprobs_needs_logprobs(client):
    with pytest.raises(openai.BadRequestError, match="only allowed when 'logprobs' is enabled"):
        ask(client, top_logprobs=2)
