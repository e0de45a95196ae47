from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.data_rows import PLACE, chat, kept, refused, shaped
from journeyman.data.check.refusals import REASONS
from journeyman.data.parse import Parser
from journeyman.data.refused import Refused, Row
from journeyman.data.shapes import Columns, Shape, detect, to_example
from journeyman.errors import DataError
from journeyman.records import Example, Message, example_from_dict

CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Riga"}'}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
USER = {"role": "user", "content": "hi"}


def raw(*values: dict[str, Any]) -> list[Row]:
    return [Row(value, PLACE) for value in values]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (chat(), "openai_chat"),
        ({"prompt": "a", "completion": "b"}, "prompt_completion"),
        ({"instruction": "a", "input": "", "output": "b"}, "alpaca"),
        ({"conversations": [{"from": "human", "value": "a"}]}, "sharegpt"),
        ({"messages": [{"from": "human", "value": "a"}]}, "sharegpt"),
        ({"question": "a", "answer": "b"}, "columns"),
    ],
)
def test_detect(value: dict[str, Any], name: str) -> None:
    assert detect(raw(value)).name == name


def test_rows_below_a_key_are_named() -> None:
    with pytest.raises(DataError, match='its 2 rows seem to stand below "data"') as caught:
        detect(raw({"object": "list", "data": [chat(), chat()]}))
    assert caught.value.code == "nested_rows"


def test_a_few_strange_rows_do_not_change_the_shape_and_are_refused() -> None:
    rows = raw({"prompt": "a", "completion": "b"}, chat(), chat(), {"conversations": []})
    shape = detect(rows)
    assert shape.name == "openai_chat"
    outcomes = [to_example(row, shape) for row in rows]
    assert [o.code if isinstance(o, Refused) else "kept" for o in outcomes] == [
        "wrong_shape",
        "kept",
        "kept",
        "wrong_shape",
    ]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({"input": {"messages": []}, "preferred_output": [], "non_preferred_output": []}, "preference"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preference"),
        ({"messages": [USER], "reference_answer": "42"}, "reinforcement"),
    ],
)
def test_methods_that_are_not_here_are_named(value: dict[str, Any], code: str) -> None:
    with pytest.raises(DataError, match="not here yet") as caught:
        detect(raw(value))
    assert caught.value.code == f"{code}_file"
    assert refused(value).code == f"{code}_row"


def test_the_users_columns_override_the_shape() -> None:
    row = raw({"prompt": "a", "completion": "b", "better": "c"})[0]
    shape = detect([row], Columns("prompt", "better"))
    outcome = to_example(row, shape)
    assert isinstance(outcome, Example)
    assert outcome.ideal.content == "c"
    assert outcome.item == {"completion": "b"}


def test_openai_chat_in_full() -> None:
    value = {
        "messages": [
            {
                "role": "developer",
                "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}],
            },
            {"role": "user", "content": "Weather?", "name": "ann"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [CALL],
                "weight": 0,
                "refusal": None,
                "annotations": [],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
            {"role": "assistant", "content": "Rain.", "weight": 1},
        ],
        "tools": [TOOL],
        "parallel_tool_calls": False,
        "topic": "weather",
        "gold": {"n": 1},
    }
    example = kept(value)
    assert example.messages == (
        Message("developer", "Be brief."),
        Message("user", "Weather?", name="ann"),
        Message("assistant", "", weight=0, tool_calls=(CALL,)),
        Message("tool", "rain", tool_call_id="c1"),
        Message("assistant", "Rain.", weight=1),
    )
    assert example.tools == (TOOL,)
    assert example.item == {"topic": "weather", "gold": {"n": 1}}
    assert example_from_dict(json.loads(json.dumps(example.as_dict()))) == example


def test_the_older_functions_become_tools() -> None:
    function = {"name": "weather", "arguments": "{}"}
    example = kept(
        {
            "messages": [
                USER,
                {"role": "assistant", "content": None, "function_call": function},
                {"role": "function", "name": "weather", "content": "rain"},
                {"role": "assistant", "content": "Rain."},
            ],
            "functions": [TOOL["function"]],
        }
    )
    call = example.messages[1].tool_calls[0]
    assert call["function"] == function
    assert (example.messages[2].role, example.messages[2].tool_call_id) == ("tool", call["id"])
    assert example.tools == ({"type": "function", "function": TOOL["function"]},)


def test_a_row_of_our_own_dataset_is_read_back() -> None:
    example = kept(chat(topic="x"))
    assert kept(example.as_dict()) == example


@pytest.mark.parametrize(
    ("message", "code", "says"),
    [
        ({"role": "user"}, "missing_content", "messages[1]"),
        ({"role": "assistant", "content": None}, "missing_content", "messages[1]"),
        ({"content": "x"}, "missing_key", "no role"),
        ({"role": "bot", "content": "x"}, "unknown_role", '"bot"'),
        ({"role": ["user"], "content": "x"}, "unknown_role", "user"),
        ({"role": "user", "content": {"a": 1}}, "not_text", '{"a": 1}'),
        ({"role": "user", "content": 3}, "not_text", "3"),
        ({"role": "user", "content": ["x"]}, "not_text", "content[0]"),
        ({"role": "user", "content": [{"type": "text", "text": None}]}, "not_text", "null"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            "unsupported_part",
            "image_url",
        ),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "unsupported_part", "input_audio"),
        ({"role": "user", "content": "x", "wieght": 1}, "unknown_key", "wieght"),
        ({"role": "assistant", "content": "x", "refusal": "no"}, "unknown_key", "refusal"),
        ({"role": "assistant", "content": "x", "weight": 2}, "bad_weight", "2"),
        ({"role": "assistant", "content": "x", "weight": 0.5}, "bad_weight", "0.5"),
        ({"role": "assistant", "content": "x", "weight": True}, "bad_weight", "true"),
        ({"role": "assistant", "content": "x", "weight": "1"}, "bad_weight", '"1"'),
        ({"role": "user", "content": "x", "name": 3}, "not_text", "name"),
        ({"role": "user", "content": "x", "tool_calls": [CALL]}, "bad_tool_call", "user"),
        ({"role": "user", "content": "x", "tool_call_id": "c1"}, "bad_tool_call", "user"),
        ({"role": "tool", "content": "x"}, "bad_tool_call", "tool_call_id"),
        ({"role": "function", "content": "x", "name": "f"}, "bad_tool_call", '"f"'),
        ({"role": "assistant", "tool_calls": "x"}, "bad_tool_call", '"x"'),
        ({"role": "assistant", "tool_calls": ["x"]}, "bad_tool_call", "tool_calls[0]"),
        ({"role": "assistant", "tool_calls": [{**CALL, "id": ""}]}, "bad_tool_call", "id"),
        ({"role": "assistant", "tool_calls": [{**CALL, "type": "code"}]}, "bad_tool_call", "code"),
        ({"role": "assistant", "tool_calls": [{**CALL, "extra": 1}]}, "bad_tool_call", "extra"),
        (
            {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": {}}}]},
            "bad_tool_call",
            "arguments",
        ),
        (
            {"role": "assistant", "tool_calls": [CALL], "function_call": CALL["function"]},
            "bad_tool_call",
            "both",
        ),
        ("x", "bad_messages", "messages[1]"),
        (None, "bad_messages", "messages[1]"),
    ],
)
def test_a_message_that_is_not_openais_form(message: Any, code: str, says: str) -> None:
    refusal = refused({"messages": [USER, message]})
    assert refusal.code == code
    assert says in refusal.reason
    assert refusal.place == PLACE
    assert refusal.fix and refusal.text


@pytest.mark.parametrize("messages", [[], None, {}, "x", 3])
def test_messages_that_are_no_list(messages: Any) -> None:
    assert refused({"messages": messages}).code == "bad_messages"


@pytest.mark.parametrize(
    "more",
    [
        {"tools": 3},
        {"tools": ["x"]},
        {"tools": [{"type": "x"}]},
        {"tools": [{"type": "function"}]},
        {"functions": [{}]},
        {"parallel_tool_calls": 1},
    ],
)
def test_tools_that_are_not_openais_form(more: dict[str, Any]) -> None:
    assert refused(chat(**more)).code == "bad_tools"


def test_prompt_and_completion_as_texts_and_as_messages() -> None:
    assert kept({"prompt": "a", "completion": " b", "id": 3}, "prompt_completion") == kept(
        {**chat("a", " b"), "id": 3}
    )
    value = {
        "prompt": [{"role": "system", "content": "s"}, USER],
        "completion": [{"role": "assistant", "content": "b"}],
    }
    assert [m.role for m in kept(value, "prompt_completion").messages] == ["system", "user", "assistant"]
    assert refused({"prompt": "a"}, "prompt_completion").code == "missing_key"
    assert refused({"prompt": "a", "completion": {"b": 1}}, "prompt_completion").code == "not_text"


def test_alpaca() -> None:
    value = {
        "instruction": "Translate.",
        "input": "hello",
        "output": "salut",
        "system": "s",
        "history": [["a", "b"]],
        "n": 1,
    }
    example = kept(value, "alpaca")
    assert [(m.role, m.content) for m in example.messages] == [
        ("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "Translate.\n\nhello"), ("assistant", "salut"),
    ]  # fmt: skip
    assert example.item == {"n": 1}
    assert kept({"instruction": "Hi.", "input": "", "output": "x"}, "alpaca").prompt[-1].content == "Hi."
    assert refused({"instruction": "Hi.", "input": ["x"], "output": "x"}, "alpaca").code == "not_text"
    assert refused({"instruction": "Hi.", "output": "x", "history": [["a"]]}, "alpaca").code == "not_text"


def test_sharegpt() -> None:
    turns = [
        {"from": "system", "value": "s"},
        {"from": "human", "value": "weather?"},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Riga"}}'},
        {"from": "observation", "value": "rain"},
        {"from": "gpt", "value": "Rain."},
    ]
    example = kept({"conversations": turns, "tools": json.dumps([TOOL["function"]]), "id": "7"}, "sharegpt")
    assert [m.role for m in example.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert example.messages[2].tool_calls[0]["function"] == {
        "name": "weather",
        "arguments": '{"city": "Riga"}',
    }
    assert example.messages[3].tool_call_id == example.messages[2].tool_calls[0]["id"]
    assert example.tools == (TOOL,)
    assert example.item == {"id": "7"}


@pytest.mark.parametrize(
    ("turn", "code"),
    [
        ({"from": "alien", "value": "x"}, "unknown_role"),
        ({"from": None, "value": "x"}, "unknown_role"),
        ({"from": "gpt", "value": {"x": 1}}, "not_text"),
        ({"from": "gpt", "value": "x", "extra": 1}, "unknown_key"),
        ({"from": "gpt", "value": "x", "weight": 3}, "bad_weight"),
        ({"from": "function_call", "value": "no json"}, "bad_tool_call"),
        ({"from": "observation", "value": "x"}, "bad_tool_call"),
        (3, "bad_messages"),
    ],
)
def test_a_sharegpt_turn_that_is_refused(turn: Any, code: str) -> None:
    assert refused({"conversations": [{"from": "human", "value": "a"}, turn]}, "sharegpt").code == code


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("3", "3"),
        ("1.50", "1.50"),
        ("1e3", "1e3"),
        ("true", "true"),
        ("false", "false"),
        ("-0.0", "-0.0"),
        ('"x"', "x"),
        ("null", ""),
    ],
)
def test_numbers_and_booleans_become_their_text_as_written(written: str, text: str) -> None:
    value = Parser().parse(f'{{"q": "a", "label": {written}}}').value
    outcome = to_example(Row(value, PLACE), Shape("columns", "test", Columns("q", "label")))
    assert isinstance(outcome, Example)
    assert outcome.ideal.content == text


@pytest.mark.parametrize("value", [{"a": 1}, ["a"], []])
def test_nested_json_where_text_belongs_is_refused(value: Any) -> None:
    outcome = to_example(
        Row({"q": "a", "label": value}, PLACE), Shape("columns", "test", Columns("q", "label"))
    )
    assert isinstance(outcome, Refused)
    assert outcome.code == "not_text"
    assert json.dumps(value) in outcome.reason


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.sampled_from(["user", "assistant", "tool", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "messages",
                    "role",
                    "content",
                    "tool_calls",
                    "function",
                    "type",
                    "text",
                    "from",
                    "value",
                    "prompt",
                    "completion",
                    "instruction",
                    "output",
                    "input",
                    "history",
                    "weight",
                    "tools",
                    "conversations",
                    "item",
                    "place",
                    "function_call",
                    "id",
                    "name",
                    "chosen",
                    "rejected",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["messages", "conversations", "prompt", "completion", "instruction", "output", "input", "item", "place", "tools", "history", "system"]), JSON, max_size=4),
       st.sampled_from(["openai_chat", "prompt_completion", "alpaca", "sharegpt"]))  # fmt: skip
def test_any_row_is_an_example_or_refused_with_a_known_code(value: dict[str, Any], name: str) -> None:
    outcome = shaped(value, name)
    if isinstance(outcome, Refused):
        assert outcome.code in REASONS
        json.dumps(outcome.as_dict(), ensure_ascii=False).encode()
