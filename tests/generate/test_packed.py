"""A base in oneDNN's tiles answers as the same base in its own order."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tiny
from journeyman.generate import packed
from journeyman.generate.engine import Engine, Request
from journeyman.generate.sampling import Sampling
from journeyman.train import lora

here = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor multiplies no bf16: nothing is packed on it"
)


@here
@pytest.mark.parametrize("bias", [False, True])
def test_a_packed_layer_multiplies_as_it_did(bias):
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(96, 160, bias=bias, dtype=torch.bfloat16)
    layer.weight.data.normal_(generator=generator)
    tight = packed.PackedLinear(layer)
    assert torch.equal(tight.weight.to_dense(), layer.weight)
    assert lora.linear_sizes(tight) == (96, 160)
    for tokens in (1, 7, 16, 200):
        x = torch.randn(1, tokens, 96, generator=generator, dtype=torch.bfloat16)
        with torch.inference_mode():
            assert torch.allclose(tight(x).float(), layer(x).float(), rtol=2**-7, atol=0.1)


@here
def test_an_engine_packs_all_but_the_head_and_answers_and_judges_as_before(bases, tmp_path, monkeypatch):
    folder, base = tiny.write_adapter(bases("llama"), tmp_path / "a", 1), bases("llama")
    rows = tiny.rows(6, seed=4, shortest=8, longest=40)
    asked = [Request(tuple(row.ids_T.tolist()), name, Sampling(max_tokens=1, logprobs=5)) for row in rows for name in (None, "a")]

    def look(engine: Engine):
        engine.add_adapter("a", folder)
        told = [p.logprobs or (p.ended,) for p in engine.stream(asked) if p.stop]
        likely = [one.log_probability for name in (None, "a") for one in engine.likelihoods(rows, adapter=name)]
        return [t[0].logprob for t in told], likely

    tight = Engine(base, precision="bf16")
    kinds = [type(layer) for layer in tight.model.modules() if isinstance(layer, nn.Linear)]
    assert kinds.count(packed.PackedLinear) == len(kinds) - 1
    found = look(tight)
    monkeypatch.setattr("journeyman.generate.engine.can_pack", lambda _: False)
    plain = look(Engine(base, precision="bf16"))
    assert sorted(found[0]) == pytest.approx(sorted(plain[0]), abs=0.05)
    assert found[1] == pytest.approx(plain[1], rel=0.01)


def test_what_is_not_bf16_on_a_cpu_is_left_as_it_is(bases):
    assert not packed.can_pack(Engine(bases("llama")).model)
