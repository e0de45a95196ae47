"""Checkpoints: everything a run needs to go on as if it had never stopped.

    checkpoints/step-000120/
        adapter_config.json, adapter_model.safetensors     (LoRA; PEFT's format, loadable by itself)
        model.safetensors                                  (full fine-tuning)
        optimizer.safetensors                              AdamW's moments by parameter name, and torch's random state
        state.json                                         step, best so far, counts; hashes of the files above

A checkpoint is written beside its place and renamed into it, so that it exists whole or not at all.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save, save_file
from torch import nn

from journeyman.errors import CheckpointError
from journeyman.files import hash_file, read_json, sync_folder, write_bytes, write_json
from journeyman.train import lora

ADAPTER = "default"
MODEL_FILE = "model.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
STATE_FILE = "state.json"
_RANDOM = "random_state"
_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands after `step`: all that the loop decides by, besides the weights and the optimizer."""

    step: int
    trained_tokens: int
    best_step: int | None
    best_loss: float | None
    validations_without_best: int
    best_score: float | None = None


def write(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, *, base: str
) -> Path:
    """Write the checkpoint of this step below `folder`; a crash leaves either the old ones or this one too."""
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{progress.step:06d}"
    scratch = folder / f".step-{progress.step:06d}.tmp"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        write_weights(model, scratch, base=base)
        write_bytes(scratch / OPTIMIZER_FILE, save(_optimizer_tensors(model, optimizer)))
        hashes = {file.name: hash_file(file) for file in sorted(scratch.iterdir())}
        write_json(scratch / STATE_FILE, {"progress": asdict(progress), "files": hashes})
    except BaseException:  # on a full disk, the half that was written must not stay in the way
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    shutil.rmtree(final, ignore_errors=True)
    scratch.rename(final)
    sync_folder(folder)
    return final


def write_weights(model: nn.Module, folder: Path, *, base: str) -> None:
    """The trained weights alone: the adapter, or for full fine-tuning the whole model."""
    if any(True for _ in lora.lora_layers(model)):
        lora.save_adapter(model, ADAPTER, folder, base=base)
        return
    scratch = folder / f".{MODEL_FILE}.tmp"
    tied = _tied_names(model)
    tensors = {name: value.contiguous() for name, value in model.state_dict().items() if name not in tied}
    save_file(tensors, str(scratch), metadata={"format": "pt"})
    scratch.replace(folder / MODEL_FILE)


def resume(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Put weights, optimizer and random state back as `write` found them.

    Raises CheckpointError where a file is missing or its content has changed.
    """
    state = _read_state(folder)
    read_weights(model, folder)
    tensors = load_file(folder / OPTIMIZER_FILE)
    torch.set_rng_state(tensors.pop(_RANDOM))
    by_name = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for key, tensor in tensors.items():
        name, _, part = key.rpartition("/")
        target = by_name[name]
        optimizer.state[target][part] = tensor.to(target.device)  # the step too: fused AdamW counts it on the device
    return Progress(**state["progress"])


def read_weights(model: nn.Module, folder: Path) -> None:
    """Put a checkpoint's weights onto the model that wrote it (or one of the same making)."""
    if (folder / lora.ADAPTER_FILE).is_file():
        tensors = load_file(folder / lora.ADAPTER_FILE)
        with torch.no_grad():
            for path, layer in lora.lora_layers(model):
                if ADAPTER not in layer.lora_A:
                    continue
                layer.lora_A[ADAPTER].copy_(tensors[f"base_model.model.{path}.lora_A.weight"])
                layer.lora_B[ADAPTER].copy_(tensors[f"base_model.model.{path}.lora_B.weight"])
        return
    missing, unexpected = model.load_state_dict(load_file(folder / MODEL_FILE), strict=False)
    if unexpected or set(missing) - _tied_names(model):
        raise CheckpointError("the checkpoint is of another model", where=str(folder))


def _tied_names(model: nn.Module) -> set[str]:
    """Further names of parameters that have one already (an output head tied to the embeddings): kept once."""
    every = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return every - {name for name, _ in model.named_parameters()}


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint, or None. Damaged ones are passed over: an older one is better than none."""
    for path in reversed(all_checkpoints(folder)):
        try:
            _read_state(path)
        except CheckpointError:
            continue
        return path
    return None


def all_checkpoints(folder: Path) -> list[Path]:
    """Every checkpoint below `folder`, oldest first."""
    if not folder.is_dir():
        return []
    found = [(int(m[1]), p) for p in folder.iterdir() if (m := _NAME.fullmatch(p.name))]
    return [path for _, path in sorted(found)]


def prune(folder: Path, *, keep: set[int]) -> None:
    """Delete checkpoints of other steps than `keep`, and scratch folders of interrupted writes."""
    for path in all_checkpoints(folder):
        match = _NAME.fullmatch(path.name)
        if match and int(match[1]) not in keep:
            shutil.rmtree(path)
    for scratch in folder.glob(".step-*.tmp"):
        shutil.rmtree(scratch, ignore_errors=True)


def _read_state(folder: Path) -> Any:
    """The state file, after checking every file it lists."""
    path = folder / STATE_FILE
    if not path.is_file():
        raise CheckpointError("state.json is missing", where=str(folder))
    state = read_json(path)
    for name, digest in state["files"].items():
        file = folder / name
        if not file.is_file() or hash_file(file) != digest:
            raise CheckpointError(
                f"{name} is missing or damaged",
                where=str(folder),
                fix="delete this checkpoint; the run resumes from the one before",
            )
    return state


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    tensors = {_RANDOM: torch.get_rng_state()}
    for name, parameter in model.named_parameters():
        for part, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{name}/{part}"] = value.detach().cpu().contiguous()
    return tensors
