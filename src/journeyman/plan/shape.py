"""What a base model is made of, read from config.json and the safetensors headers: no weight is loaded."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from journeyman.errors import BaseNotFound

_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1}


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a decoder-only model. Parameters are counted once: tied embeddings are not counted twice.

    `body_params` are the matrices inside the layers, `head_params` the output projection (vocabulary x hidden);
    `lora_width` is the sum of (inputs + outputs) over all linear layers, so that LoRA of rank r has
    r * lora_width parameters.
    """

    kind: str
    params: int
    weight_bytes: int
    body_params: int
    head_params: int
    lora_width: int
    layers: int
    hidden: int
    intermediate: int
    kv_width: int
    vocab: int
    context_tokens: int

    def as_dict(self) -> dict[str, Any]:
        """The sizes as they stand in a plan file."""
        return asdict(self)

    @classmethod
    def read(cls, folder: Path) -> ModelShape:
        """Read a model folder. Raises BaseNotFound where config.json or the safetensors files are missing."""
        config = _config(folder)
        tensors = _headers(folder)
        hidden = _int(config, "hidden_size", "n_embd", "d_model")
        vocab = _int(config, "vocab_size")
        body, width = 0, 0
        for name, (_, shape) in tensors.items():
            if len(shape) == 2 and not _is_embedding(name, shape, vocab):
                body += shape[0] * shape[1]
                width += shape[0] + shape[1]
        layers = _int(config, "num_hidden_layers", "n_layer")
        heads = _int(config, "num_attention_heads", "n_head", default=1)
        kv_heads = _int(config, "num_key_value_heads", default=heads)
        head_dim = _int(config, "head_dim", default=hidden // heads)
        return cls(
            kind=str(config.get("model_type", "unknown")),
            params=sum(_size(shape) for _, shape in tensors.values()),
            weight_bytes=sum(_size(shape) * _BYTES.get(kind, 4) for kind, shape in tensors.values()),
            body_params=body,
            head_params=vocab * hidden,
            lora_width=width,
            layers=layers,
            hidden=hidden,
            intermediate=_int(config, "intermediate_size", "n_inner", default=4 * hidden),
            kv_width=kv_heads * head_dim,
            vocab=vocab,
            context_tokens=_context_tokens(config),
        )


def _config(folder: Path) -> Mapping[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise BaseNotFound(
            "no config.json in the model's folder", where=str(folder), fix="give a folder in transformers' format"
        )
    config = json.loads(path.read_text(encoding="utf-8"))
    text = config.get("text_config")  # multimodal models keep the decoder's sizes one level down
    return {**config, **text} if isinstance(text, dict) else config


def _context_tokens(config: Mapping[str, Any]) -> int:
    """How many tokens a row may have, whatever stands beside it.

    LongRoPE (Phi-3's and Phi-4-mini's 128k) turns every position of a pass otherwise once one of them is beyond the original
    length, and keys that were kept before would not fit those after it. Up to that length there is one way only.
    """
    tokens = _int(config, "max_position_embeddings", "n_positions", default=2048)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type")) not in ("longrope", "su"):
        return tokens
    original = rope.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
    return min(tokens, original) if isinstance(original, int) else tokens


def _headers(folder: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name, dtype and shape of every tensor (safetensors format: 8 bytes of length, then a JSON header)."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BaseNotFound(
            "no safetensors weights in the model's folder",
            where=str(folder),
            fix="convert them: AutoModelForCausalLM.from_pretrained(...).save_pretrained(folder). "
            "Pickled weights are not loaded, because loading them runs code",
        )
    out: dict[str, tuple[str, tuple[int, ...]]] = {}
    for file in files:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                out[name] = (entry["dtype"], tuple(entry["shape"]))
    return out


def _is_embedding(name: str, shape: tuple[int, ...], vocab: int) -> bool:
    return vocab in shape or any(part in name for part in ("embed", "lm_head", "wte", "wpe"))


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size


def _int(config: Mapping[str, Any], *names: str, default: int | None = None) -> int:
    for name in names:
        if isinstance(config.get(name), int):
            return int(config[name])
    if default is None:
        raise BaseNotFound(f"config.json does not give {' or '.join(names)}", where="config.json")
    return default
