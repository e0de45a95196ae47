"""/v1/responses: the same answers as chat completions, in the shapes of the newer API."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from journeyman.api import chat
from journeyman.api.errors import RefusedError, envelope_of, misfit_envelope
from journeyman.api.gate import project_of
from journeyman.api.models import CallableModel, Catalogue
from journeyman.api.pieces import AbandonedError, Decoder
from journeyman.api.rendering import Json
from journeyman.api.wire import ChatRequest, wire_logprobs
from journeyman.api.wire_responses import (
    CountRequest,
    InputTokens,
    ItemList,
    ResponseDeleted,
    ResponseRequest,
    call_item,
    chat_messages,
    kept_item,
    message_item,
    own_names,
    shown,
    text_part,
)
from journeyman.errors import JourneymanError, ObjectNotFound, RequestError
from journeyman.records import Message
from journeyman.storage.documents import Documents, new_id

if TYPE_CHECKING:
    from journeyman.generate.engine import Piece
    from journeyman.workspace import Workspace

MAX_TURNS = 1000
"""Earlier responses that are followed back; a longer chain would not fit any context."""

log = logging.getLogger("journeyman.api")


def router(workspace: Workspace, catalogue: Catalogue, decoder: Decoder) -> APIRouter:
    """The routes of responses."""
    routes = APIRouter(prefix="/v1/responses")

    @routes.post("")
    async def create_response(body: ResponseRequest, request: Request) -> Response:
        """Answer, whole or as a stream of events."""
        documents = workspace.documents.of(project_of(request))
        asked, model = await run_in_threadpool(_read, body, documents, catalogue)
        return await _answer(body, asked, model, request, workspace, documents, decoder)

    @routes.post("/input_tokens")
    def count_tokens(body: CountRequest, request: Request) -> InputTokens:
        """How many tokens an input is to its model."""
        asked, model = _read(body, workspace.documents.of(project_of(request)), catalogue)
        chat_format = workspace.served(model.source).engine.chat
        return InputTokens(
            input_tokens=len(chat_format.prompt_ids(asked.conversation(), asked.offered_tools()))
        )

    @routes.get("/{response_id}")
    def retrieve_response(response_id: str, request: Request, stream: bool = False) -> Json:
        """A response that was stored."""
        if stream:
            raise RefusedError(
                400, "Unsupported parameter: 'stream'. A stored response is not streamed again",
                code="unsupported_parameter", where="stream", fix="leave it out",
            )  # fmt: skip
        return Json(
            workspace.documents.of(project_of(request)).get("response", response_id).body["response"]
        )

    @routes.delete("/{response_id}")
    def delete_response(response_id: str, request: Request) -> ResponseDeleted:
        """Forget a response."""
        return ResponseDeleted(
            id=workspace.documents.of(project_of(request)).remove("response", response_id).id
        )

    @routes.get("/{response_id}/input_items")
    def list_input_items(
        response_id: str,
        request: Request,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> ItemList:
        """What a response was asked."""
        items = workspace.documents.of(project_of(request)).get("response", response_id).body["input"]
        items = items if order == "asc" else items[::-1]
        ids = [item["id"] for item in items]
        if after is not None and after not in ids:
            raise RefusedError(
                400,
                f"No object with the id '{after[:100]}' is in this list",
                code="invalid_cursor",
                where="after",
            )
        begin = 0 if after is None else ids.index(after) + 1
        data = items[begin : begin + limit]
        first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
        return ItemList(data=data, first_id=first, last_id=last, has_more=len(items) > begin + limit)

    return routes


def _read(
    body: ResponseRequest, documents: Documents, catalogue: Catalogue
) -> tuple[ChatRequest, CallableModel]:
    """The request in chat form, after the turns it goes on from, and its model."""
    body.refuse_what_is_not_here()
    chat_body = body.chat(_before(body.previous_response_id, documents))
    try:
        asked = ChatRequest.model_validate(chat_body)
        asked.check()
    except ValidationError as error:
        wrong = misfit_envelope(error.errors(), chat_body).error
        said, where = own_names(wrong.message, body, chat_body), wrong.param and own_names(wrong.param, body, chat_body)
        raise RefusedError(400, said, code=wrong.code or "invalid_value", where=where) from None
    except RequestError as error:
        raise _renamed(error, body, chat_body) from None
    return asked, catalogue.find(body.model, documents.project)


def _renamed(error: RequestError, body: ResponseRequest, chat_body: Mapping[str, Any]) -> RequestError:
    """A refusal of the chat form in this API's names."""
    where = error.where and own_names(error.where, body, chat_body)
    fix = error.fix and own_names(error.fix, body, chat_body)
    return RequestError(own_names(error.message, body, chat_body), where=where, fix=fix, code=error.code)


def _shorter(messages: tuple[Message, ...]) -> tuple[Message, ...] | None:
    """A conversation without its oldest turn but instructions, and the outputs of its calls; None where nothing can go."""
    first = next((i for i, message in enumerate(messages) if message.role not in ("system", "developer")), 0)
    end = first + 1
    while end < len(messages) and messages[end].role == "tool":
        end += 1
    return messages[:first] + messages[end:] if end < len(messages) else None


def _before(previous: str | None, documents: Documents) -> list[dict[str, Any]]:
    """The messages of the responses that a request goes on from, oldest first. Raises RefusedError in OpenAI's words."""
    turns: list[list[dict[str, Any]]] = []
    while previous is not None and len(turns) < MAX_TURNS:
        try:
            kept = documents.get("response", previous).body
        except ObjectNotFound:
            raise RefusedError(
                400,
                f"Previous response with id '{previous[:100]}' not found.",
                code="previous_response_not_found",
                where="previous_response_id",
            ) from None
        turns.append(chat_messages([*kept["input"], *kept["response"]["output"]]))
        previous = kept["response"]["previous_response_id"]
    return [message for turn in reversed(turns) for message in turn]


@dataclass
class _Answer:
    """An answer while it grows: its text, its calls, how it ended."""

    id: str = field(default_factory=lambda: new_id("response"))
    created_at: float = field(default_factory=time.time)
    text: str = ""
    calls: list[Mapping[str, Any]] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    usage: tuple[int, int, int] = (0, 0, 0)
    cut: bool = False

    @property
    def key(self) -> str:
        """What the ids of its items are made of."""
        return self.id.removeprefix("resp_")

    def take(self, piece: Piece) -> None:
        """Add what has come."""
        self.text += piece.text
        self.calls += piece.calls
        self.logprobs += _logprobs(piece)
        if piece.usage is not None:
            self.usage = (piece.usage.prompt_tokens, piece.usage.completion_tokens, piece.cached_tokens)
        self.cut = self.cut or piece.stop == "length"

    def output(self) -> list[dict[str, Any]]:
        """Its items: the text, where there is any or no call, and the calls; the last one incomplete where the answer was cut."""
        items = [call_item(f"fc_{self.key}{i}", call) for i, call in enumerate(self.calls)]
        if self.text or not items:
            items.insert(0, message_item(f"msg_{self.key}", self.text, logprobs=self.logprobs))
        if self.cut:
            items[-1]["status"] = "incomplete"
        return items


def _logprobs(piece: Piece) -> list[dict[str, Any]]:
    """What a piece tells of its tokens, in the form of chat completions, which is this API's too."""
    return [token.model_dump() for token in wire_logprobs(piece.logprobs).content]


async def _answer(
    body: ResponseRequest,
    asked: ChatRequest,
    model: CallableModel,
    request: Request,
    workspace: Workspace,
    documents: Documents,
    decoder: Decoder,
) -> Response:
    messages = asked.conversation()

    async def whole(pieces: AsyncIterator[Piece]) -> Response:
        answer = _Answer()
        async for piece in pieces:
            answer.take(piece)
        return Json(await run_in_threadpool(_finish, body, answer, model.id, documents))

    def frames(pieces: AsyncIterator[Piece]) -> AsyncIterator[str]:
        return _frames(pieces, body, model.id, documents, request.state.request_id)

    def make() -> Iterator[Piece]:
        return chat.answers(workspace, model, messages, asked)

    while True:
        try:
            return await chat.deliver(request, decoder, make, frames if body.stream else whole)
        except RequestError as error:
            shorter = _shorter(messages) if body.truncation == "auto" else None
            if error.code != "context_length_exceeded" or shorter is None:
                raise _renamed(error, body, {"messages": messages}) from None
            messages = shorter


def _finish(body: ResponseRequest, answer: _Answer, model: str, documents: Documents) -> dict[str, Any]:
    """The whole response, kept unless the client does not want that."""
    status = "incomplete" if answer.cut else "completed"
    response = shown(
        body, answer.id, model, answer.created_at, status=status, output=answer.output(), usage=answer.usage,
        completed_at=time.time(),
    )  # fmt: skip
    if body.store is not False:
        items = [kept_item(item, f"msg_in_{answer.key}{i}") for i, item in enumerate(body.items())]
        documents.add("response", {"response": response, "input": items}, id=answer.id)
    return response


async def _frames(
    pieces: AsyncIterator[Piece], body: ResponseRequest, model: str, documents: Documents, request_id: str
) -> AsyncIterator[str]:
    """OpenAI's events in its order; a failure on the way is a last event `error`."""
    answer, number = _Answer(), 0

    def event(kind: str, **values: Any) -> str:
        nonlocal number
        frame = {"type": kind, "sequence_number": number, **values}
        number += 1
        return f"event: {kind}\ndata: {json.dumps(frame, ensure_ascii=False)}\n\n"

    begun = shown(body, answer.id, model, answer.created_at, status="in_progress", output=[])
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    message_id = f"msg_{answer.key}"
    text_at = {"item_id": message_id, "output_index": 0, "content_index": 0}
    try:
        async for piece in pieces:
            first = piece.text and not answer.text
            answer.take(piece)
            if first:
                item = message_item(message_id, None, "in_progress")
                yield event("response.output_item.added", output_index=0, item=item)
                yield event("response.content_part.added", **text_at, part=text_part(""))
            if piece.text:
                yield event("response.output_text.delta", **text_at, delta=piece.text, logprobs=_logprobs(piece))
        for index, item in enumerate(answer.output()):
            if item["type"] == "message":
                if not answer.text:
                    started = message_item(item["id"], None, "in_progress")
                    yield event("response.output_item.added", output_index=0, item=started)
                    yield event("response.content_part.added", **text_at, part=text_part(""))
                yield event("response.output_text.done", **text_at, text=answer.text, logprobs=answer.logprobs)
                part = text_part(answer.text, answer.logprobs)
                yield event("response.content_part.done", **text_at, part=part)
            else:
                started = {**item, "arguments": "", "status": "in_progress"}
                at = {"item_id": item["id"], "output_index": index}
                yield event("response.output_item.added", output_index=index, item=started)
                yield event("response.function_call_arguments.delta", **at, delta=item["arguments"])
                yield event(
                    "response.function_call_arguments.done",
                    **at,
                    name=item["name"],
                    arguments=item["arguments"],
                )
            yield event("response.output_item.done", output_index=index, item=item)
        response = await run_in_threadpool(_finish, body, answer, model, documents)
        yield event(f"response.{response['status']}", response=response)
    except AbandonedError:
        return
    except Exception as error:
        if not isinstance(error, JourneymanError):
            log.exception("request %s failed while streaming", request_id)
        wire = envelope_of(error, request_id)[1].error
        yield event("error", code=wire.code, message=wire.message, param=wire.param)
