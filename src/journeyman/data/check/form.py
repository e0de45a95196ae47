"""Rules about the form of outputs: the pattern that most of them keep, and those that leave it.

The pattern is taken from the outputs alone. Of JSON it is the keys, the types of their values and that nothing stands
around it; of text the markup, the wrapping, the first word and the last line; of numbers and dates how they are written.
Labels have a rule of their own (`stray_labels`).
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from journeyman.data.check.finding import Finding, Mend, SetOutput
from journeyman.data.check.rule import Rows, Rule, Sample, pair
from journeyman.data.refused import quoted

MIN_ROWS = 20
"""Of fewer outputs nothing is a pattern."""

MOST = 0.95
"""So large a share of the outputs makes a pattern, and the rest leaves it."""

JSON_MOST = 0.8
"""Where so many outputs are JSON objects, all are meant to be."""

NEW_KEY = 0.002
"""A key that at most so many objects have, where the others' keys are used again and again, is no key of the format."""

OTHER_TYPE = 0.02
"""A type that at most so many values of a key have, or one alone; and so of another spelling of a key."""

MAX_DEPTH = 6

Reasons = dict[int, list[str]]
"""For each row that leaves the pattern: how."""


def _inconsistent(rows: Rows) -> Iterator[Finding]:
    # Tool calls are no text: what they have to look like, their tools say (`calls.py`).
    texts = [index for index, called in enumerate(rows.calls) if not called]
    outputs = [rows.outputs[index] for index in texts]
    if len(outputs) < MIN_ROWS or rows.labels is not None:
        return
    objects = [_object(text) for text in outputs]
    are_objects = sum(one is not None for one in objects) >= JSON_MOST * len(outputs)
    reasons = {texts[place]: said for place, said in (_of_objects(outputs, objects) if are_objects else _of_texts(outputs)).items()}
    if not reasons:
        return
    found = sorted(reasons, key=lambda index: (-len(reasons[index]), index))
    counts = Counter(reason for some in reasons.values() for reason in some)
    first = found[0]
    yield Finding(
        "inconsistent_format",
        "warning",
        f"{len(found)} of {len(outputs)} outputs leave the form that the others keep, such as {rows.shown(first)}: {reasons[first][0]}",
        tuple(rows.found(index, "; ".join(reasons[index]), _unwrapped(rows.outputs[index]) if are_objects else None) for index in found),
        "write them in the form of the others; what reads the answers expects one",
        {"rows": len(found), "of": len(outputs), "reasons": dict(counts.most_common(20))},
    )


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _object(text: str) -> Mapping[str, Any] | None:
    value = _json(text)
    return value if isinstance(value, dict) else None


def _json(text: str) -> Any:
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


_INNER = re.compile(r"\{.*\}", re.DOTALL)


def _unwrapped(text: str) -> Mend | None:
    """The object alone, where only words or a code fence stand around it."""
    inner = _INNER.search(text)
    return SetOutput(inner[0]) if inner and _object(text) is None and _json(text) is None and _object(inner[0]) is not None else None


def _of_objects(outputs: Sequence[str], objects: Sequence[Mapping[str, Any] | None]) -> Reasons:
    reasons: Reasons = defaultdict(list)
    shapes = {index: dict(_paths(one, "", 0)) for index, one in enumerate(objects) if one is not None}
    having = Counter(path for shape in shapes.values() for path in shape)
    types = Counter(item for shape in shapes.values() for item in shape.items())
    usual = _usual_keys(having, len(shapes))
    for index, text in enumerate(outputs):
        if index not in shapes:
            reasons[index].append(_why_no_object(text))
            continue
        shape = shapes[index]
        for path, kind in shape.items():
            meant = usual.get(path)
            if meant is not None:
                reasons[index].append(f"the key {quoted(path, 40)}{f', rather {quoted(meant, 40)}' if meant else ', which no other has'}")
            elif having[path] >= MIN_ROWS and types[path, kind] <= max(1, OTHER_TYPE * having[path]):
                (often, _), *_ = Counter({k: n for (p, k), n in types.items() if p == path}).most_common(1)
                reasons[index].append(f"{quoted(path, 40)} is {kind}, where others have {often}")
        for path, count in having.items():
            if count >= MOST * len(shapes) and path not in shape:
                reasons[index].append(f"the key {quoted(path, 40)} is missing")
    return dict(reasons)


def _paths(value: Mapping[str, Any], path: str, depth: int) -> Iterator[tuple[str, str]]:
    """Each key, with those it stands below, and the type of its value."""
    for key, child in value.items():
        inner = f"{path}.{key}" if path else key
        yield inner, _TYPES.get(type(child), "null")
        if isinstance(child, dict) and depth < MAX_DEPTH:
            yield from _paths(child, inner, depth + 1)


_TYPES: Mapping[type, str] = {str: "a text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}


def _usual_keys(having: Counter[str], objects: int) -> dict[str, str]:
    """Keys that are none of the format, and the one that each is meant to be, or nothing where that is not plain."""
    out: dict[str, str] = {}
    by_letters: dict[str, str] = {}
    for path, _ in sorted(having.items(), key=lambda item: (item[1], item[0])):
        by_letters[_letters(path)] = path
    for path, count in having.items():
        like = by_letters[_letters(path)]
        if like != path and count <= max(1, OTHER_TYPE * having[like]):
            out[path] = like
        elif count <= NEW_KEY * objects:
            out[path] = ""
    return out


def _letters(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum() or c == ".") or text


def _why_no_object(text: str) -> str:
    if _json(text) is not None:
        return "JSON, but no object"
    if text.lstrip().startswith("```"):
        return "a code fence around the JSON"
    if _unwrapped(text) is not None:
        return "words around the JSON"
    return "JSON that can't be read" if text.lstrip().startswith("{") else "no JSON"


# ── text ──────────────────────────────────────────────────────────────────────────────────────────────────────

_MARKS: Mapping[str, re.Pattern[str]] = {
    "a heading": re.compile(r"^#{1,6} \S", re.M),
    "a list with bullets": re.compile(r"^\s*[-*•] \S", re.M),
    "a numbered list": re.compile(r"^\s*\d{1,2}[.)] \S", re.M),
    "bold or italic marks": re.compile(r"(?:\*\*|__)(?<!\w..)\S.*?\S(?:\*\*|__)(?!\w)"),
    "a code fence": re.compile(r"^```", re.M),
    "HTML tags": re.compile(r"</?(?:p|br|b|i|em|strong|div|span|ul|ol|li|h[1-6]|a|table|tr|td)\b[^>]*>", re.I),
    "a table": re.compile(r"^\|.*\|\s*$", re.M),
    "a link in Markdown": re.compile(r"\[[^\]\n]+\]\([^)\s]+\)"),
    "quotation marks around it": re.compile(r"\A\s*[\"“„«'].*[\"”“»']\s*\Z", re.DOTALL),
    "JSON": re.compile(r"\A\s*[{\[].*[}\]]\s*\Z", re.DOTALL),
    "a label before it": re.compile(r"\A\s*(?:[A-Z][a-z]+ )?(?:answer|reply|response|output|result|summary|text|assistant|antwort|réponse)\s*:", re.I),
    "a remark about itself": re.compile(r"\A\s*(?:sure|certainly|of course|here (?:you go|you are|is|are)|below is)\b[^\n]{0,60}[:!]\s*\n", re.I),
    "a salutation": re.compile(r"\A\s*(?:dear|hello|hi|hey|good (?:morning|afternoon|evening)|hallo|bonjour|guten tag)\b[^\n]{0,40}[,!.]?\s*\n", re.I),
    "a sign-off": re.compile(r"\n\s*(?:(?:best|kind|warm|many)?\s?(?:regards|wishes)|sincerely|yours\b.*|cheers|warmly|thanks|all the best)[,.!]?\s*(?:\n.*)?\Z", re.I),
    "more than one line": re.compile(r"\S\s*\n\s*\S"),
    "no capital letter": re.compile(r"\A[^A-ZÀ-ÖØ-Þ]*[a-zß-öø-ÿ][^A-ZÀ-ÖØ-Þ]*\Z"),
    "capitals only": re.compile(r"\A(?=[^a-z]*[A-Z][^a-z]*[A-Z][^a-z]*[A-Z])[^a-z]*\Z"),
}
"""What a text may have that is a matter of form."""

# Written so that a search can jump to the first character of what it looks for: each is the same with \b before it.
_DIGIT = r"\d(?<=\b\d)"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_FIRST_MONTH = rf"{_MONTH}(?<=\b\w\w\w)"

_WAYS: Mapping[str, Mapping[str, re.Pattern[str]]] = {
    "dates": {
        "as 2024-03-12": re.compile(rf"{_DIGIT}\d{{3}}-\d{{2}}-\d{{2}}\b"),
        "as 12/03/2024": re.compile(rf"{_DIGIT}\d?/\d{{1,2}}/\d{{2,4}}\b"),
        "as 12.03.2024": re.compile(rf"{_DIGIT}\d?\.\d{{1,2}}\.\d{{2,4}}\b"),
        "as 12 March": re.compile(rf"{_DIGIT}\d?(?:st|nd|rd|th)? (?:of )?{_MONTH}[a-z]*\b"),
        "as March 12": re.compile(rf"{_FIRST_MONTH}[a-z]*\.? \d{{1,2}}(?:st|nd|rd|th)?\b"),
    },
    "prices": {
        "as €5": re.compile(r"[€£$] ?\d"),
        "as 5 €": re.compile(r"\d ?[€£]"),
        "as 5 euros": re.compile(r"\d (?:euros?|pounds?|dollars?)\b", re.I),
        "as 5 EUR": re.compile(r"[\dEGU](?:(?<=\d) ?(?:EUR|GBP|USD)\b|(?:(?<=\bE)UR|(?<=\bG)BP|(?<=\bU)SD) ?\d)"),
    },
    "decimals": {"as 1.5": re.compile(r"\d(?<![\d.,].)\d*\.\d{1,2}(?![\d.,])"), "as 1,5": re.compile(r"\d(?<![\d.,].)\d*,\d{1,2}(?![\d.,])")},
    "times of day": {"as 15:00": re.compile(r"[12](?:(?<=\b1)[3-9]|(?<=\b2)[0-3]):\d\d\b"), "as 3 pm": re.compile(rf"{_DIGIT}\d?(?::\d\d)? ?[ap]\.?m\b", re.I)},
}
"""Of each, the ways to write it; an output without any is not judged."""


def _of_texts(outputs: Sequence[str]) -> Reasons:
    reasons: Reasons = defaultdict(list)
    for name, mark in _MARKS.items():
        _rare_side(reasons, name, [mark.search(text) is not None for text in outputs])
    for what, ways in _WAYS.items():
        _rare_ways(reasons, what, [[way for way, known in ways.items() if known.search(text)] for text in outputs])
    _common_ends(reasons, "begins", [(text.split(maxsplit=1) or [""])[0].strip(",.!:;") for text in outputs])
    _common_ends(reasons, "ends", [text.rstrip().rpartition("\n")[2].strip() for text in outputs])
    return dict(reasons)


def _rare_side(reasons: Reasons, name: str, has: Sequence[bool]) -> None:
    """Outputs with something that hardly any has, or without what nearly all have."""
    share = sum(has) / len(has)
    for index, one in enumerate(has):
        if one and share <= 1 - MOST:
            reasons[index].append(f"{name}, {as_few(sum(has), len(has))}")
        elif not one and MOST <= share < 1:
            reasons[index].append(f"without {name}, which {sum(has):,} of {len(has):,} have")


def as_few(count: int, of: int) -> str:
    """How many have something that a row has: counted, as a share of few rounds to none."""
    return "as no other has" if count == 1 else f"as {count:,} of {of:,} have"


def _rare_ways(reasons: Reasons, what: str, used: Sequence[Sequence[str]]) -> None:
    """Outputs that write something in another way than nearly all that have it."""
    counts = Counter(way for ways in used for way in ways)
    having = sum(bool(ways) for ways in used)
    if having < MIN_ROWS:
        return
    often, count = counts.most_common(1)[0]
    if count < MOST * having:
        return
    for index, ways in enumerate(used):
        if ways and often not in ways:
            reasons[index].append(f"{what} {ways[0]}, where others write them {often}")


def _common_ends(reasons: Reasons, verb: str, ends: Sequence[str]) -> None:
    """Outputs that do not begin or end as nearly all do."""
    (often, count), *_ = Counter(ends).most_common(1)
    if MOST * len(ends) <= count < len(ends):
        for index, end in enumerate(ends):
            if end != often:
                reasons[index].append(f"{verb} {quoted(end, 30)}, where {count:,} of {len(ends):,} have {quoted(often, 30)}")


# ── the rule ──────────────────────────────────────────────────────────────────────────────────────────────────

_THINGS = ("mug", "lamp", "rug", "soap", "bowl", "tray", "vase", "clock", "hat", "chair", "stool", "jug", "plate", "fork", "spoon", "pot")
_ROWS = [
    pair(f"the {thing} is {colour}", json.dumps({"name": thing, "colour": colour}))
    for thing in _THINGS
    for colour in ("blue", "green")
]

RULES = (
    Rule(
        "inconsistent_format",
        "Outputs in another form",
        "warning",
        "an output leaves the form that nearly all others keep: keys, types and wrapping of JSON; markup, layout, salutation, "
        "sign-off and letter case of text; how dates, prices, decimals and times are written",
        "What reads the answers breaks on every one that is written otherwise, and the model learns to write so now and then.",
        "write them in the form of the others; `--fix` takes JSON out of what was wrapped around it",
        Sample([*_ROWS, pair("the bench is red", '{"name": "bench", "Colour": "red"}'), pair("the desk is white", '```json\n{"name": "desk", "colour": "white"}\n```')]),
        _inconsistent,
    ),
)
