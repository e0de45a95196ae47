"""The grammar of an answer that may, or must, call tools: each call names an allowed function and fits its schema.

It is written in llguidance's form of Lark (https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md). A
terminal has a name in capitals; a rule that is `lazy` ends at the first place where it can.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from journeyman.generate.constrain import BETWEEN, json_grammar, json_rule
from journeyman.records import ToolUse
from journeyman.text.tools import CallForm

NO_ARGUMENTS: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
"""A function without `parameters` takes none, as OpenAI has it."""

_GAP = f"({BETWEEN})?"
_ANYTHING = r"(.|\n)*"
_HEAD = rf'\{{{_GAP}"name"{_GAP}:'
_LIST_BEGINS = r'\[\s*\{\s*"(name|arguments)"\s*:'
"""What the list reader takes for the beginning of calls: text that is no call must not hold it."""


def is_needed(tools: Sequence[Mapping[str, Any]], use: ToolUse, json_schema: str | None) -> bool:
    """Whether an answer has to be held to a grammar; else it is free, and calls are only read from it."""
    strict = any(tool["function"].get("strict") for tool in tools)
    return bool(tools) and (use.must or use.names is not None or strict or json_schema is not None)


def call_grammar(
    form: CallForm, tools: Sequence[Mapping[str, Any]], use: ToolUse, json_schema: str | None = None
) -> str:
    """The grammar of an answer with `tools`, written in a model's form of calls.

    An answer that need not call is free text around its calls, or, with `json_schema`, either calls or a value that
    fits it. Raises RequestError (`invalid_json_schema`) that names the tool whose schema can't be held to.
    """
    allowed = [
        (index, tool["function"])
        for index, tool in enumerate(tools)
        if use.names is None or tool["function"]["name"] in use.names
    ]
    rules = [_call(index, function) for index, function in allowed]
    rules += [f"call: {' | '.join(f'call_{index}' for index, _ in allowed)}", rf"TAIL: /{_GAP}\}}/"]
    only_calls, around_text = _tags(use.most) if form == "tags" else _list(use.most)
    if use.must:
        rules += ["start: calls", *only_calls]
    elif json_schema is not None:
        json_grammar(json_schema)
        rules += ["start: calls | answer", *only_calls, f"answer: {json_rule(json.loads(json_schema))}"]
    else:
        rules += around_text
    return "\n".join(rules)


def _call(index: int, function: Mapping[str, Any]) -> str:
    """A call from after its key "name" on."""
    schema = function.get("parameters") or NO_ARGUMENTS
    if schema.get("type") != "object":
        schema = {"type": "object", **schema}
    json_grammar(json.dumps(schema), where=f"tools[{index}].function.parameters")
    name = rf'{_GAP}"{function["name"]}"{_GAP},{_GAP}"arguments"{_GAP}:{_GAP}'
    return f"call_{index}: NAME_{index} {json_rule(schema)} TAIL\nNAME_{index}: /{name}/"


def _tags(most: int | None) -> tuple[list[str], list[str]]:
    """Rules of calls between tags: nothing but calls, and calls with text around them."""
    end = rf"END: /{_GAP}<\/tool_call>/"
    only_calls = [
        "calls: block" if most == 1 else "calls: block (GAP? block)*",
        "block: BEGIN call END",
        f"BEGIN: /<tool_call>{_GAP}{_HEAD}/",
        f"GAP: /{BETWEEN}/",
        end,
    ]
    around_text = [
        "start: block? TEXT" if most == 1 else "start: block* TEXT",
        "block: lead BEGIN call END",
        f"lead[lazy]: /{_ANYTHING}<tool_call>/",
        f"BEGIN: /{_GAP}{_HEAD}/",
        f"TEXT: /{_ANYTHING}/ & ~/{_ANYTHING}<tool_call>{_ANYTHING}/",
        end,
    ]
    return only_calls, around_text


def _list(most: int | None) -> tuple[list[str], list[str]]:
    """Rules of calls as one JSON list: nothing but it, and text before it."""
    rest = ["rest: call CLOSE" if most == 1 else "rest: call (NEXT call)* CLOSE"]
    rest += [f"NEXT: /{_GAP},{_GAP}{_HEAD}/", rf"CLOSE: /{_GAP}\]/"]
    only_calls = ["calls: BEGIN rest", rf"BEGIN: /\[{_GAP}{_HEAD}/", *rest]
    around_text = [
        "start: TEXT | lead rest",
        rf"lead[lazy]: /{_ANYTHING}\[{_GAP}{_HEAD}/",
        f"TEXT: /{_ANYTHING}/ & ~/{_ANYTHING}{_LIST_BEGINS}{_ANYTHING}/",
        *rest,
    ]
    return only_calls, around_text
