"""Checks of a text that need no model: string_check, regex, length, shared_words."""

from __future__ import annotations

import re

from journeyman.grade import apart
from journeyman.grade.fields import Fields
from journeyman.grade.score import Item, Measure, Measured, NotMeasurableError, Sample

MAX_PATTERN_CHARACTERS = 2_000
"""A longer pattern is refused: it would be a program."""

OUTPUT = "{{ sample.output_text }}"
_WORD = re.compile(r"[^\W\d_]+")
_FLAGS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}


def string_check(fields: Fields) -> Measure:
    """`eq`, `ne`, `like` (the input contains the reference) or `ilike` (the same, whatever the case).

    OpenAI's string_check: https://platform.openai.com/docs/guides/graders#string-check.
    """
    given, reference = fields.template("input"), fields.template("reference")
    operation = fields.choice("operation", ("eq", "ne", "like", "ilike"))

    def measure(sample: Sample, item: Item) -> Measured:
        a, b = given.fill(sample, item), reference.fill(sample, item)
        if operation == "eq":
            return _yes_or_no(a == b)
        if operation == "ne":
            return _yes_or_no(a != b)
        if operation == "like":
            return _yes_or_no(b in a)
        return _yes_or_no(b.casefold() in a.casefold())

    return measure


def regex(fields: Fields) -> Measure:
    """Ours: the pattern (Python's `re`) is found somewhere in the input, or nowhere, or `count` times.

    `flags` are letters: i (whatever the case), m (^ and $ at each line), s (. is also a newline), x (verbose). A pattern
    that takes too long over a text measures nothing of it, and holds up nobody.
    """
    given = fields.template("input", OUTPUT)
    pattern, flags = _pattern(fields)
    operation = fields.choice("operation", ("match", "no_match", "count"), "match")
    count = fields.count("count")
    if operation == "count" and count is None:
        fields.problem("count", "is missing", "say how often the pattern must be found: count = 1")
    if operation != "count" and count is not None:
        fields.problem(
            "count", f"has no meaning for {operation}", 'write operation = "count", or leave count out'
        )

    def measure(sample: Sample, item: Item) -> Measured:
        text = given.fill(sample, item)
        try:
            times = apart.found(pattern, flags, text, count=operation == "count")
        except apart.UnansweredError as error:
            raise NotMeasurableError(f"the pattern {pattern!r:.200} can't be used: {error}") from error
        return _yes_or_no(times == count if operation == "count" else bool(times) == (operation == "match"))

    return measure


def length(fields: Fields) -> Measure:
    """Ours: the input has at least `min_words` and at most `max_words` words (what stands between white space)."""
    given = fields.template("input", OUTPUT)
    low, high = fields.count("min_words"), fields.count("max_words")
    if low is None and high is None:
        fields.problem("min_words", "neither min_words nor max_words is given", "give one or both")
    if low is not None and high is not None and low > high:
        fields.problem("min_words", f"{low} is more than max_words = {high}", "exchange them")

    def measure(sample: Sample, item: Item) -> Measured:
        words = len(given.fill(sample, item).split())
        return _yes_or_no((low is None or words >= low) and (high is None or words <= high))

    return measure


def shared_words(fields: Fields) -> Measure:
    """Ours: 1 where the input takes up a word of the reference, or that has none, else 0; a verdict only with a `pass_threshold`.

    Words are letters side by side, `min_letters` or more (5), whatever the case, and the same where so many letters at their
    beginning are: forms of one word are one. `ignore` are words that any answer may hold.
    """
    given, reference = fields.template("input", OUTPUT), fields.template("reference")
    letters = fields.count("min_letters", 5) or 1
    ignored = _words(" ".join(fields.texts("ignore", ())), letters)
    threshold = fields.number("pass_threshold")

    def measure(sample: Sample, item: Item) -> Measured:
        asked = _words(reference.fill(sample, item), letters) - ignored
        taken = asked & _words(given.fill(sample, item), letters)
        return against(threshold, float(bool(taken) or not asked))

    return measure


def against(threshold: float | None, value: float) -> Measured:
    """A value, and a verdict where there is a threshold."""
    return Measured(value, None if threshold is None else value >= threshold)


def _words(text: str, letters: int) -> set[str]:
    return {word[:letters] for word in _WORD.findall(text.casefold()) if len(word) >= letters}


def _pattern(fields: Fields) -> tuple[str, int]:
    """A pattern that can be read, and its flags as `re` has them."""
    text, letters = fields.text("pattern"), fields.text("flags", "")
    flags = re.NOFLAG
    for letter in letters:
        if letter not in _FLAGS:
            fields.problem("flags", f"{letter!r} is not a flag", "use letters out of i, m, s, x")
        flags |= _FLAGS.get(letter, re.NOFLAG)
    if len(text) > MAX_PATTERN_CHARACTERS:
        fields.problem("pattern", f"has more than {MAX_PATTERN_CHARACTERS:,} characters", "look for less, or use several graders")
    elif wrong := apart.wrong_pattern(text, int(flags)):
        fields.problem("pattern", f"is not a regular expression: {wrong}", "see Python's re; in TOML write it in '...'")
    return text, int(flags)


def _yes_or_no(passed: bool) -> Measured:
    return Measured(float(passed), passed)
