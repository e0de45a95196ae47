"""A model from a GGUF file, made of what stands in the file alone: what an export is held against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from journeyman.models.export.llamacpp.families import FAMILIES, config_values, deinterleave
from journeyman.models.export.llamacpp.tokenizer import Vocabulary
from journeyman.models.export.llamacpp.write import library, tensor_names


@dataclass(frozen=True)
class GgufFile:
    """What a file says: the model in fp32, its tokenizer, its chat template."""

    model: nn.Module
    vocabulary: Vocabulary
    template: str


def read(path: Path) -> GgufFile:
    """Read back a file that `write` wrote."""
    gguf = library()
    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    return GgufFile(_model(gguf, reader, fields), _vocabulary(fields), fields["tokenizer.chat_template"])


def _vocabulary(fields: dict[str, Any]) -> Vocabulary:
    prefix, suffix = "tokenizer.ggml.", "_token_id"
    names = [key for key in fields if key.startswith(prefix) and key.endswith(suffix)]
    return Vocabulary(
        pre=fields["tokenizer.ggml.pre"],
        tokens=tuple(fields["tokenizer.ggml.tokens"]),
        types=tuple(fields["tokenizer.ggml.token_type"]),
        merges=tuple(fields["tokenizer.ggml.merges"]),
        ids={key[len(prefix) : -len(suffix)]: fields[key] for key in names},
        adds_bos=fields["tokenizer.ggml.add_bos_token"],
        adds_eos=fields["tokenizer.ggml.add_eos_token"],
    )


def _model(gguf: Any, reader: Any, fields: dict[str, Any]) -> nn.Module:
    architecture = fields["general.architecture"]
    numbers = {key.removeprefix(f"{architecture}."): value for key, value in fields.items()}
    tensors = {t.name: t for t in reader.tensors}
    config = AutoConfig.for_model(
        architecture,
        **config_values(architecture, numbers),
        tie_word_embeddings="output.weight" not in tensors,
        attention_bias=any(name.endswith("attn_q.bias") for name in tensors),
        mlp_bias=any(name.endswith("ffn_up.bias") for name in tensors),
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    model: nn.Module = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    interleaved = FAMILIES[architecture].interleaved
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, place in tensor_names(model).items():
            rows, layer = _values(gguf, tensors.pop(place)), place.split(".")[-2]
            parameters[name].copy_(
                deinterleave(rows, heads[layer]) if interleaved and layer in heads else rows
            )
    factors = tensors.pop("rope_freqs.weight", None)
    if factors is not None:
        rotary: Any = model.get_submodule("model.rotary_emb")
        rotary.inv_freq = rotary.inv_freq / _values(gguf, factors)
    assert not tensors, f"the file holds tensors that no part of the model takes: {sorted(tensors)}"
    return model


def _values(gguf: Any, tensor: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type)))
