"""OpenAI's wire shapes for files and uploads."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from journeyman.api.strict import Strict
from journeyman.storage.documents import Document
from journeyman.storage.files import EXPIRES_S
from journeyman.storage.uploads import MAX_BYTES

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]


class ExpiresAfter(Strict):
    """When a file is to be deleted by itself, in seconds from its creation."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=EXPIRES_S.start, lt=EXPIRES_S.stop)]


class FileForm(Strict):
    """The text fields of POST /v1/files."""

    purpose: Purpose
    expires_after: ExpiresAfter | None = None

    @classmethod
    def shaped(cls, fields: dict[str, str]) -> dict[str, Any]:
        """A form's flat fields as the object they mean: `expires_after[seconds]` is a key of `expires_after`."""
        shaped: dict[str, Any] = {}
        for name, text in fields.items():
            outer, _, inner = name.partition("[")
            if inner.endswith("]") and isinstance(shaped.setdefault(outer, {}), dict):
                number = inner == "seconds]" and text.isascii() and text.isdigit() and len(text) < 20
                shaped[outer][inner[:-1]] = int(text) if number else text
            else:
                shaped[name] = text
        return shaped


class WireFile(BaseModel):
    """A file that is kept. `status` is there because the SDKs' types insist on it."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: None = None

    @classmethod
    def of(cls, document: Document) -> WireFile:
        """A kept file as clients see it."""
        body = document.body
        return cls(
            id=document.id,
            bytes=body["bytes"],
            created_at=int(document.created_at),
            expires_at=body["expires_at"],
            filename=body["filename"],
            purpose=body["purpose"],
        )


class FileList(BaseModel):
    """A page of files."""

    object: Literal["list"] = "list"
    data: list[WireFile]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(BaseModel):
    """The receipt of a deletion."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


# ── uploads ───────────────────────────────────────────────────────────────────────────────────────────────────


class UploadRequest(Strict):
    """The body of POST /v1/uploads."""

    filename: str = Field(min_length=1)
    purpose: Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
    bytes: Annotated[int, Field(ge=0, le=MAX_BYTES)]
    mime_type: str = Field(max_length=255)
    expires_after: ExpiresAfter | None = None


class CheckRequest(Strict):
    """The body of POST /v1/files/{id}/check: ids of further files."""

    validation_file: str | None = None
    against: str | None = None


class CompleteRequest(Strict):
    """The body of POST /v1/uploads/{id}/complete."""

    part_ids: list[str]
    md5: str | None = None


class WireUpload(BaseModel):
    """A file that is sent in parts."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["pending", "completed", "cancelled", "expired"]
    expires_at: int
    file: WireFile | None

    @classmethod
    def of(cls, document: Document, file: Document | None = None) -> WireUpload:
        """An upload as clients see it, with its file once there is one."""
        body = document.body
        return cls(
            id=document.id,
            bytes=body["bytes"],
            created_at=int(document.created_at),
            filename=body["filename"],
            purpose=body["purpose"],
            status=body["status"],
            expires_at=body["expires_at"],
            file=None if file is None else WireFile.of(file),
        )


class WirePart(BaseModel):
    """A part that has arrived."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str
