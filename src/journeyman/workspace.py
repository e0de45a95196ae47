"""The front door: one function per verb. Command line, HTTP server and programs call nothing else.

Heavy modules are imported inside the functions that need them, so that `--help`, `check` and the server's start
do not wait for torch.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeyman import files, logs
from journeyman import settings as settings_module
from journeyman.data.columns import Columns
from journeyman.data.dataset import Dataset, build, open_dataset
from journeyman.errors import (
    CheckpointError,
    DataError,
    JobConflict,
    JourneymanError,
    ModelNotFound,
    PlanError,
    TaskError,
)
from journeyman.plan.plan import Plan, Wishes
from journeyman.records import Answer, Example, Message, ToolUse
from journeyman.task import Task, bundled

if TYPE_CHECKING:
    import sqlalchemy as sa

    from journeyman.answer.judges import Judges
    from journeyman.data.check.finding import Finding, Report
    from journeyman.data.check.review import Review, Training
    from journeyman.data.check.rule import Asked
    from journeyman.evaluate import comparison
    from journeyman.evaluate.comparison import Comparison
    from journeyman.evaluate.consistency import Consistency
    from journeyman.evaluate.cost import Prices
    from journeyman.evaluate.course import CheckpointScore
    from journeyman.evaluate.forgetting import Forgetting, Measured
    from journeyman.evaluate.page import Subject
    from journeyman.evaluate.probing import Probe
    from journeyman.evaluate.report import Evaluation, Saving
    from journeyman.evaluate.run import Scores
    from journeyman.generate.engine import Engine, Piece
    from journeyman.generate.logprobs import TokenLogprob
    from journeyman.generate.loop import Load
    from journeyman.generate.sampling import Sampling
    from journeyman.grade.score import Grader
    from journeyman.jobs.checkpoints import Checkpoint
    from journeyman.jobs.clean import Removable
    from journeyman.jobs.events import Event
    from journeyman.jobs.pool import Pool
    from journeyman.jobs.standing import Standing
    from journeyman.jobs.state import JobState
    from journeyman.jobs.store import Job, JobStore
    from journeyman.jobs.worker import Materials, Start
    from journeyman.models.bases import Base
    from journeyman.models.export.export import Export
    from journeyman.models.registry import Registry, Version
    from journeyman.plan.machine import Machine
    from journeyman.storage.documents import Documents
    from journeyman.storage.files import FileStore
    from journeyman.storage.keys import Keys
    from journeyman.storage.uploads import UploadStore
    from journeyman.storage.webhooks import Webhooks

ANY_USE = ToolUse()
"""Tools may be called, all of them, any number of times."""

log = logging.getLogger("journeyman.jobs")

OnEvent = Callable[[Mapping[str, Any]], None]
OnProgress = Callable[[str, int, int], None]


def _ignore(_: Mapping[str, Any]) -> None:
    """An `on_event` for callers that do not follow along."""


def _never() -> bool:
    return False


def _quiet(_title: str, _done: int, _of: int) -> None:
    """An `on_progress` for callers that do not follow along."""


@dataclass(frozen=True, slots=True)
class Served:
    """What answers under a model id: an engine and, for LoRA, the adapter on it."""

    id: str
    engine: Engine
    adapter: str | None


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What to train: a task folder or data file, the base, and what the user wishes.

    `base` None takes the task's; an `ft:` id, or that of a checkpoint, goes on from it. `held_out` and `validation` override the task's files.
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
    every_row: bool = False
    """Refuse to train where a row can't be used, instead of leaving it out: what OpenAI does."""


@dataclass(frozen=True, slots=True)
class RemoteRequest:
    """A remote contender: an OpenAI-compatible URL, the model's name there, and the variable that holds its key."""

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """What to compare: the task as a training would take it, and what the user wishes of the comparison.

    `model` takes a fine-tuned model instead of training one. `rows` is the number of held-out rows, None for all;
    `contenders` names some of them, () for all. `shots`, `passages` and `budget` None take the defaults of
    `evaluate/comparison.py`. `prices` None looks for prices.toml in the task's folder, then in the home.
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


class Workspace:
    """Everything below one JOURNEYMAN_HOME. Safe to use from several threads."""

    def __init__(self, home: Path | None = None) -> None:
        self.settings = settings_module.load(home)
        self._engines: dict[str, Engine] = {}
        self._engines_lock = threading.Lock()

    # ── data ──────────────────────────────────────────────────────────────────────────────────────────────────

    def task(self, source: str) -> Task:
        """A task folder, a data file, or the name of a bundled task. Raises TaskError or DataError."""
        path = Path(source).expanduser()
        if path.exists():
            return Task.open(path)
        if path.is_symlink():
            raise TaskError(f"the link {source!r} leads nowhere", fix="mend the link", code="task_not_found")
        if "/" not in source and "." not in source:
            return Task.open(bundled(source))
        raise TaskError(f"no file or folder {source!r}", fix="give a data file or a task folder", code="task_not_found")

    def check(
        self, request: TrainRequest, *, against: Path | None = None, on_progress: OnProgress = _quiet
    ) -> Review:
        """Read and check a task's examples without training. The dataset is built in a temporary folder.

        What `train` would refuse is an error of the report, under the same code. A hub model is not fetched for
        that: where the base is not here, the report says that it was left out. `against` is a file to compare with
        (a public test set, a log of traffic); `on_progress` is told the rule at work, how many are done, of how many.
        """
        from journeyman.data.asked import read_asked

        task = self.task(request.source)
        return self._review(task, request, read_asked(against) if against else (), on_progress)

    def _review(
        self, task: Task, request: TrainRequest, against: Sequence[Asked], on_progress: OnProgress
    ) -> Review:
        import tempfile

        from journeyman.data.check.review import Review

        with tempfile.TemporaryDirectory(prefix="journeyman-check-") as folder:
            dataset = _build(task, request, Path(folder))
        report = self._report(task, dataset, against, on_progress)
        row_tokens: list[int] = []
        plan: Plan | None = None
        if report.verdict != "errors":
            on_progress("Planning a training", 0, 1)
            further, plan, row_tokens = self._drawn(task, request, dataset)
            report = report.with_findings(further)

        def look(path: Path) -> Review:
            of_copy = replace(request, columns=dataset.columns or request.columns)
            return self._review(replace(task, examples=path), of_copy, against, on_progress)

        return Review(task.name, task.examples, dataset, report, look, row_tokens, _training(plan) if plan else None)

    def check_job(self, job_id: str, *, on_progress: OnProgress = _quiet) -> Review:
        """Check the rows that a job has trained on, together with how each was learned, where its training wrote that down.

        Raises JobNotFound, or DataError `not_a_dataset` where the job has not read its rows yet.
        """
        from journeyman.data.check import learned
        from journeyman.data.check.finding import Finding
        from journeyman.data.check.review import Review
        from journeyman.data.check.rules import check

        job = self.jobs.get(job_id)
        dataset = open_dataset(job.folder / "dataset")
        record = job.folder / learned.FILE
        losses = learned.read_losses(record, dataset.train) if record.is_file() else ()
        report = check(dataset, losses=losses, on_progress=on_progress)
        if not losses:
            message = "this training wrote down no loss of its rows, so that how they were learned can't be said"
            report = replace(report, findings=(*report.findings, Finding("no_row_losses", "info", message, (), "")))
        return Review(job.id, Path(dataset.manifest["sources"][0]["file"]), dataset, report)

    def _report(
        self, task: Task, dataset: Dataset, against: Sequence[Asked] = (), on_progress: OnProgress = _quiet
    ) -> Report:
        from journeyman.data.check.rules import check

        return check(
            dataset, against=against, instructions=task.instructions, graders=task.graders, on_progress=on_progress
        )

    def _drawn(
        self, task: Task, request: TrainRequest, dataset: Dataset
    ) -> tuple[list[Finding], Plan | None, list[int]]:
        """What only a base shows: why a training would not start; else what it does to rows, its plan, and their tokens."""
        from journeyman.data.check.finding import Finding
        from journeyman.jobs import draw
        from journeyman.jobs.fate import fates
        from journeyman.text.template import ChatFormat

        try:
            _suffix(task, request)
            base = self._base_of(_base_name(task, request), fetch=False)
            plan, encodings = draw.draw_plan(base, dataset, self.machine(), self._wishes_of(task, request))
        except JourneymanError as error:
            message = "; ".join((error.message, *error.problems))
            known = error.code == "base_not_fetched"
            return [Finding(error.code, "info" if known else "error", message, (), error.fix or "")], None, []
        found = list(fates(dataset, encodings, ChatFormat.open(base.folder), max_tokens=plan.max_tokens.value))
        return found, plan, [len(e) + e.cut_tokens for e in (*encodings.train, *encodings.validation)]

    def show_learned(
        self, examples: Sequence[Example], *, base: str = "starter"
    ) -> list[list[tuple[str, bool]]]:
        """Each example's text in runs of tokens, with whether they are learned, as the base's template renders it."""
        from journeyman.models import bases
        from journeyman.text.encode import encode
        from journeyman.text.show import runs
        from journeyman.text.template import ChatFormat

        chat = ChatFormat.open(bases.resolve(base).folder)
        return [runs(encoded, chat) for example in examples for encoded in encode(example, chat)]

    # ── plan and train ────────────────────────────────────────────────────────────────────────────────────────

    def plan(self, request: TrainRequest) -> Plan:
        """What a training would do and why, without doing it."""
        import tempfile

        from journeyman.jobs import draw

        task, base = self._task_and_base(request)
        _suffix(task, request)
        with tempfile.TemporaryDirectory(prefix="journeyman-plan-") as folder:
            dataset = _build(task, request, Path(folder))
            plan, _ = draw.draw_plan(base, dataset, self.machine(), self._wishes_of(task, request))
        return plan

    def train(
        self, request: TrainRequest, *, on_event: OnEvent = _ignore, should_stop: Callable[[], bool] = _never
    ) -> tuple[Job, Version | None]:
        """Create a job and run it here, to its end or until it is paused (then the version is None).

        The rows are checked first, and the report is kept with the job's dataset. Raises DataError `check_errors` where
        it has errors, unless the request says to train despite them.
        """
        from journeyman.jobs import lock
        from journeyman.jobs.state import JobState, claim, new_owner

        owner = new_owner()
        job = self._create(request, owner=owner)
        with lock.held(job.folder):
            claim(
                self._database, job.id, owner,
                lease_s=self.settings.lease_s, of=frozenset({JobState.QUEUED}), dead=owner,
            )  # fmt: skip
            return self._run(job, owner, on_event, should_stop)

    def submit(
        self,
        request: TrainRequest,
        *,
        metadata: Mapping[str, str] | None = None,
        project: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> Job:
        """Queue a training for a worker. What needs no row to be read is refused at once: source, base, suffix, wishes.

        The rows are read when the job's turn comes, and a job that they fail says why. `metadata` are the user's
        labels, `project` is whose turn it takes, `details` is kept for the caller. Raises TaskError, DataError,
        BaseNotFound or PlanError.
        """
        return self._create(request, project=project, metadata=metadata, details=details)

    def job(self, job_id: str) -> Job:
        """A job by its id. Raises JobNotFound."""
        return self.jobs.get(job_id)

    def list_jobs(
        self,
        *,
        after: str | None = None,
        limit: int = 20,
        metadata: Mapping[str, str] | None = None,
        unlabelled: bool = False,
        project: str | None = None,
    ) -> tuple[list[Job], bool]:
        """Jobs newest first, and whether there are older ones; see `JobStore.page`."""
        return self.jobs.page(after=after, limit=limit, metadata=metadata, unlabelled=unlabelled, project=project)

    def events(self, job_id: str, *, after: str | None = None, limit: int = 20) -> tuple[list[Event], bool]:
        """A job's events, newest first, and whether there are older ones. Raises JobNotFound, and RequestError for `after`."""
        from journeyman.jobs.events import newest

        return newest(self.jobs.get(job_id).folder, after=after, limit=limit)

    def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """The checkpoints that a job has on disk, newest first, with what was measured at each. Raises JobNotFound."""
        from journeyman.jobs.checkpoints import checkpoints

        return checkpoints(self.jobs.get(job_id).folder)

    def resume(
        self, job_id: str, *, on_event: OnEvent = _ignore, should_stop: Callable[[], bool] = _never
    ) -> tuple[Job, Version | None]:
        """Go on here with a job that waits, was paused or whose process died, from its last checkpoint.

        Raises JobConflict where the job has ended, or where another process runs it.
        """
        from journeyman.jobs import lock
        from journeyman.jobs.state import JobState, claim, new_owner

        job = self.jobs.get(job_id)
        if job.status.terminal:
            raise JobConflict(f"the job {job.id} has {job.status} already", where="job")
        dead = lock.dead_owner(job.lease_owner, job.folder)
        owner = new_owner()
        with lock.held(job.folder):
            if not claim(
                self._database, job.id, owner, dead=dead,
                lease_s=self.settings.lease_s, of=frozenset({JobState.QUEUED, JobState.RUNNING, JobState.PAUSED}),
            ):  # fmt: skip
                raise JobConflict(
                    f"the job {job.id} is run by {job.lease_owner} already",
                    where="job",
                    fix=f"wait for it; {self.settings.lease_s:g} s after that process dies the job is free",
                )
            return self._run(job, owner, on_event, should_stop)

    def requeue(self, job_id: str) -> Job:
        """Put a paused job back into the queue. A worker goes on from its last checkpoint. Raises JobConflict otherwise."""
        from journeyman.jobs import events
        from journeyman.jobs.state import JobState, move

        job = self.jobs.get(job_id)
        if job.status is not JobState.PAUSED:
            raise JobConflict(f"the job {job.id} is {job.status}, not paused", where="job")
        move(self._database, job.id, JobState.QUEUED, error=None)
        events.append(job.folder, {"type": "queued"})
        return self.jobs.get(job_id)

    def pause(self, job_id: str) -> Job:
        """Pause a job: a process that runs it writes a checkpoint and stops after its current step. Raises JobConflict."""
        from journeyman.jobs.state import JobState, move

        move(self._database, job_id, JobState.PAUSED)
        return self.jobs.get(job_id)

    def cancel(self, job_id: str) -> Job:
        """End a job for good; a process that runs it stops after its current step. Raises JobConflict where it has ended."""
        from journeyman.jobs import events
        from journeyman.jobs.state import JobState, move

        move(self._database, job_id, JobState.CANCELLED)
        job = self.jobs.get(job_id)
        events.append(job.folder, {"type": "cancelled"})
        return job

    def work(
        self,
        *,
        should_stop: Callable[[], bool] = _never,
        should_end: Callable[[], bool] = _never,
        slot: int | None = None,
        once: bool = False,
    ) -> None:
        """Be a worker: run the queue's jobs, each in a process of its own; see `jobs/supervisor.py`."""
        import sys

        from journeyman.jobs.supervisor import Worker

        def command(job_id: str, owner: str) -> list[str]:
            return [sys.executable, "-m", "journeyman", "worker", "--job", job_id, "--lease", owner]

        Worker(
            engine=self._database,
            jobs_folder=self.settings.jobs_folder,
            lease_s=self.settings.lease_s,
            command=command,
            environment=self.settings.environment(),
        ).work(should_stop, should_end=should_end, slot=slot, once=once)

    def workers(self, count: int) -> Pool:
        """The workers beside a server, as a context. Killed with the server or not, no more than `count` jobs run."""
        import sys

        from journeyman.jobs.pool import Pool

        command = [sys.executable, "-m", "journeyman", "worker", "--with-parent", "--slot"]
        return Pool([[*command, str(slot)] for slot in range(count)], self.settings.environment())

    def standing(self) -> Standing:
        """How the service stands: jobs, workers, disk. Raises what SQLAlchemy raises where the database is gone."""
        from journeyman.jobs.standing import standing

        return standing(self._database, self.settings.home)

    def run_claimed(self, job_id: str, owner: str, *, should_stop: Callable[[], bool]) -> int:
        """Run a job that a worker has claimed as `owner`, in a process of its own; the process's exit status.

        A job that `should_stop` ends goes back into the queue.
        """
        import os

        from journeyman.jobs import lock
        from journeyman.jobs.state import JobState, LeaseLost
        from journeyman.jobs.supervisor import BUSY, LEASE_LOST

        logs.job_id.set(job_id)
        job = self.jobs.get(job_id)
        if lock.is_held(job.folder):
            return BUSY
        try:
            with lock.held(job.folder):
                self._run(
                    job, owner, _ignore, should_stop,
                    when_stopped=JobState.QUEUED, on_lost=lambda: os._exit(LEASE_LOST),
                )  # fmt: skip
        except LeaseLost:
            return LEASE_LOST
        except JourneymanError:  # the job's row and events say it
            return 0
        return 0

    def _create(
        self,
        request: TrainRequest,
        *,
        owner: str | None = None,
        project: str = "",
        metadata: Mapping[str, str] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> Job:
        from journeyman.jobs import events
        from journeyman.plan.plan import refuse_wishes
        from journeyman.plan.shape import ModelShape

        task, base = self._task_and_base(request)
        wishes = self._wishes_of(task, request)
        if owner is None:
            refuse_wishes(wishes, ModelShape.read(base.folder))
        job = self.jobs.create(
            base=base.source,
            source=_lasting(request.source),
            suffix=_suffix(task, request),
            wishes=wishes,
            project=project,
            request=_kept(request),
            metadata=metadata,
            details=details,
            owner=owner,
            lease_s=self.settings.lease_s,
        )
        files.write_json(job.folder / "graders.json", list(task.graders))
        events.append(job.folder, {"type": "created", "job": job.id, "folder": str(job.folder)})
        log.info("%s: created", job.id, extra={"job_id": job.id})
        return job

    def _run(
        self,
        job: Job,
        owner: str,
        on_event: OnEvent,
        should_stop: Callable[[], bool],
        *,
        when_stopped: JobState | None = None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> tuple[Job, Version | None]:
        from journeyman.jobs.lease import Lease
        from journeyman.jobs.state import JobState
        from journeyman.jobs.tracker import tracked

        with Lease(self._database, job.id, owner, lease_s=self.settings.lease_s, on_lost=on_lost) as lease:
            on_event({"type": "created", "job": job.id, "folder": str(job.folder)})
            from journeyman.jobs import worker  # after the lease is renewed: torch takes seconds to load

            with tracked(job.id, job.folder, job.details or {}, on_event) as told:
                version = worker.run(
                    job,
                    lease=lease,
                    store=self.jobs,
                    registry=self.registry,
                    materials=lambda journal: self._materials(job, journal),
                    machine=self.machine(),
                    org=self.settings.org,
                    on_event=told,
                    should_stop=should_stop,
                    when_stopped=when_stopped or JobState.PAUSED,
                )
        return self.jobs.get(job.id), version

    def _materials(self, job: Job, on_event: OnEvent) -> Materials:
        """What a job is made of. Rows are read and checked until there is a plan for them, and never again."""
        from journeyman.jobs.worker import Materials
        from journeyman.models import bases

        request = _asked(job)
        start = self._start(request.base or "")
        base = bases.resolve(job.base)
        if (job.folder / "plan.json").is_file():
            return Materials(base, open_dataset(job.folder / "dataset"), start)
        if start is not None:
            on_event({"type": "continued", "model": start.id})
        task = self.task(job.source)
        dataset = _build(task, request, job.folder / "dataset")
        if request.every_row:
            _refuse_any(dataset)
        report = self._report(task, dataset)
        dataset.keep(report)
        if not request.despite_errors:
            _refuse_errors(report, request)
        on_event({"type": "data", **dataset.manifest["counts"]})
        return Materials(base, dataset, start)

    def _task_and_base(self, request: TrainRequest) -> tuple[Task, Base]:

        task = self.task(request.source)
        return task, self._base_of(_base_name(task, request))

    def _start(self, name: str) -> Start | None:
        """What a training goes on from, where its base is named by an `ft:` id or a checkpoint's. Raises ModelNotFound."""
        if not name.startswith("ft:"):
            return None
        from journeyman.jobs.worker import Start  # torch comes with it

        if ":ckpt-step-" in name:
            job, folder = self.checkpoint_folder(name)
            plan = Plan.read(job.folder / "plan.json")
            return Start(name, job.base, plan.base_hash, plan.method.value == "full", plan.rank.value, folder)
        version = self.registry.get(name)
        rank = int(version.plan["choices"]["rank"]["value"])
        return Start(
            version.id, version.base_source, version.base_fingerprint, version.method == "full", rank, version.folder
        )

    def _base_of(self, name: str, *, fetch: bool = True) -> Base:
        """The base of that name, or the one that a fine-tuned model stands on. Raises CheckpointError where it has changed."""
        from journeyman.models import bases

        start = self._start(name)
        base = bases.resolve(start.base if start else name, fetch=fetch)
        if start and base.fingerprint != start.base_fingerprint:
            raise CheckpointError(
                f"the base {base.name} has changed since {start.id} was trained on it",
                where=str(base.folder),
                fix="train on the base itself, or put the former one back",
            )
        return base

    def _wishes_of(self, task: Task, request: TrainRequest) -> Wishes:
        """The wishes of a request; a training that goes on from a fine-tuned model trains what that one's did.

        Raises PlanError where that can't be.
        """
        wishes, start = _wishes(task, request), self._start(_base_name(task, request))
        if start is None:
            return wishes
        full, rank = start.full, start.rank
        if (wishes.full and not full) or wishes.rank not in (None, rank):
            raise PlanError(
                f"{start.id} was trained as {'full' if full else f'LoRA of rank {rank}'}, and goes on as that only",
                where="rank",
                fix="leave out --full and --rank, or train on the base itself",
            )
        return replace(wishes, full=full, rank=None if full else rank)

    # ── models ────────────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def _database(self) -> sa.Engine:
        from journeyman.database import open_database

        return open_database(self.settings.database_url)

    @cached_property
    def jobs(self) -> JobStore:
        """The jobs of this workspace."""
        from journeyman.jobs.store import JobStore

        return JobStore(self._database, self.settings.jobs_folder)

    @cached_property
    def registry(self) -> Registry:
        """The fine-tuned models of this workspace."""
        from journeyman.models.registry import Registry

        return Registry(self._database, self.settings.jobs_folder)

    @cached_property
    def documents(self) -> Documents:
        """Objects of the API, of the default project."""
        from journeyman.storage.documents import Documents

        return Documents(self._database)

    @cached_property
    def files(self) -> FileStore:
        """Files that clients keep here, of the default project."""
        from journeyman.storage.files import FileStore

        return FileStore(self.documents, self.settings.files_folder)

    @cached_property
    def uploads(self) -> UploadStore:
        """Files that are being sent in parts, of the default project."""
        from journeyman.storage.uploads import UploadStore

        return UploadStore(self.files, self.settings.uploads_folder)

    @cached_property
    def keys(self) -> Keys:
        """The keys that clients call with, besides those of JOURNEYMAN_API_KEY."""
        from journeyman.storage.keys import Keys

        return Keys(self._database)

    @cached_property
    def webhooks(self) -> Webhooks:
        """The addresses that are told when jobs and eval runs end."""
        from journeyman.storage.webhooks import Webhooks

        return Webhooks(self._database)

    def clean(
        self, kinds: Sequence[str], *, older_than_days: float = 30.0, delete: bool = False
    ) -> list[Removable]:
        """What takes up room and nobody needs, the largest first, of these kinds (see `jobs/clean.py`); deleted on demand.

        Raises RequestError for a kind that there is none of.
        """
        from journeyman.errors import RequestError
        from journeyman.jobs.clean import KINDS, removable, remove

        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise RequestError(
                f"nothing is called {', '.join(unknown)} here", where="--only", fix=f"name some of {', '.join(KINDS)}",
                code="invalid_value",
            )  # fmt: skip
        found = removable(
            self.settings, self.jobs, self.registry, self.files, self.documents.everywhere("file"),
            older_than_s=older_than_days * 86_400,
        )  # fmt: skip
        return [item for item in found if item.kind in kinds and (not delete or remove(item, self.files))]

    # ── what the API shows of jobs ────────────────────────────────────────────────────────────────────────────

    def plan_of(self, job: Job) -> Mapping[str, Any] | None:
        """A job's plan as it stands in its folder; None until there is one."""
        from journeyman.files import read_json

        path = job.folder / "plan.json"
        plan: Mapping[str, Any] | None = read_json(path) if path.is_file() else None
        return plan

    def history(self, job: Job) -> Sequence[Mapping[str, Any]]:
        """Everything that happened in a job, oldest first."""
        from journeyman.jobs.events import read_events

        return read_events(job.folder)

    def result_files(self, job: Job) -> list[str]:
        """Ids of a finished job's files: its metrics step by step, as CSV. Written when they are first asked for."""
        from journeyman.jobs.results import result_file

        return result_file(self.files.of(job.project or "default"), job, self.history(job))

    def checkpoint_name(self, job: Job, step: int) -> str:
        """What a job's checkpoint is called as a model: an id of the job's own, and the step."""
        from journeyman.models import bases
        from journeyman.models.names import ModelName

        name = ModelName(bases.resolve(job.base).name, self.settings.org, job.suffix, _key_of(job.id))
        return f"{name}:ckpt-step-{step}"

    def checkpoint_folder(self, name: str) -> tuple[Job, Path]:
        """The job and the folder of a checkpoint by the name that `checkpoint_name` gives. Raises ModelNotFound."""
        model, _, step = name.rpartition(":ckpt-step-")
        for job in self.jobs.list() if step.isascii() and step.isdigit() and len(step) < 12 else ():
            folder = job.folder / "checkpoints" / f"step-{int(step):06d}"
            if model.endswith(f":{_key_of(job.id)}") and folder.is_dir() and self.checkpoint_name(job, int(step)) == name:
                return job, folder
        raise ModelNotFound(f"The model `{name[:200]}` does not exist or you do not have access to it.", where="model")

    def graders(self, task: Task) -> tuple[Grader, ...]:
        """A task's graders, those that ask a judge model with one to ask. Raises GraderError that names every problem."""
        from journeyman.grade.parse import parse

        return parse(task.graders, self.judge)

    @cached_property
    def judge(self) -> Judges:
        """Asks judge models: those of this home by their id, others by the URL and key that a grader names."""
        from journeyman.answer.judges import Judges
        from journeyman.answer.local import LocalModel

        def local(model: str) -> LocalModel:
            served = self.served(model)
            return LocalModel(served.engine, served.adapter, served.id)

        return Judges(local, settings_module.secret)

    def machine(self) -> Machine:
        """What this computer has."""
        from journeyman.plan.machine import probe

        return probe(self.settings.home)

    def project_of(self, model_id: str) -> str:
        """The project whose job made a model; the default one where the job is gone. Raises ModelNotFound."""
        from journeyman.errors import JobNotFound
        from journeyman.storage.documents import DEFAULT_PROJECT

        try:
            return self.jobs.get(self.registry.get(model_id).job).project or DEFAULT_PROJECT
        except JobNotFound:
            return DEFAULT_PROJECT

    def delete_model(self, model_id: str) -> Version:
        """Forget a model, with its aliases, and delete its files; the job's record and events stay.

        Raises ModelNotFound, and ModelConflict for an alias: who deletes by a name that may mean another model
        tomorrow should see what it means today.
        """
        import shutil

        version = self.registry.remove(model_id)
        shutil.rmtree(version.folder, ignore_errors=True)
        return version

    def served(self, model: str) -> Served:
        """What answers under a base's name or id, a fine-tuned model's id, or an alias. Loaded once, then kept.

        Raises ModelNotFound, or CheckpointError where the base is no longer the one the adapter was trained on.
        """
        if ":ckpt-step-" in model:
            return self._served_checkpoint(model)
        version, base = self._named(model)
        if version is None:
            assert base is not None
            return Served(base.name, self._engine(base.folder), None)
        if base is None:
            return Served(version.id, self._engine(version.folder), None)
        engine = self._engine(base.folder)
        engine.add_adapter(version.id, version.folder)
        return Served(version.id, engine, version.id)

    def _served_checkpoint(self, name: str) -> Served:
        """A checkpoint as a model: its adapter on the base, or, where all weights were trained, a folder made of it."""
        from journeyman.models import bases
        from journeyman.models.publish import publish

        job, folder = self.checkpoint_folder(name)
        plan, base = Plan.read(job.folder / "plan.json"), bases.resolve(job.base)
        if plan.base_hash != base.fingerprint:
            raise CheckpointError(f"the base of {name} has changed since", where=str(base.folder), fix="train again")
        if plan.method.value == "full":
            callable_folder = job.folder / "callable" / folder.name
            if not callable_folder.is_dir():
                publish(folder, callable_folder, base=base, plan=plan, metrics={"steps": plan.steps, "best_step": int(folder.name[5:])})
            return Served(name, self._engine(callable_folder), None)
        engine = self._engine(base.folder)
        engine.add_adapter(name, folder)
        return Served(name, engine, name)

    def _named(self, model: str) -> tuple[Version | None, Base | None]:
        """What a name means: a base, a LoRA version with its base, or a fully tuned version, which needs none."""
        from journeyman.models import bases

        if model.startswith("ft:") or model in self.registry.aliases():
            version = self.registry.get(model)
            if version.method == "full":
                return version, None
            base = bases.resolve(version.base_source)
            if base.fingerprint != version.base_fingerprint:
                raise CheckpointError(
                    f"the base {version.base} has changed since {version.id} was trained on it",
                    where=str(base.folder),
                    fix="train again on the present base, or put the former one back",
                )
            return version, base
        known = bases.ALIASES.get(model, model)
        if known != bases.STARTER and not Path(known).is_dir() and "/" not in known:
            raise ModelNotFound(
                f"The model `{model}` does not exist or you do not have access to it.",
                where="model",
                fix="`journeyman models` lists what can be called",
            )
        return None, bases.resolve(model)

    def export(
        self,
        model: str,
        *,
        to: str,
        out: Path | None = None,
        dtype: str | None = None,
        force: bool = False,
        on_stage: Callable[[str], None] = lambda _: None,
    ) -> Export:
        """A fine-tuned model or a base as other tools load it: `to` is adapter, merged or gguf.

        Up to eight held-out rows of the model's job are replayed through the written files first. Raises ExportError
        (see `models/export/export.py:export`), ModelNotFound or CheckpointError.
        """
        from journeyman.models.export.export import export
        from journeyman.models.export.source import source_of

        version, base = self._named(model)
        source = source_of(version, base, self._examples_of(version) if version else ())
        return export(source, to=to, out=out, dtype=dtype, force=force, on_stage=on_stage)

    def _examples_of(self, version: Version) -> Sequence[Example]:
        """Rows of a model's job, those it never saw first; none where the job's dataset is gone."""
        folder = self.jobs.get(version.job).folder / "dataset"
        if not folder.is_dir():
            return ()
        dataset = open_dataset(folder)
        return dataset.held_out or dataset.validation or dataset.train

    def _engine(self, folder: Path) -> Engine:
        from journeyman.generate.engine import Engine
        from journeyman.plan import rules

        with self._engines_lock:
            if str(folder) not in self._engines:
                machine = self.machine()
                precision = rules.precision(machine, "lora").value
                self._engines[str(folder)] = Engine(folder, precision=precision, device=machine.device)
            return self._engines[str(folder)]

    def loads(self) -> dict[str, Load]:
        """What each loaded base is at and has done, by its folder."""
        return {folder: engine.load for folder, engine in list(self._engines.items())}

    def stream(
        self,
        model: str,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        use: ToolUse = ANY_USE,
        n: int = 1,
        patient: bool = False,
    ) -> Iterator[Piece]:
        """Answer one conversation `n` times together, piece by piece. With `tools`, calls of them are taken out of the text.

        Who is `patient` waits where the engine's queue is full; else that raises QueueFull.

        Raises RequestError where the model's chat template has no tool calls that can be read back, or a call that
        `use` or a strict tool asks for can't be held to its schema.
        """
        from journeyman.errors import RequestError
        from journeyman.generate import call_grammar
        from journeyman.generate.calls import with_calls
        from journeyman.generate.engine import Request
        from journeyman.text.tools import call_readers

        served = self.served(model)
        chat = served.engine.chat
        names = [tool["function"]["name"] for tool in tools]
        callable_names = [name for name in names if use.names is None or name in use.names]
        readers = call_readers(chat, callable_names, n) if tools else []
        if tools and not readers:
            raise RequestError(
                f"the chat template of {served.id} writes no tool calls that can be read back",
                where="tools",
                fix="leave tools out, or use a base with calls in <tool_call> tags, such as Qwen",
                code="unsupported_parameter",
            )
        if readers and call_grammar.is_needed(tools, use, sampling.json_schema):
            grammar = call_grammar.call_grammar(readers[0].form, tools, use, sampling.json_schema)
            sampling = replace(sampling, grammar=grammar)
        prompt_ids = tuple(chat.prompt_ids(messages, tools))
        requests = [Request(prompt_ids, served.adapter, sampling.nth(index)) for index in range(n)]
        pieces = served.engine.stream(requests, patient=patient)
        return with_calls(pieces, readers, most=use.most) if readers else pieces

    def prompt(self, model: str, prompt: str | Sequence[int]) -> tuple[str, list[int]]:
        """A prompt without roles, as text and as the tokens that its tokenizer makes of it; token ids stay as they are.

        Raises RequestError for an id that is no token, or where there is nothing to go on from.
        """
        from journeyman.errors import RequestError

        chat = self.served(model).engine.chat
        if isinstance(prompt, str):
            ids = list(chat.tokenizer.encode(prompt).ids) or chat.ids(chat.special.get("bos_token", ""))
        else:
            ids = list(prompt)
        unknown = [i for i in ids if chat.tokenizer.id_to_token(i) is None]
        if unknown or not ids:
            said = f"{unknown[0]} is no token of this model" if unknown else "the prompt is empty"
            raise RequestError(said, where="prompt", fix="give text, or ids of the model's tokenizer", code="invalid_value")
        return (prompt if isinstance(prompt, str) else chat.text(ids)), ids

    def go_on(self, model: str, prompts: Sequence[tuple[Sequence[int], Sampling]]) -> Iterator[Piece]:
        """Go on from prompts without roles, together, piece by piece."""
        from journeyman.generate.engine import Request

        served = self.served(model)
        return served.engine.stream([Request(tuple(ids), served.adapter, sampling) for ids, sampling in prompts])

    def prompt_logprobs(self, model: str, prompt_ids: Sequence[int], top: int) -> list[TokenLogprob]:
        """How probable the model held each token of a prompt, and the `top` likeliest in its place."""
        served = self.served(model)
        return served.engine.prompt_logprobs(prompt_ids, adapter=served.adapter, top=top)

    def answer(self, model: str, messages: Sequence[Message], sampling: Sampling) -> Answer:
        """Answer one conversation."""
        served = self.served(model)
        return served.engine.answer(messages, adapter=served.adapter, sampling=sampling)

    # ── evaluate ──────────────────────────────────────────────────────────────────────────────────────────────

    def evaluate(
        self,
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
        """The tuned model and its base on the same held-out rows, and what the tuned one forgot elsewhere.

        Held-out rows are those of the model's own job; `source` names another task. `limit` takes the first rows
        only. `forgetting_budget` is the loss of a skill that is allowed, as a share; `probes` are files of further
        items, and of `other_tasks` the first held-out rows are asked. The first `consistency_rows` are asked again
        and again. With `checkpoints`, those that the job has kept are scored on its validation rows. `price` is money
        for a million input tokens, `compared` what `compare` gave, for the page. Scores, the report as a page and as
        text, and a model card are kept in the job's folder. Raises DataError where there are no held-out rows.
        """
        from functools import partial

        from journeyman.evaluate.agreement import agreement, read_marked
        from journeyman.evaluate.card import card
        from journeyman.evaluate.forgetting import BUDGET, forgetting
        from journeyman.evaluate.markdown import markdown
        from journeyman.evaluate.measures import loss_pair, measures
        from journeyman.evaluate.page import page
        from journeyman.evaluate.report import evaluate_pair

        version = self.registry.get(model)
        items = self._probes(version, probes, other_tasks)
        graders = self.graders(self.task(source or self.jobs.get(version.job).source))
        scores = [
            self.score(name, version, source, on_progress=on_progress, limit=limit)
            for name in (version.base_source, version.id)
        ]
        task = self.task(source or self.jobs.get(version.job).source)
        rows = self._rows_to_measure(version, source)[:limit]
        losses = (self._row_losses(name, rows) for name in (version.base_source, version.id))
        measured = partial(self._general_skills, items, on_progress)
        base = measured(version.base_source)
        lost = partial(forgetting, base, probes=items, budget=BUDGET if forgetting_budget is None else forgetting_budget)
        evaluation = replace(
            evaluate_pair(*scores),
            forgetting=lost(measured(version.id)),
            course=self._course(version, task, lambda name: lost(measured(name)), on_progress) if checkpoints else (),
            measures=replace(measures(*scores), loss=loss_pair(*losses)),
            consistency=self._consistency(version, task, rows[:consistency_rows], on_progress),
            saving=self._saving(version, task, rows, price),
            judges=agreement(graders, read_marked(task.marked) if task.marked else ()),
        )
        folder = self._evaluation_folder(version, task)
        subject = replace(self._subject(version, task, source), compare=compared)
        files.write_text(folder / "report.html", page(evaluation, subject))
        files.write_text(folder / "model_card.md", card(evaluation, subject))
        files.write_json(folder / "evaluation.json", evaluation.as_dict())
        files.write_text(folder / "report.md", markdown(evaluation, title=f"{version.id} on {task.name}"))
        return evaluation

    def _probes(self, version: Version, files: Sequence[Path], tasks: Sequence[str]) -> list[Probe]:
        """The general probe set, the user's own, and other tasks' held-out rows."""
        from journeyman.evaluate.probing import OTHER_TASK_ROWS, bundled_probes, own_probes, task_probes
        from journeyman.evaluate.run import answer_room

        items = [*bundled_probes(), *own_probes(files)]
        for source in tasks:
            task = self.task(source)
            rows = self._held_out(task)[:OTHER_TASK_ROWS]
            if not rows:
                raise _no_held_out(source)
            room = answer_room(rows, self.served(version.base_source).engine.chat)
            items += task_probes(task.name, rows, self.graders(task), room)
        return items

    def _general_skills(self, items: Sequence[Probe], on_progress: OnProgress, model: str) -> Measured:
        from functools import partial

        from journeyman.evaluate.forgetting import measure

        served = self.served(model)
        return measure(
            served.engine, served.adapter, items, on_progress=partial(on_progress, f"{served.id}: general skills")
        )

    def _course(
        self, version: Version, task: Task, forgotten: Callable[[str], Forgetting], on_progress: OnProgress
    ) -> tuple[CheckpointScore, ...]:
        """The checkpoints that the model's job has kept, oldest first, on its validation rows."""
        from functools import partial

        from journeyman.answer.local import LocalModel
        from journeyman.evaluate.course import CheckpointScore
        from journeyman.evaluate.run import answer_room, score

        job = self.jobs.get(version.job)
        rows, graders = open_dataset(job.folder / "dataset").validation, self.graders(task)
        out = []
        for kept in reversed(self.checkpoints(job.id)):
            name = self.checkpoint_name(job, kept.step)
            served = self.served(name)
            scores = score(
                LocalModel(served.engine, served.adapter, name),
                rows,
                graders,
                max_tokens=answer_room(rows, served.engine.chat),
                on_progress=partial(on_progress, f"step {kept.step}: validation rows"),
            )
            published = kept.step == version.metrics.get("best_step")
            out.append(CheckpointScore(name, kept.step, published, scores.passed, forgotten(name)))
        return tuple(out)

    def compare(
        self,
        request: CompareRequest,
        *,
        on_event: OnEvent = _ignore,
        on_progress: OnProgress = _quiet,
        should_stop: Callable[[], bool] = _never,
    ) -> Comparison:
        """Prompts, retrieval, a fine-tuned model and plain classifiers on the same held-out rows, with advice.

        Trains where no model is given. Answers, and the job of the training, are kept in a folder of the home, so
        that the same request goes on where it was interrupted. Raises DataError where there are no held-out rows
        (`no_held_out_rows`) or the given model was trained on some of them (`rows_seen`), RequestError for contenders
        that can't take part, JobConflict `paused` where the training was paused.
        """
        from journeyman.evaluate import comparison

        setting, dataset = self._comparison_setting(request)
        chosen, left_out = setting.choose(request.contenders)
        tuned = training = None
        if any(recipe.who == "tuned" for recipe in chosen):
            version = self._tuned(request, setting.folder, dataset, on_event, should_stop)
            tuned, training = self._comparison_model(version.id), self._training(version)
        return comparison.run(setting, chosen, left_out, tuned, training, on_progress=on_progress)

    def _comparison_setting(self, request: CompareRequest) -> tuple[comparison.Setting, Dataset]:
        """The rows and models of a comparison; its folder is named after all that decides what is trained and asked."""
        from journeyman.answer.remote import RemoteModel
        from journeyman.evaluate import comparison, prompt_search
        from journeyman.evaluate.run import answer_room

        _check_comparison(request)
        task, base = self._task_and_base(request.train)
        prices = _prices(request, task, self.settings.home)
        wishes = self._wishes_of(task, request.train)
        seed = wishes.seed or 0
        name = files.hash_bytes(repr((base.fingerprint, wishes, request.train.validation, request.train.held_out)).encode())
        folder = self.settings.home / "comparisons" / f"{_file_name(task.name)}-{name[:12]}"
        dataset = _build(task, request.train, folder / "dataset")
        if not dataset.held_out:
            raise _no_held_out(request.train.source)
        base_model = self._comparison_model(base.source)
        setting = comparison.Setting(
            task=task.name,
            instructions=task.instructions,
            documents=task.documents,
            train=dataset.train,
            validation=dataset.validation,
            rows=comparison.first_rows(dataset.held_out, request.rows, seed),
            held_out_rows=len(dataset.held_out),
            graders=self.graders(task),
            base=base_model,
            folder=folder,
            max_tokens=answer_room([*dataset.train, *dataset.validation], base_model.engine.chat),
            remotes=[
                RemoteModel(r.url, r.model, key=settings_module.secret(r.key_variable)) for r in request.remotes
            ],
            prices=prices,
            shots=comparison.SHOTS if request.shots is None else request.shots,
            passages=comparison.PASSAGES if request.passages is None else request.passages,
            budget=prompt_search.BUDGET if request.budget is None else request.budget,
            seed=seed,
        )
        return setting, dataset

    def _comparison_model(self, name: str) -> comparison.Model:
        from journeyman.evaluate.comparison import Model as Compared

        version, base = self._named(name)
        served = self.served(name)
        identity = version.id if version is not None else base.fingerprint if base is not None else served.id
        return Compared(served.engine, served.adapter, served.id, identity)

    def _training(self, version: Version) -> comparison.Training:
        from journeyman.evaluate.comparison import Training

        job = self.jobs.get(version.job)
        known = job.started_at is not None and job.finished_at is not None
        seconds = job.finished_at - job.started_at if known else None  # type: ignore[operator]
        return Training(version.id, job.id, seconds)

    def _tuned(
        self,
        request: CompareRequest,
        folder: Path,
        dataset: Dataset,
        on_event: OnEvent,
        should_stop: Callable[[], bool],
    ) -> Version:
        """The model that is given, or the one of this comparison's own training: begun, gone on with, or done already."""
        if request.model is not None:
            version = self.registry.get(request.model)
            _refuse_seen(dataset, self._trained_on(version), version.id)
            return version
        memo = folder / "training.json"
        known = files.read_json(memo) if memo.is_file() else {}
        if known.get("dataset") == dataset.hash:
            job = self.jobs.get(known["job"])
            done = [v for v in self.registry.list() if v.job == job.id]
            if done:
                return done[0]
            if not job.status.terminal:
                _, resumed = self.resume(job.id, on_event=on_event, should_stop=should_stop)
                return _not_paused(resumed, job.id)
        created = ""

        def remember(event: Mapping[str, Any]) -> None:
            nonlocal created
            if event["type"] == "created":
                created = event["job"]
                files.write_json(memo, {"dataset": dataset.hash, "job": created})
            on_event(event)

        _, trained = self.train(request.train, on_event=remember, should_stop=should_stop)
        return _not_paused(trained, created)

    def _trained_on(self, version: Version) -> Sequence[Example]:
        """The rows that a model has learned from; none where its dataset is gone."""
        folder = self.jobs.get(version.job).folder / "dataset"
        return open_dataset(folder).train if folder.is_dir() else ()

    def score(
        self,
        answerer: str,
        version: Version,
        source: str | None = None,
        *,
        on_progress: Callable[[str, int, int], None] = lambda _name, _done, _total: None,
        limit: int | None = None,
    ) -> Scores:
        """Let any model answer the held-out rows of `version`'s job (or of another task), and grade the answers."""
        from functools import partial

        from journeyman.answer.local import LocalModel
        from journeyman.evaluate.run import answer_room, score

        task = self.task(source or self.jobs.get(version.job).source)
        rows = self._rows_to_measure(version, source)
        served = self.served(answerer)
        return score(
            LocalModel(served.engine, served.adapter, served.id),
            rows[:limit],
            self.graders(task),
            max_tokens=answer_room(rows, served.engine.chat),
            on_progress=partial(on_progress, served.id),
            folder=self._evaluation_folder(version, task) / _file_name(served.id),
        )

    def _rows_to_measure(self, version: Version, source: str | None) -> Sequence[Example]:
        """The held-out rows of the model's own job, or of another task."""
        job = self.jobs.get(version.job)
        rows = self._held_out(self.task(source)) if source else open_dataset(job.folder / "dataset").held_out
        if not rows:
            raise _no_held_out(source or job.source)
        return rows

    def _row_losses(self, model: str, rows: Sequence[Example]) -> list[tuple[float, int] | None]:
        from journeyman.evaluate.measures import row_losses

        served = self.served(model)
        return row_losses(served.engine, served.adapter, rows)

    def _consistency(
        self, version: Version, task: Task, rows: Sequence[Example], on_progress: OnProgress
    ) -> Consistency | None:
        """The base with its instructions against the bare tuned model, asked again and again; None for no rows."""
        from functools import partial

        from journeyman.answer.local import LocalModel
        from journeyman.answer.prompt import Prompt, Prompted
        from journeyman.evaluate.consistency import ask_again, consistency
        from journeyman.evaluate.run import answer_room

        if not rows:
            return None
        base, tuned = self.served(version.base_source), self.served(version.id)
        bare = LocalModel(base.engine, base.adapter, base.id)
        prompted = Prompted(bare, Prompt(task.instructions), f"{base.id} + instructions")
        answerers = (prompted, LocalModel(tuned.engine, tuned.adapter, tuned.id))
        room, graders = answer_room(rows, base.engine.chat), self.graders(task)
        asked = [
            ask_again(a, rows, graders, max_tokens=room, on_progress=partial(on_progress, f"{a.name}: asked again"))
            for a in answerers
        ]
        return consistency((answerers[0].name, answerers[1].name), *asked)

    def _saving(self, version: Version, task: Task, rows: Sequence[Example], price: float | None) -> Saving | None:
        """Mean prompt tokens of the rows with the task's instructions and without; None where there are none."""
        from journeyman.answer.prompt import Prompt
        from journeyman.evaluate.report import Saving

        if not task.instructions:
            return None
        chat = self.served(version.id).engine.chat
        prompt = Prompt(task.instructions)
        long = sum(len(chat.prompt_ids(prompt.ask(row.prompt).messages)) for row in rows)
        bare = sum(len(chat.prompt_ids(row.prompt)) for row in rows)
        return Saving(long / len(rows), bare / len(rows), price)

    def _subject(self, version: Version, task: Task, source: str | None) -> Subject:
        """What the page and the card say of the model besides its scores."""
        import platform
        import shlex
        from datetime import UTC, datetime
        from importlib.metadata import version as installed

        from journeyman.evaluate.page import Subject
        from journeyman.plan.plan import Plan, explain

        job = self.jobs.get(version.job)
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

    def _held_out(self, task: Task) -> list[Example]:
        import tempfile

        with tempfile.TemporaryDirectory(prefix="journeyman-held-out-") as folder:
            return _build(task, TrainRequest(str(task.path)), Path(folder)).held_out

    def evaluation_folder(self, model: str, source: str | None = None) -> Path:
        """Where `evaluate` keeps a model's scores and reports on its own task, or on another one."""
        version = self.registry.get(model)
        return self._evaluation_folder(version, self.task(source or self.jobs.get(version.job).source))

    def _evaluation_folder(self, version: Version, task: Task) -> Path:
        return self.jobs.get(version.job).folder / "evaluation" / _file_name(task.name)


def _wish_flags(wishes: Wishes) -> list[str]:
    """A job's wishes as flags of `train`."""
    values = {name.replace("_", "-"): getattr(wishes, name) for name in wishes.__slots__}
    asked = {name: v for name, v in values.items() if v is not None and v is not False}
    return [word for name, v in asked.items() for word in ((f"--{name}",) if v is True else (f"--{name}", str(v)))]


def _key_of(job_id: str) -> str:
    """The eight characters of a job's id by which its checkpoints are called."""
    return job_id.removeprefix("ftjob-")[:8]


def _no_held_out(source: str) -> DataError:
    return DataError(
        "there are no held-out rows to measure on",
        where=source,
        fix="give held-out rows, or a task with a held_out_share above 0",
        code="no_held_out_rows",
    )


def _check_comparison(request: CompareRequest) -> None:
    """Refuse numbers that can't be meant, all at once."""
    least = {"rows": 1, "shots": 0, "passages": 1, "budget": 1}
    values = {name: getattr(request, name) for name in least}
    problems = [
        f"--{name} is {value}; it must be {least[name]} or more"
        for name, value in values.items()
        if value is not None and value < least[name]
    ]
    if problems:
        raise TaskError("this can't be compared", fix="correct the numbers", code="invalid_number", problems=problems)


def _prices(request: CompareRequest, task: Task, home: Path) -> Prices:
    """The price table that is given, else the task's, else the home's; without one no price is known."""
    from journeyman.evaluate.cost import FILE, Prices, read_prices

    folder = task.path if task.path.is_dir() else task.path.parent
    found = (path for path in (folder / FILE, home / FILE) if path.is_file())
    path = request.prices or next(found, None)
    return read_prices(path) if path is not None else Prices()


def _refuse_seen(dataset: Dataset, trained: Sequence[Example], model: str) -> None:
    """Refuse to measure a model on rows that it was trained on."""
    learned = {tuple((m.role, m.content) for m in e.prompt) for e in trained}
    seen = [e for e in dataset.held_out if tuple((m.role, m.content) for m in e.prompt) in learned]
    if seen:
        raise DataError(
            f"{model} was trained on {len(seen)} of the {len(dataset.held_out)} held-out rows "
            f"({', '.join(str(e.place) for e in seen[:3])})",
            where="--model",
            fix="leave --model out to train one here, or give held-out rows of your own (--held-out)",
            code="rows_seen",
        )


def _not_paused(version: Version | None, job: str) -> Version:
    if version is None:
        raise JobConflict(
            f"the training {job} is paused, so that nothing can be compared yet",
            where="job",
            fix="give the same command again: it goes on where it stopped",
            code="paused",
        )
    return version


def _file_name(name: str) -> str:
    """A model id or task name as a folder's name."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)


def _lasting(source: str) -> str:
    """A source that means the same from any folder: paths become absolute, names of bundled tasks stay."""
    path = Path(source).expanduser()
    return str(path.absolute()) if path.exists() else source


def _refuse_any(dataset: Dataset) -> None:
    """Stop where a row can't be used, naming line and reason. Too few rows is for the plan to refuse."""
    if dataset.refused:
        shown = [str(refused) for refused in dataset.refused[:5]]
        more = len(dataset.refused) - len(shown)
        raise DataError(
            f"{len(dataset.refused)} row(s) can't be used",
            where=dataset.refused[0].place.file,
            fix="mend these rows and send the file again",
            code="invalid_file_format",
            problems=shown + ([f"and {more} more"] if more else []),
        )


def _training(plan: Plan) -> Training:
    """What the plan's training takes, for a check."""
    from journeyman.data.check.review import Training

    epochs, facts = plan.epochs.value, plan.facts
    tokens, learned = facts.tokens * epochs, facts.learned_tokens * epochs
    return Training(plan.base, epochs, plan.steps, tokens, learned, round(plan.time_s, 1))


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


def _kept(request: TrainRequest) -> dict[str, Any]:
    """What the job's row keeps of a request, besides what has columns of its own."""
    return {
        "base": request.base,
        "validation": _lasting(str(request.validation)) if request.validation else None,
        "held_out": _lasting(str(request.held_out)) if request.held_out else None,
        "columns": request.columns.as_dict() if request.columns else None,
        "despite_errors": request.despite_errors,
        "every_row": request.every_row,
    }


def _asked(job: Job) -> TrainRequest:
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
        every_row=bool(kept.get("every_row")),
        **paths,
    )


def _base_name(task: Task, request: TrainRequest) -> str:
    return request.base or task.base or "starter"


def _suffix(task: Task, request: TrainRequest) -> str:
    """The suffix of the model id. Raises PlanError where it can't be one."""
    from journeyman.models.names import check_suffix

    suffix = request.suffix or str(task.train.get("suffix", ""))
    check_suffix(suffix)
    return suffix


OF_THE_BASE = frozenset({"full", "learning_rate", "rank", "repetition_penalty"})
"""Keys of [train] that were chosen for the base that the task names, and say nothing about another one."""


def _wishes(task: Task, request: TrainRequest) -> Wishes:
    """The user's flags over the task file's [train] table."""
    values = {name: getattr(request.wishes, name) for name in request.wishes.__slots__}
    asked = {name: v for name, v in values.items() if v is not None and v is not False}
    other_base = None not in (request.base, task.base) and request.base != task.base
    left_out = {"suffix"} | (OF_THE_BASE if other_base else set())
    from_task = {name: value for name, value in task.train.items() if name not in left_out}
    return replace(Wishes(**from_task), **asked)


def _build(task: Task, request: TrainRequest, folder: Path) -> Dataset:
    """The dataset of a task, split by the seed that the training would use."""
    return build(
        task.examples,
        folder,
        validation=request.validation or task.validation,
        held_out=request.held_out or task.held_out,
        held_out_share=task.held_out_share,
        validation_share=task.validation_share,
        columns=request.columns or task.columns,
        seed=_wishes(task, request).seed or 0,
    )


class Model:
    """A model that answers: a base or a fine-tune.

        model = journeyman.load("ft:starter-1:local::Ab12Cd34")
        print(model.ask("My mug arrived with a chip."))
    """

    def __init__(self, workspace: Workspace, name: str) -> None:
        self._workspace = workspace
        self.id = workspace.served(name).id

    def ask(self, question: str | Sequence[Message], **sampling: Any) -> str:
        """The answer as text. `sampling` takes max_tokens, temperature, top_p, seed and stop."""
        from journeyman.generate.sampling import Sampling

        return self._workspace.answer(self.id, _conversation(question), Sampling(**sampling)).text

    def stream(self, question: str | Sequence[Message], **sampling: Any) -> Iterator[str]:
        """The answer piece by piece."""
        from journeyman.generate.sampling import Sampling

        for piece in self._workspace.stream(self.id, _conversation(question), Sampling(**sampling)):
            if piece.text:
                yield piece.text


def _conversation(question: str | Sequence[Message]) -> Sequence[Message]:
    return [Message("user", question)] if isinstance(question, str) else question


def load(model: str, *, home: Path | None = None) -> Model:
    """A model by its id, alias or base name. Raises ModelNotFound."""
    return Model(Workspace(home), model)
