"""Whether mending pays: a model tuned on rows with planted faults, on the same rows after `check --fix --relabel`, and on the clean rows.

    python benchmarks/check/pays.py --bench DIR

LABELS labels of BANKING77 are drawn, ROWS training rows of them, and TEST test rows; a share of the training labels is then flipped at
random. The check sees the training rows alone. All three are trained with the plan's own values and the same seed, and
asked the same test rows; a line of results/pays.jsonl is one training. Runs that stand there are left out.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from plant import Row, answer, asked, line, load, plant
from planted import keep, read

from journeyman.plan.plan import Wishes
from journeyman.request import TrainRequest
from journeyman.workspace import Workspace

SET, FAULT = "banking77", "random_flips"
LABELS, ROWS, TEST, WATCHED = 12, 480, 240, 60
VARIANTS = ("clean", "planted", "mended")


def drawn(bench: Path, split: str, labels: set[str], count: int, seed: int) -> list[Row]:
    """So many rows of these labels."""
    rows = [row for row in load(bench, SET, split, None, seed) if answer(row) in labels]
    return random.Random(f"pays {seed}").sample(rows, min(count, len(rows)))


def written(path: Path, rows: Sequence[Row | str]) -> Path:
    path.write_text("".join(f"{line(row)}\n" for row in rows), encoding="utf-8")
    return path


def wrong_labels(path: Path, clean: Sequence[Row]) -> int:
    """How many rows of a file have another label than the clean rows give their input."""
    right: dict[str, set[str]] = {}
    for row in clean:
        right.setdefault(asked(row), set()).add(answer(row))
    rows = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    return sum(answer(row) not in right[asked(row)] for row in rows)


def trained(
    workspace: Workspace, path: Path, watched: Path, test: Path, seed: int, epochs: int | None
) -> dict[str, Any]:
    """Train on a file, and ask the test rows."""
    _, version = workspace.train(
        TrainRequest(
            str(path),
            wishes=Wishes(seed=seed, epochs=epochs),
            validation=watched,
            held_out=test,
            despite_errors=True,
        )
    )
    assert version is not None
    answers = workspace.score(version.id, version).rows
    right = sum((row.output or "").strip() == row.ideal.strip() for row in answers)
    return {
        "asked": len(answers),
        "right": right,
        "score": round(right / len(answers), 4),
        "steps": version.metrics["steps"],
    }


def runs(bench: Path, share: float, seed: int, epochs: int | None, folder: Path) -> Iterator[dict[str, Any]]:
    """The three trainings of a seed."""
    labels = set(
        random.Random(f"labels {seed}").sample(
            sorted({answer(row) for row in load(bench, SET, "train", None, 0)}), LABELS
        )
    )
    clean = drawn(bench, "train", labels, ROWS, seed)
    watched = written(folder / "watched.jsonl", drawn(bench, "valid", labels, WATCHED, seed))
    test = written(folder / "test.jsonl", drawn(bench, "test", labels, TEST, seed))
    files = {
        "clean": written(folder / "clean.jsonl", clean),
        "planted": written(folder / "planted.jsonl", plant(FAULT, clean, [], share, seed).train),
    }
    workspace = Workspace(folder / "home")
    files["mended"] = workspace.check(TrainRequest(str(files["planted"]))).fix(folder / "mended.jsonl", relabel=True).out
    for variant in VARIANTS:
        yield {
            "set": SET, "fault": FAULT, "share": share, "seed": seed, "variant": variant, "labels": LABELS,
            "rows": len(files[variant].read_text(encoding="utf-8").splitlines()),
            "wrong_labels": wrong_labels(files[variant], clean),
            **trained(workspace, files[variant], watched, test, seed, epochs),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="instead of the plan's own number")
    wanted = parser.parse_args()
    done = {(row["share"], row["seed"]) for row in read("pays.jsonl") if row["variant"] == VARIANTS[-1]}
    for seed in wanted.seeds:
        if (wanted.share, seed) in done:
            continue
        with tempfile.TemporaryDirectory(prefix="journeyman-pays-") as folder:
            for result in runs(wanted.bench, wanted.share, seed, wanted.epochs, Path(folder)):
                keep("pays.jsonl", result, ("set", "fault", "share", "seed", "variant"))
                print(result, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
