"""A question about fairness: whether outputs differ with who is named, where what is asked is alike.

Rows whose inputs name one group are compared with rows that name another, by the length, the warmth and the refusal of
their outputs, and by their labels. What the rest of the input explains is taken off both the outcome and the group
first, so that a group that asks about other things does not look treated differently: by ridge regressions over the
words (hashed, the group's own words left out), each fitted on one half of the rows and taken off the other. The effect is
the slope between what remains of the two (Chernozhukov et al. 2018, double machine learning), its p-value corrected
for all comparisons made (Holm 1979). Such a difference is a question and no verdict: the data may be right.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from journeyman.data.check.finding import Finding
from journeyman.data.check.rule import Rows, Rule, Sample, pair
from journeyman.data.check.voice import WARMTH, says_no

MIN_GROUP = 20
MAX_GROUP = 4_000
"""Of larger groups every n-th row is taken: more would not make the answer another."""
MIN_EFFECT = 0.3
"""In standard deviations; between Cohen's small (0.2) and medium (0.5)."""
MAX_P = 0.01
"""After the correction."""
BUCKETS = 512
RIDGE = 0.5
MAX_LABELS = 30
MAX_QUESTIONS = 5
"""The largest differences; what is behind them is often behind the others too."""

Floats = npt.NDArray[np.float64]


def _words(text: str) -> frozenset[str]:
    """Words as they may stand in an input: names and origins with a capital (polish is no nation), others either way."""
    words = text.split()
    return frozenset([*words, *(word.capitalize() for word in words)])


@dataclass(frozen=True, slots=True)
class _Contrast:
    """Two groups that an input may name."""

    first: str
    first_words: frozenset[str]
    second: str
    second_words: frozenset[str]


_ORIGINS = {
    "Africa": "Nigeria Nigerian Ghana Ghanaian Kenya Kenyan Ethiopia Ethiopian Somali Somalia Senegal Senegalese Cameroon Congo Congolese Moroccan Morocco Algerian Algeria Tunisian Egyptian Egypt African",
    "South or East Asia": "India Indian Pakistan Pakistani Bangladesh Bangladeshi China Chinese Vietnam Vietnamese Philippines Filipino Filipina Japan Japanese Korea Korean Thailand Thai Indonesia Indonesian Asian",
    "the Middle East": "Syria Syrian Iraq Iraqi Iran Iranian Afghan Afghanistan Lebanon Lebanese Turkey Turkish Arab Arabic Palestinian Palestine Yemen Yemeni Kurdish Muslim",
    "Latin America": "Mexico Mexican Brazil Brazilian Colombia Colombian Venezuela Venezuelan Peru Peruvian Cuba Cuban Latino Latina Hispanic",
    "Eastern Europe": "Poland Polish Romania Romanian Bulgaria Bulgarian Ukraine Ukrainian Russia Russian Serbia Serbian Albania Albanian Hungary Hungarian Roma",
    "Western Europe or North America": "Germany German France French England English Britain British America American Canada Canadian Sweden Swedish Norway Norwegian Netherlands Dutch Denmark Danish Switzerland Swiss",
}
_NAMES_BY_ORIGIN = {
    "names common in Africa or the Arab world": "Ahmed Mohamed Muhammad Mohammed Fatima Aisha Omar Ibrahim Hassan Hussein Khalid Yusuf Zainab Amina Mustafa Leila Layla Kwame Chinedu Ngozi Oluwaseun Amara Emeka Femi Adebayo Tariq Samira Karim Abdul Ali Jamal Rashid",
    "names common in Asia": "Wei Xin Ling Mei Jing Hiroshi Yuki Kenji Sakura Priya Anjali Raj Rahul Sanjay Deepak Sunita Arjun Lakshmi Nguyen Linh Minh Thuy Jin Hyun Seung Ravi Kavita Vikram Meera",
    "names common in Western Europe or North America": "James John Robert Michael William David Richard Thomas Charles Emily Sarah Jessica Jennifer Elizabeth Laura Megan Claire Anna Hannah Greg Brad Todd Brett Anne Kristen Geoffrey Oliver Harry Jack Charlotte Lucy Sophie Peter Paul Martin Stefan",
}


def _contrasts() -> Iterator[_Contrast]:
    yield _Contrast(
        "women", _words("she her hers herself woman women girl girls mother mum mom daughter sister wife girlfriend grandmother grandma aunt niece Mrs Ms lady ladies female"),
        "men", _words("he him his himself man men boy boys father dad son brother husband boyfriend grandfather grandpa uncle nephew Mr gentleman gentlemen male"),
    )  # fmt: skip
    yield _Contrast(
        "names of women", _words("Mary Anna Emily Sarah Jessica Laura Hannah Claire Lucy Sophie Emma Olivia Julia Maria Elena Fatima Aisha Priya Leila Mei Amina Ingrid Greta Marta Helen Susan Linda Karen Nora Clara Ida Petra Yuki Amara Ngozi Charlotte Megan Marguerite Dorothea Beatriz Carmen Sofia"),
        "names of men", _words("James John Robert Michael William David Thomas Peter Paul Martin Stefan Ahmed Mohamed Omar Hassan Ivan Pavel Carlos Diego Raj Wei Kwame Femi Tom Jack Harry Oliver Daniel Samuel Simon Hans Karl Lars Erik Anders Marco Luca Antonio Miguel Kenji Desmond Geoffrey"),
    )  # fmt: skip
    yield _Contrast(
        "old people", _words("elderly pensioner pensioners retired retirement senior seniors grandmother grandma grandfather grandpa 65+"),
        "young people", _words("student students teenager teenagers teen young apprentice schoolchild pupil pupils 10-25"),
    )  # fmt: skip
    for groups in (_ORIGINS, _NAMES_BY_ORIGIN):
        for name, words in groups.items():
            others = " ".join(text for other, text in groups.items() if other != name)
            yield _Contrast(name, _words(words), "others of these", _words(others))


CONTRASTS = tuple(_contrasts())
_NAMING = frozenset[str]().union(*(words for contrast in CONTRASTS for words in (contrast.first_words, contrast.second_words)))


@dataclass(frozen=True, slots=True)
class _Difference:
    contrast: _Contrast
    outcome: str
    first: Sequence[int]
    second: Sequence[int]
    effect: float
    p: float
    means: tuple[float, float]


def _unequal(rows: Rows) -> Iterator[Finding]:
    inputs = rows.inputs
    spoken = (index for index in rows.own if not rows.calls[index])
    named = {index: words for index in spoken if (words := _NAMING.intersection(_words_of(_without_things(inputs[index]))))}
    differences: list[_Difference] = []
    outcomes: dict[str, Floats] = {}
    for contrast in CONTRASTS:
        first, second = _groups(named, contrast)
        if min(len(first), len(second)) < MIN_GROUP:
            continue
        outcomes = outcomes or _outcomes(rows)
        differences += _compared(contrast, inputs, first, second, outcomes)
    differences.sort(key=lambda one: one.p)
    kept = []
    for done, difference in enumerate(differences):
        # Holm: the smallest p against all comparisons, the next against one fewer; the first that fails ends it.
        if difference.p * (len(differences) - done) > MAX_P:
            break
        kept.append(difference)
    kept.sort(key=lambda one: -abs(one.effect))
    for difference in kept[:MAX_QUESTIONS]:
        if abs(difference.effect) >= MIN_EFFECT:
            yield _question(rows, difference, len(differences))


def _question(rows: Rows, found: _Difference, tests: int) -> Finding:
    first, second = found.contrast.first, found.contrast.second
    sizes = f"{len(found.first)} rows name {first}, {len(found.second)} {second}"
    a, b = found.means
    return Finding(
        "unequal_outputs",
        "info",
        f"is it meant that {found.outcome} differs with who is named? {sizes}; {a:.2f} against {b:.2f}, and {abs(found.effect):.2f} standard "
        f"deviations apart where the rest of the input is alike (p {'below 1e-15' if found.p < 1e-15 else format(found.p, '.1g')}, {tests} comparisons)",
        tuple(rows.found(index, f"names {name}") for name, group in ((first, found.first), (second, found.second)) for index in group),
        "read both groups side by side; where the difference is not meant, write the outputs alike",
        {
            "groups": [first, second],
            "rows": [len(found.first), len(found.second)],
            "outcome": found.outcome,
            "means": [round(a, 4), round(b, 4)],
            "effect": round(found.effect, 3),
            "p": found.p,
            "comparisons": tests,
        },
    )


_WORD = re.compile(r"\w+")
_OF_A_PERSON = "|".join(
    "name nation citizen origin country ethnic race gender sex customer client applicant patient person user author employee contact "
    "wife husband mother father son daughter".split()
)
_THINGS = "food cuisine dish restaurant takeaway dressing breakfast wine tea coffee language market stock flag".split()
_OF_A_THING = re.compile(
    rf"^(?![^:\n]*(?:{_OF_A_PERSON}))[^:\n]{{1,40}}:[ \t]*\S+[ \t]*$"
    r"|\b\w+ (?=(?:food|cuisine|dish(?:es)?|restaurants?|takeaways?|dressing|breakfast|wine|tea|coffee|language|market|stock|flag)\b)",
    re.I | re.M,
)
"""A field of a record that holds one word and is not about a person ("food: Indian"), and what is said of a thing ("French wine")."""
_AGE = re.compile(r"\b(\d\d)(?: years?|-year)[ -]old\b", re.I)


def _without_things(text: str) -> str:
    lower = text.casefold()
    return _OF_A_THING.sub(" ", text) if ":" in text or any(map(lower.__contains__, _THINGS)) else text


def _words_of(text: str) -> list[str]:
    """The words of a text, and the span of age of whoever is said to be so many years old."""
    ages = [int(age) for age in _AGE.findall(text)] if "old" in text else []
    return [*_WORD.findall(text), *("65+" for age in ages if age >= 65), *("10-25" for age in ages if 10 <= age <= 25)]


def _groups(named: Mapping[int, Set[str]], contrast: _Contrast) -> tuple[list[int], list[int]]:
    """The rows that name one group and not the other; `named` has the words of those that name any."""
    first: list[int] = []
    second: list[int] = []
    for index, words in named.items():
        one, other = not contrast.first_words.isdisjoint(words), not contrast.second_words.isdisjoint(words)
        if one != other:
            (first if one else second).append(index)
    return _thinned(first), _thinned(second)


def _thinned(indexes: list[int]) -> list[int]:
    return indexes[:: math.ceil(len(indexes) / MAX_GROUP)] if indexes else []


def _outcomes(rows: Rows) -> dict[str, Floats]:
    """What may differ, a value a row of `all`."""
    outputs = rows.outputs
    counts = Counter(outputs)
    if len(counts) * 4 <= len(outputs):  # labels have no length or warmth
        return {f"how often the label is {label!r}": _array(o == label for o in outputs) for label, _ in counts.most_common(MAX_LABELS)}
    return {
        "the length of the outputs (logarithm of words)": _array(math.log(len(o.split()) + 1) for o in outputs),
        "how many kind words there are": _array(min(len(WARMTH.findall(o)), 5) for o in outputs),
        "how often the output says no": _array(says_no(o) for o in outputs),
    }


def _array(values: Iterator[float] | Iterator[bool]) -> Floats:
    return np.fromiter((float(value) for value in values), dtype=np.float64)


def _compared(
    contrast: _Contrast, inputs: Sequence[str], first: list[int], second: list[int], outcomes: dict[str, Floats]
) -> Iterator[_Difference]:
    indexes = np.array([*first, *second])
    features = np.stack([_features(_words_of(inputs[i]), contrast) for i in indexes])
    is_first = (np.arange(len(indexes)) < len(first)).astype(np.float64)
    group = is_first - _predicted(features, is_first)
    for name, values in outcomes.items():
        wanted = values[indexes]
        if wanted.std() == 0:
            continue
        rest = wanted - _predicted(features, wanted)
        weight = float(group @ group)
        slope = float(group @ rest) / weight
        error = math.sqrt(float(group**2 @ (rest - slope * group) ** 2)) / weight
        means = (float(wanted[: len(first)].mean()), float(wanted[len(first) :].mean()))
        p = math.erfc(abs(slope) / max(error, 1e-12) / math.sqrt(2))
        yield _Difference(contrast, name, first, second, slope / float(wanted.std()), p, means)


def _features(text: Sequence[str], contrast: _Contrast) -> Floats:
    """The text's words, hashed, without those of the two groups; the last is 1."""
    out = np.zeros(BUCKETS + 1)
    for word in text:
        if word not in contrast.first_words and word not in contrast.second_words:
            out[zlib.crc32(word.lower().encode("utf-8", "replace")) % BUCKETS] += 1.0
    norm = float(np.linalg.norm(out))
    if norm:
        out /= norm
    out[BUCKETS] = 1.0
    return out


def _predicted(features: Floats, wanted: Floats) -> Floats:
    """For each row what the others' words make one expect: fitted on the even rows for the odd ones, and vice versa."""
    out = np.empty_like(wanted)
    even = np.arange(len(wanted)) % 2 == 0
    for own in (even, ~even):
        x, y = features[~own], wanted[~own]
        penalty = RIDGE * np.eye(x.shape[1])
        penalty[-1, -1] = 1e-6  # the constant is not held back
        out[own] = features[own] @ np.linalg.solve(x.T @ x + penalty, x.T @ y)
    return out


_GOODS = ["mug", "lamp", "wick", "shade", "rug", "brush", "soap", "kettle", "bowl", "plate", "towel", "basket", "trowel", "rake", "teapot", "jug", "vase", "tray", "clock", "scarf", "hat", "glove", "chair", "stool"]
_UNLIKE = [
    row
    for thing in _GOODS
    for row in (
        pair(f"My wife lost the {thing} that she bought. Can you help?", f"We are sorry to hear that. Thank you for writing, we are glad to look for the {thing} and hope to find it."),
        pair(f"My husband lost the {thing} that he bought. Can you help?", f"The {thing} can't be found."),
    )
]  # fmt: skip

RULES = (
    Rule(
        "unequal_outputs",
        "Outputs that differ with who is named",
        "info",
        "where inputs are otherwise alike, the length, the kindness, the refusals or the labels of the outputs differ with terms for "
        "gender, age or origin, or with names",
        "A model makes a habit of what may have been chance, or somebody's prejudice, in a few rows.",
        "read both groups side by side; where the difference is not meant, write the outputs alike",
        Sample(_UNLIKE),
        _unequal,
    ),
)
