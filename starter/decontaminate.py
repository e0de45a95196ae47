"""No benchmark text may be trained on: what counts as sharing text, in one place."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starter.corpus import Row

RUN = 13
"""Words in a row that make two texts the same, as in the evaluations of GPT-3 (Brown et al. 2020, appendix C)."""

SHORTEST_WHOLE = 6
"""A whole turn of at least this many words counts too: most benchmark questions are shorter than a run."""


def words(text: str) -> list[str]:
    """Lower-case words and numbers; case, punctuation and spaces do not make a difference."""
    return re.findall(r"[a-z0-9]+", text.lower())


def runs(text: str) -> Iterator[int]:
    """A hash for every run of `RUN` words."""
    found = words(text)
    for start in range(len(found) - RUN + 1):
        yield hash(tuple(found[start : start + RUN]))


class BenchText:
    """The texts of a folder of benchmarks, asked whether a row of the corpus shares any."""

    def __init__(self, texts: Iterator[str]) -> None:
        self.runs: set[int] = set()
        self.whole: set[int] = set()
        self.refused: Counter[str] = Counter()
        for text in texts:
            self.runs.update(runs(text))
            found = words(text)
            if len(found) >= SHORTEST_WHOLE:
                self.whole.add(hash(tuple(found)))

    @classmethod
    def read(cls, bench: Path) -> BenchText:
        """Every text of every JSONL file under `bench`, training splits included."""
        files = sorted(bench.glob("*/*.jsonl"))
        if not files:
            raise SystemExit(f"{bench} holds no */*.jsonl; name the folder of benchmarks with --bench")
        return cls(text for file in files for line in file.open(encoding="utf-8") for text in texts_of(json.loads(line)))

    def shares_text_with(self, row: Row) -> bool:
        """Whether the row holds a run of words or a whole turn of a benchmark; counted by source when it does."""
        turns = [message["content"] for message in row.messages]
        shared = any(hash(tuple(words(turn))) in self.whole for turn in turns) or any(
            run in self.runs for run in runs(row.content)
        )
        self.refused[row.source] += shared
        return shared


def texts_of(fields: dict[str, Any]) -> Iterator[str]:
    """What a benchmark row lets a model read or asks it to write; system prompts repeat and are left out."""
    for message in fields.get("messages", ()):
        if message["role"] != "system":
            yield message["content"]
    for name in ("text", "good", "bad"):
        if isinstance(fields.get(name), str):
            yield fields[name]
