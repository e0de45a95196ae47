"""Calls that a request asks for, of a model with random weights: it would never make one by itself."""

from __future__ import annotations

import json
from typing import Any, Literal

import jsonschema
import openai
import pytest
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from pydantic import BaseModel

PRICE = {
    "type": "function",
    "function": {
        "name": "price",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"item": {"enum": ["mug", "bowl"]}, "net": {"type": "boolean"}},
            "required": ["item", "net"],
            "additionalProperties": False,
        },
    },
}
NOW = {"type": "function", "function": {"name": "now"}}
FITS = {"price": PRICE["function"]["parameters"], "now": {"type": "object", "maxProperties": 0}}
OK = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    return {
        "type": "allowed_tools",
        "allowed_tools": {"mode": mode, "tools": [named(name) for name in names]},
    }


def asked(**more: Any) -> dict[str, Any]:
    greeting = [{"role": "user", "content": "Good day."}]
    return {
        "model": "tiny",
        "messages": greeting,
        "tools": [NOW, PRICE],
        "temperature": 0,
        "max_tokens": 150,
        **more,
    }


@pytest.mark.parametrize(
    ("choice", "names"),
    [("required", set(FITS)), (named("price"), {"price"}), (allowed("required", "price"), {"price"})],
)
def test_a_call_is_made_and_fits_its_schema(client, choice, names):
    more = {"tool_choice": choice, "parallel_tool_calls": False}
    answer = client.chat.completions.create(**asked(**more))
    ChatCompletion.model_validate(answer.model_dump(), strict=True)
    (it,) = answer.choices
    assert (it.finish_reason, it.message.content) == ("tool_calls", None)
    (call,) = it.message.tool_calls
    assert call.function.name in names
    jsonschema.validate(json.loads(call.function.arguments), FITS[call.function.name])
    deltas = [
        chunk.choices[0].delta for chunk in client.chat.completions.create(**asked(**more), stream=True)
    ]
    calls = [made for delta in deltas for made in delta.tool_calls or ()]
    assert calls[0].function.name == call.function.name
    assert "".join(made.function.arguments for made in calls) == call.function.arguments


@pytest.mark.parametrize("most", [4, 12, 40])
def test_a_call_that_is_cut_is_a_call_with_what_there_is_of_it(client, most):
    whole = client.chat.completions.create(**asked(tool_choice=named("price"))).choices[0].message
    (cut,) = client.chat.completions.create(**asked(tool_choice=named("price"), max_tokens=most)).choices
    assert cut.finish_reason == "length" and not cut.message.content
    if cut.message.tool_calls:
        (call,) = cut.message.tool_calls
        assert call.function.name == "price"
        assert whole.tool_calls[0].function.arguments.replace(" ", "").startswith(call.function.arguments[:3].strip())


def test_one_of_is_held_to_where_its_branches_are_apart(client):
    branches = [
        {"type": "object", "properties": {"kind": {"const": kind}}, "required": ["kind"], "additionalProperties": False}
        for kind in ("a", "b")
    ]
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"oneOf": branches}}}
    answer = client.chat.completions.create(**asked(tools=openai.omit, response_format=wanted))
    assert json.loads(answer.choices[0].message.content)["kind"] in ("a", "b")
    wanted["json_schema"]["schema"] = {"oneOf": [{"type": "integer"}, {"type": "number"}]}
    with pytest.raises(openai.BadRequestError, match="anyOf") as caught:
        client.chat.completions.create(**asked(tools=openai.omit, response_format=wanted))
    assert "coerce" not in caught.value.message


def test_the_sdk_reads_the_arguments_of_a_strict_tool(client):
    class Price(BaseModel):
        item: Literal["mug", "bowl"]
        net: bool

    tool = openai.pydantic_function_tool(Price, name="price")
    answer = client.chat.completions.parse(**asked(tools=[tool], tool_choice=named("price")))
    assert isinstance(answer.choices[0].message.tool_calls[0].function.parsed_arguments, Price)


def test_json_or_a_call(client):
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": OK, "strict": True}}
    for choice in ("auto", "none", "required"):
        answer = client.chat.completions.create(
            **asked(response_format=wanted, tool_choice=choice, parallel_tool_calls=False)
        )
        message = answer.choices[0].message
        assert bool(message.tool_calls) == (choice == "required") or choice == "auto"
        if not message.tool_calls:
            jsonschema.validate(json.loads(message.content), OK)


def test_a_response_calls_where_it_is_asked_to(client):
    flat = [{"type": "function", **tool["function"]} for tool in (NOW, PRICE)]
    only = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "price"}]}
    more = {
        "model": "tiny",
        "input": "Good day.",
        "temperature": 0,
        "max_output_tokens": 150,
        "tools": flat,
        "parallel_tool_calls": False,
    }
    for choice in ({"type": "function", "name": "price"}, only):
        response = client.responses.create(**more, tool_choice=choice)
        (item,) = response.output
        assert (item.type, item.name) == ("function_call", "price")
        jsonschema.validate(json.loads(item.arguments), FITS["price"])


def test_a_response_fits_its_text_format(client):
    class Verdict(BaseModel):
        mood: Literal["good", "bad"]

    more = {"model": "tiny", "input": "Good day.", "text_format": Verdict, "max_output_tokens": 60}
    parsed = client.responses.parse(**more)
    Response.model_validate(parsed.model_dump(by_alias=True))
    assert parsed.output_parsed.mood in ("good", "bad") and parsed.text.format.name == "Verdict"
    with client.responses.stream(**more) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_parsed.mood in ("good", "bad")


def test_a_schema_that_can_not_be_held_to_is_named_with_its_tool(client):
    bad = {
        "type": "function",
        "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"not": {}}}}},
    }
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**asked(tools=[NOW, bad], tool_choice="required"))
    assert (caught.value.param, caught.value.code) == ("tools[1].function.parameters", "invalid_json_schema")
