"""The model families that GGUF holds exactly, and how transformers' names and sizes stand in it.

GGUF gives no graph, only an architecture's name, numbers and tensors (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md);
the graph is llama.cpp's own. A family stands here once llama.cpp itself gave the same log-probabilities for it as
transformers does (`tests/models/test_llama_cpp.py`), and what such a graph can't express is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Family:
    """How a family of transformers is called and laid out in GGUF.

    `interleaved`: llama.cpp rotates neighbouring rows of q and k, transformers rows half a head apart.
    `biases` are the layers whose bias llama.cpp adds. `any_head_width`: heads need not share the hidden size evenly.
    `may_tie`: the embedding can be the output head too. `numbers` are further metadata, by transformers' name.
    """

    architecture: str
    interleaved: bool
    biases: frozenset[str] = frozenset()
    any_head_width: bool = True
    may_tie: bool = True
    numbers: Mapping[str, str] = field(default_factory=dict)


_ATTENTION = frozenset({"attn_q", "attn_k", "attn_v", "attn_output"})
_QKV = frozenset({"attn_q", "attn_k", "attn_v"})
_MLP = frozenset({"ffn_gate", "ffn_up", "ffn_down"})

FAMILIES: Mapping[str, Family] = {
    "llama": Family("llama", interleaved=True, biases=_ATTENTION | _MLP),
    "mistral": Family("llama", interleaved=True),
    "qwen2": Family("qwen2", interleaved=False, biases=_QKV, any_head_width=False),
    "qwen3": Family("qwen3", interleaved=False),
    "smollm3": Family("smollm3", interleaved=True),
    "olmo2": Family("olmo2", interleaved=False, any_head_width=False, may_tie=False),
    "granite": Family(
        "granite",
        interleaved=True,
        biases=_ATTENTION | _MLP,
        numbers={
            "attention.scale": "attention_multiplier",
            "embedding_scale": "embedding_multiplier",
            "residual_scale": "residual_multiplier",
            "logit_scale": "logits_scaling",
        },
    ),
}
"""By transformers' `model_type`."""

_NUMBERS: Mapping[str, str] = {
    "vocab_size": "vocab_size",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}
_ROPE_TYPES = ("default", "linear", "yarn", "llama3")
_YARN_DEFAULTS: Mapping[str, Any] = {
    "beta_fast": 32,
    "beta_slow": 1,
    "attention_factor": None,
    "truncate": True,
}
_ROPE_KEYS = {
    "rope_type",
    "rope_theta",
    "type",
    "factor",
    "original_max_position_embeddings",
    *_YARN_DEFAULTS,
}
_LLAMA3_KEYS = {"low_freq_factor", "high_freq_factor"}


def problems_with(config: Any) -> list[str]:
    """What of this model llama.cpp's graph can't express; empty where the export is exact."""
    family = FAMILIES.get(config.model_type)
    if family is None:
        return [f"the family is {config.model_type}; GGUF is written for {', '.join(FAMILIES)}"]
    problems = []
    if config.hidden_act != "silu":
        problems.append(f"hidden_act is {config.hidden_act!r}; llama.cpp computes silu")
    if not family.any_head_width and head_width(config) * config.num_attention_heads != config.hidden_size:
        problems.append(
            f"{config.num_attention_heads} heads of {head_width(config)} do not share the hidden size evenly"
        )
    if not family.may_tie and config.tie_word_embeddings:
        problems.append(
            f"the embedding is the output head too, which llama.cpp's {family.architecture} does not know"
        )
    if getattr(config, "quantization_config", None) is not None:
        problems.append("the weights are quantized already")
    if (share := rope(config).get("partial_rotary_factor", 1.0)) != 1.0:
        problems.append(f"partial_rotary_factor is {share}; llama.cpp rotates whole heads")
    problems += _rope_problems(config, family)
    step = getattr(config, "no_rope_layer_interval", None)
    if step is not None and list(config.no_rope_layers) != [
        int((i + 1) % 4 != 0) for i in range(config.num_hidden_layers)
    ]:
        problems.append("layers without rotation are not every fourth one, which llama.cpp takes for granted")
    return problems


def _rope_problems(config: Any, family: Family) -> Iterable[str]:
    values = rope(config)
    kind = values["rope_type"]
    if kind not in _ROPE_TYPES or (kind == "llama3" and family.architecture != "llama"):
        yield f"rope_type is {kind!r}; GGUF is written for {', '.join(_ROPE_TYPES)} (llama3 in the Llama family only)"
        return
    if kind == "yarn":
        for name, default in _YARN_DEFAULTS.items():
            if values.get(name, default) not in (default, None):
                yield f"{name} of yarn is {values[name]}; llama.cpp computes with its own default"
    known = _ROPE_KEYS | (_LLAMA3_KEYS if kind == "llama3" else set()) | {"partial_rotary_factor"}
    if further := sorted(values.keys() - known):
        yield f"rope_parameters hold {', '.join(further)}, which GGUF has no place for"


def rope(config: Any) -> dict[str, Any]:
    """The rotary embedding's parameters, in transformers' words."""
    return {"rope_type": "default", **(config.rope_parameters or {})}


def head_width(config: Any) -> int:
    """How many values one attention head has."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def context_tokens(config: Any) -> int:
    """How long an input may be in llama.cpp: where attention slides, its window, within which it is full attention."""
    window = getattr(config, "sliding_window", None)
    layers = getattr(config, "layer_types", None)
    slides = window is not None and (layers is None or "sliding_attention" in layers)
    return min(config.max_position_embeddings, window) if slides else int(config.max_position_embeddings)


def notes(config: Any) -> list[str]:
    """What a user should know of the file, in words."""
    context = context_tokens(config)
    if context == config.max_position_embeddings:
        return []
    return [
        f"the file's context is {context} tokens, this model's attention window; beyond it llama.cpp would not slide"
    ]


def metadata(config: Any) -> dict[str, int | float | str]:
    """The numbers llama.cpp builds its graph from, by GGUF's names without the architecture before them."""
    values = rope(config)
    width = head_width(config)
    out: dict[str, int | float | str] = {
        key: getattr(config, name)
        for key, name in {**_NUMBERS, **FAMILIES[config.model_type].numbers}.items()
    }
    out |= {
        "context_length": context_tokens(config),
        "attention.key_length": width,
        "attention.value_length": width,
        "rope.dimension_count": width,
        "rope.freq_base": float(values["rope_theta"]),
    }
    if values["rope_type"] in ("linear", "yarn"):
        out |= {"rope.scaling.type": values["rope_type"], "rope.scaling.factor": float(values["factor"])}
    if values["rope_type"] == "yarn":
        original = values.get("original_max_position_embeddings") or config.max_position_embeddings
        out["rope.scaling.original_context_length"] = int(original)
    return out


def config_values(architecture: str, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """The other way round: what transformers' config class of this architecture is made with."""
    family = next(f for f in FAMILIES.values() if f.architecture == architecture)
    values = {name: numbers[key] for key, name in {**_NUMBERS, **family.numbers}.items()}
    parameters = {
        "rope_type": numbers.get("rope.scaling.type", "default"),
        "rope_theta": numbers["rope.freq_base"],
    }
    if "rope.scaling.factor" in numbers:
        parameters["factor"] = numbers["rope.scaling.factor"]
    if "rope.scaling.original_context_length" in numbers:
        parameters["original_max_position_embeddings"] = numbers["rope.scaling.original_context_length"]
    return {
        **values,
        "head_dim": numbers["attention.key_length"],
        "max_position_embeddings": numbers["context_length"],
        "rope_parameters": parameters,
    }


def interleave(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """From transformers' order of a head's rows (first halves, then second halves) to llama.cpp's (pairs)."""
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def deinterleave(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """The inverse of `interleave`."""
    return rows.reshape(heads, -1, 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)
