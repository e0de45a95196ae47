"""The model's layers over tokens side by side: transformers' own modules, or the same in few steps.

A pass of a small model over some tens of tokens is mostly the way from one operation to the next: transformers takes about a
hundred a layer, each with a step or more of Python. `Lean` writes Llama's layer in twenty, with the modules' own weights.

Shapes: N tokens, B rows whose next token is wanted, C channels, H query heads, K key heads, D head width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  (the field's usual name)

from journeyman.generate.packed import PackedLinear, onednn_linear
from journeyman.train import attention, lora

Attend = Callable[[nn.Module, torch.Tensor, torch.Tensor, torch.Tensor, float, int | None], torch.Tensor]
"""A layer's attention: its module, queries (N H D), keys and values (N K D), scaling, window; its output is N H D."""

LEAN_KINDS = frozenset(("llama", "qwen2", "mistral"))
"""Families (`model_type`) whose layers differ in nothing but biases: x + Wo attention(norm x), then x + Wd (silu(Wg norm x) * Wu norm x)."""

HEAD_BYTES = 16 * 2**20
"""A packed copy of a head up to this size is held beside it; the head is often the embedding too, which must lie in its own order."""


class Decoder(Protocol):
    """A model's way from tokens to logits."""

    def __call__(
        self,
        ids_N: torch.Tensor,
        positions_N: torch.Tensor,
        last_B: torch.Tensor,
        attend: Attend,
        adapters: Sequence[lora.Mixed] | None,
    ) -> torch.Tensor:
        """Logits (B V) after the tokens `last_B`; `adapters` as in forward.py."""
        ...


class Modules:
    """transformers' modules as they stand."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(
        self,
        ids_N: torch.Tensor,
        positions_N: torch.Tensor,
        last_B: torch.Tensor,
        attend: Attend,
        adapters: Sequence[lora.Mixed] | None,
    ) -> torch.Tensor:
        """See Decoder."""

        def instead(
            layer: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rest: dict[str, Any]
        ) -> torch.Tensor:
            scaling, window = attention.layer_terms(query, value, rest)
            q_NHD, k_NKD, v_NKD = (x[0].transpose(0, 1) for x in (query, key, value))
            return attend(layer, q_NHD, k_NKD, v_NKD, scaling, window).unsqueeze(0)

        with attention.attending(instead), nullcontext() if adapters is None else lora.mixed(adapters):
            logits_BV: torch.Tensor = self._model(
                input_ids=ids_N.unsqueeze(0), position_ids=positions_N.unsqueeze(0), use_cache=False, logits_to_keep=last_B
            ).logits[0]
        return logits_BV


class Lean:
    """Llama's layers with the weights of `model`'s modules, read where they are in every pass. See `lean`."""

    def __init__(self, model: Any) -> None:
        self._body = model.model
        self._layers = [(layer, _window(layer.self_attn)) for layer in model.model.layers]
        head = model.lm_head
        small = head.weight.numel() * head.weight.element_size() <= HEAD_BYTES
        self._packed = any(isinstance(module, PackedLinear) for module in model.modules())
        self._head = PackedLinear(head) if self._packed and small else head

    def __call__(
        self,
        ids_N: torch.Tensor,
        positions_N: torch.Tensor,
        last_B: torch.Tensor,
        attend: Attend,
        adapters: Sequence[lora.Mixed] | None,
    ) -> torch.Tensor:
        """See Decoder."""
        mixed = adapters or ()
        more = _padding(len(ids_N)) if self._packed else 0
        x_NC = F.embedding(F.pad(ids_N, (0, more)), self._body.embed_tokens.weight)
        turns = _turns(self._body.rotary_emb, x_NC, F.pad(positions_N, (0, more)))
        attend = _of_first(len(ids_N), attend) if more else attend
        for layer, window in self._layers:
            x_NC = _attention(layer, x_NC, turns, window, attend, mixed)
            x_NC = _feed_forward(layer, x_NC, mixed)
        y_BC = _norm(self._body.norm, x_NC[last_B])
        return onednn_linear(y_BC, self._head.weight, self._head.bias) if self._packed else _linear(self._head, y_BC, ())


def lean(model: Any) -> Lean | None:
    """The model in few steps, where its layers are of the known kind and its linear layers plain or packed; else None."""
    config = model.config
    if config.model_type not in LEAN_KINDS or config.hidden_act != "silu":
        return None
    attentions = [layer.self_attn for layer in model.model.layers]
    linear = [m for layer in model.model.layers for m in layer.modules() if isinstance(m, nn.Linear)]
    plain = (
        all(type(one) in (nn.Linear, PackedLinear) for one in linear)
        and len(linear) == 7 * len(attentions)
        and 2 * len(model.model.rotary_emb.inv_freq) == attentions[0].head_dim
    )
    return Lean(model) if plain else None


def _padding(tokens: int) -> int:
    """How many tokens more are computed, and dropped, so that there are few different numbers of them.

    oneDNN makes a kernel for each shape it has not met, which takes as long as three products of 100 tokens, and keeps 1024: a
    model has seven products, and a pass some number of tokens up to a few hundred.
    """
    step = 8 if tokens <= 64 else 16 if tokens <= 256 else 64
    return -tokens % step if tokens > 8 else 0


def _of_first(count: int, attend: Attend) -> Attend:
    """Attention of the first `count` tokens; the others' output is 0."""

    def padded(
        layer: nn.Module, q_NHD: torch.Tensor, k_NKD: torch.Tensor, v_NKD: torch.Tensor, scaling: float, window: int | None
    ) -> torch.Tensor:
        out_NHD = attend(layer, q_NHD[:count], k_NKD[:count], v_NKD[:count], scaling, window)
        return F.pad(out_NHD, (0, 0, 0, 0, 0, len(q_NHD) - count))

    return padded


def _window(own: Any) -> int | None:
    """How many tokens a layer sees back; Qwen 2 says it by layer, Mistral for all."""
    window: int | None = getattr(own, "sliding_window", getattr(own.config, "sliding_window", None))
    return window


def _attention(
    layer: Any, x_NC: torch.Tensor, turns: tuple[torch.Tensor, torch.Tensor], window: int | None, attend: Attend, mixed: Sequence[lora.Mixed]
) -> torch.Tensor:
    own = layer.self_attn
    y_NC = _norm(layer.input_layernorm, x_NC)
    heads_NHD = torch.cat([_linear(one, y_NC, mixed) for one in (own.q_proj, own.k_proj, own.v_proj)], -1).view(len(x_NC), -1, own.head_dim)
    keys = own.config.num_key_value_heads
    turned_NHD = _turned(heads_NHD[:, :-keys], turns)
    out_NHD = attend(own, turned_NHD[:, :-keys], turned_NHD[:, -keys:], heads_NHD[:, -keys:], own.scaling, window)
    return _linear_onto(own.o_proj, out_NHD.reshape(len(x_NC), -1), x_NC, mixed)


def _feed_forward(layer: Any, x_NC: torch.Tensor, mixed: Sequence[lora.Mixed]) -> torch.Tensor:
    own = layer.mlp
    y_NC = _norm(layer.post_attention_layernorm, x_NC)
    gate = F.silu(_linear(own.gate_proj, y_NC, mixed), inplace=True)
    return _linear_onto(own.down_proj, gate.mul_(_linear(own.up_proj, y_NC, mixed)), x_NC, mixed)


def _norm(norm: Any, x_NC: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x_NC, (x_NC.shape[-1],), norm.weight, norm.variance_epsilon)


def _turns(rotary: Any, x_NC: torch.Tensor, positions_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of the tokens' positions (N 1 D); the first half of the sines negative, as it meets the second half of a head."""
    cos, sin = rotary(x_NC.unsqueeze(0), positions_N.unsqueeze(0))
    sin = torch.cat((-sin[0, :, : sin.shape[-1] // 2], sin[0, :, sin.shape[-1] // 2 :]), -1)
    return cos[0].unsqueeze(1), sin.unsqueeze(1)


def _turned(heads_NHD: torch.Tensor, turns: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotary positions (Su et al. 2021, arXiv:2104.09864), each half of a head turned with the other, as transformers has them."""
    first, second = heads_NHD.chunk(2, -1)
    return torch.addcmul(heads_NHD * turns[0], torch.cat((second, first), -1), turns[1])


def _linear(layer: Any, x_NC: torch.Tensor, mixed: Sequence[lora.Mixed]) -> torch.Tensor:
    if isinstance(layer, lora.LoraLinear):
        return layer.add_mixed(_linear(layer.base, x_NC, ()), x_NC, mixed)
    y: torch.Tensor = layer.forward(x_NC)
    return y


def _linear_onto(layer: Any, x_NC: torch.Tensor, residual_NO: torch.Tensor, mixed: Sequence[lora.Mixed]) -> torch.Tensor:
    if isinstance(layer, lora.LoraLinear):
        return layer.add_mixed(_linear_onto(layer.base, x_NC, residual_NO, ()), x_NC, mixed)
    if isinstance(layer, PackedLinear):
        return layer.onto(x_NC, residual_NO)
    y: torch.Tensor = layer.forward(x_NC)
    return y.add_(residual_NO)
