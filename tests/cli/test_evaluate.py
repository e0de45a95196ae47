"""`evaluate` as a person types it: what it prints, writes and ends with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from journeyman import evaluating
from journeyman.cli.main import app
from journeyman.errors import DataError, RequestError
from journeyman.evaluate.forgetting import Forgetting
from journeyman.plan.plan import Wishes
from journeyman.request import CompareRequest, TrainRequest
from journeyman.workspace import Workspace


@pytest.fixture(scope="module")
def model(bases, tmp_path_factory):
    """A tiny model trained on a task folder: (home, model id)."""
    folder = tmp_path_factory.mktemp("evaluated")
    task = folder / "voice"
    task.mkdir()
    (task / "task.toml").write_text('name = "voice"\n[[graders]]\ntype = "length"\nname = "short"\nmax_words = 9\n')
    (task / "instructions.md").write_text("Answer in at most nine words.")
    rows = [
        {"messages": [{"role": "user", "content": f"Is lamp {i} on {place}?"}, {"role": "assistant", "content": f"{place} has lamp {i}."}]}
        for i, place in enumerate(("shelf", "table", "floor", "stair", "porch", "bench", "yard", "wall") * 5)
    ]  # fmt: skip
    (task / "examples.jsonl").write_text("\n".join(map(json.dumps, rows)))
    home = folder / "home"
    wishes = Wishes(epochs=1, batch_size=8, learning_rate=1e-2, rank=4)
    _, version = Workspace(home).train(TrainRequest(str(task), str(bases("llama")), wishes, despite_errors=True))
    return home, version.id


def run(*words):
    return CliRunner().invoke(app, words, catch_exceptions=True)


def test_the_evaluation_is_json_a_page_and_a_card(model, tmp_path: Path, monkeypatch) -> None:
    home, name = model
    monkeypatch.setenv("JOURNEYMAN_HOME", str(home))
    monkeypatch.setattr(Forgetting, "within_budget", False)
    out = tmp_path / "report.html"
    result = run("evaluate", name, "--consistency", "1", "--price", "2", "--html", str(out), "--json")
    assert result.exit_code == 0, "no budget was given"
    value = json.loads(result.stdout)
    assert {"task", "forgetting", "measures", "consistency", "saving"} <= value.keys()
    assert {s["name"] for s in value["forgetting"]["skills"]} >= {"general prose", "grammar", "json"}
    assert value["consistency"]["after"]["rows"] == 1
    assert value["saving"]["money_per_1000_requests"] > 0
    assert value["measures"]["loss"]["after"] < value["measures"]["loss"]["before"], "it was trained on such rows"
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    folder = Path(value["folder"])
    assert {p.name for p in folder.iterdir()} >= {"report.html", "report.md", "model_card.md", "evaluation.json"}
    assert "journeyman train" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [None, "{", "[]", '{"contenders": 3}'])
def test_what_is_no_comparison_is_refused_before_anything_is_measured(model, tmp_path: Path, monkeypatch, content) -> None:
    home, name = model
    monkeypatch.setenv("JOURNEYMAN_HOME", str(home))
    path = tmp_path / "compare.json"
    if content is not None:
        path.write_text(content)
    found = run("evaluate", name, "--compared", str(path)).exception
    assert isinstance(found, DataError)
    assert found.code == "not_a_comparison"


def test_a_budget_that_is_no_number_of_points_is_refused(model, monkeypatch) -> None:
    home, name = model
    monkeypatch.setenv("JOURNEYMAN_HOME", str(home))
    assert isinstance(run("evaluate", name, "--forgetting-budget", "101").exception, RequestError)


def test_a_broken_budget_that_was_given_ends_with_exit_code_1(model, monkeypatch) -> None:
    home, name = model
    monkeypatch.setenv("JOURNEYMAN_HOME", str(home))
    monkeypatch.setattr(Forgetting, "within_budget", False)
    result = run("evaluate", name, "--consistency", "0", "--limit", "1", "--forgetting-budget", "2")
    assert result.exit_code == 1
    assert "--rehearsal" in result.output


def test_all_that_can_be_asked_for_is_measured_in_one_run(model, tmp_path: Path, monkeypatch) -> None:
    """A judge held against a person's marks, probes of one's own, another task, and every kept checkpoint."""
    home, name = model
    monkeypatch.setenv("JOURNEYMAN_HOME", str(home))
    rows = [{"messages": [{"role": "user", "content": f"Say {i}."}, {"role": "assistant", "content": f"{i} it is."}]} for i in range(60)]
    judged = tmp_path / "judged"
    judged.mkdir()
    (judged / "task.toml").write_text(JUDGED)
    (judged / "examples.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (judged / "marked.jsonl").write_text('{"output": "3 it is.", "passed": true}\n{"output": "no", "passed": false}\n')
    probes, other = tmp_path / "house.jsonl", tmp_path / "other.jsonl"
    probes.write_text('{"context": "The lamp is", "right": " on", "wrong": [" zq"]}\n')
    other.write_text("\n".join(map(json.dumps, rows)))
    words = ("--task", str(judged), "--probes", str(probes), "--other-task", str(other), "--checkpoints", "--consistency", "0")
    value = json.loads(run("evaluate", name, *words, "--limit", "2", "--json").stdout)
    page = (Path(value["folder"]) / "report.html").read_text(encoding="utf-8")

    (grader,), (against,) = value["task"]["graders"], value["judges"]
    assert grader["name"] == "kind" and grader["passed_after"]["total"] == 2, "the judge had a word on every row"
    assert against["agreed"]["total"] == 2 and "marked answers" in against["sentence"] and "marked answers" in page

    skills = {s["name"]: s["items"] for s in value["forgetting"]["skills"]}
    assert skills["house"] == 1 and skills["task other"] > 0 and "task other" in page

    kept = Workspace(home).checkpoints(Workspace(home).registry.get(name).job)
    assert [c["step"] for c in value["checkpoints"]] == sorted(c.step for c in kept)
    assert [c["published"] for c in value["checkpoints"]].count(True) == 1
    assert all(c["passed"]["total"] > 0 for c in value["checkpoints"]) and "The checkpoints" in page


JUDGED = """name = "judged"
[files]
marked = "marked.jsonl"
[[graders]]
type = "label_model"
name = "kind"
model = "starter"
input = [{ role = "user", content = "Is this kind? {{ sample.output_text }}" }]
labels = ["kind", "unkind"]
passing_labels = ["kind"]
"""


def lamps(path: Path, numbers: range) -> Path:
    rows = [{"messages": [{"role": "user", "content": f"Is lamp {i} on?"}, {"role": "assistant", "content": f"Lamp {i} is."}]} for i in numbers]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_rows_that_a_model_has_learned_are_no_held_out_rows(bases, tmp_path: Path) -> None:
    """Whatever the seed, and where the model goes on from one that has learned them."""
    workspace = Workspace(tmp_path / "home")
    first, second = lamps(tmp_path / "first.jsonl", range(60)), lamps(tmp_path / "second.jsonl", range(100, 140))
    small = {"epochs": 1, "batch_size": 16}
    _, one = workspace.train(TrainRequest(str(first), str(bases("llama")), Wishes(**small, rank=2, seed=1), despite_errors=True))
    _, two = workspace.train(TrainRequest(str(second), one.id, Wishes(**small), despite_errors=True))

    own, named = (evaluating.score(workspace, one.id, one, source, limit=2) for source in (None, str(first)))
    assert [row.place for row in own.rows] == [row.place for row in named.rows], "split by the training's seed"
    copy = tmp_path / "copy.jsonl"
    copy.write_text(first.read_text())
    for learned in (one, two):
        with pytest.raises(DataError) as refused:
            evaluating.score(workspace, learned.id, learned, str(copy))
        assert refused.value.code == "rows_seen" and learned.id in str(refused.value)
    with pytest.raises(DataError, match=r"was trained on \d+ of the"):
        workspace.compare(CompareRequest(TrainRequest(str(copy), str(bases("llama"))), model=two.id))
    assert evaluating.score(workspace, two.id, two, limit=2).rows, "its own held-out rows"
