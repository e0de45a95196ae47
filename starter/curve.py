"""Held-out bits per byte of kept checkpoints: the curve over training.

    python -m starter.curve --bench DIR --out starter/results/curve.csv RUN/kept/*
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import track

from starter import checkpoint
from starter.heldout import bits_per_byte, heldout_rows
from starter.model import Starter
from starter.render import load_tokenizer
from starter.shape import Shape


def main(
    checkpoints: Annotated[list[Path], typer.Argument(help="Checkpoint folders, in any order.")],
    bench: Annotated[Path, typer.Option(help="Folder with heldout-ppl.")],
    tokenizer: Annotated[Path, typer.Option(help="Folder written by starter.tokenizer.")],
    out: Annotated[Path, typer.Option(help="The CSV file to write.")],
    every: Annotated[int, typer.Option(help="Use every n-th held-out row.")] = 4,
) -> None:
    """Measure each checkpoint on the same part of the held-out text."""
    rows = heldout_rows(bench / "heldout-ppl", every)
    reader = load_tokenizer(tokenizer)
    points = []
    for folder in track(checkpoints, description="Measuring"):
        tensors, progress = checkpoint.read(folder)
        model = Starter(Shape(**progress["shape"]))
        model.load_state_dict({key.removeprefix("weight/"): t for key, t in tensors.items() if key.startswith("weight/")})
        found = bits_per_byte(model, reader, rows, model.shape.context)
        points.append({"tokens": progress["tokens"], "step": progress["step"], "run": folder.name.split("-")[0],
                       "text": found["text"], "chat": found["chat"], "all": found["all"]})
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(points[0]))
        writer.writeheader()
        writer.writerows(sorted(points, key=lambda p: p["tokens"]))
    typer.echo(out.read_text())


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    typer.run(main)
