"""Decoder layers compiled by torch: what stands between the products is done in few passes over memory instead of many.

On a GPU a training in eager operations spends a third of its time on norms, rotations and gates, each of which reads and
writes all tokens. Layers have one program in common, whose attention stays a call of its own (train/varlen.py). Compiling takes
a minute or so: the plan asks for it where a training is long enough.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import AttentionInterface

from journeyman.train import attention
from journeyman.train.layers import decoder_layers


def compile_layers(model: nn.Module, *, backend: str = "inductor") -> int:
    """Compile the layers but the last, whose feed-forward sees other numbers of tokens; how many there are.

    Numbers of tokens are left open, so that micro-batches of any size pass through the same program. Nothing is compiled in
    a family whose layers are not known.
    """
    layers = list(decoder_layers(model) or ())[:-1]
    AttentionInterface.register(attention.NAME, torch.compiler.disable(attention.attend_in_model))  # type: ignore[no-untyped-call]
    for layer in layers:
        layer.compile(backend=backend, dynamic=True)
    return len(layers)
