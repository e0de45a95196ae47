"""How time and memory grow with rows, their length, the rank, and the model.

    python benchmarks/train/scaling.py            # measure what results/scaling.jsonl lacks, and draw docs/scaling.svg
    python benchmarks/train/scaling.py --draw     # draw only

One thing grows at a time, from the starter's shape, 32 rows of 128 random tokens of which a third is learned, 16 a step and
rank 16. Each point is a process of its own, forked once everything is imported: its processor time over the steps after
the first, and its largest resident set.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from journeyman.files import read_jsonl
from journeyman.jobs.draw import Encodings
from journeyman.plan.machine import Machine
from journeyman.plan.plan import Wishes, make_plan
from journeyman.plan.shape import ModelShape
from journeyman.records import Place
from journeyman.text.encode import Encoded
from journeyman.train.load import load_base
from journeyman.train.loop import prepare, train

HERE = Path(__file__).parent
OUT = HERE.parent / "results" / "scaling.jsonl"
PICTURE = HERE.parents[1] / "docs" / "scaling.svg"
MACHINE = Machine(cores=1, memory_bytes=2**35, free_memory_bytes=2**35, free_disk_bytes=2**40, cpu="", cpu_bf16=False, matmul_flops_s=1e11)


@dataclass(frozen=True)
class Point:
    """What is trained."""

    rows: int = 32
    tokens: int = 128
    rank: int = 16
    width: int = 256
    layers: int = 4


GROWING: Mapping[str, tuple[Point, ...]] = {
    "rows": tuple(Point(rows=n) for n in (32, 64, 128, 256)),
    "tokens a row": tuple(Point(tokens=n) for n in (64, 128, 256, 512, 1024)),
    "rank": tuple(Point(rank=n) for n in (4, 16, 64, 128)),
    "width": tuple(Point(width=n) for n in (128, 256, 512, 1024)),
    "layers": tuple(Point(layers=n) for n in (2, 4, 8, 16)),
}
FIELDS = {"rows": "rows", "tokens a row": "tokens", "rank": "rank", "width": "width", "layers": "layers"}


def measure(point: Point) -> dict[str, Any]:
    """Train in a forked process and read what it used."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(writer, "w") as pipe, tempfile.TemporaryDirectory() as folder:
            pipe.write(json.dumps(_train(point, Path(folder))))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return dict(json.loads(said))


def _train(point: Point, folder: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=point.width, num_hidden_layers=point.layers, intermediate_size=point.width * 11 // 4, vocab_size=8192,
        num_attention_heads=point.width // 64, num_key_value_heads=max(1, point.width // 128), tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "base")
    draw = np.random.default_rng(0)
    weights = (np.arange(point.tokens) >= point.tokens * 2 // 3).astype(np.float32)
    rows = [
        Encoded(draw.integers(8192, size=point.tokens).astype(np.int32), weights, Place("rows", n)) for n in range(point.rows)
    ]
    encodings = Encodings(rows, [], [])
    shape = ModelShape.read(folder / "base")
    plan = make_plan(
        base="base", base_hash="", dataset_hash="", facts=encodings.facts(), shape=shape, machine=MACHINE,
        wishes=Wishes(epochs=1, batch_size=16, rank=point.rank), step_tokens=encodings.step_tokens,
    )  # fmt: skip
    model = load_base(folder / "base")
    prepare(model, plan)
    marks: list[float] = []
    train(plan, model, rows, [], folder, on_event=lambda e: marks.append(time.process_time()) if e["type"] == "step" else None)
    return {
        "params": shape.params,
        "cpu_s": marks[-1] - marks[0],
        "timed_tokens": (point.rows - 16) * point.tokens,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "estimated_bytes": plan.memory_bytes,
    }


def missing(done: list[dict[str, Any]]) -> Iterator[Point]:
    """The points that stand in no line yet, each once."""
    have = [Point(**{name: row[name] for name in asdict(Point())}) for row in done]
    for points in GROWING.values():
        for point in points:
            if point not in have:
                have.append(point)
                yield point


def lines(done: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """What was measured, by what grows; a job's time is that of an epoch, its first step counted as the others."""
    out = {}
    for name, points in GROWING.items():
        found = [next((r for r in done if replace(p) == Point(**{k: r[k] for k in asdict(p)})), None) for p in points]
        out[name] = [{**r, "epoch_s": r["cpu_s"] * r["rows"] / (r["rows"] - 16)} for r in found if r]
    return out


def draw(done: list[dict[str, Any]], path: Path) -> None:
    """Time above, memory below, a column for each thing that grows; both axes logarithmic, but memory from zero."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "journeyman"
    from matplotlib import pyplot

    grown = lines(done)
    figure, axes = pyplot.subplots(2, len(grown), figsize=(2.6 * len(grown), 4.6), sharey="row", layout="constrained")
    for column, (name, rows) in enumerate(grown.items()):
        x = [row[FIELDS[name]] for row in rows]
        time_axis, memory_axis = axes[0][column], axes[1][column]
        time_axis.loglog(x, [row["epoch_s"] for row in rows], "o-", color="#1f5f8b")
        memory_axis.semilogx(x, [row["peak_bytes"] / 2**20 for row in rows], "o-", color="#1f5f8b", label="measured")
        memory_axis.semilogx(x, [row["estimated_bytes"] / 2**20 for row in rows], "--", color="#b5651d", label="the plan's")
        memory_axis.set_ylim(0)
        memory_axis.set_xlabel(name)
        for axis in (time_axis, memory_axis):
            axis.set_xticks(x, [f"{n:,}" for n in x])
            axis.minorticks_off()
            axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("an epoch, processor s")
    axes[1][0].set_ylabel("peak, MiB")
    axes[1][0].legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure what is missing, then draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    args = parser.parse_args()
    done = [dict(row) for row in read_jsonl(OUT)] if OUT.is_file() else []
    for point in () if args.draw else tuple(missing(done)):
        row = {**asdict(point), **measure(point)}
        done.append(row)
        with OUT.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
    draw(done, PICTURE)


if __name__ == "__main__":
    main()
