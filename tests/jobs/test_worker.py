"""One job from its folder: to a model that answers, through pauses, deaths and failures."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from job_rows import write_rows
from peft import PeftModel
from transformers import AutoModelForCausalLM

import tiny
from journeyman import comparing
from journeyman.errors import CheckpointError, DataError, JobConflict, NonFiniteStep
from journeyman.files import hash_file
from journeyman.generate.engine import Engine
from journeyman.generate.sampling import Sampling
from journeyman.jobs import lock, worker
from journeyman.jobs.state import JobState
from journeyman.plan.plan import Wishes
from journeyman.records import Message
from journeyman.request import TrainRequest
from journeyman.workspace import Workspace

SHORT = Wishes(epochs=2, batch_size=4, learning_rate=1e-2, rank=4)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "rows.jsonl")


@pytest.fixture
def home(tmp_path) -> Workspace:
    return Workspace(tmp_path / "home")


def request(data: Path, base: Path, **wishes) -> TrainRequest:
    return TrainRequest(source=str(data), base=str(base), wishes=replace(SHORT, **wishes))


def adapter(folder: Path) -> str:
    return hash_file(folder / "model" / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def finished(data, bases, tmp_path_factory):
    """A job that ran from start to end: (workspace, job, version, events as they came)."""
    workspace = Workspace(tmp_path_factory.mktemp("finished"))
    events: list = []
    job, version = workspace.train(request(data, bases("qwen3")), on_event=events.append)
    return workspace, job, version, events


def test_from_rows_to_a_model_that_answers(finished):
    workspace, job, version, _ = finished
    assert job.status is JobState.SUCCEEDED
    assert (job.model, job.finished_at is not None, job.error) == (version.id, True, None)
    assert workspace.registry.get(version.id) == version
    question = [Message("user", "My lamp is late.")]
    tuned = workspace.answer(version.id, question, Sampling(max_tokens=12))
    base = workspace.answer(job.base, question, Sampling(max_tokens=12))
    assert tuned.text != base.text


def test_every_row_of_the_file_has_its_fate(finished, data):
    _, job, _, _ = finished
    ledger = [json.loads(line) for line in (job.folder / "ledger.jsonl").read_text().splitlines()]
    assert sorted(entry["line"] for entry in ledger) == list(range(1, len(data.read_text().splitlines()) + 1))
    assert {entry["fate"] for entry in ledger} == {"trained", "held out"}


def test_events_tell_the_story_and_are_on_disk(finished):
    _, job, version, events = finished
    kept = worker.read_events(job.folder)
    assert kept[1:] == events[1:], "only the first, which tells where the job is, is handed on without a time"
    kinds = [e["type"] for e in kept]
    assert kinds[:4] == ["created", "data", "checked", "planned"]
    assert kinds[-3:] == ["chosen", "replayed", "registered"]
    assert kept[-1]["model"] == version.id
    assert [e["step"] for e in kept if e["type"] == "step"] == list(range(1, version.metrics["steps"] + 1))
    assert version.metrics["replay"]["largest_difference"] < 1e-4


def test_the_models_folder_stands_alone(finished, bases):
    """PEFT loads it beside the base, and every file is the one the registry names."""
    _, _, version, _ = finished
    assert version.files == {f.name: hash_file(f) for f in version.folder.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "README.md"} <= version.files.keys()
    base = AutoModelForCausalLM.from_pretrained(bases("qwen3"), dtype=torch.float32)
    theirs = PeftModel.from_pretrained(base, version.folder).eval()
    engine = Engine(bases("qwen3"), precision="fp32")  # a processor with bf16 serves in bf16, and rounds
    engine.add_adapter(version.id, version.folder)
    engine.activate(version.id)
    ids = torch.tensor([engine.chat.prompt_ids([Message("user", "Where is my mug?")])])
    with torch.no_grad():
        assert float((theirs(ids).logits - engine.model(ids).logits).abs().max()) < 1e-4


def test_a_job_trains_on_the_plan_it_shows(finished, data, bases):
    workspace, job, version, _ = finished
    shown = workspace.plan(request(data, bases("qwen3")))
    kept = json.loads((job.folder / "plan.json").read_text())
    assert kept == json.loads(json.dumps(version.plan))
    assert shown.as_dict()["choices"]["epochs"] == kept["choices"]["epochs"]
    assert kept["dataset_hash"] == version.dataset_hash


@pytest.mark.parametrize("full", [False, True], ids=["lora", "full"])
def test_a_paused_job_goes_on_to_the_same_bytes(home, data, bases, tmp_path, full):
    asked = request(data, bases("llama"), full=full, learning_rate=1e-3)
    straight, version = Workspace(tmp_path / "straight").train(asked)
    job, none = home.train(asked, should_stop=stop_after(5))
    assert (job.status, none) == (JobState.PAUSED, None)
    job, none = home.resume(job.id, should_stop=stop_after(4))
    assert (job.status, none) == (JobState.PAUSED, None)
    job, resumed = Workspace(tmp_path / "home").resume(job.id)
    assert job.status is JobState.SUCCEEDED
    name = "model.safetensors" if full else "adapter_model.safetensors"
    assert resumed.files[name] == version.files[name]
    assert resumed.metrics["trained_tokens"] == version.metrics["trained_tokens"]
    assert (job.trained_tokens, job.step) == (version.metrics["trained_tokens"], version.metrics["steps"])
    steps = [e["step"] for e in worker.read_events(job.folder) if e["type"] == "step"]
    assert steps == list(range(1, version.metrics["steps"] + 1)), "nothing is trained twice after a pause"
    with pytest.raises(JobConflict, match="succeeded"):
        home.resume(job.id)
    assert straight.id != job.id


def stop_after(calls: int):
    left = [calls]

    def should_stop() -> bool:
        left[0] -= 1
        return left[0] <= 0

    return should_stop


def test_a_tasks_repetition_penalty_is_the_models_own(home, data, bases, tmp_path):
    _, version = home.train(request(data, bases("llama"), repetition_penalty=1.5))
    assert json.loads((version.folder / "generation_config.json").read_text())["repetition_penalty"] == 1.5
    asked = [Message("user", "Where is my order?")]
    own = home.answer(version.id, asked, Sampling(max_tokens=24))
    assert own.text == home.answer(version.id, asked, Sampling(max_tokens=24, repetition_penalty=1.5)).text
    assert own.text != home.answer(version.id, asked, Sampling(max_tokens=24, repetition_penalty=1.0)).text


def test_a_full_fine_tune_answers_under_its_id(home, data, bases):
    job, version = home.train(request(data, bases("gpt2"), full=True, learning_rate=1e-3))
    assert version.method == "full"
    assert home.answer(version.id, [Message("user", "My mug is late.")], Sampling(max_tokens=3)).usage.prompt_tokens > 5
    again = AutoModelForCausalLM.from_pretrained(version.folder)
    assert sum(p.numel() for p in again.parameters()) == json.loads((job.folder / "plan.json").read_text())["shape"]["params"]


def test_a_model_without_a_template_is_published_with_the_one_it_was_trained_with(home, data, bases):
    _, version = home.train(request(data, bases("llama", None)))
    assert "### Assistant:" in (version.folder / "chat_template.jinja").read_text()
    assert home.served(version.id).engine.chat.plain


def test_a_resumed_job_counts_the_tokens_and_the_time_of_all_its_runs_and_no_pause(home, data, bases):
    job, _ = home.train(request(data, bases("llama")), should_stop=stop_after(4))
    begun = worker.read_events(job.folder)
    time.sleep(2)
    counted = []
    ended, version = home.resume(
        job.id, on_event=lambda e: counted.append(home.jobs.get(job.id).trained_tokens) if e["type"] == "step" else None
    )
    steps = {e["step"]: e["tokens"] for e in worker.read_events(job.folder) if e["type"] == "step"}
    before = sum(e["tokens"] for e in begun if e["type"] == "step")
    assert counted[0] > before, "the first step after the pause is counted on top of those before it"
    assert sum(steps.values()) == ended.trained_tokens
    training = comparing._training(home, version)
    assert 0 < training.seconds <= ended.finished_at - ended.started_at - 2


def test_a_torn_last_event_of_a_killed_process_leaves_the_others_readable(home, data, bases):
    job, _ = home.train(request(data, bases("llama")), should_stop=stop_after(3))
    path = job.folder / "events.jsonl"
    before = worker.read_events(job.folder)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"at": 1.0, "type": "st')
    assert worker.read_events(job.folder) == before
    home.resume(job.id)
    after = worker.read_events(job.folder)
    assert after[: len(before)] == before
    assert after[-1]["type"] == "registered"


def test_too_few_rows_do_not_start(home, bases, tmp_path):
    few = write_rows(tmp_path / "few.jsonl", 9)
    with pytest.raises(DataError, match="must have at least 10 examples") as caught:
        home.train(request(few, bases("llama")))
    assert caught.value.code == "invalid_n_examples"
    (job,) = home.jobs.list()
    assert (job.status, job.error["code"]) == (JobState.FAILED, "invalid_n_examples")
    assert home.registry.list() == []


def test_a_dataset_in_which_nothing_is_learned_does_not_start(home, data, bases):
    with pytest.raises(DataError) as caught:
        home.train(request(data, bases("llama"), max_tokens=8))
    assert caught.value.code == "nothing_learned"
    assert caught.value.problems == ("no learned token is left within 8 tokens",)


def poisoned(base: Path, folder: Path) -> Path:
    """A copy of a base that overflows on its first step."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(base, folder)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] *= 1e37
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_step_that_is_not_finite_fails_the_job_by_name(home, data, bases, tmp_path):
    with pytest.raises(NonFiniteStep, match="step 1:"):
        home.train(request(data, poisoned(bases("llama"), tmp_path / "poisoned")))
    (job,) = home.jobs.list()
    assert (job.status, job.error["code"]) == (JobState.FAILED, "non_finite_step")
    assert worker.read_events(job.folder)[-1]["type"] == "failed"
    assert home.registry.list() == []


def test_a_bug_fails_the_job_too_and_is_raised_on(home, data, bases):
    def broken(event):
        if event["type"] == "step":
            raise ZeroDivisionError("a defect")

    with pytest.raises(ZeroDivisionError):
        home.train(request(data, bases("llama")), on_event=broken)
    (job,) = home.jobs.list()
    assert (job.status, job.error["code"]) == (JobState.FAILED, "bug")
    assert "a defect" in job.error["message"]
    assert not lock.is_held(job.folder)


def test_a_cancelled_job_ends_without_a_model(home, data, bases):
    def cancel_at_three(event):
        if event["type"] == "step" and event["step"] == 3:
            home.cancel(home.jobs.list()[0].id)

    job, version = home.train(request(data, bases("llama")), on_event=cancel_at_three)
    assert (job.status, version) == (JobState.CANCELLED, None)
    assert "paused" not in [event["type"] for event in home.history(job)]
    assert home.registry.list() == []
    with pytest.raises(JobConflict, match="cancelled"):
        home.resume(job.id)


def test_a_job_that_asks_to_pause_pauses(home, data, bases):
    def pause_at_three(event):
        if event["type"] == "step" and event["step"] == 3:
            home.pause(home.jobs.list()[0].id)

    job, _ = home.train(request(data, bases("llama")), on_event=pause_at_three)
    assert job.status is JobState.PAUSED
    job, version = home.resume(job.id)
    assert version is not None


def test_a_job_runs_in_one_process_at_a_time(home, data, bases):
    job, _ = home.train(request(data, bases("llama")), should_stop=stop_after(2))
    with lock.held(job.folder), pytest.raises(JobConflict, match="is run by process"):
        home.resume(job.id)
    assert home.jobs.get(job.id).status is JobState.PAUSED


def test_a_base_that_has_changed_is_not_trained_on_nor_served(home, data, bases, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(bases("llama"), base)
    _, version = home.train(request(data, base))
    paused, _ = home.train(request(data, base), should_stop=stop_after(2))
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "note": "changed"}))
    with pytest.raises(CheckpointError, match="not the one this job began with"):
        home.resume(paused.id)
    with pytest.raises(CheckpointError, match="has changed since"):
        home.served(version.id)


def test_a_row_that_the_template_refuses_is_in_the_ledger(home, bases, tmp_path):
    data = write_rows(tmp_path / "rows.jsonl")
    line = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Unlike the others, this."},
                         {"role": "assistant", "content": "Yes."}]}  # fmt: skip
    held_out = write_rows(tmp_path / "held_out.jsonl", 3)
    data.write_text(data.read_text() + json.dumps(line) + "\n")
    asked = replace(
            request(data, bases("llama", tiny.GEMMA)), validation=held_out, held_out=held_out, despite_errors=True
        )
    job, _ = home.train(asked)
    ledger = [json.loads(line) for line in (job.folder / "ledger.jsonl").read_text().splitlines()]
    (refused,) = [entry for entry in ledger if entry["fate"] == "refused"]
    assert (refused["line"], refused["code"]) == (46, "template_refused")
    assert "System role not supported" in refused["reason"]


def test_a_checkpoint_answers_with_the_penalty_that_its_job_asks_for(home, data, bases):
    """The best one as the model that was made of it."""
    job, version = home.train(request(data, bases("llama"), repetition_penalty=1.8))
    name = home.checkpoint_name(job, version.metrics["best_step"])
    questions, said = [Message("user", f"My lamp {i} is late") for i in range(4)], []
    for served in (home.served(version.id), home.served(name)):
        sampling = Sampling(max_tokens=24)
        said.append([served.engine.answer([q], adapter=served.adapter, sampling=sampling).text for q in questions])
    assert said[0] == said[1]
