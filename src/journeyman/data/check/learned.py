"""Rules about how each row was learned, from the record of a training.

The record is the mean loss of each row's learned tokens as each epoch met it, in nats a token (`Rows.losses`). What is hard, what
was forgotten again, and what was known at once says more about the rows than about the model: hard rows are often wrong
or unlike all others (Swayamdipta et al. 2020, dataset cartography), rows that are learned and forgotten are in conflict
with others (Toneva et al. 2019), and rows known at once add little.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from journeyman import files
from journeyman.data.check.finding import Finding, Severity
from journeyman.data.check.rule import Rows, Rule, Sample, pair
from journeyman.records import Example, Place

FILE = "rows.jsonl"
"""In a job's folder: a line a row and epoch, {"place": {"file", "line"}, "epoch": 1, 2, ..., "loss": nats a learned token, "tokens": learned tokens}.

A row that is trained as several sequences has a line for each; its loss is that of all their tokens."""

MIN_ROWS = 20
FAR = 3.0
"""How many robust standard deviations above the median a row's lowest loss counts as not learned. Of 67 labels flipped in test
rows of BANKING77 (three trainings) 3.0 found 39 and named 54 rows, 3.5 found 32 and named 42."""
MIN_SPREAD_NATS = 0.1
KNOWN_NATS = 0.05
"""exp(-0.05) is 0.95: the model gave the tokens 95% on average."""
FORGOTTEN_NATS = 0.25
"""A loss that rises again by more than this, and to twice what it was, was forgotten."""


def read_losses(path: Path, train: Sequence[Example]) -> list[list[float]]:
    """The record of a training, as `Rows.losses` has it; a row whose place is another row's too has none."""
    shared = Counter(example.place for example in train)
    of_place = {place: defaultdict[int, list[tuple[float, int]]](list) for place, count in shared.items() if count == 1}
    for line in files.read_jsonl(path):
        place = Place(line["place"]["file"], line["place"]["line"])
        if place in of_place:
            of_place[place][line["epoch"]].append((line["loss"], line["tokens"]))
    return [[_mean(parts) for _, parts in sorted(of_place.get(example.place, {}).items())] for example in train]


def _mean(parts: Sequence[tuple[float, int]]) -> float:
    """The mean over the tokens of all parts."""
    return sum(loss * tokens for loss, tokens in parts) / sum(tokens for _, tokens in parts)


def _records(rows: Rows) -> list[tuple[int, Sequence[float]]]:
    """The rows with a loss for two epochs or more, all of them finite."""
    records = [(i, losses) for i, losses in enumerate(rows.losses[: len(rows.train)]) if len(losses) >= 2]
    return [(i, losses) for i, losses in records if all(map(math.isfinite, losses))]


def _never_learned(rows: Rows) -> Iterator[Finding]:
    records = _records(rows)
    if len(records) < MIN_ROWS:
        return
    lowest = [min(losses) for _, losses in records]
    median = statistics.median(lowest)
    spread = max(1.4826 * statistics.median(abs(x - median) for x in lowest), MIN_SPREAD_NATS)
    hard = [(i, losses) for i, losses in records if min(losses) > median + FAR * spread]
    hard.sort(key=lambda one: -min(one[1]))
    if hard:
        yield _finding(
            rows, "never_learned", "warning", hard,
            f"{len(hard)} of {len(records)} rows were not learned: their loss stays above {median + FAR * spread:.2f} where the others reach {median:.2f}",
            "read them: most such rows are wrong, or ask for what no other row shows",
        )  # fmt: skip


def _forgotten(rows: Rows) -> Iterator[Finding]:
    records = _records(rows)
    found = [(i, losses) for i, losses in records if losses[-1] - min(losses) > FORGOTTEN_NATS and losses[-1] > 2 * min(losses)]
    found.sort(key=lambda one: min(one[1]) - one[1][-1])
    if found and len(records) >= MIN_ROWS:
        yield _finding(
            rows, "forgotten_again", "info", found,
            f"{len(found)} of {len(records)} rows were learned and then forgotten again",
            "look for rows that say the opposite; where there are none, fewer epochs or a lower learning rate",
        )  # fmt: skip


def _at_once(rows: Rows) -> Iterator[Finding]:
    records = _records(rows)
    found = [(i, losses) for i, losses in records if losses[0] < KNOWN_NATS]
    found.sort(key=lambda one: one[1][0])
    if found and len(records) >= MIN_ROWS:
        yield _finding(
            rows, "learned_at_once", "info", found,
            f"{len(found)} of {len(records)} rows were known in the first epoch",
            "where they are many, fewer of their kind would do, and others would teach more",
        )  # fmt: skip


def _finding(rows: Rows, code: str, severity: Severity, found: list[tuple[int, Sequence[float]]], message: str, fix: str) -> Finding:
    shown = tuple(rows.found(i, "loss " + ", ".join(f"{loss:.2f}" for loss in losses)) for i, losses in found)
    return Finding(code, severity, message, shown, fix, {"rows": len(found)})


_PAIRS = [pair(f"Is the {thing} back?", f"The page of the {thing} says so.") for thing in ["mug", "lamp", "wick", "rug", "soap", "bowl", "rake", "tray", "cup", "pot"]] * 2
_LEARNED: list[tuple[float, ...]] = [(0.9, 0.4, 0.2)] * 19

RULES = (
    Rule(
        "never_learned",
        "Rows the model never learned",
        "warning",
        "after a training, a row's loss has in no epoch come near what the others reach",
        "The model could not make sense of them. Often nobody could: a wrong label, a cut answer, another language.",
        "read them, and mend or remove what is wrong",
        Sample(_PAIRS, losses=[(2.9, 2.8, 2.7), *_LEARNED]),
        _never_learned,
    ),
    Rule(
        "forgotten_again",
        "Rows that were learned and forgotten",
        "info",
        "after a training, a row's loss had been low and rose again",
        "What other rows teach overwrites them: a contradiction, or a training that goes on for too long.",
        "look for rows that say the opposite; where there are none, fewer epochs or a lower learning rate",
        Sample(_PAIRS, losses=[(0.9, 0.2, 0.8), *_LEARNED]),
        _forgotten,
    ),
    Rule(
        "learned_at_once",
        "Rows that were known at once",
        "info",
        "after a training, a row's loss was next to nothing in the first epoch",
        "They teach no more: the base knows them, or many rows say the same.",
        "where they are many, fewer of their kind would do, and others would teach more",
        Sample(_PAIRS, losses=[(0.03, 0.02, 0.01), *_LEARNED]),
        _at_once,
    ),
)
