"""The statistics against simulation: comparisons whose truth is known.

    python benchmarks/simulation.py

For each size and truth, 1,000 comparisons are drawn: pass or fail (the first fails half of its rows; a share of rows
is decided anew), mean grades (differences from a skewed distribution), and grades that are alike in most rows, and else a
whole grade better or worse. results/simulation.jsonl holds how often a
false "better" was said, how often a true one, and how often the interval covered the truth.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from journeyman.evaluate.judgement import Judgement, judged
from journeyman.evaluate.statistics import Interval

HERE = Path(__file__).parent
ROWS = (20, 50, 120, 300)
EFFECTS = (0.0, 0.1, 0.2)
TRIALS = 1000


def passes(rows: int, effect: float, draw: np.random.Generator) -> Judgement:
    """Half of all rows pass before. Of 40 in 100, the outcome after is drawn anew, with the effect in the mean."""
    before = draw.random(rows) < 0.5
    anew = draw.random(rows) < 0.4
    after = np.where(anew, draw.random(rows) < 0.5 + effect / 0.4, before)
    return judged(before.astype(float).tolist(), after.astype(float).tolist(), pass_or_fail=True)


def grades(rows: int, effect: float, draw: np.random.Generator) -> Judgement:
    """Differences of an exponential less its mean, a fifth wide: skewed as grades are."""
    before = draw.random(rows)
    after = before + effect + 0.2 * (draw.exponential(1.0, rows) - 1)
    return judged(before.tolist(), after.tolist(), pass_or_fail=False)


def steps(rows: int, effect: float, draw: np.random.Generator) -> Judgement:
    """In 60 of 100 rows both grades are alike; in the others the second is a half better, or a half worse."""
    change = draw.choice([-0.5, 0.0, 0.5], rows, p=[0.2 - effect, 0.6, 0.2 + effect])
    before = np.where(change > 0, 0.0, 0.5)
    return judged(before.tolist(), (before + change).tolist(), pass_or_fail=False)


def main() -> None:
    """Simulate, and write one line a setting."""
    lines = []
    for seed, (kind, simulate) in enumerate((("pass or fail", passes), ("mean grade", grades), ("grade in steps", steps))):
        for rows in ROWS:
            for effect in EFFECTS:
                draw = np.random.default_rng([rows, round(100 * effect), seed])
                made = [simulate(rows, effect, draw) for _ in range(TRIALS)]
                covered = [effect in j.interval for j in made if isinstance(j.interval, Interval)]
                line = {
                    "kind": kind,
                    "rows": rows,
                    "effect": effect,
                    "trials": TRIALS,
                    "better": sum(j.outcome == "better" for j in made) / TRIALS,
                    "worse": sum(j.outcome == "worse" for j in made) / TRIALS,
                    "covered": sum(covered) / len(covered),
                }
                lines.append(line)
                print(line, flush=True)
    (HERE / "results" / "simulation.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
