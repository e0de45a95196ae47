"""The layers in few steps give what transformers' own modules give."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

import tiny
from journeyman.generate import decoder, packed
from journeyman.generate.engine import Engine, Request
from journeyman.generate.sampling import Sampling
from journeyman.train import attention, lora
from journeyman.train.load import load_base

PARTS = [
    lora.Mixed(slice(0, 2), ("a", "b"), (4, 4), torch.tensor([[0.5] * 4 + [0.0] * 4, [0.0] * 4 + [0.5] * 4])),
    lora.Mixed(slice(4, 20), ("b",), (4,), torch.tensor([[0.5]])),
]
"""Two tokens of two adapters, two of the bare base, the others of one adapter."""


def causal(layer, q_NHD, k_NKD, v_NKD, scaling, window):
    """Whole rows, written out."""
    q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q_NHD, k_NKD, v_NKD))
    return attention.attend(q, k, v, scaling, window=window)[0].transpose(0, 1)


@pytest.mark.parametrize("held", ["plain", "joined", "joined, for fewer tokens"])
@pytest.mark.parametrize("adapters", [None, [], PARTS])
@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral"])
@torch.inference_mode()
def test_few_steps_give_the_logits_of_the_modules(bases, monkeypatch, family, adapters, held):
    model = load_base(bases(family))
    model.set_attn_implementation(attention.NAME)
    if held != "plain":
        if not packed.can_pack(model):
            pytest.skip("fp32 is not packed on this processor, and what is not packed is not joined")
        packed.pack(model)
        monkeypatch.setattr(decoder, "FEW_TOKENS", 64 if held == "joined" else 8)
    few = decoder.lean(model)
    assert few is not None and all((layer.qkv is None) == (held == "plain") for layer in few._layers)
    if adapters:
        for seed, name in enumerate("ab"):
            lora.add_adapter(model, name, rank=4, alpha=2, seed=seed)
        for _, layer in lora.lora_layers(model):
            for b in layer.lora_B.values():
                b.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
        lora.activate(model, None)
    ids_N = torch.randint(5, 250, (20,), generator=torch.Generator().manual_seed(0))
    asked = ids_N, torch.arange(20) + 3, torch.tensor([1, 19]), causal, adapters
    wanted_BV, found_BV = decoder.Modules(model)(*asked), few(*asked)
    assert wanted_BV.shape == found_BV.shape == (2, model.config.vocab_size)
    assert torch.allclose(found_BV, wanted_BV, atol=2e-5), float((found_BV - wanted_BV).abs().max())
    assert float(wanted_BV.std()) > 0.05, "logits that are all alike show nothing"


@torch.inference_mode()
def test_weights_are_joined_where_their_copy_is_small_only(bases, monkeypatch):
    monkeypatch.setattr(decoder, "COPY_BYTES", 1000)
    model = load_base(bases("llama"))
    packed.pack(model)
    few = decoder.lean(model)
    assert few is not None and all(layer.qkv is None and layer.gate_up is None for layer in few._layers)


def test_families_that_differ_are_left_to_their_modules(bases):
    for family in ("qwen3", "gemma3", "gpt2", "phi3"):
        assert decoder.lean(AutoModelForCausalLM.from_pretrained(bases(family))) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_a_packed_layer_adds_what_it_is_put_onto(dtype):
    if not packed.can_pack(torch.nn.Linear(1, 1, dtype=dtype)):
        pytest.skip(f"{dtype} is not packed on this processor")
    generator = torch.Generator().manual_seed(0)
    for bias in (False, True):
        layer = torch.nn.Linear(64, 96, bias=bias, dtype=dtype)
        x, residual = (torch.randn(5, width, generator=generator).to(dtype) for width in (64, 96))
        found = packed.PackedLinear(layer).onto(x, residual.clone())
        wanted = torch.nn.functional.linear(x.float(), layer.weight.float(), None if layer.bias is None else layer.bias.float())
        close = {"rtol": 2**-7, "atol": 0.02} if dtype is torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
        assert torch.allclose(found.float(), wanted + residual.float(), **close)


def test_an_engine_around_a_module_that_others_change_reads_it_through_its_modules(bases):
    engine = Engine(bases("llama"))
    assert isinstance(engine._loop._forward._decoder, decoder.Lean)
    around = Engine.around(engine.model, engine.chat, context_tokens=engine.context_tokens)
    assert isinstance(around._loop._forward._decoder, decoder.Modules)
    asked = [Request(tuple(row.ids_T.tolist()), None, Sampling(max_tokens=12)) for row in tiny.rows(6, seed=4, shortest=8, longest=40)]
    assert [a.text for a in engine.answers(asked)] == [a.text for a in around.answers(asked)]
