from __future__ import annotations

from typing import Any

import pytest

from data.data_rows import PLACE, chat, kept
from journeyman.data.check.refusals import REASONS, REFUSALS, check_example
from journeyman.records import Example, Message

USER = {"role": "user", "content": "hi"}
SAYS = {"role": "assistant", "content": "hello"}
MUTE = {**SAYS, "weight": 0}
TOOLS = [{"type": "function", "function": {"name": "f"}}]


def call(arguments: str = "{}", name: str = "f", call_id: str = "c1") -> dict[str, Any]:
    return {
        "role": "assistant",
        "tool_calls": [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        ],
    }


def answer(call_id: str = "c1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": "x"}


BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("no_assistant", {"messages": [USER]}, "user"),
    ("ends_on_user", {"messages": [USER, SAYS, USER]}, "messages[2]"),
    ("ends_on_user", {"messages": [USER, call(), answer()], "tools": TOOLS}, "tool"),
    ("nothing_learned", {"messages": [USER, MUTE]}, "weight 0"),
    ("ideal_not_learned", {"messages": [USER, SAYS, USER, MUTE]}, "weight 0"),
    ("empty_output", chat("hi", ""), 'messages[1] is ""'),
    ("empty_output", chat("hi", " \n\t"), "messages[1]"),
    ("empty_output", {"messages": [USER, {**SAYS, "content": ""}, USER, SAYS]}, "messages[1]"),
    ("empty_input", chat("  "), "messages[0]"),
    ("missing_user", {"messages": [SAYS]}, "nothing"),
    ("missing_user", {"messages": [{"role": "system", "content": "s"}, SAYS]}, "system"),
    ("system_order", {"messages": [USER, {"role": "system", "content": "s"}, USER, SAYS]}, "messages[1]"),
    (
        "system_order",
        {"messages": [{"role": "system", "content": "s"}, {"role": "developer", "content": "s"}, USER, SAYS]},
        "developer",
    ),
    ("tool_order", {"messages": [USER, answer(), SAYS]}, '"c1"'),
    ("tool_order", {"messages": [USER, answer(), call(), SAYS], "tools": TOOLS}, "messages[1]"),
    ("tool_order", {"messages": [USER, call(), answer("c2"), SAYS], "tools": TOOLS}, '"c2"'),
    ("bad_arguments", {"messages": [USER, call("{bad")], "tools": TOOLS}, "{bad"),
    ("bad_arguments", {"messages": [USER, call("[]")], "tools": TOOLS}, "object"),
    ("bad_arguments", {"messages": [USER, call('{"a": NaN}')], "tools": TOOLS}, "NaN"),
    ("bad_arguments", {"messages": [USER, call("[" * 100_000)], "tools": TOOLS}, "[[["),
    ("unknown_function", {"messages": [USER, call(name="g")], "tools": TOOLS}, '"g"'),
    ("unknown_function", {"messages": [USER, call()]}, "[]"),
    ("weight_elsewhere", {"messages": [{**USER, "weight": 1}, SAYS]}, "messages[0]"),
    ("lone_surrogate", chat("a \ud83d b"), "U+D83D"),
    ("lone_surrogate", chat(topic={"deep": ["\udc00"]}), "U+DC00"),
    ("lone_surrogate", chat(**{"\ud800": 1}), "U+D800"),
    ("nul_character", chat("a\0b"), "position 1"),
    ("nul_character", chat(topic="\0"), "the row"),
]


@pytest.mark.parametrize(("code", "value", "says"), BROKEN)
def test_a_row_is_refused_for_what_it_says(code: str, value: dict[str, Any], says: str) -> None:
    refusal = check_example(kept(value), "the row's text")
    assert refusal is not None
    assert refusal.code == code
    assert says in refusal.reason
    assert (refusal.place, refusal.text) == (PLACE, "the row's text")
    assert refusal.fix == REASONS[code][1]
    f"{refusal}".encode()


def test_every_refusal_is_broken_above() -> None:
    assert {code for code, _, _ in BROKEN} == {refusal.code for refusal in REFUSALS}


@pytest.mark.parametrize(
    "value",
    [
        chat(),
        {"messages": [{"role": "system", "content": ""}, USER, SAYS]},
        {"messages": [USER, MUTE, USER, SAYS]},
        {"messages": [SAYS, USER, SAYS]},
        {"messages": [USER, USER, SAYS, SAYS]},
        {"messages": [USER, {**MUTE, "content": ""}, USER, SAYS]},
        {"messages": [USER, call(), answer(), SAYS], "tools": TOOLS},
        {"messages": [USER, call('{"a": 1}')], "tools": TOOLS},
        chat("😀 \u2028 é"),
    ],
)
def test_rows_that_can_be_learned_from(value: dict[str, Any]) -> None:
    assert check_example(kept(value)) is None


def test_every_reason_has_a_meaning_and_a_mend() -> None:
    assert all(meaning and mend for meaning, mend in REASONS.values())
    assert len({refusal.code for refusal in REFUSALS}) == len(REFUSALS)


def test_any_messages_give_an_outcome() -> None:
    example = Example((Message("tool", "x"), Message("system", "y")), PLACE)
    refusal = check_example(example)
    assert refusal is not None and refusal.code == "no_assistant"
