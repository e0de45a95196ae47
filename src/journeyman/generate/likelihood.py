"""How probable a model holds given tokens: the log-probability of rows, each by itself.

Shapes: B rows, T tokens, N learned tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from journeyman.text.batch import micro_batches
from journeyman.text.encode import Encoded
from journeyman.train.loss import hidden_states, output_logits

BATCH_TOKENS = 4096
"""Padded tokens read together."""

TILE = 512
"""So many tokens' logits are in memory together."""


@dataclass(frozen=True, slots=True)
class Likelihood:
    """One row: the summed log-probability of its learned tokens in nats, their number, and how many were the top guess."""

    log_probability: float
    tokens: int
    correct: int


def likelihoods(
    model: nn.Module, rows: Sequence[Encoded], *, context_tokens: int, device: str = "cpu"
) -> list[Likelihood]:
    """The likelihood of each row's learned tokens, in the order of the rows. No row may be longer than the context."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]), reverse=True)  # as micro_batches sorts
    out: dict[int, Likelihood] = {}
    places = iter(order)
    for micro in micro_batches([rows[i] for i in order], BATCH_TOKENS, context_tokens=context_tokens):
        ids_BT = torch.from_numpy(micro.ids_BT).to(device)
        learned_BT = torch.from_numpy(micro.weights_BT).to(device)[:, 1:] > 0
        for likelihood in _of_batch(model, ids_BT, learned_BT):
            out[next(places)] = likelihood
    return [out[i] for i in range(len(rows))]


@torch.inference_mode()
def _of_batch(model: nn.Module, ids_BT: torch.Tensor, learned_BT: torch.Tensor) -> Iterator[Likelihood]:
    hidden_ND = hidden_states(model, ids_BT[:, :-1])[learned_BT]
    targets_N = ids_BT[:, 1:][learned_BT]
    picked, right = [targets_N.new_zeros(0, dtype=torch.float32)], [targets_N.new_zeros(0, dtype=torch.bool)]
    for start in range(0, len(targets_N), TILE):
        logits_NV = output_logits(model, hidden_ND[start : start + TILE]).float()
        targets = targets_N[start : start + TILE]
        picked.append(torch.log_softmax(logits_NV, -1).gather(-1, targets[:, None])[:, 0])
        right.append(logits_NV.argmax(-1) == targets)
    lengths: list[int] = learned_BT.sum(-1).tolist()
    by_row = zip(torch.split(torch.cat(picked), lengths), torch.split(torch.cat(right), lengths), strict=True)
    for log_probabilities, guesses in by_row:
        yield Likelihood(float(log_probabilities.double().sum()), len(guesses), int(guesses.sum()))


@torch.inference_mode()
def prompt_logits(model: nn.Module, ids: Sequence[int], *, device: str = "cpu") -> Iterator[torch.Tensor]:
    """The logits (V) of each token of a prompt but the first; only a tile of them is in memory together."""
    if len(ids) < 2:
        return
    hidden_TD = hidden_states(model, torch.tensor([ids[:-1]], device=device))[0]
    for start in range(0, len(hidden_TD), TILE):
        yield from output_logits(model, hidden_TD[start : start + TILE])
