"""Each fast path is held equal to the plain line that it replaces."""

import platform
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

import tiny
from journeyman.train import attention
from journeyman.train import loss as losses
from journeyman.train.load import load_base
from journeyman.train.lora import Factors, LoraProduct


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=["fp64", "bf16"])
def test_lora_product_is_the_plain_line(dtype):
    generator = torch.Generator().manual_seed(3)

    def draw(*shape, kind=dtype):
        return torch.randn(*shape, generator=generator).to(kind)

    x, weight, bias = draw(2, 5, 12), draw(7, 12), draw(7)
    adapters = torch.float64 if dtype is torch.float64 else torch.float32
    a, b = draw(3, 12, kind=adapters), draw(7, 3, kind=adapters)
    upstream = draw(2, 5, 7)

    def gradients(product):
        leaves = [t.clone().requires_grad_() for t in (x, a, b)]
        out = product(*leaves)
        out.backward(upstream)
        return [out.detach(), *(leaf.grad for leaf in leaves)]

    fast = gradients(lambda x, a, b: LoraProduct.apply(x, Factors(weight, bias, 0.7), a, b))
    plain = gradients(lambda x, a, b: (F.linear(x, weight, bias) + 0.7 * (x.to(a.dtype) @ a.T @ b.T)).to(dtype))
    # LoraProduct gives the adapters' gradients in fp32, as the adapters are; bf16 products keep 8 bits.
    limit = 1e-6 if dtype is torch.float64 else 2e-2
    for one, two in zip(fast, plain, strict=True):
        assert one.dtype == two.dtype or one.dtype == torch.float32
        assert float((one.double() - two.double()).norm() / two.double().norm()) < limit


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox"])
@pytest.mark.parametrize("full", [False, True], ids=["frozen head", "trained head"])
def test_tiled_loss_is_the_plain_loss(bases, family, full, monkeypatch):
    """64 rows a tile, 150 rows: two whole tiles and a part."""
    model = load_base(bases(family))
    model.requires_grad_(full)
    head = model.get_output_embeddings().weight
    monkeypatch.setattr("journeyman.plan.memory.TILE_LOGITS", 1)
    generator = torch.Generator().manual_seed(4)
    hidden = torch.randn(150, head.shape[1], generator=generator)
    targets = torch.randint(0, head.shape[0], (150,), generator=generator)
    counts = torch.randint(1, 4, (150,), generator=generator).float()
    trained = [head] if full else []

    def gradients(loss_of):
        leaf = hidden.clone().requires_grad_()
        loss, correct, each = loss_of(leaf)
        return loss.detach(), correct, each.detach(), torch.autograd.grad(loss / 150, [leaf, *trained])

    tiled = gradients(lambda h: losses.TiledLoss.apply(h, model, targets, counts, *trained))

    def plain_loss(leaf):
        each, right = losses.plain_loss(model, leaf, targets)
        return (each * counts).sum(), (right * counts).sum(), each

    plain = gradients(plain_loss)
    assert float(tiled[0]) == pytest.approx(float(plain[0]), rel=1e-6)
    assert int(tiled[1]) == int(plain[1])
    torch.testing.assert_close(tiled[2], plain[2])
    for one, two in zip(tiled[3], plain[3], strict=True):
        torch.testing.assert_close(one, two, atol=1e-7, rtol=1e-5)


def test_a_validation_needs_no_gradient(bases):
    model = load_base(bases("llama"))
    model.requires_grad_(False)
    ids = torch.arange(12).view(1, 12)
    with torch.no_grad():
        loss, learned, *_ = losses.token_loss(model, ids, torch.ones(1, 12))
    assert learned == 11
    assert not loss.requires_grad


@pytest.mark.parametrize(("heads", "key_heads", "length"), [(4, 2, 150), (3, 1, 5), (2, 2, 64), (6, 2, 129)])
def test_causal_attention_is_torchs_own(heads, key_heads, length):
    """Shorter than a block of queries, one block exactly, several, and a part of one."""
    generator = torch.Generator().manual_seed(6)
    q, upstream = (torch.randn(3, heads, length, 8, generator=generator) for _ in range(2))
    k, v = (torch.randn(3, key_heads, length, 8, generator=generator) for _ in range(2))

    def gradients(attend):
        leaves = [t.clone().requires_grad_() for t in (q, k, v)]
        out = attend(*leaves)
        out.backward(upstream)
        return [out.detach(), *(leaf.grad for leaf in leaves)]

    ours = gradients(lambda q, k, v: attention.causal_attention(q, k, v, 8**-0.5))
    theirs = gradients(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True))
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_bf16_base_is_as_near_to_fp32_as_with_transformers_own_attention(bases, family):
    """Sliding windows, caps and sinks included: what ours does not compute goes to transformers' own."""
    model = load_base(bases(family), precision="bf16")
    ids = torch.randint(5, 90, (2, 40), generator=torch.Generator().manual_seed(1))
    padded = torch.ones_like(ids)
    padded[0, :7] = 0

    @torch.no_grad()
    def logits(model):
        whole, left_padded = model(ids).logits, model(ids, attention_mask=padded).logits[:, 7:]
        return torch.cat([whole.flatten(), left_padded.flatten()]).float()

    ours = logits(model)
    if model.config._attn_implementation == attention.NAME:
        model.set_attn_implementation("sdpa")
    theirs, exact = logits(model), logits(model.float())
    assert float((ours - exact).norm()) < 1.3 * float((theirs - exact).norm())


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_the_allocator_takes_the_wish():
    """In a process of its own, since it cannot be taken back. What it saves is for benchmarks: it varies by process."""
    probe = "from journeyman.train.allocator import keep_freed_memory; print(keep_freed_memory())"
    done = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True)
    assert done.stdout == "True\n"
