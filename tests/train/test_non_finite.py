"""A loss or gradient that is not finite never reaches the weights, and the step that had it is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import tiny
from journeyman.errors import NonFiniteStep
from journeyman.records import Choice, Place
from journeyman.text.batch import epoch_steps
from journeyman.text.encode import Encoded
from journeyman.train import checkpoint, loop
from journeyman.train.load import load_base

POISON = 339
ROWS = [replace(row, ids_T=np.where(row.ids_T == POISON, 20, row.ids_T)) for row in tiny.rows(12)]


def poisoned_row(line: int) -> Encoded:
    ids = np.array([20, 21, POISON, 22, 23, 24], np.int32)
    return Encoded(ids, np.array([0, 0, 0, 1, 1, 1], np.float32), Place("rows.jsonl", line))


def poisoned_model(base, plan, value: float):
    model = load_base(base)
    with torch.no_grad():
        model.get_input_embeddings().weight[POISON] = value
    loop.prepare(model, plan)
    return model


def weights_of(model) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("full", [False, True], ids=["lora", "full"])
def test_a_poisoned_row_is_refused_with_its_step_and_place(bases, tmp_path, value, full):
    rows = [*ROWS, poisoned_row(13)]
    plan = tiny.plan_for(bases("llama"), rows, full=full, batch_size=1, epochs=1, learning_rate=1e-4)
    plan = replace(plan, checkpoint_every=Choice(1, "a test's wish", "user"))
    wanted = 1 + epoch_steps(len(rows), 1, seed=0, epoch=0).index([12])
    assert wanted > 1, "the poisoned row must not be the first"
    model = poisoned_model(bases("llama"), plan, value)
    after: list[dict[str, torch.Tensor]] = []

    def on_event(event):
        if event["type"] == "step":
            after.append(weights_of(model))

    with pytest.raises(NonFiniteStep) as caught:
        loop.train(plan, model, rows, (), tmp_path, on_event=on_event)
    assert f"step {wanted}:" in caught.value.message
    assert "rows.jsonl:13" in caught.value.where
    assert caught.value.code == "non_finite_step"
    assert len(after) == wanted - 1
    for name, tensor in weights_of(model).items():
        assert torch.equal(tensor.nan_to_num(), after[-1][name].nan_to_num()), name
    last = checkpoint.latest(tmp_path / "checkpoints")
    assert last.name == f"step-{wanted - 1:06d}"
    again = poisoned_model(bases("llama"), plan, value)
    assert checkpoint.resume(last, again, loop.make_optimizer(again, plan)).step == wanted - 1


def test_weights_that_blow_up_are_stopped(bases, tmp_path):
    """A learning rate of 1 on all weights, with an overflowing head: the run ends in the named error, not in NaN."""
    plan = tiny.plan_for(bases("llama"), ROWS, full=True, learning_rate=1.0, epochs=20)
    model = load_base(bases("llama"))
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(1e37)
    loop.prepare(model, plan)
    with pytest.raises(NonFiniteStep, match=r"step 1: loss \S+ and gradient norm \S+ are not both finite"):
        loop.train(plan, model, ROWS, (), tmp_path, on_event=lambda _: None)


def test_a_validation_that_is_not_finite_is_refused_too(bases, tmp_path):
    """It would otherwise be kept as the best for ever: nothing is smaller than NaN."""
    plan = tiny.plan_for(bases("llama"), ROWS, [poisoned_row(1)])
    model = poisoned_model(bases("llama"), plan, float("nan"))
    with pytest.raises(NonFiniteStep, match="validation"):
        loop.train(plan, model, ROWS, [poisoned_row(1)], tmp_path, on_event=lambda _: None)
