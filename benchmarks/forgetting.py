"""What a task costs elsewhere, and what each remedy does about it.

    python benchmarks/forgetting.py --task triage --rows 200 --seeds 0 1 2

Each case is one training of the starter, scored on the task's held-out rows and on the general probe set. The
over-trained one is meant to be bad: twice the passes at three times the rate. One JSON line a training is appended to
results/forgetting.jsonl; those that stand there already, on the same base, are left out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from journeyman.evaluate.forgetting import Measured, forgetting, measure
from journeyman.files import read_jsonl
from journeyman.plan.plan import Plan, Wishes
from journeyman.request import TrainRequest
from journeyman.workspace import Workspace

HERE = Path(__file__).parent


def cases(plan: Plan) -> dict[str, Wishes]:
    """What is compared, around the values that the plan would choose for the task."""
    rate, epochs = plan.learning_rate.value, plan.epochs.value
    return {
        "over-trained: epochs x 2, rate x 3": Wishes(full=True, epochs=2 * epochs, learning_rate=3 * rate),
        "over-trained, --rehearsal 0.2": Wishes(full=True, epochs=2 * epochs, learning_rate=3 * rate, rehearsal=0.2),
        "the plan": Wishes(full=True),
        "--rehearsal 0.2": Wishes(full=True, rehearsal=0.2),
        "a third of the learning rate": Wishes(full=True, learning_rate=rate / 3),
        "--epochs 1": Wishes(full=True, epochs=1),
        "--rank 8, without --full": Wishes(rank=8),
    }


def request(workspace: Workspace, task: str, rows: int, folder: Path, wishes: Wishes) -> TrainRequest:
    """The first rows of a task as a bare file: the bundled tasks ask for --full, and here the wishes shall decide."""
    found = workspace.task(task)
    lines = found.examples.read_text(encoding="utf-8").splitlines()[:rows]
    path = folder / f"{task}-{rows}.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return TrainRequest(str(path), "starter", wishes, held_out=found.held_out)


def run(workspace: Workspace, task: str, base: Measured, asked: TrainRequest) -> dict[str, Any]:
    """Train once; the task's score and what was forgotten."""
    started_s = time.perf_counter()
    _, version = workspace.train(asked)
    assert version is not None
    trained_s = time.perf_counter() - started_s
    served = workspace.served(version.id)
    lost = forgetting(base, measure(served.engine, served.adapter))
    scores = workspace.score(version.id, version, task)
    return {
        "task": task,
        "base_fingerprint": version.base_fingerprint,
        "seed": asked.wishes.seed,
        "passed": sum(bool(row.graded.passed) for row in scores.rows),
        "rows": len(scores.rows),
        "trained_rows": version.plan["facts"]["rows"],
        "within_budget": lost.within_budget,
        "over_budget": [s.name for s in lost.over_budget],
        "skills": [
            {"name": s.name, "base": s.base, "tuned": s.tuned, "verdict": s.verdict}
            for s in lost.skills
        ],
        "text_loss": {"base": lost.text.base, "tuned": lost.text.tuned},
        "train_s": round(trained_s, 1),
        "plan": {n: c["value"] for n, c in version.plan["choices"].items()},
        "best_step": version.metrics["best_step"],
    }


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="triage")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=200, help="examples to train on")
    parser.add_argument("--only", nargs="+", help="only cases whose name begins so")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "forgetting.jsonl")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="journeyman-forgetting-") as home:
        workspace = Workspace(Path(home))
        ask = partial(request, workspace, args.task, args.rows, Path(home))
        plan = workspace.plan(ask(Wishes(full=True)))
        served = workspace.served("starter")
        base = measure(served.engine, None)
        kept = list(read_jsonl(args.out)) if args.out.is_file() else []
        done = {(row["task"], row["case"], row["seed"], row["base_fingerprint"]) for row in kept}
        for seed in args.seeds:
            for name, wishes in cases(plan).items():
                if (args.task, name, seed, plan.base_hash) in done or (args.only and not name.startswith(tuple(args.only))):
                    continue
                row = {"case": name, **run(workspace, args.task, base, ask(replace(wishes, seed=seed)))}
                with args.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                print(name, "seed", seed, f"{row['passed']}/{row['rows']}", row["over_budget"] or "within", f"{row['train_s']} s", flush=True)


if __name__ == "__main__":
    main()
