"""What a training would do to the rows is said by the check."""

from __future__ import annotations

import json

from job_rows import write_rows

from journeyman.plan.plan import Wishes
from journeyman.request import TrainRequest
from journeyman.workspace import Workspace


def chat(said: str, answer: str) -> str:
    return json.dumps({"messages": [{"role": "user", "content": said}, {"role": "assistant", "content": answer}]}) + "\n"


def test_a_row_that_would_be_cut_is_named_with_what_it_loses(tmp_path, bases):
    path = tmp_path / "rows.jsonl"
    write_rows(path, 30)
    with path.open("a") as file:
        file.write(chat("And the long one?", "It goes on. " * 8 + "The end is nigh."))
        file.write(chat("The question is so long " * 12, "So nothing is left of the answer."))
    request = TrainRequest(str(path), str(bases("llama")), Wishes(max_tokens=100))
    review = Workspace(tmp_path / "home").check(request)
    by_code = {f.code: f for f in review.report.findings}
    cut, left_out = by_code["cut_rows"], by_code["untrainable_rows"]
    assert [row.place.line for row in cut.rows] == [31]
    assert "nigh" in cut.rows[0].note
    assert cut.numbers["max_tokens"] == 100
    assert [row.place.line for row in left_out.rows] == [32]
    assert left_out.numbers["reason"] == "nothing_learned"
    severities = [f.severity for f in review.report.findings]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)


def test_the_check_says_what_a_training_takes_as_its_plan_does(tmp_path, bases):
    path = tmp_path / "rows.jsonl"
    write_rows(path, 30)
    request = TrainRequest(str(path), str(bases("llama")), Wishes(epochs=3))
    workspace = Workspace(tmp_path / "home")
    training, plan = workspace.check(request).as_dict()["training"], workspace.plan(request)
    assert (training["epochs"], training["steps"]) == (3, plan.steps)
    assert training["tokens"] == 3 * plan.facts.tokens
    assert training["learned_tokens"] == 3 * plan.facts.learned_tokens
    assert workspace.check(TrainRequest(str(path), "somebody/else")).as_dict()["training"] is None
