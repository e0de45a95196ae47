"""Synthetic practice for stage two, generated from a seed: nothing here is taken from anyone.

Its domains (library, music school, allotments, observatory, hikes, ...) are on purpose not those of the bundled
tasks. The share of each kind is set here and ends up in the stage's manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from starter.corpus import Message, Row
from starter.practice import copying, house, labels, lists, passages, records

GROUP = "practice"

SHARES: dict[str, tuple[float, Sequence[Callable[[Random], list[Message]]]]] = {
    "copying": (0.20, copying.KINDS),
    "labels": (0.16, labels.KINDS),
    "records": (0.16, records.KINDS),
    "passages": (0.15, passages.KINDS),
    "lists": (0.08, lists.KINDS),
    "house": (0.10, house.KINDS),
}
GAPS = 0.07
"""Gaps in real documents of the stage's own text, so that answering from a passage meets real prose."""
MENTIONED = 0.08
"""Labels that any word of such documents may be: with a few dozen labels of our own only, the list was not read."""


def practice(words: float, seed: int, documents: Sequence[Row]) -> list[Row]:
    """About `words` words of practice, every conversation different."""
    r = Random(seed)
    made: dict[tuple[str, ...], Row] = {}

    def fill(kind: str, share: float, make: Callable[[], list[Message] | None]) -> None:
        left = share * words
        while left > 0:
            messages = make()
            if messages is None:
                continue
            key = tuple(message["content"] for message in messages)
            # A repeat costs its words too, so that a kind with few forms ends early instead of never.
            left -= sum(len(text.split()) for text in key)
            made.setdefault(key, Row(f"practice-{kind}", GROUP, messages=tuple(messages)))

    for kind, (share, makers) in SHARES.items():
        fill(kind, share, lambda makers=makers: r.choice(makers)(r))  # type: ignore[misc]
    if documents:
        texts = [document.text for document in documents]
        fill("mentioned", MENTIONED, lambda: labels.mentioned(r, r.choice(texts), r.sample(texts, min(2, len(texts)))))
        fill("gaps", GAPS, lambda: passages.gap(r, r.choice(documents).text))
    return list(made.values())
