"""Probes of what a base can do besides the task: small items by skill, and how a model does on them.

An item is scored in the way a small model allows. A choice passes where the model holds the right continuation more
probable than every wrong one, so that nothing need be generated; a reply is generated greedily and graded, where the
form of the answer is the skill.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from journeyman.answer.answerer import Tools
from journeyman.answer.local import read_calls
from journeyman.errors import DataError, JourneymanError
from journeyman.files import read_jsonl
from journeyman.generate.engine import Engine, Request
from journeyman.generate.likelihood import Likelihood
from journeyman.generate.sampling import Sampling
from journeyman.grade.grade import grade_all
from journeyman.grade.parse import parse
from journeyman.grade.score import Grader, Item, Sample, item_of
from journeyman.records import ROLES, Example, Message, Place, as_written, messages_from_dicts
from journeyman.text.encode import Encoded
from journeyman.text.template import ChatFormat

FOLDER = Path(__file__).parent / "probes"
SKILLS = ("grammar", "facts", "arithmetic", "reading", "memory", "format", "length", "json", "refusal")
"""The bundled skills, each a file of its own."""

TEXT_FILE = "text.jsonl"
REPLY_BATCH = 32

OTHER_TASK_ROWS = 100
"""Of another task so many held-out rows are asked: they show a difference of some 15 points four times in five."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Probe:
    """One item: a choice (`right` against `wrong`, after `messages` or the plain text `context`), or a graded reply."""

    skill: str
    place: Place
    messages: tuple[Message, ...] = ()
    tools: Tools = ()
    context: str = ""
    right: str = ""
    wrong: tuple[str, ...] = ()
    graders: tuple[Grader, ...] = ()
    max_tokens: int = 64
    item: Item = field(default_factory=dict)
    """What the graders may name besides the reply."""

    @property
    def chance(self) -> float:
        """The chance that a model without the skill passes: one option of all; nothing for a reply."""
        return 1 / (1 + len(self.wrong)) if self.wrong else 0.0

    @property
    def asked(self) -> str:
        """What the model is given, for people."""
        return "\n".join(m.content for m in self.messages) or self.context or "(which of the two is a sentence)"


@dataclass(frozen=True, slots=True)
class Probed:
    """What a model did on one item: whether it passes (None: it does not fit the context), and what it preferred or said."""

    passed: bool | None
    said: str


def bundled_probes() -> tuple[Probe, ...]:
    """The general probe set, skill by skill."""
    return tuple(p for skill in SKILLS for p in read_probes(FOLDER / f"{skill}.jsonl", skill))


def bundled_texts() -> tuple[str, ...]:
    """General prose of about a hundred words a piece, written for this project."""
    return tuple(row["text"] for row in read_jsonl(FOLDER / TEXT_FILE))


def own_probes(files: Sequence[Path]) -> list[Probe]:
    """Probes of the user's own files. Raises DataError as `read_probes`, and for a skill that is a bundled one."""
    found = [probe for path in files for probe in read_probes(path)]
    taken = [f"{p.place}: {p.skill!r} is a bundled skill" for p in found if p.skill in SKILLS]
    if taken:
        raise DataError(
            f"{len(taken)} probe(s) would change what a bundled skill measures",
            where=", ".join(map(str, files)),
            fix='name the file, or "skill" in its rows, otherwise',
            code="invalid_probe",
            problems=taken,
        )
    return found


def task_probes(task: str, examples: Sequence[Example], graders: Sequence[Grader], max_tokens: int) -> list[Probe]:
    """Another task's held-out rows as a skill: every row a reply, graded as the task grades it."""
    return [
        Probe(f"task {task}", e.place, e.prompt, e.tools, graders=tuple(graders), max_tokens=max_tokens, item=item_of(e))
        for e in examples
    ]


def read_probes(path: Path, skill: str | None = None) -> list[Probe]:
    """Probes from JSON lines: `right` and `wrong` after `context` or `messages`, or `messages` with `graders`.

    The skill is the file's name unless a row names its own. Raises DataError with every row that is neither.
    """
    probes: list[Probe] = []
    problems: list[str] = []
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # splitlines would also cut at U+2028, which JSON may hold
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"the probes can't be read: {error}", where=str(path), fix="give a file of JSON lines", code="invalid_probe"
        ) from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            probes.append(_read(line, Place(path.name, number), skill or path.stem))
        except (ValueError, JourneymanError) as error:
            problems.append(f"{path.name}:{number}: {' '.join(str(error).split())}")
    if problems or not probes:
        raise DataError(
            f"{len(problems)} probe(s) can't be used" if problems else "there are no probes",
            where=str(path),
            fix='give "right" and "wrong", or "messages" and "graders"',
            code="invalid_probe",
            problems=problems,
        )
    return probes


def _read(line: str, place: Place, skill: str) -> Probe:
    """One probe. Raises ValueError that says what is wrong, and GraderError for its graders."""
    row = json.loads(line)
    if not isinstance(row, Mapping):
        raise ValueError("not an object")
    wrong_types = [key for key, type_ in _TYPES.items() if key in row and not isinstance(row[key], type_)]
    if wrong_types:
        raise ValueError("; ".join(f"{key} is {row[key]!r}, not a {_TYPES[key].__name__}" for key in wrong_types))
    if not all(isinstance(text, str) for text in row.get("wrong", ())):
        raise ValueError("wrong holds something that is no text")
    if row.get("max_tokens", 1) < 1:
        raise ValueError(f"max_tokens is {row['max_tokens']}; it must be at least 1")
    choice, reply = bool(row.get("right") and row.get("wrong")), bool(row.get("messages") and row.get("graders"))
    if choice == reply:
        raise ValueError("both a choice and a graded reply" if choice else "neither a choice nor a graded reply")
    return Probe(
        skill=row.get("skill") or skill,
        place=place,
        messages=_messages(row.get("messages", ())),
        context=row.get("context", ""),
        right=row.get("right", ""),
        wrong=tuple(row.get("wrong", ())),
        graders=parse(row.get("graders", ())),
        max_tokens=row.get("max_tokens", 64),
    )


_TYPES = {
    "skill": str, "context": str, "right": str, "wrong": list, "messages": list, "graders": list, "max_tokens": int,
}  # fmt: skip


def _messages(values: Sequence[Any]) -> tuple[Message, ...]:
    """Messages of text. Raises ValueError for any other."""
    for value in values:
        if not isinstance(value, Mapping) or not isinstance(value.get("content"), str) or value.get("role") not in ROLES:
            raise ValueError(f"{value!r} is no message with a role of {', '.join(ROLES)} and a text as content")
    return messages_from_dicts(values)


def probe(
    engine: Engine, adapter: str | None, probes: Sequence[Probe], *, on_progress: Progress = lambda _done, _of: None
) -> list[Probed]:
    """Put every item to a base (adapter None) or to an adapter on it; the order is kept."""
    out: dict[int, Probed] = {}
    choices = [i for i, p in enumerate(probes) if p.wrong]
    for index, result in zip(choices, _choose(engine, adapter, [probes[i] for i in choices]), strict=True):
        out[index] = result
    on_progress(len(out), len(probes))
    replies = [i for i, p in enumerate(probes) if not p.wrong]
    for start in range(0, len(replies), REPLY_BATCH):
        part = replies[start : start + REPLY_BATCH]
        for index, result in zip(part, _reply(engine, adapter, [probes[i] for i in part]), strict=True):
            out[index] = result
        on_progress(len(out), len(probes))
    return [out[i] for i in range(len(probes))]


def text_likelihoods(engine: Engine, adapter: str | None, texts: Sequence[str]) -> list[Likelihood]:
    """How probable the model holds each text, cut to its context: a measure of its command of general prose."""
    opening = _opening(engine.chat)
    rows = [_row(opening, engine.chat.ids(text)[: engine.context_tokens - len(opening)]) for text in texts]
    return engine.likelihoods(rows, adapter=adapter)


def _choose(engine: Engine, adapter: str | None, probes: Sequence[Probe]) -> Iterator[Probed]:
    """The option that is most probable: of whole sentences by their sum, of continuations by their mean a byte.

    Whole minimal pairs differ in one place (Warstadt et al. 2020, arXiv:1912.00582, section 4); continuations differ
    in length, which the mean a byte evens out (as lm-evaluation-harness' acc_norm does).
    """
    options = [[_option(engine.chat, p, text) for text in (p.right, *p.wrong)] for p in probes]
    fits = [all(len(row) <= engine.context_tokens for row in rows) for rows in options]
    rows = [row for rows, fit in zip(options, fits, strict=True) if fit for row in rows]
    scores = iter(engine.likelihoods(rows, adapter=adapter))
    for p, fit in zip(probes, fits, strict=True):
        if not fit:
            yield Probed(None, "does not fit the context")
            continue
        texts = (p.right, *p.wrong)
        values = [next(scores).log_probability / _size(p, text) for text in texts]
        best = max(range(len(texts)), key=lambda i: values[i])
        yield Probed(best == 0 and values[0] > max(values[1:]), texts[best].strip())


def _size(item: Probe, text: str) -> int:
    if item.messages:
        return len(text.encode()) + 1  # the end of the turn counts as one
    return len(text.encode()) if item.context else 1


def _option(chat: ChatFormat, item: Probe, text: str) -> Encoded:
    if item.messages:
        prompt = chat.render(item.messages, add_generation_prompt=True)
        return _row(chat.ids(prompt), chat.ids(text + chat.end_of_turn, after=prompt))
    return _row([*_opening(chat), *chat.ids(item.context)], chat.ids(text, after=item.context))


def _opening(chat: ChatFormat) -> list[int]:
    """The token before a plain text, so that its first one has something to follow."""
    bos = chat.tokenizer.token_to_id(chat.special.get("bos_token", ""))
    return [chat.end_of_turn_id if bos is None else bos]


def _row(given: Sequence[int], learned: Sequence[int]) -> Encoded:
    ids_T = np.array([*given, *learned], dtype=np.int32)
    weights_T = np.array([0.0] * len(given) + [1.0] * len(learned), dtype=np.float32)
    return Encoded(ids_T, weights_T, Place("probes", 1))


def _reply(engine: Engine, adapter: str | None, probes: Sequence[Probe]) -> list[Probed]:
    prompts = [tuple(engine.chat.prompt_ids(p.messages, p.tools)) for p in probes]
    fits = [len(ids) < engine.context_tokens for ids in prompts]
    asked = [
        Request(ids, adapter, Sampling(max_tokens=p.max_tokens))
        for ids, p, fit in zip(prompts, probes, fits, strict=True)
        if fit
    ]
    answers = iter(engine.answers(asked))
    out = []
    for p, fit in zip(probes, fits, strict=True):
        if not fit:
            out.append(Probed(None, "does not fit the context"))
            continue
        answer = read_calls(next(answers), p.tools, engine.chat)
        text, calls = answer.text.strip(), answer.tool_calls
        out.append(Probed(grade_all(p.graders, Sample(text, calls), p.item).passed, as_written(text, calls)))
    return out
