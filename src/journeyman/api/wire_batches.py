"""OpenAI's wire shapes for batches, the lines of their files included."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from journeyman.api.strict import Metadata, Strict
from journeyman.api.wire_files import ExpiresAfter
from journeyman.storage.documents import Document

Endpoint = Literal["/v1/chat/completions", "/v1/responses", "/v1/completions"]

ENDED = ("completed", "failed", "expired", "cancelled")
"""States that a batch does not leave."""


class CreateBatch(Strict):
    """The body of POST /v1/batches."""

    input_file_id: str = Field(min_length=1)
    endpoint: Endpoint
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None


class BatchLine(Strict):
    """A line of the input file: a request, and the name by which its answer is found."""

    custom_id: Annotated[str, Field(min_length=1, max_length=512)]
    method: Literal["POST"]
    url: Endpoint
    body: dict[str, Any]


class WireBatch(BaseModel):
    """A batch. Files and times are there once there are any."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: dict[str, Any] | None
    input_file_id: str
    completion_window: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: dict[str, int]
    metadata: dict[str, str] | None

    @classmethod
    def of(cls, document: Document) -> WireBatch:
        """A batch as clients see it."""
        shown = {name: document.body.get(name) for name in cls.model_fields if name in document.body}
        return cls(**{**_NOTHING_YET, **shown}, id=document.id, created_at=int(document.created_at))


_NOTHING_YET: dict[str, Any] = dict.fromkeys(
    (
        "errors", "output_file_id", "error_file_id", "in_progress_at", "finalizing_at", "completed_at", "failed_at",
        "expired_at", "cancelling_at", "cancelled_at", "metadata",
    )
)  # fmt: skip


class BatchList(BaseModel):
    """A page of batches, newest first."""

    object: Literal["list"] = "list"
    data: list[WireBatch]
    first_id: str | None
    last_id: str | None
    has_more: bool


def line_shown(
    line_id: str, custom_id: str, answer: tuple[int, str, Any] | None, error: tuple[str, str] | None = None
) -> dict[str, Any]:
    """A line of an output or error file: status, request id and body of an answer, or code and message why there is none."""
    response = None if answer is None else dict(zip(("status_code", "request_id", "body"), answer, strict=True))
    return {
        "id": line_id,
        "custom_id": custom_id,
        "response": response,
        "error": None if error is None else dict(zip(("code", "message"), error, strict=True)),
    }
