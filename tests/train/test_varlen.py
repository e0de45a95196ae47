"""Attention by lengths, compiled layers and inputs that wait elsewhere: what a GPU's training is made of gives what a CPU's gives.

What needs a GPU skips without one; the rest of the way is held equal here, by its plain twins.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_shared import ROWS, gradients, plain

import tiny
from journeyman.records import Choice
from journeyman.text.shared import shared_batches
from journeyman.train import attention, loop, lora, recompute, varlen
from journeyman.train.compiled import compile_layers
from journeyman.train.load import load_base
from journeyman.train.loss import probe_rows, shared_loss, token_loss
from journeyman.train.reproducible import reproducible

CPU = torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: what is computed on one is not tested")
YES = Choice(True, "", "")


@pytest.mark.parametrize("family", [f for f in tiny.FAMILIES if f != "gemma2"])
def test_attention_by_lengths_gives_the_plain_loss_and_gradients(bases, family):
    """Sliding windows, grouped heads, and beginnings that rows share, one within the other, included."""
    model = load_base(bases(family))
    loss, learned, correct = plain(model)
    wanted = gradients(loss, model)
    for max_tokens, share in ((4096, True), (4096, False), (150, True)):
        found = [shared_loss(model, b, varlen.attending(b.spans, CPU)) for b in shared_batches(ROWS, max_tokens, share=share)]
        assert (sum(f.learned for f in found), sum(f.correct for f in found)) == (learned, correct)
        total = sum(f.sum for f in found)
        assert total.item() == pytest.approx(loss.item(), rel=1e-6)
        for name, gradient in gradients(total, model).items():
            assert torch.allclose(gradient, wanted[name], rtol=1e-3, atol=1e-5 * float(wanted[name].abs().max())), name


def test_places_beyond_the_last_segment_are_zero_and_no_one_sees_them():
    (batch,) = shared_batches(ROWS, 4096)
    segments = varlen.Segments.of(batch.spans, CPU)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(len(batch.ids_N), heads, 8, generator=generator) for heads in (4, 2, 2))
    assert 0 < segments.places < len(q)
    out = varlen.attend(q, k, v, segments, 0.3, None)
    assert torch.equal(out[segments.places :], torch.zeros_like(out[segments.places :]))
    k[segments.places :] = v[segments.places :] = 1e6
    assert torch.equal(varlen.attend(q, k, v, segments, 0.3, None), out)


def test_rows_that_share_nothing_take_their_keys_as_they_lie():
    (apart,) = shared_batches(tiny.rows(5), 4096, share=False)
    (together,) = shared_batches(ROWS, 4096)
    assert varlen.Segments.of(apart.spans, CPU).keys_S is None
    assert varlen.Segments.of(together.spans, CPU).keys_S is not None


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A Llama of four layers, three of which are compiled."""
    folder = tmp_path_factory.mktemp("deep")
    tiny.write_base(folder, "llama", num_hidden_layers=4)
    return folder


def adapted(base, *, device="cpu", precision="fp32"):
    model = load_base(base, precision=precision, device=device)
    lora.add_adapter(model, "x", rank=4, alpha=8, seed=0)
    generator = torch.Generator().manual_seed(1)
    for _, layer in lora.lora_layers(model):
        for b in layer.lora_B.values():
            b.data.copy_(torch.randn(b.shape, generator=generator) * 0.1)
    return model


def test_compiled_layers_give_the_same_loss_and_gradients_for_any_number_of_tokens(deep):
    """Traced as for a GPU; what a compiler makes of it is tested where there is one."""
    batches = [shared_batches(rows, 4096)[0] for rows in (ROWS, ROWS[:5], ROWS[3:])]
    model = adapted(deep)
    wanted = [gradients(shared_loss(model, b, varlen.attending(b.spans, CPU)).sum, model) for b in batches]
    try:
        assert compile_layers(model, backend="eager") == 3
        found = [gradients(shared_loss(model, b, varlen.attending(b.spans, CPU)).sum, model) for b in batches]
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
        programs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        shared_loss(model, batches[0], varlen.attending(batches[0].spans, CPU)).sum.backward()
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == programs, "nothing is compiled twice"
    finally:
        torch.compiler.reset()
        attention.AttentionInterface.register(attention.NAME, attention.attend_in_model)
    for one, other in zip(wanted, found, strict=True):
        for name, gradient in one.items():
            assert torch.allclose(other[name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max())), name


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_inputs_that_wait_elsewhere_give_the_same_losses_to_the_last_bit(deep, tmp_path, full, layout):
    rows, validation = tiny.rows(13), tiny.rows(5, seed=9)
    plan = replace(tiny.plan_for(deep, rows, validation, full=full, learning_rate=1e-3), layout=Choice(layout, "", ""))
    kept = tiny.train(deep, plan, rows, validation, tmp_path / "kept")
    waiting = tiny.train(deep, replace(plan, recompute=YES, offload=YES), rows, validation, tmp_path / "waiting")
    assert waiting.losses == kept.losses


def test_what_waits_is_no_part_of_what_backward_keeps(deep):
    def kept_bytes(offload: bool) -> int:
        model = adapted(deep)
        recompute.recompute(model, offload=offload)
        kept = [0]

        def note(tensor: torch.Tensor) -> torch.Tensor:
            kept[0] += tensor.nbytes
            return tensor

        batch = tiny.rows(1, shortest=60, longest=60)
        ids = torch.from_numpy(batch[0].ids_T[None].astype(np.int64))
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            token_loss(model, ids, torch.ones(ids.shape))
        return kept[0]

    assert kept_bytes(offload=True) < kept_bytes(offload=False)


def test_a_process_computes_in_a_fixed_order_only_where_all_of_a_step_can_be(deep):
    model, plan = load_base(deep), tiny.plan_for(deep, tiny.rows(13), tiny.rows(5, seed=9))
    loop.prepare(model, plan)
    seen = []

    def step() -> None:
        loop._pass(model, plan, probe_rows(model))
        seen.append(torch.are_deterministic_algorithms_enabled())

    def refused() -> None:
        raise RuntimeError("put_ does not have a deterministic implementation")

    def broken() -> None:
        raise RuntimeError("out of memory")

    try:
        assert reproducible(step) and seen == [True]
        assert all(p.grad is None for p in model.parameters())
        assert not reproducible(refused) and not torch.are_deterministic_algorithms_enabled()
        with pytest.raises(RuntimeError, match="out of memory"):
            reproducible(broken)
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@needs_gpu
@pytest.mark.parametrize("window", [None, 12])
@pytest.mark.parametrize("share", [True, False])
def test_flash_attention_gives_what_its_plain_twin_gives(share, window):
    (batch,) = shared_batches(ROWS, 4096, share=share)
    segments = varlen.Segments.of(batch.spans, torch.device("cuda"))
    generator = torch.Generator().manual_seed(0)
    shapes = [(len(batch.ids_N), heads, 64) for heads in (4, 2, 2)]
    q, k, v = (torch.randn(shape, generator=generator).cuda().bfloat16().requires_grad_() for shape in shapes)
    assert varlen.has_flash(q.device, q.dtype)
    upstream = torch.randn(shapes[0], generator=generator).cuda().bfloat16()
    upstream[segments.places :] = 0

    def look(attends):
        k_S, v_S = (x[: segments.places] if segments.keys_S is None else x[segments.keys_S] for x in (k, v))
        out = attends(q[: segments.places], k_S, v_S, segments, 0.125, window)
        return out, *torch.autograd.grad(out, (q, k, v), upstream[: segments.places])

    for one, other in zip(look(varlen.flash), look(varlen.one_by_one), strict=True):
        assert torch.allclose(one.float(), other.float(), atol=0.05, rtol=0.05)


@needs_gpu
@pytest.mark.parametrize("changes", [{}, {"compiled": YES}, {"recompute": YES}, {"recompute": YES, "offload": YES}])
def test_a_training_on_a_gpu_goes_the_way_of_one_on_a_cpu_and_twice_the_same(deep, tmp_path, changes):
    rows, validation = tiny.rows(13), tiny.rows(5, seed=9)
    on_cpu = tiny.plan_for(deep, rows, validation, learning_rate=1e-3)
    on_gpu = replace(on_cpu, device=Choice("cuda", "", ""), precision=Choice("bf16", "", ""), workers=Choice(1, "", ""), **changes)
    wanted = tiny.train(deep, on_cpu, rows, validation, tmp_path / "cpu").losses
    found, again = (tiny.train(deep, on_gpu, rows, validation, tmp_path / name).losses for name in ("a", "b"))
    torch.compiler.reset()
    assert found == pytest.approx(wanted, rel=0.03)
    assert found == again


@needs_gpu
@pytest.mark.parametrize("kind", ["int8", "fp8", "nf4"])
def test_a_quantised_base_trains_on_a_gpu(deep, tmp_path, kind):
    rows, validation = tiny.rows(13), tiny.rows(5, seed=9)
    plan = tiny.plan_for(deep, rows, validation, quantise=kind, epochs=4)
    plan = replace(plan, device=Choice("cuda", "", ""), precision=Choice("bf16", "", ""), workers=Choice(1, "", ""))
    model = load_base(deep, precision="bf16", device="cuda", quantised=kind)
    loop.prepare(model, plan)
    before = loop.validate(model, rows, plan)[0]
    loop.train(plan, model, rows, validation, tmp_path, on_event=lambda _: None)
    assert loop.validate(model, rows, plan)[0] < before
