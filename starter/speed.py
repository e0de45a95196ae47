"""Tokens per second of a run, and the share of the machine's measured matrix-product peak.

    python -m starter.speed --run RUN/pretrain
"""

from __future__ import annotations

import csv
import statistics
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from starter import checkpoint
from starter.optimizer import multiplies_bf16
from starter.shape import Shape


def peak(seconds: float = 3.0, size: int = 2048) -> float:
    """FLOP/s of the best of many square matrix products."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16 if multiplies_bf16(device) else torch.float32)
    best = float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        tick = time.perf_counter()
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - tick)
    return 2 * size**3 / best


def main(
    run: Annotated[Path, typer.Option(help="Folder of a training run.")],
    threads: Annotated[int, typer.Option(help="Processor threads; 0 leaves the choice to torch.")] = 0,
) -> None:
    """Print the median and best speed of the run; on a shared machine they differ."""
    if threads:
        torch.set_num_threads(threads)
    with (run / "log.csv").open() as file:
        speeds = sorted(float(row["tokens_per_second"]) for row in csv.DictReader(file))
    progress = checkpoint.read(run / "checkpoint")[1]
    flops = Shape(**progress["shape"]).flops_per_token(progress["settings"]["length"])
    limit = peak()
    for name, speed in (("median", statistics.median(speeds)), ("best tenth", speeds[int(len(speeds) * 0.95)])):
        typer.echo(f"{name}: {speed:,.0f} tokens/s = {speed * flops / 1e9:.1f} GFLOP/s, {speed * flops / limit:.0%} of {limit / 1e9:.0f}")


if __name__ == "__main__":
    typer.run(main)
