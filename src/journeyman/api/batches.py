"""/v1/batches: a file of requests, answered in the background by the routes that answer single ones."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError
from sqlalchemy.exc import IntegrityError
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Scope

from journeyman.api.alive import this_server
from journeyman.api.batch_answers import NAMES, Answers
from journeyman.api.errors import RefusedError, envelope_of, misfit_envelope
from journeyman.api.gate import MAX_BODY_BYTES, project_of
from journeyman.api.sound import insist_on_sound
from journeyman.api.wire_batches import ENDED, BatchLine, BatchList, CreateBatch, WireBatch, line_shown
from journeyman.database import UNREACHABLE
from journeyman.errors import JobConflict, JourneymanError, ObjectNotFound
from journeyman.jobs.lock import held
from journeyman.jobs.queue import MOST_DEATHS
from journeyman.storage.documents import Document, Documents, new_id
from journeyman.storage.keys import Limits

if TYPE_CHECKING:
    from journeyman.storage.files import FileStore
    from journeyman.workspace import Workspace

KIND = "batch"
WINDOW_S = 24 * 3600
"""How long a batch may take: OpenAI's only window."""

MAX_LINES = 50_000
"""OpenAI's limit for the requests of a batch."""

AT_ONCE = 32
"""Requests of a batch that are under way together: half the rows of an engine, so that others find room beside it."""

MAX_ERRORS = 100
"""Problems of an input file that are named."""

LOOK_S = 1.0
"""How often a batch notes how far it is, and sees whether it was cancelled."""

TAKE_UP_S = 5.0
"""How often a server looks for batches whose own server is gone."""

INPUT = "input.jsonl"
"""The requests of a batch in its folder: the client may delete its own file meanwhile."""

GOING_ON = ("validating", "in_progress", "cancelling", "finalizing")
"""States of a batch that has not ended."""

log = logging.getLogger("journeyman.api")


def router(workspace: Workspace, runner: BatchRunner) -> APIRouter:
    """The routes of batches."""
    routes = APIRouter(prefix="/v1/batches")

    def documents(request: Request) -> Documents:
        return workspace.documents.of(project_of(request))

    @routes.post("")
    async def create_batch(body: CreateBatch, request: Request) -> WireBatch:
        """Begin a batch; what its lines are worth is found in the background."""
        store = documents(request)
        batch = await run_in_threadpool(_new, workspace, store, body)
        runner.start(batch, store)
        return WireBatch.of(batch)

    @routes.get("")
    def list_batches(
        request: Request, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
    ) -> BatchList:
        """Batches from the newest."""
        store = documents(request)
        page = store.page(KIND, after=after, limit=limit)
        data = [WireBatch.of(batch) for batch in page.items]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return BatchList(data=data, first_id=first, last_id=last, has_more=page.has_more)

    @routes.get("/{batch_id}")
    def retrieve_batch(batch_id: str, request: Request) -> WireBatch:
        """How a batch stands."""
        return WireBatch.of(documents(request).get(KIND, batch_id))

    @routes.post("/{batch_id}/cancel")
    def cancel_batch(batch_id: str, request: Request) -> WireBatch:
        """Stop a batch within seconds. What was answered by then is kept, in its files."""
        store = documents(request)
        batch = store.get(KIND, batch_id)
        for _ in range(10):  # its state may change while it is read
            if batch.body["status"] in (*ENDED, "finalizing"):
                raise RefusedError(
                    400, f"The batch {batch.id} is {batch.body['status']} already", code="batch_ended",
                    where="batch_id",
                )  # fmt: skip
            cancelling = {"status": "cancelling", "cancelling_at": int(time.time())}
            changed = store.change(batch, cancelling, only_if={"status": batch.body["status"]})
            if changed is not None:
                return WireBatch.of(changed)
            batch = store.get(KIND, batch_id)
        return WireBatch.of(batch)

    return routes


def _new(workspace: Workspace, store: Documents, body: CreateBatch) -> Document:
    """Keep a batch that is about to begin. Raises RefusedError where its file is not there."""
    files = workspace.files.of(store.project)
    try:
        files.path(files.get(body.input_file_id))
    except ObjectNotFound:
        raise RefusedError(
            400,
            f"invalid input_file_id: {body.input_file_id[:100]}",
            code="invalid_file",
            where="input_file_id",
        ) from None
    expires = body.output_expires_after
    return store.add(
        KIND,
        {
            "endpoint": body.endpoint,
            "input_file_id": body.input_file_id,
            "completion_window": body.completion_window,
            "status": "validating",
            "expires_at": int(time.time()) + WINDOW_S,
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
            **({"metadata": body.metadata} if body.metadata is not None else {}),
            "output_expires_s": expires.seconds if expires else None,
            "file_ids": {name: new_id("file") for name in NAMES},
        },
    )


def _move(batch: Document, store: Documents, status: str, at: str, **more: Any) -> Document | None:
    """The batch in its next state, its end told to webhooks; None where it has left the state that is known here."""
    changes = {"status": status, at: int(time.time()), **more}
    announced = f"batch.{status}" if status in ENDED else None
    return store.change(batch, changes, only_if={"status": batch.body["status"]}, announced=announced)


def _fail(batch_id: str, store: Documents, code: str, message: str) -> None:
    with suppress(ObjectNotFound):
        errors = _errors([(code, message, None, None)])
        _move(store.get(KIND, batch_id), store, "failed", "failed_at", errors=errors)


def _counts(batch: Document, answers: Answers) -> dict[str, int]:
    total = batch.body["request_counts"]["total"]
    return {"total": total, "completed": answers.completed, "failed": answers.failed}


def _taken_up(batch: Document, store: Documents, answers: Answers) -> Document | None:
    """The batch, which is gone on with; None where it has failed because its servers died too often without an answer."""
    before, answered, server = batch.body.get("taken_up") or {}, len(answers.known), this_server()
    if before.get("server") == server:  # it waited for room or for the database, and nothing has died
        return batch
    times = before["times"] + 1 if before.get("answered") == answered else 1
    if times > MOST_DEATHS and batch.body["status"] == "in_progress":
        message = f"the server stopped {MOST_DEATHS} times in a row without answering a further request"
        errors = _errors([("server_stopped", message, None, None)])
        _move(batch, store, "failed", "failed_at", errors=errors)
        return None
    log.info("the batch %s goes on with %d answers", batch.id, answered)
    taken_up = {"times": times, "answered": answered, "server": server}
    taken = store.change(batch, {"taken_up": taken_up}, only_if={"status": batch.body["status"]})
    return taken or store.get(KIND, batch.id)


def _link(path: Path, place: Path) -> None:
    """Let a file's bytes stand in another place too, whole or not at all, whatever becomes of the first one."""
    try:
        os.link(path, place)
    except OSError:  # a file system without hard links
        scratch = place.with_name(f"{place.name}.part")
        shutil.copyfile(path, scratch)
        scratch.replace(place)


def _keep(files: FileStore, path: Path, name: str, file_id: str, batch: Document) -> None:
    """Make the answers a client's file, under an id that was drawn when the batch began; safe to do twice."""
    scratch = files.scratch()
    try:
        _link(path, scratch)
        with suppress(IntegrityError):  # it was kept by a server that was killed right after
            files.keep(scratch, name, "batch_output", expires_s=batch.body["output_expires_s"], id=file_id)
    finally:
        scratch.unlink(missing_ok=True)


def _errors(problems: list[tuple[str, str, str | None, int | None]]) -> dict[str, Any]:
    names = ("code", "message", "param", "line")
    return {"object": "list", "data": [dict(zip(names, problem, strict=True)) for problem in problems]}


# ── the input file ────────────────────────────────────────────────────────────────────────────────────────────


def _problems(path: Path, endpoint: str) -> tuple[int, list[tuple[str, str, str | None, int | None]]]:
    """How many requests a file holds, and what is wrong with it: code, message, field and line."""
    seen: set[str] = set()
    problems: list[tuple[str, str, str | None, int | None]] = []
    for number, text in _filled(path):
        if len(problems) == MAX_ERRORS:
            break
        if len(seen) == MAX_LINES:
            problems.append(("too_many_requests", f"a batch holds {MAX_LINES:,} requests at most", None, number))
            break
        try:
            read = json.loads(text)
            if isinstance(read, dict):  # an unsound body is answered like any other that is refused, in its own line
                insist_on_sound({name: value for name, value in read.items() if name != "body"})
            line = BatchLine.model_validate(read)
        except RefusedError as error:
            problems.append((error.code, error.message, error.where, number))
            continue
        except ValidationError as error:
            wrong = misfit_envelope(error.errors(), read).error
            problems.append((wrong.code or "invalid_request", wrong.message, wrong.param, number))
            continue
        except (ValueError, RecursionError):
            problems.append(("invalid_json_line", "This line is not parseable as valid JSON.", None, number))
            continue
        if line.url != endpoint:
            message = f"The url {line.url} is not the endpoint of the batch, {endpoint}."
            problems.append(("mismatched_endpoint", message, "url", number))
        if line.body.get("stream"):
            problems.append(("invalid_request", "An answer of a batch can't be streamed.", "body.stream", number))
        if line.custom_id in seen:
            message = f"The custom_id {line.custom_id[:100]!r} was used in a line before."
            problems.append(("duplicate_custom_id", message, "custom_id", number))
        seen.add(line.custom_id)
    if not seen and not problems:
        problems.append(("empty_file", "The input file holds no requests.", "input_file_id", None))
    return len(seen), problems


def _filled(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank. Of one that is too long for a request only the beginning is read, which is no JSON."""
    with path.open("rb") as file:
        number = 0
        while text := file.readline(MAX_BODY_BYTES):
            number += 1
            while not text.endswith(b"\n") and (file.readline(MAX_BODY_BYTES) or b"\n")[-1:] != b"\n":
                continue
            if text.strip():
                yield number, text


# ── answering ─────────────────────────────────────────────────────────────────────────────────────────────────


class BatchRunner:
    """The batches that this server answers, on its event loop. `app` answers a request that has passed the gate.

    A batch is of whoever holds the lock of its folder, which the system frees when that process dies. Every server looks
    for batches that have not ended and that nobody holds, and goes on with them where they were.
    """

    def __init__(self, workspace: Workspace, app: ASGIApp) -> None:
        self._workspace = workspace
        self._app = app
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Go on with batches whose server is gone, from now on."""
        self._looking = asyncio.create_task(self._look())

    def close(self) -> None:
        """Leave all batches as they are, for the next server to go on with."""
        for task in [*self._tasks.values(), *([self._looking] if self._looking else [])]:
            task.cancel()

    def start(self, batch: Document, store: Documents) -> None:
        """Let a batch go on in the background, unless it does already."""
        if batch.id not in self._tasks:
            task = asyncio.create_task(self._run(batch.id, store))
            self._tasks[batch.id] = task
            task.add_done_callback(lambda _: self._tasks.pop(batch.id))

    async def _look(self) -> None:
        while True:
            try:
                for batch in await run_in_threadpool(self._left):
                    self.start(batch, self._workspace.documents.of(batch.project))
            except UNREACHABLE as error:
                log.warning("the database does not answer: %s", error)
            except Exception:
                log.exception("batches could not be looked for")
            await asyncio.sleep(TAKE_UP_S)

    def _left(self) -> list[Document]:
        """Batches that have not ended. Folders of those that have are removed on the way."""
        folder = self._workspace.settings.batches_folder
        there = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
        documents = self._workspace.documents
        left = [batch for status in GOING_ON for batch in documents.everywhere(KIND, where={("status",): status})]
        ids = {batch.id for batch in left}
        for path in there:  # listed first: the document of a new batch is older than its folder
            if path.name not in ids and path.name not in self._tasks:
                shutil.rmtree(path, ignore_errors=True)
        return left

    async def _run(self, batch_id: str, store: Documents) -> None:
        """Go on with a batch, unless another server does. What it can't mend itself it leaves for the next look."""
        folder = self._workspace.settings.batches_folder / batch_id
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with held(folder):
                await self._to_its_end(batch_id, store, folder)
                shutil.rmtree(folder, ignore_errors=True)
        except JobConflict:
            return
        except UNREACHABLE as error:
            log.warning("the batch %s waits for the database: %s", batch_id, error)
        except OSError as error:
            log.warning("the batch %s waits: %s", batch_id, error)

    async def _to_its_end(self, batch_id: str, store: Documents, folder: Path) -> None:
        try:
            await self._go_on(batch_id, store, folder)
        except (OSError, *UNREACHABLE):  # a full disk, a database that is away: it goes on once they are back
            raise
        except JourneymanError as error:
            await run_in_threadpool(_fail, batch_id, store, error.code, error.message)
        except Exception:
            log.exception("the batch %s failed", batch_id)
            await run_in_threadpool(
                _fail, batch_id, store, "internal_error", "the server's log has the reason"
            )

    async def _go_on(self, batch_id: str, store: Documents, folder: Path) -> None:
        batch = await run_in_threadpool(store.get, KIND, batch_id)
        if batch.body["status"] in ENDED:
            return
        answers, asked = await run_in_threadpool(Answers, folder), folder / INPUT
        if batch.body["status"] in ("validating", "in_progress") and not asked.exists():
            files = self._workspace.files.of(store.project)
            await run_in_threadpool(lambda: _link(files.path(files.get(batch.body["input_file_id"])), asked))
        if batch.body["status"] == "validating":
            begun = await self._begun(batch, store, asked)
        else:
            begun = await run_in_threadpool(_taken_up, batch, store, answers)
        if begun is None:
            return
        late = False
        if begun.body["status"] == "in_progress":
            late = await self._answer_all(begun, store, asked, answers)
        await run_in_threadpool(self._finish, batch_id, store, answers, late)

    async def _begun(self, batch: Document, store: Documents, path: Path) -> Document | None:
        """The batch once its file was found good; None where it has failed. One that is being cancelled is as it is."""
        total, problems = await run_in_threadpool(_problems, path, batch.body["endpoint"])
        counts = {"total": total, "completed": 0, "failed": 0}
        if problems:
            errors = _errors(problems)
            await run_in_threadpool(
                lambda: _move(batch, store, "failed", "failed_at", errors=errors, request_counts=counts)
            )
            return None
        moved = await run_in_threadpool(
            lambda: _move(batch, store, "in_progress", "in_progress_at", request_counts=counts)
        )
        return moved or await run_in_threadpool(store.get, KIND, batch.id)

    async def _answer_all(self, batch: Document, store: Documents, path: Path, answers: Answers) -> bool:
        """Answer what has no answer yet, AT_ONCE together, until all has or the batch is cancelled or, then true, out of time."""
        lines = (asked for _, text in _filled(path) if (asked := json.loads(text))["custom_id"] not in answers.known)
        under_way: dict[asyncio.Task[dict[str, Any]], str] = {}
        looked_s = time.monotonic()
        with answers:
            try:
                while time.time() <= batch.body["expires_at"]:
                    while len(under_way) < AT_ONCE and (asked := await run_in_threadpool(next, lines, None)):
                        under_way[asyncio.create_task(self._answer(asked, store.project))] = asked["custom_id"]
                    if not under_way:
                        return False
                    done, _ = await asyncio.wait(
                        under_way, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED
                    )
                    for task in done:
                        del under_way[task]
                        answers.add(task.result())
                    if time.monotonic() - looked_s > LOOK_S:
                        looked_s = time.monotonic()
                        changed = await run_in_threadpool(
                            lambda: store.change(
                                batch, {"request_counts": _counts(batch, answers)}, only_if={"status": "in_progress"}
                            )
                        )
                        if changed is None:
                            return False
                late = ("batch_expired", "This request could not be answered before the batch expired.")
                for custom_id in [*under_way.values(), *(asked["custom_id"] for asked in lines)]:
                    answers.add(line_shown(_line_id(), custom_id, None, late))
                return True
            finally:
                for task in under_way:
                    task.cancel()
                await asyncio.gather(*under_way, return_exceptions=True)

    def _finish(self, batch_id: str, store: Documents, answers: Answers, late: bool) -> None:
        """Keep what was answered as files, and end. Killed anywhere in between, it is done again with the same outcome."""
        with suppress(ObjectNotFound):
            batch = store.get(KIND, batch_id)
            counts = _counts(batch, answers)
            if batch.body["status"] == "in_progress":
                moved = _move(batch, store, "finalizing", "finalizing_at", request_counts=counts, late=late)
                batch = moved or store.get(KIND, batch_id)
            files = self._workspace.files.of(store.project)
            kept = {}
            for name, path in answers.paths.items():
                if path.exists() and path.stat().st_size:
                    kept[f"{name}_file_id"] = batch.body["file_ids"][name]
                    _keep(files, path, f"{batch_id}_{name}.jsonl", batch.body["file_ids"][name], batch)
            late = batch.body.get("late", False)
            ended = "cancelled" if batch.body["status"] == "cancelling" else "expired" if late else "completed"
            _move(batch, store, ended, f"{ended}_at", request_counts=counts, **kept)

    async def _answer(self, line: dict[str, Any], project: str) -> dict[str, Any]:
        """The output of one line. A full queue is waited for: nobody sits in front of a batch."""
        while True:
            request_id = f"req_{uuid.uuid4().hex}"
            status, body, headers = await self._ask(line["url"], line["body"], project, request_id)
            if status != 429:
                return line_shown(_line_id(), line["custom_id"], (status, request_id, body))
            await asyncio.sleep(float(headers.get("retry-after", 1)))

    async def _ask(
        self, path: str, body: dict[str, Any], project: str, request_id: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, body and headers of one request's answer."""
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        try:
            await self._app(_scope(path, project, request_id), _receive(json.dumps(body).encode()), send)
        except Exception as error:
            if not isinstance(error, JourneymanError):
                log.exception("request %s of a batch failed", request_id)
            status, refused = envelope_of(error, request_id)
            return status, refused.model_dump(), {}
        content = b"".join(message.get("body", b"") for message in sent[1:])
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], json.loads(content), headers


def _scope(path: str, project: str, request_id: str) -> Scope:
    """A request as the gate lets it through."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "client": None,
        "server": None,
        "state": {"project": project, "limits": Limits(), "request_id": request_id},
    }


def _receive(body: bytes) -> Callable[[], Any]:
    """The body, and then a client that stays."""
    first = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if first:
            return first.pop()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    return receive


def _line_id() -> str:
    return f"batch_req_{uuid.uuid4().hex}"
