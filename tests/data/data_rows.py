"""Rows and files that the tests of the data layer share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from journeyman.data.read import read_rows
from journeyman.data.refused import Refused, Row
from journeyman.data.shapes import Shape, to_example
from journeyman.records import Example, Message, Place

PLACE = Place("x.jsonl", 7)


def chat(question: str = "How are you?", answer: str = "Well.", **more: Any) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
        **more,
    }


def example(question: str, answer: str = "Well.", line: int = 1, file: str = "x.jsonl") -> Example:
    return Example((Message("user", question), Message("assistant", answer)), Place(file, line))


def write_rows(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path) -> tuple[list[Row], list[Refused]]:
    found = list(read_rows(path))
    return [r for r in found if isinstance(r, Row)], [r for r in found if isinstance(r, Refused)]


def shaped(value: dict[str, Any], name: str = "openai_chat") -> Example | Refused:
    return to_example(Row(value, PLACE, json.dumps(value)[:200]), Shape(name, "test"))  # type: ignore[arg-type]


def kept(value: dict[str, Any], name: str = "openai_chat") -> Example:
    outcome = shaped(value, name)
    assert isinstance(outcome, Example), outcome
    return outcome


def refused(value: dict[str, Any], name: str = "openai_chat") -> Refused:
    outcome = shaped(value, name)
    assert isinstance(outcome, Refused), outcome
    return outcome
