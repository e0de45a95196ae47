"""Tune the starter on each task and seed; write what the graders say before and after.

    python benchmarks/results.py --tasks support triage catalog --seeds 0 1 2
    python benchmarks/results.py --bench DIR --tasks banking77 clinc150 --seeds 0 1 2

One JSON line a run is appended to results/results.jsonl, with the plan's values, so that an interrupted series goes
on where it stopped: runs that stand there already, on the same base and dataset, are left out. The base is scored
once a task, on the first BASE_ROWS held-out rows.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from journeyman.evaluate.run import Scores
from journeyman.files import read_jsonl
from journeyman.plan.plan import Wishes
from journeyman.request import TrainRequest
from journeyman.workspace import Workspace

HERE = Path(__file__).parent
BUNDLED = ("support", "triage", "catalog")
BASE_ROWS = 300
SAMPLES = 10
VALUES = ("right values", "takes up the message")
"""Graders of which the mean value says more than who passed."""


@dataclass(frozen=True)
class Case:
    """One task: where its rows are."""

    name: str
    source: str
    validation: Path | None = None
    held_out: Path | None = None


def case(name: str, bench: Path | None) -> Case | None:
    """The task by name, or None where its data is not here."""
    if name in BUNDLED:
        return Case(name, name)
    folder = (bench or Path("missing")) / name
    if not folder.is_dir():
        return None
    return Case(name, str(folder / "train.jsonl"), folder / "valid.jsonl", folder / "test.jsonl")


def run(workspace: Workspace, case: Case, base: str, wishes: Wishes, *, score_base: bool) -> dict[str, Any]:
    """Train once and evaluate on all held-out rows."""
    started_s = time.perf_counter()
    request = TrainRequest(case.source, base, wishes, case.name, case.validation, case.held_out)
    job, version = workspace.train(request)
    assert version is not None
    trained_s = time.perf_counter() - started_s
    tuned = workspace.score(version.id, version)
    base_scores = workspace.score(version.base_source, version, limit=BASE_ROWS) if score_base else None
    choices = {n: c["value"] for n, c in version.plan["choices"].items()}
    return {
        "task": case.name,
        "base": version.base,
        "base_fingerprint": version.base_fingerprint,
        "dataset": version.dataset_hash,
        "seed": choices["seed"],
        "plan": choices,
        "metrics": version.metrics,
        "train_s": round(trained_s, 1),
        "tuned": summary(tuned),
        "before": summary(base_scores) if base_scores else None,
        "samples": samples(tuned, quoted=case.name in BUNDLED) if score_base else None,
        "job": job.id,
    }


def summary(scores: Scores) -> dict[str, Any]:
    """Rows that passed every grader, and the share of rows that passed each."""
    names = dict.fromkeys(s.name for row in scores.rows for s in row.graded.scores if s.passed is not None)
    by_grader = {
        name: sum(bool(s.passed) for row in scores.rows for s in row.graded.scores if s.name == name) for name in names
    }
    means = {}
    for name in VALUES:
        values = [s.value for row in scores.rows for s in row.graded.scores if s.name == name and s.value is not None]
        if values:
            means[f"mean_{name.replace(' ', '_')}"] = round(sum(values) / len(values), 4)
    return {
        "rows": len(scores.rows),
        "passed": sum(bool(row.graded.passed) for row in scores.rows),
        "graders": by_grader,
        **means,
    }


def samples(scores: Scores, *, quoted: bool) -> list[dict[str, Any]]:
    """The first held-out rows as they are; of others' data only the labels, since its text is not ours to give on."""
    shown = ("input", "ideal", "output") if quoted else ("ideal", "output")
    return [{**{name: getattr(row, name) for name in shown}, "passed": row.graded.passed} for row in scores.rows[:SAMPLES]]


def done(path: Path) -> set[tuple[str, int, str]]:
    """(task, seed, base) of the runs that stand in the file."""
    rows = read_jsonl(path) if path.is_file() else ()
    return {(row["task"], row["seed"], row["base_fingerprint"]) for row in rows}


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, help="folder of the public datasets")
    parser.add_argument("--tasks", nargs="+", default=[*BUNDLED, "banking77", "clinc150"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--base", default="starter")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--full", action="store_true", help="train all weights")
    parser.add_argument("--repetition-penalty", type=float, help="for a base other than the one a task names")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "results.jsonl")
    args = parser.parse_args()
    from journeyman.models import bases

    fingerprint = bases.resolve(args.base).fingerprint
    with tempfile.TemporaryDirectory(prefix="journeyman-results-") as home:
        workspace = Workspace(Path(home))
        for seed in args.seeds:
            for name in args.tasks:
                found = case(name, args.bench)
                if found is None:
                    print(f"{name}: its data is not here (--bench)")
                    continue
                if (name, seed, fingerprint) in done(args.out):
                    continue
                wishes = Wishes(seed=seed, epochs=args.epochs, full=args.full, repetition_penalty=args.repetition_penalty)
                row = run(workspace, found, args.base, wishes, score_base=seed == args.seeds[0])
                with args.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                print(name, "seed", seed, f"{row['tuned']['passed']}/{row['tuned']['rows']}", "before", row["before"] and row["before"]["passed"], f"{row['train_s']} s", flush=True)


if __name__ == "__main__":
    main()
