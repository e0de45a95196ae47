"""LoRA on linear layers, kept in PEFT's file format.

y = W x + (alpha / r) B A x with A: r x in, B: out x r (Hu et al. 2021, arXiv:2106.09685, section 4.1). B starts
at zero, so that a fresh adapter changes nothing; A starts as PEFT's does (uniform Kaiming). Adapters are fp32
whatever the base's precision. One layer can carry several adapters, of which one or none is active, or, for answering,
each token has its own (`mixed`).

Shapes: N tokens, D inputs, O outputs, R the ranks of several adapters side by side.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import nn
from torch.nn import functional as F  # noqa: N812  (the field's usual name)
from transformers.pytorch_utils import Conv1D

from journeyman.errors import CheckpointError
from journeyman.files import read_json, write_bytes, write_json
from journeyman.train.layers import layer_of
from journeyman.train.quantised import QuantisedLinear, dense

ADAPTER_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
_PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True)
class Factors:
    """What of a layer with one adapter is not trained: W (O x D, or the layer that holds it quantised), bias, scaling."""

    weight: torch.Tensor | QuantisedLinear
    bias: torch.Tensor | None
    scaling: float


def product(x_ND: torch.Tensor, factors: Factors, a_RD: torch.Tensor, b_OR: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x W^T + bias + (x A^T) B^T, with B scaled already, and the N x R product x A^T, which backward needs."""
    inner_NR = x_ND @ a_RD.T
    y_NO = F.linear(x_ND, dense(factors.weight, x_ND.dtype), factors.bias)
    return y_NO.addmm_(inner_NR, b_OR.T), inner_NR


def product_backward(
    grad_NO: torch.Tensor,
    x_ND: torch.Tensor,
    inner_NR: torch.Tensor,
    factors: Factors,
    a_RD: torch.Tensor,
    b_OR: torch.Tensor,
    *,
    needed: bool = True,
    onto: torch.Tensor | None = None,
) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]:
    """Gradients of x (where it is needed, added to `onto` where that is given), A and B, the last two in fp32."""
    grad_inner_NR = grad_NO @ b_OR
    grad_a = (grad_inner_NR.T @ x_ND).float()
    grad_b = (grad_NO.T @ inner_NR).float() * factors.scaling
    if not needed:
        return None, grad_a, grad_b
    weight = dense(factors.weight, grad_NO.dtype)
    grad_ND = grad_NO @ weight if onto is None else onto.addmm_(grad_NO, weight)
    return grad_ND.addmm_(grad_inner_NR, a_RD), grad_a, grad_b


class LoraProduct(torch.autograd.Function):
    """y = x W^T + bias + scaling (x A^T) B^T with W frozen, computed in the dtype of x.

    Backward needs only x, which the layers that read the same x share, and the N x r product x A^T. Autograd's own
    graph of the same line would keep an fp32 copy of x and of the output for every layer. A test holds both equal.

    Shapes: N tokens (any leading dimensions), x N x in, A r x in, B out x r.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, factors: Factors, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """The layer's output."""
        a, b = a.to(x.dtype), (b * factors.scaling).to(x.dtype)
        x_ND = x.reshape(-1, x.shape[-1])
        y_NO, inner_NR = product(x_ND, factors, a, b)
        ctx.save_for_backward(x_ND, inner_NR, a, b)
        ctx.factors = factors
        return y_NO.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x (where something before it is trained), A and B."""
        x_ND, inner_NR, a, b = ctx.saved_tensors
        grad_NO = grad.reshape(-1, grad.shape[-1])
        grad_x, grad_a, grad_b = product_backward(grad_NO, x_ND, inner_NR, ctx.factors, a, b, needed=ctx.needs_input_grad[0])
        return None if grad_x is None else grad_x.view(*grad.shape[:-1], -1), None, grad_a, grad_b


@dataclass(frozen=True, slots=True)
class Mixed:
    """Tokens that lie side by side and use some of `names`, each its own.

    The columns of `scale_NR` are the ranks of `names` side by side: a token has its adapter's scaling in the columns of
    that adapter, and 0 elsewhere. Where there is one name, one number stands for all (1 1).
    """

    tokens: slice
    names: tuple[str, ...]
    ranks: tuple[int, ...]
    scale_NR: torch.Tensor


_mixed: ContextVar[Sequence[Mixed] | None] = ContextVar("which tokens use which adapters", default=None)


@contextmanager
def mixed(parts: Sequence[Mixed]) -> Iterator[None]:
    """Within, tokens use the adapters that `parts` say, and those in no part the bare base, whatever is active."""
    token = _mixed.set(parts)
    try:
        yield
    finally:
        _mixed.reset(token)


class LoraLinear(nn.Module):
    """A frozen linear layer with adapters beside it."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.lora_A = nn.ParameterDict()
        self.lora_B = nn.ParameterDict()
        self.scaling: dict[str, float] = {}
        self.active: str | None = None
        self._stacks: dict[tuple[str, ...], tuple[torch.Tensor, torch.Tensor]] = {}

    def add(self, name: str, rank: int, alpha: float, generator: torch.Generator | None = None) -> None:
        """Put a fresh adapter beside the layer: A random, B zero."""
        inputs, outputs = linear_sizes(self.base)
        device = weight_of(self.base).device
        bound = 1 / math.sqrt(inputs)  # kaiming_uniform with a = sqrt(5), as PEFT initialises A
        a = torch.empty(rank, inputs).uniform_(-bound, bound, generator=generator)
        self.lora_A[name] = nn.Parameter(a.to(device))
        self.lora_B[name] = nn.Parameter(torch.zeros(outputs, rank, device=device))
        self.scaling[name] = alpha / rank

    def remove(self, name: str) -> None:
        """Drop an adapter from the layer."""
        del self.lora_A[name], self.lora_B[name], self.scaling[name]
        self._stacks = {names: stack for names, stack in self._stacks.items() if name not in names}
        if self.active == name:
            self.active = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The base layer's output plus the active adapter's, or those of the tokens' own adapters."""
        parts = None if torch.compiler.is_compiling() else _mixed.get()  # a layer is compiled for training only
        if parts is not None:
            return self._forward_mixed(x, parts)
        if self.active is None:
            y: torch.Tensor = self.base(x)
            return y
        a, b = self.lora_A[self.active], self.lora_B[self.active]
        out: torch.Tensor = LoraProduct.apply(x, factors_of(self), a, b)  # type: ignore[no-untyped-call]
        return out

    def _forward_mixed(self, x: torch.Tensor, parts: Sequence[Mixed]) -> torch.Tensor:
        """One product with all A of a part, what is not a token's own set to 0, and one with all B. For answering only.

        For the few tokens of a step that is cheaper than a pair of products an adapter: every A and B is read once
        either way (the gathered products of Punica, arXiv:2310.18547, written out for any device).
        """
        y: torch.Tensor = self.base(x)
        self.add_mixed(y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1]), parts)
        return y

    def add_mixed(self, y_NO: torch.Tensor, x_ND: torch.Tensor, parts: Sequence[Mixed]) -> torch.Tensor:
        """What the tokens' adapters add to the base layer's output, added to it in place."""
        for part in parts:
            if any(name in self.lora_A for name in part.names):
                a_RD, b_RO = self._stack(part.names, part.ranks)
                y_NO[part.tokens].addmm_((x_ND[part.tokens] @ a_RD.T).mul_(part.scale_NR), b_RO)
        return y_NO

    def _stack(self, names: tuple[str, ...], ranks: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """The adapters' A and transposed B, one below the other; zeros for one that leaves this layer alone.

        Of several names only the latest stack is kept: who is in a step changes, though not at every step.
        """
        stack = self._stacks.get(names)
        if stack is None:
            weight = weight_of(self.base)
            inputs, outputs = linear_sizes(self.base)
            zeros = torch.zeros(max(ranks), inputs + outputs, dtype=weight.dtype, device=weight.device)
            none = {n: zeros[:r] for n, r in zip(names, ranks, strict=True) if n not in self.lora_A}
            a = [none[n][:, :inputs] if n in none else self.lora_A[n].to(weight.dtype) for n in names]
            b = [none[n][:, inputs:] if n in none else self.lora_B[n].to(weight.dtype).T for n in names]
            stack = (a[0], b[0]) if len(names) == 1 else (torch.cat(a), torch.cat(b))
            self._stacks = {kept: s for kept, s in self._stacks.items() if len(kept) == 1}
            self._stacks[names] = stack
        return stack

    def delta_weight(self, name: str) -> torch.Tensor:
        """What the adapter adds to the weight, in the base weight's own orientation."""
        delta = self.scaling[name] * (self.lora_B[name] @ self.lora_A[name])
        oriented: torch.Tensor = delta.T if isinstance(self.base, Conv1D) else delta
        return oriented


def factors_of(layer: LoraLinear) -> Factors:
    """The frozen side of a layer and its active adapter."""
    assert layer.active is not None
    weight: torch.Tensor | QuantisedLinear
    if isinstance(layer.base, QuantisedLinear):
        weight = layer.base
    else:
        weight = weight_of(layer.base).T if isinstance(layer.base, Conv1D) else weight_of(layer.base)
    return Factors(weight, layer.base.bias, layer.scaling[layer.active])  # type: ignore[arg-type]


def weight_of(layer: nn.Module) -> torch.Tensor:
    """The frozen weight of a linear layer."""
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    return weight


def linear_sizes(layer: nn.Module) -> tuple[int, int]:
    """(inputs, outputs) of a linear layer; GPT-2's Conv1D stores its weight transposed."""
    if isinstance(layer, Conv1D):
        return int(layer.weight.shape[0]), int(layer.weight.shape[1])
    assert isinstance(layer, nn.Linear)
    return layer.in_features, layer.out_features


def wrap(model: nn.Module) -> dict[str, LoraLinear]:
    """Replace every linear layer but the output head by a LoraLinear, once; return them by their path."""
    existing = dict(lora_layers(model))
    if existing:
        return existing
    for path, layer in list(_adaptable(model)):
        parent, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, LoraLinear(layer))
    return dict(lora_layers(model))


def _adaptable(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The linear layers that can carry an adapter, all but the output head, by their path, wrapped or not."""
    wrapped = [(path, layer.base) for path, layer in lora_layers(model)]
    head = model.get_output_embeddings()  # type: ignore[operator]
    yield from wrapped or (
        (path, layer)
        for path, layer in model.named_modules()
        if isinstance(layer, nn.Linear | Conv1D) and layer is not head
    )


def lora_layers(model: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    """The wrapped layers by path."""
    for path, layer in model.named_modules():
        if isinstance(layer, LoraLinear):
            yield path, layer


def add_adapter(model: nn.Module, name: str, *, rank: int, alpha: float, seed: int, first: int = 0) -> None:
    """A fresh adapter on all linear layers, or from decoder layer `first` on, made active; everything else is frozen."""
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for path, layer in wrap(model).items():
        if (layer_of(path) or 0) >= first:
            layer.add(name, rank, alpha, generator)
            layer.active = name


def activate(model: nn.Module, name: str | None) -> None:
    """Answer with this adapter, or with the bare base."""
    for _, layer in lora_layers(model):
        layer.active = name if name is None or name in layer.lora_A else None


def remove_adapter(model: nn.Module, name: str) -> None:
    """Drop an adapter from all layers that carry it."""
    for _, layer in lora_layers(model):
        if name in layer.lora_A:
            layer.remove(name)


def save_adapter(model: nn.Module, name: str, folder: Path, *, base: str) -> None:
    """Write adapter_config.json and adapter_model.safetensors as PEFT does.

    PEFT loads the folder as it is: PeftModel.from_pretrained(base_model, folder).
    """
    layers = {path: layer for path, layer in lora_layers(model) if name in layer.lora_A}
    tensors: dict[str, torch.Tensor] = {}
    for path, layer in layers.items():
        tensors[f"{_PREFIX}{path}.lora_A.weight"] = layer.lora_A[name].detach().cpu().contiguous()
        tensors[f"{_PREFIX}{path}.lora_B.weight"] = layer.lora_B[name].detach().cpu().contiguous()
    first = next(iter(layers.values()))
    rank = int(first.lora_A[name].shape[0])
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": round(first.scaling[name] * rank),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": isinstance(first.base, Conv1D) or (isinstance(first.base, QuantisedLinear) and first.base.transposed),
        "target_modules": sorted({path.rpartition(".")[2] for path in layers}),
        "inference_mode": True,
        **_transformed(model, layers),
    }
    write_bytes(folder / ADAPTER_FILE, save(dict(sorted(tensors.items())), metadata={"format": "pt"}))
    write_json(folder / CONFIG_FILE, config)


def _transformed(model: nn.Module, layers: Mapping[str, LoraLinear]) -> dict[str, Any]:
    """PEFT's name for the decoder layers that have adapters, where that is not all of them."""
    every = {layer_of(path) for path, _ in lora_layers(model)}
    mine = {layer_of(path) for path in layers}
    return {} if mine == every else {"layers_to_transform": sorted(n for n in mine if n is not None)}


@dataclass(frozen=True, slots=True)
class Loaded:
    """An adapter that was read and fits its base: its rank, its scaling, and A and B in fp32 by the layer's path."""

    rank: int
    scaling: float
    pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]]


def load_adapter(model: nn.Module, name: str, folder: Path) -> None:
    """Read an adapter in PEFT's format onto the model, inactive. Raises as `read_adapter`."""
    attach(model, name, read_adapter(adaptable_sizes(model), folder))


def attach(model: nn.Module, name: str, adapter: Loaded) -> None:
    """Put an adapter beside the layers it belongs to, inactive."""
    layers = wrap(model)
    for path, (a, b) in adapter.pairs.items():
        layer = layers[path]
        device = weight_of(layer.base).device
        layer.lora_A[name] = nn.Parameter(a.to(device), requires_grad=False)
        layer.lora_B[name] = nn.Parameter(b.to(device), requires_grad=False)
        layer.scaling[name] = adapter.scaling


def adaptable_sizes(model: nn.Module) -> dict[str, tuple[int, int]]:
    """(inputs, outputs) of every layer that can carry an adapter, by its path."""
    return {path: linear_sizes(layer) for path, layer in _adaptable(model)}


def read_adapter(sizes: Mapping[str, tuple[int, int]], folder: Path) -> Loaded:
    """Read an adapter in PEFT's format for a model whose layers have these `adaptable_sizes`.

    Raises CheckpointError where a tensor is missing, unknown, not finite or of another shape than this base needs.
    """
    config = read_json(folder / CONFIG_FILE)
    _refuse_variants(config, folder)
    problems = []
    found: dict[str, dict[str, torch.Tensor]] = {}
    # From bytes: safetensors 0.8.0 loses 3 KB at each file that it opens, and a server reads adapters again and again.
    for key, tensor in load((folder / ADAPTER_FILE).read_bytes()).items():
        path, _, part = key.removeprefix(_PREFIX).removesuffix(".weight").rpartition(".")
        if path not in sizes or part not in ("lora_A", "lora_B"):
            problems.append(f"{key} belongs to no linear layer of this base")
        else:
            found.setdefault(path, {})[part] = tensor
    rank, pairs = config["r"], {}
    for path, pair in found.items():
        inputs, outputs = sizes[path]
        a, b = pair.get("lora_A"), pair.get("lora_B")
        if a is None or b is None or a.shape != (rank, inputs) or b.shape != (outputs, rank):
            problems.append(f"{path} does not have the shape this base needs")
        else:
            pairs[path] = (a.float(), b.float())
    if problems:
        raise CheckpointError(
            "the adapter does not fit this base model",
            where=str(folder),
            fix="load it on the base it was trained on",
            problems=problems[:10],
        )
    # Its rows are computed beside others', and 0 times a number that is none is none.
    if broken := [path for path, pair in pairs.items() if not all(bool(one.isfinite().all()) for one in pair)]:
        raise CheckpointError(
            "the adapter holds numbers that are not finite",
            where=str(folder / ADAPTER_FILE),
            fix="train it again, at a lower learning rate",
            problems=broken[:10],
        )
    return Loaded(rank, config["lora_alpha"] / rank, pairs)


_INITS = (True, False, None, "gaussian", "eva", "orthogonal")
"""What an adapter may have begun with. Others (PiSSA, OLoRA, CorDA, LoftQ) move a part of the base's weights into the adapter."""


def _refuse_variants(config: Mapping[str, Any], folder: Path) -> None:
    """PEFT knows adapters that compute something else than B A x; loading one as plain LoRA would answer wrongly."""
    problems = [] if config.get("peft_type") == "LORA" else [f"peft_type is {config.get('peft_type')!r}"]
    variants = ["use_rslora", "use_dora", "use_qalora", "use_bdlora", "rank_pattern", "alpha_pattern", "modules_to_save", "lora_bias"]
    variants += ["alora_invocation_tokens", "arrow_config", "monteclora_config", "layer_replication"]
    problems += [f"{name} is {config[name]!r}" for name in variants if config.get(name)]
    if config.get("init_lora_weights", True) not in _INITS:
        problems.append(f"init_lora_weights is {config['init_lora_weights']!r}, which changes the base's weights")
    if config.get("bias", "none") != "none":
        problems.append(f"bias is {config['bias']!r}")
    if problems:
        raise CheckpointError(
            "this adapter is not plain LoRA",
            where=str(folder / CONFIG_FILE),
            fix="merge it into its base with PEFT, and load the merged model",
            problems=problems,
        )


def merge_adapter(model: nn.Module, name: str) -> None:
    """Add an adapter into the base weights and unwrap every layer; the model is then an ordinary one."""
    for path, layer in list(lora_layers(model)):
        if name in layer.lora_A:
            with torch.no_grad():
                weight = weight_of(layer.base)
                weight.add_(layer.delta_weight(name).to(weight.dtype))
        parent, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, layer.base)


def adapter_config(folder: Path) -> dict[str, object]:
    """The adapter's own description."""
    value: dict[str, object] = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    return value
