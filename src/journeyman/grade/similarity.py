"""How alike two texts are, 0 to 1: fuzzy_match, BLEU, GLEU, ROUGE.

Words are compared whatever their case for ROUGE, and with it for BLEU and GLEU, where punctuation marks are words too.
Two texts without a word are alike (1) if they are equal up to white space; one without a word is like no other (0).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence

MAX_N = 4
"""The longest word sequences of BLEU and GLEU, as in both papers."""

Similarity = Callable[[str, str], float]


def fuzzy_match(text: str, reference: str) -> float:
    """rapidfuzz's WRatio without case and punctuation: the call in OpenAI's own grader examples.

    Source: https://platform.openai.com/docs/guides/graders, `fuzz.WRatio(a, b, processor=utils.default_process)`.
    """
    if text == reference:
        return 1.0
    from rapidfuzz import fuzz, utils  # slow to import, and used by this function only

    return float(fuzz.WRatio(text, reference, processor=utils.default_process)) / 100


def bleu(text: str, reference: str) -> float:
    """BLEU-4 of one text: clipped n-gram precisions, their geometric mean, times the brevity penalty.

    Papineni et al. 2002, "BLEU: a method for automatic evaluation of machine translation", equations 1-3; counts of
    two words and more get one added (Lin and Och 2004, "ORANGE", section 4), since one text seldom has all n-grams.
    """
    ours, theirs = _tokens(text), _tokens(reference)
    if not ours or not theirs:
        return _wordless(text, reference)
    logs = []
    for n in range(1, MAX_N + 1):
        grams = ngrams(ours, n)
        matches, total = (grams & ngrams(theirs, n)).total(), grams.total()
        if n > 1:
            matches, total = matches + 1, total + 1
        if matches == 0:
            return 0.0
        logs.append(math.log(matches / total))
    brevity = min(0.0, 1 - len(theirs) / len(ours))
    return math.exp(brevity + sum(logs) / MAX_N)


def gleu(text: str, reference: str) -> float:
    """GLEU: the smaller of precision and recall over all n-grams of 1 to 4 words.

    Wu et al. 2016, "Google's neural machine translation system", section 6 (arXiv:1609.08144).
    """
    ours, theirs = _tokens(text), _tokens(reference)
    if not ours or not theirs:
        return _wordless(text, reference)
    matches = sum((ngrams(ours, n) & ngrams(theirs, n)).total() for n in range(1, MAX_N + 1))
    sizes = [sum(ngrams(side, n).total() for n in range(1, MAX_N + 1)) for side in (ours, theirs)]
    return matches / max(sizes)


def rouge(n: int) -> Similarity:
    """ROUGE-N as F1 of the n-grams of n words (Lin 2004, "ROUGE", section 2)."""

    def measure(text: str, reference: str) -> float:
        ours, theirs = ngrams(_words(text), n), ngrams(_words(reference), n)
        if not ours or not theirs:  # shorter than n words
            return float(_words(text) == _words(reference)) if _words(text) else _wordless(text, reference)
        return _f1((ours & theirs).total(), ours.total(), theirs.total())

    return measure


def rouge_l(text: str, reference: str) -> float:
    """ROUGE-L as F1 of the longest common subsequence of words (Lin 2004, "ROUGE", section 3.1, beta = 1)."""
    ours, theirs = _words(text), _words(reference)
    if not ours or not theirs:
        return _wordless(text, reference)
    return _f1(longest_common(ours, theirs), len(ours), len(theirs))


METRICS: dict[str, Similarity] = {
    "fuzzy_match": fuzzy_match,
    "bleu": bleu,
    "gleu": gleu,
    **{f"rouge_{n}": rouge(n) for n in range(1, 6)},
    "rouge_l": rouge_l,
}


def ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    """How often each sequence of n words occurs."""
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence, by the textbook table, one line of it kept."""
    line = [0] * (len(b) + 1)
    for x in a:
        corner = 0
        for j, y in enumerate(b, 1):
            corner, line[j] = line[j], corner + 1 if x == y else max(line[j], line[j - 1])
    return line[-1]


def _f1(matches: int, ours: int, theirs: int) -> float:
    return 2 * matches / (ours + theirs)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _tokens(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)


def _wordless(text: str, reference: str) -> float:
    return float(text.split() == reference.split())
