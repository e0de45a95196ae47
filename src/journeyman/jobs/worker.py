"""Run one job from its folder: dataset, plan, training, replay through the served path, registration.

    ftjob-…/
        dataset/          the frozen dataset (data/dataset.py)
        plan.json         every value with its reason
        ledger.jsonl      what became of every row: trained, truncated or refused
        graders.json      the task's graders as they were when the job was made
        rehearsal.jsonl   the base's own words, where the plan mixes them in
        events.jsonl      what happened, one object a line
        rows.jsonl        the loss of every row in every epoch (train/record.py)
        checkpoints/      see train/checkpoint.py
        model/            the result: adapter or weights, template, plan and metrics

Each part is on disk before the next begins, so that a run that died goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from journeyman.data.dataset import Dataset
from journeyman.database import UNREACHABLE
from journeyman.errors import CheckpointError, DiskFull, JobConflict, JourneymanError, TrainingError
from journeyman.files import NO_ROOM, read_json, read_jsonl, write_jsonl
from journeyman.generate.engine import Engine
from journeyman.generate.rehearsal import encoded, rehearsal
from journeyman.generate.sampling import own_repetition_penalty
from journeyman.jobs import events
from journeyman.jobs.curve import overfitting, read_curve
from journeyman.jobs.draw import Encodings, draw_plan, encode_dataset
from journeyman.jobs.events import read_events
from journeyman.jobs.judge import Judge, make_judge
from journeyman.jobs.lease import Lease
from journeyman.jobs.materials import Materials
from journeyman.jobs.state import JobState, LeaseLost, move, release
from journeyman.jobs.store import Job, JobStore
from journeyman.models.bases import Base
from journeyman.models.names import new_name
from journeyman.models.publish import publish
from journeyman.models.registry import Registry, Version
from journeyman.plan.machine import Machine
from journeyman.plan.plan import Plan
from journeyman.text.encode import Encoded
from journeyman.text.template import ChatFormat
from journeyman.train import checkpoint, loop, lora
from journeyman.train.allocator import return_freed_memory
from journeyman.train.load import load_base
from journeyman.train.loss import hidden_states, output_logits

OnEvent = Callable[[Mapping[str, Any]], None]

REHEARSAL = "rehearsal.jsonl"
GRADERS = "graders.json"
"""The task's graders as they were when the job was made."""

REPLAYED_ROWS = 8
"""Rows whose log-probabilities are compared before a model is published."""


def run(
    job: Job,
    *,
    lease: Lease,
    store: JobStore,
    registry: Registry,
    materials: Callable[[OnEvent], Materials],
    machine: Machine,
    org: str,
    on_event: OnEvent,
    should_stop: Callable[[], bool],
    when_stopped: JobState = JobState.PAUSED,
) -> Version | None:
    """Run the job to its end, or until `should_stop`; None where it was paused or cancelled.

    Safe to call again after any death of the process. The caller holds the job's `lease`, and has made it `running`;
    `materials` gives what it is made of, and may refuse it. A job that `should_stop` ends becomes
    `when_stopped`.

    A failure the user can mend, or a bug, moves the job to `failed` with its error, and is raised on. A full disk
    (DiskFull) pauses the job instead: its checkpoints are whole. Raises LeaseLost where another process took the job
    over, and what SQLAlchemy raises where the database is gone for good; both leave the job to be resumed.
    """
    journal = _Journal(job, store, on_event)
    try:
        version = _run(
            job, registry, materials(journal), machine, org, journal, lambda: should_stop() or lease.must_stop()
        )
        if version is None:
            _stopped(job, store, lease, when_stopped)
            return None
        done = {"trained_tokens": version.metrics["trained_tokens"], "step": version.metrics["steps"]}
        return _succeeded(job, store, registry, lease, version, done)
    except (LeaseLost, *UNREACHABLE):
        raise
    except Exception as error:
        raise _ended_by(error, job, store, lease, journal) from error
    except BaseException:
        _stopped(job, store, lease, JobState.PAUSED)
        raise


def _stopped(job: Job, store: JobStore, lease: Lease, when_stopped: JobState) -> None:
    """Leave a job whose checkpoint is written: paused or cancelled by somebody, or stopped with its process."""
    if lease.must_stop():
        release(store.engine, job.id, lease.owner)
    else:
        move(store.engine, job.id, when_stopped, owner=lease.owner, deaths=0)


def _succeeded(
    job: Job, store: JobStore, registry: Registry, lease: Lease, version: Version, done: Mapping[str, Any]
) -> Version | None:
    """The job's end; None where it was cancelled or paused after its last step."""
    try:
        move(store.engine, job.id, JobState.SUCCEEDED, owner=lease.owner, model=version.id, **done)
    except JobConflict:
        release(store.engine, job.id, lease.owner)
        if store.get(job.id).status is JobState.CANCELLED:
            registry.remove(version.id)
        return None
    return version


def _ended_by(error: Exception, job: Job, store: JobStore, lease: Lease, journal: _Journal) -> Exception:
    """Write down what ended the job; what to raise for it."""
    full = disk_full(error, job)
    raised = full or error
    known = raised.as_dict() if isinstance(raised, JourneymanError) else {"code": "bug", "message": repr(error)}
    to = JobState.PAUSED if full else JobState.FAILED
    # The row first: what the events tell must not be what did not become of it.
    try:
        move(store.engine, job.id, to, owner=lease.owner, error=known)
    except JobConflict:  # it was cancelled or paused at the same moment, which stands: a resume meets the error again
        release(store.engine, job.id, lease.owner)
        return raised
    except UNREACHABLE:
        if not full:  # the database may be on the same full disk: the lease then runs out, and the job waits for room
            raise
    try:
        journal({"type": str(to), "error": known})
    except OSError:  # on a full disk the row says it
        if not full:
            raise
    return raised


def disk_full(error: BaseException, job: Job) -> DiskFull | None:
    """The error as a full disk, where it is one; safetensors tells the system's error number only in its message."""
    number = error.errno if isinstance(error, OSError) else None
    told = {f"(os error {n})" for n in NO_ROOM}
    if number not in NO_ROOM and not (isinstance(error, SafetensorError) and any(t in str(error) for t in told)):
        return None
    return DiskFull(
        f"the disk is full, or a limit on files was reached: {error}",
        where=str(job.folder),
        fix="make room and resume the job; it goes on from its last checkpoint, which is whole",
    )


def _run(
    job: Job,
    registry: Registry,
    materials: Materials,
    machine: Machine,
    org: str,
    journal: _Journal,
    should_stop: Callable[[], bool],
) -> Version | None:
    base, dataset = materials.base, materials.dataset
    plan, encodings = _plan_of(job, base, dataset, machine, journal)
    rehearsed = _rehearsed(job, base, plan, journal)
    judge = _judge_of(job, base, dataset, plan)
    model = load_base(base.folder, precision=plan.precision.value, device=plan.device.value, quantised=plan.quantised)
    loop.prepare(model, plan)
    if materials.start is not None:
        checkpoint.read_weights(model, materials.start.folder)
    outcome = loop.train(
        plan,
        model,
        [*encodings.train, *rehearsed],
        encodings.validation,
        job.folder,
        on_event=journal,
        should_stop=should_stop,
        judge=judge,
    )
    if outcome.status == "paused":
        journal.paused(outcome.step)
        return None
    if outcome.best is None:
        raise CheckpointError("the best checkpoint is gone", where=str(job.folder / "checkpoints"))
    metrics: dict[str, Any] = {
        "steps": outcome.step,
        "best_step": outcome.best_step,
        "best_valid_loss": outcome.best_loss,
        "trained_tokens": outcome.trained_tokens,
        **({"continued_from": materials.start.id} if materials.start else {}),
    }
    journal({"type": "chosen", "step": outcome.best_step, "valid_loss": outcome.best_loss})
    metrics |= _curve(job, outcome.best_step, journal)
    folder = job.folder / "model"
    files = publish(outcome.best, folder, base=base, plan=plan, metrics=metrics)
    rows = (encodings.validation or encodings.train)[:REPLAYED_ROWS]
    checkpoint.read_weights(model, outcome.best)
    trained = log_probabilities(model, rows, plan.device.value)
    del model  # what will be served takes its place in memory
    return_freed_memory()
    replay = replay_served(trained, rows, base, plan, folder)
    journal({"type": "replayed", **replay})
    name = new_name(base.name, org, job.suffix)
    version = registry.add(
        Version(
            id=str(name),
            job=job.id,
            base=base.name,
            base_source=base.source,
            base_fingerprint=base.fingerprint,
            dataset_hash=dataset.hash,
            method=plan.method.value,
            plan=plan.as_dict(),
            metrics={**metrics, "replay": replay},
            files=files,
            folder=folder,
            created_at=time.time(),
        )
    )
    journal({"type": "registered", "model": version.id})
    return version


def _plan_of(
    job: Job, base: Base, dataset: Dataset, machine: Machine, journal: _Journal
) -> tuple[Plan, Encodings]:
    """The job's plan: kept once made, so that a resume trains by the same one."""
    path = job.folder / "plan.json"
    if path.is_file():
        plan = Plan.read(path)
        if (plan.base_hash, plan.dataset_hash) != (base.fingerprint, dataset.hash):
            raise CheckpointError(
                "the base model or the dataset is not the one this job began with",
                where=str(path),
                fix="start a new job",
            )
        encodings = encode_dataset(dataset, ChatFormat.open(base.folder), max_tokens=plan.max_tokens.value)
    else:
        plan, encodings = draw_plan(base, dataset, machine, job.wishes)
        write_jsonl(job.folder / "ledger.jsonl", encodings.ledger)
        plan.write(path)
    journal({"type": "planned", "steps": plan.steps})
    return plan, encodings


def _rehearsed(job: Job, base: Base, plan: Plan, journal: _Journal) -> list[Encoded]:
    """The plan's rehearsal rows: sampled once, kept, and read again by a resume."""
    count = plan.facts.rehearsal_rows
    if not count:
        return []
    path = job.folder / REHEARSAL
    if not path.is_file():
        engine = Engine(base.folder, precision=plan.precision.value, device=plan.device.value)
        write_jsonl(path, rehearsal(engine, count, seed=plan.seed.value))
        journal({"type": "rehearsal", "rows": count})
    return encoded(list(read_jsonl(path)))


def _judge_of(job: Job, base: Base, dataset: Dataset, plan: Plan) -> Judge | None:
    """What scores a model in training, where the plan chooses by the task's graders."""
    if plan.select.value != "graders":
        return None
    graders = read_json(job.folder / GRADERS)
    penalty = own_repetition_penalty(base.folder)
    return make_judge(plan, ChatFormat.open(base.folder), dataset.validation, graders, base_penalty=penalty)


def _curve(job: Job, kept_step: int | None, journal: _Journal) -> dict[str, Any]:
    """The validations of the whole job, and overfitting in words where there is any."""
    curve = read_curve(read_events(job.folder))
    sentence = overfitting(curve, kept_step)
    if sentence:
        journal({"type": "overfitting", "sentence": sentence})
    return {"validations": curve, "overfitting": sentence}


def replay_served(
    trained: Sequence[torch.Tensor], rows: Sequence[Encoded], base: Base, plan: Plan, published: Path
) -> dict[str, Any]:
    """Hold what will be served against what was trained, on fixed rows.

    The published files in a fresh serving engine must give the log-probabilities that the best checkpoint gave on the
    training module (`trained`, a tensor a row), token by token, within rounding. Raises TrainingError where they don't: such a
    model is not published. Where the base was trained on quantised, the published adapter is held against that; what the engine's own
    weights, which will answer, give otherwise is measured before, and told.
    """
    if plan.method.value == "lora":
        engine = Engine(base.folder, precision=plan.precision.value, device=plan.device.value)
        engine.add_adapter("published", published)
        engine.activate("published")
    else:
        engine = Engine(published, precision=plan.precision.value, device=plan.device.value)

    def largest_difference(model: torch.nn.Module) -> float:
        served = log_probabilities(model, rows, plan.device.value)
        return max(float((a - b).abs().max()) for a, b in zip(trained, served, strict=True))

    told, model = {}, engine.model
    if plan.quantised:
        told["difference_of_quantised"] = largest_difference(model)
        del engine, model  # who trains on a quantised base has no room for both
        # From the files again, as the training did: what was rounded to bf16 before has other steps.
        model = load_base(base.folder, precision=plan.precision.value, device=plan.device.value, quantised=plan.quantised)
        lora.load_adapter(model, "published", published)
        lora.activate(model, "published")
    difference = largest_difference(model)
    limit = 0.05 if plan.precision.value == "bf16" else 1e-4
    if not difference <= limit:
        raise TrainingError(
            f"the published files answer differently from the trained model (log-probability {difference:.3g})",
            where=str(published),
            fix="this is a defect: keep the job's folder and report it",
        )
    return {"rows": len(rows), "largest_difference": difference, "limit": limit, **told}


@torch.no_grad()
def log_probabilities(model: torch.nn.Module, rows: Sequence[Encoded], device: str) -> list[torch.Tensor]:
    """For each row, the log-probability of each of its tokens but the first."""
    model.eval()
    out = []
    for row in rows:
        ids_BT = torch.from_numpy(row.ids_T).long().unsqueeze(0).to(device)
        all_TV = torch.log_softmax(output_logits(model, hidden_states(model, ids_BT)).float(), -1)[0]
        out.append(all_TV[:-1].gather(-1, ids_BT[0, 1:, None]))
    return out


class _Journal:
    """Writes events to the job's file and row, and hands them on."""

    def __init__(self, job: Job, store: JobStore, on_event: OnEvent) -> None:
        self._job = job
        self._store = store
        self._on_event = on_event
        self._recorded_s = 0.0
        self._steps = 0
        events.cut_torn_line(job.folder)
        self._tokens = {e["step"]: e["tokens"] for e in read_events(job.folder) if e["type"] == "step"}

    def __call__(self, event: Mapping[str, Any]) -> None:
        event = events.append(self._job.folder, event)
        with suppress(*UNREACHABLE):  # the row's numbers are for people; whether to go on is for the lease to say
            self._record(event)
        self._on_event(event)

    def paused(self, step: int) -> None:
        """Write down that training has stopped at this step. Of a cancelled job the end has been told already."""
        if self._store.get(self._job.id).status is not JobState.CANCELLED:
            self({"type": "paused", "step": step})

    def _record(self, event: Mapping[str, Any]) -> None:
        if event["type"] == "step":
            self._tokens[event["step"]], self._steps = event["tokens"], event["steps"]
            if time.monotonic() - self._recorded_s > 2:
                self._recorded_s = time.monotonic()
                self._store.record_progress(self._job.id, **self._progress(event["step"]))
        elif event["type"] == "checkpoint":
            self._store.record_checkpoint(self._job.id, **self._progress(event["step"]))

    def _progress(self, step: int) -> dict[str, int]:
        """A step as columns of the job's row."""
        tokens = sum(n for done, n in self._tokens.items() if done <= step)
        return {"step": step, "steps": self._steps, "trained_tokens": tokens}
