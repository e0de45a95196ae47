"""A training that goes on from a fine-tuned model begins with that model's weights."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from journeyman.errors import ModelNotFound, PlanError
from journeyman.files import write_jsonl
from journeyman.plan.plan import Wishes
from journeyman.request import TrainRequest
from journeyman.workspace import Workspace


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_jsonl(
        path,
        [
            {"messages": [{"role": "user", "content": f"Say {n}"}, {"role": "assistant", "content": f"{n}{n}"}]}
            for n in range(16)
        ],
    )
    return path


def weights(version):
    (file,) = version.folder.glob("*.safetensors")
    return load_file(file)


@pytest.mark.parametrize("full", [False, True])
def test_the_weights_go_on_from_where_they_were(tmp_path, bases, rows, full):
    workspace = Workspace(tmp_path)

    def train(base, **wishes):
        request = TrainRequest(str(rows), base=base, wishes=Wishes(epochs=1, batch_size=8, **wishes), despite_errors=True)
        return workspace.train(request)

    _, first = train(str(bases("llama")), learning_rate=1e-2, full=full, **({} if full else {"rank": 4}))
    job, second = train(first.id, learning_rate=1e-9)
    before, after = weights(first), weights(second)
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-7) for name in before)
    assert (second.base, second.base_source, second.method) == (first.base, first.base_source, first.method)
    assert second.metrics["continued_from"] == first.id and second.id != first.id
    assert {"type": "continued", "model": first.id}.items() <= next(
        event for event in workspace.history(job) if event["type"] == "continued"
    ).items()
    asked = Wishes(epochs=1, rank=7) if full else Wishes(epochs=1, full=True)
    with pytest.raises(PlanError, match="goes on as that only"):
        workspace.submit(TrainRequest(str(rows), base=first.id, wishes=asked))


def test_a_fine_tuned_model_that_the_task_names_as_its_base_is_gone_on_from(tmp_path, bases, rows):
    workspace = Workspace(tmp_path / "home")
    wishes = Wishes(epochs=1, batch_size=8, learning_rate=1e-2, rank=4)
    _, first = workspace.train(TrainRequest(str(rows), base=str(bases("llama")), wishes=wishes, despite_errors=True))
    task = tmp_path / "task"
    task.mkdir()
    (task / "task.toml").write_text(f'base = "{first.id}"\n')
    (task / "examples.jsonl").write_text(rows.read_text())
    _, second = workspace.train(
        TrainRequest(str(task), wishes=Wishes(epochs=1, batch_size=8, learning_rate=1e-9), despite_errors=True)
    )
    before, after = weights(first), weights(second)
    assert all(torch.allclose(before[name], after[name], atol=1e-7) for name in before)
    assert second.metrics["continued_from"] == first.id


def test_a_model_trained_on_int8_says_how_far_its_base_is_from_that(tmp_path, bases, rows):
    workspace = Workspace(tmp_path)
    wishes = Wishes(epochs=1, batch_size=8, rank=4, quantise="int8")
    job, version = workspace.train(TrainRequest(str(rows), base=str(bases("llama")), wishes=wishes, despite_errors=True))
    replayed = next(event for event in workspace.history(job) if event["type"] == "replayed")
    assert replayed["largest_difference"] <= replayed["limit"]
    assert replayed["largest_difference"] < replayed["difference_of_quantised"] < 1, "in bf16 the limit itself is wider than that"
    assert workspace.served(version.id).adapter == version.id


def test_adapters_on_the_last_layers_go_on_as_such(tmp_path, bases, rows):
    workspace = Workspace(tmp_path)
    wishes = Wishes(epochs=1, batch_size=8, rank=4, top_layers=1)
    _, first = workspace.train(TrainRequest(str(rows), base=str(bases("llama")), wishes=wishes, despite_errors=True))
    _, second = workspace.train(
        TrainRequest(str(rows), base=first.id, wishes=Wishes(epochs=1, batch_size=8, learning_rate=1e-9), despite_errors=True)
    )
    before, after = weights(first), weights(second)
    assert before.keys() == after.keys() and all(".layers.1." in name for name in before)
    assert all(torch.allclose(before[name], after[name], atol=1e-7) for name in before)
    with pytest.raises(PlanError, match="on the last 1 layers, and goes on as that only"):
        workspace.submit(TrainRequest(str(rows), base=first.id, wishes=Wishes(top_layers=2)))


@pytest.mark.parametrize("full", [False, True])
def test_a_checkpoint_is_gone_on_from_like_a_model(tmp_path, bases, rows, full):
    workspace = Workspace(tmp_path)

    def train(base, **wishes):
        request = TrainRequest(str(rows), base=base, wishes=Wishes(batch_size=8, **wishes), despite_errors=True)
        return workspace.train(request)

    job, first = train(str(bases("llama")), epochs=3, learning_rate=1e-2, full=full, **({} if full else {"rank": 4}))
    folders = sorted((job.folder / "checkpoints").glob("step-*"))
    name = workspace.checkpoint_name(job, int(folders[0].name[5:]))
    _, second = train(name, epochs=1, learning_rate=1e-9)
    (kept,) = (f for f in folders[0].glob("*.safetensors") if f.name in ("adapter_model.safetensors", "model.safetensors"))
    before, after = load_file(kept), weights(second)
    assert before.keys() == after.keys() and second.metrics["continued_from"] == name
    assert all(torch.allclose(before[key], after[key], atol=1e-7) for key in before)
    last = weights(first)
    assert any(not torch.allclose(last[key], after[key], atol=1e-4) for key in last), "it is an earlier state"


def test_a_model_that_is_not_here_is_named(tmp_path, rows):
    with pytest.raises(ModelNotFound):
        Workspace(tmp_path).submit(TrainRequest(str(rows), base="ft:tiny:local::abcdefgh"))
