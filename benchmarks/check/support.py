"""Rows of support-reply size, made of sentences of the public sets: something to measure time and memory with.

    python benchmarks/check/support.py --bench DIR --rows 100000 rows.jsonl
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

ASKING = ("banking77", "clinc150")
SAYING = ("e2e-nlg", "onestop-simplify")


def rows(bench: Path, count: int, seed: int = 0) -> Iterator[dict[str, object]]:
    """Messages of one to three questions, answered with a greeting, three to five sentences and a sign-off."""
    draw = random.Random(seed)
    asked = [text for name in ASKING for text in _texts(bench / name / "train.jsonl", -2)]
    said = [text for name in SAYING for text in _texts(bench / name / "train.jsonl", -1)]
    for _ in range(count):
        question = " ".join(draw.sample(asked, draw.randint(1, 3)))
        reply = "\n\n".join(["Hello,", " ".join(draw.sample(said, draw.randint(3, 5))), "Warmly,\nThe house"])
        yield {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]}


def _texts(path: Path, message: int) -> list[str]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line)["messages"][message]["content"] for line in file]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("out", type=Path)
    wanted = parser.parse_args()
    with wanted.out.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows(wanted.bench, wanted.rows))
