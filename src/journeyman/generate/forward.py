"""One pass of the model over the tokens of many rows: of some the next token, of others a part of the prompt.

`Paged` lays all tokens side by side in one sequence, so that nothing is padded and every weight is read once; its
attention reads keys and values from blocks of one pool. `InTurns` passes row after row, for families whose attention is
not known here.

Shapes: B rows, N tokens side by side, H query heads, K key heads, J blocks of the longest row, S keys in them, P places in
the pool, D head width, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from transformers import DynamicCache

from journeyman.generate.blocks import BLOCK_TOKENS, Blocks, blocks_of
from journeyman.generate.decoder import Decoder, Modules, lean
from journeyman.generate.lanes import Lanes, zeros
from journeyman.generate.parts import parts, places_of
from journeyman.generate.row import Row, Segment
from journeyman.plan.rules import PACKED_KINDS
from journeyman.train import attention, lora
from journeyman.train.workers import Workers

SIDE_BY_SIDE_BYTES = 64 * 2**20
"""Weights up to this size are read so quickly that a pass of them is shared out by rows, one part a core: each product is too
small to be spread over cores. Beyond it a pass of few tokens takes as long as reading the weights, which is done once."""

LEAST_TOKENS = 8
"""A part of fewer tokens is not worth its thread."""


class Forward(Protocol):
    """A model that computes segments, and the blocks of its rows."""

    blocks: Blocks

    def __call__(self, segments: Sequence[Segment], adapters: Sequence[lora.Mixed] | None) -> torch.Tensor:
        """Logits (B V, fp32) of the rows whose segment is the last, in their order.

        `segments` are in an order that `arrange` gave; `adapters` says which tokens use which, None leaves the module as it stands.
        """
        ...

    def arrange(self, segments: Sequence[Segment]) -> list[Segment]:
        """The segments of the next pass in the order in which it computes them: those of one token first."""
        ...


def make_forward(model: Any, *, device: str, kv_bytes: int, context_tokens: int, max_rows: int, own: bool) -> Forward:
    """The fastest way that is known to be exact for the model's family. `own` is false where somebody else changes the module."""
    if model.config.model_type not in PACKED_KINDS or model.config._attn_implementation not in ("sdpa", attention.NAME):
        return InTurns(model, device, max_rows * blocks_of(context_tokens))
    model.set_attn_implementation(attention.NAME)
    config = model.config.get_text_config()  # Gemma 3 from 4B on sees pictures too, and keeps the decoder's sizes one level down
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    block_bytes = 2 * BLOCK_TOKENS * heads * width * config.num_hidden_layers * next(model.parameters()).element_size()
    # Never less than one whole context, or the longest answer could not be written.
    count = max(blocks_of(context_tokens), min(kv_bytes // block_bytes, max_rows * blocks_of(context_tokens)))
    threads = torch.get_num_threads()
    workers = Workers(threads if device == "cpu" and is_small(model) else 1, threads)
    decoder = lean(model) if own else None
    return Paged(decoder or Modules(model), device, count, workers, Lanes(max_rows, block_bytes // BLOCK_TOKENS))


def is_small(model: nn.Module) -> bool:
    """Whether a pass of few tokens is too short to be spread over cores: see SIDE_BY_SIDE_BYTES."""
    return sum(p.numel() * p.element_size() for p in (*model.parameters(), *model.buffers())) <= SIDE_BY_SIDE_BYTES


class Paged:
    """Rows side by side, their keys and values in `count` blocks. `workers` share a pass, each some of its rows."""

    def __init__(self, decoder: Decoder, device: str, count: int, workers: Workers, lanes: Lanes) -> None:
        self.blocks = Blocks(count)
        self._decoder = decoder
        self._device = device
        self._workers = workers
        self._lanes = lanes
        self._pools: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}

    def arrange(self, segments: Sequence[Segment]) -> list[Segment]:
        """See Forward."""
        return [*self._lanes.arrange([s for s in segments if s.tokens == 1]), *(s for s in segments if s.tokens > 1)]

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
        ids: list[int] = []
        positions: list[int] = []
        places, unwritten, last = [], [], []
        for segment in segments:
            start, end = segment.row.computed, segment.row.computed + segment.tokens
            ids += segment.row.ids[start:end]
            positions += range(start, end)
            places.append(places_of(segment.row, start, end))
            unwritten.append(_unwritten(segment.row, start, end))
            if segment.last:
                last.append(len(ids) - 1)
        written_N = torch.from_numpy(np.concatenate(places)).to(self._device)
        unwritten_N = torch.from_numpy(np.concatenate(unwritten)).to(self._device)
        together = parts(segments, self._lanes, self._device)

        def attend(
            layer: nn.Module, q_NHD: torch.Tensor, k_NKD: torch.Tensor, v_NKD: torch.Tensor, scaling: float, window: int | None
        ) -> torch.Tensor:
            pool_KPD = keys_KPD, values_KPD = self._pool(layer, k_NKD, v_NKD)
            keys_KPD.index_copy_(1, written_N, k_NKD.transpose(0, 1))
            values_KPD.index_copy_(1, written_N, v_NKD.transpose(0, 1))
            if len(unwritten_N):
                values_KPD.index_fill_(1, unwritten_N, 0)
            found = [
                part.attend(layer, q_NHD[part.tokens], (k_NKD[part.tokens], v_NKD[part.tokens]), pool_KPD, scaling, window)
                for part in together
            ]
            return found[0] if len(found) == 1 else torch.cat(found)

        ids_N, positions_N, last_B = (torch.tensor(of, device=self._device, dtype=torch.long) for of in (ids, positions, last))
        return self._decoder(ids_N, positions_N, last_B, attend, adapters).float()

    def _pool(self, layer: nn.Module, k_NKD: torch.Tensor, v_NKD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A layer's keys and values (K P D). On a CPU the system gives memory only to what has been written."""
        if layer not in self._pools:
            places = self.blocks.count * BLOCK_TOKENS
            keys, values = (zeros(like, like.shape[1], places, like.shape[2]) for like in (k_NKD, v_NKD))
            self._pools.setdefault(layer, (keys, values))  # two workers may come here together
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


def _unwritten(row: Row, start: int, end: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The rest of a block that is begun with these tokens.

    It is multiplied by a share of 0 until it is written, and what another row left there may not be finite.
    """
    begun = (end - 1) // BLOCK_TOKENS * BLOCK_TOKENS >= start
    return places_of(row, end, blocks_of(end) * BLOCK_TOKENS) if begun else np.zeros(0, dtype=np.int64)


class InTurns:
    """Row after row, each with transformers' own cache: right for any family, and no faster than one row at a time."""

    def __init__(self, model: Any, device: str, count: int) -> None:
        self.blocks = Blocks(count, keep=False)
        self._model = model
        self._device = device
        # transformers 5 renames the argument family by family, and drops the old name in 5.40
        known = inspect.signature(model.forward).parameters
        self._argument = "cache" if "cache" in known else "past_key_values"

    def arrange(self, segments: Sequence[Segment]) -> list[Segment]:
        """See Forward."""
        return sorted(segments, key=lambda s: s.tokens > 1)

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
