"""Adapters on the last layers only, and the base in fewer bits: what that saves, and what it costs.

    python benchmarks/lanes.py --bench DIR --tasks support banking77 --rows 2000 --lanes all int8 fp8 nf4 3 2 1
    python benchmarks/lanes.py --base DIR --tasks support --rows 48 --lanes all int8 20 10 --score 0

A number stands for so many last layers. Each line of results/lanes.jsonl is one training: its seconds, its highest memory,
its best validation loss, and the held-out rows that passed. Runs that stand there are left out.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from results import HERE, Case, case
from sweep import first_rows

from journeyman.files import read_jsonl
from journeyman.models import bases
from journeyman.plan.memory import QUANTISED_BYTES
from journeyman.plan.plan import Wishes
from journeyman.plan.shape import ModelShape
from journeyman.request import TrainRequest
from journeyman.workspace import Workspace


def shortened(found: Case, rows: int, folder: Path) -> Case:
    """The task as bare files, of its first rows: a bundled task asks for --full, and here the wishes shall decide."""
    folder.mkdir(parents=True)
    task = Workspace(folder / "home").task(found.source)
    train = first_rows(task.examples, rows, folder)
    held_out = found.held_out or task.held_out
    assert held_out is not None
    return Case(found.name, str(train), found.validation and first_rows(found.validation, rows // 8, folder), held_out)


def run(home: Path, found: Case, base: str, wishes: Wishes, score: int) -> dict[str, Any]:
    """Train once, in a process whose memory is this training's alone, and ask `score` held-out rows."""
    workspace = Workspace(home)
    started_s, processor_s = time.perf_counter(), time.process_time()
    _, version = workspace.train(TrainRequest(found.source, base, wishes, "", found.validation, found.held_out, despite_errors=True))
    assert version is not None
    took: dict[str, float] = {"wall_s": round(time.perf_counter() - started_s, 1), "processor_s": round(time.process_time() - processor_s, 1)}
    took["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    plan = {name: choice["value"] for name, choice in version.plan["choices"].items()}
    scores = workspace.score(version.id, version, limit=score).rows if score else []
    return {
        **took,
        "epochs": plan["epochs"],
        "rank": plan["rank"],
        "precision": plan["precision"],
        "steps": version.metrics["steps"],
        "valid_loss": round(version.metrics["best_valid_loss"], 4),
        "rows": len(scores),
        "passed": sum(bool(row.graded.passed) for row in scores),
    }


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path)
    parser.add_argument("--tasks", nargs="+", default=["support", "banking77"])
    parser.add_argument("--rows", type=int, default=2000, help="training rows")
    parser.add_argument("--lanes", nargs="+", default=["all", "int8", "3", "2", "1"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--base", default="starter")
    parser.add_argument("--score", type=int, default=500, help="held-out rows asked; 0 for none")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "lanes.jsonl")
    args = parser.parse_args()
    found_base = bases.resolve(args.base)
    named = {"base_fingerprint": found_base.fingerprint, "base_params": ModelShape.read(found_base.folder).params, "train_rows": args.rows}
    with tempfile.TemporaryDirectory(prefix="journeyman-lanes-") as home:
        for seed in args.seeds:
            for name in args.tasks:
                asked = case(name, args.bench)
                if asked is None:
                    raise SystemExit(f"{name}: its data is not here (--bench)")
                found = shortened(asked, args.rows, Path(home) / f"{name}-{seed}")
                for lane in args.lanes:
                    row: dict[str, Any] = {**named, "task": name, "seed": seed, "lane": lane}
                    known = read_jsonl(args.out) if args.out.is_file() else ()
                    if any(row.items() <= dict(other).items() for other in known):
                        continue
                    asked_for = {} if lane == "all" else {"quantise": lane} if lane in QUANTISED_BYTES else {"top_layers": int(lane)}
                    wishes = Wishes(seed=seed, **asked_for)
                    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as apart:
                        row |= apart.submit(run, Path(home) / "home", found, args.base, wishes, args.score).result()
                    with args.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
                    print(row, flush=True)


if __name__ == "__main__":
    main()
