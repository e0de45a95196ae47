"""Activations that are computed again: the same losses to the last bit, and less kept for backward."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import tiny
from journeyman.errors import PlanError
from journeyman.plan.plan import explain
from journeyman.records import Choice
from journeyman.train import loop
from journeyman.train.load import load_base

ROWS, VALIDATION = tiny.rows(13), tiny.rows(5, seed=9)
AGAIN = Choice(True, "", "")


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_losses_are_the_same_to_the_last_bit(bases, tmp_path, family, full):
    plan = tiny.plan_for(bases(family), ROWS, VALIDATION, full=full, learning_rate=1e-3)
    kept = tiny.train(bases(family), plan, ROWS, VALIDATION, tmp_path / "kept")
    again = tiny.train(bases(family), replace(plan, recompute=AGAIN), ROWS, VALIDATION, tmp_path / "again")
    assert again.losses == kept.losses
    assert [e["valid_loss"] for e in again.of("validation")] == [e["valid_loss"] for e in kept.of("validation")]


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_less_is_kept_for_backward(deep, layout):
    plan = replace(tiny.plan_for(deep, ROWS, VALIDATION), layout=Choice(layout, "", ""))

    def kept_bytes(plan) -> int:
        model = load_base(deep)
        loop.prepare(model, plan)
        kept = [0]

        def note(tensor: torch.Tensor) -> torch.Tensor:
            kept[0] += tensor.nbytes
            return tensor

        (micro, *_) = loop._cut(ROWS, plan)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loop._loss(model, micro, "cpu")
        return kept[0]

    assert kept_bytes(replace(plan, recompute=AGAIN)) < kept_bytes(plan) / 3


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A Llama of eight layers."""
    folder = tmp_path_factory.mktemp("deep")
    tiny.write_base(folder, "llama", num_hidden_layers=8)
    return folder


def test_with_layers_left_out_below_the_losses_are_the_same(deep, tmp_path):
    plan = tiny.plan_for(deep, ROWS, VALIDATION, top_layers=4)
    kept = tiny.train(deep, plan, ROWS, VALIDATION, tmp_path / "kept")
    again = tiny.train(deep, replace(plan, recompute=AGAIN), ROWS, VALIDATION, tmp_path / "again")
    assert again.losses == kept.losses


def test_the_plan_asks_for_it_where_the_longest_row_would_not_fit_otherwise(deep, monkeypatch):
    roomy = tiny.plan_for(deep, ROWS, VALIDATION)
    assert roomy.recompute.value is False
    shape = replace(roomy.shape, hidden=4096, intermediate=16384, layers=32)
    monkeypatch.setattr("journeyman.plan.shape.ModelShape.read", classmethod(lambda *_: shape))
    kept = tiny.plan_for(deep, ROWS, VALIDATION)
    free = 750 * 2**20
    monkeypatch.setattr(tiny, "MACHINE", replace(tiny.MACHINE, free_memory_bytes=free))
    tight = tiny.plan_for(deep, ROWS, VALIDATION)
    assert tight.recompute.value is True and tight.memory_bytes < 0.9 * free < kept.memory_bytes
    assert tight.time_s > kept.time_s
    assert ("recompute", "yes") in [(name, value) for name, value, _ in explain(tight)]
    monkeypatch.setattr(tiny, "MACHINE", replace(tiny.MACHINE, free_memory_bytes=430 * 2**20))
    with pytest.raises(PlanError, match="needs about"):
        tiny.plan_for(deep, ROWS, VALIDATION)
