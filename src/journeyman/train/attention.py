"""Causal attention for training rows on a CPU in bf16, where torch's own kernel is slow.

torch's CPU kernel for `scaled_dot_product_attention` does its products in fp32 blocks. Written out in bf16 matrix
products, a block of queries at a time, the same mathematics takes a half to a fifth of the time (measured on a
Zen 4 core, rows of 16 to 512 tokens). Probabilities are made again in backward, so no T x T matrix is kept.

The same blocks attend in a sequence whose rows share their beginnings (text/shared.py): `SharedAttention`.

Shapes: B rows, H query heads, K key heads (H is a multiple of K), T queries, S keys, D head width, N places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from journeyman.text import shared

NAME = "journeyman_causal"
"""What a model is told to use: `model.set_attn_implementation(NAME)`."""

QUERIES = 64
"""Queries a block: keys after the block's last query are never touched, which saves up to half of the products."""

BLOCK_SCORES = 2**20
"""Scores computed at a time: 2 MiB in bf16, which stays in a core's second-level cache."""


@torch.library.custom_op("journeyman::causal_attention", mutates_args=())
def causal_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float) -> torch.Tensor:
    """softmax(scaling q k^T, causal) v for q of shape B H T D and k, v of shape B K T D; the result as q."""
    return attend(q, k, v, scaling)


@torch.library.custom_op("journeyman::causal_attention_backward", mutates_args=())
def causal_attention_backward(
    grad: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of q, k and v."""
    grad_q, grad_k, grad_v = _attend_backward(grad, q, k, v, scaling)
    return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype)


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float, first: int = 0, window: int | None = None
) -> torch.Tensor:
    """Attention written out for q of shape B H T D and k, v of shape B K S D.

    Query t sees keys up to number `first` + t, and of these no more than the last `window`.
    """
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    for rows, queries, keys in _blocks(q, k, first):
        p = _probabilities(q[rows, :, queries], k[rows, :, keys], first + queries.start, scaling, window)
        out[rows, :, queries] = (p @ v[rows, :, keys]).view_as(out[rows, :, queries])
    return out


def _attend_backward(
    grad: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scaling: float,
    first: int = 0,
    window: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of q, and of k and v in fp32 or wider."""
    grad_q = torch.empty_like(q, memory_format=torch.contiguous_format)
    wide = torch.promote_types(k.dtype, torch.float32)
    grad_k = torch.zeros(k.shape, dtype=wide)
    grad_v = torch.zeros(v.shape, dtype=wide)
    for rows, queries, keys in _blocks(q, k, first):
        q_part, k_part, v_part = q[rows, :, queries], k[rows, :, keys], v[rows, :, keys]
        p = _probabilities(q_part, k_part, first + queries.start, scaling, window)
        grad_out = _by_key_head(grad[rows, :, queries], k.shape[1])
        grad_v[rows, :, keys] += p.transpose(-1, -2) @ grad_out
        grad_scores = torch._softmax_backward_data(grad_out @ v_part.transpose(-1, -2), p, -1, p.dtype)
        grad_q[rows, :, queries] = (grad_scores @ k_part).view_as(q_part) * scaling
        grad_k[rows, :, keys] += (grad_scores.transpose(-1, -2) @ _by_key_head(q_part, k.shape[1])) * scaling
    return grad_q, grad_k, grad_v


def _blocks(q: torch.Tensor, k: torch.Tensor, first: int) -> list[tuple[slice, slice, slice]]:
    """(rows, queries, keys) that together cover everything once."""
    B, H, T, _ = q.shape
    blocks = []
    for start in range(0, T, QUERIES):
        end = min(T, start + QUERIES)
        seen = min(k.shape[2], first + end)
        rows = max(1, BLOCK_SCORES // (H * (end - start) * seen))
        blocks += [(slice(b, min(B, b + rows)), slice(start, end), slice(0, seen)) for b in range(0, B, rows)]
    return blocks


def _by_key_head(x: torch.Tensor, key_heads: int) -> torch.Tensor:
    """B H T D as B K (H/K T) D: the query heads that share a key head, one after the other."""
    B, H, T, D = x.shape
    return x.reshape(B, key_heads, H // key_heads * T, D)


def _probabilities(
    q: torch.Tensor, k: torch.Tensor, first: int, scaling: float, window: int | None = None
) -> torch.Tensor:
    """Probabilities of queries `first`, `first` + 1, … over all keys given: B K (H/K T) S."""
    T, S = q.shape[2], k.shape[2]
    scores = _by_key_head(q * scaling, k.shape[1]) @ k.transpose(-1, -2)
    scores_BHTS = scores.view(*q.shape[:3], S)
    scores_BHTS[..., first:] += _later(T, S - first, scores.dtype, scores.device)
    if window is not None and window < S:
        too_early = torch.ones(T, S, dtype=torch.bool, device=q.device).tril_(first - window)
        scores_BHTS.masked_fill_(too_early, float("-inf"))
    return torch.softmax(scores, -1)


@lru_cache(maxsize=256)
def _later(queries: int, keys: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """What is added to scores: minus infinity where a key is later than its query. Adding takes a third of filling's time."""
    return torch.full((queries, keys), float("-inf"), dtype=dtype, device=device).triu_(1)


@causal_attention.register_fake
def _(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float) -> torch.Tensor:
    return torch.empty_like(q, memory_format=torch.contiguous_format)


@causal_attention_backward.register_fake
def _(grad: Any, q: Any, k: Any, v: Any, scaling: float) -> Any:
    return tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, ctx.scaling = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad: torch.Tensor) -> Any:
    return *causal_attention_backward(grad, *ctx.saved_tensors, ctx.scaling), None


causal_attention.register_autograd(_backward, setup_context=_keep)


@dataclass(frozen=True)
class Block:
    """text/shared.py:Block in tensors: places of the queries (B T) and of the keys (B S)."""

    queries: torch.Tensor
    keys: torch.Tensor
    first: int


class SharedAttention(torch.autograd.Function):
    """Attention of one sequence of N places in which every block of queries sees the keys it names and no others.

    A block's queries, keys and values are gathered, attend as whole rows do, and are put back; the gradient of a key
    that several blocks see is summed in fp32. Places that no block names keep the output 0, the filler's is of no use.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        scaling: float,
        window: int | None,
        blocks: Sequence[Block],
    ) -> torch.Tensor:
        """N H D of q, and N K D of k and v, to N H D."""
        out = torch.zeros_like(q, memory_format=torch.contiguous_format)
        for block in blocks:
            out[block.queries] = attend(*_gather(q, k, v, block), scaling, block.first, window).transpose(1, 2)
        ctx.save_for_backward(q, k, v)
        ctx.rest = scaling, window, blocks
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of q, k and v. The filler's are zero: no loss depends on what it computes."""
        q, k, v = ctx.saved_tensors
        scaling, window, blocks = ctx.rest
        grad_q = torch.zeros_like(q, memory_format=torch.contiguous_format)
        grad_k, grad_v = (torch.zeros(x.shape, dtype=torch.promote_types(x.dtype, torch.float32)) for x in (k, v))
        for block in blocks:
            upstream = _at(grad, block.queries)
            parts = _attend_backward(upstream, *_gather(q, k, v, block), scaling, block.first, window)
            part_q, part_k, part_v = (part.transpose(1, 2) for part in parts)
            grad_q[block.queries] = part_q
            keys = block.keys.flatten()
            grad_k.index_add_(0, keys, part_k.flatten(0, 1))
            grad_v.index_add_(0, keys, part_v.flatten(0, 1))
        return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype), None, None, None


def _gather(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, block: Block
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """B H T D of the block's queries, and B K S D of its keys and values."""
    return _at(q, block.queries), _at(k, block.keys), _at(v, block.keys)


def _at(x: torch.Tensor, places_BT: torch.Tensor) -> torch.Tensor:
    """N H D at these places: B H T D. By `index_select`, which copies whole rows where indexing goes value by value."""
    return x.index_select(0, places_BT.flatten()).view(*places_BT.shape, *x.shape[1:]).transpose(1, 2).contiguous()


Attend = Callable[[nn.Module, torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any]], torch.Tensor]
"""What attends in a layer: (layer, q of 1 H N D, k and v of 1 K N D, the family's further arguments) to 1 N H D."""

_instead: ContextVar[Attend | None] = ContextVar("who attends in place of whole causal rows", default=None)


@contextmanager
def attending(attend_instead: Attend) -> Iterator[None]:
    """Within, a model told to use NAME attends by this function, and makes no mask.

    A context and not an argument, since not every family of transformers hands arguments on to its attention.
    """
    token = _instead.set(attend_instead)
    try:
        yield
    finally:
        _instead.reset(token)


def in_blocks(blocks: Sequence[shared.Block]) -> Attend:
    """What attends as the blocks of text/shared.py say, in the one sequence that a model is given, for `attending`."""
    in_tensors = [Block(torch.from_numpy(b.queries_BT), torch.from_numpy(b.keys_BS), b.first) for b in blocks]
    return partial(_attend_shared, in_tensors)


def layer_terms(query: torch.Tensor, value: torch.Tensor, rest: dict[str, Any]) -> tuple[float, int | None]:
    """(scaling, window) of a layer. Raises NotImplementedError where it attends in a way that is not computed here."""
    unknown = [name for name in ("dropout", "softcap") if rest.get(name)]
    unknown += ["s_aux"] if rest.get("s_aux") is not None else []
    if unknown or query.shape[3] != value.shape[3]:
        raise NotImplementedError(f"attention with {unknown or 'values of another width'} in packed rows")
    return rest.get("scaling") or query.shape[-1] ** -0.5, rest.get("sliding_window")


def _mask(*args: Any, **kwargs: Any) -> Any:
    """The mask of "sdpa", which is None where causal is all that is asked; none where `attending` says who sees whom."""
    return None if _instead.get() is not None else ALL_MASK_ATTENTION_FUNCTIONS["sdpa"](*args, **kwargs)


def _attend_shared(
    blocks: Sequence[Block],
    _: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rest: dict[str, Any],
) -> torch.Tensor:
    scaling, window = layer_terms(query, value, rest)
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else value.dtype
    q, k, v = (x[0].transpose(0, 1).to(dtype) for x in (query, key, value))
    out: torch.Tensor = SharedAttention.apply(q, k, v, scaling, window, blocks)  # type: ignore[no-untyped-call]
    return out.unsqueeze(0)


def attend_in_model(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any, **rest: Any
) -> tuple[torch.Tensor, None]:
    """transformers' hook: what `attending` names, ours for whole causal rows in bf16 on a CPU, else transformers' own."""
    if (instead := _instead.get()) is not None:
        return instead(module, query, key, value, rest), None
    ours = (
        attention_mask is None
        and query.device.type == "cpu"
        and query.dtype == torch.bfloat16
        and query.shape[2] == key.shape[2] > 1
        and query.shape[3] == value.shape[3]
        and not any(rest.get(name) for name in ("dropout", "softcap"))
        and rest.get("s_aux") is None
        and rest.get("is_causal", True) is not False
    )
    if not ours:
        out, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **rest)
        return out, None
    scaling = rest.get("scaling") or query.shape[-1] ** -0.5
    return causal_attention(query, key, value, scaling).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attend_in_model)
AttentionMaskInterface.register(NAME, _mask)
