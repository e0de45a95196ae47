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

packs = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or not torch.backends.cpu.get_cpu_capability().startswith("AVX"),
    reason="not an x86 processor with AVX2 and oneDNN in torch: fp32 is not packed on it",
)
packs_bf16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor multiplies no bf16: it is not packed on it"
)
precisions = pytest.mark.parametrize("precision", [pytest.param("fp32", marks=packs), pytest.param("bf16", marks=packs_bf16)])
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@precisions
@pytest.mark.parametrize("bias", [False, True])
def test_a_packed_layer_multiplies_as_it_did(precision, bias):
    generator = torch.Generator().manual_seed(0)
    dtype = DTYPES[precision]
    layer = nn.Linear(96, 160, bias=bias, dtype=dtype)
    layer.weight.data.normal_(generator=generator)
    tight = packed.PackedLinear(layer)
    assert torch.equal(tight.weight.to_dense(), layer.weight)
    assert lora.linear_sizes(tight) == (96, 160)
    close = {"rtol": 2**-7, "atol": 0.1} if precision == "bf16" else {"rtol": 1e-5, "atol": 1e-4}
    for tokens in (1, 7, 16, 200):
        x = torch.randn(1, tokens, 96, generator=generator, dtype=dtype)
        with torch.inference_mode():
            for found in (tight(x), packed.onednn_linear(x, layer.weight, layer.bias)):
                assert torch.allclose(found.float(), layer(x).float(), **close)


@precisions
def test_an_engine_packs_all_but_the_head_and_answers_and_judges_as_before(precision, bases, tmp_path, monkeypatch):
    folder, base = tiny.write_adapter(bases("llama"), tmp_path / "a", 1), bases("llama")
    rows = tiny.rows(6, seed=4, shortest=8, longest=40)
    asked = [Request(tuple(row.ids_T.tolist()), name, Sampling(max_tokens=1, logprobs=5)) for row in rows for name in (None, "a")]

    def look(engine: Engine):
        engine.add_adapter("a", folder)
        told = [p.logprobs or (p.ended,) for p in engine.stream(asked) if p.stop]
        likely = [one.log_probability for name in (None, "a") for one in engine.likelihoods(rows, adapter=name)]
        return [t[0].logprob for t in told], likely

    tight = Engine(base, precision=precision)
    kinds = [type(layer) for layer in tight.model.modules() if isinstance(layer, nn.Linear)]
    assert kinds.count(packed.PackedLinear) == len(kinds) - 1
    found = look(tight)
    monkeypatch.setattr("journeyman.generate.engine.can_pack", lambda _: False)
    plain = look(Engine(base, precision=precision))
    abs_, rel = (0.05, 0.01) if precision == "bf16" else (1e-4, 1e-5)
    assert sorted(found[0]) == pytest.approx(sorted(plain[0]), abs=abs_)
    assert found[1] == pytest.approx(plain[1], rel=rel)


def test_a_type_that_gains_nothing_is_left_as_it_is():
    assert not packed.can_pack(nn.Linear(8, 8, dtype=torch.float16))
