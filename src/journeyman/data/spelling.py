"""Words that are misspellings of others, told from how often each is written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

LETTERS = 5
"""Shorter words are left alone: too many of them are one letter from another word."""

LONGEST = 40
"""Longer runs of letters are no words. A megabyte of them would have a million shorter neighbours of a megabyte each."""

RARE = 2
OFTEN = 10
"""A word written RARE times at most may be a misspelling of one that is written OFTEN times as often, at least."""


def corrections(counts: Mapping[str, int]) -> dict[str, str]:
    """For each misspelt word the frequent word that one slip away: a letter more, less, another, or two swapped.

    The slips are found through the words with one letter left out (Garbe's symmetric delete, 2012).
    """
    misspelt = [word for word, count in counts.items() if count <= RARE and _is_word(word)]
    near: dict[str, list[str]] = defaultdict(list)
    for word, count in counts.items():
        if count >= OFTEN and _is_word(word):
            for part in {word, *_shorter(word)}:
                near[part].append(word)
    out = {}
    for word in misspelt:
        known = {k for part in (word, *_shorter(word)) for k in near.get(part, ()) if one_slip(word, k)}
        often = [k for k in known if counts[k] >= OFTEN * counts[word]]
        if often:
            out[word] = min(often, key=lambda k: (-counts[k], k))
    return out


def one_slip(a: str, b: str) -> bool:
    """Whether one letter more, less or another, or two neighbours swapped, make `a` into `b`."""
    if len(a) > len(b):
        a, b = b, a
    start = 0
    while start < len(a) and a[start] == b[start]:
        start += 1
    if len(b) - len(a) == 1:
        return a[start:] == b[start + 1 :]
    swapped = a[start + 1 : start + 2] + a[start : start + 1]
    return len(a) == len(b) and (
        a[start + 1 :] == b[start + 1 :] or (swapped == b[start : start + 2] and a[start + 2 :] == b[start + 2 :])
    )


def _is_word(word: str) -> bool:
    return LETTERS <= len(word) <= LONGEST and word.isalpha()


def _shorter(word: str) -> Iterator[str]:
    for place in range(len(word)):
        yield word[:place] + word[place + 1 :]
