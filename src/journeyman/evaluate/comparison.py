"""A comparison of one task from its data to its table and advice: the contenders are built here, and run in turn."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from journeyman.answer.answerer import Answerer
from journeyman.answer.classify import HeadClassifier, TfidfClassifier
from journeyman.answer.local import LocalModel
from journeyman.answer.prompt import Fits, Prompt, Shots
from journeyman.answer.remote import RemoteModel
from journeyman.answer.retrieve import Documents, Examples, Index, asked_text
from journeyman.answer.vectors import Embedder
from journeyman.data.check.facts import facts_in
from journeyman.evaluate.advice import Advice, Contested, Facts, advise
from journeyman.evaluate.compare import Contender, Line, answer_rows, table
from journeyman.evaluate.contenders import Need, Recipe, choose, recipes
from journeyman.evaluate.cost import Prices, break_even
from journeyman.evaluate.judgement import Judgement
from journeyman.evaluate.labels import find_labels
from journeyman.evaluate.prompt_search import BUDGET, VALIDATION_ROWS, Candidate, Trial
from journeyman.evaluate.prompt_trials import PromptTrials
from journeyman.evaluate.report import as_json
from journeyman.evaluate.run import drawn
from journeyman.evaluate.statistics import Missing
from journeyman.files import hash_bytes, write_json
from journeyman.generate.engine import Engine
from journeyman.grade.score import Grader, item_of
from journeyman.records import Example

SHOTS = 4
"""Examples shown in the prompt, unless told otherwise."""

PASSAGES = 3
"""Passages put into the prompt, unless told otherwise."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Model:
    """A model on this machine: what answers, its name in the price table, and what tells whether it has changed."""

    engine: Engine
    adapter: str | None
    name: str
    identity: str

    def answerer(self) -> LocalModel:
        """The model as an answerer."""
        return LocalModel(self.engine, self.adapter, self.name)

    def fits(self, max_tokens: int) -> Fits:
        """Whether a conversation leaves room for an answer of `max_tokens`."""
        room = self.engine.context_tokens - max_tokens
        return lambda messages, tools: len(self.engine.chat.prompt_ids(messages, tools)) <= room


@dataclass(frozen=True)
class Setting:
    """What is compared, and how: the rows, the models, and the numbers that a user can set."""

    task: str
    instructions: str
    documents: Path | None
    train: Sequence[Example]
    validation: Sequence[Example]
    rows: Sequence[Example]
    """The held-out rows that are asked: all, or the first of a seeded shuffle."""

    held_out_rows: int
    graders: Sequence[Grader]
    base: Model
    folder: Path
    max_tokens: int
    remotes: Sequence[Answerer] = ()
    prices: Prices = Prices()
    shots: int = SHOTS
    passages: int = PASSAGES
    budget: int = BUDGET
    embedder: Embedder | None = None
    """By whose vectors passages and examples are found; None for BM25."""

    reflection: RemoteModel | None = None
    """Who rewrites the instructions in the prompt search (GEPA); None for the search that writes no new words."""

    seed: int = 0

    @property
    def has(self) -> set[Need]:
        """What the task brings for its contenders."""
        labels = find_labels([e.ideal.content for e in self.train])
        given: dict[Need, bool] = {
            "instructions": bool(self.instructions.strip()),
            "documents": self.documents is not None,
            "labels": labels is not None,
            "examples": bool(self.train),
        }
        return {need for need, there in given.items() if there}

    def choose(self, names: Sequence[str] = ()) -> tuple[list[Recipe], dict[str, str]]:
        """The contenders that take part, and why others do not. Raises RequestError (see `contenders.choose`)."""
        return choose(recipes([remote.name for remote in self.remotes]), self.has, names)


@dataclass(frozen=True)
class Training:
    """The training of the tuned contender; `seconds` is None where it is not known."""

    model: str
    job: str
    seconds: float | None


@dataclass(frozen=True)
class Comparison:
    """The table with its advice."""

    setting: Setting
    lines: tuple[Line, ...]
    reference: str
    pass_or_fail: bool
    left_out: dict[str, str]
    training: Training | None
    advice: Advice
    trials: tuple[Trial, ...] = field(default=())

    def line(self, name: str) -> Line | None:
        """A contender's line by its name."""
        return next((line for line in self.lines if line.name == name), None)

    def cost_1000(self, line: Line) -> float | None:
        """Money for 1,000 requests; None where a price is unknown."""
        if line.prompt_tokens is None or line.completion_tokens is None:
            return None
        return self.setting.prices.of_1000(
            line.contender.price, line.prompt_tokens, line.completion_tokens, line.latency_s
        )

    @property
    def training_cost(self) -> float | None:
        """Money for the training, once; None where it is unknown."""
        return self.setting.prices.of_training(self.training.seconds if self.training else None)

    @property
    def break_even_requests(self) -> int | None:
        """Requests after which the tuned model has paid for its training, against the reference; None where unknown or never."""
        before, after = self.line(self.reference), self.line("tuned")
        if before is None or after is None:
            return None
        return break_even(self.training_cost, self.cost_1000(before), self.cost_1000(after))

    def as_dict(self) -> dict[str, Any]:
        """The comparison as `compare --json` gives it; null is unknown, and never 0."""
        setting = self.setting
        return {
            "task": setting.task,
            "base": setting.base.name,
            "rows": len(setting.rows),
            "held_out_rows": setting.held_out_rows,
            "seed": setting.seed,
            "score": "rows passed" if self.pass_or_fail else "mean grade",
            "reference": self.reference,
            "contenders": [self._line_json(line) for line in self.lines],
            "left_out": self.left_out,
            "currency": setting.prices.currency,
            "training": None
            if self.training is None
            else {
                "model": self.training.model,
                "job": self.training.job,
                "seconds": self.training.seconds,
                "cost": self.training_cost,
            },
            "break_even_requests": self.break_even_requests,
            "settings": {
                "shots": setting.shots,
                "passages": setting.passages,
                "budget": setting.budget,
                "max_tokens": setting.max_tokens,
                "embedder": setting.embedder.identity if setting.embedder else None,
                "optimiser": "gepa" if setting.reflection else "search",
                "reflection": f"{setting.reflection.url} {setting.reflection.name}" if setting.reflection else None,
            },
            "prompt_search": [trial.as_dict() for trial in self.trials],
            "advice": self.advice.as_dict(),
            "folder": str(setting.folder),
        }

    def _line_json(self, line: Line) -> dict[str, Any]:
        return {
            "name": line.name,
            "title": line.title,
            "score": _json(line.score.value),
            "interval": _json(line.score.interval),
            "rows": line.score.rows,
            "against_reference": None if line.against is None else _judgement_json(line.against),
            "graders": [as_json(grader) for grader in line.graders],
            "tokens_per_request": {"prompt": line.prompt_tokens, "completion": line.completion_tokens},
            "latency_s": line.latency_s,
            "cost_1000": self.cost_1000(line),
            "unanswered": list(line.unanswered),
            "notes": list(line.notes),
        }


def run(
    setting: Setting,
    chosen: Sequence[Recipe],
    left_out: dict[str, str],
    tuned: Model | None,
    training: Training | None,
    *,
    on_progress: Progress = lambda _name, _done, _of: None,
) -> Comparison:
    """Let every chosen contender answer, and write comparison.json into the folder."""
    maker = _Maker(setting, tuned, on_progress)
    answers = setting.folder / "answers"
    done = []
    for number, recipe in enumerate(chosen, 1):
        title = f"{number} of {len(chosen)}: {recipe.title}"
        on_progress(title, 0, len(setting.rows))
        contender = maker.contender(recipe)
        answered = answer_rows(
            contender,
            setting.rows,
            setting.graders,
            answers,
            max_tokens=setting.max_tokens,
            on_progress=lambda n, of, title=title: on_progress(title, n, of),  # type: ignore[misc]
        )
        done.append((contender, answered))
    names = [recipe.name for recipe in chosen]
    reference = next(name for name in ("prompt", "base", *names) if name in names)
    lines, pass_or_fail = table(done, reference)
    contested = [Contested(x.name, x.title, x.contender.recipe.role, x.values) for x in lines]
    comparison = Comparison(
        setting=setting,
        lines=tuple(lines),
        reference=reference,
        pass_or_fail=pass_or_fail,
        left_out=left_out,
        training=training,
        advice=advise(contested, _facts(setting, lines)),
        trials=tuple(maker.trials),
    )
    write_json(setting.folder / "comparison.json", comparison.as_dict())
    return comparison


class _Maker:
    """Builds contenders, and keeps what several of them use: the indexes and the outcome of the prompt search."""

    def __init__(self, setting: Setting, tuned: Model | None, on_progress: Progress) -> None:
        self._setting = setting
        self._tuned = tuned
        self._on_progress = on_progress
        embedder = setting.embedder
        of_documents, of_examples = (embedder.index_documents, embedder.index_queries) if embedder else (Index, Index)
        self._documents = Documents(setting.documents, make_index=of_documents) if setting.documents else None
        self._examples = Examples(setting.train, make_index=of_examples)
        self._remotes = {remote.name: remote for remote in setting.remotes}
        draw = random.Random(setting.seed)
        self._fixed = tuple(draw.sample(list(setting.train), min(setting.shots, len(setting.train))))
        self.trials: list[Trial] = []

    def contender(self, recipe: Recipe) -> Contender:
        """The contender of a recipe."""
        setting = self._setting
        if recipe.who in ("tfidf", "head"):
            return self._classifier(recipe)
        if recipe.who == "remote":
            remote = self._remotes[recipe.model]
            # how a remote model cuts text into tokens is not known here: what is too long, its server refuses
            prompt = self._prompt(recipe, lambda _messages, _tools: True)
            where = str(getattr(remote, "url", ""))
            identity = self._identity(recipe, f"{where} {remote.name}")
            return Contender(recipe, remote, prompt, identity, remote.name, alone=True, notes=self._notes(recipe))
        model = setting.base if recipe.who == "base" else self._tuned
        assert model is not None
        fits = model.fits(setting.max_tokens)
        if recipe.searched:
            return self._searched(recipe, model, fits)
        identity = self._identity(recipe, model.identity)
        prompt = self._prompt(recipe, fits)
        return Contender(recipe, model.answerer(), prompt, identity, model.name, notes=self._notes(recipe))

    def _identity(self, recipe: Recipe, model: str) -> str:
        """The model's, with the embedder's where that chooses what stands in the prompt."""
        embedder = self._setting.embedder
        return f"{model} {embedder.identity}" if embedder and recipe.retrieves else model

    def _notes(self, recipe: Recipe) -> tuple[str, ...]:
        """Which vectors retrieved, and what they did not see."""
        setting = self._setting
        if setting.embedder is None or not recipe.retrieves:
            return ()
        passages = self._documents.passages if self._documents and recipe.documents else ()
        examples = setting.train if recipe.shots == "nearest" else ()
        asked = [asked_text(example.prompt) for example in (*examples, *setting.rows)]
        return setting.embedder.notes([*(passage.text for passage in passages), *asked])

    def _prompt(self, recipe: Recipe, fits: Fits) -> Prompt:
        setting, documents = self._setting, self._documents
        nothing: Shots = lambda _: ()  # noqa: E731
        shots = {
            "": nothing,
            "fixed": lambda _: self._fixed,
            "nearest": lambda conversation: self._examples.nearest(conversation, setting.shots),
        }[recipe.shots]
        return Prompt(
            instructions=setting.instructions if recipe.instructions else "",
            shots=shots,
            passages=(lambda conversation: documents.nearest(conversation, setting.passages) if documents else ())
            if recipe.documents
            else lambda _: (),
            fits=fits,
        )

    def _classifier(self, recipe: Recipe) -> Contender:
        setting = self._setting
        trained = hash_bytes("\n".join(str(e.as_dict()) for e in (*setting.train, *setting.validation)).encode())[:16]
        if recipe.who == "tfidf":
            tfidf = TfidfClassifier(setting.train, setting.validation)
            return Contender(recipe, tfidf, Prompt(), f"tfidf {trained}", recipe.name)
        head = HeadClassifier(setting.base.engine, setting.train, setting.validation)
        notes = (f"{head.left_out} training or validation rows do not fit the context and are left out",) if head.left_out else ()
        return Contender(recipe, head, Prompt(), f"head {setting.base.identity} {trained}", recipe.name, notes=notes)

    def _searched(self, recipe: Recipe, model: Model, fits: Fits) -> Contender:
        setting = self._setting
        rows = drawn(setting.validation, VALIDATION_ROWS, setting.seed)

        def contender(candidate: Candidate, *notes: str) -> Contender:
            prompt = Prompt(candidate.instructions, shots=lambda _: candidate.shots, fits=fits)
            return Contender(recipe, model.answerer(), prompt, model.identity, model.name, notes=notes)

        if not rows:
            note = "there are no validation rows to search on: the instructions as they are"
            return contender(Candidate(setting.instructions), note)
        trials = PromptTrials(
            contender=contender,
            instructions=setting.instructions,
            train=setting.train,
            validation=rows,
            graders=setting.graders,
            folder=setting.folder / "search",
            max_tokens=setting.max_tokens,
            budget=setting.budget,
            seed=setting.seed,
            on_progress=self._on_progress,
        )
        about: list[str] = []
        if setting.reflection is None:
            self.trials = trials.searched()
        else:
            self.trials, *about = trials.evolved(setting.reflection)
        best = self.trials[0].candidate
        return contender(best, f"best of {len(self.trials)} prompts on {len(rows)} validation rows: {best.made}", *about)


def _facts(setting: Setting, lines: Sequence[Line]) -> Facts:
    """Facts that change: in the training outputs, and in the ideals of held-out rows that the tuned model fails."""
    with_facts = sum(bool(_facts_of(example)) for example in setting.train)
    tuned = next((line for line in lines if line.name == "tuned"), None)
    missed, failed = [], 0
    if tuned is not None:
        for example, row, value in zip(setting.rows, tuned.answered.rows, tuned.values, strict=True):
            if value is None or value >= 1:
                continue
            failed += 1
            lacking = [fact for fact in _facts_of(example) if fact not in (row.output or "")]
            if lacking:
                missed.append(f"{example.place} ({', '.join(lacking[:2])})")
    return Facts(len(setting.train), with_facts, tuple(missed), failed)


def _facts_of(example: Example) -> list[str]:
    return [fact.text for fact in facts_in(example.ideal.content, item_of(example)["input"])]


def _json(value: Any) -> Any:
    """null for what is missing: of these the table says why in words."""
    return None if isinstance(value, Missing) else as_json(value)


def _judgement_json(judgement: Judgement) -> dict[str, Any]:
    return {
        "verdict": judgement.outcome,
        "rows": judgement.rows,
        "difference": _json(judgement.difference),
        "interval": _json(judgement.interval),
        "p_value": _json(judgement.p_value),
        "smallest_detectable": _json(judgement.smallest_detectable),
        "rows_needed": _json(judgement.rows_needed),
    }
