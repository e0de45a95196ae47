"""How well the check finds subjects that training hardly shows, and subjects that have few rows; no label is given to it.

    python benchmarks/check/subjects.py --bench DIR
    python benchmarks/check/subjects.py --bench DIR --other-rows    # what a rule is changed by: prints, writes nothing

Intents of a set are its subjects. A share of them is drawn, and of each all training rows but LEFT are held back.

- `hardly_shown` is given ASKED test rows as a log of traffic, without answers. A row is *planted* where its intent is
  held back; recall is the share of those that are named, precision the share of named rows that are of those. A
  subject is found where two of its rows or more are named; there is one with no intent held back too, for the false alarms.
- `thin_subjects` is given training rows alone, of which each intent that was drawn keeps LEFT. Outputs that are labels are replaced by
  a sentence, as the rule leaves labels to `rare_labels`. A subject is found where any of its rows is named. *Guests* are
  LEFT rows each of CLINC150's intents among rows of another set: subjects that are far from all others.

A line of results/subjects.jsonl is one check.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from plant import LABELS, Row, answer, asked, changed, load
from planted import keep, ratio, read

from journeyman.data.check.coverage import RULES
from journeyman.data.check.rule import Asked, Rows
from journeyman.records import Example, Message, Place

NAME = "subjects.jsonl"
ROWS, ASKED = 3_000, 1_000
LEFT = {"hardly_shown": (0, 2), "thin_subjects": (1, 3)}
"""So many rows of each drawn intent stay in training."""

OUT_OF_SCOPE = "oos"
"""CLINC150's rows that are of no intent: no subject, and left out."""

GUESTS, HOSTS = "clinc150", ("banking77", "snips-json", "e2e-nlg")

RUNS = [(share, seed) for share in (0.05, 0.01, 0.1, 0.0) for seed in (0, 1, 2)]


def rows_of(bench: Path, name: str, split: str) -> list[Row]:
    return [row for row in load(bench, name, split, None, 0) if answer(row) != OUT_OF_SCOPE]


def example(row: Row, number: int) -> Example:
    """A training row as it was read; its output is a sentence."""
    said = changed(row, answer=f"You ask: {asked(row)}. We look into it and write to you.")
    return Example(tuple(Message(m["role"], m["content"]) for m in said["messages"]), Place("train.jsonl", number))


def measure(rule: str, name: str, train: Sequence[Row], others: Sequence[Row], share: float, seed: int, left: int, guests: Sequence[Row] = ()) -> dict[str, Any]:
    """Hold intents back, check, and count. Where there are guests, the intents are theirs."""
    draw = random.Random(f"subjects {seed}")
    intents = sorted({answer(row) for row in guests or train})
    held_back = set(draw.sample(intents, max(1, round(share * len(intents))) if share else 0))
    kept: Counter[str] = Counter()
    trained = []
    train = [*train, *(row for row in guests if answer(row) in held_back)]
    for row in draw.sample(train, len(train)):
        kept[answer(row)] += 1
        if answer(row) not in held_back or kept[answer(row)] <= left:
            trained.append(row)
    # What is cut off is of the others.
    rare = [row for row in trained if answer(row) in held_back]
    trained = [*rare, *[row for row in trained if answer(row) not in held_back][: ROWS - len(rare)]]
    draw.shuffle(trained)
    traffic = draw.sample(others, min(ASKED, len(others))) if rule == "hardly_shown" else []
    rows = Rows(
        [example(row, n) for n, row in enumerate(trained, 1)],
        training_file_rows=len(trained),
        against=[Asked(asked(row), Place("traffic.jsonl", n)) for n, row in enumerate(traffic, 1)],
    )
    start = time.perf_counter()
    findings = [finding for one in RULES if one.code == rule for finding in one.find(rows)]
    took_s = time.perf_counter() - start
    looked_at = traffic if rule == "hardly_shown" else trained
    named = {row.index for finding in findings for row in finding.rows}
    planted = {i for i, row in enumerate(looked_at) if answer(row) in held_back}
    of_subject = Counter(answer(looked_at[i]) for i in planted)
    found = Counter(answer(looked_at[i]) for i in planted & named)
    enough = {subject: min(2, count) if rule == "hardly_shown" else 1 for subject, count in of_subject.items()}
    return {
        "rule": rule, "set": name, "share": share, "seed": seed, "left": left,
        "rows": len(trained), "of": len(looked_at), "planted": len(planted), "named": len(named), "right": len(planted & named),
        "recall": ratio(len(planted & named), len(planted)), "precision": ratio(len(planted & named), len(named)),
        "subjects": len(of_subject), "subjects_found": sum(found[subject] >= least for subject, least in enough.items()),
        "severity": findings[0].severity if findings else None, "check_s": round(took_s, 2),
    }  # fmt: skip


def runs(bench: Path, *, other_rows: bool) -> Iterator[dict[str, Any]]:
    """All that is not measured yet; of the other rows, all."""
    done = set() if other_rows else {tuple(row[key] for key in KEYS) for row in read(NAME)}
    for name in LABELS:
        train, others = rows_of(bench, name, "train"), rows_of(bench, name, "test")
        if other_rows:
            # Half of each intent's test rows, and the validation rows, stand for training; the other half is asked.
            train, others = [*others[::2], *rows_of(bench, name, "valid")], others[1::2]
        for rule, lefts in LEFT.items():
            for share, seed in RUNS:
                for left in lefts if share else lefts[:1]:
                    if (rule, name, share, seed, left) not in done:
                        yield measure(rule, name, train, others, share, seed + 100 * other_rows, left)
    guests, rule = rows_of(bench, GUESTS, "test" if other_rows else "train"), "thin_subjects"
    for host in HOSTS:
        for share, seed in RUNS:
            for left in LEFT[rule] if share else LEFT[rule][:1]:
                if (rule, name := f"{host}, guests", share, seed, left) not in done:
                    yield measure(rule, name, rows_of(bench, host, "train"), [], share, seed + 100 * other_rows, left, guests)


KEYS = ("rule", "set", "share", "seed", "left")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--other-rows", action="store_true", help="on rows that nothing is reported of, to change a rule by")
    wanted = parser.parse_args()
    for result in runs(wanted.bench, other_rows=wanted.other_rows):
        print(json.dumps(result), file=sys.stderr, flush=True)
        if not wanted.other_rows:
            keep(NAME, result, KEYS)


if __name__ == "__main__":
    main()
