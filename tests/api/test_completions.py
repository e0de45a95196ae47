"""The older completions API, through the SDK, on a tiny base."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest
from openai.types import Completion

from .scripted import Scripted, serving


def ask(client, prompt: Any = "Once upon", **more: Any) -> Any:
    return client.completions.create(
        **{"model": "tiny", "prompt": prompt, "max_tokens": 5, "temperature": 0, **more}
    )


def test_a_prompt_goes_on(client):
    answer = ask(client)
    Completion.model_validate(answer.model_dump(), strict=True)
    assert answer.id.startswith("cmpl-") and answer.model == "tiny"
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 5)
    assert ask(client, echo=True).choices[0].text == "Once upon" + answer.choices[0].text
    assert ask(client, max_tokens=None).usage.completion_tokens <= 16
    only = ask(client, echo=True, max_tokens=0)
    assert (only.choices[0].text, only.usage.completion_tokens) == ("Once upon", 0)


def test_texts_and_tokens_are_prompts(client, server):
    ids = server.workspace.prompt(str(server.base), "Once upon")[1]
    alone = [ask(client, text).choices[0].text for text in ("Once upon", "Hello")]
    for prompt in (["Once upon", "Hello"], [ids, server.workspace.prompt(str(server.base), "Hello")[1]]):
        answer = ask(client, prompt, n=2, best_of=2)
        assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
        assert [choice.text for choice in answer.choices] == [text for text in alone for _ in range(2)]
    assert ask(client, ids).choices[0].text == alone[0]
    assert answer.usage.prompt_tokens == len(ids) + len(server.workspace.prompt(str(server.base), "Hello")[1])


def test_a_stream_is_the_plain_answer(client):
    plain = ask(client, n=2, seed=4, temperature=1, echo=True)
    chunks = list(
        ask(
            client, n=2, seed=4, temperature=1, echo=True, stream=True, stream_options={"include_usage": True}
        )
    )
    texts = ["", ""]
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == [choice.text for choice in plain.choices]
    assert chunks[-1].usage == plain.usage and chunks[-1].choices == []
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason] == [
        "length"
    ] * 2


def test_a_stop_text_ends_it(client):
    text = ask(client, max_tokens=12).choices[0].text
    stopped = ask(client, max_tokens=12, stop=[text[3:5]]).choices[0]
    assert (stopped.text, stopped.finish_reason) == (text[: text.index(text[3:5])], "stop")


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"suffix": "end"}, "suffix"),
        ({"logprobs": 6}, "logprobs"),
        ({"best_of": 3, "n": 4}, "best_of"),
        ({"best_of": 3, "stream": True}, "best_of"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"prompt": [100_000]}, "prompt"),
        ({"n": 0}, "n"),
    ],
)
def test_what_can_not_be_honoured_is_named(client, more, param):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **more)
    assert caught.value.param == param and caught.value.message


def test_a_prompt_s_own_tokens_are_weighed(client, server):
    """As lm-evaluation-harness asks: the prompt back with its log-probabilities, which the answer's carry on."""
    prompt = "Once upon a time"
    ids = server.workspace.prompt(str(server.base), prompt)[1]
    only = ask(client, prompt, echo=True, logprobs=1, max_tokens=0).choices[0].logprobs
    assert "".join(only.tokens) == prompt and len(only.tokens) == len(ids)
    assert only.text_offset == [len("".join(only.tokens[:i])) for i in range(len(ids))]
    assert only.token_logprobs[0] is None and only.top_logprobs[0] is None
    for token, value, top in list(zip(only.tokens, only.token_logprobs, only.top_logprobs, strict=True))[1:]:
        assert top[token] == value <= max(top.values()) <= 0 and len(top) <= 2
    answer = ask(client, prompt, echo=True, logprobs=1, max_tokens=4).choices[0]
    assert answer.logprobs.token_logprobs[: len(ids)] == only.token_logprobs
    # A token is as probable where it is read as where it is written.
    for token in (7, 20):
        read = ask(client, [*ids, token], echo=True, logprobs=0, max_tokens=0).choices[0].logprobs
        written = ask(client, ids, logprobs=0, max_tokens=1, logit_bias={token: 100}).choices[0].logprobs
        assert read.token_logprobs[-1] == pytest.approx(written.token_logprobs[0], abs=0.05)  # in bf16, where there is any
    frames = list(ask(client, prompt, echo=True, logprobs=1, max_tokens=4, stream=True))
    assert [t for f in frames for t in f.choices[0].logprobs.tokens] == answer.logprobs.tokens
    assert [o for f in frames for o in f.choices[0].logprobs.text_offset] == answer.logprobs.text_offset


def test_the_best_of_several_is_the_most_probable_by_token(client):
    more = {"temperature": 1.0, "seed": 5, "logprobs": 0, "max_tokens": 6}
    tries = ask(client, n=6, best_of=6, **more)
    best = ask(client, n=2, best_of=6, **more)

    def mean(choice):
        return sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs)

    ranked = sorted(tries.choices, key=mean, reverse=True)
    assert [c.text for c in best.choices] == [c.text for c in ranked[:2]]
    assert best.usage.completion_tokens == tries.usage.completion_tokens
    assert ask(client, n=1, best_of=6, **{**more, "logprobs": None}).choices[0].text == ranked[0].text


def test_prompts_that_say_nothing():
    with serving(Scripted()) as url:
        for prompt in ([], [[]], None, {}, [True]):
            reply = httpx.post(f"{url}/v1/completions", json={"model": "starter", "prompt": prompt})
            assert (
                reply.status_code,
                reply.json()["error"]["param"].partition(".")[0].partition("[")[0],
            ) == (400, "prompt")
