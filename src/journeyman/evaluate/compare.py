"""Contenders on the same held-out rows: answers that are kept, scores, differences, tokens, time and money.

A comparison has a folder: `answers/NAME.jsonl` holds each contender's answers, keyed by what was asked of whom,
so that a comparison that was interrupted goes on where it stopped, and one that is repeated asks nothing again.
"""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from journeyman.answer.answerer import Answerer, Tools
from journeyman.answer.prompt import Asked, Prompt
from journeyman.errors import RequestError
from journeyman.evaluate.contenders import Recipe
from journeyman.evaluate.judgement import (
    Judgement,
    Score,
    Values,
    corrected,
    is_pass_or_fail,
    judged,
    score_of,
)
from journeyman.evaluate.run import ScoredRow, answer_each, graded_row
from journeyman.evaluate.statistics import Mean, Missing, Proportion, bootstrap_mean, proportion
from journeyman.files import hash_bytes, read_jsonl, write_jsonl
from journeyman.generate.sampling import Sampling
from journeyman.grade.score import Graded, Grader
from journeyman.records import Answer, Example, Message, Usage

BATCH = 32
LATENCY_ROWS = 5
"""So many requests are timed one at a time where answers are otherwise made together."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Contender:
    """Who answers, through which prompt. `identity` changes whenever its answers may.

    `alone` says that it answers one request after another, so that `latency_s` of an answer is that request's own.
    `price` is the name under which the price table knows it.
    """

    recipe: Recipe
    answerer: Answerer
    prompt: Prompt
    identity: str
    price: str
    alone: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer as it is kept, with what was put into its prompt."""

    key: str
    place: str
    shots: tuple[str, ...]
    passages: tuple[str, ...]
    left_out: int
    text: str
    stop: Any
    prompt_tokens: int
    completion_tokens: int
    latency_s: float | None
    tool_calls: tuple[Mapping[str, Any], ...] = ()

    @property
    def answer(self) -> Answer:
        """The answer itself."""
        usage = Usage(self.prompt_tokens, self.completion_tokens)
        return Answer(self.text, self.stop, usage, self.latency_s, self.tool_calls)


@dataclass(frozen=True, slots=True)
class Answered:
    """A contender's rows: graded, with what was asked, and the seconds that a request took alone."""

    rows: tuple[ScoredRow, ...]
    asked: tuple[Asked, ...]
    alone_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class GraderScore:
    """One grader: the share of rows passed, and the mean value; missing where there is none."""

    name: str
    passed: Proportion | Missing
    mean: Mean | Missing


@dataclass(frozen=True)
class Line:
    """A contender's line of the table. `against` is None for the reference itself; costs are None where unknown."""

    contender: Contender
    values: Values
    score: Score
    against: Judgement | None
    graders: tuple[GraderScore, ...]
    prompt_tokens: float | None
    completion_tokens: float | None
    latency_s: float | None
    unanswered: tuple[str, ...]
    answered: Answered
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """The contender's name."""
        return self.contender.recipe.name

    @property
    def title(self) -> str:
        """The contender's title."""
        return self.contender.recipe.title


def answer_rows(
    contender: Contender,
    examples: Sequence[Example],
    graders: Sequence[Grader],
    folder: Path,
    *,
    max_tokens: int,
    time_alone: bool = True,
    on_progress: Progress = lambda _done, _of: None,
) -> Answered:
    """Let a contender answer every row, those in `folder` excepted, and grade all answers.

    A row that it can't answer (its prompt does not fit the context) is kept out of the score, and is asked again the
    next time.
    """
    sampling = Sampling(max_tokens=max_tokens)
    kept = _Kept(folder / f"{_file_name(contender.recipe.name)}.jsonl")
    tools = [example.tools for example in examples]
    asked = [contender.prompt.ask(example.prompt, example.tools) for example in examples]
    keys = [_key(contender.identity, a.messages, max_tokens, some) for a, some in zip(asked, tools, strict=True)]
    errors: dict[int, RequestError] = {}
    open_rows = [i for i, key in enumerate(keys) if key not in kept]
    on_progress(len(examples) - len(open_rows), len(examples))
    for start in range(0, len(open_rows), BATCH):
        part = open_rows[start : start + BATCH]
        answers = answer_each(contender.answerer, [asked[i].messages for i in part], sampling, [tools[i] for i in part])
        entries = []
        for i, answer in zip(part, answers, strict=True):
            if isinstance(answer, RequestError):
                errors[i] = answer
            else:
                entries.append(_entry(keys[i], examples[i], asked[i], answer))
        kept.add(entries)
        on_progress(len(examples) - len(open_rows) + start + len(part), len(examples))
    rows = [
        graded_row(example, errors[i] if i in errors else kept[keys[i]].answer, graders)
        for i, example in enumerate(examples)
    ]
    if contender.alone:
        alone = [kept[k].latency_s for k in keys if k in kept]
    elif time_alone:
        alone = list(_timed(contender, keys, asked, tools, sampling, errors, folder))
    else:
        alone = []
    return Answered(tuple(rows), tuple(asked), tuple(s for s in alone if s is not None))


def table(
    contenders: Sequence[tuple[Contender, Answered]], reference: str
) -> tuple[list[Line], bool]:
    """The lines, each against the reference, and whether the score is a share of rows passed (else a mean of grades).

    Rows are scored by pass or fail where any row of any contender has a verdict, else by the mean of their grades.
    p-values are corrected for the number of contenders (Holm).
    """
    by_verdict = any(row.graded.passed is not None for _, a in contenders for row in a.rows)
    columns = {c.recipe.name: _values(a.rows, by_verdict) for c, a in contenders}
    pass_or_fail = is_pass_or_fail(list(columns.values()))
    others = [name for name in columns if name != reference]
    raw = [judged(columns[reference], columns[name], pass_or_fail=pass_or_fail) for name in others]
    against = dict(zip(others, corrected(raw), strict=True))
    lines = [
        _line(c, a, columns[c.recipe.name], against.get(c.recipe.name), pass_or_fail) for c, a in contenders
    ]
    return lines, pass_or_fail


def mean_grade(graded: Graded) -> float | None:
    """The mean of a row's grades; None where one could not be measured."""
    values = [s.value for s in graded.scores]
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _values(rows: Sequence[ScoredRow], by_verdict: bool) -> list[float | None]:
    if by_verdict:
        return [None if r.graded.passed is None else float(r.graded.passed) for r in rows]
    return [mean_grade(r.graded) for r in rows]


def _line(
    contender: Contender, answered: Answered, values: Values, against: Judgement | None, pass_or_fail: bool
) -> Line:
    usages = [row.usage for row in answered.rows if row.usage is not None]
    unanswered = tuple(f"{row.place}: {row.error}" for row in answered.rows if row.output is None)
    return Line(
        contender=contender,
        values=values,
        score=score_of(values, pass_or_fail=pass_or_fail),
        against=against,
        graders=_grader_scores(answered.rows),
        prompt_tokens=statistics.mean(u.prompt_tokens for u in usages) if usages else None,
        completion_tokens=statistics.mean(u.completion_tokens for u in usages) if usages else None,
        latency_s=statistics.median(answered.alone_s) if answered.alone_s else None,
        unanswered=unanswered,
        answered=answered,
        notes=(*contender.notes, *_notes(answered)),
    )


def _notes(answered: Answered) -> list[str]:
    """What a reader must know of a contender's rows: what found no room, and what was not answered to its end."""
    out = []
    shortened = [str(r.place) for r, a in zip(answered.rows, answered.asked, strict=True) if a.left_out]
    if shortened:
        left_out = statistics.mean(a.left_out for a in answered.asked if a.left_out)
        out.append(
            f"in {len(shortened)} of {len(answered.rows)} rows the context has no room for all examples or passages: "
            f"{left_out:.1f} are left out on average (first: {', '.join(shortened[:3])})"
        )
    silent = [row for row in answered.rows if row.output is None]
    if silent:
        out.append(
            f"{len(silent)} of {len(answered.rows)} rows could not be answered and are left out of its score "
            f"(first: {silent[0].place}: {silent[0].error})"
        )
    cut = sum(row.stop == "length" for row in answered.rows)
    if cut:
        out.append(f"{cut} of {len(answered.rows)} answers ran to the limit of tokens")
    return out


def _grader_scores(rows: Sequence[ScoredRow]) -> tuple[GraderScore, ...]:
    out = []
    for name in dict.fromkeys(s.name for row in rows for s in row.graded.scores):
        scores = [s for row in rows for s in row.graded.scores if s.name == name]
        verdicts = [s.passed for s in scores if s.passed is not None]
        values = [s.value for s in scores if s.value is not None]
        out.append(GraderScore(name, proportion(sum(verdicts), len(verdicts)), bootstrap_mean(values, resamples=1000, bounds=(0, 1))))
    return tuple(out)


def _timed(
    contender: Contender,
    keys: Sequence[str],
    asked: Sequence[Asked],
    tools: Sequence[Tools],
    sampling: Sampling,
    errors: dict[int, RequestError],
    folder: Path,
) -> list[float]:
    """Seconds of single requests, measured once and kept."""
    path = folder / f"{_file_name(contender.recipe.name)}.latency.jsonl"
    known = {row["key"]: float(row["latency_s"]) for row in read_jsonl(path)} if path.is_file() else {}
    chosen = [i for i in range(len(keys)) if i not in errors][:LATENCY_ROWS]
    for i in chosen:
        if keys[i] not in known:
            started_s = time.perf_counter()
            contender.answerer.answers([asked[i].messages], sampling, [tools[i]] if tools[i] else ())
            known[keys[i]] = time.perf_counter() - started_s
    write_jsonl(path, ({"key": key, "latency_s": latency_s} for key, latency_s in known.items()))
    return [known[keys[i]] for i in chosen]


class _Kept:
    """The answers of one file; new ones are added at its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        rows = list(read_jsonl(path)) if path.is_file() else []
        self._entries = {
            row["key"]: Entry(
                **{**row, "shots": tuple(row["shots"]), "passages": tuple(row["passages"]), "tool_calls": tuple(row.get("tool_calls", ()))}
            )
            for row in rows
        }
        write_jsonl(path, rows)  # a line that a crash cut off must not be continued

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def __getitem__(self, key: str) -> Entry:
        return self._entries[key]

    def add(self, entries: Sequence[Entry]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(e), ensure_ascii=False, allow_nan=False) + "\n" for e in entries)
        self._entries.update((e.key, e) for e in entries)


def _entry(key: str, example: Example, asked: Asked, answer: Answer) -> Entry:
    return Entry(
        key=key,
        place=str(example.place),
        shots=asked.shots,
        passages=asked.passages,
        left_out=asked.left_out,
        text=answer.text,
        stop=answer.stop,
        prompt_tokens=answer.usage.prompt_tokens,
        completion_tokens=answer.usage.completion_tokens,
        latency_s=answer.latency_s,
        tool_calls=answer.tool_calls,
    )


def _key(identity: str, messages: Sequence[Message], max_tokens: int, tools: Tools) -> str:
    value = [identity, max_tokens, [message.as_dict() for message in messages], *([list(tools)] if tools else [])]
    return hash_bytes(json.dumps(value, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass"))[:32]


def _file_name(name: str) -> str:
    """A contender's name as a file's, two names never the same."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "-", name)
    return plain if plain == name else f"{plain}-{hash_bytes(name.encode())[:6]}"
