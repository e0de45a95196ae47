"""The front door: one function per verb. Command line, HTTP server and programs call nothing else.

What a verb of more than some lines does stands beside it, as functions over the workspace: checking.py, beginning.py,
training.py, answering.py, evaluating.py, comparing.py, deleting.py.

Heavy modules are imported inside the functions that need them, so that `--help`, `check` and the server's start
do not wait for torch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeyman import settings as settings_module
from journeyman.data.dataset import open_dataset
from journeyman.errors import JobConflict, ModelNotFound, TaskError
from journeyman.models.names import CHECKPOINT
from journeyman.plan.plan import Plan, Wishes
from journeyman.records import Answer, Example, Message, ToolUse
from journeyman.request import (
    CompareRequest,
    OnEvent,
    OnProgress,
    TrainRequest,
    build_dataset,
    ignore,
    never,
    quiet,
    suffix_of,
)
from journeyman.task import Task, bundled

if TYPE_CHECKING:
    import sqlalchemy as sa

    from journeyman.answer.judges import Judges
    from journeyman.answering import Answering, Served
    from journeyman.data.check.review import Review
    from journeyman.database import Condition
    from journeyman.evaluate.comparison import Comparison
    from journeyman.evaluate.report import Evaluation
    from journeyman.evaluate.run import Scores
    from journeyman.generate.engine import Piece
    from journeyman.generate.logprobs import TokenLogprob
    from journeyman.generate.loop import Load
    from journeyman.generate.sampling import Sampling
    from journeyman.grade.score import Grader
    from journeyman.jobs.checkpoints import Checkpoint
    from journeyman.jobs.clean import Removable
    from journeyman.jobs.events import Event
    from journeyman.jobs.pool import Pool
    from journeyman.jobs.standing import Standing
    from journeyman.jobs.store import Job, JobStore
    from journeyman.models.bases import Base
    from journeyman.models.export.export import Export
    from journeyman.models.registry import Registry, Version
    from journeyman.plan.machine import Machine
    from journeyman.storage.archive import Archive
    from journeyman.storage.documents import Document, Documents
    from journeyman.storage.files import FileStore
    from journeyman.storage.keys import Keys
    from journeyman.storage.permissions import Permissions
    from journeyman.storage.uploads import UploadStore
    from journeyman.storage.webhooks import Webhooks

ANY_USE = ToolUse()
"""Tools may be called, all of them, any number of times."""


class Workspace:
    """Everything below one JOURNEYMAN_HOME. Safe to use from several threads.

    With `vllm`, arguments of its engine (may be empty), vLLM answers instead of our own engine. With `answering_processes`,
    small models are answered in so many processes of their own (generate/crew.py).
    """

    def __init__(
        self, home: Path | None = None, *, vllm: Mapping[str, Any] | None = None, answering_processes: int = 0
    ) -> None:
        self.settings = settings_module.load(home)
        self._vllm = vllm
        self._answering_processes = answering_processes
        self._answers: Answering | None = None
        self._answering_lock = threading.Lock()

    # ── data ──────────────────────────────────────────────────────────────────────────────────────────────────

    def task(self, source: str) -> Task:
        """A task folder, a data file, or the name of a bundled task. Raises TaskError or DataError."""
        path = Path(source).expanduser()
        if not source.strip():
            raise TaskError("no file or task is named", fix="give a data file or a task folder", code="task_not_found")
        if path.exists():
            return Task.open(path)
        if path.is_symlink():
            raise TaskError(f"the link {source!r} leads nowhere", fix="mend the link", code="task_not_found")
        if "/" not in source and "." not in source:
            return Task.open(bundled(source))
        raise TaskError(f"no file or folder {source!r}", fix="give a data file or a task folder", code="task_not_found")

    def check(
        self,
        request: TrainRequest,
        *,
        against: Path | None = None,
        names: str | None = None,
        ignore: Collection[str] = (),
        on_progress: OnProgress = quiet,
    ) -> Review:
        """Read and check a task's examples without training. The dataset is built in a temporary folder.

        What `train` would refuse is an error of the report, under the same code. A hub model is not fetched for
        that: where the base is not here, the report says that it was left out. `against` is a file to compare with
        (a public test set, a log of traffic), `names` a spaCy model that finds people's names, `ignore` codes of findings
        that the report leaves out and only counts; `on_progress` is told the rule at work, how many are done, of how many.
        Raises DataError `unknown_rule` for a code in `ignore` that no finding can have.
        """
        from journeyman import checking

        return checking.check(self, request, against=against, names=names, ignore=ignore, on_progress=on_progress)

    def check_job(self, job_id: str, *, ignore: Collection[str] = (), on_progress: OnProgress = quiet) -> Review:
        """Check the rows that a job has trained on, together with how each was learned, where its training wrote that down.

        `ignore` is as in `check`. Raises JobNotFound, or DataError `not_a_dataset` where the job has not read its rows yet.
        """
        from journeyman import checking

        return checking.check_job(self, job_id, ignore=ignore, on_progress=on_progress)

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

    def task_and_base(self, request: TrainRequest) -> tuple[Task, Base]:
        """The task and the base of a request. Raises TaskError, BaseNotFound or CheckpointError."""
        from journeyman import beginning

        return beginning.task_and_base(self, request)

    def wishes_of(self, task: Task, request: TrainRequest) -> Wishes:
        """The wishes of a request; a training that goes on from a fine-tuned model trains what that one's did.

        Raises PlanError where that can't be.
        """
        from journeyman import beginning

        return beginning.wishes_of(self, task, request)

    def plan(self, request: TrainRequest) -> Plan:
        """What a training would do and why, without doing it."""
        import tempfile

        from journeyman.jobs import draw

        task, base = self.task_and_base(request)
        suffix_of(task, request)
        with tempfile.TemporaryDirectory(prefix="journeyman-plan-") as folder:
            dataset = build_dataset(task, request, Path(folder))
            plan, _ = draw.draw_plan(base, dataset, self.machine(), self.wishes_of(task, request))
        return plan

    def train(
        self, request: TrainRequest, *, on_event: OnEvent = ignore, should_stop: Callable[[], bool] = never
    ) -> tuple[Job, Version | None]:
        """Create a job and run it here, to its end or until it is paused (then the version is None).

        The rows are checked first, and the report is kept with the job's dataset. Raises DataError `check_errors` where
        it has errors, unless the request says to train despite them.
        """
        from journeyman import training

        return training.train(self, request, on_event=on_event, should_stop=should_stop)

    def submit(
        self,
        request: TrainRequest,
        *,
        metadata: Mapping[str, str] | None = None,
        project: str = "default",
        details: Mapping[str, Any] | None = None,
        condition: Condition | None = None,
    ) -> Job:
        """Queue a training for a worker. What needs no row to be read is refused at once: source, base, suffix, wishes.

        The rows are read when the job's turn comes, and a job that they fail says why. `metadata` are the user's
        labels, `project` is whose turn it takes, `details` is kept for the caller; what `condition` raises keeps the job
        out of the queue. Raises TaskError, DataError, BaseNotFound or PlanError.
        """
        from journeyman import training

        return training.create(self, request, project=project, metadata=metadata, details=details, condition=condition)

    def resume(
        self, job_id: str, *, on_event: OnEvent = ignore, should_stop: Callable[[], bool] = never
    ) -> tuple[Job, Version | None]:
        """Go on here with a job that waits, was paused or whose process died, from its last checkpoint.

        Raises JobConflict where the job has ended, or where another process runs it.
        """
        from journeyman import training

        return training.resume(self, job_id, on_event=on_event, should_stop=should_stop)

    def requeue(self, job_id: str, *, condition: Condition | None = None) -> Job:
        """Put a paused job back into the queue, where a worker goes on from its last checkpoint.

        A job that waits or runs is left to it: a client that had no answer asks again, and may have been heard. What
        `condition` raises leaves the job as it is. Raises JobConflict where the job has ended.
        """
        from journeyman.jobs import events
        from journeyman.jobs.state import JobState, move

        try:
            move(self._database, job_id, JobState.QUEUED, of=frozenset({JobState.PAUSED}), condition=condition, error=None)
        except JobConflict:
            if (job := self.jobs.get(job_id)).status.terminal:
                raise JobConflict(f"the job {job.id} has ended: it is {job.status}", where="job") from None
            return job
        job = self.jobs.get(job_id)
        events.append(job.folder, {"type": "queued"})
        return replace(job, status=JobState.QUEUED)  # as it was put back: a worker may have it already

    def pause(self, job_id: str) -> Job:
        """Pause a job: a process that runs it writes a checkpoint and stops after its current step.

        One that is paused already stays so. Raises JobConflict where the job has ended.
        """
        from journeyman.jobs.state import JobState, move

        try:
            move(self._database, job_id, JobState.PAUSED)
        except JobConflict:
            if self.jobs.get(job_id).status is not JobState.PAUSED:
                raise
        return self.jobs.get(job_id)

    def cancel(self, job_id: str) -> Job:
        """End a job for good; a process that runs it stops after its current step. Raises JobConflict where it has ended."""
        from journeyman.jobs import events
        from journeyman.jobs.state import JobState, move

        move(self._database, job_id, JobState.CANCELLED)
        job = self.jobs.get(job_id)
        events.append(job.folder, {"type": "cancelled"})
        return job

    # ── workers ───────────────────────────────────────────────────────────────────────────────────────────────

    def work(
        self,
        *,
        should_stop: Callable[[], bool] = never,
        should_end: Callable[[], bool] = never,
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

    def run_claimed(self, job_id: str, owner: str, *, should_stop: Callable[[], bool]) -> int:
        """Run a job that a worker has claimed as `owner`, in a process of its own; the process's exit status.

        A job that `should_stop` ends goes back into the queue.
        """
        from journeyman import training

        return training.run_claimed(self, job_id, owner, should_stop=should_stop)

    def standing(self) -> Standing:
        """How the service stands: jobs, workers, disk. Raises what SQLAlchemy raises where the database is gone."""
        from journeyman.jobs.standing import standing

        return standing(self._database, self.settings.home)

    # ── jobs, and what is shown of them ───────────────────────────────────────────────────────────────────────

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

    def events(self, job_id: str, *, after: str | None = None, limit: int = 20) -> tuple[list[Event], bool]:
        """A job's events, newest first, and whether there are older ones. Raises JobNotFound, and RequestError for `after`."""
        from journeyman.jobs.events import newest

        return newest(self.jobs.get(job_id).folder, after=after, limit=limit)

    def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """The checkpoints that a job has on disk, newest first, with what was measured at each. Raises JobNotFound."""
        from journeyman.jobs.checkpoints import checkpoints

        return checkpoints(self.jobs.get(job_id).folder)

    def result_files(self, job: Job) -> list[str]:
        """Ids of a finished job's files: its metrics step by step, as CSV. Written when they are first asked for."""
        from journeyman.jobs.results import result_file

        return result_file(self.files.of(job.project), job, self.history(job))

    def dataset_report(self, job: Job) -> Mapping[str, Any] | None:
        """What the check of a job's rows found, in short, and the id of the file that holds all of it; None until they were read."""
        from journeyman.jobs.results import dataset_report

        return dataset_report(self.files.of(job.project), job)

    def weights_file(self, job: Job) -> str | None:
        """The id of the file that is a finished job's model folder as one tar; None where there is none (any more)."""
        from journeyman.jobs.results import weights_file

        try:
            version = self.registry.by_id(job.model or "") if str(job.status) == "succeeded" else None
        except ModelNotFound:
            return None
        return weights_file(self.files.of(job.project), job, version) if version else None

    def weights(self, file: Document) -> Archive | None:
        """What a file holds that is put together of a model's folder; None for any other file.

        Raises ObjectNotFound where the model is gone.
        """
        from journeyman.jobs.results import weights
        from journeyman.storage.documents import not_found
        from journeyman.storage.files import MODEL

        if MODEL not in file.body:
            return None
        try:
            return weights(self.registry.by_id(file.body[MODEL]))
        except ModelNotFound:
            raise not_found("file", file.id) from None

    def reader_of(self, file: Document) -> Job | None:
        """A job that has not ended and has still to read a client's file."""
        from journeyman.jobs.needed import reader_of

        return reader_of(self.files.folder / self.files.stored_name(file), self.jobs.unended())

    # ── models ────────────────────────────────────────────────────────────────────────────────────────────────

    def named(self, model: str) -> tuple[Version | None, Base | None]:
        """What a name means: a base, a LoRA version with its base, or a fully tuned version, which needs none."""
        return self.registry.named(model)

    def checkpoint_name(self, job: Job, step: int) -> str:
        """What a job's checkpoint is called as a model: an id of the job's own, and the step. Raises BaseNotFound."""
        from journeyman.jobs import checkpoints

        return checkpoints.name_of(job, step, self.settings.org)

    def checkpoint_models(self) -> list[tuple[str, Job, float]]:
        """Every checkpoint that can be called: its name, its job and when it was written; from the newest job."""
        from journeyman.jobs import checkpoints

        org = self.settings.org
        jobs = self.jobs.list()
        return [(name, job, at) for job in jobs for name, at in checkpoints.names_of(job, org).items()]

    def checkpoint_folder(self, name: str) -> tuple[Job, Path]:
        """The job and the folder of a checkpoint by the name that `checkpoint_name` gives. Raises ModelNotFound."""
        from journeyman.jobs import checkpoints

        return checkpoints.find(name, self.jobs, self.settings.org)

    def project_of(self, model_id: str) -> str:
        """The project whose job made a model or checkpoint; the default one where the job is gone. Raises ModelNotFound."""
        from journeyman.errors import JobNotFound
        from journeyman.storage.documents import DEFAULT_PROJECT

        if CHECKPOINT in model_id:
            return self.checkpoint_folder(model_id)[0].project
        try:
            return self.jobs.get(self.registry.get(model_id).job).project
        except JobNotFound:
            return DEFAULT_PROJECT

    def share(self, model: str, projects: Sequence[str]) -> tuple[str, list[str]]:
        """Let keys of other projects call a model or checkpoint; its id, and all projects that now may.

        Raises ModelNotFound, and RequestError for what can't be a project.
        """
        model_id, owner = self._owned(model)
        self.permissions.give(model_id, owner, projects)
        return model_id, self.shared_with(model_id)

    def unshare(self, model: str, projects: Sequence[str]) -> tuple[str, list[str]]:
        """Take permissions back; the model's id, and the projects that still may call it. Raises ModelNotFound."""
        model_id, owner = self._owned(model)
        for permission in self.permissions.page(model_id, owner).items:
            if permission.body["project_id"] in projects:
                self.permissions.take_back(model_id, owner, permission.id)
        return model_id, self.shared_with(model_id)

    def shared_with(self, model_id: str) -> list[str]:
        """The projects that may call a model or checkpoint besides its own, in the order they were let. Raises ModelNotFound."""
        given = self.permissions.page(model_id, self.project_of(model_id), order="asc").items
        return [permission.body["project_id"] for permission in given]

    def _owned(self, model: str) -> tuple[str, str]:
        """A model's or checkpoint's id, whatever it was called by, and its project."""
        model_id = model if CHECKPOINT in model else self.registry.get(model).id
        return model_id, self.project_of(model_id)

    def delete_model(self, model_id: str) -> Version:
        """Forget a model, with its aliases and permissions, and delete its files and its job's checkpoints.

        The job's record and events stay. Raises ModelNotFound; ModelConflict for an alias: who deletes by a name that
        may mean another model tomorrow should see what it means today; JobConflict where a job that has not ended goes on from
        it or from one of the checkpoints.
        """
        from journeyman import deleting

        return deleting.delete_model(self, model_id, unload=self._unload)

    def _unload(self, names: Sequence[str], folders: Sequence[Path]) -> None:
        if self._answers is not None:
            self._answers.unload(names, folders)

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

        version, base = self.named(model)
        source = source_of(version, base, self._examples_of(version) if version else ())
        return export(source, to=to, out=out, dtype=dtype, force=force, on_stage=on_stage)

    def _examples_of(self, version: Version) -> Sequence[Example]:
        """Rows of a model's job, those it never saw first; none where the job's dataset is gone."""
        folder = self.jobs.get(version.job).folder / "dataset"
        if not folder.is_dir():
            return ()
        dataset = open_dataset(folder)
        return dataset.held_out or dataset.validation or dataset.train

    # ── answer ────────────────────────────────────────────────────────────────────────────────────────────────

    def served(self, model: str) -> Served:
        """What answers under a base's name or id, a fine-tuned model's id, or an alias. Loaded once, then kept.

        Raises ModelNotFound, or CheckpointError where the base is no longer the one the adapter was trained on.
        """
        return self._answering().served(model)

    def _answering(self) -> Answering:
        from journeyman.answering import Answering  # torch comes with it

        with self._answering_lock:
            if self._answers is None:
                self._answers = Answering(self, self._vllm, self._answering_processes)
            return self._answers

    def prepare_answers(self) -> None:
        """Load what every answer needs, whatever the model, so that the first one doesn't wait for it."""
        self._answering()

    def loads(self) -> dict[str, Load]:
        """What each loaded base is at and has done, by its folder. Nothing is loaded for it."""
        return self._answers.loads() if self._answers else {}

    def answering_processes(self) -> dict[str, int]:
        """How many of the processes for small models are "ready", how many "away" (starting, or dead), and how many "unused" yet."""
        begun, ready = self._answers.processes if self._answers else (0, 0)
        return {"ready": ready, "away": begun - ready, "unused": self._answering_processes - begun}

    def answer(self, model: str, messages: Sequence[Message], sampling: Sampling) -> Answer:
        """Answer one conversation."""
        served = self.served(model)
        return served.engine.answer(messages, adapter=served.adapter, sampling=sampling)

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
        return self._answering().stream(model, messages, sampling, tools=tools, use=use, n=n, patient=patient)

    def prompt(self, model: str, prompt: str | Sequence[int]) -> tuple[str, list[int]]:
        """A prompt without roles, as text and as the tokens that its tokenizer makes of it; token ids stay as they are.

        Raises RequestError for an id that is no token, or where there is nothing to go on from.
        """
        return self._answering().prompt(model, prompt)

    def go_on(self, model: str, prompts: Sequence[tuple[Sequence[int], Sampling]]) -> Iterator[Piece]:
        """Go on from prompts without roles, together, piece by piece."""
        return self._answering().go_on(model, prompts)

    def prompt_logprobs(self, model: str, prompt_ids: Sequence[int], top: int) -> list[TokenLogprob]:
        """How probable the model held each token of a prompt, and the `top` likeliest in its place."""
        served = self.served(model)
        return served.engine.prompt_logprobs(prompt_ids, adapter=served.adapter, top=top)

    # ── evaluate and compare ──────────────────────────────────────────────────────────────────────────────────

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
        from journeyman import evaluating

        return evaluating.evaluate(
            self, model, source, on_progress=on_progress, limit=limit, forgetting_budget=forgetting_budget,
            consistency_rows=consistency_rows, price=price, compared=compared, probes=probes,
            other_tasks=other_tasks, checkpoints=checkpoints,
        )  # fmt: skip

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
        from journeyman import evaluating

        return evaluating.score(self, answerer, version, source, on_progress=on_progress, limit=limit)

    def evaluation_folder(self, model: str, source: str | None = None) -> Path:
        """Where `evaluate` keeps a model's scores and reports on its own task, or on another one."""
        from journeyman import evaluating

        return evaluating.evaluation_folder(self, model, source)

    def compare(
        self,
        request: CompareRequest,
        *,
        on_event: OnEvent = ignore,
        on_progress: OnProgress = quiet,
        should_stop: Callable[[], bool] = never,
    ) -> Comparison:
        """Prompts, retrieval, a fine-tuned model and plain classifiers on the same held-out rows, with advice.

        Trains where no model is given. Answers, and the job of the training, are kept in a folder of the home, so
        that the same request goes on where it was interrupted. Raises DataError where there are no held-out rows
        (`no_held_out_rows`) or the given model was trained on some of them (`rows_seen`), RequestError for contenders
        that can't take part, JobConflict `paused` where the training was paused.
        """
        from journeyman import comparing

        return comparing.compare(
            self, request, on_event=on_event, on_progress=on_progress, should_stop=should_stop
        )

    # ── what all of this stands on ────────────────────────────────────────────────────────────────────────────

    @cached_property
    def _database(self) -> sa.Engine:
        from journeyman.database import open_database

        self.settings.make_home()
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
    def permissions(self) -> Permissions:
        """Which projects may call models of others."""
        from journeyman.storage.permissions import Permissions

        return Permissions(self.documents)

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

    def machine(self) -> Machine:
        """What this computer has."""
        from journeyman.plan.machine import probe

        return probe(self.settings.home)

    def clean(
        self, kinds: Sequence[str], *, older_than_days: float = 30.0, delete: bool = False
    ) -> list[Removable]:
        """What takes up room and nobody needs, the largest first, of these kinds (see `jobs/clean.py`); deleted on demand.

        Raises RequestError for a kind that there is none of.
        """
        from journeyman import deleting

        return deleting.clean(self, kinds, older_than_days=older_than_days, delete=delete)
