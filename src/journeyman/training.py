"""Training: a job is made of what was asked for, and run to its end or until it is paused, here or by a worker.

Called by the workspace, whose jobs and models it adds to; what happens in a job is `jobs/worker.py`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from journeyman import files, logs
from journeyman.beginning import start_of, task_and_base, wishes_of
from journeyman.checking import report_of
from journeyman.data.check.finding import Finding, Report
from journeyman.data.dataset import Dataset, open_dataset
from journeyman.data.refused import in_lines
from journeyman.errors import DataError, JobConflict, JourneymanError, ModelNotFound
from journeyman.jobs import events, lock
from journeyman.jobs.lease import Lease
from journeyman.jobs.materials import Materials, Start
from journeyman.jobs.needed import given_paths
from journeyman.jobs.state import JobState, LeaseLost, claim, new_owner
from journeyman.jobs.store import Job
from journeyman.jobs.supervisor import BUSY, LEASE_LOST
from journeyman.jobs.tracker import tracked
from journeyman.models import bases
from journeyman.plan.plan import refuse_wishes
from journeyman.plan.shape import ModelShape
from journeyman.request import (
    OnEvent,
    TrainRequest,
    asked,
    base_name,
    build_dataset,
    ignore,
    kept,
    lasting,
    suffix_of,
)

if TYPE_CHECKING:
    from journeyman.database import Condition
    from journeyman.models.registry import Version
    from journeyman.workspace import Workspace

log = logging.getLogger("journeyman.jobs")


def create(
    workspace: Workspace,
    request: TrainRequest,
    *,
    owner: str | None = None,
    project: str = "default",
    metadata: Mapping[str, str] | None = None,
    details: Mapping[str, Any] | None = None,
    condition: Condition | None = None,
) -> Job:
    """What `Workspace.submit` promises; with `owner` the job is leased from the start, and no worker takes it."""
    task, base = task_and_base(workspace, request)
    wishes = wishes_of(workspace, task, request)
    if owner is None:
        refuse_wishes(wishes, ModelShape.read(base.folder))
    if (named := base_name(task, request)).startswith("ft:"):
        request = replace(request, base=named)  # the job's row says what it goes on from, also where the task's file did
    job = workspace.jobs.create(
        base=base.source,
        source=lasting(request.source),
        suffix=suffix_of(task, request),
        wishes=wishes,
        project=project,
        request=kept(request),
        metadata=metadata,
        details=details,
        owner=owner,
        lease_s=workspace.settings.lease_s,
        condition=condition,
    )
    files.write_json(job.folder / "graders.json", list(task.graders))
    events.append(job.folder, {"type": "created", "job": job.id, "folder": str(job.folder)})
    log.info("%s: created", job.id, extra={"job_id": job.id})
    return job


def train(
    workspace: Workspace, request: TrainRequest, *, on_event: OnEvent, should_stop: Callable[[], bool]
) -> tuple[Job, Version | None]:
    """What `Workspace.train` promises."""
    owner = new_owner()
    job = create(workspace, request, owner=owner)
    with lock.held(job.folder):
        claim(
            workspace.jobs.engine, job.id, owner,
            lease_s=workspace.settings.lease_s, of=frozenset({JobState.QUEUED}), dead=owner,
        )  # fmt: skip
        return _run(workspace, job, owner, on_event, should_stop)


def resume(
    workspace: Workspace, job_id: str, *, on_event: OnEvent, should_stop: Callable[[], bool]
) -> tuple[Job, Version | None]:
    """What `Workspace.resume` promises."""
    job = workspace.jobs.get(job_id)
    if job.status.terminal:
        raise JobConflict(f"the job {job.id} has {job.status} already", where="job")
    dead = lock.dead_owner(job.lease_owner, job.folder)
    owner = new_owner()
    lease_s = workspace.settings.lease_s
    with lock.held(job.folder):
        if not claim(
            workspace.jobs.engine, job.id, owner, dead=dead,
            lease_s=lease_s, of=frozenset({JobState.QUEUED, JobState.RUNNING, JobState.PAUSED}),
        ):  # fmt: skip
            raise JobConflict(
                f"the job {job.id} is run by {job.lease_owner} already",
                where="job",
                fix=f"wait for it; {lease_s:g} s after that process dies the job is free",
            )
        return _run(workspace, job, owner, on_event, should_stop)


def run_claimed(workspace: Workspace, job_id: str, owner: str, *, should_stop: Callable[[], bool]) -> int:
    """What `Workspace.run_claimed` promises."""
    logs.job_id.set(job_id)
    job = workspace.jobs.get(job_id)
    if lock.is_held(job.folder):
        return BUSY
    try:
        with lock.held(job.folder):
            _run(
                workspace, job, owner, ignore, should_stop,
                when_stopped=JobState.QUEUED, on_lost=lambda: os._exit(LEASE_LOST),
            )  # fmt: skip
    except LeaseLost:
        return LEASE_LOST
    except JourneymanError:  # the job's row and events say it
        return 0
    return 0


def _run(
    workspace: Workspace,
    job: Job,
    owner: str,
    on_event: OnEvent,
    should_stop: Callable[[], bool],
    *,
    when_stopped: JobState = JobState.PAUSED,
    on_lost: Callable[[], None] = lambda: None,
) -> tuple[Job, Version | None]:
    """Run a job that `owner` has claimed."""
    with Lease(workspace.jobs.engine, job.id, owner, lease_s=workspace.settings.lease_s, on_lost=on_lost) as lease:
        on_event({"type": "created", "job": job.id, "folder": str(job.folder)})
        from journeyman.jobs.worker import run  # after the lease is renewed: torch takes seconds to load

        with tracked(job.id, job.folder, job.details or {}, on_event) as told:
            version = run(
                job,
                lease=lease,
                store=workspace.jobs,
                registry=workspace.registry,
                materials=lambda journal: materials(workspace, job, journal),
                machine=workspace.machine(),
                org=workspace.settings.org,
                on_event=told,
                should_stop=should_stop,
                when_stopped=when_stopped,
            )
    return workspace.jobs.get(job.id), version


def materials(workspace: Workspace, job: Job, on_event: OnEvent) -> Materials:
    """What a job is made of. Rows are read and checked until there is a plan for them, and never again."""
    request = asked(job)
    start = _begun_from(workspace, request.base or "")
    base = bases.resolve(job.base)
    if (job.folder / "plan.json").is_file():
        return Materials(base, open_dataset(job.folder / "dataset"), start)
    if start is not None:
        on_event({"type": "continued", "model": start.id})
    _refuse_gone_files(workspace, job)
    task = workspace.task(job.source)
    dataset = build_dataset(task, request, job.folder / "dataset")
    if request.every_row:
        _refuse_any(dataset)
    report = report_of(task, dataset)
    dataset.keep(report)
    if not request.despite_errors:
        _refuse_errors(report, request)
    on_event({"type": "data", **dataset.manifest["counts"]})
    on_event({"type": "checked", **report.summary()})
    return Materials(base, dataset, start)


def _begun_from(workspace: Workspace, name: str) -> Start | None:
    """`start_of` for a job that was made when the model was there. Raises ModelNotFound."""
    try:
        return start_of(workspace, name)
    except ModelNotFound:
        fix = "fine-tune another model"
        raise ModelNotFound(f"the model {name} that this job goes on from was deleted", where="model", fix=fix) from None


def _refuse_gone_files(workspace: Workspace, job: Job) -> None:
    """Raise DataError where a client's file is gone that the job was to read."""
    for path in given_paths(job):
        if path.parent == workspace.settings.files_folder and not path.is_file():
            raise DataError(
                f"the file {path.stem} was deleted, or has expired, before the job had read it",
                where=str(path), fix="upload it again and create another job", code="file_not_found",
            )  # fmt: skip


def _refuse_any(dataset: Dataset) -> None:
    """Stop where a row can't be used, naming line and reason. Too few rows is for the plan to refuse."""
    if dataset.refused:
        shown, mend = in_lines(dataset.refused[:5])
        more = len(dataset.refused) - len(shown)
        raise DataError(
            f"{len(dataset.refused)} row(s) can't be used",
            where=dataset.refused[0].place.file,
            fix=f"{mend or 'mend these rows'}, and send the file again",
            code="invalid_file_format",
            problems=shown + ([f"and {more} more"] if more else []),
        )


def _refuse_errors(report: Report, request: TrainRequest) -> None:
    """Stop before a training that would copy what is certainly wrong. Too few rows is for the plan to refuse."""
    errors = [f for f in report.findings if f.severity == "error" and f.code != "invalid_n_examples"]
    if errors:
        raise DataError(
            f"the check of the examples found {len(errors)} error(s)",
            where=request.source,
            fix=f"`journeyman check {request.source}` shows the rows, with --fix OUT it mends what can be mended; "
            "--despite-errors trains all the same",
            code="check_errors",
            problems=[_in_one_line(finding) for finding in errors],
        )


def _in_one_line(finding: Finding) -> str:
    places = ", ".join(str(row.place) for row in finding.rows[:3])
    more = f" and {len(finding.rows) - 3} more" if len(finding.rows) > 3 else ""
    return f"{finding.code}: {finding.message}" + (f" ({places}{more})" if places else "")
