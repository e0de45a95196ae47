"""`journeyman check`: what is wrong with a task's rows, or a job's, and what a training would do to them.

Called by the workspace; what is looked for is `data/check/`. Nothing is trained, and no weight is loaded.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from journeyman.beginning import base_of, wishes_of
from journeyman.data.asked import read_asked
from journeyman.data.check import learned, rules
from journeyman.data.check.finding import Finding, Report
from journeyman.data.check.fix import require_rules
from journeyman.data.check.names import Names
from journeyman.data.check.review import Review, Training, ignoring
from journeyman.data.check.rule import Asked, FindNames
from journeyman.data.dataset import Dataset, open_dataset
from journeyman.errors import JourneymanError
from journeyman.jobs.draw import draw_plan
from journeyman.jobs.fate import fates
from journeyman.plan.plan import Plan
from journeyman.request import OnProgress, TrainRequest, base_name, build_dataset, quiet, suffix_of
from journeyman.task import Task
from journeyman.text.template import ChatFormat

if TYPE_CHECKING:
    from journeyman.workspace import Workspace


def check(
    workspace: Workspace,
    request: TrainRequest,
    *,
    against: Path | None = None,
    names: str | None = None,
    ignore: Collection[str] = (),
    on_progress: OnProgress = quiet,
) -> Review:
    """What `Workspace.check` promises."""
    require_rules(ignore, rules.CODES, "ignored")
    task = workspace.task(request.source)
    find_names = None if names is None else Names(names)
    return _review(
        workspace, task, request, read_asked(against) if against else (), find_names, ignore, on_progress
    )


def _review(
    workspace: Workspace,
    task: Task,
    request: TrainRequest,
    against: Sequence[Asked],
    names: FindNames | None,
    ignore: Collection[str],
    on_progress: OnProgress,
) -> Review:
    with tempfile.TemporaryDirectory(prefix="journeyman-check-") as folder:
        dataset = build_dataset(task, request, Path(folder))
    report, ignored = ignoring(report_of(task, dataset, against, names, on_progress), ignore)
    row_tokens: list[int] = []
    plan: Plan | None = None
    if report.verdict != "errors":
        on_progress("Planning a training", 0, 1)
        further, plan, row_tokens = _drawn(workspace, task, request, dataset)
        report, ignored_too = ignoring(report.with_findings(further), ignore)
        ignored |= ignored_too

    def look(path: Path) -> Review:
        of_copy = replace(request, columns=dataset.columns or request.columns)
        return _review(workspace, replace(task, examples=path), of_copy, against, names, ignore, on_progress)

    training = _training(plan) if plan else None
    return Review(task.name, task.examples, dataset, report, look, row_tokens, training, ignored)


def report_of(
    task: Task,
    dataset: Dataset,
    against: Sequence[Asked] = (),
    names: FindNames | None = None,
    on_progress: OnProgress = quiet,
) -> Report:
    """What the rules find in a task's dataset, whatever the base: a training is stopped by it as a check tells it."""
    return rules.check(
        dataset, against=against, instructions=task.instructions, graders=task.graders,
        input_similarity=dataset.input_similarity, names=names, on_progress=on_progress,
    )  # fmt: skip


def _drawn(
    workspace: Workspace, task: Task, request: TrainRequest, dataset: Dataset
) -> tuple[list[Finding], Plan | None, list[int]]:
    """What only a base shows: why a training would not start; else what it does to rows, its plan, and their tokens."""
    try:
        suffix_of(task, request)
        base = base_of(workspace, base_name(task, request), fetch=False)
        plan, encodings = draw_plan(base, dataset, workspace.machine(), wishes_of(workspace, task, request))
    except JourneymanError as error:
        message = "; ".join((error.message, *error.problems))
        known = error.code == "base_not_fetched"
        return [Finding(error.code, "info" if known else "error", message, (), error.fix or "")], None, []
    found = list(fates(dataset, encodings, ChatFormat.open(base.folder), max_tokens=plan.max_tokens.value))
    return found, plan, [len(e) + e.cut_tokens for e in (*encodings.train, *encodings.validation)]


def _training(plan: Plan) -> Training:
    """What the plan's training takes."""
    epochs, facts = plan.epochs.value, plan.facts
    tokens, learned_tokens = facts.tokens * epochs, facts.learned_tokens * epochs
    return Training(plan.base, epochs, plan.steps, tokens, learned_tokens, round(plan.time_s, 1))


def check_job(
    workspace: Workspace, job_id: str, *, ignore: Collection[str] = (), on_progress: OnProgress = quiet
) -> Review:
    """What `Workspace.check_job` promises."""
    require_rules(ignore, rules.CODES, "ignored")
    job = workspace.jobs.get(job_id)
    dataset = open_dataset(job.folder / "dataset")
    record = job.folder / learned.FILE
    losses = learned.read_losses(record, dataset.train) if record.is_file() else ()
    report = rules.check(dataset, losses=losses, on_progress=on_progress)
    if not losses:
        message = "this training wrote down no loss of its rows, so that how they were learned can't be said"
        report = replace(report, findings=(*report.findings, Finding("no_row_losses", "info", message, (), "")))
    report, ignored = ignoring(report, ignore)
    return Review(job.id, Path(dataset.manifest["sources"][0]["file"]), dataset, report, ignored=ignored)
