"""Stored chat completions: kept where `store` is true, listed by label and model, and made into a training file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import Field

from journeyman.api.errors import RefusedError
from journeyman.api.gate import project_of
from journeyman.api.labels import labels_of
from journeyman.api.rendering import json_bytes
from journeyman.api.strict import Metadata, Strict
from journeyman.api.wire import ChatCompletion, ChatRequest
from journeyman.api.wire_files import WireFile
from journeyman.records import Message
from journeyman.storage.documents import Document, Documents

if TYPE_CHECKING:
    from journeyman.workspace import Workspace

KIND = "chat.completion"
WHOLE = ("stop", "tool_calls")
"""Finish reasons of answers that are not cut."""


class UpdateStored(Strict):
    """The body of POST /v1/chat/completions/{id}."""

    metadata: Metadata | None


class ExportStored(Strict):
    """The body of POST /v1/chat/completions/training_file (ours): which stored completions become rows."""

    model: str | None = None
    metadata: Metadata | None = None
    created_after: Annotated[int, Field(ge=0)] | None = None
    created_before: Annotated[int, Field(ge=0)] | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    filename: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}\.jsonl$")] = "stored-completions.jsonl"


def keep(
    documents: Documents,
    body: ChatRequest,
    messages: Sequence[Message],
    completion: ChatCompletion,
    request_id: str,
) -> None:
    """Keep a completion with what was asked: the messages and tools as a training file would hold them."""
    sent = body.model_dump(exclude_unset=True, by_alias=True, include=set(_SHOWN))
    asked = {key: value for key, value in sent.items() if value is not None}
    if (choice := asked.get("tool_choice")) is not None and choice.keys() == {"type"}:
        asked["tool_choice"] = choice["type"]  # as it was sent
    if body.user is not None:
        asked["input_user"] = body.user
    content = {
        "model": completion.model,
        "metadata": body.metadata or {},
        "completion": completion.model_dump(),
        "messages": [message.as_dict() for message in messages],
        "tools": [tool.sent for tool in body.tools or ()],
        "asked": {**asked, "request_id": request_id},
    }
    documents.add(KIND, content, id=completion.id)


_SHOWN = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "tool_choice", "response_format")


def router(workspace: Workspace) -> APIRouter:
    """The routes of stored completions."""
    routes = APIRouter(prefix="/v1/chat/completions")

    def documents(request: Request) -> Documents:
        return workspace.documents.of(project_of(request))

    @routes.get("")
    def list_stored(
        request: Request,
        model: str | None = None,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Literal["asc", "desc"] = "asc",
    ) -> dict[str, Any]:
        """Stored completions by when they were created, those with all labels of `metadata[key]=value`."""
        page = documents(request).page(
            KIND,
            after=after,
            limit=limit,
            order=order,
            where={("model",): model} if model else {},
            labels=labels_of(request),
        )
        return _listed([_shown(document) for document in page.items], has_more=page.has_more)

    @routes.post("/training_file")
    def make_training_file(body: ExportStored, request: Request) -> WireFile:
        """Make a file for fine-tuning of stored completions, a row each; answers that were cut are left out. Ours."""
        rows = list(training_rows(documents(request), body))
        if not rows:
            raise RefusedError(
                400,
                "No stored completion fits",
                code="no_stored_completions",
                fix="store some (store: true), or ask for other labels",
            )
        store = workspace.files.of(project_of(request))
        scratch = store.scratch()
        try:
            scratch.write_bytes(b"".join(json_bytes(row) + b"\n" for row in rows))
            return WireFile.of(store.keep(scratch, body.filename, "fine-tune"))
        finally:
            scratch.unlink(missing_ok=True)

    @routes.get("/{completion_id}")
    def retrieve_stored(completion_id: str, request: Request) -> dict[str, Any]:
        """One stored completion."""
        return _shown(documents(request).get(KIND, completion_id))

    @routes.post("/{completion_id}")
    def update_stored(completion_id: str, body: UpdateStored, request: Request) -> dict[str, Any]:
        """Give a stored completion other labels."""
        store = documents(request)
        found = store.get(KIND, completion_id)
        return _shown(store.change(found, {"metadata": body.metadata or {}}) or found)

    @routes.delete("/{completion_id}")
    def delete_stored(completion_id: str, request: Request) -> dict[str, Any]:
        """Forget a stored completion."""
        removed = documents(request).remove(KIND, completion_id)
        return {"object": "chat.completion.deleted", "id": removed.id, "deleted": True}

    @routes.get("/{completion_id}/messages")
    def list_stored_messages(
        completion_id: str,
        request: Request,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Literal["asc", "desc"] = "asc",
    ) -> dict[str, Any]:
        """What a stored completion was asked."""
        messages = documents(request).get(KIND, completion_id).body["messages"]
        shown = [
            {"refusal": None, "content_parts": None, **message, "id": f"{completion_id}-{number}"}
            for number, message in enumerate(messages)
        ]
        shown = shown if order == "asc" else shown[::-1]
        ids = [message["id"] for message in shown]
        if after is not None and after not in ids:
            raise RefusedError(
                400,
                f"No object with the id '{after[:100]}' is in this list",
                code="invalid_cursor",
                where="after",
            )
        begin = 0 if after is None else ids.index(after) + 1
        return _listed(shown[begin : begin + limit], has_more=len(shown) > begin + limit)

    return routes


def chosen(documents: Documents, wish: ExportStored) -> Iterator[Document]:
    """The stored completions that a wish names, oldest first."""
    page = documents.page(
        KIND,
        limit=None,
        order="asc",
        where={("model",): wish.model} if wish.model else {},
        labels=wish.metadata,
    )
    first, last = wish.created_after or 0, wish.created_before or float("inf")
    fitting = [document for document in page.items if first <= document.created_at <= last]
    yield from fitting[: wish.limit]


def training_rows(documents: Documents, wish: ExportStored) -> Iterator[dict[str, Any]]:
    """A row of a training file for each stored answer that was not cut."""
    for document in chosen(documents, wish):
        tools = {"tools": document.body["tools"]} if document.body["tools"] else {}
        for choice in document.body["completion"]["choices"]:
            if choice["finish_reason"] in WHOLE:
                yield {"messages": [*document.body["messages"], answer_row(choice["message"])], **tools}


def answer_row(message: Mapping[str, Any]) -> dict[str, Any]:
    """An answer as a training file holds it."""
    calls = {"tool_calls": message["tool_calls"]} if message.get("tool_calls") else {}
    content = {"content": message["content"]} if message["content"] is not None else {}
    return {"role": "assistant", **content, **calls}


def _shown(document: Document) -> dict[str, Any]:
    body = document.body
    return {
        **dict.fromkeys(("seed", "tool_choice", "response_format", "input_user"), None),
        **dict.fromkeys(("temperature", "top_p"), 1.0),
        **dict.fromkeys(("presence_penalty", "frequency_penalty"), 0.0),
        **body["asked"],
        **body["completion"],
        "tools": body["tools"] or None,
        "metadata": body["metadata"],
    }


def _listed(data: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more}
