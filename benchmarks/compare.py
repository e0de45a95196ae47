"""Compare all contenders on each task and seed, to see whether fine-tuning is the right tool.

    python benchmarks/compare.py --seeds 0 1 2
    python benchmarks/compare.py --bench DIR --tasks banking77 clinc150 e2e-nlg snips-json --rows 300 --train-rows 2000

One JSON line a comparison is appended to results/compare.jsonl: the numbers of `compare --json`, without rows. Runs that
stand there already, on the same base, are left out; one that was interrupted goes on from its answers in --home. Of a
public dataset the first --train-rows of a shuffle by the seed are trained on, and --rows held-out rows are asked.
`prices` is the case where the answers have changed since the examples were written (prices.py).
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import prices

from journeyman.files import read_jsonl
from journeyman.models import bases
from journeyman.plan.plan import Wishes
from journeyman.request import CompareRequest, TrainRequest
from journeyman.workspace import Workspace

HERE = Path(__file__).parent
BUNDLED = ("support", "triage", "catalog")
PUBLIC = ("banking77", "clinc150", "e2e-nlg", "snips-json")
GRADERS = {
    "e2e-nlg": 'type = "text_similarity"\nname = "rouge_l"\ninput = "{{ sample.output_text }}"\n'
    'reference = "{{ item.ideal }}"\nevaluation_metric = "rouge_l"',
    "snips-json": 'type = "json_equal"\nname = "right values"',
}
"""Graders of the public datasets; the others are graded by exact match with the ideal."""


def request(name: str, seed: int, args: argparse.Namespace) -> CompareRequest | None:
    """What to compare, or None where the data is not here."""
    wishes = Wishes(seed=seed)
    if name in BUNDLED:
        return CompareRequest(TrainRequest(name, args.base, wishes, despite_errors=True), rows=args.rows)
    if name == "prices":
        folder = prices.write(args.home / "tasks" / f"prices-{seed}", seed)
        train = TrainRequest(str(folder), args.base, wishes, despite_errors=True)
        return CompareRequest(train, rows=args.rows, passages=1)  # an article is a passage
    data = (args.bench or Path("missing")) / name
    if not data.is_dir():
        return None
    folder = args.home / "tasks" / f"{name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    lines = (data / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    random.Random(seed).shuffle(lines)
    (folder / "examples.jsonl").write_text("".join(lines[: args.train_rows]), encoding="utf-8")
    (folder / "validation.jsonl").write_text(
        "".join((data / "valid.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:200]), encoding="utf-8"
    )
    grader = f"\n[[graders]]\n{GRADERS[name]}\n" if name in GRADERS else ""
    (folder / "task.toml").write_text(f'name = "{name}-{seed}"\n{grader}', encoding="utf-8")
    train = TrainRequest(
        str(folder),
        args.base,
        Wishes(seed=seed, full=True),
        validation=folder / "validation.jsonl",
        held_out=data / "test.jsonl",
        despite_errors=True,
    )
    return CompareRequest(train, rows=args.rows)


KEPT = ("rows", "held_out_rows", "score", "reference", "left_out", "settings")
KEPT_OF_A_CONTENDER = ("name", "title", "score", "interval", "rows", "tokens_per_request", "latency_s")


def numbers(made: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a comparison: no text of any row, no path."""
    contenders = []
    for one in made["contenders"]:
        against = one["against_reference"]
        shown = None if against is None else {key: against[key] for key in ("verdict", "difference", "interval", "p_value")}
        contenders.append({**{key: one[key] for key in KEPT_OF_A_CONTENDER}, "against_reference": shown})
    return {
        **{key: made[key] for key in KEPT},
        "contenders": contenders,
        "training_s": None if made["training"] is None else made["training"]["seconds"],
        "advice": {key: made["advice"][key] for key in ("verdict", "in_words", "reason")},
    }


def done(path: Path) -> set[tuple[str, int, str]]:
    """(task, seed, base) of the comparisons that stand in the file."""
    rows = read_jsonl(path) if path.is_file() else ()
    return {(row["name"], row["seed"], row["base_fingerprint"]) for row in rows}


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, help="folder of the public datasets")
    parser.add_argument("--tasks", nargs="+", default=[*BUNDLED, "prices", *PUBLIC])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--base", default="starter")
    parser.add_argument("--rows", type=int, default=300, help="held-out rows asked at most")
    parser.add_argument("--train-rows", type=int, default=2000, help="training rows of a public dataset")
    parser.add_argument("--home", type=Path, required=True, help="where models and answers are kept, to go on from")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "compare.jsonl")
    args = parser.parse_args()
    workspace = Workspace(args.home)
    fingerprint = bases.resolve(args.base).fingerprint
    for seed in args.seeds:
        for name in args.tasks:
            asked = request(name, seed, args)
            if asked is None:
                print(f"{name}: its data is not here (--bench)")
                continue
            if (name, seed, fingerprint) in done(args.out):
                continue
            started_s = time.perf_counter()
            made = workspace.compare(asked).as_dict()
            took_s = round(time.perf_counter() - started_s, 1)
            run = {"name": name, "seed": seed, "base_fingerprint": fingerprint, "train_rows": args.train_rows, "took_s": took_s}
            row = run | numbers(made)
            with args.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            print(name, "seed", seed, made["advice"]["verdict"], f"{took_s} s", flush=True)


if __name__ == "__main__":
    main()
