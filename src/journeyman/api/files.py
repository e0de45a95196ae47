"""/v1/files and /v1/uploads: what clients keep here."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from journeyman.api.errors import RefusedError
from journeyman.api.gate import MAX_FILE_BYTES, MAX_PART_BYTES, project_of
from journeyman.api.limits import limits_of, room_for, storage_left, storage_used_up
from journeyman.api.multipart import Form, receive
from journeyman.api.wire_files import (
    CompleteRequest,
    FileDeleted,
    FileForm,
    FileList,
    UploadRequest,
    WireFile,
    WirePart,
    WireUpload,
)
from journeyman.jobs.results import METRICS_FILE
from journeyman.storage.archive import Plain
from journeyman.storage.documents import Document, not_found
from journeyman.storage.files import MODEL, RESULTS, check_name

if TYPE_CHECKING:
    from journeyman.database import Condition
    from journeyman.storage.archive import Archive
    from journeyman.storage.files import FileStore
    from journeyman.workspace import Workspace


def router(workspace: Workspace, *, base64_results: bool = False) -> APIRouter:
    """The routes of files and uploads. With `base64_results` the content of result files is sent as OpenAI sends it."""
    routes = APIRouter(prefix="/v1")
    _add_files(routes, workspace, base64_results)
    _add_uploads(routes, workspace)
    return routes


def _add_files(routes: APIRouter, workspace: Workspace, base64_results: bool) -> None:
    def files(request: Request) -> FileStore:
        return workspace.files.of(project_of(request))

    @routes.post("/files")
    async def create_file(request: Request) -> WireFile:
        """Keep a file, written to disk while it arrives."""
        store = await run_in_threadpool(files, request)
        form = await _received(workspace, request, store.scratch())
        return WireFile.of(await run_in_threadpool(_keep, store, form, room_for(workspace, request, form.size_bytes)))

    @routes.get("/files")
    def list_files(
        request: Request,
        purpose: str | None = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
        order: Literal["asc", "desc"] = "desc",
        after: str | None = None,
    ) -> FileList:
        """Files by when they were created, from the newest."""
        page = files(request).page(purpose=purpose, after=after, limit=limit, order=order)
        data = [WireFile.of(document) for document in page.items]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return FileList(data=data, first_id=first, last_id=last, has_more=page.has_more)

    @routes.get("/files/{file_id}")
    def retrieve_file(file_id: str, request: Request) -> WireFile:
        """One file's description."""
        return WireFile.of(files(request).get(file_id))

    @routes.delete("/files/{file_id}")
    def delete_file(file_id: str, request: Request) -> FileDeleted:
        """Delete a file. The weights of a model are deleted with it, and not alone; what a job has still to read stays."""
        store = files(request)
        file = store.get(file_id)
        model = file.body.get(MODEL)
        if model is not None and model in {version.id for version in workspace.registry.list()}:
            raise RefusedError(
                400,
                f"The file `{file_id}` is the model `{model}`, and is there as long as it is",
                code="file_not_deletable",
                where="file_id",
                fix="delete the model, where it is no longer needed",
            )
        if (job := workspace.reader_of(file)) is not None:
            raise RefusedError(
                400,
                f"The file `{file_id}` has still to be read by the job {job.id}",
                code="file_in_use",
                where="file_id",
                fix="cancel the job, or delete the file once its training has started",
            )
        return FileDeleted(id=store.remove(file_id).id)

    @routes.get("/files/{file_id}/content", response_class=StreamingResponse)
    def retrieve_file_content(file_id: str, request: Request) -> Response:
        """The file's bytes as they were sent; a model's weights as a tar that is made while it is read."""
        store = files(request)
        file = store.get(file_id)
        if (archive := workspace.weights(file)) is not None:
            named = {"content-disposition": f'attachment; filename="{file.body["filename"]}"'}
            return _streamed(archive, file, request, "application/x-tar", named)
        path = store.path(file)
        if base64_results and (file.body["purpose"], file.body["filename"]) == (RESULTS, METRICS_FILE):
            return Response(base64.b64encode(path.read_bytes()), media_type="application/octet-stream")
        return _streamed(Plain(path), file, request, "application/octet-stream", {})


def _streamed(content: Archive | Plain, file: Document, request: Request, kind: str, named: dict[str, str]) -> Response:
    """A file's content, or the part of it that is left to fetch. Raises ObjectNotFound where it is gone."""
    try:
        length = content.size_bytes
    except FileNotFoundError:
        raise not_found("file", file.id) from None
    tag = f'"{file.id}"'
    headers = {**named, "accept-ranges": "bytes", "etag": tag}
    first, last, status = 0, length - 1, 200
    if (asked := _range(request.headers.get("range", ""), length)) and request.headers.get("if-range", tag) == tag:
        first, last = asked
        if first > last:
            raise RefusedError(
                416, f"The file has {length} bytes, and none of them are in the range {request.headers['range'][:100]!r}",
                code="range_not_satisfiable", headers={"content-range": f"bytes */{length}"},
            )  # fmt: skip
        status, headers["content-range"] = 206, f"bytes {first}-{last}/{length}"
    headers["content-length"] = str(last - first + 1)
    return StreamingResponse(content.chunks(first, last), status, headers, media_type=kind)


def _range(header: str, length: int) -> tuple[int, int] | None:
    """The first and last byte that a Range header asks for (RFC 9110, 14.1.2), the first behind the last where there are none.

    None where all is to be sent: no header, one that is not understood, or several ranges.
    """
    found = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header.strip())
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        return max(0, length - int(found[2])), length - 1
    if found[2] and int(found[2]) < int(found[1]):
        return None
    return int(found[1]), min(int(found[2] or length), length - 1)


async def _received(workspace: Workspace, request: Request, scratch: Path) -> Form:
    """A form whose file is within the server's limit and the key's. Raises RefusedError."""
    left = await run_in_threadpool(storage_left, workspace, request)
    if left is None or left >= MAX_FILE_BYTES:
        return await receive(request, file_field="file", scratch=scratch, max_bytes=MAX_FILE_BYTES)
    over = storage_used_up(limits_of(request).storage_bytes or 0)
    return await receive(request, file_field="file", scratch=scratch, max_bytes=left, over=over)


def _keep(store: FileStore, form: Form, condition: Condition | None) -> Document:
    """Make a form's file an object. Raises RequestValidationError or RequestError where the fields do not fit."""
    try:
        fields = FileForm.model_validate(FileForm.shaped(form.fields))
        filename = form.filename or "upload"
        check_name(filename, fields.purpose)
        expires_s = fields.expires_after.seconds if fields.expires_after else None
        return store.keep(form.path, filename, fields.purpose, expires_s=expires_s, condition=condition)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None
    finally:
        form.path.unlink(missing_ok=True)


def _add_uploads(routes: APIRouter, workspace: Workspace) -> None:
    def shown(upload: Document, request: Request) -> WireUpload:
        file_id = upload.body["file"]
        file = workspace.files.of(project_of(request)).get(file_id) if file_id else None
        return WireUpload.of(upload, file)

    @routes.post("/uploads")
    def create_upload(body: UploadRequest, request: Request) -> WireUpload:
        """Begin a file that is sent in parts."""
        expires_s = body.expires_after.seconds if body.expires_after else None
        uploads = workspace.uploads.of(project_of(request))
        condition = room_for(workspace, request, body.bytes)
        upload = uploads.create(
            body.filename, body.purpose, body.bytes, body.mime_type, expires_s, condition=condition
        )
        return shown(upload, request)

    @routes.post("/uploads/{upload_id}/parts")
    async def add_upload_part(upload_id: str, request: Request) -> WirePart:
        """Add a part, written to disk while it arrives."""
        uploads = workspace.uploads.of(project_of(request))
        await run_in_threadpool(uploads.get, upload_id)
        scratch = uploads.files.scratch()
        form = await receive(request, file_field="data", scratch=scratch, max_bytes=MAX_PART_BYTES)
        try:
            part = await run_in_threadpool(uploads.add_part, upload_id, form.path)
        finally:
            scratch.unlink(missing_ok=True)
        return WirePart(id=part.id, created_at=int(part.created_at), upload_id=upload_id)

    @routes.post("/uploads/{upload_id}/complete")
    def complete_upload(upload_id: str, body: CompleteRequest, request: Request) -> WireUpload:
        """Put the parts together."""
        return shown(
            workspace.uploads.of(project_of(request)).complete(upload_id, body.part_ids, body.md5), request
        )

    @routes.post("/uploads/{upload_id}/cancel")
    def cancel_upload(upload_id: str, request: Request) -> WireUpload:
        """Give an upload up."""
        return shown(workspace.uploads.of(project_of(request)).cancel(upload_id), request)
