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
        ({"logprobs": 2}, "logprobs"),
        ({"best_of": 3}, "best_of"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"prompt": [100_000]}, "prompt"),
        ({"n": 0}, "n"),
    ],
)
def test_what_can_not_be_honoured_is_named(client, more, param):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **more)
    assert caught.value.param == param and caught.value.message


def test_prompts_that_say_nothing():
    with serving(Scripted()) as url:
        for prompt in ([], [[]], None, {}, [True]):
            reply = httpx.post(f"{url}/v1/completions", json={"model": "starter", "prompt": prompt})
            assert (
                reply.status_code,
                reply.json()["error"]["param"].partition(".")[0].partition("[")[0],
            ) == (400, "prompt")
