"""POST /v1/files/{id}/check: the report of the data check on an uploaded file, before any job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from journeyman.api.errors import RefusedError
from journeyman.api.gate import project_of
from journeyman.api.rendering import Json
from journeyman.api.wire_files import CheckRequest
from journeyman.api.wire_jobs import without_flags
from journeyman.errors import DataError, ObjectNotFound
from journeyman.jobs.results import without_folder
from journeyman.request import TrainRequest

if TYPE_CHECKING:
    from journeyman.storage.files import FileStore
    from journeyman.workspace import Workspace

CHECKS = 1
"""Checks that go on at a time; others wait. Each takes up to two cores and, of 100,000 rows, a minute and 1.4 GB."""


def router(workspace: Workspace) -> APIRouter:
    """The route of checks."""
    routes = APIRouter(prefix="/v1")
    limiter = CapacityLimiter(CHECKS)

    @routes.post("/files/{file_id}/check", response_class=Json)
    async def check_file(
        file_id: str, request: Request, body: CheckRequest | None = None, format: Literal["json", "html"] = "json"
    ) -> Response:
        """What is wrong with a file's examples, as `journeyman check --json` (or `--html`, with `format=html`) says it."""
        store = workspace.files.of(project_of(request))
        check = body or CheckRequest()
        return await to_thread.run_sync(_checked, workspace, store, file_id, check, format, limiter=limiter)

    return routes


def _checked(workspace: Workspace, store: FileStore, file_id: str, body: CheckRequest, format: str) -> Response:
    path = store.path(store.get(file_id))
    validation = _named(store, body.validation_file, "validation_file")
    against = _named(store, body.against, "against")
    folder = f"{store.folder}/"
    try:
        review = workspace.check(TrainRequest(str(path), validation=validation), against=against)
    except DataError as error:  # nothing in it can be read
        said = without_folder([error.message, error.where or "", *error.problems], folder)
        raise DataError(said[0], where=said[1] or None, fix=without_flags(error.fix or "") or None, code=error.code, problems=said[2:]) from None
    if format == "html":
        return HTMLResponse(without_folder(review.html(), folder))
    return Json(without_folder(review.as_dict(), folder))


def _named(store: FileStore, file_id: str | None, where: str) -> Path | None:
    if file_id is None:
        return None
    try:
        return store.path(store.get(file_id))
    except ObjectNotFound:
        raise RefusedError(400, f"invalid {where}: {file_id[:100]}", code="invalid_file", where=where) from None
