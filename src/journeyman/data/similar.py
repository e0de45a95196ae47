"""Groups of inputs that say nearly the same.

Two inputs are near-duplicates when they share at least SHARED of their words and pairs of neighbouring words,
wording that most inputs have in common (a pasted instruction) left out. A group holds whatever is linked so.
The search is exact: a pair that is over the threshold shares one of its rarest parts (prefix filter of
Chaudhuri, Ganti, Kaushik 2006; Bayardo, Ma, Srikant 2007), so only pairs that do are compared.
"""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from journeyman.records import Example

SHARED = 0.75
COMMON = 0.25
"""Words and pairs that more than this share of the inputs have are boilerplate, from COMMON_ROWS inputs on."""
COMMON_ROWS = 30
ENDS_WORDS = 200
"""Of a longer text the first and the last so many words are compared."""

# Scripts written without spaces (Thai to Myanmar, Khmer, CJK, kana, Hangul): each character is a word.
_DENSE = "\u0e00-\u109f\u1780-\u17ff\u2e80-\ua4cf\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[{_DENSE}]|[^\W_{_DENSE}]+|[-+*/=<>^%&|~]")


def input_text(example: Example) -> str:
    """What the model is asked: the turns before the ideal answer, without the instructions they share."""
    asked = [m for m in example.prompt if m.role not in ("system", "developer")]
    if len(asked) == 1:
        return asked[0].content
    return "\n".join(f"{m.role}: {m.content}" for m in asked)


def normalised(text: str) -> str:
    """The text without what does not change its meaning: case, widths and composed forms, white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def near_groups(texts: Sequence[str]) -> list[int]:
    """For each text the number of its group, which is the index of the group's first text."""
    groups = _Groups(len(texts))
    first_of: dict[str, int] = {}
    for index, text in enumerate(texts):
        groups.join(first_of.setdefault(normalised(text), index), index)
    indexes = list(first_of.values())
    for a, b in _near_pairs([_parts(text) for text in first_of]):
        groups.join(indexes[a], indexes[b])
    return [groups.first(index) for index in range(len(texts))]


class _Groups:
    """Union-find in which a group is known by its lowest index."""

    def __init__(self, count: int) -> None:
        self.parent = list(range(count))

    def first(self, index: int) -> int:
        while self.parent[index] != index:
            self.parent[index] = self.parent[self.parent[index]]
            index = self.parent[index]
        return index

    def join(self, a: int, b: int) -> None:
        a, b = self.first(a), self.first(b)
        self.parent[max(a, b)] = min(a, b)


def _parts(text: str) -> set[str]:
    words = _WORD.findall(text)
    if len(words) > 2 * ENDS_WORDS:
        words = words[:ENDS_WORDS] + words[-ENDS_WORDS:]
    return {*words, *map(" ".join, itertools.pairwise(words))}


def _near_pairs(parts: Sequence[set[str]]) -> Iterable[tuple[int, int]]:
    """Pairs of sets whose Jaccard similarity is at least SHARED; each set is compared with its best company first."""
    counts = Counter(part for one in parts for part in one)
    limit = COMMON * len(parts) if len(parts) >= COMMON_ROWS else math.inf
    # Rare parts first; the text breaks ties, so that the order is the same in every run.
    ranked = sorted((part for part in counts if counts[part] <= limit), key=lambda part: (counts[part], part))
    rank = {part: number for number, part in enumerate(ranked)}
    sets = [sorted(rank[part] for part in one if part in rank) for one in parts]
    postings: dict[int, list[int]] = defaultdict(list)
    for index in sorted(range(len(sets)), key=lambda i: (len(sets[i]), i)):
        own = sets[index]
        prefix = own[: len(own) - math.ceil(SHARED * len(own)) + 1]
        seen: set[int] = set()
        whole = set(own)
        for part in prefix:
            for other in postings[part]:
                if other not in seen:
                    seen.add(other)
                    if _near(whole, sets[other]):
                        yield other, index
            postings[part].append(index)


def _near(a: set[int], b: Sequence[int]) -> bool:
    if len(b) < SHARED * len(a):
        return False
    shared = len(a.intersection(b))
    return shared >= SHARED * (len(a) + len(b) - shared)
