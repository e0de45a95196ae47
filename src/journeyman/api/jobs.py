"""/v1/fine_tuning: jobs, their events and checkpoints."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request

from journeyman.api.errors import RefusedError
from journeyman.api.gate import project_of
from journeyman.api.labels import labels_of
from journeyman.api.limits import room_for_a_job
from journeyman.api.models import Catalogue
from journeyman.api.wire_jobs import (
    CheckpointList,
    CreateJob,
    DatasetReport,
    EventList,
    JobError,
    JobList,
    JobNames,
    PermissionDeleted,
    PermissionList,
    PermissionRequest,
    WireCheckpoint,
    WireEvent,
    WireJob,
    WirePermission,
    wire_events,
    without_flags,
    without_folders,
)
from journeyman.errors import BaseNotFound, JobNotFound, ModelNotFound, ObjectNotFound
from journeyman.jobs.tracker import insist_on_wandb
from journeyman.storage.documents import DEFAULT_PROJECT, Document
from journeyman.storage.files import FINE_TUNE

if TYPE_CHECKING:
    from journeyman.database import Condition
    from journeyman.jobs.store import Job
    from journeyman.workspace import Workspace


def router(workspace: Workspace, catalogue: Catalogue) -> APIRouter:
    """The routes of fine-tuning."""
    routes = APIRouter(prefix="/v1/fine_tuning")
    _add_jobs(routes, workspace, catalogue)
    _add_parts(routes, workspace)
    _add_permissions(routes, workspace, catalogue)
    return routes


def _add_jobs(routes: APIRouter, workspace: Workspace, catalogue: Catalogue) -> None:
    @routes.post("/jobs")
    def create_job(body: CreateJob, request: Request) -> WireJob:
        """Queue a training. What its rows are worth is found when its turn comes."""
        condition = room_for_a_job(workspace, request)
        return shown(workspace, _submit(workspace, catalogue, body.seeded(), project_of(request), condition))

    @routes.get("/jobs")
    def list_jobs(
        request: Request, after: str | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 20
    ) -> JobList:
        """Jobs from the newest, those with all labels of `metadata[key]=value`, or with none by `metadata=null`."""
        labels = labels_of(request)
        unlabelled = _unlabelled(request, labels)
        project = project_of(request)
        if after is not None:
            _job(workspace, after, project)
        jobs, more = workspace.list_jobs(
            after=after, limit=limit, metadata=labels or None, unlabelled=unlabelled, project=project
        )
        return JobList(data=[shown(workspace, job) for job in jobs], has_more=more)

    @routes.get("/jobs/{job_id}")
    def retrieve_job(job_id: str, request: Request) -> WireJob:
        """How a job stands."""
        return shown(workspace, _job(workspace, job_id, project_of(request)))

    @routes.post("/jobs/{job_id}/cancel")
    def cancel_job(job_id: str, request: Request) -> WireJob:
        """End a job for good, within a step."""
        job = _job(workspace, job_id, project_of(request))
        _refuse_ended(job)
        return shown(workspace, workspace.cancel(job.id))

    @routes.post("/jobs/{job_id}/pause")
    def pause_job(job_id: str, request: Request) -> WireJob:
        """Stop a job after its present step, with a checkpoint."""
        job = _job(workspace, job_id, project_of(request))
        _refuse_ended(job)
        return shown(workspace, workspace.pause(job.id))

    @routes.post("/jobs/{job_id}/resume")
    def resume_job(job_id: str, request: Request) -> WireJob:
        """Put a paused job back into the queue; it goes on from its checkpoint. One that goes on already is left to it."""
        job = _job(workspace, job_id, project_of(request))
        _refuse_ended(job)
        return shown(workspace, workspace.requeue(job.id, condition=room_for_a_job(workspace, request)))


def _add_parts(routes: APIRouter, workspace: Workspace) -> None:
    @routes.get("/jobs/{job_id}/events")
    def list_events(
        job_id: str,
        request: Request,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 20,
    ) -> EventList:
        """What happened in a job, newest first."""
        job = _job(workspace, job_id, project_of(request))
        events = _events(workspace, job)
        begin = _begin([event.id for event in events], after)
        return EventList(data=events[begin : begin + limit], has_more=len(events) > begin + limit)

    @routes.get("/jobs/{job_id}/checkpoints")
    def list_checkpoints(
        job_id: str,
        request: Request,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 10,
    ) -> CheckpointList:
        """A job's checkpoints, newest first, each callable as a model."""
        job = _job(workspace, job_id, project_of(request))
        found = [
            WireCheckpoint(
                id=checkpoint.id,
                created_at=int(checkpoint.created_at),
                fine_tuned_model_checkpoint=workspace.checkpoint_name(job, checkpoint.step),
                fine_tuning_job_id=job.id,
                step_number=checkpoint.step,
                metrics={"step": float(checkpoint.step), **checkpoint.metrics},
            )
            for checkpoint in workspace.checkpoints(job.id)
        ]
        begin = _begin([checkpoint.id for checkpoint in found], after)
        data = found[begin : begin + limit]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return CheckpointList(data=data, first_id=first, last_id=last, has_more=len(found) > begin + limit)


def _add_permissions(routes: APIRouter, workspace: Workspace, catalogue: Catalogue) -> None:
    # A checkpoint's name holds slashes where its base is a hub id.
    path = "/checkpoints/{checkpoint:path}/permissions"

    def owned(checkpoint: str, request: Request) -> tuple[str, str]:
        """The id of the model that is meant, and its project, for those who may say who else calls it."""
        return _owned(workspace, catalogue, checkpoint, project_of(request))

    @routes.post(path)
    def create_permissions(checkpoint: str, body: PermissionRequest, request: Request) -> PermissionList:
        """Let other projects call a fine-tuned model or a checkpoint."""
        return _permissions(
            workspace.permissions.give(*owned(checkpoint, request), body.project_ids), has_more=False
        )

    @routes.get(path)
    def list_permissions(
        checkpoint: str,
        request: Request,
        project_id: str | None = None,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 10,
        order: Literal["ascending", "descending"] = "descending",
    ) -> PermissionList:
        """Which projects may call a model besides its own."""
        page = workspace.permissions.page(
            *owned(checkpoint, request),
            project=project_id,
            after=after,
            limit=limit,
            order="asc" if order == "ascending" else "desc",
        )
        return _permissions(page.items, has_more=page.has_more)

    @routes.delete(path + "/{permission_id}")
    def delete_permission(checkpoint: str, permission_id: str, request: Request) -> PermissionDeleted:
        """Take a permission back, from the next request on."""
        taken = workspace.permissions.take_back(*owned(checkpoint, request), permission_id)
        return PermissionDeleted(id=taken.id)


def _owned(workspace: Workspace, catalogue: Catalogue, name: str, project: str) -> tuple[str, str]:
    """A model's id and project. Raises ModelNotFound, and RefusedError for a base or where the model is another project's."""
    entry = catalogue.find(name, project)
    if entry.kind == "base":
        raise RefusedError(
            400,
            f"The model `{entry.name}` is a base, and every project may call it",
            code="invalid_value",
            where="fine_tuned_model_checkpoint",
        )
    owner = workspace.project_of(entry.id)
    # A project's own key may give its models away: with it their weights can be downloaded anyway.
    if project not in (owner, DEFAULT_PROJECT):
        raise RefusedError(
            403,
            f"The model `{entry.id}` belongs to another project",
            code="key_not_allowed",
            fix="use a key of the project whose job made it, or of the default project",
        )
    return entry.id, owner


def _permissions(documents: list[Document], *, has_more: bool) -> PermissionList:
    data = [
        WirePermission(id=d.id, created_at=int(d.created_at), project_id=d.body["project_id"])
        for d in documents
    ]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return PermissionList(data=data, first_id=first, last_id=last, has_more=has_more)


def _begin(ids: list[str], after: str | None) -> int:
    """Where a page begins. Raises RefusedError where `after` is not in the list."""
    if after is None:
        return 0
    if after not in ids:
        raise RefusedError(
            400,
            f"No object with the id '{after[:100]}' is in this list",
            code="invalid_cursor",
            where="after",
        )
    return ids.index(after) + 1


def _unlabelled(request: Request, labels: Mapping[str, str]) -> bool:
    """Whether jobs without labels are asked for. Raises RefusedError for a filter that is neither that nor among the labels."""
    asked = [(name, value) for name, value in request.query_params.items() if name.startswith("metadata")]
    for name, value in asked:
        if (name, value) != ("metadata", "null") and name.removeprefix("metadata")[1:-1] not in labels:
            raise RefusedError(
                400,
                f"Invalid value for 'metadata': {f'{name}={value}'[:100]!r} names no label",
                code="invalid_value",
                where="metadata",
                fix="send metadata[key]=value for the jobs with this label, or metadata=null for those without any",
            )
    return ("metadata", "null") in asked


# ── asking ────────────────────────────────────────────────────────────────────────────────────────────────────


def _submit(
    workspace: Workspace, catalogue: Catalogue, body: CreateJob, project: str, condition: Condition | None
) -> Job:
    from journeyman.request import TrainRequest

    kind = body.method.type if body.method else "supervised"
    if kind != "supervised":
        raise RefusedError(
            400,
            f"The method {kind} is not available on this server yet",
            code="unsupported_parameter",
            where="method.type",
            fix="use supervised",
        )
    if body.integrations:
        insist_on_wandb()
    try:
        model = catalogue.find(body.model, project)
    except ModelNotFound:
        model = None
    if model is None:
        raise RefusedError(
            400,
            f"Model {body.model[:200]} is not available for fine-tuning or does not exist.",
            code="model_not_available",
            where="model",
        )
    files = workspace.files.of(project)
    paths = {}
    for field in ("training_file", "validation_file"):
        file_id = getattr(body, field)
        if file_id is None:
            continue
        try:
            file = files.get(file_id)
            _refuse_other_purposes(file, field)
            paths[field] = files.path(file)
        except ObjectNotFound:
            raise RefusedError(
                400, f"invalid {field}: {file_id[:100]}", code="invalid_file", where=field
            ) from None
    return workspace.submit(
        TrainRequest(
            str(paths["training_file"]),
            base=model.source,
            wishes=body.wishes(),
            suffix=body.name_suffix(),
            validation=paths.get("validation_file"),
            despite_errors=body.despite_errors,
            hold_out=body.hold_out,
            every_row=True,
        ),
        metadata=body.metadata,
        project=project,
        details=body.details(),
        condition=condition,
    )


def _refuse_other_purposes(file: Document, field: str) -> None:
    """Raise RefusedError for a file that is not for fine-tuning: only of those was it seen to that they are .jsonl."""
    purpose = file.body["purpose"]
    if purpose != FINE_TUNE:
        raise RefusedError(
            400,
            f"The {field} `{file.id}` has the purpose '{purpose}', and a job reads files of the purpose '{FINE_TUNE}'",
            code="invalid_file_purpose",
            where=field,
            fix=f"upload its examples as a .jsonl file with the purpose '{FINE_TUNE}'",
        )


def _job(workspace: Workspace, job_id: str, project: str) -> Job:
    """A job of this project. Raises RefusedError in OpenAI's words."""
    try:
        job = workspace.job(job_id)
    except JobNotFound:
        job = None
    if job is None or job.project != project:
        raise RefusedError(
            404, f"Could not find fine tune: {job_id[:100]}", code="fine_tune_not_found", where="fine_tune_id"
        )
    return job


def _refuse_ended(job: Job) -> None:
    """Raise RefusedError where nothing can become of a job any more."""
    if job.status.terminal:
        raise RefusedError(
            400, f"Job has already completed: {job.id}", code="job_conflict", where="fine_tune_id"
        )


# ── showing ───────────────────────────────────────────────────────────────────────────────────────────────────


def shown(workspace: Workspace, job: Job) -> WireJob:
    """A job as clients see it."""
    details = job.details or {}
    plan = workspace.plan_of(job)
    choices = plan["choices"] if plan else None
    hyper = _resolved(details.get("hyperparameters") or {}, choices)
    ended = str(job.status) == "succeeded"
    report = workspace.dataset_report(job)
    return WireJob(
        id=job.id,
        model=_model_named(job, details),
        created_at=int(job.created_at),
        finished_at=int(job.finished_at) if job.finished_at else None,
        fine_tuned_model=job.model if ended else None,
        organization_id=workspace.settings.org,
        result_files=workspace.result_files(job),
        status=_status(job, planned=plan is not None),
        validation_file=details.get("validation_file"),
        training_file=str(details.get("training_file") or job.source.rpartition("/")[2]),
        hyperparameters=hyper,
        trained_tokens=job.trained_tokens if ended else None,
        error=_error(job, details),
        user_provided_suffix=details.get("suffix") or job.suffix or None,
        seed=int(details.get("seed") or job.wishes.seed or 0),
        estimated_finish=_estimated_finish(job, plan),
        integrations=[_integration(job, i["wandb"]) for i in details.get("integrations") or ()],
        metadata=job.metadata,
        method={"type": "supervised", "supervised": {"hyperparameters": hyper}},
        learning_rate=choices["learning_rate"]["value"] if choices else None,
        choices=choices,
        progress={"step": job.step, "total_steps": job.steps},
        dataset_report=DatasetReport.model_validate(report) if report else None,
        weights_file=workspace.weights_file(job),
    )


def _status(job: Job, *, planned: bool) -> str:
    """The job's state in OpenAI's words: until there is a plan, who runs a job reads and checks its rows."""
    return "validating_files" if job.status.value == "running" and not planned else job.status.value


def _model_named(job: Job, details: Mapping[str, Any]) -> str:
    """What was asked to be trained on; of a job of the command line its base's own name, without our folders."""
    if details.get("model"):
        return str(details["model"])
    asked = str((job.request or {}).get("base") or "")
    return asked if asked.startswith("ft:") else Path(job.base).name if Path(job.base).is_absolute() else job.base


def _integration(job: Job, wandb: Mapping[str, Any]) -> dict[str, Any]:
    """As OpenAI shows it: with the run's id, which is the job's."""
    return {"type": "wandb", "wandb": {**wandb, "run_id": job.id}}


def _resolved(asked: Mapping[str, Any], choices: Mapping[str, Any] | None) -> dict[str, Any]:
    """Numbers once there is a plan; before that what was asked for, "auto" where nothing was."""
    names = {"n_epochs": "epochs", "batch_size": "batch_size"}
    hyper = {name: asked.get(name) or "auto" for name in (*names, "learning_rate_multiplier")}
    if choices is not None:
        hyper |= {ours: choices[theirs]["value"] for ours, theirs in names.items()}
        if hyper["learning_rate_multiplier"] == "auto":
            hyper["learning_rate_multiplier"] = 1.0
    return hyper


def _estimated_finish(job: Job, plan: Mapping[str, Any] | None) -> int | None:
    """By the steps done so far, or by the plan before there are any; None unless the job runs."""
    if str(job.status) != "running" or plan is None or job.started_at is None:
        return None
    spent_s = time.time() - job.started_at
    left_s = (
        spent_s * (job.steps - job.step) / job.step if job.step and job.steps else plan["estimate"]["time_s"]
    )
    return int(time.time() + left_s)


def _error(job: Job, details: Mapping[str, Any]) -> JobError | None:
    if str(job.status) != "failed" or not job.error:
        return None
    if job.error.get("code") == "bug":
        return JobError(
            code="internal_error", message="The training failed; the server's log has the reason.", param=None
        )
    lines = [str(job.error.get("message")), *map(str, job.error.get("problems") or ())]
    where, fix = str(job.error.get("where") or ""), without_flags(str(job.error.get("fix") or ""))
    said = any(fix in line for line in lines)
    if not said and job.error.get("code") != "invalid_n_examples" and "`journeyman" not in fix:  # commands are for the owner
        lines.append(fix)
    message = without_folders(". ".join(line.rstrip(".") for line in lines))
    param = None
    for field in ("validation_file", "training_file"):
        file_id = details.get(field)
        if file_id and (file_id in where or file_id in message):
            param = field
            break
    return JobError(code=str(job.error.get("code")), message=message, param=param)


def _checkpoint_prefix(workspace: Workspace, job: Job) -> str | None:
    """The names of a job's checkpoints without the step; None where the base, whose name is part of them, is gone."""
    try:
        return workspace.checkpoint_name(job, 0).removesuffix("0")
    except BaseNotFound:
        return None


def _events(workspace: Workspace, job: Job) -> list[WireEvent]:
    """All of a job's events in OpenAI's words, newest first."""
    shown: list[WireEvent] = []
    details = job.details or {}
    names = JobNames(
        job.id,
        str(details.get("training_file") or job.source.rpartition("/")[2]),
        details.get("validation_file"),
        _checkpoint_prefix(workspace, job),
    )
    last_step: Mapping[str, Any] = {}
    for number, event in enumerate(workspace.history(job)):
        if event["type"] == "step":
            last_step = event
        shown += wire_events(names, {"steps": last_step.get("steps"), **event}, number, last_step)
    return shown[::-1]
