"""Prompts tried by asking with them: what each candidate for a better prompt answers on training and validation rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from journeyman.answer.remote import RemoteModel
from journeyman.evaluate.compare import Contender, answer_rows, mean_grade
from journeyman.evaluate.prompt_evolution import Reflection, evolve
from journeyman.evaluate.prompt_search import Candidate, Trial, best_first, search
from journeyman.evaluate.run import ScoredRow
from journeyman.grade.score import Grader
from journeyman.records import Example

REPLIES = "reflection.jsonl"


@dataclass(frozen=True)
class PromptTrials:
    """Candidates, measured on validation rows within a budget; all answers are kept in a folder.

    `contender` asks with a candidate, and `on_progress` is told what is done, how much of it, and of how much.
    """

    contender: Callable[[Candidate], Contender]
    instructions: str
    train: Sequence[Example]
    validation: Sequence[Example]
    graders: Sequence[Grader]
    folder: Path
    max_tokens: int
    budget: int
    seed: int
    on_progress: Callable[[str, int, int], None]

    def searched(self) -> list[Trial]:
        """The trials of a search that writes no new words, best first."""
        tried = 0

        def measure(candidate: Candidate) -> tuple[float, float]:
            nonlocal tried
            out = self._measure(candidate)
            tried += 1
            self.on_progress(f"prompt search on {len(self.validation)} validation rows", tried, self.budget)
            return out

        return search(self.instructions, self.train, measure, budget=self.budget, seed=self.seed)

    def evolved(self, model: RemoteModel) -> tuple[list[Trial], str]:
        """The trials of an evolution in which a reflection model rewrites the instructions, and what it took, in words."""
        reflection = Reflection(model, self.folder / REPLIES, self.seed)
        done = 0

        def ask(instructions: str, examples: Sequence[Example]) -> Sequence[ScoredRow]:
            nonlocal done
            out = self._rows(Candidate(instructions), examples)
            done += len(examples)
            self.on_progress("prompt evolution (GEPA), in answers", done, self.budget * len(self.validation))
            return out

        first, *rewritten = evolve(
            self.instructions, self.train, self.validation, ask, reflection, budget=self.budget, seed=self.seed
        )
        made = f"the instructions as {model.name} rewrote them (GEPA)"
        candidates = [Candidate(first), *(Candidate(text, made=made) for text in rewritten)]
        trials = best_first([Trial(c, *self._measure(c)) for c in candidates])  # of answers that are kept already
        return trials, f"{model.name} was asked {reflection.asked} times for a rewriting, over {done} graded answers"

    def _measure(self, candidate: Candidate) -> tuple[float, float]:
        """The mean grade on the validation rows, and the tokens read a request."""
        rows = self._rows(candidate, self.validation)
        # a row that can't be answered speaks against the candidate
        grades = [mean_grade(row.graded) or 0.0 for row in rows]
        read = [row.usage.prompt_tokens for row in rows if row.usage is not None]
        return sum(grades) / len(grades), sum(read) / len(read) if read else float("inf")

    def _rows(self, candidate: Candidate, examples: Sequence[Example]) -> Sequence[ScoredRow]:
        trying = self.contender(candidate)
        return answer_rows(
            trying, examples, self.graders, self.folder, max_tokens=self.max_tokens, time_alone=False
        ).rows
