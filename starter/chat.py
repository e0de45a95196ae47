"""Stage two: the chat format, simple instructions and practice, the rate decaying to zero.

    python -m starter.chat --data RUN/stage-two --start RUN/pretrain/checkpoint --run RUN/chat

Rows hold whole conversations. Leave off at four fifths of the steps (`--until`) and give the rest with `--length 2048
--rows 3`: the shards' rows of 1,024 lie side by side in it, and the far positions are trained too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from starter import checkpoint
from starter.loop import Settings, train
from starter.shape import Shape


def main(
    data: Annotated[Path, typer.Option(help="Shards written by starter.prepare --stage two.")],
    start: Annotated[Path, typer.Option(help="Checkpoint of stage one.")],
    run: Annotated[Path, typer.Option(help="Folder for the log and the checkpoint; resumes if it has one.")],
    steps: Annotated[int, typer.Option(help="Steps until the rate is zero; may be changed when resuming.")] = 500,
    until: Annotated[int | None, typer.Option(help="Leave off after this step, to go on with other lengths.")] = None,
    rows: Annotated[int, typer.Option(help="Sequences in a step.")] = 6,
    length: Annotated[int, typer.Option(help="Tokens in a sequence, a multiple of the shards' row length.")] = 1024,
    micro_rows: Annotated[int, typer.Option(help="Sequences in one forward and backward pass.")] = 6,
    muon_rate: Annotated[float, typer.Option(help="Rate for the matrices at the first step.")] = 0.02,
    adam_rate: Annotated[float, typer.Option(help="Rate for embedding and norms at the first step.")] = 0.004,
    save_minutes: Annotated[float, typer.Option(help="Minutes between checkpoints.")] = 3.0,
    threads: Annotated[int, typer.Option(help="Processor threads; 0 leaves the choice to torch.")] = 0,
    seed: Annotated[int, typer.Option(help="Kept in the checkpoint; nothing is drawn in this stage.")] = 1,
) -> None:
    """Teach the chat format, or go on with it."""
    if threads:
        torch.set_num_threads(threads)
    shape = Shape(**checkpoint.read(start)[1]["shape"])
    settings = Settings(str(data), steps, rows, length, micro_rows, muon_rate, adam_rate, seed, save_minutes)
    train(run, shape, settings, lambda step: 1.0 - step / steps, start_from=start, until=until)


if __name__ == "__main__":
    typer.run(main)
