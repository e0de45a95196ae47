"""How a text sounds: measures that are quick to take and that a person can check by reading. The wording is English."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

Marker = str
"""The name of something a text has or has not, such as "exclamation marks"."""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_WORDS: Mapping[Marker, frozenset[str]] = {
    "I": _set("i i'm i've i'll i'd my mine myself"),
    "we": _set("we we're we've we'll we'd our ours us ourselves"),
    "you": _set("you you're you've you'll you'd your yours yourself"),
    "hedging": _set("maybe perhaps possibly probably might seems"),
    "thanks": _set("thank thanks thankful"),
    "an apology": _set("sorry apologise apologize apologies apology apologising apologizing regret"),
    "slang": _set(
        "gonna wanna gotta kinda dunno lol omg btw asap thx pls plz u ur yeah yep nope hey dude awesome crap damn sucks duh meh ugh"
    ),
    "stiff wording": _set("hereby herewith pursuant aforementioned henceforth thereof therein shall furthermore notwithstanding"),
    "scorn": _set("obviously ridiculous stupid idiot idiotic idiots nonsense"),
}
_PHRASES: Mapping[Marker, tuple[str, ...]] = {
    "hedging": ("i think", "i guess", "i suppose", "i believe", "not sure", "sort of", "kind of"),
    "slang": ("no worries",),
    "stiff wording": (
        "kindly note", "kindly be", "kindly refrain", "kindly submit", "please be advised", "please be informed", "regret to inform",
        "as per ", "in accordance with", "at your earliest convenience", "the undersigned", "failure to comply", "dear sir",
        "dear madam", "dear valued", "yours faithfully", "yours sincerely",
    ),
    "scorn": (
        "as i said", "as i told you", "your fault", "your own fault", "read the manual", "read the page", "read the instructions",
        "stop asking", "stop wasting", "stop bothering", "not my problem", "not our problem", "how hard can it be",
        "for the last time", "deal with it", "get over it", "you should have read", "you should have known", "you should have thought",
        "what did you expect", "learn to read", "figure it out",
    ),
}  # fmt: skip
_CONTRACTED = re.compile(r"n't\b|'(?:re|ve|ll|m|d)\b|\b(?:it|that|there|what|let|he|she|who)'s\b")
_EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf\U0001f1e6-\U0001f1ff]")
_SMILEY = re.compile(r"[:;](?<!\w.)-?[)(DP](?!\w)")
_CAPITALS = re.compile(r"[A-Z](?<=\b.)[A-Z]{3,}(?:['’][A-Z]+)? [A-Z]{2,}\b")

MARKERS: tuple[Marker, ...] = ("exclamation marks", "emoji", "words in capitals", "contractions", *_WORDS)
STYLE: tuple[Marker, ...] = ("exclamation marks", "emoji", "words in capitals", "slang", "stiff wording", "scorn")
"""The markers that are a matter of voice alone; the others depend on what is said as well."""

_WORD = re.compile(r"\w+(?:'\w+)*")


@dataclass(frozen=True, slots=True)
class Voice:
    """A text's length in words, and the markers that it has."""

    words: int
    markers: frozenset[Marker]


def voice_of(text: str) -> Voice:
    """Measure a text. Time grows with its length alone."""
    lower = text.replace("’", "'").lower()
    words = _WORD.findall(lower)
    said = frozenset(words)
    found = {name for name, known in _WORDS.items() if not known.isdisjoint(said)}
    found |= {name for name, known in _PHRASES.items() if any(map(lower.__contains__, known))}
    if "!" in text:
        found.add("exclamation marks")
    if "'" in lower and _CONTRACTED.search(lower):
        found.add("contractions")
    if _EMOJI.search(text) or _SMILEY.search(text):
        found.add("emoji")
    if _CAPITALS.search(text):
        found.add("words in capitals")
    return Voice(len(words), frozenset(found))


_REFUSAL = re.compile(
    r"\b(?:(?:can(?:no|['’])t|can not|could(?:n['’]t| not)|unable to|not able to|won['’]t be able to|not possible|must (?:decline|refuse)|not allowed to|"
    r"don['’]t (?:offer|do|provide)|do not (?:offer|provide)|declined|denied|rejected|refuse to|not eligible|unfortunately))\b",
    re.I,
)
_REFUSAL_HAS = (
    *"can't can’t cannot could unable won't won’t must don't don’t declined denied rejected unfortunately".split(),
    *("can not", "not able", "not possible", "not allowed", "do not", "refuse to", "not eligible"),
)


def says_no(text: str) -> bool:
    """Whether an output refuses what was asked."""
    lower = text.casefold()
    return any(map(lower.__contains__, _REFUSAL_HAS)) and _REFUSAL.search(text) is not None


_TURNS_AWAY = re.compile(
    r"\A\W*(?:no,\s|as an? [^,.\n]{1,40},\s)?"
    r"(?:(?:(?:I|we)(?:\s?['’](?:m|re)|\sam|\sare)\s)?(?:\w+\s)?(?:sorry|afraid)|unfortunately|regrettably|(?:(?:my|our)\s)?apologies)?[\s,;:.–—-]*"
    r"(?:but\s|that\s)?(?:I|we)(?:\s?['’](?:m|re)|\sam|\sare)?\s(?:\w+\s)?"
    r"(?:can(?:no|['’])t|can not|unable to|not able to|won['’]t|will not|not allowed to|not permitted to)\s(?:\w+\s)?"
    r"(?:help|assist|answer|say|tell|provide|advise|comment|discuss|share|do th(?:at|is))\b",
    re.I,
)


def turns_away(text: str) -> bool:
    """Whether an output begins by saying that it won't answer."""
    return any(map(text[:200].casefold().__contains__, _REFUSAL_HAS)) and _TURNS_AWAY.search(without_greeting(text)) is not None


_GREETING = re.compile(
    r"\A\W*(?:(?:hello|hi|hey|dear|good (?:morning|afternoon|evening|day)|hallo|guten (?:morgen|tag|abend)|moin|bonjour|bonsoir|hola|ciao)\b"
    r"[^,.!:;?\n]{0,40}[,.!:;\n–—-]\s*)?(?:(?:many )?(?:thanks|thank you|danke|merci|gracias)\b[^.!\n]{0,80}[.!\n]\s*)?",
    re.I,
)


def without_greeting(text: str) -> str:
    """The text from where it begins to answer: without `Hello Anna,` and thanks for the message."""
    greeting = _GREETING.match(text)
    return text[greeting.end() :] if greeting else text


WARMTH = re.compile(
    r"\b(?:thank\w*|please|sorry|glad|happy|pleased|welcome|of course|gladly|with pleasure|kind(?:ly)?|warm(?:ly)?|lovely|wonderful|"
    r"delighted|appreciate\w*|take care|all the best|congratulations|hope)\b",
    re.I,
)
"""Wording by which an output is kind."""
