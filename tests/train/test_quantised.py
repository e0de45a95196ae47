"""A frozen base in fewer bits: what it gives is the base's up to rounding, and training on it is ordinary training."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from peft import PeftModel
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

import tiny
from journeyman.errors import PlanError
from journeyman.files import read_json
from journeyman.train import loop, lora
from journeyman.train.load import load_base
from journeyman.train.quantised import KINDS, Nf4Linear, QuantisedLinear, quantise

ROWS, VALIDATION = tiny.rows(13), tiny.rows(5, seed=9)
IDS = torch.arange(20, 60)[None]


def plan_for(base, **wishes):
    return tiny.plan_for(base, ROWS, VALIDATION, **{"quantise": "int8", **wishes})


def train(base, plan, folder, **stop):
    model = load_base(base, quantised=plan.quantised)
    loop.prepare(model, plan)
    seen = [0]
    outcome = loop.train(
        plan, model, ROWS, VALIDATION, folder,
        on_event=lambda e: seen.append(e["step"]) if e["type"] == "step" else None,
        should_stop=lambda: seen[-1] >= stop.get("stop_at", 10**6),
    )  # fmt: skip
    return model, outcome


def furthest(kind: str, layer: QuantisedLinear, original: torch.Tensor) -> torch.Tensor:
    """How far each weight may be from its original, by the kind's definition."""
    if kind == "int8":
        return layer.step_O1 * 0.5001
    if kind == "fp8":  # three binary digits after the first; below 2**-6 steps of 2**-9
        return torch.maximum(original.abs() * 2**-4, layer.step_O1 * 2**-10) * 1.0001
    widest = max(b - a for a, b in pairwise(Nf4Linear.LEVELS)) / 2
    of_block = layer.scale_OB1.expand(-1, -1, Nf4Linear.BLOCK).reshape(layer.out_features, -1)[:, : layer.in_features]
    return of_block * widest * 1.0001


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_weight_is_as_near_as_its_kind_allows_and_the_logits_follow(bases, family, kind):
    whole, small = load_base(bases(family)), load_base(bases(family), quantised=kind)
    weights = {path: layer for path, layer in small.named_modules() if isinstance(layer, QuantisedLinear)}
    assert len(weights) == len(list(lora._adaptable(whole)))
    for path, layer in weights.items():
        original = whole.get_submodule(path).weight
        original = original.T if layer.transposed else original
        assert ((layer.dense(torch.float32) - original).abs() <= furthest(kind, layer, original)).all()
        assert layer.weight.nbytes <= original.numel() * (1 if kind != "nf4" else 0.5 + 32 / layer.in_features)
    a, b = (torch.log_softmax(m(IDS).logits, -1) for m in (whole, small))
    assert 0 < (a - b).abs().mean() < (0.1 if kind != "nf4" else 0.5)


@pytest.mark.parametrize("kind", KINDS.values())
def test_gradients_are_those_of_the_dense_weight(kind):
    torch.manual_seed(0)
    layer = kind(torch.nn.Linear(12, 7))
    x, a, b = (torch.randn(s, requires_grad=True) for s in ((5, 12), (3, 12), (7, 3)))
    ours = lora.LoraProduct.apply(x, lora.Factors(layer, layer.bias, 2.0), a, b)
    plain = F.linear(x, layer.dense(torch.float32), layer.bias) + 2.0 * (x @ a.T @ b.T)
    assert torch.allclose(ours, plain, atol=1e-5)
    upstream = torch.randn_like(ours)
    for one, two in zip(*(torch.autograd.grad(y, (x, a, b), upstream) for y in (ours, plain)), strict=True):
        assert torch.allclose(one, two, atol=1e-5)


@pytest.mark.parametrize(("family", "kind"), [("llama", "int8"), ("gpt2", "int8"), ("gemma2", "int8"), ("llama", "fp8"), ("gpt2", "nf4")])
def test_a_training_learns_and_peft_loads_its_adapter_on_the_base_itself(bases, tmp_path, family, kind):
    plan = plan_for(bases(family), epochs=4, quantise=kind)
    model, outcome = train(bases(family), plan, tmp_path)
    untrained = load_base(bases(family), quantised=kind)
    assert loop.validate(model, ROWS, plan)[0] < loop.validate(untrained, ROWS, plan)[0] - 0.5
    assert read_json(outcome.best / lora.CONFIG_FILE)["fan_in_fan_out"] is (family == "gpt2")
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(bases(family), dtype=torch.float32), outcome.best)
    ours = load_base(bases(family))
    lora.load_adapter(ours, "x", outcome.best)
    lora.activate(ours, "x")
    assert torch.allclose(theirs(IDS).logits, ours(IDS).logits, atol=1e-4)
    quantise(ours, kind)
    lora.load_adapter(model, "best", outcome.best)
    lora.activate(model, "best")
    assert torch.allclose(ours(IDS).logits, model(IDS).logits, atol=1e-5)


def test_a_resumed_run_ends_with_the_same_bytes(bases, tmp_path):
    plan = plan_for(bases("llama"), top_layers=1)
    _, at_once = train(bases("llama"), plan, tmp_path / "a")
    _, paused = train(bases("llama"), plan, tmp_path / "b", stop_at=3)
    assert paused.status == "paused"
    _, later = train(bases("llama"), plan, tmp_path / "b")
    one, two = ((outcome.best / lora.ADAPTER_FILE).read_bytes() for outcome in (at_once, later))
    assert one == two


def test_the_plan_counts_a_byte_a_weight_and_offers_it_where_more_does_not_fit(bases, monkeypatch):
    shape = replace(plan_for(bases("llama")).shape, params=10**9, body_params=9 * 10**8, hidden=2048, intermediate=8192, layers=24, lora_width=10**7)
    monkeypatch.setattr("journeyman.plan.shape.ModelShape.read", classmethod(lambda *_: shape))
    small, whole = plan_for(bases("llama")), plan_for(bases("llama"), quantise=None)
    saved = whole.memory_bytes - small.memory_bytes
    assert 0 < saved <= 3 * shape.body_params - 4 * shape.hidden * shape.intermediate
    assert small.memory_bytes > 4 * shape.params, "the base itself has to fit, or the tuned model could not answer"
    little = replace(tiny.MACHINE, free_memory_bytes=int(1.1 * small.memory_bytes / 0.9))
    monkeypatch.setattr(tiny, "MACHINE", little)
    assert plan_for(bases("llama")).quantise.value == "int8"
    with pytest.raises(PlanError) as error:
        plan_for(bases("llama"), quantise=None)
    assert error.value.fix == "--quantise int8 would fit"


def test_wishes_that_can_not_be_granted_are_named(bases):
    for wishes, said in (({"quantise": "int4"}, "must be no, int8, fp8, nf4"), ({"full": True}, "can't be trained")):
        with pytest.raises(PlanError) as error:
            plan_for(bases("llama"), **wishes)
        assert any(said in problem for problem in error.value.problems)
