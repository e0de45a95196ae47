"""Bits per byte of text the model has not seen, by source.

Bits per byte, and not loss per token, because it can be compared between tokenizers.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from starter.corpus import Row
from starter.render import TRAINED, render
from starter.vocabulary import SPECIAL_TOKENS

Logits = Callable[[Tensor], Tensor]
"""From ids of shape (batch, time) to logits of shape (batch, time, vocabulary)."""


def heldout_rows(folder: Path, every: int = 1) -> list[Row]:
    """Every n-th row of text.jsonl and chat.jsonl; `group` is the kind."""
    rows = []
    for kind in ("text", "chat"):
        lines = (folder / f"{kind}.jsonl").read_text(encoding="utf-8").splitlines()
        for line in lines[::every]:
            fields = json.loads(line)
            rows.append(Row(fields["source"], kind, fields.get("text", ""), tuple(fields.get("messages", ()))))
    return rows


@torch.no_grad()
def log_probabilities(logits: Logits, sequences: Sequence[Sequence[int]], batch_tokens: int = 4096) -> list[list[float]]:
    """For each sequence, the log-probability of every id after the first; batched by length, padded on the right."""
    found: list[list[float]] = [[] for _ in sequences]
    order = sorted(range(len(sequences)), key=lambda n: len(sequences[n]))
    while order:
        size = max(1, min(len(order), batch_tokens // len(sequences[order[0]])))
        while size > 1 and size * len(sequences[order[size - 1]]) > batch_tokens:
            size -= 1
        chosen, order = order[:size], order[size:]
        ids = torch.zeros(size, len(sequences[chosen[-1]]), dtype=torch.long)
        for row, n in enumerate(chosen):
            ids[row, : len(sequences[n])] = torch.tensor(sequences[n])
        scores = -F.cross_entropy(logits(ids[:, :-1]).float().mT, ids[:, 1:], reduction="none")
        for row, n in enumerate(chosen):
            found[n] = scores[row, : len(sequences[n]) - 1].tolist()
    return found


def bits_per_byte(logits: Logits, tokenizer: Tokenizer, rows: Sequence[Row], context: int) -> dict[str, float]:
    """By source, by kind and "all". Only ordinary tokens count, not those of the format."""
    sequences = [[int(i) for i in ids & np.uint16(~TRAINED & 0xFFFF)][:context] for ids in render(rows, tokenizer)]
    bits: dict[str, float] = defaultdict(float)
    size: dict[str, int] = defaultdict(int)
    for row, ids, scores in zip(rows, sequences, log_probabilities(logits, sequences), strict=True):
        ordinary = [(i, s) for i, s in zip(ids[1:], scores, strict=True) if i >= len(SPECIAL_TOKENS)]
        for key in (row.source, row.group, "all"):
            bits[key] -= sum(s for _, s in ordinary) / math.log(2)
            size[key] += len(tokenizer.decode([i for i, _ in ordinary]).encode())
    return {key: round(bits[key] / size[key], 4) for key in sorted(bits)}
