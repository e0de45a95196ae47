"""OpenAI's wire shapes for fine-tuning jobs: what is asked for, and what is shown of a job, its events and checkpoints."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from journeyman.api.strict import Metadata, Strict
from journeyman.data.check.finding import counted
from journeyman.data.columns import FLAGS, RENAMED

if TYPE_CHECKING:
    from journeyman.plan.plan import Wishes

Auto = Literal["auto"]
Epochs = Annotated[int, Field(ge=1, le=50)] | Auto | None
BatchSize = Annotated[int, Field(ge=1, le=256)] | Auto | None
Multiplier = Annotated[float, Field(gt=0, le=1000)] | Auto | None
Beta = Annotated[float, Field(gt=0, le=2)] | Auto | None
Whole = Annotated[int, Field(ge=1)] | Auto | None


class Hyperparameters(Strict):
    """What every method has; "auto" and null leave the choice to the plan."""

    n_epochs: Epochs = None
    batch_size: BatchSize = None
    learning_rate_multiplier: Multiplier = None


class DpoHyperparameters(Hyperparameters):
    """And how near a preference training stays to its reference."""

    beta: Beta = None


class ReinforcementHyperparameters(Hyperparameters):
    """And how much a reinforcement training samples."""

    compute_multiplier: Annotated[float, Field(gt=0.00001, le=10)] | Auto | None = None
    eval_interval: Whole = None
    eval_samples: Whole = None
    reasoning_effort: Literal["default", "low", "medium", "high"] | None = None


class Supervised(Strict):
    """Learn the assistant's turns."""

    hyperparameters: Hyperparameters | None = None


class Dpo(Strict):
    """Learn which of two outputs is preferred."""

    hyperparameters: DpoHyperparameters | None = None


class Reinforcement(Strict):
    """Learn what a grader scores highly."""

    grader: dict[str, Any]
    hyperparameters: ReinforcementHyperparameters | None = None
    response_format: dict[str, Any] | None = None


class Method(Strict):
    """How to train."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None
    reinforcement: Reinforcement | None = None

    @field_validator("supervised", "dpo", "reinforcement")
    @classmethod
    def _of_this_type(cls, value: Any, info: ValidationInfo) -> Any:
        kind = info.data.get("type", info.field_name)
        if value is not None and info.field_name != kind:
            reason = "The method's type is {kind}, which this is no part of; leave it out, or change the type"
            raise PydanticCustomError("value_error", reason, {"kind": kind})
        return value


class Wandb(Strict):
    """Where Weights & Biases would keep the metrics."""

    project: str = Field(min_length=1)
    name: str | None = None
    entity: str | None = None
    tags: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=50)] | None = None


class Integration(Strict):
    """Another service that follows the job."""

    type: Literal["wandb"]
    wandb: Wandb


def _suffix(value: str) -> str:
    if not re.search(r"[A-Za-z0-9]", value):
        raise PydanticCustomError("value_error", "A suffix needs a letter from A to Z or a digit, since nothing else can stand in a model's id")
    return value


class CreateJob(Strict):
    """The body of POST /v1/fine_tuning/jobs."""

    model: str = Field(min_length=1)
    training_file: str = Field(min_length=1)
    validation_file: str | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_suffix)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    metadata: Metadata | None = None
    integrations: list[Integration] | None = None
    method: Method | None = None
    hyperparameters: Annotated[Hyperparameters | None, BeforeValidator(lambda v: None if v == {} else v)] = (
        None
    )
    despite_errors: bool = True
    """Ours: false fails a job in whose rows the check finds errors, as `journeyman train` does. OpenAI looks at the form only, and
    scripts that worked there go on to work."""

    hold_out: bool = True
    """Ours: false trains on every row of the training file. None is then held out, and without a validation file none validates."""

    @model_validator(mode="after")
    def _one_place(self) -> CreateJob:
        if self.hyperparameters is not None and self.method is not None and self.method.type != "supervised":
            raise PydanticCustomError(
                "value_error", "Send the hyperparameters of this method inside of it, not at the top"
            )
        return self

    def name_suffix(self) -> str:
        """The suffix as it can stand in a model's id; what can't, a space for example, is a hyphen there."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.suffix or "").strip("-")

    def hyper(self) -> Hyperparameters:
        """The hyperparameters of the method and of the older place at the top; the method's count where a key is in both."""
        inner = self.method.supervised if self.method else None
        places = (self.hyperparameters, inner.hyperparameters if inner else None)
        sent = [place.model_dump(exclude_none=True) for place in places if place is not None]
        return Hyperparameters.model_validate({key: value for one in sent for key, value in one.items()})

    def seeded(self) -> CreateJob:
        """The same with a seed: one that is drawn where none was sent, as OpenAI does."""
        return self if self.seed is not None else self.model_copy(update={"seed": secrets.randbelow(2**31)})

    def wishes(self) -> Wishes:
        """What the plan is asked for."""
        from journeyman.plan.plan import Wishes

        hyper = self.hyper()
        return Wishes(
            epochs=_chosen(hyper.n_epochs),
            batch_size=_chosen(hyper.batch_size),
            learning_rate_multiplier=_chosen(hyper.learning_rate_multiplier),
            seed=self.seed or 0,
            every_epoch=_chosen(hyper.n_epochs) is not None,
        )

    def details(self) -> dict[str, Any]:
        """What is shown again of the request."""
        return {
            "model": self.model,
            "training_file": self.training_file,
            "validation_file": self.validation_file,
            "suffix": self.suffix,
            "seed": self.seed or 0,
            "integrations": [i.model_dump(exclude_none=True) for i in self.integrations or ()],
            "hyperparameters": self.hyper().model_dump(),
        }


def _chosen(value: Any) -> Any:
    return None if value == "auto" else value


# ── what is shown ─────────────────────────────────────────────────────────────────────────────────────────────


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    param: str | None


class ReportFinding(BaseModel):
    """Something that the check found about the rows, and in how many."""

    code: str
    severity: str
    message: str
    rows: int
    fix: str


class DatasetReport(BaseModel):
    """The check of a job's rows in short; `file` holds the rows of each finding too."""

    verdict: Literal["ok", "warnings", "errors"]
    ready: str
    rows: dict[str, int]
    findings: list[ReportFinding]
    file: str


class WireJob(BaseModel):
    """A fine-tuning job. `learning_rate`, `choices` and `progress` are ours: what "auto" came to, why, and how far it is."""

    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    id: str
    model: str
    created_at: int
    finished_at: int | None
    fine_tuned_model: str | None
    organization_id: str
    result_files: list[str]
    status: str
    validation_file: str | None
    training_file: str
    hyperparameters: dict[str, Any]
    trained_tokens: int | None
    error: JobError | None
    user_provided_suffix: str | None
    seed: int
    estimated_finish: int | None
    integrations: list[dict[str, Any]]
    metadata: Mapping[str, str] | None
    usage_metrics: None = None
    shared_with_openai: Literal[False] = False
    method: dict[str, Any]
    learning_rate: float | None
    choices: dict[str, Any] | None
    progress: dict[str, int | None]
    dataset_report: DatasetReport | None
    weights_file: str | None


class JobList(BaseModel):
    """A page of jobs, newest first."""

    object: Literal["list"] = "list"
    data: list[WireJob]
    has_more: bool


class WireEvent(BaseModel):
    """Something that happened in a job."""

    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    id: str
    created_at: int
    level: Literal["info", "warn", "error"] = "info"
    message: str
    type: Literal["message", "metrics"] = "message"
    data: dict[str, Any] = {}


class EventList(BaseModel):
    """A page of events, newest first."""

    object: Literal["list"] = "list"
    data: list[WireEvent]
    has_more: bool


class WireCheckpoint(BaseModel):
    """A checkpoint, which can be called as a model."""

    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    id: str
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: dict[str, float]


class CheckpointList(BaseModel):
    """A page of checkpoints, newest first."""

    object: Literal["list"] = "list"
    data: list[WireCheckpoint]
    first_id: str | None
    last_id: str | None
    has_more: bool


class PermissionRequest(Strict):
    """The body of POST …/checkpoints/{name}/permissions."""

    project_ids: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=64)]], Field(min_length=1, max_length=100)
    ]


class WirePermission(BaseModel):
    """A project that may call a checkpoint besides its own."""

    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    id: str
    created_at: int
    project_id: str


class PermissionList(BaseModel):
    """A page of permissions."""

    object: Literal["list"] = "list"
    data: list[WirePermission]
    first_id: str | None
    last_id: str | None
    has_more: bool


class PermissionDeleted(BaseModel):
    """The receipt of a deletion."""

    id: str
    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    deleted: Literal[True] = True


@dataclass(frozen=True, slots=True)
class JobNames:
    """What the events of a job call it by: its id, its files' ids, and its checkpoints as models, but for the step's number."""

    job: str
    training_file: str
    validation_file: str | None
    checkpoint: str | None

    @property
    def files(self) -> str:
        """Its files in OpenAI's words."""
        more = f" and validation file: {self.validation_file}" if self.validation_file else ""
        return f"training file: {self.training_file}{more}"


def wire_events(
    names: JobNames, event: Mapping[str, Any], number: int, last_step: Mapping[str, Any]
) -> list[WireEvent]:
    """What one event of ours is in OpenAI's words; none where a client has no use for it. `last_step` is the step before it."""
    key = f"ftevent-{names.job.removeprefix('ftjob-')}{number:08d}"
    at = int(event["at"])
    kind = event["type"]
    if kind == "step":
        data = {
            "step": event["step"],
            "total_steps": event["steps"],
            "train_loss": _number(event["train_loss"]),
            "train_mean_token_accuracy": _number(event["train_mean_token_accuracy"]),
        }
        message = f"Step {event['step']}/{event['steps']}: training loss={_shown(event['train_loss'])}"
        return [WireEvent(id=key, created_at=at, message=message, type="metrics", data=data)]
    if kind == "validation":
        return [_validation(key, at, event, last_step)]
    # One event of ours, two of OpenAI's; what the rows are for is told by ours only.
    messages: tuple[str, ...] = ()
    if kind == "data":
        messages = (f"Validating {names.files}", "Files validated, moving job to queued state", _parts_of(event))
    elif kind == "registered":
        messages = (f"New fine-tuned model created: {event.get('model')}", "The job has successfully completed")
    if messages:
        return [WireEvent(id=f"{key}{i}", created_at=at, message=text) for i, text in enumerate(messages)]
    if kind == "checked":
        return [_checked(key, at, event)] if event["verdict"] != "ok" else []
    if kind == "failed":
        error = event.get("error") or {}
        told = "the server's log has the reason" if error.get("code") == "bug" else error.get("message")
        return [
            WireEvent(
                id=key, created_at=at, level="error", message=f"The job failed: {without_folders(str(told))}"
            )
        ]
    text = {
        "created": f"Created fine-tuning job: {names.job}",
        "continued": f"Continuing from {event.get('model')}",
        "planned": "Fine-tuning job started",
        "checkpoint": f"Checkpoint created at step {event.get('step')}"
        + (f" with Snapshot ID: {names.checkpoint}{event.get('step')}" if names.checkpoint else ""),
        "resumed": f"The job goes on from its checkpoint at step {event.get('step')}",
        "paused": "The job is paused",
        "queued": "The job is in the queue again",
        "early_stop": f"Validation loss has stopped falling; the checkpoint of step {event.get('best_step')} is kept",
    }.get(kind)
    if text is not None:
        return [WireEvent(id=key, created_at=at, message=text)]
    if kind == "cancelled":
        message = "Fine tuning process stopping due to job cancellation"
        return [WireEvent(id=key, created_at=at, level="warn", message=message)]
    return []


def _parts_of(event: Mapping[str, Any]) -> str:
    """How many rows are for what, in words, and how to train on all of them."""
    validation, held_out = event["validation"], event["held_out"]
    text = f"Training on {event['train']} row(s), with {validation} more for validation and {held_out} held out"
    if held_out:
        text += ', on which the gain can be measured; a job created with "hold_out": false trains on every row of its training file'
    return text


def _checked(key: str, at: int, event: Mapping[str, Any]) -> WireEvent:
    """What is wrong with the rows, in the words of the check; OpenAI has no such event, and clients show its message."""
    first = "".join(f"; {number}. {f['do']} [{f['code']}]" for number, f in enumerate(event["first"], 1))
    message = f"The check of the examples found {counted(event['counts'])}{first}"
    return WireEvent(id=key, created_at=at, level="warn", message=message, data=dict(event["counts"]))


def _validation(key: str, at: int, event: Mapping[str, Any], last_step: Mapping[str, Any]) -> WireEvent:
    full = "full_" if event.get("full") else ""
    train_loss = last_step.get("train_loss")
    data = {
        "step": event["step"],
        "train_loss": _number(train_loss),
        "total_steps": event.get("steps"),
        "train_mean_token_accuracy": _number(last_step.get("train_mean_token_accuracy")),
        f"{full}valid_loss": _number(event["valid_loss"]),
        f"{full}valid_mean_token_accuracy": _number(event["valid_mean_token_accuracy"]),
    }
    words = "full validation loss" if full else "validation loss"
    message = (
        f"Step {event['step']}/{event.get('steps')}: training loss={_shown(train_loss)}, {words}={_shown(event['valid_loss'])}"
    )
    return WireEvent(id=key, created_at=at, message=message, type="metrics", data=data)


def without_flags(fix: str) -> str:
    """A mend for who has no command line: the columns of a file can't be named there."""
    return fix.replace(FLAGS, RENAMED)


def without_folders(text: str) -> str:
    """The text with the names of files instead of their paths, and of clients' files their ids: our folders are nobody's business."""
    text = re.sub(r"(?<![\w:/.~-])~?/(?:[^\s:/'\"`,]+/)+(?=[^\s/])", "", text)
    return re.sub(r"\b(file-[A-Za-z0-9-]+)\.jsonl\b", r"\1", text)


def _number(value: Any) -> float | None:
    """A loss as JSON can carry it: our event files spell infinities as text."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _shown(value: Any) -> str:
    number = _number(value)
    return "unknown" if number is None else f"{number:.2f}"
