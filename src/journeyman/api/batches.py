"""/v1/batches: a file of requests, answered in the background by the routes that answer single ones."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Scope

from journeyman.api.alive import lives, this_server
from journeyman.api.errors import RefusedError, envelope_of, misfit_envelope
from journeyman.api.gate import MAX_BODY_BYTES, project_of
from journeyman.api.wire_batches import ENDED, BatchLine, BatchList, CreateBatch, WireBatch, line_shown
from journeyman.errors import JourneymanError, ObjectNotFound
from journeyman.storage.documents import Document, Documents
from journeyman.storage.keys import Limits

if TYPE_CHECKING:
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
        data = [WireBatch.of(_checked(batch, store)) for batch in page.items]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return BatchList(data=data, first_id=first, last_id=last, has_more=page.has_more)

    @routes.get("/{batch_id}")
    def retrieve_batch(batch_id: str, request: Request) -> WireBatch:
        """How a batch stands."""
        store = documents(request)
        return WireBatch.of(_checked(store.get(KIND, batch_id), store))

    @routes.post("/{batch_id}/cancel")
    def cancel_batch(batch_id: str, request: Request) -> WireBatch:
        """Stop a batch within seconds. What was answered by then is kept, in its files."""
        store = documents(request)
        batch = _checked(store.get(KIND, batch_id), store)
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
            "server": this_server(),
        },
    )


def _checked(batch: Document, store: Documents) -> Document:
    """The batch; one whose server is gone has failed, or was cancelled with it, and is told so."""
    status = batch.body["status"]
    if status in ENDED or lives(batch.body["server"]):
        return batch
    if status == "cancelling":
        return _move(batch, store, "cancelled", "cancelled_at") or batch
    errors = _errors([("server_stopped", "the server was stopped while this batch was under way", None, None)])
    return _move(batch, store, "failed", "failed_at", errors=errors) or batch


def _move(batch: Document, store: Documents, status: str, at: str, **more: Any) -> Document | None:
    """The batch in its next state, its end told to webhooks; None where it has left the state that is known here."""
    changes = {"status": status, at: int(time.time()), **more}
    announced = f"batch.{status}" if status in ENDED else None
    return store.change(batch, changes, only_if={"status": batch.body["status"]}, announced=announced)


def _fail(batch_id: str, store: Documents, code: str, message: str) -> None:
    with suppress(ObjectNotFound):
        errors = _errors([(code, message, None, None)])
        _move(store.get(KIND, batch_id), store, "failed", "failed_at", errors=errors)


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
            line = BatchLine.model_validate(json.loads(text))
        except ValidationError as error:
            wrong = misfit_envelope(error.errors()).error
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
    """The batches that this server answers, on its event loop. `app` answers a request that has passed the gate."""

    def __init__(self, workspace: Workspace, app: ASGIApp) -> None:
        self._workspace = workspace
        self._app = app
        self._tasks: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Leave all batches as they are: whoever looks at one then sees that its server is gone."""
        for task in self._tasks:
            task.cancel()

    def start(self, batch: Document, store: Documents) -> None:
        """Let a batch go on in the background."""
        task = asyncio.create_task(self._run(batch, store))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, batch: Document, store: Documents) -> None:
        try:
            await self._go_on(batch, store)
        except JourneymanError as error:
            await run_in_threadpool(_fail, batch.id, store, error.code, error.message)
        except Exception:
            log.exception("the batch %s failed", batch.id)
            await run_in_threadpool(
                _fail, batch.id, store, "internal_error", "the server's log has the reason"
            )

    async def _go_on(self, batch: Document, store: Documents) -> None:
        files = self._workspace.files.of(store.project)
        path = await run_in_threadpool(lambda: files.path(files.get(batch.body["input_file_id"])))
        total, problems = await run_in_threadpool(_problems, path, batch.body["endpoint"])
        counts = {"total": total, "completed": 0, "failed": 0}
        if problems:
            await run_in_threadpool(
                lambda: _move(batch, store, "failed", "failed_at", errors=_errors(problems), request_counts=counts)
            )
            return
        begun = await run_in_threadpool(
            lambda: _move(batch, store, "in_progress", "in_progress_at", request_counts=counts)
        )
        paths = {"output": files.scratch(), "error": files.scratch()}
        try:
            if begun is not None:
                await self._answer_all(begun, store, path, paths, counts)
            await run_in_threadpool(self._finish, batch.id, store, paths, counts)
        finally:
            for scratch in paths.values():
                scratch.unlink(missing_ok=True)

    async def _answer_all(
        self, batch: Document, store: Documents, path: Path, paths: Mapping[str, Path], counts: dict[str, int]
    ) -> None:
        """Answer line after line, AT_ONCE together, until all are or the batch is cancelled or out of time."""
        lines = _filled(path)
        under_way: dict[asyncio.Task[dict[str, Any]], str] = {}
        looked_s = time.monotonic()
        with paths["output"].open("w", encoding="utf-8") as output, paths["error"].open("w", encoding="utf-8") as error:

            def note(shown: dict[str, Any]) -> None:
                well = shown["response"] is not None and shown["response"]["status_code"] == 200
                counts["completed" if well else "failed"] += 1
                (output if well else error).write(json.dumps(shown, ensure_ascii=False) + "\n")

            try:
                while True:
                    while len(under_way) < AT_ONCE and (line := await run_in_threadpool(next, lines, None)):
                        asked = json.loads(line[1])
                        under_way[asyncio.create_task(self._answer(asked, store.project))] = asked["custom_id"]
                    if not under_way:
                        return
                    done, _ = await asyncio.wait(
                        under_way, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED
                    )
                    for task in done:
                        del under_way[task]
                        note(task.result())
                    if time.time() > batch.body["expires_at"]:
                        break
                    if time.monotonic() - looked_s > LOOK_S:
                        looked_s = time.monotonic()
                        changed = await run_in_threadpool(
                            lambda: store.change(
                                batch, {"request_counts": dict(counts)}, only_if={"status": "in_progress"}
                            )
                        )
                        if changed is None:
                            return
                late = ("batch_expired", "This request could not be answered before the batch expired.")
                for custom_id in [*under_way.values(), *(json.loads(text)["custom_id"] for _, text in lines)]:
                    note(line_shown(_line_id(), custom_id, None, late))
            finally:
                for task in under_way:
                    task.cancel()
                await asyncio.gather(*under_way, return_exceptions=True)

    def _finish(self, batch_id: str, store: Documents, paths: Mapping[str, Path], counts: dict[str, int]) -> None:
        """Keep what was answered as files, and end."""
        with suppress(ObjectNotFound):
            batch = store.get(KIND, batch_id)
            if batch.body["status"] == "in_progress":
                batch = _move(batch, store, "finalizing", "finalizing_at") or store.get(KIND, batch_id)
            files = self._workspace.files.of(store.project)
            kept = {}
            for name, scratch in paths.items():
                if scratch.exists() and scratch.stat().st_size:
                    expires_s = batch.body["output_expires_s"]
                    file = files.keep(scratch, f"{batch_id}_{name}.jsonl", "batch_output", expires_s=expires_s)
                    kept[f"{name}_file_id"] = file.id
            late = time.time() > batch.body["expires_at"]
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
