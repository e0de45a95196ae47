"""Which numbers of an output were worked out in it from what the input says: `48 / 2 = 24` where the input has a 48.

Such a number is no knowledge that a training would bake in; what is learned is the way to it.
"""

from __future__ import annotations

import re
from itertools import pairwise

_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?|\.\d+")
_EQUALS = re.compile(r"=|\bequals\b|\bis equal to\b")
_OPERATOR = re.compile(
    r"[\d%)][^\W\d_]{0,12}\s*(?:[a-z]{1,12}\s*){0,2}(?:[-+*/×÷−x]|\bplus\b|\bminus\b|\btimes\b|\bmultiplied by\b|\bdivided by\b|\bof\b)\s*[€$£(]*\s*\.?\d",
    re.I,
)
_WORDS = {
    word: float(number)
    for number, word in enumerate("one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split(), 1)
} | {"twenty": 20.0, "thirty": 30.0, "forty": 40.0, "fifty": 50.0, "sixty": 60.0, "hundred": 100.0, "dozen": 12.0, "half": 2.0, "twice": 2.0}
_WORD = re.compile(r"[a-z]+")
_RESULT = re.compile(r"\s*[€$£(]*\s*(?P<number>\d[\d,]*(?:\.\d+)?|\.\d+)")


def numbers_in(text: str) -> set[float]:
    """The numbers of a text, in digits; 1,600 and 1600 are one."""
    return {_value(match[0]) for match in _NUMBER.finditer(text)}


def worked_out(output: str, asked: str) -> set[float]:
    """The results of the calculations that an output writes out, of which the input has a number or an earlier one gives it.

    Time grows with the lengths alone.
    """
    results: set[float] = set()
    if not _EQUALS.search(output):
        return results
    known = numbers_in(asked) | {_WORDS[word] for word in _WORD.findall(asked.lower()) if word in _WORDS}
    for line in output.splitlines():
        for left, right in pairwise(_EQUALS.split(line)):
            result = _RESULT.match(right)
            if result and _OPERATOR.search(left) and not known.isdisjoint(numbers_in(left)):
                results.add(_value(result["number"]))
                known.add(_value(result["number"]))
    return results


def _value(number: str) -> float:
    return float(number.replace(",", ""))
