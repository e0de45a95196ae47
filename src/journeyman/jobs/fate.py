"""What a training would do to the rows, as findings of a check: rows that are cut, and rows left out by the base."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from journeyman.data.check.finding import Finding, FoundRow, FoundSplit
from journeyman.data.dataset import Dataset
from journeyman.data.refused import quoted
from journeyman.jobs.draw import Encodings
from journeyman.records import Example, Place
from journeyman.text.encode import encode
from journeyman.text.template import ChatFormat

SHOWN_TEXTS = 100
"""For so many of the rows that lose most, the beginning of the lost text is shown."""


def fates(dataset: Dataset, encodings: Encodings, chat: ChatFormat, *, max_tokens: int) -> Iterator[Finding]:
    """What the ledger says that the rows alone do not: `cut_rows`, and `untrainable_rows` for each reason."""
    cut: list[tuple[int, Example, FoundRow]] = []
    left_out: dict[str, list[FoundRow]] = defaultdict(list)
    splits: tuple[tuple[FoundSplit, list[Example]], ...] = (
        ("train", list(dataset.train)),
        ("validation", list(dataset.validation)),
    )
    for split, examples in splits:
        entries = [entry for entry in encodings.ledger if entry.get("split") == split]
        for index, (example, entry) in enumerate(zip(examples, entries, strict=True)):
            row = FoundRow(Place(entry["file"], entry["line"]), split, index)
            if entry["fate"] == "refused":
                left_out[entry["code"]].append(replace(row, note=entry["reason"]))
            elif entry["fate"] == "truncated":
                cut.append((entry["cut_tokens"], example, row))
    for code, rows in left_out.items():
        yield Finding(
            "untrainable_rows",
            "warning",
            f"{len(rows)} row(s) would be left out of a training ({code}): {rows[0].note}",
            tuple(rows),
            "shorten them, or raise max_tokens" if code == "nothing_learned" else "change the roles or their order, or use another base",
            {"reason": code, "rows": len(rows)},
        )
    if cut:
        yield _cut(cut, chat, max_tokens)


def _cut(cut: list[tuple[int, Example, FoundRow]], chat: ChatFormat, max_tokens: int) -> Finding:
    cut.sort(key=lambda one: -one[0])
    shown = []
    for number, (tokens, example, row) in enumerate(cut):
        lost = f": {quoted(_lost(example, chat, max_tokens))}" if number < SHOWN_TEXTS else ""
        shown.append(replace(row, note=f"loses its last {tokens:,} tokens{lost}"))
    return Finding(
        "cut_rows",
        "warning",
        f"{len(cut)} row(s) are longer than {max_tokens:,} tokens and would be cut at the end, which takes the end of the answer",
        tuple(shown),
        "shorten them, split them, or raise max_tokens where the base reads more",
        {"rows": len(cut), "max_tokens": max_tokens, "cut_tokens": sum(tokens for tokens, _, _ in cut)},
    )


def _lost(example: Example, chat: ChatFormat, max_tokens: int) -> str:
    """The text beyond the limit, of all sequences that the example becomes."""
    return " ".join(chat.text(sequence.ids_T[max_tokens:].tolist()) for sequence in encode(example, chat))
