"""Files of clients: a document for each, and its bytes in a folder under a name of our own.

The bytes arrive in a scratch file beside their place and are renamed into it once they are whole. A document is only
added after that: what a client can see is there.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import sqlalchemy as sa

from journeyman import database
from journeyman.database import Condition
from journeyman.errors import RequestError
from journeyman.files import sync_folder
from journeyman.storage.documents import Document, Documents, Page, new_id, not_found

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
"""What a client may say a file is for (OpenAI's list)."""

FINE_TUNE = "fine-tune"
"""What the files are for that a job reads: the only ones whose names say that they are .jsonl."""

RESULTS = "fine-tune-results"
"""What the files are for that a job leaves (OpenAI's word)."""

MODEL = "model"
"""The key in a file's document that names the model whose weights it is."""

SIZE = database.documents.c.body["bytes"].as_float()
"""The size of a file, an upload or a part in its document; whole up to 8 PB."""

EXPIRES_S = range(3600, 2_592_001)
"""From an hour to 30 days, as OpenAI allows."""


MAX_NAME = 255
"""How many characters of a client's name for a file are kept."""


@dataclass(frozen=True, slots=True)
class FileStore:
    """The files of one project. Paths are made of our own ids, never of what a client sent."""

    documents: Documents
    folder: Path

    def of(self, project: str) -> FileStore:
        """The files of another project."""
        return FileStore(self.documents.of(project), self.folder)

    def scratch(self) -> Path:
        """Where a file may arrive; `keep` takes it over."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f".incoming-{secrets.token_hex(16)}"

    def keep(
        self,
        scratch: Path,
        filename: str,
        purpose: str,
        *,
        expires_s: int | None = None,
        id: str | None = None,
        about: Mapping[str, Any] | None = None,
        condition: Condition | None = None,
    ) -> Document:
        """Make a file that has arrived an object of its own, where the condition lets it; `about` is kept with it for the server's own use.

        Raises RequestError for a fine-tuning file that is no .jsonl.
        """
        check_name(filename, purpose)
        file_id = id or new_id("file")
        body: dict[str, Any] = {
            "bytes": scratch.stat().st_size,
            "filename": filename,
            "purpose": purpose,
            "expires_at": None if expires_s is None else int(time.time()) + expires_s,
            **({"about": dict(about)} if about is not None else {}),
        }
        place = self.folder / f"{file_id}{_suffix(filename)}"
        scratch.replace(place)
        sync_folder(self.folder)
        try:
            return self.documents.add("file", body, id=file_id, condition=condition)
        except RequestError:
            place.unlink()
            raise

    def add_weights(self, model: str, filename: str, size_bytes: int, *, id: str) -> Document:
        """Make a model's folder a file that can be asked for. It is put together when it is read: no bytes are kept here."""
        body = {"bytes": size_bytes, "filename": filename, "purpose": RESULTS, "expires_at": None, MODEL: model}
        return self.documents.add("file", body, id=id)

    def get(self, file_id: str) -> Document:
        """A file by its id; one that has expired is deleted and not found. Raises ObjectNotFound."""
        document = self.documents.get("file", file_id)
        if _expired(document):
            self.remove(file_id)
            raise not_found("file", file_id)
        return document

    def stored_name(self, document: Document) -> str:
        """What a file is called in the folder."""
        return f"{document.id}{_suffix(document.body['filename'])}"

    def path(self, document: Document) -> Path:
        """Where a file's bytes are. Raises ObjectNotFound where they are gone, or never were here (`add_weights`)."""
        path = self.folder / self.stored_name(document)
        if not path.is_file():
            raise not_found("file", document.id)
        return path

    def page(
        self, *, purpose: str | None, after: str | None, limit: int, order: Literal["asc", "desc"]
    ) -> Page:
        """Files by when they were created."""
        for document in self.documents.page("file", limit=None).items:
            if _expired(document):
                self.remove(document.id)
        where: dict[tuple[str, ...], str] = {("purpose",): purpose} if purpose else {}
        return self.documents.page("file", after=after, limit=limit, order=order, where=where)

    def remove(self, file_id: str) -> Document:
        """Delete a file. Raises ObjectNotFound."""
        document = self.documents.remove("file", file_id)
        (self.folder / self.stored_name(document)).unlink(missing_ok=True)
        return document

    def stored_bytes(self, connection: sa.Connection | None = None) -> int:
        """How much the project's files hold; what is put together when it is read holds nothing."""
        table = database.documents
        total = sa.select(sa.func.coalesce(sa.func.sum(SIZE), 0)).where(
            table.c.kind == "file", table.c.project == self.documents.project, table.c.body[MODEL].as_string().is_(None)
        )
        with self.documents.reading(connection) as reading:
            return int(reading.execute(total).scalar_one())


def plain_name(filename: str) -> str:
    """A client's name for a file without its folders; a long one is shortened before its ending."""
    name = filename.replace("\\", "/").rpartition("/")[2]
    suffix = _suffix(name)
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - len(suffix)] + suffix


def check_name(filename: str, purpose: str, *, where: str = "file") -> None:
    """Refuse what fine-tuning could not read, in OpenAI's words, and what no database keeps. Raises RequestError of `where`."""
    if "\0" in filename:
        raise RequestError(
            "the file's name holds the character U+0000", where=where, fix="leave it out", code="invalid_value"
        )
    if purpose == FINE_TUNE and _suffix(filename) != ".jsonl":
        raise RequestError(
            "Invalid file format for Fine-Tuning API. Must be .jsonl",
            where=where,
            code="invalid_file_format",
        )


def _suffix(filename: str) -> str:
    """The ending by which a reader knows the format, where it is a plain one."""
    suffix = PurePosixPath(filename).suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,10}", suffix, re.ASCII) else ""


def _expired(document: Document) -> bool:
    expires_at = document.body["expires_at"]
    return expires_at is not None and expires_at <= time.time()
