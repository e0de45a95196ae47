"""`journeyman compare`: prompts, retrieval, a fine-tuned model and plain classifiers on the same held-out rows.

Called by the workspace, whose models it asks and in which it trains; the comparison itself is `evaluate/comparison.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeyman import files
from journeyman import settings as settings_module
from journeyman.answer.remote import RemoteModel
from journeyman.answer.vectors import Embedder
from journeyman.data.dataset import Dataset
from journeyman.errors import JobConflict, RequestError, TaskError
from journeyman.evaluate import comparison, prompt_evolution, prompt_search
from journeyman.evaluate.comparison import Comparison, Training
from journeyman.evaluate.comparison import Model as Compared
from journeyman.evaluate.cost import FILE, Prices, read_prices
from journeyman.evaluate.run import answer_room, drawn
from journeyman.evaluating import refuse_seen
from journeyman.jobs.events import read_events, worked_s
from journeyman.request import (
    OPTIMISERS,
    CompareRequest,
    OnEvent,
    OnProgress,
    RemoteRequest,
    base_name,
    build_dataset,
    file_name,
    ignore,
    never,
    no_held_out,
    quiet,
)
from journeyman.task import Task

if TYPE_CHECKING:
    from journeyman.models.registry import Version
    from journeyman.workspace import Workspace


def compare(
    workspace: Workspace,
    request: CompareRequest,
    *,
    on_event: OnEvent = ignore,
    on_progress: OnProgress = quiet,
    should_stop: Callable[[], bool] = never,
) -> Comparison:
    """What `Workspace.compare` promises, made of the workspace's models and trainings."""
    setting, dataset = _setting(workspace, request)
    chosen, left_out = setting.choose(request.contenders)
    tuned = training = None
    if any(recipe.who == "tuned" for recipe in chosen):
        version = _tuned(workspace, request, setting.folder, dataset, on_event, should_stop)
        tuned, training = _model(workspace, version.id), _training(workspace, version)
    return comparison.run(setting, chosen, left_out, tuned, training, on_progress=on_progress)


def _setting(workspace: Workspace, request: CompareRequest) -> tuple[comparison.Setting, Dataset]:
    """The rows and models of a comparison; its folder is named after all that decides what is trained and asked."""
    _check_comparison(request)
    task, base = workspace.task_and_base(request.train)
    prices = _prices(request, task, workspace.settings.home)
    wishes = workspace.wishes_of(task, request.train)
    seed = wishes.seed or 0
    start = base_name(task, request.train)
    decides: tuple[object, ...] = (base.fingerprint, wishes, request.train.validation, request.train.held_out)
    decides += (start,) if start.startswith("ft:") else ()  # the base of two fine-tuned models may be one
    decides += (task.graders,) if wishes.select == "graders" else ()
    name = files.hash_bytes(repr(decides).encode())
    folder = workspace.settings.home / "comparisons" / f"{file_name(task.name)}-{name[:12]}"
    workspace.settings.make_home()
    dataset = build_dataset(task, request.train, folder / "dataset")
    if not dataset.held_out:
        raise no_held_out(request.train.source)
    budget = prompt_search.BUDGET if request.budget is None else request.budget
    if request.optimiser == "gepa":
        prompt_evolution.insist_on_gepa(budget, min(len(dataset.validation), prompt_search.VALIDATION_ROWS))
    base_model = _model(workspace, base.source)
    setting = comparison.Setting(
        task=task.name,
        instructions=task.instructions,
        documents=task.documents,
        train=dataset.train,
        validation=dataset.validation,
        rows=drawn(dataset.held_out, request.rows, seed),
        held_out_rows=len(dataset.held_out),
        graders=workspace.graders(task),
        base=base_model,
        folder=folder,
        max_tokens=answer_room([*dataset.train, *dataset.validation], base_model.engine.chat),
        remotes=[_remote(asked) for asked in request.remotes],
        prices=prices,
        shots=comparison.SHOTS if request.shots is None else request.shots,
        passages=comparison.PASSAGES if request.passages is None else request.passages,
        budget=budget,
        embedder=None if request.embedder is None else Embedder(request.embedder),
        reflection=None if request.reflection is None else _remote(request.reflection),
        seed=seed,
    )
    return setting, dataset


def _remote(asked: RemoteRequest) -> RemoteModel:
    return RemoteModel(asked.url, asked.model, key=settings_module.secret(asked.key_variable))


def _model(workspace: Workspace, name: str) -> comparison.Model:
    version, base = workspace.named(name)
    served = workspace.served(name)
    identity = version.id if version is not None else base.fingerprint if base is not None else served.id
    return Compared(served.engine, served.adapter, served.id, identity)


def _training(workspace: Workspace, version: Version) -> comparison.Training:
    job = workspace.jobs.get(version.job)
    known = job.started_at is not None and job.finished_at is not None
    seconds = job.finished_at - job.started_at if known else None  # type: ignore[operator]
    happened = read_events(job.folder)
    if seconds is not None and sum(event["type"] == "planned" for event in happened) > 1:  # it was paused, or its process died
        seconds = worked_s(happened)
    return Training(version.id, job.id, seconds)


def _tuned(
    workspace: Workspace,
    request: CompareRequest,
    folder: Path,
    dataset: Dataset,
    on_event: OnEvent,
    should_stop: Callable[[], bool],
) -> Version:
    """The model that is given, or the one of this comparison's own training: begun, gone on with, or done already."""
    if request.model is not None:
        version = workspace.registry.get(request.model)
        refuse_seen(workspace, version, dataset.held_out, where="--model")
        return version
    memo = folder / "training.json"
    known = files.read_json(memo) if memo.is_file() else {}
    if known.get("dataset") == dataset.hash:
        job = workspace.jobs.get(known["job"])
        done = [v for v in workspace.registry.list() if v.job == job.id]
        if done:
            return done[0]
        if not job.status.terminal:
            _, resumed = workspace.resume(job.id, on_event=on_event, should_stop=should_stop)
            return _not_paused(resumed, job.id)
    created = ""

    def remember(event: Mapping[str, Any]) -> None:
        nonlocal created
        if event["type"] == "created":
            created = event["job"]
            files.write_json(memo, {"dataset": dataset.hash, "job": created})
        on_event(event)

    _, trained = workspace.train(request.train, on_event=remember, should_stop=should_stop)
    return _not_paused(trained, created)


def _check_comparison(request: CompareRequest) -> None:
    """Refuse numbers that can't be meant, all at once, and an optimiser without what it needs."""
    least = {"rows": 1, "shots": 0, "passages": 1, "budget": 1}
    values = {name: getattr(request, name) for name in least}
    problems = [
        f"--{name} is {value}; it must be {least[name]} or more"
        for name, value in values.items()
        if value is not None and value < least[name]
    ]
    if problems:
        raise TaskError("this can't be compared", fix="correct the numbers", code="invalid_number", problems=problems)
    names = [remote.model for remote in request.remotes]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RequestError(
            f"more than one remote model is called {', '.join(twice)}: their answers could not be told apart",
            where="--remote",
            fix="compare with one of them at a time, or let their servers call them differently",
            code="remote_twice",
        )
    if request.optimiser not in OPTIMISERS:
        raise RequestError(
            f"there is no optimiser {request.optimiser!r}",
            where="--optimiser",
            fix=f"use one of {', '.join(OPTIMISERS)}",
            code="unknown_optimiser",
        )
    if (request.optimiser == "gepa") != (request.reflection is not None):
        raise RequestError(
            "--optimiser gepa and --reflection belong together: the one needs a model that rewrites prompts, which is the other",
            where="--reflection",
            fix="give both, such as --optimiser gepa --reflection http://127.0.0.1:8000/v1=large, or neither",
            code="no_reflection_model",
        )


def _prices(request: CompareRequest, task: Task, home: Path) -> Prices:
    """The price table that is given, else the task's, else the home's; without one no price is known."""
    folder = task.path if task.path.is_dir() else task.path.parent
    found = (path for path in (folder / FILE, home / FILE) if path.is_file())
    path = request.prices or next(found, None)
    return read_prices(path) if path is not None else Prices()


def _not_paused(version: Version | None, job: str) -> Version:
    if version is None:
        raise JobConflict(
            f"the training {job} is paused, so that nothing can be compared yet",
            where="job",
            fix="give the same command again: it goes on where it stopped",
            code="paused",
        )
    return version
