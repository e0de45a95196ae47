"""A large file sent in parts, put together once all are here."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from journeyman import database
from journeyman.database import Condition
from journeyman.errors import RequestError
from journeyman.storage.documents import Document, Documents
from journeyman.storage.files import SIZE, FileStore, check_name, plain_name

LIFE_S = 3600
"""An upload that is not completed within an hour expires, as OpenAI's do."""

MAX_BYTES = 8 * 1024**3
"""OpenAI's limit for a file that was sent in parts."""


SENT_AGAIN = 2
"""Parts may be sent again, so that all parts together hold more than the file; up to this many times its size."""


@dataclass(frozen=True, slots=True)
class UploadStore:
    """The uploads of one project; `folder` holds the parts of each in a folder of its own."""

    files: FileStore
    folder: Path

    @property
    def documents(self) -> Documents:
        """Where uploads and parts are kept."""
        return self.files.documents

    def of(self, project: str) -> UploadStore:
        """The uploads of another project."""
        return UploadStore(self.files.of(project), self.folder)

    def stored_bytes(self, connection: sa.Connection | None = None) -> int:
        """What the project's files hold, and its uploads will or do, whichever is more."""
        table = database.documents
        # One that is completed counts until its file does.
        live = sa.select(table.c.id, SIZE.label("bytes")).where(
            table.c.kind == "upload",
            table.c.project == self.documents.project,
            table.c.body["status"].as_string().in_(["pending", "completed"]),
            table.c.body["file"].as_string().is_(None),
            table.c.body["expires_at"].as_float() > time.time(),
        )
        with self.documents.reading(connection) as reading:
            uploads = reading.execute(live).all()
            begun = sum(max(int(upload.bytes), self._parts_bytes(upload.id, reading)) for upload in uploads)
            return self.files.stored_bytes(reading) + begun

    def _parts_bytes(self, upload_id: str, connection: sa.Connection) -> int:
        table = database.documents
        total = sa.select(sa.func.coalesce(sa.func.sum(SIZE), 0)).where(
            table.c.kind == "upload.part", table.c.project == self.documents.project, table.c.parent == upload_id
        )
        return int(connection.execute(total).scalar_one())

    def create(
        self,
        filename: str,
        purpose: str,
        size_bytes: int,
        mime_type: str,
        expires_s: int | None,
        *,
        condition: Condition | None = None,
    ) -> Document:
        """Begin an upload, where the condition lets it. Raises RequestError where no such file could be kept."""
        filename = plain_name(filename) or "upload"
        check_name(filename, purpose, where="filename")
        return self.documents.add(
            "upload",
            {
                "filename": filename,
                "purpose": purpose,
                "bytes": size_bytes,
                "mime_type": mime_type,
                "status": "pending",
                "expires_at": int(time.time()) + LIFE_S,
                "file_expires_s": expires_s,
                "file": None,
            },
            condition=condition,
        )

    def get(self, upload_id: str) -> Document:
        """An upload; one whose hour is over has expired. Raises ObjectNotFound."""
        upload = self.documents.get("upload", upload_id)
        if upload.body["status"] == "pending" and upload.body["expires_at"] <= time.time():
            upload = self._end(upload, "expired") or self.documents.get("upload", upload_id)
        return upload

    def add_part(self, upload_id: str, scratch: Path) -> Document:
        """Take over a part that has arrived. Raises RequestError where the upload has ended, or its parts are too many."""
        upload = self._pending(upload_id)
        size_bytes, most_bytes = scratch.stat().st_size, SENT_AGAIN * _bytes(upload)

        def insist_on_room(connection: sa.Connection) -> None:
            if self._parts_bytes(upload.id, connection) + size_bytes > most_bytes:
                raise RequestError(
                    f"the parts of an upload of {_bytes(upload)} bytes may hold {most_bytes} bytes together, sent again ones among them",
                    where="data", fix="begin an upload with the true size", code="invalid_upload_size",
                )  # fmt: skip

        part = self.documents.add("upload.part", {"bytes": size_bytes}, parent=upload.id, condition=insist_on_room)
        place = self.folder / upload.id / part.id
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch.replace(place)
        return part

    def complete(self, upload_id: str, part_ids: Sequence[str], md5: str | None) -> Document:
        """Put the parts together in this order. Raises RequestError for a part that is not of this upload, a size or an MD5 that differs."""
        upload = self._pending(upload_id)
        known = {part.id for part in self.documents.page("upload.part", parent=upload.id, limit=None).items}
        foreign = [part_id for part_id in part_ids if part_id not in known]
        if foreign or len(set(part_ids)) != len(part_ids):
            raise RequestError(
                f"these are not parts of the upload {upload.id}, each once: {', '.join(foreign or part_ids)[:300]}",
                where="part_ids",
                fix="give the ids that adding parts returned",
                code="invalid_part_ids",
            )
        scratch = self.files.scratch()
        try:
            digest = self._join(upload, part_ids, scratch)
            size_bytes = scratch.stat().st_size
            if size_bytes != upload.body["bytes"]:
                raise RequestError(
                    f"the parts hold {size_bytes} bytes, and {upload.body['bytes']} were announced",
                    where="part_ids",
                    fix="add what is missing, or begin an upload with the true size",
                    code="invalid_upload_size",
                )
            if md5 is not None and md5.lower() != digest:
                raise RequestError(
                    f"the MD5 of the parts is {digest}, not {md5[:64]}", where="md5", fix="send the parts again",
                    code="invalid_md5",
                )  # fmt: skip
            return self._finish(upload, scratch)
        finally:
            scratch.unlink(missing_ok=True)

    def cancel(self, upload_id: str) -> Document:
        """Give an upload up; its parts are deleted. Raises RequestError where it has ended."""
        upload = self._pending(upload_id)
        return self._end(upload, "cancelled") or self._pending(upload_id)

    def _pending(self, upload_id: str) -> Document:
        upload = self.get(upload_id)
        if upload.body["status"] != "pending":
            raise RequestError(
                f"the upload {upload.id} is {upload.body['status']} already", where="upload_id", fix="begin a new one",
                code="upload_ended",
            )  # fmt: skip
        return upload

    def _join(self, upload: Document, part_ids: Sequence[str], scratch: Path) -> str:
        """Write the parts one after the other; the MD5 of the whole."""
        digest = hashlib.md5(usedforsecurity=False)
        with scratch.open("wb") as whole:
            for part_id in part_ids:
                with (self.folder / upload.id / part_id).open("rb") as part:
                    while chunk := part.read(1 << 20):
                        digest.update(chunk)
                        whole.write(chunk)
        return digest.hexdigest()

    def _finish(self, upload: Document, scratch: Path) -> Document:
        body = upload.body
        # The state changes first: of two that complete at once, one makes the file.
        taken = self.documents.change(upload, {"status": "completed"}, only_if={"status": "pending"})
        if taken is None:
            return self._pending(upload.id)
        file = self.files.keep(scratch, body["filename"], body["purpose"], expires_s=body["file_expires_s"])
        shutil.rmtree(self.folder / upload.id, ignore_errors=True)
        return self.documents.change(taken, {"file": file.id}) or taken

    def _end(self, upload: Document, status: str) -> Document | None:
        ended = self.documents.change(upload, {"status": status}, only_if={"status": "pending"})
        shutil.rmtree(self.folder / upload.id, ignore_errors=True)
        return ended


def _bytes(document: Document) -> int:
    return int(document.body["bytes"])
