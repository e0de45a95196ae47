"""The loss: a sum over learned tokens, and how many there were. Whoever steps divides once.

Shapes: B rows, T tokens, N learned tokens, D width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any, NamedTuple
from weakref import WeakSet

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  (the field's usual name)

from journeyman.plan.memory import tile_rows
from journeyman.records import Place
from journeyman.text.encode import Encoded
from journeyman.text.shared import SHORTEST_SHARED, SharedBatch, shared_batches
from journeyman.train import attention, varlen
from journeyman.train.layers import decoder_layers


class TokenLoss(NamedTuple):
    """The cross-entropy of the learned tokens, in nats."""

    sum: torch.Tensor
    learned: int
    """How many tokens were learned."""

    correct: int
    """How many of them were the top guess."""

    losses_N: torch.Tensor
    """The loss of each, row by row, or of each prediction of a shared batch; without a gradient."""


def token_loss(model: nn.Module, ids_BT: torch.Tensor, weights_BT: torch.Tensor) -> TokenLoss:
    """Cross-entropy of the learned tokens.

    Token t is predicted from the hidden state of token t - 1, so the first token of a row is never learned. Only
    hidden states that predict a learned token go through the output head: logits of prompt and padding are never
    computed. Rows are padded on the right, which a causal model never looks at, so there is no attention mask.
    """
    learned_BT = weights_BT[:, 1:] > 0
    hidden_ND = hidden_states(model, ids_BT[:, :-1])[learned_BT]
    targets_N = ids_BT[:, 1:][learned_BT]
    return _loss_at(model, hidden_ND, targets_N, torch.ones(len(targets_N), device=targets_N.device))


def shared_loss(model: nn.Module, batch: SharedBatch, attend: attention.Attend | None = None) -> TokenLoss:
    """What `token_loss` gives for the rows of a shared batch, each learned token counted once for every row.

    `attend` computes attention, else what is quickest on the model's device: blocks on a CPU, segments on a GPU.
    """
    device = next(model.parameters()).device
    if model.config._attn_implementation != attention.NAME:  # type: ignore[union-attr]
        raise NotImplementedError("packed rows need train/attention.py, which this model does not use")

    def there(values: np.ndarray[Any, Any]) -> torch.Tensor:
        return torch.from_numpy(values).to(device)

    if attend is None:
        attend = attention.in_blocks(batch.blocks) if device.type == "cpu" else varlen.attending(batch.spans, device)
    with attention.attending(attend), _last_layer_at(model, there(batch.needed_K)):
        hidden_ND = hidden_states(model, there(batch.ids_N).unsqueeze(0), there(batch.positions_N).unsqueeze(0))[0]
    sources_M, targets_M, counts_M = there(batch.sources_M), there(batch.targets_M), there(batch.counts_M)
    return _loss_at(model, hidden_ND.index_select(0, sources_M), targets_M, counts_M)


_needed: ContextVar[torch.Tensor | None] = ContextVar("the places whose hidden states a loss is taken at", default=None)
_places: ContextVar[int] = ContextVar("how many places the sequence has")
_hooking = Lock()
_narrowed: WeakSet[nn.Module] = WeakSet()


@contextmanager
def _last_layer_at(model: nn.Module, needed_K: torch.Tensor) -> Iterator[None]:
    """Within, the last layer's feed-forward is computed at these places of the sequence only.

    The others keep what attention gave them. No later layer attends to them and no loss is taken there, so that losses
    and gradients stay as they are, and in a model of few layers a tenth of the arithmetic is saved. Which places is a matter
    of the context, since several micro-batches may pass through one model at a time.
    """
    layers = decoder_layers(model)
    mlp = None if layers is None else getattr(layers[-1], "mlp", None)
    if mlp is not None:
        with _hooking:
            if mlp not in _narrowed:
                mlp.register_forward_pre_hook(_narrow)
                mlp.register_forward_hook(_widen)
                _narrowed.add(mlp)
    token = _needed.set(needed_K)
    try:
        yield
    finally:
        _needed.reset(token)


def _narrow(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
    if (needed_K := _needed.get()) is None:
        return None
    _places.set(inputs[0].shape[1])
    return (inputs[0].index_select(1, needed_K), *inputs[1:])


def _widen(_: nn.Module, __: Any, out_1KD: torch.Tensor) -> torch.Tensor | None:
    if (needed_K := _needed.get()) is None:
        return None
    out_1ND = out_1KD.new_zeros(1, _places.get(), out_1KD.shape[-1])
    return out_1ND.index_copy(1, needed_K, out_1KD)


def _loss_at(
    model: nn.Module, hidden_ND: torch.Tensor, targets_N: torch.Tensor, counts_N: torch.Tensor
) -> TokenLoss:
    head = [p for p in model.get_output_embeddings().parameters() if p.requires_grad]  # type: ignore[operator]
    loss, correct, losses_N = TiledLoss.apply(hidden_ND, model, targets_N, counts_N, *head)  # type: ignore[no-untyped-call]
    return TokenLoss(loss, int(counts_N.sum()), int(correct), losses_N)


def plain_loss(model: nn.Module, hidden_ND: torch.Tensor, targets_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each target's cross-entropy in nats, and which targets were the top guess: what `TiledLoss` counts and sums."""
    logits_NV = output_logits(model, hidden_ND).float()
    return F.cross_entropy(logits_NV, targets_N, reduction="none"), logits_NV.detach().argmax(-1) == targets_N


TILE_STEP = 16


class TiledLoss(torch.autograd.Function):
    """`plain_loss` over tiles of rows: the logits of all tokens are never in memory together.

    The gradient is computed with each tile, while its logits are at hand, so that backward only scales it; the
    losses and gradients of tiles are sums (after Hsu et al. 2024, Liger Kernel, arXiv:2410.10989, section 3.2).
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: torch.Tensor,
        model: nn.Module,
        targets_N: torch.Tensor,
        counts_N: torch.Tensor,
        *head: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Loss and correct guesses, target n counted `counts_N[n]` times, and the loss of each target.

        Keeps the gradients of the hidden states and of the head's trained weights.
        """
        vocab = model.get_output_embeddings().weight.shape[0]  # type: ignore[operator]
        rows = tile_rows(vocab, gpu=hidden_ND.is_cuda)
        learned = len(targets_N)
        # Few different shapes, as in text/batch.py; the rows that fill the last tile up count 0 times.
        filling = -learned % TILE_STEP
        hidden_ND = F.pad(hidden_ND, (0, 0, 0, filling))
        targets_N, counts_N = F.pad(targets_N, (0, filling)), F.pad(counts_N, (0, filling))
        needed = any(ctx.needs_input_grad)
        loss, correct = hidden_ND.new_zeros((), dtype=torch.float32), counts_N.new_zeros(())
        losses_N = hidden_ND.new_empty(len(targets_N), dtype=torch.float32)
        grad_ND = torch.empty_like(hidden_ND) if needed else None
        grads_head = [torch.zeros_like(weight) for weight in head] if needed else []
        for start in range(0, len(targets_N), rows):
            tile = slice(start, start + rows)
            with torch.set_grad_enabled(needed):
                tile_ND = hidden_ND[tile].detach().requires_grad_(needed)
                tile_losses, tile_right = plain_loss(model, tile_ND, targets_N[tile])
                tile_loss = (tile_losses * counts_N[tile]).sum()
            losses_N[tile] = tile_losses.detach()
            loss += tile_loss.detach()
            correct += (tile_right * counts_N[tile]).sum()
            if grad_ND is not None:
                grad_ND[tile], *grads = torch.autograd.grad(tile_loss, [tile_ND, *head])
                for total, part in zip(grads_head, grads, strict=True):
                    total += part
        ctx.grads = (None if grad_ND is None else grad_ND[:learned], *grads_head)
        losses_N = losses_N[:learned]
        ctx.mark_non_differentiable(correct, losses_N)
        return loss, correct, losses_N

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The kept gradients, scaled."""
        hidden, *head = (None if kept is None else kept * grad.to(kept.dtype) for kept in ctx.grads)
        return hidden, None, None, None, *head


def hidden_states(
    model: nn.Module, ids_BT: torch.Tensor, positions_BT: torch.Tensor | None = None
) -> torch.Tensor:
    """The decoder's last hidden states, after its final norm. Without positions they count from 0."""
    decoder = model.base_model
    out: torch.Tensor = decoder(input_ids=ids_BT, position_ids=positions_BT, use_cache=False).last_hidden_state  # type: ignore[operator]
    return out


def output_logits(model: nn.Module, hidden_ND: torch.Tensor) -> torch.Tensor:
    """The output head with the three corrections transformers' families make to logits.

    `check_head` holds this equal to the model's own forward before a training starts.
    """
    config = model.config
    logits_NV: torch.Tensor = model.get_output_embeddings()(hidden_ND)  # type: ignore[operator]
    if scale := getattr(config, "logit_scale", None):  # Cohere multiplies
        logits_NV = logits_NV * scale
    if scaling := getattr(config, "logits_scaling", None):  # Granite divides
        logits_NV = logits_NV / scaling
    if cap := getattr(config, "final_logit_softcapping", None):  # Gemma 2 squashes
        logits_NV = torch.tanh(logits_NV / cap) * cap
    return logits_NV


@torch.no_grad()
def check_head(model: nn.Module) -> float:
    """Largest difference between `output_logits(hidden_states(...))` and the model's own logits on a probe.

    Zero, up to rounding, for every family we know; a family with another correction shows up here and is refused
    instead of being trained on a wrong loss.
    """
    vocab = int(model.get_output_embeddings().weight.shape[0])  # type: ignore[operator]
    device = next(model.parameters()).device
    ids_BT = (torch.arange(8, device=device) * 7919 % vocab).unsqueeze(0)
    ours = output_logits(model, hidden_states(model, ids_BT)).float()
    theirs = model(input_ids=ids_BT, use_cache=False).logits.float()
    return float((ours - theirs).abs().max())


@torch.no_grad()
def check_packed(model: nn.Module) -> float:
    """Largest relative difference between the losses of two packed rows with one beginning and of each by itself.

    Zero where the rows' own loss is not finite; infinite where the model does not attend through train/attention.py, or asks it for what it does not compute.
    """
    rows = probe_rows(model)
    (batch,) = shared_batches(rows, 4 * len(rows[0]))
    try:
        together = shared_loss(model, batch).sum
    except NotImplementedError:
        return math.inf
    device = next(model.parameters()).device
    alone = torch.stack([token_loss(model, *(x.to(device) for x in _alone(row))).sum for row in rows]).sum()
    if not torch.isfinite(alone):
        return 0.0  # nothing can be compared; the first step that computes with such weights is refused by name
    return float(abs(together - alone) / abs(alone))


def probe_rows(model: nn.Module) -> list[Encoded]:
    """Two short rows with one beginning, all of whose tokens are learned."""
    vocab = int(model.get_output_embeddings().weight.shape[0])  # type: ignore[operator]
    return [_probe_row(vocab, ending) for ending in (1, 2)]


def _probe_row(vocab: int, ending: int) -> Encoded:
    ids = np.arange(SHORTEST_SHARED + 8, dtype=np.int32) * 7919 % vocab
    ids[SHORTEST_SHARED:] = (ids[SHORTEST_SHARED:] + ending) % vocab
    return Encoded(ids, np.ones(len(ids), dtype=np.float32), Place("probe", ending))


def _alone(row: Encoded) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(row.ids_T[None].astype(np.int64)), torch.from_numpy(row.weights_T[None])
