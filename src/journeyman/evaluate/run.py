"""Scoring: an answerer, held-out rows and graders in; one row of scores for each held-out row out."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from journeyman.answer.answerer import Answerer, Tools
from journeyman.errors import DataError, RequestError
from journeyman.evaluate.statistics import Missing, Proportion, proportion
from journeyman.files import read_json, read_jsonl, write_json, write_jsonl
from journeyman.generate.sampling import Sampling
from journeyman.grade.grade import grade_all
from journeyman.grade.score import Graded, Grader, Sample, Score, item_of
from journeyman.records import Answer, Example, Message, Place, Stop, Usage, as_written
from journeyman.text.encode import prompt_and_answer
from journeyman.text.template import ChatFormat

FORMAT = 1
ROWS, ABOUT = "scores.jsonl", "scores.json"

Progress = Callable[[int, int], None]
"""Called with the rows done and all rows."""



def drawn(rows: Sequence[Example], count: int | None, seed: int = 0) -> list[Example]:
    """All rows, or `count` of them drawn by the seed: the first rows of a file are often of one label or one source."""
    if count is None or count >= len(rows):
        return list(rows)
    order = list(rows)
    random.Random(seed).shuffle(order)
    return order[:count]


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """One held-out row: what was asked, the ideal, the output, and its grades.

    `output` is None, with the reason in `error`, where the answerer could not answer at all.
    """

    place: Place
    input: str
    ideal: str
    output: str | None
    graded: Graded
    stop: Stop | None = None
    usage: Usage | None = None
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The row as it stands in a scores file."""
        return {**asdict(self), "graded": self.graded.as_dict()}


@dataclass(frozen=True, slots=True)
class Scores:
    """All rows that one answerer was scored on, in the order of the examples."""

    name: str
    rows: tuple[ScoredRow, ...]

    @property
    def passed(self) -> Proportion | Missing:
        """The share of rows that pass all graders, of those that could be measured."""
        verdicts = [row.graded.passed for row in self.rows if row.graded.passed is not None]
        return proportion(sum(verdicts), len(verdicts))


def score(
    answerer: Answerer,
    examples: Sequence[Example],
    graders: Sequence[Grader],
    *,
    max_tokens: int = 256,
    sampling: Sampling | None = None,
    batch: int = 32,
    on_progress: Progress | None = None,
    folder: Path | None = None,
) -> Scores:
    """Let an answerer answer every row and grade the answers.

    The most likely token is taken each time, unless `sampling` says otherwise (it then goes before `max_tokens`).
    With a folder, the rows are written there (scores.jsonl, scores.json) when all are done.
    """
    sampling = sampling or Sampling(max_tokens=max_tokens)
    rows: list[ScoredRow] = []
    for start in range(0, len(examples), batch):
        part = examples[start : start + batch]
        answers = answer_each(answerer, [e.prompt for e in part], sampling, [e.tools for e in part])
        rows += [graded_row(e, a, graders) for e, a in zip(part, answers, strict=True)]
        if on_progress is not None:
            on_progress(len(rows), len(examples))
    scores = Scores(answerer.name, tuple(rows))
    if folder is not None:
        write_scores(folder, scores)
    return scores


def answer_room(examples: Sequence[Example], chat: ChatFormat) -> int:
    """Tokens an answer may have: half as many again as the longest ideal needs; room to be wordy, not to ramble for ever."""
    longest = max((len(chat.ids(_ideal_text(e, chat))) for e in examples), default=0)
    return longest * 3 // 2 + 16


def _ideal_text(example: Example, chat: ChatFormat) -> str:
    """The ideal as the model would write it, its calls in the form of its template."""
    if not example.ideal.tool_calls:
        return example.ideal.content
    try:
        _, answer = prompt_and_answer((*example.prompt, example.ideal), example.tools, chat)
    except DataError:  # the template refuses the conversation: it can't be asked either
        answer = None
    return answer if answer is not None else as_written(example.ideal.content, example.ideal.tool_calls)


def write_scores(folder: Path, scores: Scores) -> None:
    """Write scores to a folder: one JSON row a line, and what they are about beside it."""
    write_jsonl(folder / ROWS, (row.as_dict() for row in scores.rows))
    write_json(folder / ABOUT, {"format": FORMAT, "name": scores.name, "rows": len(scores.rows)})


def read_scores(folder: Path) -> Scores:
    """Read scores that `write_scores` wrote. Raises DataError where rows are missing."""
    about = read_json(folder / ABOUT)
    rows = tuple(_row_from_dict(row) for row in read_jsonl(folder / ROWS))
    if about["format"] != FORMAT or len(rows) != about["rows"]:
        raise DataError(
            f"{len(rows)} rows in format {FORMAT} expected {about['rows']} in format {about['format']}",
            where=str(folder / ROWS),
            fix="evaluate again",
            code="scores_damaged",
        )
    return Scores(about["name"], rows)


def answer_each(
    answerer: Answerer, conversations: Sequence[Sequence[Message]], sampling: Sampling, tools: Sequence[Tools]
) -> list[Answer | RequestError]:
    """A batch's answers; where the batch is refused, each row is asked alone, so that one costs no other its answer."""
    try:
        return list(answerer.answers(conversations, sampling, tools if any(tools) else ()))
    except RequestError as error:
        if len(conversations) == 1:
            return [error]
        return [answer_each(answerer, [c], sampling, [some])[0] for c, some in zip(conversations, tools, strict=True)]


def graded_row(example: Example, answer: Answer | RequestError, graders: Sequence[Grader]) -> ScoredRow:
    """One row with its grades; without, and with the reason, where it could not be answered."""
    item = item_of(example)
    asked, ideal = item["input"], as_written(example.ideal.content, example.ideal.tool_calls)
    if isinstance(answer, RequestError):
        return ScoredRow(example.place, asked, ideal, None, Graded((), None), error=str(answer))
    graded = grade_all(graders, Sample(answer.text, answer.tool_calls), item)
    output = as_written(answer.text, answer.tool_calls)
    return ScoredRow(example.place, asked, ideal, output, graded, answer.stop, answer.usage)


def _row_from_dict(row: dict[str, Any]) -> ScoredRow:
    graded = Graded(tuple(Score(**s) for s in row["graded"]["scores"]), row["graded"]["passed"])
    usage = None if row["usage"] is None else Usage(**row["usage"])
    return ScoredRow(**{**row, "place": Place(**row["place"]), "graded": graded, "usage": usage})
