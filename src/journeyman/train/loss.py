"""The loss: a sum over learned tokens, and how many there were. Whoever steps divides once.

Shapes: B rows, T tokens, N learned tokens, D width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  (the field's usual name)


def token_loss(model: nn.Module, ids_BT: torch.Tensor, weights_BT: torch.Tensor) -> tuple[torch.Tensor, int, int]:
    """Cross-entropy of the learned tokens: (sum in nats, number of learned tokens, how many were the top guess).

    Token t is predicted from the hidden state of token t - 1, so the first token of a row is never learned. Only
    hidden states that predict a learned token go through the output head: logits of prompt and padding are never
    computed. Rows are padded on the right, which a causal model never looks at, so there is no attention mask.
    """
    learned_BT = weights_BT[:, 1:] > 0
    hidden_BTD = hidden_states(model, ids_BT[:, :-1])
    logits_NV = output_logits(model, hidden_BTD[learned_BT]).float()
    targets_N = ids_BT[:, 1:][learned_BT]
    loss = F.cross_entropy(logits_NV, targets_N, reduction="sum")
    correct = int((logits_NV.detach().argmax(-1) == targets_N).sum())
    return loss, int(targets_N.numel()), correct


def hidden_states(model: nn.Module, ids_BT: torch.Tensor) -> torch.Tensor:
    """The decoder's last hidden states, after its final norm."""
    decoder = model.base_model
    out: torch.Tensor = decoder(input_ids=ids_BT, use_cache=False).last_hidden_state  # type: ignore[operator]
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
