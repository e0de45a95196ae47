"""A better prompt, written by a capable model that reads what went wrong: GEPA, an extra.

GEPA (Agrawal et al. 2025, arXiv:2507.19457, "Reflective prompt evolution can outperform reinforcement learning") lets
a reflection model rewrite the instructions after it has read a few answers to training rows with their grades. A
rewriting that does better on those rows is measured on the validation rows, and may be rewritten in turn. Held-out rows
are never looked at, and nothing is written or sent by the library itself: answers are the caller's, replies are kept here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from journeyman.answer.remote import RemoteModel
from journeyman.errors import JourneymanError, RequestError
from journeyman.evaluate.compare import mean_grade
from journeyman.evaluate.run import ScoredRow
from journeyman.files import hash_bytes, read_jsonl, write_jsonl
from journeyman.generate.sampling import Sampling
from journeyman.grade.score import Score
from journeyman.records import Example, Message

MINIBATCH = 3
"""Training rows that the reflection model reads for one rewriting: GEPA's own default."""

REPLY_TOKENS = 4096
"""Room for a rewriting, and for thinking aloud before it."""

PART = "instructions"
"""The only part of a prompt that is rewritten."""

Ask = Callable[[str, Sequence[Example]], Sequence[ScoredRow]]
"""Lets the model answer rows with these instructions, and grades the answers."""

log = logging.getLogger("journeyman.evaluate")


def insist_on_gepa(budget: int, validation_rows: int) -> None:
    """Raise RequestError where GEPA is not installed, or where so small a budget leaves no room for a single rewriting."""
    _library()
    least = math.ceil(2 + 2 * MINIBATCH / max(validation_rows, 1))
    if budget < least:
        raise RequestError(
            f"--budget {budget} on {validation_rows} validation rows leaves no room for a single rewriting",
            where="--budget",
            fix=f"give {least} or more",
            code="budget_too_small",
        )


class Reflection:
    """The model that rewrites, with its replies as they are kept in a file: a search that is repeated asks nothing again.

    The n-th question of a search is asked with the seed + n at temperature 1, so that the same question may bring
    another rewriting.
    """

    def __init__(self, model: RemoteModel, file: Path, seed: int) -> None:
        self.name = model.name
        self.asked = 0
        self._model = model
        self._file = file
        self._seed = seed
        self._replies: dict[str, str] = {row["key"]: row["reply"] for row in read_jsonl(file)} if file.is_file() else {}

    def __call__(self, question: str) -> str:
        """The reply to a question. Raises JourneymanError as RemoteModel does."""
        seed = self._seed + self.asked
        self.asked += 1
        key = hash_bytes("\n".join((self._model.url, self._model.name, str(seed), question)).encode("utf-8", "surrogatepass"))[:32]
        if key not in self._replies:
            sampling = Sampling(max_tokens=REPLY_TOKENS, temperature=1.0, seed=seed)
            (answer,) = self._model.answers([[Message("user", question)]], sampling)
            self._replies[key] = answer.text
            write_jsonl(self._file, ({"key": k, "reply": text} for k, text in self._replies.items()))
        return self._replies[key]


def evolve(
    instructions: str,
    train: Sequence[Example],
    validation: Sequence[Example],
    ask: Ask,
    reflect: Callable[[str], str],
    *,
    budget: int,
    seed: int = 0,
) -> list[str]:
    """The instructions, and every rewriting that was measured on all validation rows, in the order found.

    At most `budget` times the validation rows are answered, training rows counted too: what a search of `budget`
    prompts costs. The same seed, answers and replies give the same. Raises what `ask` and `reflect` raise.
    """
    library = _library()
    reflection = _Guarded(reflect)
    most, another = budget * len(validation), 2 * MINIBATCH + len(validation)
    result = library.optimize(
        seed_candidate={PART: instructions},
        trainset=list(train),
        valset=list(validation),
        adapter=_Adapter(ask, library.EvaluationBatch),
        reflection_lm=reflection,
        reflection_minibatch_size=MINIBATCH,
        max_metric_calls=most,
        # GEPA itself stops after the budget is spent; here no rewriting is begun that could go beyond it
        stop_callbacks=lambda state: reflection.error is not None or state.total_num_evals + another > most,
        logger=_Quiet(),
        track_best_outputs=False,
        seed=seed,
    )
    if reflection.error is not None:
        raise reflection.error
    return list(dict.fromkeys(candidate[PART] for candidate in result.candidates))


@dataclass
class _Guarded:
    """The reflection model; GEPA would go on without its reply, but an error that the user can mend ends the search."""

    reflect: Callable[[str], str]
    error: JourneymanError | None = None

    def __call__(self, question: str) -> str:
        if self.error is None:
            try:
                return self.reflect(question)
            except JourneymanError as error:
                self.error = error
        raise self.error


class _Adapter:
    """GEPA's view of a task (its GEPAAdapter): rows are answered and graded, and what happened is told."""

    propose_new_texts = None

    def __init__(self, ask: Ask, batch: Callable[..., Any]) -> None:
        self._ask = ask
        self._batch = batch

    def evaluate(self, batch: Sequence[Example], candidate: Mapping[str, str], capture_traces: bool = False) -> Any:
        """The rows' mean grades; a row that can't be answered or measured speaks against the candidate."""
        rows = list(self._ask(candidate[PART], batch))
        scores = [mean_grade(row.graded) or 0.0 for row in rows]
        return self._batch(outputs=rows, scores=scores, trajectories=rows if capture_traces else None)

    def make_reflective_dataset(
        self, candidate: Mapping[str, str], eval_batch: Any, components_to_update: Sequence[str]
    ) -> Mapping[str, Sequence[Mapping[str, str]]]:
        """What the reflection model reads of each row."""
        return {part: [_told(row) for row in eval_batch.trajectories] for part in components_to_update}


class _Quiet:
    """GEPA's log goes where ours goes, not to standard output."""

    def log(self, message: str) -> None:
        """One line of its log."""
        log.debug("gepa: %s", message)


def _told(row: ScoredRow) -> Mapping[str, str]:
    answer = f"(none: {row.error})" if row.output is None else row.output
    grades = "\n".join(_grade(score) for score in row.graded.scores)
    return {"Inputs": row.input, "Generated Outputs": answer, "Feedback": f"{grades}\nThe ideal answer:\n{row.ideal}"}


def _grade(score: Score) -> str:
    verdict = {True: "passed", False: "failed", None: "no verdict"}[score.passed]
    value = "" if score.value is None else f", {score.value:g}"
    return f"{score.name}: {verdict}{value}{f' ({score.error})' if score.error else ''}"


def _library() -> Any:
    try:
        import gepa
    except ImportError as error:
        raise RequestError(
            "the optimiser gepa needs the package gepa, which is not installed",
            where="--optimiser",
            fix='pip install "journeyman[gepa]", or leave --optimiser out: the search needs no package',
            code="extra_missing",
        ) from error
    return gepa
