"""Groups of texts that say the same, or nearly the same.

Two texts say the same when they have the same words in any order, politeness and articles left out, short forms written out, and
misspelt words (`spelling.py`) put right. They are near-duplicates when they say the same, or share at least SHARED of their words and
pairs of neighbouring words, wording that most texts have in common (a pasted instruction) left out. A group holds
whatever is linked so. Pairs are found by MinHash and then compared exactly (`minhash.py`).
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from sys import intern

import numpy as np

from journeyman.data.minhash import Ids, Mask, Sets, are_in, near_pairs
from journeyman.data.spelling import corrections
from journeyman.records import Example

SHARED = 0.75
COMMON = 0.25
"""Words and pairs that more than this share of the inputs have are boilerplate, from COMMON_ROWS inputs on."""
COMMON_ROWS = 30
ENDS_WORDS = 200
"""Of a longer text the first and the last so many words are compared."""

BLOCK = 1024
"""So many texts are taken apart at a time, which bounds the memory."""

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

_GREETING = re.compile(r"\A\W*(?:(?:hi|hello|hey)(?: there| all| everyone)?|good (?:morning|afternoon|evening|day))\b", re.I)
_THANKS = re.compile(r"\bthank(?:s| you)(?: (?:so|very) much| a lot| in advance)?\b", re.I)

_SHORTENED = (
    (("cannot", "can not", "can't", "ca nt"), re.compile(r"\b(?:can ?no|ca n|can['’])t\b", re.I), "can not"),
    (("n't",), re.compile(r"n['’]t\b", re.I), " not"),
    (("'m",), re.compile(r"\b(i)['’]m\b", re.I), r"\1 am"),
    (("'re",), re.compile(r"['’]re\b", re.I), " are"),
    (("'ve",), re.compile(r"['’]ve\b", re.I), " have"),
    (("'ll",), re.compile(r"['’]ll\b", re.I), " will"),
    (("'s",), re.compile(r"\b(what|where|who|how|it|that|there)['’]s\b", re.I), r"\1 is"),
    (("could",), re.compile(r"\bcould (?=i\b|you\b|we\b)", re.I), "can "),
)
"""What a text must hold to have one of these, short forms and the polite question, and what they stand for."""

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

    def in_order(self, order: Sequence[int]) -> Similar:
        """The groups of the same texts in another order: `order` has the index of each here."""
        return Similar(*(_numbered_anew([groups[index] for index in order]) for groups in (self.same, self.near)))


def _numbered_anew(groups: Sequence[int]) -> list[int]:
    first: dict[int, int] = {}
    return [first.setdefault(group, index) for index, group in enumerate(groups)]


def near_groups(texts: Sequence[str]) -> list[int]:
    """For each text the number of its group of near-duplicates."""
    return similar(texts).near


def similar(texts: Sequence[str]) -> Similar:
    """Both kinds of groups. They do not depend on the order of the texts."""
    first_of: dict[str, int] = {}
    first = [first_of.setdefault(normalised(text), index) for index, text in enumerate(texts)]
    words = _words(first_of)
    same = _Groups(first)
    said: dict[bytes, int] = {}
    for index, some in zip(first_of.values(), _said(words), strict=True):
        known = said.setdefault(some, index) if some else index
        if known != index:
            same.join(known, index)
    near = _Groups(same.firsts())
    rank = {text: number for number, text in enumerate(sorted(first_of))}
    indexes = list(first_of.values())
    for a, b in near_pairs(_parts(words), SHARED, [rank[text] for text in first_of]):
        near.join(indexes[a], indexes[b])
    return Similar(same.firsts(), near.firsts())


def short_words(text: str) -> tuple[str, ...]:
    """The words of a short text in alphabetical order, politeness and articles left out; else nothing.

    Texts of very few words, where one says it all, are not meant either.
    """
    words = sorted(word for word in words_of(normalised(text)) if word not in FILLERS) if len(text) <= SHORT_CHARACTERS else ()
    return tuple(map(intern, words)) if SHORT_WORDS[0] <= len(words) <= SHORT_WORDS[1] else ()


def all_but_one(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Of `short_words` all but each in turn, and all of them; of no words nothing.

    Two texts that have one of these in common differ in one word. In a short text that is more than the share that
    near-duplicates may differ in; whether it matters, what else is known of the texts must tell.
    """
    for left_out in range(len(words) + 1 if words else 0):
        yield (*words[:left_out], *words[left_out + 1 :])


@dataclass(frozen=True, slots=True)
class _Words:
    """The words of texts in their order as numbers, one text after the other; text i has `flat[starts[i]:starts[i + 1]]`.

    The numbers take a tenth of the memory that the words would, and are sorted and compared all at once.
    """

    flat: Ids
    starts: Ids
    is_filler: Mask
    """For each number whether it is a word of FILLERS."""


def _words(texts: Iterable[str]) -> _Words:
    """The words of normalised texts, misspelt ones put right, numbered in the order in which they are met."""
    number_of: defaultdict[str, int] = defaultdict(count().__next__)
    numbers, starts = array("q"), array("q", [0])
    for text in texts:
        numbers.extend(map(number_of.__getitem__, words_of(text)))
        starts.append(len(numbers))
    flat = np.asarray(numbers, np.int64)
    counts = np.bincount(flat, minlength=len(number_of)).tolist()
    right = corrections(dict(zip(number_of, counts, strict=True)))
    known: dict[str, int] = {}
    renumbered = np.array([known.setdefault(right.get(word, word), len(known)) for word in number_of], np.int64)
    return _Words(renumbered[flat], np.asarray(starts, np.int64), np.array([word in FILLERS for word in known], np.bool_))


def _said(words: _Words) -> Iterator[bytes]:
    """For each text what all that say the same have in common; a text of few words is only the same as its like."""
    telling = np.flatnonzero(~words.is_filler[words.flat])
    starts = np.searchsorted(telling, words.starts)
    first_key = np.repeat(np.arange(len(starts) - 1) * len(words.is_filler), np.diff(starts))
    in_order = np.sort(first_key + words.flat[telling]) - first_key
    edges = zip(starts[:-1].tolist(), starts[1:].tolist(), words.starts[:-1].tolist(), words.starts[1:].tolist(), strict=True)
    for start, end, first, last in edges:
        # A byte before all the words keeps a text of few words apart from the telling words of another.
        yield in_order[start:end].tobytes() if end - start >= TELLING_WORDS else b"=" * (last > first) + words.flat[first:last].tobytes()


class _Groups:
    """Union-find in which a group is known by its lowest index; no parent is higher than its child."""

    def __init__(self, parent: Sequence[int]) -> None:
        self.parent = list(parent)

    def first(self, index: int) -> int:
        while self.parent[index] != index:
            self.parent[index] = self.parent[self.parent[index]]
            index = self.parent[index]
        return index

    def join(self, a: int, b: int) -> None:
        a, b = self.first(a), self.first(b)
        self.parent[max(a, b)] = min(a, b)

    def firsts(self) -> list[int]:
        """The group of each index."""
        out: list[int] = []
        for index, parent in enumerate(self.parent):
            out.append(index if parent == index else out[parent])
        return out


def _parts(words: _Words) -> Sets:
    """Each text's words and pairs of neighbouring words, without those that most texts have, as numbers."""
    sets = [_with_pairs(words, start, start + BLOCK) for start in range(0, len(words.starts) - 1, BLOCK)]
    flat = np.concatenate([np.empty(0, np.int64), *(flat for flat, _ in sets)])
    sizes = np.concatenate([np.empty(0, np.int64), *(sizes for _, sizes in sets)])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    if len(sizes) < COMMON_ROWS:
        return Sets(flat, starts)
    parts, counts = np.unique(flat, return_counts=True)
    rare = ~are_in(flat, parts[counts > COMMON * len(sizes)])
    return Sets(flat[rare], np.concatenate([[0], np.cumsum(rare)])[starts])


def _with_pairs(words: _Words, start: int, end: int) -> tuple[Ids, Ids]:
    """The sets of words and pairs of the texts from `start` to `end`, one after the other, and the size of each."""
    starts = words.starts[start : end + 1]
    flat = words.flat[starts[0] : starts[-1]]
    text_of = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    neighbours = np.flatnonzero(text_of[:-1] == text_of[1:])
    # One number for text, first word (0 for a word alone) and second word: numpy sorts those fastest.
    base = len(words.is_filler) + 1
    alone, pairs = text_of * base * base + flat, (text_of[neighbours] * base + flat[neighbours] + 1) * base + flat[neighbours + 1]
    keys = np.sort(np.concatenate([alone, pairs]))
    keys = keys[np.diff(keys, prepend=-1) > 0]
    keys, last = np.divmod(keys, base)
    text_of, first = np.divmod(keys, base)
    return (first << 32) + last, np.bincount(text_of, minlength=len(starts) - 1)


def words_of(text: str) -> list[str]:
    """The words of a normalised text in their order, politeness left out and short forms written out; of a long one both ends."""
    text = _GREETING.sub(" ", text)
    if "thank" in text:
        text = _THANKS.sub(" ", text)
    if "'" in text or "’" in text or "cannot" in text or "could" in text:
        straight = text.replace("’", "'")
        for needs, short, long in _SHORTENED:
            if any(map(straight.__contains__, needs)):
                text = short.sub(long, text)
    words = _WORD.findall(text)
    return words if len(words) <= 2 * ENDS_WORDS else words[:ENDS_WORDS] + words[-ENDS_WORDS:]
