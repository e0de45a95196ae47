"""Rows with tools are measured as they are trained and served: asked with their tools, their calls graded as calls."""

from __future__ import annotations

import json

import httpx
import pytest

import tiny
from journeyman import evaluating
from journeyman.answer.answerer import Answerer
from journeyman.answer.local import LocalModel
from journeyman.answer.prompt import Prompt
from journeyman.answer.remote import RemoteModel
from journeyman.evaluate.compare import Contender, answer_rows
from journeyman.evaluate.contenders import LOCAL
from journeyman.evaluate.run import answer_room, score
from journeyman.files import write_jsonl
from journeyman.generate.engine import Engine
from journeyman.generate.sampling import Sampling
from journeyman.grade.parse import parse
from journeyman.plan.plan import Wishes
from journeyman.records import Answer, Example, Message, Place, Usage
from journeyman.request import TrainRequest
from journeyman.text.encode import encode
from journeyman.workspace import Workspace

STOCK = {"type": "function", "function": {"name": "stock", "parameters": {"type": "object", "properties": {}}}}
WITH_TOOLS = tiny.CHATML.replace("{% for m in messages %}", "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}", 1)


def call(arguments: str, name: str = "stock") -> dict:
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


def asking(line: int = 1, arguments: str = '{"item": "mug"}') -> Example:
    messages = (Message("user", "Is it in stock?"), Message("assistant", tool_calls=(call(arguments),)))
    return Example(messages, Place("rows.jsonl", line), (STOCK,))


class Calls:
    """Answers with a call, or with no word at all; remembers which tools it was offered."""

    name = "calls"

    def __init__(self, *calls: dict) -> None:
        self.calls = calls
        self.offered: list[object] = []

    def answers(self, conversations, sampling, tools=()) -> list[Answer]:
        self.offered += tools
        return [Answer("", "end", Usage(1, 1), tool_calls=self.calls) for _ in conversations]


def passed(answerer: Answerer, example: Example, graders=()) -> bool | None:
    (row,) = score(answerer, [example], graders).rows
    return row.graded.passed


def test_saying_nothing_is_not_the_call_that_was_wanted():
    assert passed(Calls(), asking()) is False
    assert passed(Calls(call('{"item":"mug"}')), asking()) is True, "spaces and ids say nothing"
    assert passed(Calls(call('{"item": "cup"}')), asking()) is False
    assert passed(Calls(call('{"item": "mug"}', "price")), asking()) is False


def test_graders_see_the_calls_of_the_answer_and_of_the_ideal():
    name = {"type": "string_check", "name": "function", "operation": "eq",
            "input": "{{ sample.output_tools[0].function.name }}", "reference": "{{ item.ideal_tools[0].function.name }}"}  # fmt: skip
    assert passed(Calls(call("{}")), asking(), parse([name])) is True
    assert passed(Calls(), asking(), parse([name])) is False


def test_a_prompt_is_the_one_that_was_trained(tmp_path):
    tiny.write_base(tmp_path / "base", "llama", WITH_TOOLS)
    engine = Engine(tmp_path / "base")
    asked: list[int] = []
    real = engine.answers
    engine.answers = lambda requests: asked.extend(requests[0].prompt_ids) or real(requests)  # type: ignore[method-assign]
    score(LocalModel(engine), [asking()], (), max_tokens=1)
    (trained,) = encode(asking(), engine.chat)
    assert trained.ids_T[: len(asked)].tolist() == asked
    assert not trained.weights_T[: len(asked)].any() and trained.weights_T[len(asked)] == 1
    assert answer_room([asking()], engine.chat) > trained.learned_tokens


def test_a_comparison_keeps_calls_and_asks_anew_with_other_tools(tmp_path):
    def answered(answerer, example):
        recipe = next(r for r in LOCAL if r.name == "base")
        contender = Contender(recipe, answerer, Prompt(), "b", "b")
        (row,) = answer_rows(contender, [example], (), tmp_path, max_tokens=8, time_alone=False).rows
        return row.graded.passed

    right = Calls(call('{"item": "mug"}'))
    assert answered(right, asking()) is True and right.offered == [(STOCK,)]
    silent = Calls()
    assert answered(silent, asking()) is True and not silent.offered, "the answer was kept, with its call"
    other = json.loads(json.dumps(STOCK).replace("object", "array"))
    assert answered(silent, Example(asking().messages, Place("rows.jsonl", 1), (other,))) is False
    assert silent.offered == [(other,)]


def test_a_remote_model_is_offered_the_tools_and_its_calls_are_read():
    bodies = []

    def serve(request):
        bodies.append(json.loads(request.content))
        message = {"role": "assistant", "content": None, "tool_calls": [call('{"item": "mug"}')]}
        choices = [{"message": message, "finish_reason": "tool_calls"}]
        return httpx.Response(200, json={"choices": choices, "usage": {"prompt_tokens": 1, "completion_tokens": 1}})

    remote = RemoteModel("http://test/v1", "m", transport=httpx.MockTransport(serve))
    assert passed(remote, asking()) is True
    assert bodies[0]["tools"] == [STOCK]
    remote.answers([[Message("user", "Hello.")]], Sampling())
    assert "tools" not in bodies[1]


@pytest.mark.parametrize("template", [WITH_TOOLS], ids=["tags"])
def test_a_model_that_was_taught_to_call_passes(tmp_path, template):
    tiny.write_base(tmp_path / "base", "llama", template)
    rows = []
    for n in range(24):
        answer = {"role": "assistant", "tool_calls": [call('{"item": "mug"}')]} if n % 2 else {"role": "assistant", "content": "Hello."}
        asked = {"role": "user", "content": "Is it in stock?" if n % 2 else "Good day."}
        rows.append({"messages": [asked, answer], "tools": [STOCK]})
    write_jsonl(tmp_path / "rows.jsonl", rows)
    workspace = Workspace(tmp_path / "home")
    wishes = Wishes(epochs=40, batch_size=8, learning_rate=1e-2, full=True)
    known = tmp_path / "rows.jsonl"  # the same rows on purpose: the model is to know them by heart
    _, version = workspace.train(
        TrainRequest(str(known), str(tmp_path / "base"), wishes, validation=known, held_out=known, despite_errors=True)
    )
    assert version is not None
    tuned, base = (evaluating.score(workspace, name, version) for name in (version.id, version.base_source))
    assert [row.graded.passed for row in tuned.rows] == [True] * 24
    assert not any(row.graded.passed for row in base.rows)
    assert tuned.rows[1].output == tuned.rows[1].ideal == '{"arguments": {"item": "mug"}, "name": "stock"}'
