"""The gated feed-forward that keeps less for backward, against the model's own forward."""

from __future__ import annotations

import pytest
import torch

import tiny
from journeyman.plan.memory import GATED_KINDS
from journeyman.train import lora
from journeyman.train.gated import keep_less
from journeyman.train.load import load_base

IDS = torch.arange(40).reshape(2, 20) * 7 % 50
GATED = set(tiny.FAMILIES) & GATED_KINDS


def adapted(base, *, first=0, quantised=None):
    """A model with adapters that change something."""
    model = load_base(base, quantised=quantised)
    lora.add_adapter(model, "a", rank=3, alpha=6, seed=1, first=first)
    torch.manual_seed(5)
    for _, layer in lora.lora_layers(model):
        if "a" in layer.lora_B:
            torch.nn.init.normal_(layer.lora_B["a"], std=0.1)
    return model


def loss_and_gradients(model, ids=IDS):
    trained = [p for p in model.parameters() if p.requires_grad]
    loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    return loss.item(), torch.autograd.grad(loss, trained)


@pytest.mark.parametrize("quantised", [None, "int8", "nf4"])
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("family", sorted(GATED))
def test_loss_and_gradients_are_the_plain_ones(bases, family, first, quantised):
    model = adapted(bases(family), first=first, quantised=quantised)
    plain, wanted = loss_and_gradients(model)
    assert keep_less(model) == model.config.num_hidden_layers - first
    loss, found = loss_and_gradients(model)
    assert loss == pytest.approx(plain, rel=1e-6)
    for one, two in zip(found, wanted, strict=True):
        assert float((one - two).norm()) <= 1e-5 * float(two.norm()) + 1e-9


@pytest.mark.parametrize("family", sorted(set(tiny.FAMILIES) - GATED))
def test_other_feed_forwards_are_left_as_they_are(bases, family):
    """Another activation, gate and up in one matrix, or no gate at all."""
    assert keep_less(adapted(bases(family))) == 0


def test_less_is_kept(bases):
    model = adapted(bases("llama"))

    def kept_bytes() -> int:
        kept = {}

        def note(tensor):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = model(input_ids=IDS, labels=IDS, use_cache=False).loss
        assert loss.requires_grad
        return sum(kept.values())

    plain = kept_bytes()
    keep_less(model)
    inner = IDS.numel() * model.config.intermediate_size * 4 * model.config.num_hidden_layers
    assert plain - kept_bytes() >= 2 * inner


def test_answers_and_the_bare_base_take_the_plain_way(bases):
    model = adapted(bases("llama"))
    with torch.no_grad():
        tuned = model(IDS).logits
    keep_less(model)
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, tuned)
    lora.activate(model, None)
    bare = model(IDS).logits
    assert torch.allclose(bare, load_base(bases("llama"))(IDS).logits, atol=1e-6)
