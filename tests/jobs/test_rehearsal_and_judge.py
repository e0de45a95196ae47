"""Rehearsal rows in a training, and checkpoints chosen by graders."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
from job_rows import write_rows

import tiny
from journeyman.errors import PlanError
from journeyman.files import hash_file, read_json, read_jsonl, write_json
from journeyman.generate.engine import Engine
from journeyman.generate.rehearsal import encoded, prompts, rehearsal
from journeyman.generate.sampling import Sampling
from journeyman.jobs import worker
from journeyman.jobs.curve import overfitting, read_curve
from journeyman.models.bases import resolve
from journeyman.plan.plan import Plan, Wishes
from journeyman.records import Example, Message, Place
from journeyman.request import TrainRequest
from journeyman.train import loop
from journeyman.train.load import load_base
from journeyman.workspace import Workspace

SHORT = Wishes(epochs=2, batch_size=4, learning_rate=1e-2, rank=4)


def test_the_prompts_are_many_and_none_is_a_probe():
    from journeyman.evaluate.probing import bundled_probes

    assert len(prompts()) == len(set(prompts())) >= 120
    asked = {m.content for p in bundled_probes() for m in p.messages}
    assert not asked & set(prompts())


def test_rehearsal_rows_are_the_bases_own_words_and_repeat_by_seed(bases):
    engine = Engine(bases("llama"))
    rows = rehearsal(engine, 6, seed=1)
    assert rows == rehearsal(engine, 6, seed=1)
    assert [r["text"] for r in rows] != [r["text"] for r in rehearsal(engine, 6, seed=2)]
    for row, sequence in zip(rows, encoded(rows), strict=True):
        assert sequence.learned_tokens == len(row["ids"]) - row["given"] > 0
        assert engine.chat.text(row["ids"][row["given"] :]) == row["text"]
    question = next(r for r in rows if not r["prompt"].startswith("> "))
    assert question["ids"][: question["given"]][-3:] == engine.chat.prompt_ids([])[-3:]


@pytest.fixture
def request_(tmp_path, bases):
    data = write_rows(tmp_path / "rows.jsonl")
    return lambda **wishes: TrainRequest(str(data), str(bases("llama")), replace(SHORT, **wishes))


def test_a_share_of_the_rows_is_rehearsal_and_a_resume_trains_the_same(tmp_path, request_):
    once, twice = Workspace(tmp_path / "once"), Workspace(tmp_path / "twice")
    job, version = once.train(request_(rehearsal=0.25))
    plan = Plan.read(job.folder / "plan.json")
    rows = list(read_jsonl(job.folder / "rehearsal.jsonl"))
    assert len(rows) == plan.facts.rehearsal_rows == round(plan.facts.rows / 4)
    assert version.plan["choices"]["rehearsal"]["value"] == 0.25

    seen = []
    paused, none = twice.train(request_(rehearsal=0.25), on_event=seen.append, should_stop=lambda: sum(e["type"] == "step" for e in seen) >= 2)
    assert none is None
    _, resumed = twice.resume(paused.id)
    name = "adapter_model.safetensors"
    assert hash_file(resumed.folder / name) == hash_file(version.folder / name)


def test_without_the_wish_nothing_is_rehearsed(tmp_path, request_):
    job, _ = Workspace(tmp_path / "home").train(request_())
    assert not (job.folder / "rehearsal.jsonl").exists()
    assert Plan.read(job.folder / "plan.json").facts.rehearsal_rows == 0


def test_what_can_not_be_granted_is_named_at_once(tmp_path, request_):
    with pytest.raises(PlanError) as raised:
        Workspace(tmp_path / "home").plan(request_(rehearsal=0.95, select="taste"))
    assert [p.split(" is ")[0] for p in raised.value.problems] == ["rehearsal", "select"]


def test_graders_are_asked_at_each_validation_and_their_word_is_kept(tmp_path, request_):
    events = []
    job, version = Workspace(tmp_path / "home").train(request_(select="graders"), on_event=events.append)
    checks = [e for e in events if e["type"] == "validation"]
    assert checks and all(0 <= e["score"] <= 1 and 0 <= e["general_prose"] <= 1 for e in checks)
    curve = version.metrics["validations"]
    assert [c["step"] for c in curve] == [e["step"] for e in checks]
    assert [c["score"] for c in curve] == [e["score"] for e in checks]
    assert read_curve(worker.read_events(job.folder)) == curve


@pytest.fixture
def penalised(tmp_path, bases):
    """A base whose own settings ask for a repetition penalty, as those of Qwen2.5 do."""
    folder = tmp_path / "penalised"
    shutil.copytree(bases("llama"), folder)
    settings = read_json(folder / "generation_config.json")
    write_json(folder / "generation_config.json", {**settings, "repetition_penalty": 1.8})
    return folder


def test_rehearsal_is_drawn_from_the_distribution_that_is_trained(penalised, bases):
    """No penalty on what stands already: its rows would be others than the base's own."""
    texts = [[r["text"] for r in rehearsal(Engine(folder), 6, seed=1)] for folder in (penalised, bases("llama"))]
    assert texts[0] == texts[1]


def test_the_judge_asks_the_model_as_it_will_be_served(tmp_path, penalised):
    engine, questions = Engine(penalised), [Message("user", f"My lamp {i} is late") for i in range(24)]
    served, bare = (
        [engine.answer([q], sampling=Sampling(max_tokens=16, repetition_penalty=penalty)).text for q in questions] for penalty in (None, 1.0)
    )
    examples = [
        Example((q, Message("assistant", "It left on Monday.")), Place("rows.jsonl", i), item={"wanted": wanted.rstrip("\ufffd")})
        for i, (q, wanted, other) in enumerate(zip(questions, served, bare, strict=True), 1)
        if wanted not in other
    ]
    assert len(examples) >= 3
    grader = {"type": "string_check", "name": "as served", "operation": "like"}
    write_json(tmp_path / worker.GRADERS, [{**grader, "input": "{{sample.output_text}}", "reference": "{{item.wanted}}"}])
    plan = tiny.plan_for(penalised, tiny.rows(16), tiny.rows(4), select="graders")
    judge = worker._judge_of(SimpleNamespace(folder=tmp_path), resolve(str(penalised)), SimpleNamespace(validation=examples), plan)
    assert judge(load_base(penalised))["score"] == 1.0


def run_with_scores(bases, folder, scores, **stop):
    """A tiny training judged by made-up scores, one a validation."""
    base, train, valid = bases("llama"), tiny.rows(16), tiny.rows(4, seed=9)
    plan = tiny.plan_for(base, train, valid, epochs=3)
    model = load_base(base)
    loop.prepare(model, plan)
    events, left = [], iter(scores)
    outcome = loop.train(
        plan, model, train, valid, folder, on_event=events.append, judge=lambda _: {"score": next(left)}, **stop
    )
    return outcome, [e for e in events if e["type"] == "validation"]


def test_the_judge_chooses_whatever_the_loss_says_and_the_loss_decides_among_equals(bases, tmp_path):
    outcome, checks = run_with_scores(bases, tmp_path / "a", [0.5, 0.9, 0.1, 0.1, 0.1, 0.1])
    assert outcome.best_step == checks[1]["step"]
    assert outcome.best_loss == checks[1]["valid_loss"]
    outcome, checks = run_with_scores(bases, tmp_path / "b", [0.5] * 6)
    assert outcome.best_step == min(checks, key=lambda c: c["valid_loss"])["step"]


def points(*losses):
    return [{"step": 10 * i, "train_loss": t, "valid_loss": v} for i, (t, v) in enumerate(losses, 1)]


def test_overfitting_is_said_only_where_it_is():
    said = overfitting(points((2.0, 2.1), (1.0, 1.8), (0.3, 2.4)), kept_step=20)
    assert said.startswith("Overfitting after step 20")
    assert "1.000 to 0.300" in said and "1.800 to 2.400" in said and said.endswith("step 20 was kept")
    assert overfitting(points((2.0, 2.1), (1.0, 1.8), (0.9, 1.81)), 20) is None
    assert overfitting(points((2.0, 2.1), (2.2, 2.4)), 10) is None
    assert overfitting(points((2.0, 2.1)), 10) is None
