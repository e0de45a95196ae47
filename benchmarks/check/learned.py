"""What the rules about a training's record name: rows with flipped labels, and rows that stand there many times.

    python benchmarks/check/learned.py --bench DIR

LABELS labels of BANKING77 are drawn, and ROWS training rows of them. A share of the labels is flipped at random, and COPIED other
rows get COPIES copies each. The starter is trained on them with the plan's own values, and the job is checked
(`journeyman check JOB`): of its record the rules name rows that were never learned, forgotten again, or known at once. A line of
results/learned.jsonl is one training. Rows that the
training sets aside to measure on are not counted.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pays import LABELS, SET, WATCHED, drawn, written
from plant import answer, changed, load
from planted import keep, ratio, read

from journeyman.data.check.learned import FILE, read_losses
from journeyman.files import write_jsonl
from journeyman.plan.plan import Wishes
from journeyman.request import TrainRequest
from journeyman.workspace import Workspace

NAME = "learned.jsonl"
ROWS, COPIED, COPIES = 400, 4, 9
FIRST = "never_learned"


def measure(bench: Path, share: float, seed: int, folder: Path, epochs: int | None, split: str) -> dict[str, Any]:
    """Plant, train, check the job, and count."""
    labels = sorted({answer(row) for row in load(bench, SET, "train", None, 0)})
    labels = random.Random(f"learned {seed}").sample(labels, LABELS)
    rows = drawn(bench, split, set(labels), ROWS, seed)
    draw = random.Random(f"learned rows {seed}")
    chosen = draw.sample(range(len(rows)), round(share * len(rows)) + COPIED)
    copied, flipped = chosen[:COPIED], set(chosen[COPIED:])
    for index in flipped:
        rows[index] = changed(rows[index], answer=draw.choice([label for label in labels if label != answer(rows[index])]))
    order = [*range(len(rows)), *(index for index in copied for _ in range(COPIES))]
    draw.shuffle(order)
    path = written(folder / "rows.jsonl", [rows[index] for index in order])
    watched = written(folder / "watched.jsonl", drawn(bench, "valid", set(labels), WATCHED, seed))
    workspace = Workspace(folder / "home")
    start = time.perf_counter()
    job, _ = workspace.train(TrainRequest(str(path), wishes=Wishes(seed=seed, epochs=epochs), validation=watched, despite_errors=True))
    took_s = time.perf_counter() - start
    review = workspace.check_job(job.id)
    record = read_losses(job.folder / FILE, review.dataset.train)
    # What each row is and how it was learned: for whoever would change a rule by other rows.
    kinds = ["flipped" if order[row.place.line - 1] in flipped else "copy" if order[row.place.line - 1] in copied else "as it is" for row in review.dataset.train]
    write_jsonl(folder / "record.jsonl", ({"kind": kind, "losses": losses} for kind, losses in zip(kinds, record, strict=True)))
    result: dict[str, Any] = {
        "set": SET, "share": share, "seed": seed, "rows": len(kinds), "flipped": kinds.count("flipped"), "copies": kinds.count("copy"),
        "epochs": max(map(len, record)), "train_s": round(took_s),
    }  # fmt: skip
    for code in ("never_learned", "forgotten_again", "learned_at_once"):
        lines = {row.place.line for finding in review.report.findings if finding.code == code for row in finding.rows}
        wrong = sum(order[line - 1] in flipped for line in lines)
        again = sum(order[line - 1] in copied for line in lines)
        result[code] = {"named": len(lines), "flipped": wrong, "copies": again}
    hard = result[FIRST]
    return {**result, "recall": ratio(hard["flipped"], kinds.count("flipped")), "precision": ratio(hard["flipped"], hard["named"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--share", type=float, nargs="+", default=[0.05, 0.1, 0.01])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="instead of the plan's own number")
    parser.add_argument("--other-rows", type=Path, metavar="DIR", help="of test rows, to change a rule by: keeps the records there, writes no result")
    wanted = parser.parse_args()
    done = {(row["share"], row["seed"]) for row in read(NAME)}
    for seed in wanted.seeds:
        for share in wanted.share:
            if wanted.other_rows:
                folder = wanted.other_rows / f"{share}-{seed}"
                folder.mkdir(parents=True)
                print(measure(wanted.bench, share, seed, folder, wanted.epochs, "test"), file=sys.stderr, flush=True)
            elif (share, seed) not in done:
                with tempfile.TemporaryDirectory(prefix="journeyman-learned-") as made:
                    result = measure(wanted.bench, share, seed, Path(made), wanted.epochs, "train")
                keep(NAME, result, ("set", "share", "seed"))
                print(result, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
