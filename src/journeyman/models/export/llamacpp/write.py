"""A GGUF file from a model in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from journeyman.errors import ExportError
from journeyman.models.export.llamacpp.families import (
    FAMILIES,
    head_width,
    interleave,
    metadata,
    problems_with,
    rope,
)
from journeyman.models.export.llamacpp.tokenizer import Vocabulary
from journeyman.models.export.rounding import stored_as
from journeyman.text.template import ChatFormat

FILE_TYPES: Mapping[str, int] = {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7}
"""`general.file_type` by weight type (GGUF's specification: what most tensors are)."""


def library() -> ModuleType:
    """llama.cpp's own package for GGUF files. Raises ExportError where it is not installed."""
    try:
        import gguf
    except ImportError as error:
        raise ExportError(
            "GGUF files are written with the package gguf, which is not installed",
            where="--to gguf",
            fix='pip install "journeyman[gguf]"',
            code="extra_missing",
        ) from error
    module: ModuleType = gguf
    return module


def check_family(config: Any) -> None:
    """Raises ExportError, naming every reason, where llama.cpp would compute something else than this model does."""
    if problems := problems_with(config):
        raise ExportError(
            "this model can't be written as GGUF so that llama.cpp answers as it does here",
            where="config.json",
            fix="export with --to merged; llama.cpp's own convert_hf_to_gguf.py reads that folder and knows further families",
            code="export_unsupported",
            problems=problems,
        )


def tensor_names(model: nn.Module) -> dict[str, str]:
    """GGUF's name of every tensor by transformers' name; a tied head has none of its own.

    Raises ExportError where llama.cpp's graph has no place for a tensor.
    """
    gguf = library()
    config: Any = model.config
    family = FAMILIES[config.model_type]
    architecture = next(a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == family.architecture)
    known = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    names, homeless = {}, []
    for name, _ in model.named_parameters():
        place = known.get_name(name, try_suffixes=(".weight", ".bias"))
        layer = (place or "").removesuffix(".bias").rpartition(".")[2]
        if place is None or (name.endswith(".bias") and layer not in family.biases):
            homeless.append(name)
        else:
            names[name] = place
    if homeless:
        raise ExportError(
            f"llama.cpp's {family.architecture} has no place for {len(homeless)} tensor(s) of this model",
            where="config.json",
            fix="export with --to merged",
            code="export_unsupported",
            problems=homeless[:10],
        )
    return names


def write(
    path: Path,
    model: nn.Module,
    chat: ChatFormat,
    vocabulary: Vocabulary,
    *,
    dtype: str,
    about: Mapping[str, str],
) -> None:
    """Write the model with its tokenizer and chat template; `about` are strings below `general.`.

    `dtype` is f32, f16, bf16 or q8_0. The weights are converted one tensor at a time.
    """
    gguf = library()
    config: Any = model.config
    names = tensor_names(model)
    writer = gguf.GGUFWriter(path, FAMILIES[config.model_type].architecture)
    _add_metadata(writer, config, chat, vocabulary, dtype, about)
    factors = _rope_factors(model)
    if factors is not None:
        writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
    parameters = dict(model.named_parameters())
    for name, place in names.items():
        shape = tuple(parameters[name].shape)
        kind = gguf.GGMLQuantizationType[stored_as(shape, dtype).upper()]
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        nbytes = parameters[name].numel() // block * block_bytes
        writer.add_tensor_info(place, shape, np.dtype(np.float32), nbytes, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if factors is not None:
        writer.write_tensor_data(factors)
    for data in _converted(gguf, config, {name: parameters[name] for name in names}, dtype):
        writer.write_tensor_data(data)
    writer.close()


def _converted(
    gguf: ModuleType, config: Any, parameters: Mapping[str, torch.Tensor], dtype: str
) -> Iterator[Any]:
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, parameter in parameters.items():
        rows = parameter.detach().float()
        layer = name.split(".")[-2]
        if FAMILIES[config.model_type].interleaved and layer in heads:
            rows = interleave(rows, heads[layer])
        kind = gguf.GGMLQuantizationType[stored_as(tuple(rows.shape), dtype).upper()]
        yield gguf.quants.quantize(rows.contiguous().numpy(), kind)


def _add_metadata(
    writer: Any, config: Any, chat: ChatFormat, vocabulary: Vocabulary, dtype: str, about: Mapping[str, str]
) -> None:
    writer.add_type("model")
    for key, text in about.items():
        writer.add_string(f"general.{key}", text)
    writer.add_file_type(FILE_TYPES[dtype])
    if dtype == "q8_0":
        writer.add_quantization_version(2)
    for key, value in metadata(config).items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)]
        add(f"{writer.arch}.{key}", value)
    writer.add_tokenizer_model("gpt2")  # llama.cpp's name for byte-level BPE, whoever trained it
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    for name, token_id in vocabulary.ids.items():
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", token_id)
    writer.add_add_bos_token(vocabulary.adds_bos)
    writer.add_add_eos_token(vocabulary.adds_eos)
    named = {"default": chat.template, **({"tool_use": chat.tool_template} if chat.tool_template else {})}
    writer.add_chat_template([{"name": name, "template": text} for name, text in named.items()])


def _rope_factors(model: nn.Module) -> Any:
    """Llama 3's stretched rotation: by what transformers divides each frequency. llama.cpp keeps these as a tensor."""
    config: Any = model.config
    if rope(config)["rope_type"] != "llama3":
        return None
    width = head_width(config)
    plain = rope(config)["rope_theta"] ** -(torch.arange(0, width, 2, dtype=torch.float32) / width)
    return (plain / model.get_submodule("model.rotary_emb").inv_freq).float().numpy()
