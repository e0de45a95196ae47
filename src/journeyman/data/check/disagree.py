"""Whether two outputs that answer the same question say different things, and which."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from journeyman.data.check.voice import says_no, turns_away, without_greeting
from journeyman.data.refused import quoted
from journeyman.data.similar import normalised

SHORT_WORDS = 3
"""Outputs of so few words that have none in common are different answers."""

MIDDLE_WORDS, SAME_WORDS = 3, 2
"""Two texts are otherwise the same where they differ in one place of so many words, and share so many times as many."""

VALUE_INPUTS = 5
"""Words that so many inputs have may be the value of something that is asked about."""

LOOKED_AT = 2_000
"""Of more inputs so many, evenly drawn, tell which words are values."""

MANY_CAPITALS = 0.25
"""In a language that capitalises so many words (German), a capital does not make a name."""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_LIST_MARK = re.compile(r"^\s*\d+[.)]\s", re.M)
_NUMBER_WORDS = {
    word: str(number)
    for number, word in enumerate("two three four five six seven eight nine ten eleven twelve".split(), 2)
}
_COUNTED = re.compile(
    r"(?:(?<![^\W\d_])(?P<before>[^\W\d_]++)[\s:]++)?(?P<sign>[€£$¥]\s?)?"
    rf"(?P<number>\d+(?:[.,:/]\d+)*|\b(?:{'|'.join(_NUMBER_WORDS)})\b)"
    r"(?:[\s-]?(?P<after>%|[€£$¥]|[^\W\d_]+))?",
    re.I,
)
_THOUSANDS = re.compile(r"[.,](?=\d{3}\b)")
_NUMBER = re.compile(rf"\d|{'|'.join(_NUMBER_WORDS)}", re.I)
_MONEY = frozenset("€ £ $ ¥ euro euros eur dollar dollars usd pound pounds gbp".split())
_NEGATION = re.compile(r"\b(?:not|non|never|no|cannot|without|nor|nicht|kein\w*|ne|pas|jamais)\b|n\s?['’]t\b", re.I)
_CLAUSE = re.compile(r"[.!?;:\n]| but | and | however ")
_YES = frozenset({"yes", "yeah", "yep", "sure", "certainly", "ja", "oui", "sí", "si", "da"})
_NO = frozenset({"no", "nope", "unfortunately", "sorry", "nein", "leider", "non", "nee", "nej"})
_OPPOSITES = tuple(
    (frozenset(one.split("|")), frozenset(other.split("|")))
    for one, other in (
        line.split("/")
        for line in (
            "open/closed|shut",
            "available/unavailable",
            "cheap|inexpensive/expensive|pricey",
            "high/low",
            "free/paid|pay|pays",
            "allowed|permitted|welcome/forbidden|prohibited|banned",
            "accept|accepts|accepted/refuse|refuses|refused|reject|rejected|decline|declined",
            "possible/impossible",
            "included/excluded|extra",
            "always/never",
            "increase|increased/decrease|decreased",
            "refundable/nonrefundable",
            "true/false",
            "valid/invalid|expired",
            "before/after",
            "more/less|fewer",
            "most/least|fewest",
            "all|every/none",
            "man|men|male/woman|women|female",
            "up/down",
            "early|earlier/late|later",
            "inside/outside",
            "today/tomorrow|yesterday",
            "morning/evening|afternoon",
            "left/right",
            "success|succeeded|successful/failure|failed|unsuccessful",
            "enabled|active|on/disabled|inactive|off",
        )
    )
)
_FILLERS = frozenset("a an the is are be been to of in on at it its this that we you i they he she have has do does".split())

_JOINTS = frozenset("for with from by as so if or any yet there here your our my his her their me us him them".split())
"""Words that join others: "not for children" denies the children."""


@dataclass(frozen=True)
class Wording:
    """What a dataset's texts say of a word."""

    lower: Set[str]
    """The words that some text writes in lower case: a capital does not make a name of them."""

    inputs: Sequence[str]
    names: Set[str] = frozenset()
    """The words that some text writes with a capital within a sentence: at its beginning only they are names."""

    _known: dict[str, frozenset[int]] = field(default_factory=dict, repr=False)

    def exclude(self, one: str, other: str) -> bool:
        """Whether both are things that inputs speak of, and none of both: two areas, two ways to pay. Synonyms may look so too."""
        left, right = self._having(one), self._having(other)
        return min(len(left), len(right)) >= VALUE_INPUTS and not left & right

    def _having(self, phrase: str) -> frozenset[int]:
        """The inputs, of those looked at, that have the words."""
        if phrase not in self._known:
            step = -(-len(self.inputs) // LOOKED_AT) or 1
            stands = re.compile(rf"(?<!\w){re.escape(phrase)}(?!\w)", re.I)
            self._known[phrase] = frozenset(i for i, text in enumerate(self.inputs[::step]) if stands.search(text))
        return self._known[phrase]


_IN_A_SENTENCE = re.compile(r"(?<=[a-zß-ÿ,] )[A-ZÀ-ÖØ-Þ][^\W\d_]+(?:['’][^\W\d_]+)*")


def wording(inputs: Sequence[str], outputs: Sequence[str]) -> Wording:
    """How a dataset's texts write words."""
    words: set[str] = set()
    names: set[str] = set()
    for texts in (inputs, outputs):
        for text in texts:
            words.update(text.split())
            names.update(_IN_A_SENTENCE.findall(text))
    return Wording(frozenset(word.strip(".,;:!?()\"'") for word in words if word.islower()), inputs, frozenset(names))


def disagreement(a: str, b: str, asked: str, wording: Wording) -> str | None:
    """What `a` and `b` say differently of the same thing, such as `3 / 5`; None where they may both be right.

    `asked` is the input: of what it says itself, an answer may mention one part and another answer another.
    JSON is compared value by value. Texts disagree in a number, a name, a negation, a pair of opposites, or where the one says what
    is asked about and the other what other inputs ask about in its place; that they are worded differently, or that one says more, is
    no disagreement.
    """
    one, other = _json(a), _json(b)
    if one is not None and other is not None:
        return _values_differ(one, other)
    if (one is None) != (other is None):
        return "one is JSON, the other is not"
    return (
        _yes_and_no(a, b)
        or _turned_away(a, b)
        or _numbers_differ(a, b, asked)
        or _names_differ(a, b, asked, wording)
        or _opposites(a, b)
        or _negated(a, b)
        or _but_for(a, b, asked, wording)
        or _short(a, b)
    )


def _json(text: str) -> Any:
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _values_differ(one: Any, other: Any) -> str | None:
    a, b = dict(_leaves(one, "")), dict(_leaves(other, ""))
    for path in [*a, *(path for path in b if path not in a)]:
        left, right = a.get(path), b.get(path)
        if left != right:
            return f"{path or 'value'}: {quoted(left, 30)} / {quoted(right, 30)}"
    return None


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Each value with its path; a list is compared as a whole, whatever its order."""
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _leaves(child, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        yield path, sorted(normalised(json.dumps(item, ensure_ascii=False)) for item in value)
    else:
        yield path, normalised(value) if isinstance(value, str) else value


def _differ(a: Set[str], b: Set[str], asked: Set[str]) -> str | None:
    """What only the one and what only the other has, where both have something that is not in the input."""
    left, right = a - b, b - a
    if not left or not right or left | right <= asked:
        return None
    return " / ".join(", ".join(sorted(side)[:3]) for side in (left, right))


def _numbers_differ(a: str, b: str, asked: str) -> str | None:
    left, right = _numbers(a), _numbers(b)
    kinds = [kind for kind in left if kind in right and left[kind] != right[kind]]
    known = {number for numbers in _numbers(asked).values() for number in numbers} if kinds else set()
    return next((what for kind in kinds if (what := _differ(left[kind], right[kind], known))), None)


def _numbers(text: str) -> dict[str, set[str]]:
    """The numbers by what they count: money, or the word that follows, else the one before."""
    out: dict[str, set[str]] = defaultdict(set)
    if not _NUMBER.search(text):
        return out
    text = _LIST_MARK.sub("", text)
    for match in _COUNTED.finditer(text):
        before, sign, number, after = match.groups("")
        value = _NUMBER_WORDS.get(number.casefold()) or _plain_number(number)
        money = sign or after.casefold() in _MONEY
        out["money" if money else (after or before).casefold().rstrip("s")].add(value)
    return out


def _plain_number(text: str) -> str:
    """1,000 and 1000 are one number, and so are 3,50 and 3.5."""
    whole, mark, rest = _THOUSANDS.sub("", text).replace(",", ".").partition(".")
    return (whole.lstrip("0") or "0") + ((mark + rest).rstrip("0").rstrip(".") if mark else "")


def _names_differ(a: str, b: str, asked: str, wording: Wording) -> str | None:
    left, right = _names(a, wording), _names(b, wording)
    all_left, all_right, known = a.casefold(), b.casefold(), asked.casefold()
    return _differ(
        {name for name in left if not _mentioned(name, all_right)},
        {name for name in right if not _mentioned(name, all_left)},
        {name for name in left | right if _mentioned(name, known)},
    )


def _mentioned(name: str, text: str) -> bool:
    """Whether any word of a name stands in a text, its ending aside: Indian is India."""
    return any(word[: max(4, len(word) - 2)] in text for word in name.casefold().split())


_BEGINS = re.compile(r"(?:\A|[.!?:…\n])[^\w\n]*\Z")


def _names(text: str, wording: Wording) -> set[str]:
    """Runs of capitalised words that are not written in lower case elsewhere, and at the beginning of a sentence not only there."""
    words = list(_WORD.finditer(text))
    capital = [
        (word := m[0])[0].isupper()
        and len(word) > 1
        and word.casefold() not in wording.lower
        and word.casefold() not in _MONEY
        and (word in wording.names or not _BEGINS.search(text, max(0, m.start() - 8), m.start()))
        for m in words
    ]
    if sum(capital) > MANY_CAPITALS * len(words) and len(words) > 12:
        return set()
    names: set[str] = set()
    run: list[str] = []
    end = 0
    for match, named in zip(words, capital, strict=True):
        if run and not (named and not text[end : match.start()].strip()):
            names.add(" ".join(run))
            run = []
        if named:
            run.append(match[0])
            end = match.end()
    return names | ({" ".join(run)} if run else set())


def _words(text: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(text)}


def _yes_and_no(a: str, b: str) -> str | None:
    one, other = (_WORD.search(without_greeting(text)) for text in (a, b))
    if not one or not other:
        return None
    first, second = one[0].casefold(), other[0].casefold()
    if (first in _YES and second in _NO) or (first in _NO and second in _YES):
        return f"{one[0]} / {other[0]}"
    return None


def _turned_away(a: str, b: str) -> str | None:
    """The one will not answer, and the other does."""
    one, other = turns_away(a), turns_away(b)
    if one == other or says_no(b if one else a):
        return None
    return f"{quoted(without_greeting(a), 40)} / {quoted(without_greeting(b), 40)}"


def _opposites(a: str, b: str) -> str | None:
    """Two opposites that stand beside the same word."""
    left, right = _words(a), _words(b)
    for one, other in _OPPOSITES:
        for here, there in ((one, other), (other, one)):
            if left & here and right & there and not left & there and not right & here:
                beside = _beside(a, here) & _beside(b, there)
                if beside:
                    return f"{min(left & here)} / {min(right & there)}"
    return None


def _beside(text: str, words: Set[str]) -> set[str]:
    """The telling words up to two before and after any of `words`."""
    telling = [w for w in _WORD.findall(text.casefold()) if w not in _FILLERS]
    places = [place for place, word in enumerate(telling) if word in words]
    return {w for place in places for w in telling[max(0, place - 2) : place + 3]} - words


def _negated(a: str, b: str) -> str | None:
    """A word that the one denies and the other says."""
    denied_a, said_a = _scopes(a)
    denied_b, said_b = _scopes(b)
    for denied, said, other_denied, other_said in (
        (denied_a, said_a, denied_b, said_b),
        (denied_b, said_b, denied_a, said_a),
    ):
        for word in sorted(denied):
            if word in other_said - other_denied - said:
                return f"not {word} / {word}"
    return None


def _scopes(text: str) -> tuple[set[str], set[str]]:
    """The first telling word after each negation, and the words of the clauses without one."""
    denied, said = set[str](), set[str]()
    for clause in _CLAUSE.split(text.casefold()):
        first, *after = _NEGATION.split(clause)
        if not after:
            said |= _telling(first)
        for rest in after:
            denied |= set([w for w in _WORD.findall(rest) if w not in _FILLERS and w not in _JOINTS][:1])
    return denied, said


def _telling(text: str) -> set[str]:
    return {word for word in _WORD.findall(text) if word not in _FILLERS}


def _but_for(a: str, b: str, asked: str, wording: Wording) -> str | None:
    """What stands in one place of two texts that are otherwise the same, where that is a number, a name, a negation or a value."""
    one, other = a.split(), b.split()
    most = min(len(one), len(other))
    before = next((n for n in range(most) if one[n] != other[n]), most)
    after = next((n for n in range(most - before) if one[-1 - n] != other[-1 - n]), most - before)
    left, right = one[before : len(one) - after], other[before : len(other) - after]
    if max(len(left), len(right)) > MIDDLE_WORDS or before + after < SAME_WORDS * len(left + right):
        return None
    said, meant = " ".join(left), " ".join(right)
    shown = f"{quoted(said, 30)} / {quoted(meant, 30)}"
    if bool(_NEGATION.search(said)) != bool(_NEGATION.search(meant)):
        return shown if _without_negation(said) == _without_negation(meant) else None
    numbers = [sorted(re.findall(r"\d+(?:[.,]\d+)*", text)) for text in (said, meant)]
    if all(numbers) and numbers[0] != numbers[1]:
        return shown
    if before and _are_names(left) and _are_names(right) and normalised(said) != normalised(meant):
        return shown
    opposite = _are_opposite(_words(said), _words(meant)) or _other_value(said, meant, asked, wording)
    return shown if opposite else None


def _other_value(said: str, meant: str, asked: str, wording: Wording) -> bool:
    """Whether the input has the one, and other inputs have the other in its place."""
    one, other = (_bare(text) for text in (said, meant))
    stands = [bool(text) and re.search(rf"(?<!\w){re.escape(text)}(?!\w)", asked, re.I) is not None for text in (one, other)]
    return stands[0] != stands[1] and wording.exclude(one, other)


def _bare(text: str) -> str:
    """The text without marks around it, and without the small words before it."""
    words = [word.strip(".,;:!?()\"'").casefold() for word in text.split()]
    while words and words[0] in _FILLERS:
        words = words[1:]
    return " ".join(words)


def _without_negation(text: str) -> str:
    return normalised(_NEGATION.sub(" ", text.replace("cannot", "can")))


def _are_names(words: Sequence[str]) -> bool:
    return bool(words) and all(word[0].isupper() for word in words)


def _are_opposite(one: Set[str], other: Set[str]) -> bool:
    return any((one & a and other & b) or (one & b and other & a) for a, b in _OPPOSITES)


def _short(a: str, b: str) -> str | None:
    left, right = normalised(a).split(), normalised(b).split()
    if max(len(left), len(right)) <= SHORT_WORDS and not _words(a) & _words(b):
        return f"{quoted(a, 30)} / {quoted(b, 30)}"
    return None
