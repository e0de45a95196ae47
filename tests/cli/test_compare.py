"""`compare` as a person types it, on a tiny base that is really trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tiny
from journeyman.cli.main import app
from journeyman.errors import DataError, RequestError, TaskError
from journeyman.plan.plan import Wishes
from journeyman.request import CompareRequest, RemoteRequest, TrainRequest
from journeyman.workspace import Workspace
from openai_server import serving

WORDS = "amber birch cedar delta ember fjord grove heath islet jetty knoll larch maple north olive pines quarz ridge shore thorn".split()


def write_task(folder: Path, rows: int = 40) -> Path:
    (folder / "documents").mkdir(parents=True)
    (folder / "documents" / "a.md").write_text("# Trees\n\namber is red\n\nbirch is blue\n")
    (folder / "instructions.md").write_text("Say red or blue.\n\nOne word.\n")
    (folder / "task.toml").write_text('name = "hues"\n')
    lines = []
    for i in range(rows):
        asked = f"{WORDS[i % 20]} {WORDS[(i * 7 + i // 20) % 20]}?"
        answer = "red" if i % 2 else "blue"
        lines.append({"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]})
    (folder / "examples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, bases):
    """A comparison of all contenders, its home and its flags."""
    root = tmp_path_factory.mktemp("compare")
    write_task(root / "hues")
    words = ["compare", str(root / "hues"), "--base", str(bases("llama")), "--epochs", "1", "--rank", "2", "--budget", "3",
             "--shots", "1", "--passages", "1", "--despite-errors", "--json"]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JOURNEYMAN_HOME", str(root / "home"))
        done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return root, words, json.loads(done.stdout), done.stderr


def test_every_contender_is_scored_on_the_same_rows(compared):
    _, _, made, shown = compared
    names = [c["name"] for c in made["contenders"]]
    assert names == ["base", "prompt", "few_shot", "nearest", "optimised", "retrieval", "prompt_retrieval", "tuned",
                     "tuned_retrieval", "tfidf", "head"]  # fmt: skip
    for contender in made["contenders"]:
        assert contender["rows"] + len(contender["unanswered"]) == made["rows"] == made["held_out_rows"]
        low, high = contender["interval"]
        assert 0 <= low <= contender["score"] <= high <= 1
        assert contender["cost_1000"] is None
        assert contender["latency_s"] > 0 or contender["name"] in ("tfidf", "head")
    by_name = {c["name"]: c for c in made["contenders"]}
    assert by_name["prompt"]["against_reference"] is None
    assert by_name["prompt"]["tokens_per_request"]["prompt"] > by_name["tuned"]["tokens_per_request"]["prompt"]
    assert by_name["tfidf"]["tokens_per_request"] == {"prompt": 0, "completion": 0}
    assert made["advice"]["verdict"] in ("prompt", "retrieval", "fine_tune", "both", "classifier", "not_enough_rows")
    assert made["training"]["seconds"] > 0 and made["training"]["cost"] is None and made["break_even_requests"] is None
    assert "Advice" in shown and "cost unknown" in shown


def test_what_was_retrieved_and_searched_is_kept(compared):
    _, _, made, _ = compared
    folder = Path(made["folder"])
    kept = [json.loads(line) for line in (folder / "answers" / "retrieval.jsonl").read_text().splitlines()]
    assert {p for row in kept for p in row["passages"]} <= {"a.md:3", "a.md:5"}
    assert 1 <= len(made["prompt_search"]) <= 3
    assert json.loads((folder / "comparison.json").read_text())["advice"] == made["advice"]


def test_the_same_command_trains_and_asks_nothing_again_and_says_the_same(compared, monkeypatch):
    root, words, made, _ = compared
    monkeypatch.setenv("JOURNEYMAN_HOME", str(root / "home"))
    files = {p: p.read_bytes() for p in (Path(made["folder"]) / "answers").glob("*.jsonl")}
    again = json.loads(CliRunner().invoke(app, words).stdout)
    assert again == made
    assert {p: p.read_bytes() for p in files} == files


def test_fewer_rows_and_prices_of_the_users(compared, monkeypatch):
    root, words, made, _ = compared
    monkeypatch.setenv("JOURNEYMAN_HOME", str(root / "home"))
    prices = root / "prices.toml"
    prices.write_text('currency = "EUR"\n[models."llama-chatml"]\ninput = 1000\noutput = 1000\n[training]\nhour = 1\n')
    less = CliRunner().invoke(app, [*words, "--rows", "3", "--contenders", "prompt,tuned", "--prices", str(prices)])
    value = json.loads(less.stdout)
    prompt = value["contenders"][0]
    tokens = prompt["tokens_per_request"]
    assert (value["rows"], value["held_out_rows"]) == (3, made["rows"])
    assert prompt["cost_1000"] == pytest.approx(tokens["prompt"] + tokens["completion"])
    assert "the first of a shuffle by seed 0" in less.stderr


def test_a_model_that_has_seen_the_held_out_rows_is_refused(compared, bases):
    root, _, made, _ = compared
    workspace = Workspace(root / "home")
    other = TrainRequest(str(root / "hues"), str(bases("llama")), held_out=root / "hues" / "examples.jsonl")
    with pytest.raises(DataError) as seen:
        workspace.compare(CompareRequest(other, model=made["training"]["model"]))
    assert seen.value.code == "rows_seen"


def test_what_can_not_be_compared_is_named_before_anything_is_trained(tmp_path, bases):
    workspace = Workspace(tmp_path / "home")
    task = TrainRequest(str(write_task(tmp_path / "hues")), str(bases("llama")))
    with pytest.raises(TaskError) as numbers:
        workspace.compare(CompareRequest(task, rows=0, budget=0))
    assert "--rows is 0" in str(numbers.value) and "--budget is 0" in str(numbers.value)
    with pytest.raises(RequestError, match="can't take part"):
        workspace.compare(CompareRequest(task, contenders=("magic",)))
    assert workspace.jobs.list() == []


def test_a_remote_that_is_no_url_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("JOURNEYMAN_HOME", str(tmp_path))
    refused = CliRunner().invoke(app, ["compare", "triage", "--remote", "gpt"])
    assert isinstance(refused.exception, RequestError)
    assert "URL=MODEL" in str(refused.exception)


def test_a_training_that_goes_on_from_another_model_is_another_training(tmp_path, bases):
    workspace = Workspace(tmp_path / "home")
    folder = str(write_task(tmp_path / "hues", 60))
    wishes = Wishes(epochs=1, batch_size=16, rank=2)
    first, second = (
        workspace.train(TrainRequest(folder, str(bases("llama")), replace(wishes, learning_rate=rate), despite_errors=True))[1].id
        for rate in (1e-2, 1e-3)
    )
    made = [
        workspace.compare(CompareRequest(TrainRequest(folder, name, Wishes(epochs=1), despite_errors=True), contenders=("prompt", "tuned"), rows=2))
        for name in (first, second)
    ]
    assert [workspace.registry.get(m.training.model).metrics["continued_from"] for m in made] == [first, second]


def test_two_remote_models_of_one_name_are_refused_and_not_taken_for_each_other(tmp_path, bases):
    task = TrainRequest(str(write_task(tmp_path / "hues")), str(bases("llama")))
    remotes = (RemoteRequest("http://127.0.0.1:1/v1", "m"), RemoteRequest("http://127.0.0.1:2/v1", "m"))
    with pytest.raises(RequestError, match="called m") as refused:
        Workspace(tmp_path / "home").compare(CompareRequest(task, contenders=("m:prompt",), remotes=remotes))
    assert refused.value.code == "remote_twice"


def test_vectors_retrieve_in_the_place_of_bm25_and_share_no_answer_with_it(compared, tmp_path, monkeypatch):
    root, words, made, _ = compared
    monkeypatch.setenv("JOURNEYMAN_HOME", str(root / "home"))
    embedder = tiny.write_embedder(tmp_path / "embedder")
    folder = Path(made["folder"]) / "answers"
    before = {name: (folder / f"{name}.jsonl").read_text() for name in ("prompt", "nearest", "retrieval")}
    chosen = ["--contenders", "prompt,nearest,retrieval", "--embedder", str(embedder)]
    done = CliRunner().invoke(app, [*words, *chosen])
    assert done.exit_code == 0, done.output
    value = json.loads(done.stdout)
    assert (value["folder"], value["settings"]["embedder"].split()[0]) == (made["folder"], str(embedder))
    assert made["settings"]["embedder"] is None
    notes = {c["name"]: " ".join(c["notes"]) for c in value["contenders"]}
    assert str(embedder) in notes["nearest"] and str(embedder) in notes["retrieval"] and str(embedder) not in notes["prompt"]
    assert f"retrieved by the vectors of {embedder}" in done.stderr.replace("\n", " ")
    assert (folder / "prompt.jsonl").read_text() == before["prompt"]
    for name in ("nearest", "retrieval"):
        text = (folder / f"{name}.jsonl").read_text()
        assert text.startswith(before[name])
        old, new = ([json.loads(line) for line in part.splitlines()] for part in (before[name], text[len(before[name]) :]))
        assert len(new) == made["rows"] and not {row["key"] for row in old} & {row["key"] for row in new}
        assert all(row["shots"] or row["passages"] for row in new)


def test_gepa_rewrites_the_prompt_by_a_model_elsewhere_that_sees_training_rows_only(compared, tmp_path, monkeypatch):
    pytest.importorskip("gepa", reason='needs pip install "journeyman[gepa]"')
    root, words, made, _ = compared
    monkeypatch.setenv("JOURNEYMAN_HOME", str(root / "home"))
    monkeypatch.setenv("LARGE_KEY", "secret")
    monkeypatch.chdir(tmp_path)
    with serving(lambda _: "```\nSay red, or blue.\n```") as (url, seen):
        gepa = ["--contenders", "prompt,optimised", "--optimiser", "gepa", "--reflection", f"{url}=large", "--remote-key", "LARGE_KEY", "--budget", "8"]
        done = CliRunner().invoke(app, [*words, *gepa])
        assert done.exit_code == 0, done.output
        value, requests = json.loads(done.stdout), len(seen)
        assert json.loads(CliRunner().invoke(app, [*words, *gepa]).stdout) == value
    assert len(seen) == requests > 0 and {request["key"] for request in seen} == {"secret"}
    assert (value["settings"]["optimiser"], value["settings"]["reflection"]) == ("gepa", f"{url} large")
    assert made["settings"]["optimiser"] == "search"
    assert {trial["made"] for trial in value["prompt_search"]} <= {"the instructions as they are", "the instructions as large rewrote them (GEPA)"}
    (searched,) = (c["notes"] for c in value["contenders"] if c["name"] == "optimised")
    assert f"large was asked {requests} times for a rewriting" in " ".join(searched)
    dataset = Path(value["folder"]) / "dataset"
    splits = {name: (dataset / f"{name}.jsonl").read_text() for name in ("train", "held_out")}
    asked = {row["messages"][0]["content"] for row in map(json.loads, splits["held_out"].splitlines())}
    shown = " ".join(request["messages"][0]["content"] for request in seen)
    assert asked and not [text for text in asked if text in shown and text not in splits["train"]]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flags", [("--optimiser", "gepa"), ("--reflection", "http://127.0.0.1:1/v1=large"), ("--optimiser", "magic")])
def test_an_optimiser_without_what_it_needs_is_refused(tmp_path, monkeypatch, flags):
    monkeypatch.setenv("JOURNEYMAN_HOME", str(tmp_path))
    refused = CliRunner().invoke(app, ["compare", "triage", *flags])
    assert isinstance(refused.exception, RequestError)
    assert refused.exception.where in ("--optimiser", "--reflection")
