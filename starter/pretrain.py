"""Stage one: read text and conversations, every token trained.

    python -m starter.pretrain --data RUN/stage-one --run RUN/pretrain

The rate rises over the warm-up and then stays (the first two parts of a warm-up, stable, decay schedule; Hu et al.
2024), so the run may end at any step: `touch RUN/pretrain/stop`, or the number of steps. Stage two decays it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from starter.loop import Settings, train
from starter.shape import SHAPES


def main(
    data: Annotated[Path, typer.Option(help="Shards written by starter.prepare --stage one.")],
    run: Annotated[Path, typer.Option(help="Folder for the log and the checkpoint; resumes if it has one.")],
    size: Annotated[str, typer.Option(help="cpu (5 M parameters) or gpu (31 M).")] = "cpu",
    start: Annotated[Path | None, typer.Option(help="Checkpoint to begin from instead of fresh weights.")] = None,
    steps: Annotated[int, typer.Option(help="Stop after this many steps.")] = 4000,
    rows: Annotated[int, typer.Option(help="Sequences in a step.")] = 24,
    length: Annotated[int, typer.Option(help="Tokens in a sequence.")] = 256,
    micro_rows: Annotated[int, typer.Option(help="Sequences in one forward and backward pass.")] = 24,
    warmup: Annotated[int, typer.Option(help="Steps over which the rate rises.")] = 40,
    muon_rate: Annotated[float, typer.Option(help="Rate for the matrices.")] = 0.01,
    adam_rate: Annotated[float, typer.Option(help="Rate for embedding and norms.")] = 0.003,
    save_minutes: Annotated[float, typer.Option(help="Minutes between checkpoints.")] = 3.0,
    threads: Annotated[int, typer.Option(help="Processor threads; 0 leaves the choice to torch.")] = 0,
    seed: Annotated[int, typer.Option(help="Decides the first weights.")] = 1,
) -> None:
    """Pretrain, or go on with it."""
    if threads:
        torch.set_num_threads(threads)
    settings = Settings(str(data), steps, rows, length, micro_rows, muon_rate, adam_rate, seed, save_minutes)
    train(run, SHAPES[size], settings, lambda step: min(1.0, (step + 1) / warmup), start_from=start)


if __name__ == "__main__":
    typer.run(main)
