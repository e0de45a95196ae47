"""`journeyman evaluate`: a tuned model and its base on the same held-out rows, and all that is told beside the scores.

Called by the workspace, whose models and jobs it measures; it decides nothing itself (`evaluate/` does).
"""

from __future__ import annotations

import platform
import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeyman import files
from journeyman.answer.local import LocalModel
from journeyman.answer.prompt import Prompt, Prompted
from journeyman.data.dataset import open_dataset
from journeyman.errors import DataError, ModelNotFound
from journeyman.evaluate import run
from journeyman.evaluate.agreement import agreement, read_marked
from journeyman.evaluate.card import card
from journeyman.evaluate.consistency import Consistency, ask_again, consistency
from journeyman.evaluate.course import CheckpointScore
from journeyman.evaluate.forgetting import BUDGET, Forgetting, Measured, forgetting, measure
from journeyman.evaluate.markdown import markdown
from journeyman.evaluate.measures import loss_pair, measures, row_losses
from journeyman.evaluate.page import Subject, page
from journeyman.evaluate.probing import OTHER_TASK_ROWS, Probe, bundled_probes, own_probes, task_probes
from journeyman.evaluate.report import Evaluation, Saving, evaluate_pair
from journeyman.evaluate.run import Scores, answer_room, drawn
from journeyman.models.names import CHECKPOINT
from journeyman.plan.plan import Plan, Wishes, explain
from journeyman.records import Example
from journeyman.request import OnProgress, TrainRequest, asked, build_dataset, file_name, lasting, no_held_out
from journeyman.task import Task

if TYPE_CHECKING:
    from journeyman.models.registry import Version
    from journeyman.workspace import Workspace


def evaluate(
    workspace: Workspace,
    model: str,
    source: str | None = None,
    *,
    on_progress: Callable[[str, int, int], None] = lambda _name, _done, _total: None,
    limit: int | None = None,
    forgetting_budget: float | None = None,
    consistency_rows: int = 0,
    price: float | None = None,
    compared: Mapping[str, Any] | None = None,
    probes: Sequence[Path] = (),
    other_tasks: Sequence[str] = (),
    checkpoints: bool = False,
) -> Evaluation:
    """What `Workspace.evaluate` promises, made of the workspace's models, rows and jobs."""
    version = workspace.registry.get(model)
    items = _probes(workspace, version, probes, other_tasks)
    graders = workspace.graders(workspace.task(source or workspace.jobs.get(version.job).source))
    scores = [
        score(workspace, name, version, source, on_progress=on_progress, limit=limit)
        for name in (version.base_source, version.id)
    ]
    task = workspace.task(source or workspace.jobs.get(version.job).source)
    rows = drawn(_rows_to_measure(workspace, version, source), limit)
    losses = (_row_losses(workspace, name, rows) for name in (version.base_source, version.id))
    measured = partial(_general_skills, workspace, items, on_progress)
    base = measured(version.base_source)
    lost = partial(forgetting, base, probes=items, budget=BUDGET if forgetting_budget is None else forgetting_budget)
    evaluation = replace(
        evaluate_pair(*scores),
        forgetting=lost(measured(version.id)),
        course=_course(workspace, version, task, lambda name: lost(measured(name)), on_progress) if checkpoints else (),
        measures=replace(measures(*scores), loss=loss_pair(*losses)),
        consistency=_consistency(workspace, version, task, drawn(rows, consistency_rows), on_progress),
        saving=_saving(workspace, version, task, rows, price),
        judges=agreement(graders, read_marked(task.marked) if task.marked else ()),
    )
    folder = folder_of(workspace, version, task)
    subject = replace(_subject(workspace, version, task, source), compare=compared)
    files.write_text(folder / "report.html", page(evaluation, subject))
    files.write_text(folder / "model_card.md", card(evaluation, subject))
    files.write_json(folder / "evaluation.json", evaluation.as_dict())
    files.write_text(folder / "report.md", markdown(evaluation, title=f"{version.id} on {task.name}"))
    return evaluation


def _probes(workspace: Workspace, version: Version, files: Sequence[Path], tasks: Sequence[str]) -> list[Probe]:
    """The general probe set, the user's own, and other tasks' held-out rows."""
    items = [*bundled_probes(), *own_probes(files)]
    for source in tasks:
        task = workspace.task(source)
        rows = drawn(_held_out(task, TrainRequest(str(task.path))), OTHER_TASK_ROWS)
        if not rows:
            raise no_held_out(source)
        refuse_seen(workspace, version, rows, where="--other-task")
        room = answer_room(rows, workspace.served(version.base_source).engine.chat)
        items += task_probes(task.name, rows, workspace.graders(task), room)
    return items


def _general_skills(workspace: Workspace, items: Sequence[Probe], on_progress: OnProgress, model: str) -> Measured:
    served = workspace.served(model)
    return measure(
        served.engine, served.adapter, items, on_progress=partial(on_progress, f"{served.id}: general skills")
    )


def _course(
    workspace: Workspace, version: Version, task: Task, forgotten: Callable[[str], Forgetting], on_progress: OnProgress
) -> tuple[CheckpointScore, ...]:
    """The checkpoints that the model's job has kept, oldest first, on its validation rows."""
    job = workspace.jobs.get(version.job)
    rows, graders = open_dataset(job.folder / "dataset").validation, workspace.graders(task)
    out = []
    for kept in reversed(workspace.checkpoints(job.id)):
        name = workspace.checkpoint_name(job, kept.step)
        served = workspace.served(name)
        scores = run.score(
            LocalModel(served.engine, served.adapter, name),
            rows,
            graders,
            max_tokens=answer_room(rows, served.engine.chat),
            on_progress=partial(on_progress, f"step {kept.step}: validation rows"),
        )
        published = kept.step == version.metrics.get("best_step")
        out.append(CheckpointScore(name, kept.step, published, scores.passed, forgotten(name)))
    return tuple(out)


def score(
    workspace: Workspace,
    answerer: str,
    version: Version,
    source: str | None = None,
    *,
    on_progress: Callable[[str, int, int], None] = lambda _name, _done, _total: None,
    limit: int | None = None,
) -> Scores:
    """Let any model answer the held-out rows of `version`'s job (or of another task), and grade the answers."""
    task = workspace.task(source or workspace.jobs.get(version.job).source)
    rows = _rows_to_measure(workspace, version, source)
    served = workspace.served(answerer)
    return run.score(
        LocalModel(served.engine, served.adapter, served.id),
        drawn(rows, limit),
        workspace.graders(task),
        max_tokens=answer_room(rows, served.engine.chat),
        on_progress=partial(on_progress, served.id),
        folder=folder_of(workspace, version, task) / file_name(served.id),
    )


def _rows_to_measure(workspace: Workspace, version: Version, source: str | None) -> Sequence[Example]:
    """The held-out rows of the model's own job, or of another task. Raises DataError for none, or for rows that it has learned."""
    job = workspace.jobs.get(version.job)
    if source is None:
        rows = open_dataset(job.folder / "dataset").held_out
    else:
        # its own task is split as it was for the training: another seed would hold out rows that it has learned
        request = asked(job) if lasting(source) == job.source else TrainRequest(source)
        rows = _held_out(workspace.task(source), request)
        refuse_seen(workspace, version, rows, where="--task")
    if not rows:
        raise no_held_out(source or job.source)
    return rows


def refuse_seen(workspace: Workspace, version: Version, rows: Sequence[Example], *, where: str) -> None:
    """Refuse to measure a model on rows that it was trained on. Raises DataError `rows_seen`."""
    learned = {_asked(example) for example in _trained_on(workspace, version)}
    seen = [example for example in rows if _asked(example) in learned]
    if seen:
        raise DataError(
            f"{version.id} was trained on {len(seen)} of the {len(rows)} held-out rows "
            f"({', '.join(str(e.place) for e in seen[:3])})",
            where=where,
            fix=f"leave {where} out, or give held-out rows of your own (--held-out, or files.held_out in task.toml)",
            code="rows_seen",
        )


def _asked(example: Example) -> tuple[tuple[str, str], ...]:
    return tuple((m.role, m.content) for m in example.prompt)


def _trained_on(workspace: Workspace, version: Version) -> Iterator[Example]:
    """The rows that a model has learned from, and those of the models that its training went on from; none where they are gone."""
    name: str | None = version.id
    with suppress(ModelNotFound):
        while name:
            job = workspace.checkpoint_folder(name)[0] if CHECKPOINT in name else workspace.jobs.get(workspace.registry.get(name).job)
            folder = job.folder / "dataset"
            yield from open_dataset(folder).train if folder.is_dir() else ()
            base = asked(job).base or ""
            name = base if base.startswith("ft:") else None


def _row_losses(workspace: Workspace, model: str, rows: Sequence[Example]) -> list[tuple[float, int] | None]:
    served = workspace.served(model)
    return row_losses(served.engine, served.adapter, rows)


def _consistency(
    workspace: Workspace, version: Version, task: Task, rows: Sequence[Example], on_progress: OnProgress
) -> Consistency | None:
    """The base with its instructions against the bare tuned model, asked again and again; None for no rows."""
    if not rows:
        return None
    base, tuned = workspace.served(version.base_source), workspace.served(version.id)
    bare = LocalModel(base.engine, base.adapter, base.id)
    prompted = Prompted(bare, Prompt(task.instructions), f"{base.id} + instructions")
    answerers = (prompted, LocalModel(tuned.engine, tuned.adapter, tuned.id))
    room, graders = answer_room(rows, base.engine.chat), workspace.graders(task)
    asked = [
        ask_again(a, rows, graders, max_tokens=room, on_progress=partial(on_progress, f"{a.name}: asked again"))
        for a in answerers
    ]
    return consistency((answerers[0].name, answerers[1].name), *asked)


def _saving(workspace: Workspace, version: Version, task: Task, rows: Sequence[Example], price: float | None) -> Saving | None:
    """Mean prompt tokens of the rows with the task's instructions and without; None where there are none."""
    if not task.instructions:
        return None
    chat = workspace.served(version.id).engine.chat
    prompt = Prompt(task.instructions)
    long = sum(len(chat.prompt_ids(prompt.ask(row.prompt).messages, row.tools)) for row in rows)
    bare = sum(len(chat.prompt_ids(row.prompt, row.tools)) for row in rows)
    return Saving(long / len(rows), bare / len(rows), price)


def _subject(workspace: Workspace, version: Version, task: Task, source: str | None) -> Subject:
    """What the page and the card say of the model besides its scores."""
    job = workspace.jobs.get(version.job)
    plan_file, report_file = job.folder / "plan.json", job.folder / "dataset" / "report.json"
    plan = Plan.read(plan_file) if plan_file.is_file() else None
    own = ["journeyman", "train", job.source, *_wish_flags(job.wishes)]
    evaluated = ["journeyman", "evaluate", version.id, *(("--task", source) if source else ())]
    return Subject(
        model=version.id,
        base=version.base,
        task=task.name,
        created=datetime.fromtimestamp(version.created_at, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        trained_rows=plan.facts.rows if plan else 0,
        method=version.method,
        dataset_hash=version.dataset_hash,
        base_fingerprint=version.base_fingerprint,
        plan=explain(plan) if plan else (),
        check=files.read_json(report_file) if report_file.is_file() else None,
        validations=version.metrics.get("validations", ()),
        overfitting=version.metrics.get("overfitting"),
        reproduce=[shlex.join(own), shlex.join(evaluated)],
        versions={
            "Python": platform.python_version(),
            **{name: installed(name) for name in ("journeyman", "torch", "transformers")},
        },
    )


def _held_out(task: Task, request: TrainRequest) -> list[Example]:
    with tempfile.TemporaryDirectory(prefix="journeyman-held-out-") as folder:
        return build_dataset(task, request, Path(folder)).held_out


def evaluation_folder(workspace: Workspace, model: str, source: str | None = None) -> Path:
    """Where `evaluate` keeps a model's scores and reports on its own task, or on another one."""
    version = workspace.registry.get(model)
    return folder_of(workspace, version, workspace.task(source or workspace.jobs.get(version.job).source))


def folder_of(workspace: Workspace, version: Version, task: Task) -> Path:
    """Where the scores and reports of a model on a task are kept."""
    return workspace.jobs.get(version.job).folder / "evaluation" / file_name(task.name)


def _wish_flags(wishes: Wishes) -> list[str]:
    """A job's wishes as flags of `train`."""
    values = {name.replace("_", "-"): getattr(wishes, name) for name in wishes.__slots__}
    asked = {name: v for name, v in values.items() if v is not None and v is not False}
    return [word for name, v in asked.items() for word in ((f"--{name}",) if v is True else (f"--{name}", str(v)))]
