"""GEPA itself, with a reflection model behind a real server; only the model that is asked with the prompts is scripted."""

from __future__ import annotations

import sys

import pytest

from journeyman.answer.remote import RemoteModel
from journeyman.errors import JourneymanError, RequestError
from journeyman.evaluate.prompt_evolution import Reflection, evolve, insist_on_gepa
from journeyman.evaluate.run import graded_row
from journeyman.grade.parse import parse
from journeyman.records import Answer, Example, Message, Place, Usage
from openai_server import serving

GRADERS = parse([{"type": "string_check", "name": "exact", "input": "{{ sample.output_text }}", "reference": "{{ item.ideal }}", "operation": "eq"}])
BETTER = "Answer red."


def examples(name: str, count: int) -> list[Example]:
    return [Example((Message("user", f"{name} {i}?"), Message("assistant", "red")), Place(name, i)) for i in range(count)]


class Asked:
    """A model that does as it is told: red where the instructions say so."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    def __call__(self, instructions, rows):
        self.rows += [row.prompt[-1].content for row in rows]
        text = "red" if "red" in instructions else "blue"
        return [graded_row(row, Answer(text, "end", Usage(1, 1)), GRADERS) for row in rows]


def evolved(url, folder, *, seed=0, budget=6):
    pytest.importorskip("gepa", reason='needs pip install "journeyman[gepa]"')
    asked = Asked()
    reflect = Reflection(RemoteModel(url, "large", key="k", sleep=lambda _: None), folder / "replies.jsonl", seed)
    texts = evolve("Be brief.", examples("train", 7), examples("validation", 5), asked, reflect, budget=budget, seed=seed)
    return texts, asked, reflect


def test_a_rewriting_that_does_better_is_found_within_the_budget(tmp_path, capsys):
    with serving(lambda _: f"I see.\n```\n{BETTER}\n```") as (url, seen):
        texts, asked, reflect = evolved(url, tmp_path)
    assert texts == ["Be brief.", BETTER]
    assert len(asked.rows) <= 6 * 5
    assert [request["key"] for request in seen] == ["k"] * reflect.asked
    question = seen[0]["messages"][0]["content"]
    for told in ("Be brief.", "train ", "blue", "exact: failed, 0", "The ideal answer:\nred"):
        assert told in question
    assert not any("validation" in request["messages"][0]["content"] for request in seen)
    assert capsys.readouterr().out == ""


def test_the_same_seed_finds_the_same_and_asks_the_reflection_model_nothing_again(tmp_path):
    with serving(lambda body: f"```\nSay it in {body['seed']} words.\n```") as (url, seen):
        first, asked, _ = evolved(url, tmp_path)
        requests = len(seen)
        again, asked_again, _ = evolved(url, tmp_path)
        assert (again, asked_again.rows, len(seen)) == (first, asked.rows, requests)
        assert {request["seed"] for request in seen} == set(range(requests)) and requests > 1
        _, other, _ = evolved(url, tmp_path, seed=1)
        assert other.rows != asked.rows and len(seen) > requests


def test_a_reflection_model_that_can_not_be_asked_ends_the_search_at_once(tmp_path):
    with serving(lambda _: 401) as (url, seen), pytest.raises(JourneymanError, match="refused with 401") as failed:
        evolved(url, tmp_path, budget=50)
    assert (failed.value.code, len(seen)) == ("remote_failed", 1)


def test_what_is_missing_is_said_before_anything_is_asked(monkeypatch):
    pytest.importorskip("gepa", reason='needs pip install "journeyman[gepa]"')
    insist_on_gepa(4, 3)
    with pytest.raises(RequestError, match="give 4 or more") as small:
        insist_on_gepa(3, 3)
    assert small.value.code == "budget_too_small"
    monkeypatch.setitem(sys.modules, "gepa", None)
    with pytest.raises(RequestError) as missing:
        insist_on_gepa(12, 32)
    assert missing.value.code == "extra_missing" and 'pip install "journeyman[gepa]"' in str(missing.value)
