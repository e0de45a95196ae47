"""What the model of an eval run is asked for an item: `input_messages` with the item's values in them."""

from __future__ import annotations

from typing import Any

from journeyman.api.wire_evals import InputMessages, Row
from journeyman.data.messages import RowError, read_messages
from journeyman.errors import RequestError
from journeyman.grade.score import BadOutputError, NotMeasurableError, Sample
from journeyman.grade.template import Template
from journeyman.records import Message

WHERE = "data_source.input_messages"
NO_SAMPLE = Sample("")


def templates(template: InputMessages) -> list[tuple[str, Template]]:
    """The role and the text of each message of a template. Raises RequestError naming the one that can't be read."""
    found = []
    for number, message in enumerate(template.template or ()):
        role = message.get("role", "user")
        try:
            text = _text(message.get("content"))
            read_messages([{"role": role, "content": text}])
            found.append((role, Template.parse(text)))
        except (ValueError, RowError) as error:
            raise RequestError(
                f"the message can't be read: {error}", where=f"{WHERE}.template[{number}]",
                fix='write {"role": "user", "content": "{{ item.KEY }}"}', code="invalid_template",
            ) from None  # fmt: skip
    return found


def asked_of(template: InputMessages, row: Row) -> list[dict[str, Any]]:
    """The messages for one item. Raises RequestError where it lacks a value that they name."""
    try:
        if template.type == "item_reference":
            return [{"role": m["role"], "content": m["content"]} for m in row.item[referred(template)]]
        return [{"role": role, "content": text.fill(NO_SAMPLE, row.item)} for role, text in templates(template)]
    except (KeyError, TypeError, NotMeasurableError, BadOutputError) as error:
        raise RequestError(
            f"the input messages do not fit the item: {error}", where=WHERE, fix="name keys that every item has",
            code="invalid_template",
        ) from None  # fmt: skip


def referred(template: InputMessages) -> str:
    """The item's key that an item_reference names."""
    return (template.item_reference or "").removeprefix("item.")


def conversation(asked: list[dict[str, Any]]) -> tuple[Message, ...]:
    """The messages as a model reads them. Raises RequestError."""
    try:
        return read_messages(asked)
    except RowError as error:
        raise RequestError(error.reason, where=WHERE, fix=error.fix, code="invalid_value") from None


def _text(content: Any) -> str:
    if isinstance(content, dict):
        content = content.get("text")
    if isinstance(content, list):
        return "".join(_text(part) for part in content)
    if not isinstance(content, str):
        raise ValueError("a message's content is not text")
    return content
