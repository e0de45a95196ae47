"""Tool calls are found in what a model writes, and nothing it wrote is lost."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from journeyman.records import Message
from journeyman.starter import path as starter_path
from journeyman.text.encode import prompt_and_answer
from journeyman.text.template import ChatFormat
from journeyman.text.tools import CallReader, ListReader, TagReader, call_readers

NAMES = ["stock", "price"]
HERMES = (
    "{% if tools %}<|im_start|>system\n# Tools\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for call in m.tool_calls or [] %}{% if not loop.first or m.content %}\n{% endif %}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n</tool_call>{% endfor %}'
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def call(name: str = "stock", arguments: str = '{"item": "blue mug"}') -> dict:
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


def read(reader: CallReader, *pieces: str) -> tuple[str, list[dict]]:
    """The text and the functions called, of an answer that arrives in pieces."""
    steps = [*(reader.push(piece) for piece in pieces), reader.finish()]
    ids = [made["id"] for _, calls in steps for made in calls]
    assert len(ids) == len(set(ids))
    return "".join(text for text, _ in steps), [made["function"] for _, calls in steps for made in calls]


def pieces_of(text: str, seed: int) -> list[str]:
    source = random.Random(seed)
    cuts = sorted(source.sample(range(len(text) + 1), min(len(text), source.randrange(0, 12))))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@pytest.fixture(params=["hermes", "starter", "chatml"])
def chat(request, tmp_path) -> ChatFormat:
    if request.param == "starter":
        return ChatFormat.open(starter_path())
    tiny.write_tokenizer(tmp_path, {"hermes": HERMES, "chatml": tiny.CHATML}[request.param])
    return ChatFormat.open(tmp_path)


@pytest.mark.parametrize("content", ["", "Let me look.", "A list: [1, 2] and a <tag>."])
@pytest.mark.parametrize("calls", [1, 2])
def test_what_training_writes_is_read_back_however_it_arrives(chat, content, calls):
    made = [call(), call("price", '{"item": "mug", "in": "€", "deep": [{"a": [1.5, null]}]}')][:calls]
    _, answer = prompt_and_answer([Message("user", "Hi"), Message("assistant", content, tool_calls=tuple(made))], (), chat)
    written = answer.removesuffix(chat.end_of_turn)
    for seed in range(20):
        (reader,) = call_readers(chat, NAMES)
        assert read(reader, *pieces_of(written, seed)) == (content, [m["function"] for m in made])


@pytest.mark.parametrize("template", [tiny.MISTRAL, tiny.LLAMA3, tiny.GEMMA, None])
def test_a_template_without_calls_has_no_reader(tmp_path, template):
    tiny.write_tokenizer(tmp_path, template)
    assert call_readers(ChatFormat.open(tmp_path), NAMES) == []


@pytest.mark.parametrize("form", ["<function={{ c.function.name }}>", "<tool_call><function={{ c.function.name }}></tool_call>"])
def test_a_template_that_writes_calls_in_another_form_has_no_reader(tmp_path, form):
    template = tiny.LLAMA3.replace("<|eot_id|>", "{% for c in m.tool_calls or [] %}" + form + "{% endfor %}<|eot_id|>")
    tiny.write_tokenizer(tmp_path, template)
    chat = ChatFormat.open(tmp_path)
    assert "probe" in chat.render([Message("assistant", tool_calls=(call("probe"),))], add_generation_prompt=False)
    assert call_readers(chat, NAMES) == []


NO_CALLS = [
    "",
    "Plain text.",
    "  spaces \n around  ",
    "a < b, [1], [{",
    '[{"name": "stock"}]',
    '[{"name": "unknown", "arguments": {}}]',
    '[{"name": "stock", "arguments": {}}, {"name": "unknown", "arguments": {}}]',
    '[{"name": "stock", "arguments": [1]}] and more',
    '[{"name": "stock", "arguments": "no JSON"}]',
    '[{"name": "stock", "arguments": {"item": "cut off',
    "<tool_call>",
    "<tool_call>nothing</tool_call>",
    '<tool_call>{"name": "unknown", "arguments": {}}</tool_call> after',
    '<tool_call>{"name": "stock", "arguments": {"item": "cut',
    "<tool_call>" * 3 + "[" * 50,
]


@pytest.mark.parametrize("form", [TagReader, ListReader])
@pytest.mark.parametrize("text", NO_CALLS)
def test_what_is_no_call_stays_text(form, text):
    for seed in range(8):
        assert read(form(NAMES), *pieces_of(text, seed)) == (text, [])


@given(st.lists(st.sampled_from([*"ab<[{ \n", "<tool_call>", "</tool_call>", '[{"name":', '"stock"', "}]"]), max_size=14))
def test_nothing_that_is_written_is_lost(pieces):
    for form in (TagReader, ListReader):
        text, calls = read(form(NAMES), *pieces)
        assert calls or text == "".join(pieces)


def test_text_is_shown_as_soon_as_it_can_be_no_call():
    for form in (TagReader, ListReader):
        assert form(NAMES).push("Let me look at [3] < 4, ok") == ("Let me look at [3] < 4, ok", [])


def test_a_call_is_given_as_soon_as_its_tag_closes():
    reader = TagReader(NAMES)
    assert reader.push('Look.\n<tool_call>\n{"name": "stock", "arguments": {}}\n') == ("Look.", [])
    (made,) = reader.push("</tool_call>\n")[1]
    assert made["function"] == {"name": "stock", "arguments": "{}"}
    assert reader.finish() == ("", [])


def test_a_last_tag_may_be_closed_by_the_turn_and_arguments_may_be_text():
    written = '<tool_call>' + json.dumps({"name": "stock", "arguments": '{"item": 1}'})
    assert read(TagReader(NAMES), written) == ("", [{"name": "stock", "arguments": '{"item": 1}'}])
