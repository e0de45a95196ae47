"""A task whose answers have changed since its examples were written, so that retrieval should win: prices.

Every article of a household shop has an old price, in the training rows, and a new one, in documents/prices.md and in
the held-out ideals. Training asks about each article in three ways, held-out rows in a fourth. All of it is drawn from
the seed.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

LOOKS = "Birch Copper Slate Linen Walnut Amber Granite Willow Brass Cedar Olive Pearl Maple Juniper Indigo Coral".split()
THINGS = (
    "desk lamp", "tea pot", "bread knife", "wool blanket", "wall clock", "coat rack", "soup bowl", "garden chair",
    "picture frame", "candle holder",
)  # fmt: skip
QUESTIONS = ("What does the {} cost?", "How much is the {}?", "I would like to buy the {}. What is its price?")
HELD_OUT_QUESTION = "Hello, can you tell me the price of the {}?"
ARTICLES = 130
LOWEST, HIGHEST = 6, 180
"""Prices in whole euros."""

TASK = """name = "prices"

[train]
full = true

[files]
held_out = "held_out.jsonl"
documents = "documents"

[[graders]]
type = "string_check"
name = "today's price"
operation = "ilike"
input = "{{ sample.output_text }}"
reference = " {{ item.ideal }}"
"""
INSTRUCTIONS = (
    "You answer questions of customers of a household shop. Say what the article costs, in one sentence, as the notes "
    "have it.\n"
)


def write(folder: Path, seed: int) -> Path:
    """Write the task folder, and give it back."""
    rng = random.Random(seed)
    articles = [f"{look} {thing}" for look in LOOKS for thing in THINGS]
    rng.shuffle(articles)
    articles = articles[:ARTICLES]
    old = {article: rng.randint(LOWEST, HIGHEST) for article in articles}
    now = {a: rng.choice([p for p in range(LOWEST, HIGHEST + 1) if p != old[a]]) for a in articles}
    examples = [_row(ask.format(a), f"The {a} costs {old[a]} euros.") for a in articles for ask in QUESTIONS]
    rng.shuffle(examples)
    held_out = [_row(HELD_OUT_QUESTION.format(a), f"{now[a]} euros") for a in articles]
    (folder / "documents").mkdir(parents=True, exist_ok=True)
    (folder / "examples.jsonl").write_text("".join(examples), encoding="utf-8")
    (folder / "held_out.jsonl").write_text("".join(held_out), encoding="utf-8")
    pages = "".join(f"\n## {a}\n\nThe {a} costs {now[a]} euros.\n" for a in sorted(articles))
    (folder / "documents" / "prices.md").write_text(f"# Prices\n{pages}", encoding="utf-8")
    (folder / "instructions.md").write_text(INSTRUCTIONS, encoding="utf-8")
    (folder / "task.toml").write_text(TASK, encoding="utf-8")
    return folder


def _row(question: str, answer: str) -> str:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages}) + "\n"
