"""Base weights into a torch module. Safetensors only; no code from a model's folder is run."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from journeyman.errors import BaseNotFound
from journeyman.train import attention
from journeyman.train.quantised import quantise

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "mixed": torch.float32}
"""What weights are loaded as. "mixed" keeps them in fp32; the training loop computes their products in bf16."""


def load_base(folder: Path, *, precision: str = "fp32", device: str = "cpu", quantised: str | None = None) -> nn.Module:
    """Load any decoder-only causal model transformers knows, ready for exact work: no dropout surprises, no cache.

    With `quantised`, a kind of train/quantised.py, its linear layers are, and the whole model is never in memory wider than its files are.

    Raises BaseNotFound with transformers' own words where the folder can't be loaded.
    """
    logging.disable_progress_bar()  # the faces show progress; a bar per weight file is noise
    try:
        model: nn.Module = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype="auto" if quantised else DTYPES[precision],
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
    except (OSError, ValueError, KeyError) as error:
        raise BaseNotFound(
            f"transformers can't load this model: {str(error).splitlines()[0]}",
            where=str(folder),
            fix="give a decoder-only causal model in safetensors format that this transformers version knows",
        ) from error
    if quantised:
        quantise(model, quantised)
        for parameter in model.parameters():
            if parameter.is_floating_point() and parameter.element_size() > 1:
                parameter.data = parameter.data.to(DTYPES[precision])
    if model.config._attn_implementation == "sdpa":  # type: ignore[union-attr]
        model.set_attn_implementation(attention.NAME)  # type: ignore[operator]
    return model.to(device).eval()
