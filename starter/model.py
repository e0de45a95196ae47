"""The body that is trained: the arithmetic of transformers' `LlamaForCausalLM`, in a page.

Written out because it trains faster than the general class and can be read in one sitting; a test holds that the
packaged weights give the same logits in both. Weight names are transformers' own, so packaging is a plain save.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from starter.shape import Shape


def rotation(length: int, head_width: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary positions (Su et al. 2021), halves layout as in Llama: shape (length, head_width)."""
    frequency = theta ** (-torch.arange(0, head_width, 2).float() / head_width)
    angle = torch.outer(torch.arange(length).float(), frequency)
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


def rotate(x_BHTD: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn every pair (i, i + D/2) by its position's angle."""
    first, second = x_BHTD.chunk(2, dim=-1)
    return x_BHTD * cos + torch.cat([-second, first], dim=-1) * sin


class Attention(nn.Module):
    """Causal grouped-query attention (Ainslie et al. 2023)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = shape.heads, shape.kv_heads, shape.head_width
        self.q_proj = nn.Linear(shape.width, shape.heads * shape.head_width, bias=False)
        self.k_proj = nn.Linear(shape.width, shape.kv_heads * shape.head_width, bias=False)
        self.v_proj = nn.Linear(shape.width, shape.kv_heads * shape.head_width, bias=False)
        self.o_proj = nn.Linear(shape.heads * shape.head_width, shape.width, bias=False)

    def forward(self, x_BTC: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Every position reads itself and those before it."""
        B, T, _ = x_BTC.shape
        q = self.q_proj(x_BTC).view(B, T, self.heads, self.head_width).transpose(1, 2)
        k = self.k_proj(x_BTC).view(B, T, self.kv_heads, self.head_width).transpose(1, 2)
        v = self.v_proj(x_BTC).view(B, T, self.kv_heads, self.head_width).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        group = self.heads // self.kv_heads
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(B, T, -1))
        return out


class GatedPart(nn.Module):
    """SwiGLU (Shazeer 2020)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.hidden, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.hidden, bias=False)
        self.down_proj = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Each position for itself."""
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x_BTC)) * self.up_proj(x_BTC))
        return out


class Layer(nn.Module):
    """Attention and gated part, each on the normalised stream and added back to it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        self.mlp = GatedPart(shape)

    def forward(self, x_BTC: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """The stream after this layer."""
        x_BTC = x_BTC + self.self_attn(self.input_layernorm(x_BTC), cos, sin)
        out: Tensor = x_BTC + self.mlp(self.post_attention_layernorm(x_BTC))
        return out


class Stack(nn.Module):
    """Embedding, layers, last norm. A class of its own only so that weight names begin with `model.`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)


class Starter(nn.Module):
    """The language model: ids in, logits or a loss out. The embedding is also the output matrix."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Stack(shape)
        cos, sin = rotation(shape.context, shape.head_width, shape.rope_theta)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Draw the weights: inputs of every product keep their variance, and every residual branch starts at zero."""
        generator = torch.Generator().manual_seed(seed)
        for name, weight in self.named_parameters():
            if weight.ndim == 1:
                weight.fill_(1.0)
            elif name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.zero_()
            else:
                spread = 0.02 if "embed" in name else weight.shape[1] ** -0.5
                weight.copy_(torch.randn(weight.shape, generator=generator) * spread)

    def states(self, ids_BT: Tensor) -> Tensor:
        """The normalised state after the last layer, from which the next token is read off."""
        T = ids_BT.shape[1]
        cos, sin = self.cos[:T], self.sin[:T]
        x_BTC = self.model.embed_tokens(ids_BT)
        for layer in self.model.layers:
            x_BTC = layer(x_BTC, cos, sin)
        out: Tensor = self.model.norm(x_BTC)
        return out

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Logits of the next token at every position."""
        return F.linear(self.states(ids_BT), self.model.embed_tokens.weight)

    def loss_sum(self, ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Summed cross-entropy in nats; a target of -1 is not trained."""
        logits = self(ids_BT).float()
        return F.cross_entropy(logits.flatten(0, 1), targets_BT.flatten(), ignore_index=-1, reduction="sum")
