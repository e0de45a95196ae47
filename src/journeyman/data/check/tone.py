"""Rules about outputs that sound unlike the others, and about a tone that drifts.

What is odd is told from the data: a way of speaking that nearly no other output has. For outputs of prose only; labels,
JSON, tool calls and very short answers have no tone. Looked at is the whole file that is trained on, what was split off from it
included.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from journeyman.data.check.finding import Finding
from journeyman.data.check.form import as_few
from journeyman.data.check.rule import Rows, Rule, Sample, pair
from journeyman.data.check.voice import MARKERS, STYLE, Marker, Voice

MIN_ROWS = 30
"""Of fewer outputs nothing is usual enough to leave."""

MIN_MEDIAN_WORDS = 8
"""Shorter outputs are labels or values rather than prose."""

RARE, VERY_RARE = 0.12, 0.02
"""A marker is odd alone where one output or at most VERY_RARE have it; two or more that RARE have are odd together."""

FAR_LENGTH = 6.0
"""How far from the median a length is odd, in robust standard deviations of the logarithm (1.4826 MAD, Rousseeuw and Croux 1993)."""
MIN_SPREAD = 0.15
"""The least spread of log lengths that counts: outputs of nearly one length are not odd for a word more or less."""

MAX_ODD = 0.2
"""Where more outputs than this would be odd there is no one tone to leave."""


def _voices(rows: Rows) -> dict[int, Voice]:
    """The voice of each output of the file that is trained on, tool calls aside; empty where the outputs are not prose."""
    spoken = [index for index in rows.own if not rows.calls[index]]
    if len(spoken) < MIN_ROWS or sum(rows.outputs[index].lstrip()[:1] in "{[<" for index in spoken) * 2 > len(spoken):
        return {}
    voices = {index: rows.voices[index] for index in spoken}
    return voices if statistics.median(v.words for v in voices.values()) >= MIN_MEDIAN_WORDS else {}


def _odd_tone(rows: Rows) -> Iterator[Finding]:
    voices = _voices(rows)
    if not voices:
        return
    counts = {name: sum(name in v.markers for v in voices.values()) for name in MARKERS}
    median, spread = _length_spread(voices.values())
    odd: list[tuple[float, int, str]] = []
    for index, voice in voices.items():
        reasons = _reasons(voice, counts, len(voices))
        if spread and abs(math.log(voice.words + 1) - median) > FAR_LENGTH * spread:
            usual = round(math.exp(median) - 1)
            reasons.append((1.0, f"{voice.words} words where {usual} are usual"))
        if reasons:
            odd.append((sum(weight for weight, _ in reasons), index, "; ".join(reason for _, reason in reasons)))
    if not odd or len(odd) > MAX_ODD * len(voices):
        return
    odd.sort(key=lambda one: (-one[0], one[1]))
    yield Finding(
        "odd_tone",
        "warning",
        f"{len(odd)} of {len(voices)} outputs sound unlike the others, such as {rows.all[odd[0][1]].place}: {odd[0][2]}",
        tuple(rows.found(index, note) for _, index, note in odd),
        "write them in the voice of the others, or leave them out",
        {"rows": len(odd), "of": len(voices), "shares": {name: round(count / len(voices), 4) for name, count in counts.items()}},
    )


def _reasons(voice: Voice, counts: Mapping[Marker, int], of: int) -> list[tuple[float, str]]:
    """What is odd about an output, each with its weight: the surprise in bits."""
    rare = sorted((counts[name], f"{name}, {as_few(counts[name], of)}") for name in voice.markers if name in STYLE and counts[name] <= RARE * of)
    if len(rare) >= 2 or (rare and rare[0][0] <= max(VERY_RARE * of, 1)):
        return [(-math.log2(count / of), said) for count, said in rare]
    return []


def _length_spread(voices: Iterable[Voice]) -> tuple[float, float]:
    """The median of the outputs' log lengths, and their robust spread."""
    lengths = [math.log(voice.words + 1) for voice in voices]
    median = statistics.median(lengths)
    return median, max(1.4826 * statistics.median(abs(one - median) for one in lengths), MIN_SPREAD)


# ── drift ─────────────────────────────────────────────────────────────────────────────────────────────────────

MIN_GROUP = 30
DRIFT_EFFECT = 0.5
"""Cohen's medium effect (1988, "Statistical power analysis"): of lengths d, in standard deviations, of shares h."""
MAX_EFFECT = 3.0
"""Two groups of lengths that hardly vary are no infinity apart, nor farther than all from none, of which h is pi."""
DRIFT_P = 1e-4
"""Divided by the number of comparisons (Bonferroni)."""


def _drift(rows: Rows) -> Iterator[Finding]:
    """A tone that is another in another file, or at the end of a file than at its beginning."""
    voices = _voices(rows)
    by_file: dict[str, list[int]] = defaultdict(list)
    for index in voices:
        by_file[rows.all[index].place.file].append(index)
    given = set(range(len(rows.all))).difference(rows.own) if voices else ()
    for index in sorted(given):
        if not rows.calls[index]:
            by_file[rows.all[index].place.file].append(index)
            voices[index] = rows.voices[index]
    pairs = list(_pairs(rows, by_file))
    tests = len(pairs) * (len(MARKERS) + 1)
    for title, first, second in pairs:
        differences = sorted(_differences(voices, first, second, tests), reverse=True)
        if differences:
            said = "; ".join(text for _, text in differences[:3])
            shown = sorted(second, key=lambda index: rows.all[index].place.line)
            yield Finding(
                "tone_drift",
                "warning",
                f"{title} the outputs sound different: {said}",
                tuple(rows.found(index) for index in shown),
                "decide which voice is meant, and write the others in it",
                {"comparison": title, "effects": {text: round(effect, 3) for effect, text in differences}},
            )


def _pairs(rows: Rows, by_file: Mapping[str, list[int]]) -> Iterator[tuple[str, list[int], list[int]]]:
    files = [file for file, indexes in by_file.items() if len(indexes) >= MIN_GROUP]
    if len(files) > 1:
        first = by_file[files[0]]
        for file in files[1:]:
            yield f"in {file}, against {files[0]},", first, by_file[file]
    for file in files:
        ordered = sorted(by_file[file], key=lambda index: rows.all[index].place.line)
        half = len(ordered) // 2
        if half >= MIN_GROUP:
            yield f"from the middle of {file} on", ordered[:half], ordered[half:]


def _differences(voices: Mapping[int, Voice], first: Sequence[int], second: Sequence[int], tests: int) -> Iterator[tuple[float, str]]:
    for name in MARKERS:
        a, b = ([float(name in voices[index].markers) for index in group] for group in (first, second))
        effect = _effect_of_shares(statistics.fmean(a), statistics.fmean(b))
        if effect >= DRIFT_EFFECT and p_value(a, b) * tests < DRIFT_P:
            yield effect, f"{name} in {statistics.fmean(a):.0%} before, in {statistics.fmean(b):.0%} here"
    a, b = ([math.log(voices[index].words + 1) for index in group] for group in (first, second))
    effect = _effect_of_means(a, b)
    if effect >= DRIFT_EFFECT and p_value(a, b) * tests < DRIFT_P:
        before, here = (round(math.exp(statistics.median(group)) - 1) for group in (a, b))
        yield effect, f"{before} words before, {here} here"


def _effect_of_shares(a: float, b: float) -> float:
    """Cohen's h: what is new is as plain from nothing to 6% as from 25% to 50%, which by deviations it is not."""
    return abs(2 * math.asin(math.sqrt(a)) - 2 * math.asin(math.sqrt(b)))


def _effect_of_means(a: Sequence[float], b: Sequence[float]) -> float:
    spread = math.sqrt((statistics.pvariance(a) + statistics.pvariance(b)) / 2)
    difference = abs(statistics.fmean(a) - statistics.fmean(b))
    return min(difference / max(spread, 1e-9), MAX_EFFECT)


def p_value(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p of Welch's test by the normal approximation; groups of 20 and more."""
    error = math.sqrt(statistics.pvariance(a) / len(a) + statistics.pvariance(b) / len(b))
    difference = abs(statistics.fmean(a) - statistics.fmean(b))
    return math.erfc(difference / error / math.sqrt(2)) if error else float(not difference)


# ── samples and rules ─────────────────────────────────────────────────────────────────────────────────────────

_THINGS = ["mug", "lamp", "wick", "shade", "rug", "brush", "soap", "kettle", "bowl", "plate", "towel", "basket", "trowel", "rake", "teapot"]
_CALM = [
    pair(f"Is the {thing} in {colour} back?", f"We are glad that you like the {colour} {thing}. The page of the {thing} says when it is back.")
    for thing in _THINGS
    for colour in ("blue", "green", "white", "red")
]
_LOUD = pair("Is the rug back?", "OMG YES IT IS!!! Totally awesome, u gotta grab it \U0001f389")
_CURT = [pair(f"Where is my {thing} with the {part}?", f"It's sent! I can't say more about a {part}, it's on its way!") for thing in _THINGS for part in ("lid", "cord", "box", "bow")]

RULES = (
    Rule(
        "odd_tone",
        "Outputs that sound unlike the others",
        "warning",
        "an output of prose is far longer or shorter than the others, or has exclamation marks, emoji, capitals, slang, stiff "
        "wording or scorn where nearly no other has",
        "The model can't tell when to speak so, and does it now and then, to anyone.",
        "write them in the voice of the others, or leave them out",
        Sample([_LOUD, *_CALM]),
        _odd_tone,
    ),
    Rule(
        "tone_drift",
        "A tone that drifts",
        "warning",
        "outputs of one file, or of the second half of a file, are longer or shorter, speak of I rather than we, exclaim, hedge, "
        "thank or contract far more or less often than the others",
        "Two writers, or one who has changed his mind: the model learns a mixture, or the voice of whoever wrote more.",
        "decide which voice is meant, and write the others in it",
        Sample([*_CALM, *_CURT]),
        _drift,
    ),
)
