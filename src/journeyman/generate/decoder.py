"""The model's layers over tokens side by side: transformers' own modules, or the same in few steps.

A pass of a small model over some tens of tokens is mostly the way from one operation to the next: transformers takes about a
hundred a layer, each with a step or more of Python. `Lean` writes Llama's layer in twenty, with the modules' own weights.

Shapes: N tokens, B rows whose next token is wanted, C channels, H query heads, K key heads, D head width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  (the field's usual name)

from journeyman.generate.packed import JoinedLinear, PackedLinear, onednn_linear
from journeyman.train import attention, lora

Attend = Callable[[nn.Module, torch.Tensor, torch.Tensor, torch.Tensor, float, int | None], torch.Tensor]
"""A layer's attention: its module, queries (N H D), keys and values (N K D), scaling, window; its output is N H D."""

LEAN_KINDS = frozenset(("llama", "qwen2", "mistral"))
"""Families (`model_type`) whose layers differ in nothing but biases: x + Wo attention(norm x), then x + Wd (silu(Wg norm x) * Wu norm x)."""

COPY_BYTES = 16 * 2**20
"""Packed copies up to this size are held beside a model: of its head, which is often the embedding too and must lie in its own
order, and of all weights that are joined. In a larger model a product takes so long that it gains little by either."""

FEW_TOKENS = 64
"""Up to here the two sides of the feed-forward are one product; the wide result of more tokens is slow to go through."""


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
        self._packed = any(isinstance(module, PackedLinear) for module in model.modules())
        self._layers = _layers(model, packed=self._packed)
        head = model.lm_head
        self._head = PackedLinear(head) if self._packed and _bytes(head) <= COPY_BYTES else head

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
        for layer in self._layers:
            x_NC = _attention(layer, x_NC, turns, attend, mixed)
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


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer, how many tokens it sees back, and its products of one input, as one product where they are joined."""

    module: Any
    window: int | None
    qkv: JoinedLinear | None
    gate_up: JoinedLinear | None


def _layers(model: Any, *, packed: bool) -> list[_Layer]:
    of_one_input = [(_qkv(layer), _gate_up(layer)) for layer in model.model.layers]
    joins = packed and sum(_bytes(one) for groups in of_one_input for group in groups for one in group) <= COPY_BYTES
    return [
        _Layer(layer, _window(layer.self_attn), *(JoinedLinear(group) if joins else None for group in groups))
        for layer, groups in zip(model.model.layers, of_one_input, strict=True)
    ]


def _qkv(layer: Any) -> list[Any]:
    return [layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj]


def _gate_up(layer: Any) -> list[Any]:
    return [layer.mlp.gate_proj, layer.mlp.up_proj]


def _bytes(linear: Any) -> int:
    size: int = linear.in_features * linear.out_features * linear.weight.element_size()
    return size


def _attention(
    layer: _Layer, x_NC: torch.Tensor, turns: tuple[torch.Tensor, torch.Tensor], attend: Attend, mixed: Sequence[lora.Mixed]
) -> torch.Tensor:
    own, parts = layer.module.self_attn, _qkv(layer.module)
    y_NC = _norm(layer.module.input_layernorm, x_NC)
    if layer.qkv is None:
        heads_NHD = torch.cat([_linear(one, y_NC, mixed) for one in parts], -1).view(len(x_NC), -1, own.head_dim)
    else:
        heads_NHD = _joined(layer.qkv, parts, y_NC, mixed).view(len(x_NC), -1, own.head_dim)
    keys = own.config.num_key_value_heads
    turned_NHD = _turned(heads_NHD[:, :-keys], turns)
    out_NHD = attend(own, turned_NHD[:, :-keys], turned_NHD[:, -keys:], heads_NHD[:, -keys:], own.scaling, layer.window)
    return _linear_onto(own.o_proj, out_NHD.reshape(len(x_NC), -1), x_NC, mixed)


def _feed_forward(layer: _Layer, x_NC: torch.Tensor, mixed: Sequence[lora.Mixed]) -> torch.Tensor:
    parts = _gate_up(layer.module)
    y_NC = _norm(layer.module.post_attention_layernorm, x_NC)
    if layer.gate_up is None or len(x_NC) > FEW_TOKENS:
        gate, up = (_linear(one, y_NC, mixed) for one in parts)
        gate = F.silu(gate, inplace=True)
    else:
        gate, up = _joined(layer.gate_up, parts, y_NC, mixed).chunk(2, -1)
        gate = F.silu(gate)
    return _linear_onto(layer.module.mlp.down_proj, gate.mul_(up), x_NC, mixed)


def _joined(joined: JoinedLinear, parts: Sequence[Any], x_NC: torch.Tensor, mixed: Sequence[lora.Mixed]) -> torch.Tensor:
    """What `parts` make of one input, side by side, by the product in which their weights are joined."""
    y = joined.forward(x_NC)
    if mixed:
        for part, own in zip(parts, torch.split(y, joined.widths, -1), strict=True):
            if isinstance(part, lora.LoraLinear):
                part.add_mixed(own, x_NC, mixed)
    return y


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
