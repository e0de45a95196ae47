"""Consistency: whether the graders' verdict holds when the same input comes again, or in slightly other words.

Each row is asked as it stands, sampled several times, and asked in small rewordings that leave its meaning alone. A row is
steady where the verdict is the same every time; it is reliable where it passes every time, for a model that always fails
is steady too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from journeyman.answer.answerer import Answerer
from journeyman.evaluate.run import Progress, ScoredRow, score
from journeyman.evaluate.statistics import Missing, Proportion, proportion
from journeyman.evaluate.verdict import Verdict, judge
from journeyman.generate.sampling import Sampling
from journeyman.grade.score import Grader
from journeyman.records import Example, Message

ROWS = 20
"""So many held-out rows are asked again and again."""

SAMPLES = 4
TEMPERATURE = 0.7
"""A usual temperature for chat. Sampled answers vary with it."""

_CONTRACTIONS = (
    ("do not", "don't"), ("does not", "doesn't"), ("did not", "didn't"), ("can not", "can't"), ("cannot", "can't"),
    ("could not", "couldn't"), ("is not", "isn't"), ("are not", "aren't"), ("was not", "wasn't"), ("have not", "haven't"),
    ("has not", "hasn't"), ("will not", "won't"), ("would not", "wouldn't"), ("I am", "I'm"), ("I have", "I've"),
    ("I will", "I'll"), ("I would", "I'd"), ("it is", "it's"), ("that is", "that's"), ("there is", "there's"),
    ("we are", "we're"), ("we have", "we've"), ("you are", "you're"), ("they are", "they're"), ("what is", "what's"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class KindLine:
    """Rows whose verdict differs from that of the row as it stands, of the rows that were asked this way."""

    kind: str
    changed: Proportion | Missing


@dataclass(frozen=True, slots=True)
class Steadiness:
    """One answerer: rows with the same verdict every time, rows that pass every time, and what changes the verdict."""

    name: str
    rows: int
    asked: int
    steady: Proportion | Missing
    reliable: Proportion | Missing
    kinds: tuple[KindLine, ...]


@dataclass(frozen=True, slots=True)
class Consistency:
    """Two answerers on the same rows; the verdicts compare, row by row, being steady and being reliable."""

    before: Steadiness
    after: Steadiness
    steady: Verdict
    reliable: Verdict


@dataclass(frozen=True, slots=True)
class Asked:
    """Every verdict of one row, by how it was asked; the first is the row as it stands."""

    verdicts: tuple[tuple[str, bool | None], ...]

    @property
    def steady(self) -> bool | None:
        """Whether all verdicts are the same; None where one could not be measured."""
        found = {verdict for _, verdict in self.verdicts}
        return None if None in found else len(found) == 1

    @property
    def reliable(self) -> bool | None:
        """Whether it passes every time."""
        found = [verdict for _, verdict in self.verdicts]
        return None if None in found else all(found)


def ask_again(
    answerer: Answerer,
    examples: Sequence[Example],
    graders: Sequence[Grader],
    *,
    max_tokens: int,
    seed: int = 0,
    on_progress: Progress = lambda _done, _of: None,
) -> list[Asked]:
    """Ask each row as it stands, SAMPLES times at TEMPERATURE, and in its rewordings; the same seed asks the same."""
    rounds = 1 + SAMPLES + len(REWORDINGS)
    found: list[list[tuple[str, bool | None]]] = [[] for _ in examples]
    done = 0

    def ask(kind: str, places: Sequence[int], rows: Sequence[Example], sampling: Sampling) -> None:
        nonlocal done
        scored = score(answerer, rows, graders, sampling=sampling).rows if rows else ()
        for place, row in zip(places, scored, strict=True):
            found[place].append((kind, _verdict(row)))
        done += 1
        on_progress(done * len(examples) // rounds, len(examples))

    everywhere = range(len(examples))
    greedy = Sampling(max_tokens=max_tokens)
    ask("as it stands", everywhere, examples, greedy)
    for number in range(SAMPLES):
        sampling = replace(greedy, temperature=TEMPERATURE, seed=seed * 1000 + number)
        ask("sampled again", everywhere, examples, sampling)
    for kind, reword in REWORDINGS.items():
        changed = [(i, row) for i in everywhere if (row := _reworded(examples[i], reword)) is not None]
        ask(kind, [i for i, _ in changed], [row for _, row in changed], greedy)
    return [Asked(tuple(verdicts)) for verdicts in found]


def consistency(names: tuple[str, str], before: Sequence[Asked], after: Sequence[Asked]) -> Consistency:
    """Compare two answerers that were asked the same rows."""
    return Consistency(
        before=_steadiness(names[0], before),
        after=_steadiness(names[1], after),
        steady=judge([a.steady for a in before], [a.steady for a in after]),
        reliable=judge([a.reliable for a in before], [a.reliable for a in after]),
    )


def _steadiness(name: str, rows: Sequence[Asked]) -> Steadiness:
    kinds = dict.fromkeys(kind for row in rows for kind, _ in row.verdicts[1:])
    return Steadiness(
        name=name,
        rows=len(rows),
        asked=sum(len(row.verdicts) for row in rows),
        steady=_share([row.steady for row in rows]),
        reliable=_share([row.reliable for row in rows]),
        kinds=tuple(KindLine(kind, _share([_changed(row, kind) for row in rows])) for kind in kinds),
    )


def _changed(row: Asked, kind: str) -> bool | None:
    """Whether any verdict of this kind differs from the first; None where it was not asked or not measured."""
    first = row.verdicts[0][1]
    others = [verdict for name, verdict in row.verdicts[1:] if name == kind]
    return None if not others or None in (first, *others) else any(verdict != first for verdict in others)


def _share(values: Sequence[bool | None]) -> Proportion | Missing:
    known = [value for value in values if value is not None]
    return proportion(sum(known), len(known))


def _verdict(row: ScoredRow) -> bool | None:
    return row.graded.passed


# ── rewordings ────────────────────────────────────────────────────────────────────────────────────────────────────


def _lower(text: str) -> str:
    return text.lower()


def _contracted(text: str) -> str:
    """Long forms become short ones; where there is none, short ones become long."""
    for long, short in _CONTRACTIONS:
        text, count = re.subn(rf"\b{long}\b", short, text)
        if count:
            return text
    for long, short in _CONTRACTIONS:
        text, count = re.subn(rf"\b{short}\b", long, text)
        if count:
            return text
    return text


def _polite(text: str) -> str:
    return f"Hello, I hope you are well. {text}"


def _typo(text: str) -> str:
    """Two neighbouring letters inside one longer word change places: the same ones every time."""
    words = [m for m in re.finditer(r"\b[a-z]{5,}\b", text) if any(a != b for a, b in zip(m[0][1:], m[0][2:], strict=False))]
    if not words:
        return text
    word = words[hashlib.sha256(text.encode()).digest()[0] % len(words)]
    at = next(i for i in range(1, len(word[0]) - 1) if word[0][i] != word[0][i + 1]) + word.start()
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def _punctuated(text: str) -> str:
    """Without its final mark, or, where it has none, with a full stop."""
    bare = text.rstrip()
    return bare.rstrip(".!?") if bare.endswith((".", "!", "?")) else f"{bare}."


REWORDINGS: dict[str, Callable[[str], str]] = {
    "in lower case": _lower,
    "contractions": _contracted,
    "with a greeting": _polite,
    "with a typo": _typo,
    "final mark": _punctuated,
}
"""Small changes of an input that leave what is asked alone."""


def _reworded(example: Example, reword: Callable[[str], str]) -> Example | None:
    """The example with its last user message in other words; None where they are the same."""
    turns = list(example.messages)
    asked = [i for i in range(len(example.prompt)) if turns[i].role == "user"]
    if not asked:
        return None
    message: Message = turns[asked[-1]]
    text = reword(message.content)
    if not text.strip() or text == message.content:
        return None
    turns[asked[-1]] = replace(message, content=text)
    return replace(example, messages=tuple(turns))
