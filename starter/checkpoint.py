"""Checkpoints in parts small enough to move, written so that a killed run leaves the last good one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

PART_BYTES = 15 * 2**20


def save(folder: Path, model: nn.Module, optimizers: list[torch.optim.Optimizer], progress: dict[str, Any]) -> None:
    """Weights, optimizer states and `progress` in `folder`; the folder is replaced as a whole."""
    tensors = {f"weight/{name}": weight.detach() for name, weight in model.named_parameters()}
    names: dict[Tensor, str] = {weight: name for name, weight in model.named_parameters()}
    for optimizer in optimizers:
        for weight, state in optimizer.state.items():
            tensors |= {f"state/{key}/{names[weight]}": torch.as_tensor(value) for key, value in state.items()}

    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    part: dict[str, Tensor] = {}
    number = 0
    for key, tensor in tensors.items():
        if part and sum(t.nbytes for t in part.values()) + tensor.nbytes > PART_BYTES:
            save_file(part, fresh / f"part-{number:03}.safetensors")
            part, number = {}, number + 1
        part[key] = tensor.contiguous()
    save_file(part, fresh / f"part-{number:03}.safetensors")
    (fresh / "progress.json").write_text(json.dumps(progress) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors and the progress; takes the finished new folder when a run was killed between the two moves."""
    if not folder.exists() and folder.with_name(folder.name + ".new").joinpath("progress.json").exists():
        folder = folder.with_name(folder.name + ".new")
    tensors: dict[str, Tensor] = {}
    for part in sorted(folder.glob("part-*.safetensors")):
        tensors |= load_file(part)
    return tensors, json.loads((folder / "progress.json").read_text())


def weights(folder: Path) -> dict[str, Tensor]:
    """Only the weights, by their names in the model."""
    return {key.removeprefix("weight/"): t for key, t in read(folder)[0].items() if key.startswith("weight/")}


def restore(folder: Path, model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, Any]:
    """Put everything back where `save` found it and return the progress."""
    tensors, progress = read(folder)
    by_name = dict(model.named_parameters())
    with torch.no_grad():
        for name, weight in by_name.items():
            weight.copy_(tensors[f"weight/{name}"])
    for optimizer in optimizers:
        ours = {weight for group in optimizer.param_groups for weight in group["params"]}
        for key, tensor in tensors.items():
            kind, _, rest = key.partition("/")
            if kind == "state":
                field, _, name = rest.partition("/")
                if by_name[name] in ours:
                    target = tensor if field == "step" else tensor.to(by_name[name].device)
                    optimizer.state[by_name[name]][field] = target
    return progress
