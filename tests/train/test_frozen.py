"""Adapters on the last layers: the layers below are computed once, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

import tiny
from journeyman.errors import PlanError, TrainingError
from journeyman.files import read_json
from journeyman.records import Choice
from journeyman.train import loop, lora
from journeyman.train.frozen import FrozenLayers
from journeyman.train.layers import decoder_layers
from journeyman.train.load import load_base

BEGINNING = np.arange(20, 60, dtype=np.int32)


def begun(row):
    """A row that begins as others do."""
    ids, weights = np.concatenate([BEGINNING, row.ids_T]), np.concatenate([np.zeros(40, np.float32), row.weights_T])
    return replace(row, ids_T=ids, weights_T=weights)


ROWS = [begun(row) if index % 2 else row for index, row in enumerate(tiny.rows(13))]
VALIDATION = tiny.rows(5, seed=9)


def plan_for(base, **wishes):
    return tiny.plan_for(base, ROWS, VALIDATION, **{"top_layers": 1, "epochs": 3, **wishes})


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_losses_are_those_of_a_training_that_computes_every_layer(bases, tmp_path, family, monkeypatch):
    plan = plan_for(bases(family))
    run = tiny.train(bases(family), plan, ROWS, VALIDATION, tmp_path / "frozen")
    monkeypatch.setattr(loop, "_frozen", lambda *_: None)
    whole = tiny.train(bases(family), plan, ROWS, VALIDATION, tmp_path / "whole")
    assert run.losses == pytest.approx(whole.losses, rel=1e-4)
    losses = [[event["valid_loss"] for event in r.of("validation")] for r in (run, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert run.losses[-1] < run.losses[0]


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_further_epochs_do_not_pass_through_the_layers_below(bases, tmp_path, layout):
    def tokens_seen(epochs: int) -> tuple[int, int]:
        plan = replace(plan_for(bases("llama"), epochs=epochs), layout=Choice(layout, "", ""))
        model = load_base(bases("llama"))
        loop.prepare(model, plan)
        seen = [0, 0]
        for index, layer in enumerate(decoder_layers(model)):
            layer.mlp.register_forward_hook(lambda _, __, out, i=index: seen.__setitem__(i, seen[i] + out.shape[:-1].numel()))
        loop.train(plan, model, ROWS, VALIDATION, tmp_path / str(epochs), on_event=lambda _: None)
        return seen[0], seen[1]

    (below, above), (below_later, above_later) = tokens_seen(1), tokens_seen(3)
    assert below == below_later > 0
    assert above_later > above
    assert [*tmp_path.rglob(".states-*")] == []


def test_a_resumed_run_ends_with_the_same_bytes(bases, tmp_path):
    plan = plan_for(bases("llama"))
    at_once = tiny.train(bases("llama"), plan, ROWS, VALIDATION, tmp_path / "a")
    tiny.train(bases("llama"), plan, ROWS, VALIDATION, tmp_path / "b", stop_at=5)
    later = tiny.train(bases("llama"), plan, ROWS, VALIDATION, tmp_path / "b")
    one, two = ((run.outcome.best / lora.ADAPTER_FILE).read_bytes() for run in (at_once, later))
    assert one == two


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_peft_loads_an_adapter_on_the_last_layers(bases, tmp_path, family):
    run = tiny.train(bases(family), plan_for(bases(family)), ROWS, VALIDATION, tmp_path)
    assert read_json(run.outcome.best / lora.CONFIG_FILE)["layers_to_transform"] == [1]
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(bases(family), dtype=torch.float32), run.outcome.best)
    ours = load_base(bases(family))
    lora.load_adapter(ours, "x", run.outcome.best)
    lora.activate(ours, "x")
    ids = torch.arange(20, 40)[None]
    bare = load_base(bases(family))(ids).logits
    assert torch.allclose(theirs(ids).logits, ours(ids).logits, atol=1e-4)
    assert not torch.allclose(bare, ours(ids).logits, atol=1e-2)


def test_layers_that_can_not_be_computed_apart_are_refused(bases, tmp_path):
    plan = plan_for(bases("llama"))
    model = load_base(bases("llama"))
    loop.prepare(model, plan)
    passes = iter(range(100))
    with pytest.raises(TrainingError, match="can't be computed apart: loss"):
        FrozenLayers(model, 1, loop._cut(ROWS, plan), lambda b: loop._loss(model, b, "cpu").sum.item() + next(passes) * 1e3, tmp_path).compute()


def test_a_stop_while_the_layers_below_are_computed_pauses_the_run(bases, tmp_path):
    plan = plan_for(bases("llama"))
    model = load_base(bases("llama"))
    loop.prepare(model, plan)
    outcome = loop.train(plan, model, ROWS, VALIDATION, tmp_path, on_event=lambda _: None, should_stop=lambda: True)
    assert (outcome.status, outcome.step, outcome.best) == ("paused", 0, None)
    assert tiny.train(bases("llama"), plan, ROWS, VALIDATION, tmp_path).outcome.status == "finished"


def test_wishes_that_can_not_be_granted_are_named(bases):
    for wishes, said in (
        ({"top_layers": 2}, "must be from 1 to 1: the base has 2 layers"),
        ({"top_layers": 0}, "top_layers is 0"),
        ({"top_layers": 1, "full": True}, "exclude each other"),
    ):
        with pytest.raises(PlanError) as error:
            plan_for(bases("llama"), **wishes)
        assert any(said in problem for problem in error.value.problems)


def test_the_plan_expects_less_time_and_memory(bases):
    some, every = plan_for(bases("llama")), plan_for(bases("llama"), top_layers=None)
    assert some.memory_bytes < every.memory_bytes and some.time_s < every.time_s
    assert (some.frozen_layers, every.frozen_layers) == (1, 0)
