"""Rules about outputs that are labels: a small closed set, found by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from journeyman.data.check.classify import Judged
from journeyman.data.check.finding import Finding, FoundRow, Mend, SetOutput, Severity
from journeyman.data.check.rule import Rows, Rule, Sample, pair
from journeyman.data.refused import quoted

WORTH_A_LOOK = 0.2
"""A row is named where its label is wrong with so high a probability: a wrong label that stays costs several looks.
From 0.2 to 0.35 what is found is equally good (F1 over twelve plantings in the test rows of BANKING77 and CLINC150)."""

SURE = 0.5
"""A label that is more probably the true one than all others together is suggested in the place of a wrong one."""

HARDLY_GUESSED = 0.75
"""Where the words tell fewer of the labels that were not drawn at random, what looks wrong mostly is what words can't tell, and what models
take for labels given for each other is their own weakness. They tell 59% to 68% of the bundled triage task, and 84% of 3,000 rows of BANKING77."""

FEW_ROWS = 10
"""A label with fewer rows can hardly be learned, nor its score be measured."""

LOPSIDED = 20
"""The most frequent label has so many times the rows of the median one."""

NOT_TOLD_APART = 0.25
"""Two labels whose rows are confused with each other so often; 0.5 would be a coin."""


def _mislabelled(rows: Rows) -> Iterator[Finding]:
    judged = rows.judged
    if judged is None:
        return
    wrong, other = judged.wrong, judged.best_other
    lone = {label for label, meant in rows.strays.items() if meant is None}
    doubted = [i for i in (-wrong).argsort(kind="stable").tolist() if wrong[i] > WORTH_A_LOOK and judged.given(i) not in lone]
    if doubted:
        found = [_doubted(rows, judged, i, int(other[i])) for i in doubted]
        share = len(found) / len(rows.all)
        first = doubted[0]
        message = (
            f"{len(found)} row(s) look mislabelled ({share:.1%}), such as {rows.shown(first)}, which is "
            f"{quoted(judged.given(first))} and rather looks like {quoted(judged.labels[other[first]])}"
        )
        numbers = {
            "rows": len(found),
            "share": round(share, 4),
            "wrong_share": round(judged.wrong_share, 4),
            "guessed": round(judged.guessed, 4),
            "random_share": judged.random_share,
            "sure": sum(row.mend is not None for row in found),
        }
        told = judged.guessed / (1 - judged.random_share)
        severity: Severity = "warning" if told >= HARDLY_GUESSED else "info"
        yield Finding("mislabelled_rows", severity, message, tuple(found), _advice(judged, doubted, severity), numbers)


def _advice(judged: Judged, doubted: Sequence[int], severity: Severity) -> str:
    """What to do with the list, and what it is worth on these rows, as far as the models can tell."""
    told = f"models of the other rows guess {judged.guessed:.0%} of the labels here"
    if severity == "info":
        return f"{told}: the words hardly tell the labels, so that most of these may be right, and what is suggested is worth little"
    right = round(len(doubted) - float(judged.wrong[list(doubted)].sum()))
    # Where labels seem to be given for certain others, the models' own mistakes look alike.
    few = f"{right} or more" if judged.confused else f"about {right}" if right else "hardly any"
    return f"look through the list, the worst first: {told}, and by their own account {few} of these rows are right after all"


def _doubted(rows: Rows, judged: Judged, index: int, other: int) -> FoundRow:
    suggested = judged.labels[other]
    mend: Mend | None = SetOutput(suggested) if judged.true_NK[index, other] > SURE else None
    return rows.found(index, f"{quoted(judged.given(index))}, rather {quoted(suggested)}", mend)


def _confused(rows: Rows) -> Iterator[Finding]:
    judged = rows.judged
    if judged is None:
        return
    counts = Counter(judged.given_N.tolist())
    preferred: Counter[tuple[int, int]] = Counter()
    for given, probable in zip(judged.given_N.tolist(), judged.probable_NK, strict=True):
        preferred.update((given, int(label)) for label in (probable > probable[given]).nonzero()[0])
    best = judged.probable_NK.argmax(axis=1).tolist()
    pairs = []
    for (a, b), wrong in preferred.items():
        if min(counts[a], counts[b]) >= FEW_ROWS and (a < b or (b, a) not in preferred):
            share = (wrong + preferred[b, a]) / (counts[a] + counts[b])
            if share >= NOT_TOLD_APART:
                pairs.append((share, judged.labels[min(a, b)], judged.labels[max(a, b)]))
    for share, one, other in sorted(pairs, reverse=True):
        found = [i for i, label in enumerate(judged.given_N.tolist()) if judged.labels[label] in (one, other)]
        wrong_way = [i for i in found if judged.labels[best[i]] in (one, other) and best[i] != judged.given_N[i]]
        yield Finding(
            "confused_labels",
            "info",
            f"{quoted(one)} and {quoted(other)} can hardly be told apart: {share:.0%} of their rows look like the other",
            tuple(rows.found(i) for i in wrong_way),
            "say in the instructions what tells them apart, or make one label of them",
            {"labels": [one, other], "share": round(share, 4), "rows": len(found)},
        )


def _rare(rows: Rows) -> Iterator[Finding]:
    if rows.labels is None:
        return
    counts = Counter(rows.labels[: len(rows.train)])
    rare = {label: count for label, count in counts.items() if count < FEW_ROWS and label not in rows.strays}
    if rare:
        named = ", ".join(f"{quoted(label, 40)} ({count})" for label, count in sorted(rare.items(), key=lambda x: x[1])[:5])
        found = tuple(rows.found(i) for i, label in enumerate(rows.labels[: len(rows.train)]) if label in rare)
        message = f"{len(rare)} of {len(counts)} labels have fewer than {FEW_ROWS} training rows: {named}"
        fix = "add rows for them, or leave the label out"
        yield Finding("rare_labels", "warning", message, found, fix, {"labels": dict(sorted(rare.items()))})


def _lopsided(rows: Rows) -> Iterator[Finding]:
    if rows.labels is None or not rows.train:
        return
    counts = Counter(label for label in rows.labels[: len(rows.train)] if label not in rows.strays)
    ordered = counts.most_common()
    if not ordered:
        return
    label, most = ordered[0]
    middle = ordered[len(ordered) // 2][1]
    if most >= LOPSIDED * middle:
        message = f"{quoted(label)} has {most} of {len(rows.train)} training rows; the label in the middle has {middle}"
        fix = "add rows of the others, or judge the model by each label's own score, not by the share of right answers"
        yield Finding("unbalanced_labels", "info", message, (), fix, {"counts": dict(ordered)})


def _stray(rows: Rows) -> Iterator[Finding]:
    """Outputs that are no label of the set: a label spelt differently, or a sentence where a label belongs."""
    if rows.labels is None:
        return
    found = []
    for index, label in enumerate(rows.labels):
        if label in rows.strays:
            right = rows.strays[label]
            note = f"{quoted(label)}, rather {quoted(right)}" if right else f"{quoted(label)} is not of the set"
            found.append(rows.found(index, note, SetOutput(right) if right else None))
    if found:
        message = f"{len(found)} output(s) are no label of the set: {found[0].place} {found[0].note}"
        fix = "write one of the labels, letter by letter"
        yield Finding("stray_labels", "warning", message, tuple(found), fix, {"rows": len(found)})


def _labelled(count: int) -> list[tuple[str, str]]:
    """Questions of three kinds with their labels, for the samples."""
    things = ("mug", "lamp", "chair", "bowl", "teapot", "blanket", "shelf", "knife", "basket", "clock")
    asked = {
        "delivery": ("when will the parcel with my {} arrive", "the courier has not brought my {} to the door"),
        "return": ("i want my money back for the {}", "how do i send the {} back for a refund"),
        "care": ("how do i wash the {} by hand", "which soap cleans the {} without a scratch"),
    }
    return [
        (text.format(thing), label)
        for thing in things[:count]
        for label, texts in asked.items()
        for text in texts
    ]


_CLEAN = [pair(said, label) for said, label in _labelled(10)]

RULES = (
    Rule(
        "stray_labels",
        "Outputs that are no label",
        "warning",
        "where outputs are a small closed set of labels, an output that is none of them: another spelling, or a sentence",
        "The model learns the second spelling as a label of its own, and what reads its answers will not know it.",
        "write one of the labels, letter by letter",
        Sample([*_CLEAN, pair("when will the parcel with my rug arrive", "Delivery")]),
        _stray,
    ),
    Rule(
        "mislabelled_rows",
        "Mislabelled rows",
        "warning",
        "where outputs are labels, a row that models of the other rows would label differently, and are sure of it",
        "One wrong label in twenty costs more than the same number of missing rows: the model learns the mistake.",
        "look through the list, the worst first; the finding says how far the words tell the labels of these rows, and where that is "
        "too little the list is for your information only",
        Sample([*_CLEAN, pair("when will the parcel with my rug arrive", "care")]),
        _mislabelled,
    ),
    Rule(
        "rare_labels",
        "Labels with too few rows",
        "warning",
        f"a label has fewer than {FEW_ROWS} training rows",
        "A few rows are neither enough to learn a label nor to see whether it was learned.",
        "add rows for it, or leave the label out",
        Sample([*_CLEAN, *[pair(f"is the {thing} made of oak", "material") for thing in ("desk", "stool")]]),
        _rare,
    ),
    Rule(
        "unbalanced_labels",
        "One label outweighs the others",
        "info",
        f"the most frequent label has {LOPSIDED} times as many training rows as the one in the middle",
        "A model that always gives the frequent label then looks good.",
        "add rows of the others, or judge the model by each label's own score",
        Sample(
            [
                *[pair(f"order number {n} please", "order") for n in range(80)],
                *[pair(f"price of {t}", label) for t in ("mugs", "bowls", "lamps", "rugs") for label in ("price", "cost")],
            ]
        ),
        _lopsided,
    ),
    Rule(
        "confused_labels",
        "Labels that can't be told apart",
        "info",
        "a quarter of the rows of two labels look like the other one",
        "Where the rows do not tell them apart the model can't either, and neither can the people who label.",
        "say in the instructions what tells them apart, or make one label of them",
        Sample(
            [
                pair(f"{said} {thing}", label)
                for thing in ("mug", "lamp", "chair", "bowl", "teapot", "blanket", "shelf", "knife")
                for said, label in (
                    ("where is my", "delivery"), ("where is the", "status"),
                    ("what became of my", "status"), ("what became of the", "delivery"),
                )
            ]
        ),
        _confused,
    ),
)  # fmt: skip
