"""Learning rate and rank around the plan's own choice, on real rows.

    python benchmarks/sweep.py --bench DIR --task banking77 --rows 1500
    python benchmarks/sweep.py --task support

Each line of results/sweep.jsonl is one training: what was changed, the best validation loss and its token accuracy.
The table is printed at the end.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from results import HERE, Case, case

from journeyman.jobs.worker import read_events
from journeyman.plan.plan import Wishes
from journeyman.request import TrainRequest
from journeyman.workspace import Workspace

RATE_FACTORS = (0.3, 1.0, 3.0, 10.0)
RANKS = (4, 64)
FULL_FACTORS = (0.3, 1.0, 3.0)


def grid() -> Iterator[tuple[str, Wishes]]:
    """One factor changed at a time, from the plan's own choice."""
    for factor in RATE_FACTORS:
        yield f"learning rate x {factor:g}", Wishes(learning_rate_multiplier=factor)
    for rank in RANKS:
        yield f"rank {rank}", Wishes(rank=rank)
    for factor in FULL_FACTORS:
        yield f"full, learning rate x {factor:g}", Wishes(full=True, learning_rate_multiplier=factor)


def first_rows(path: Path, count: int, folder: Path) -> Path:
    """The first rows of a file (the public files are shuffled)."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)[:count]
    out = folder / path.name
    out.write_text("".join(lines), encoding="utf-8")
    return out


def run(workspace: Workspace, found: Case, base: str, wishes: Wishes) -> dict[str, Any]:
    """Train once; the best validation."""
    request = TrainRequest(found.source, base, wishes, "", found.validation, found.held_out)
    job, version = workspace.train(request)
    assert version is not None
    validations = [e for e in read_events(job.folder) if e["type"] == "validation"]
    best = min(validations, key=lambda e: e["valid_loss"])
    choices = {n: c["value"] for n, c in version.plan["choices"].items()}
    kept = ("learning_rate", "rank", "epochs", "batch_size", "method")
    return {
        "valid_loss": round(best["valid_loss"], 4),
        "valid_token_accuracy": round(best["valid_mean_token_accuracy"], 4),
        "best_step": best["step"],
        "steps": version.metrics["steps"],
        **{name: choices[name] for name in kept},
    }


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path)
    parser.add_argument("--task", default="support")
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--base", default="starter")
    parser.add_argument("--only", nargs="+", help="labels of the grid to run, such as 'rank 4'")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "sweep.jsonl")
    args = parser.parse_args()
    found = case(args.task, args.bench)
    if found is None:
        raise SystemExit(f"{args.task}: its data is not here (--bench)")
    with tempfile.TemporaryDirectory(prefix="journeyman-sweep-") as home:
        if found.validation is not None:
            folder = Path(home) / "rows"
            folder.mkdir()
            train = first_rows(Path(found.source), args.rows, folder)
            validation = first_rows(found.validation, 300, folder)
            found = Case(found.name, str(train), validation, first_rows(validation, 50, Path(home)))
        workspace = Workspace(Path(home) / "home")
        for label, wishes in grid():
            if args.only and label not in args.only:
                continue
            row = {"task": args.task, "rows": args.rows, "changed": label, **run(workspace, found, args.base, wishes)}
            row["wishes"] = {k: v for k, v in asdict(wishes).items() if v}
            with args.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{label:28} loss {row['valid_loss']:.4f}  accuracy {row['valid_token_accuracy']:.4f}", flush=True)


if __name__ == "__main__":
    main()
