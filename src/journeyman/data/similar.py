"""Groups of texts that say the same, or nearly the same.

Two texts say the same when they have the same words in any order, politeness and articles left out, short forms written out, and
misspelt words (`spelling.py`) put right. They are near-duplicates when they say the same, or share at least SHARED of their words and
pairs of neighbouring words, wording that most texts have in common (a pasted instruction) left out. A group holds
whatever is linked so. Pairs are found by MinHash and then compared exactly (`minhash.py`).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from journeyman.data.minhash import Sets, near_pairs
from journeyman.data.spelling import corrections
from journeyman.records import Example

SHARED = 0.75
COMMON = 0.25
"""Words and pairs that more than this share of the inputs have are boilerplate, from COMMON_ROWS inputs on."""
COMMON_ROWS = 30
ENDS_WORDS = 200
"""Of a longer text the first and the last so many words are compared."""

TELLING_WORDS = 3
"""Fewer words than these, fillers aside, and two texts that differ in anything are not taken for the same."""

SHORT_WORDS = (4, 12)
SHORT_CHARACTERS = 120
"""A text of so many words, fillers aside, is short."""

FILLERS = frozenset(
    # Politeness and articles of the languages that most examples are written in. No negation, no question word,
    # nothing that turns a sentence into another one.
    "a an the please pls plz kindly hi hello hey dear thanks thank thx cheers just so well now ok okay um actually "
    "bitte danke hallo liebe lieber der die das ein eine einen mal merci bonjour salut svp stp un une le la les "
    "por favor gracias hola el los las una grazie ciao il lo gli per piacere obrigado obrigada olá alsjeblieft dank "
    "bedankt hoi de het een".split()
)

_POLITE = re.compile(
    r"\A\W*(?:(?:hi|hello|hey)(?: there| all| everyone)?|good (?:morning|afternoon|evening|day))\b"
    r"|\bthank(?:s| you)(?: (?:so|very) much| a lot| in advance)?\b",
    re.I,
)
"""Politeness of several words."""

_SHORTENED = (
    (re.compile(r"\b(?:can ?no|ca n|can['’])t\b", re.I), "can not"),
    (re.compile(r"n['’]t\b", re.I), " not"),
    (re.compile(r"\b(i)['’]m\b", re.I), r"\1 am"),
    (re.compile(r"['’]re\b", re.I), " are"),
    (re.compile(r"['’]ve\b", re.I), " have"),
    (re.compile(r"['’]ll\b", re.I), " will"),
    (re.compile(r"\b(what|where|who|how|it|that|there)['’]s\b", re.I), r"\1 is"),
    (re.compile(r"\bcould (?=i\b|you\b|we\b)", re.I), "can "),
)
"""Short forms and the polite question, and what they stand for."""

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


@dataclass(frozen=True, slots=True)
class Similar:
    """For each text the number of its group, which is the index of the group's first text."""

    same: list[int]
    """Texts that say the same."""

    near: list[int]
    """Texts that say nearly the same; whatever is the same is near."""


def near_groups(texts: Sequence[str]) -> list[int]:
    """For each text the number of its group of near-duplicates."""
    return similar(texts).near


def similar(texts: Sequence[str]) -> Similar:
    """Both kinds of groups. They do not depend on the order of the texts."""
    first_of: dict[str, int] = {}
    first = [first_of.setdefault(normalised(text), index) for index, text in enumerate(texts)]
    words = [words_of(text) for text in first_of]
    right = corrections(Counter(word for some in words for word in some))
    words = [[right.get(word, word) for word in some] for some in words]
    same, near = _Groups(len(texts)), _Groups(len(texts))
    for index, known in enumerate(first):
        same.join(known, index)
    said: dict[tuple[str, ...], int] = {}
    for index, some in zip(first_of.values(), words, strict=True):
        if some:
            same.join(said.setdefault(_said(some), index), index)
    for index in range(len(texts)):
        near.join(same.first(index), index)
    rank = {text: number for number, text in enumerate(sorted(first_of))}
    indexes = list(first_of.values())
    for a, b in near_pairs(_parts(words), SHARED, [rank[text] for text in first_of]):
        near.join(indexes[a], indexes[b])
    return Similar(*([groups.first(i) for i in range(len(texts))] for groups in (same, near)))


def all_but_one_word(text: str) -> Iterator[tuple[str, ...]]:
    """The words of a short text in alphabetical order, without each of them in turn, and all of them.

    Two texts that have one of these in common differ in one word. In a short text that is more than the share that
    near-duplicates may differ in; whether it matters, what else is known of the texts must tell. Politeness and articles
    are left out. Texts of very few words, where one says it all, and long ones give nothing.
    """
    words = sorted(word for word in words_of(normalised(text)) if word not in FILLERS) if len(text) <= SHORT_CHARACTERS else []
    if SHORT_WORDS[0] <= len(words) <= SHORT_WORDS[1]:
        for left_out in range(len(words) + 1):
            yield (*words[:left_out], *words[left_out + 1 :])


def _said(words: Sequence[str]) -> tuple[str, ...]:
    """What all texts that say the same have in common. A text of few words is only the same as its like."""
    telling = sorted(word for word in words if word not in FILLERS)
    return tuple(telling) if len(telling) >= TELLING_WORDS else ("", *words)


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


def _parts(texts: Sequence[Sequence[str]]) -> Sets:
    """Each text's words and pairs of neighbouring words, without those that most texts have, as numbers."""
    number_of: dict[str, int] = {}
    sets = [_pairs_too([number_of.setdefault(word, len(number_of)) for word in words]) for words in texts]
    starts = np.concatenate([[0], np.cumsum([len(one) for one in sets], dtype=np.int64)])
    flat = np.concatenate([np.empty(0, np.int64), *sets])
    if len(texts) < COMMON_ROWS:
        return Sets(flat, starts)
    parts, counts = np.unique(flat, return_counts=True)
    rare = ~np.isin(flat, parts[counts > COMMON * len(texts)])
    return Sets(flat[rare], np.concatenate([[0], np.cumsum(rare)])[starts])


def _pairs_too(words: Sequence[int]) -> npt.NDArray[np.int64]:
    ids = np.array(words, dtype=np.int64)
    return np.unique(np.concatenate([ids, ((ids[:-1] + 1) << 32) + ids[1:]]))


def words_of(text: str) -> list[str]:
    """The words of a text in their order, politeness left out and short forms written out; of a long one both ends."""
    text = _POLITE.sub(" ", text)
    if "'" in text or "’" in text or "cannot" in text or "could" in text:
        for short, long in _SHORTENED:
            text = short.sub(long, text)
    words = _WORD.findall(text)
    return words if len(words) <= 2 * ENDS_WORDS else words[:ENDS_WORDS] + words[-ENDS_WORDS:]
