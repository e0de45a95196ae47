"""One pass of the model over the tokens of many rows: of some the next token, of others a part of the prompt.

`Paged` lays all tokens side by side in one sequence, so that nothing is padded and every weight is read once; its
attention reads keys and values from blocks of one pool. `InTurns` passes row after row, for families whose attention is
not known here.

Shapes: B rows, N tokens side by side, H query heads, K key heads, J blocks of the longest row, S keys in them, P places in
the pool, D head width, V vocabulary.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import accumulate, takewhile
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  (the field's usual name)
from transformers import DynamicCache

from journeyman.generate.blocks import BLOCK_TOKENS, Blocks, blocks_of
from journeyman.generate.row import Row
from journeyman.plan.rules import PACKED_KINDS
from journeyman.train import attention, lora
from journeyman.train.workers import Workers

SIDE_BY_SIDE_BYTES = 64 * 2**20
"""Weights up to this size are read so quickly that a pass of them is shared out by rows, one part a core: each product is too
small to be spread over cores. Beyond it a pass of few tokens takes as long as reading the weights, which is done once."""

LEAST_TOKENS = 8
"""A part of fewer tokens is not worth its thread."""


@dataclass(frozen=True, slots=True)
class Segment:
    """The next `tokens` tokens of a row, to be computed in this pass."""

    row: Row
    tokens: int

    @property
    def last(self) -> bool:
        """Whether the row's next token can be chosen afterwards."""
        return self.tokens == self.row.pending


class Forward(Protocol):
    """A model that computes segments, and the blocks of its rows."""

    blocks: Blocks

    def __call__(self, segments: Sequence[Segment], adapters: Sequence[lora.Mixed] | None) -> torch.Tensor:
        """Logits (B V, fp32) of the rows whose segment is the last, in their order.

        Segments of one token come first; `adapters` says which tokens use which, None leaves the module as it stands.
        """
        ...


def make_forward(model: Any, *, device: str, kv_bytes: int, context_tokens: int, max_rows: int) -> Forward:
    """The fastest way that is known to be exact for the model's family."""
    if model.config.model_type not in PACKED_KINDS or model.config._attn_implementation not in ("sdpa", attention.NAME):
        return InTurns(model, device, max_rows * blocks_of(context_tokens))
    model.set_attn_implementation(attention.NAME)
    config = model.config.get_text_config()  # Gemma 3 from 4B on sees pictures too, and keeps the decoder's sizes one level down
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    block_bytes = 2 * BLOCK_TOKENS * heads * width * config.num_hidden_layers * next(model.parameters()).element_size()
    # Never less than one whole context, or the longest answer could not be written.
    count = max(blocks_of(context_tokens), min(kv_bytes // block_bytes, max_rows * blocks_of(context_tokens)))
    weight_bytes = sum(p.numel() * p.element_size() for p in (*model.parameters(), *model.buffers()))
    threads = torch.get_num_threads()
    side_by_side = device == "cpu" and weight_bytes <= SIDE_BY_SIDE_BYTES
    return Paged(model, device, count, Workers(threads if side_by_side else 1, threads))


class Paged:
    """Rows side by side, their keys and values in `count` blocks. `workers` share a pass, each some of its rows."""

    def __init__(self, model: Any, device: str, count: int, workers: Workers) -> None:
        self.blocks = Blocks(count)
        self._model = model
        self._device = device
        self._workers = workers
        self._pools: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, segments: Sequence[Segment], adapters: Sequence[lora.Mixed] | None) -> torch.Tensor:
        """See Forward."""
        shares = _shares(segments, self._workers.count)
        if len(shares) == 1:
            return self._pass(segments, adapters)
        starts = list(accumulate((s.tokens for s in segments), initial=0))
        passes = [
            ([segments[n] for n in share], None if adapters is None else _moved(adapters, [slice(*starts[n : n + 2]) for n in share]))
            for share in shares
        ]
        logits_BV = torch.cat(list(self._workers.map(lambda one: self._pass(*one), passes)))
        rows = [n for share in shares for n in share if segments[n].last]
        return logits_BV[torch.tensor(np.argsort(rows), device=logits_BV.device)]

    @torch.inference_mode()
    def _pass(self, segments: Sequence[Segment], adapters: Sequence[lora.Mixed] | None) -> torch.Tensor:
        """Logits of the rows whose segment is the last; no row here reads what another one writes in the same pass."""
        ids, positions, places, unwritten, last = [], [], [], [], []
        for segment in segments:
            start, end = segment.row.computed, segment.row.computed + segment.tokens
            ids += segment.row.ids[start:end]
            positions.append(np.arange(start, end))
            places.append(_places(segment.row, start, end))
            unwritten.append(_unwritten(segment.row, start, end))
            if segment.last:
                last.append(len(ids) - 1)
        written_N = torch.from_numpy(np.concatenate(places)).to(self._device)
        unwritten_N = torch.from_numpy(np.concatenate(unwritten)).to(self._device)
        parts = _parts(segments, self._device)

        def attend(
            layer: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rest: dict[str, Any]
        ) -> torch.Tensor:
            scaling, window = attention.layer_terms(query, value, rest)
            keys_KPD, values_KPD = self._pool(layer, key, value)
            keys_KPD.index_copy_(1, written_N, key[0])
            values_KPD.index_copy_(1, written_N, value[0])
            if len(unwritten_N):
                values_KPD.index_fill_(1, unwritten_N, 0)
            out = query.new_empty(query.shape[2], query.shape[1], value.shape[3])
            for part in parts:
                out[part.tokens] = part.attend(query[0, :, part.tokens], keys_KPD, values_KPD, scaling, window)
            return out.unsqueeze(0)

        with attention.attending(attend), nullcontext() if adapters is None else lora.mixed(adapters):
            logits_BV: torch.Tensor = self._model(
                input_ids=torch.tensor([ids], device=self._device),
                position_ids=torch.from_numpy(np.concatenate(positions)).unsqueeze(0).to(self._device),
                use_cache=False,
                logits_to_keep=torch.tensor(last, device=self._device, dtype=torch.long),
            ).logits[0]
        return logits_BV.float()

    def _pool(self, layer: nn.Module, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A layer's keys and values (K P D). On a CPU the system gives memory only to what has been written."""
        if layer not in self._pools:
            places = self.blocks.count * BLOCK_TOKENS
            pool = _zeros(key, key.shape[1], places, key.shape[3]), _zeros(value, value.shape[1], places, value.shape[3])
            self._pools.setdefault(layer, pool)  # two workers may come here together
        return self._pools[layer]


def _shares(segments: Sequence[Segment], workers: int) -> list[list[int]]:
    """Segments by their number, shared out so that each worker has about as many tokens: chunks first, the longest before others.

    Rows of one token go where there is room left, in their order, so that those of equal length stay together.
    """
    workers = max(1, min(workers, sum(s.tokens for s in segments) // LEAST_TOKENS))
    shares: list[list[int]] = [[] for _ in range(workers)]
    tokens, steps = [0] * workers, [0] * workers
    for n in sorted(range(len(segments)), key=lambda n: -segments[n].tokens):
        least = tokens.index(min(tokens))
        tokens[least] += segments[n].tokens
        if segments[n].tokens == 1:
            steps[least] += 1
        else:
            shares[least].append(n)
    ends = accumulate(steps)
    shares = [[*range(end - count, end), *sorted(share)] for share, count, end in zip(shares, steps, ends, strict=True)]
    return [share for share in shares if share]


def _moved(parts: Sequence[lora.Mixed], spans: Sequence[slice]) -> list[lora.Mixed]:
    """What `parts` say of the tokens in `spans`, when these are laid side by side."""
    found, at = [], 0
    for span in spans:
        for part in parts:
            start, end = max(part.tokens.start, span.start), min(part.tokens.stop, span.stop)
            if start < end:
                scale_NR = part.scale_NR
                if len(scale_NR) > 1:
                    scale_NR = scale_NR[start - part.tokens.start : end - part.tokens.start]
                moved = slice(at + start - span.start, at + end - span.start)
                found.append(lora.Mixed(moved, part.names, part.ranks, scale_NR))
        at += span.stop - span.start
    return found


def _zeros(like: torch.Tensor, *sizes: int) -> torch.Tensor:
    """Zeros that take no memory until they are written, on a CPU: numpy asks the system for zeros, torch would write them.

    Zeros, since the end of a block is multiplied by a share of 0 before it is written, and what new memory holds may be NaN.
    """
    if like.device.type != "cpu":
        return like.new_zeros(sizes)
    held = np.zeros(math.prod(sizes) * like.element_size(), dtype=np.uint8)
    return torch.from_numpy(held).view(like.dtype).view(sizes)


def _places(row: Row, start: int, end: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Where in the pool the row's tokens from `start` to `end` are."""
    assert row.holding is not None
    at = np.arange(start, end)
    first = start // BLOCK_TOKENS
    blocks = np.array(row.holding.blocks[first : blocks_of(end)], dtype=np.int64)
    return blocks[at // BLOCK_TOKENS - first] * BLOCK_TOKENS + at % BLOCK_TOKENS


def _unwritten(row: Row, start: int, end: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The rest of a block that is begun with these tokens.

    It is multiplied by a share of 0 until it is written, and what another row left there may not be finite.
    """
    begun = (end - 1) // BLOCK_TOKENS * BLOCK_TOKENS >= start
    return _places(row, end, blocks_of(end) * BLOCK_TOKENS) if begun else np.zeros(0, dtype=np.int64)


class _Part(Protocol):
    """Tokens side by side whose attention is computed together."""

    tokens: slice

    def attend(
        self, q_HND: torch.Tensor, keys_KPD: torch.Tensor, values_KPD: torch.Tensor, scaling: float, window: int | None
    ) -> torch.Tensor:
        """Their output, N H D."""
        ...


@dataclass(slots=True)
class _Steps:
    """One token each of B rows, of about equal length: all rows are padded to as many blocks, of S keys together.

    A row is padded with a block of its own: what it doesn't see is still multiplied, by 0, and must be finite if the row is.
    """

    tokens: slice
    blocks_BJ: torch.Tensor
    lengths_B: torch.Tensor
    _unseen: dict[int | None, torch.Tensor] = field(default_factory=dict)

    def attend(
        self, q_HND: torch.Tensor, keys_KPD: torch.Tensor, values_KPD: torch.Tensor, scaling: float, window: int | None
    ) -> torch.Tensor:
        """See _Part."""
        B, K = len(self.blocks_BJ), keys_KPD.shape[0]
        k_KBSD, v_KBSD = (
            pool.view(K, -1, BLOCK_TOKENS * pool.shape[2]).index_select(1, self.blocks_BJ.view(-1)).view(K, B, -1, pool.shape[2])
            for pool in (keys_KPD, values_KPD)
        )
        q_KBGD = (q_HND * scaling).view(K, -1, B, q_HND.shape[2]).transpose(1, 2)
        scores = q_KBGD @ k_KBSD.transpose(-1, -2)
        scores.masked_fill_(self._unseen_keys(window).unsqueeze(1), float("-inf"))
        out_KBGD = torch.softmax(scores, -1) @ v_KBSD
        return out_KBGD.transpose(0, 1).reshape(B, q_HND.shape[0], -1)

    def _unseen_keys(self, window: int | None) -> torch.Tensor:
        """What lies beyond a row's end, or before the window that its last token sees."""
        if window not in self._unseen:
            at_S = torch.arange(self.blocks_BJ.shape[1] * BLOCK_TOKENS, device=self.blocks_BJ.device)
            unseen = at_S >= self.lengths_B[:, None]
            if window is not None:
                unseen |= at_S < self.lengths_B[:, None] - window
            self._unseen[window] = unseen
        return self._unseen[window]


@dataclass(slots=True)
class _Chunk:
    """Some tokens of one row, of which `first` stand before."""

    tokens: slice
    places_S: torch.Tensor
    first: int

    def attend(
        self, q_HND: torch.Tensor, keys_KPD: torch.Tensor, values_KPD: torch.Tensor, scaling: float, window: int | None
    ) -> torch.Tensor:
        """See _Part."""
        q, k, v = (x.unsqueeze(0) for x in (q_HND, keys_KPD.index_select(1, self.places_S), values_KPD.index_select(1, self.places_S)))
        if self.first == 0 and window is None:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True)
        else:
            out = attention.attend(q, k, v, scaling, self.first, window)
        return out[0].transpose(0, 1)


def _parts(segments: Sequence[Segment], device: str) -> list[_Part]:
    """Rows of one token by the power of two of their blocks, so that padding at most doubles them; chunks one by one."""
    parts: list[_Part] = []
    at, steps = 0, list(takewhile(lambda s: s.tokens == 1, segments))
    while at < len(steps):
        size = blocks_of(steps[at].row.computed + 1).bit_length()
        end = at
        while end < len(steps) and blocks_of(steps[end].row.computed + 1).bit_length() == size:
            end += 1
        parts.append(_steps(steps[at:end], slice(at, end), device))
        at = end
    for segment in segments[len(steps) :]:
        places = torch.from_numpy(_places(segment.row, 0, segment.row.computed + segment.tokens)).to(device)
        parts.append(_Chunk(slice(at, at + segment.tokens), places, segment.row.computed))
        at += segment.tokens
    return parts


def _steps(segments: Sequence[Segment], tokens: slice, device: str) -> _Steps:
    lengths = [s.row.computed + 1 for s in segments]
    blocks = np.zeros((len(segments), blocks_of(max(lengths))), dtype=np.int64)
    for row, (segment, length) in enumerate(zip(segments, lengths, strict=True)):
        assert segment.row.holding is not None
        blocks[row] = segment.row.holding.blocks[0]
        blocks[row, : blocks_of(length)] = segment.row.holding.blocks[: blocks_of(length)]
    return _Steps(tokens, torch.from_numpy(blocks).to(device), torch.tensor(lengths, device=device))


class InTurns:
    """Row after row, each with transformers' own cache: right for any family, and no faster than one row at a time."""

    def __init__(self, model: Any, device: str, count: int) -> None:
        self.blocks = Blocks(count, keep=False)
        self._model = model
        self._device = device
        # transformers 5 renames the argument family by family, and drops the old name in 5.40
        known = inspect.signature(model.forward).parameters
        self._argument = "cache" if "cache" in known else "past_key_values"

    @torch.inference_mode()
    def __call__(self, segments: Sequence[Segment], adapters: Sequence[lora.Mixed] | None) -> torch.Tensor:
        """See Forward."""
        logits, at = [], 0
        for segment in segments:
            mine = None if adapters is None else _moved(adapters, [slice(at, at + segment.tokens)])
            logits_V = self._pass(segment, mine)
            at += segment.tokens
            if segment.last:
                logits.append(logits_V)
        return torch.stack(logits).float() if logits else torch.empty(0)

    def _pass(self, segment: Segment, adapters: Sequence[lora.Mixed] | None) -> torch.Tensor:
        row, end = segment.row, segment.row.computed + segment.tokens
        if row.computed == 0:
            row.cache = DynamicCache(config=self._model.config)
        with nullcontext() if adapters is None else lora.mixed(adapters):
            logits_V: torch.Tensor = self._model(
                input_ids=torch.tensor([row.ids[row.computed : end]], device=self._device),
                position_ids=torch.arange(row.computed, end, device=self._device).unsqueeze(0),
                use_cache=True,
                logits_to_keep=1,
                **{self._argument: row.cache},
            ).logits[0, -1]
        return logits_V
