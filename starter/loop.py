"""The training loop both stages run: batches from shards, one loss, two optimizers, a log and checkpoints.

Everything random is decided before (order of the shards, first weights), and batch k is always the same tokens,
so a run that was stopped and resumed ends with the weights of one that was not.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from starter import checkpoint
from starter.model import Starter
from starter.optimizer import multiplies_bf16, optimizers
from starter.render import TRAINED
from starter.shape import Shape

LOG_FIELDS = ["step", "tokens", "seconds", "loss", "gradient_norm", "rate", "tokens_per_second"]


@dataclass(frozen=True)
class Settings:
    """What a stage's command decides; written into every checkpoint."""

    data: str
    steps: int
    rows: int
    length: int
    micro_rows: int
    muon_rate: float
    adam_rate: float
    seed: int
    save_minutes: float


class Batches:
    """Shards read as `rows` endless streams side by side, so that one long document does not fill a batch.

    Batch `step` is a function of the step alone.
    """

    def __init__(self, folder: Path, rows: int, length: int) -> None:
        parts = sorted(folder.glob("part-*.npy"))
        if not parts:
            raise SystemExit(f"{folder} holds no part-*.npy; run starter.prepare first")
        self.stream = np.concatenate([np.load(part) for part in parts])
        self.length = length
        self.starts = np.arange(rows) * (len(self.stream) // rows // length * length)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Ids of shape (rows, length), and as targets the ids that follow them, -1 where nothing is trained."""
        places = self.starts[:, None] + step * self.length + np.arange(self.length + 1)
        marked = np.take(self.stream, places, mode="wrap")
        ids = torch.from_numpy((marked & ~np.uint16(TRAINED)).astype(np.int64))
        targets = torch.where(torch.from_numpy((marked & TRAINED) > 0), ids, -1)
        return ids[:, :-1].contiguous(), targets[:, 1:].contiguous()


def train(
    run: Path,
    shape: Shape,
    settings: Settings,
    schedule: Callable[[int], float],
    start_from: Path | None = None,
    until: int | None = None,
) -> None:
    """Run to `settings.steps`, or only to step `until`.

    Begins at the last checkpoint in `run` if there is one, else at `start_from`, else with fresh weights.
    A file `run/stop` ends the run early, with a checkpoint.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bf16 = multiplies_bf16(device)
    model = Starter(shape)
    model.initialise(settings.seed)
    model.to(device)
    opts = optimizers(model, settings.muon_rate, settings.adam_rate)
    step, tokens, spent = 0, 0, 0.0
    here = run / "checkpoint"
    if here.exists():
        progress = checkpoint.restore(here, model, opts)
        step, tokens, spent = progress["step"], progress["tokens"], progress["seconds"]
    elif start_from is not None:
        tokens = checkpoint.restore(start_from, model, opts)["tokens"]
    batches = Batches(Path(settings.data), settings.rows, settings.length)
    loss_sum = torch.compile(model.loss_sum, dynamic=False)

    def save() -> None:
        done = {"step": step, "tokens": tokens, "seconds": spent, "shape": shape.as_dict(), "settings": asdict(settings)}
        checkpoint.save(here, model, opts, done)

    last = settings.steps if until is None else min(until, settings.steps)
    run.mkdir(parents=True, exist_ok=True)
    stop = run / "stop"
    stop.unlink(missing_ok=True)
    log_path = run / "log.csv"
    with log_path.open("a", newline="") as log_file, bar() as progress_bar:
        log = csv.DictWriter(log_file, LOG_FIELDS)
        if log_file.tell() == 0:
            log.writeheader()
        task = progress_bar.add_task("", total=settings.steps, completed=step)
        began = saved = time.perf_counter()
        spent_before = spent
        while step < last and not stop.exists():
            tick = time.perf_counter()
            ids, targets = (t.to(device) for t in batches(step))
            trained = int((targets >= 0).sum())
            total = 0.0
            for row in range(0, settings.rows, settings.micro_rows):
                micro = slice(row, row + settings.micro_rows)
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    loss = loss_sum(ids[micro], targets[micro])
                (loss / trained).backward()  # type: ignore[no-untyped-call]
                total += loss.item()
            norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))
            if not (math.isfinite(total) and math.isfinite(norm)):
                raise SystemExit(f"step {step}: loss {total / trained}, gradient norm {norm}; refused, not saved")
            rate = schedule(step)
            for opt in opts:
                for group in opt.param_groups:
                    group["lr"] = group["peak"] * rate
                opt.step()
                opt.zero_grad(set_to_none=True)
            step += 1
            tokens += ids.numel()
            now = time.perf_counter()
            spent = spent_before + now - began
            speed = ids.numel() / (now - tick)
            log.writerow(
                dict(zip(LOG_FIELDS, [step, tokens, f"{spent:.1f}", f"{total / trained:.4f}", f"{norm:.3f}",
                                      f"{rate:.4f}", f"{speed:.0f}"], strict=True))
            )
            progress_bar.update(task, completed=step, description=f"loss {total / trained:.3f}  {speed:,.0f} tokens/s")
            if step % 10 == 0:
                log_file.flush()
            if now - saved > settings.save_minutes * 60:
                save()
                saved = now
        save()


def bar() -> Progress:
    """One line with the loss and an honest time left, on standard error."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), refresh_per_second=1, speed_estimate_period=600,
    )
