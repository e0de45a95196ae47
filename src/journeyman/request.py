"""What a training and a comparison are asked for, and what follows from the request alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeyman.data.columns import Columns
from journeyman.data.dataset import Dataset, build
from journeyman.errors import DataError
from journeyman.models.names import check_suffix
from journeyman.plan.plan import Wishes
from journeyman.task import Task

if TYPE_CHECKING:
    from journeyman.jobs.store import Job

OPTIMISERS = ("search", "gepa")
"""What looks for a better prompt: parts and examples of the one that is there, or a model that rewrites it."""

OnEvent = Callable[[Mapping[str, Any]], None]
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What to train: a task folder or data file, the base, and what the user wishes.

    `base` None takes the task's; an `ft:` id, or that of a checkpoint, goes on from it. `held_out` and `validation`
    override the task's files.
    """

    source: str
    base: str | None = None
    wishes: Wishes = Wishes()
    suffix: str = ""
    validation: Path | None = None
    held_out: Path | None = None
    columns: Columns | None = None
    despite_errors: bool = False
    """Train also where the check finds errors in the rows."""
    hold_out: bool = True
    """False trains on every row of the examples: none are split off. Files of validation or held-out rows are used all the same."""
    every_row: bool = False
    """Refuse to train where a row can't be used, instead of leaving it out: what OpenAI does."""


@dataclass(frozen=True, slots=True)
class RemoteRequest:
    """A model elsewhere: an OpenAI-compatible URL, the model's name there, and the variable that holds its key."""

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """What to compare: the task as a training would take it, and what the user wishes of the comparison.

    `model` takes a fine-tuned model instead of training one. `rows` is the number of held-out rows, None for all;
    `contenders` names some of them, () for all. `shots`, `passages` and `budget` None take the defaults of
    `evaluate/comparison.py`. `prices` None looks for prices.toml in the task's folder, then in the home.
    `embedder` None retrieves by BM25; else it is a sentence-transformers model by whose vectors is retrieved.
    `optimiser` is one of OPTIMISERS, and `reflection` the model that rewrites prompts for "gepa".
    """

    train: TrainRequest
    model: str | None = None
    contenders: tuple[str, ...] = ()
    rows: int | None = None
    remotes: tuple[RemoteRequest, ...] = ()
    shots: int | None = None
    passages: int | None = None
    budget: int | None = None
    prices: Path | None = None
    embedder: str | None = None
    optimiser: str = "search"
    reflection: RemoteRequest | None = None


def ignore(_: Mapping[str, Any]) -> None:
    """An `on_event` for callers that do not follow along."""


def never() -> bool:
    """A `should_stop` for callers that let it run to its end."""
    return False


def quiet(_title: str, _done: int, _of: int) -> None:
    """An `on_progress` for callers that do not follow along."""


def no_held_out(source: str) -> DataError:
    """The refusal to measure where nothing was held out."""
    return DataError(
        "there are no held-out rows to measure on",
        where=source,
        fix="give held-out rows, or a task with a held_out_share above 0",
        code="no_held_out_rows",
    )


def file_name(name: str) -> str:
    """A model id or task name as a folder's name."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)


def lasting(source: str) -> str:
    """A source that means the same from any folder: paths become absolute, names of bundled tasks stay."""
    path = Path(source).expanduser()
    return str(path.absolute()) if path.exists() else source


def kept(request: TrainRequest) -> dict[str, Any]:
    """What the job's row keeps of a request, besides what has columns of its own."""
    return {
        "base": request.base,
        "validation": lasting(str(request.validation)) if request.validation else None,
        "held_out": lasting(str(request.held_out)) if request.held_out else None,
        "columns": request.columns.as_dict() if request.columns else None,
        "despite_errors": request.despite_errors,
        "hold_out": request.hold_out,
        "every_row": request.every_row,
    }


def asked(job: Job) -> TrainRequest:
    """The request that made a job."""
    kept = dict(job.request or {})
    columns = kept.pop("columns", None)
    paths: dict[str, Any] = {name: Path(kept.pop(name)) for name in ("validation", "held_out") if kept.get(name)}
    return TrainRequest(
        job.source,
        base=kept.get("base"),
        wishes=job.wishes,
        suffix=job.suffix,
        columns=Columns(**columns) if columns else None,
        despite_errors=bool(kept.get("despite_errors")),
        hold_out=bool(kept.get("hold_out", True)),
        every_row=bool(kept.get("every_row")),
        **paths,
    )


def base_name(task: Task, request: TrainRequest) -> str:
    """The base that is asked for: the request's, the task's, or the starter."""
    return request.base or task.base or "starter"


def suffix_of(task: Task, request: TrainRequest) -> str:
    """The suffix of the model id. Raises PlanError where it can't be one."""
    suffix = request.suffix or str(task.train.get("suffix", ""))
    check_suffix(suffix)
    return suffix


OF_THE_BASE = frozenset({"full", "learning_rate", "rank", "top_layers", "quantise", "repetition_penalty"})
"""Keys of [train] that were chosen for the base that the task names, and say nothing about another one."""


def asked_wishes(task: Task, request: TrainRequest) -> Wishes:
    """The user's flags over the task file's [train] table."""
    values = {name: getattr(request.wishes, name) for name in request.wishes.__slots__}
    asked = {name: v for name, v in values.items() if v is not None and v is not False}
    other_base = None not in (request.base, task.base) and request.base != task.base
    left_out = {"suffix"} | (OF_THE_BASE if other_base else set())
    if {"rank", "top_layers", "quantise"} & asked.keys() and not asked.get("full") and task.train.get("full"):  # who asks for adapters does not ask for all weights
        left_out |= {"full", "learning_rate"}
    from_task = {name: value for name, value in task.train.items() if name not in left_out}
    return replace(Wishes(**from_task), **asked)


def build_dataset(task: Task, request: TrainRequest, folder: Path) -> Dataset:
    """The dataset of a task, split by the seed that the training would use."""
    return build(
        task.examples,
        folder,
        validation=request.validation or task.validation,
        held_out=request.held_out or task.held_out,
        held_out_share=task.held_out_share if request.hold_out else 0.0,
        validation_share=task.validation_share if request.hold_out else 0.0,
        columns=request.columns or task.columns,
        seed=asked_wishes(task, request).seed or 0,
    )
