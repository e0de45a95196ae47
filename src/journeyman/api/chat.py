"""POST /v1/chat/completions: one request to the workspace, answered whole or as a stream of frames."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool

from journeyman import __version__
from journeyman.api import stored
from journeyman.api.errors import envelope_of
from journeyman.api.gate import project_of
from journeyman.api.models import CallableModel, Catalogue
from journeyman.api.pieces import AbandonedError, Decoder, Pieces
from journeyman.api.wire import (
    FINISH_REASONS,
    AnswerMessage,
    CallDelta,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatRequest,
    ChunkChoice,
    Delta,
    FinishReason,
    FunctionDelta,
    Logprobs,
    ToolCall,
    WireUsage,
    wire_logprobs,
)
from journeyman.errors import JourneymanError
from journeyman.records import Message, Stop

if TYPE_CHECKING:
    from journeyman.api.wire_completions import CompletionRequest
    from journeyman.generate.engine import Piece
    from journeyman.generate.logprobs import TokenLogprob
    from journeyman.generate.sampling import Sampling
    from journeyman.workspace import Workspace

TO_THE_END = 2**31
"""Without `max_tokens` an answer may fill the context: the engine stops there."""

CLIENT_GONE = 499
"""nginx's status for a request whose client has left; nobody reads it."""

log = logging.getLogger("journeyman.api")


@dataclass(frozen=True, slots=True)
class _Header:
    """What every frame of one completion repeats."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def fingerprint(self) -> str:
        """Changes when the model or this software does: a seed repeats an answer while it stays."""
        return f"fp_{hashlib.sha256(f'{self.model} {__version__}'.encode()).hexdigest()[:10]}"


async def complete(
    body: ChatRequest, request: Request, workspace: Workspace, catalogue: Catalogue, decoder: Decoder
) -> Response:
    """Answer a chat request. What is refused before the first token is refused with a status, streaming or not."""
    body.check()
    messages = body.conversation()
    model = await run_in_threadpool(catalogue.find, body.model, project_of(request))
    header = _Header(model.id)
    request_id = request.state.request_id

    async def store(completion: ChatCompletion) -> None:
        if body.store:
            documents = workspace.documents.of(project_of(request))
            await run_in_threadpool(stored.keep, documents, body, messages, completion, request_id)

    async def whole(pieces: AsyncIterator[Piece]) -> Response:
        completion = await _collect(pieces, body, header)
        await store(completion)
        return Response(completion.model_dump_json(), media_type="application/json")

    def frames(pieces: AsyncIterator[Piece]) -> AsyncIterator[str]:
        return _frames(pieces, body, header, request_id, store)

    def make() -> Iterator[Piece]:
        return answers(workspace, model, messages, body)

    return await deliver(request, decoder, make, frames if body.stream else whole)


async def deliver(
    request: Request,
    decoder: Decoder,
    make: Callable[[], Iterator[Piece]],
    send: Callable[[AsyncIterator[Piece]], AsyncIterator[str] | Awaitable[Response]],
) -> Response:
    """The pieces that `make` gives, in a thread, sent as a whole response or as a stream of frames.

    Nothing is sent before the first piece is here, so that a refusal has a status of its own. A client that leaves ends
    the decoding.
    """
    pieces = decoder.start(make)
    watch: asyncio.Task[None] | None = asyncio.create_task(_close_when_gone(request, pieces))
    try:
        arriving = aiter(pieces)
        sent = send(_chain(await anext(arriving), arriving))
        if isinstance(sent, Awaitable):
            return await sent
        stream, watch = _guarded(sent, pieces, watch), None
        return StreamingResponse(
            stream,
            media_type="text/event-stream",
            headers={"cache-control": "no-cache", "x-accel-buffering": "no"},
        )
    except AbandonedError:
        return Response(status_code=CLIENT_GONE)
    except BaseException:
        pieces.close()
        raise
    finally:
        if watch is not None:
            watch.cancel()


def answers(
    workspace: Workspace, model: CallableModel, messages: tuple[Message, ...], body: ChatRequest
) -> Iterator[Piece]:
    """The pieces of all `n` answers. Runs in a thread: it loads torch and the model."""
    return workspace.stream(
        model.source,
        messages,
        sampling_of(body),
        tools=body.offered_tools(),
        use=body.tool_use(),
        n=body.n or 1,
    )


def sampling_of(body: ChatRequest) -> Sampling:
    """How the first answer is sampled, by OpenAI's defaults; the engine gives each of `n` answers a seed of its own."""
    from journeyman.generate.sampling import Sampling

    return Sampling(
        max_tokens=min(body.max_completion_tokens or body.max_tokens or TO_THE_END, TO_THE_END),
        json_schema=body.json_schema_text(),
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        **drawn(body),
    )


def drawn(body: ChatRequest | CompletionRequest) -> dict[str, Any]:
    """What both routes' requests say of how tokens are drawn, as fields of a Sampling."""
    return {
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "seed": body.seed,
        "stop": tuple(body.stop or ()),
        "frequency_penalty": body.frequency_penalty or 0.0,
        "presence_penalty": body.presence_penalty or 0.0,
        "logit_bias": {int(token_id): bias for token_id, bias in (body.logit_bias or {}).items()},
    }


# ── whole ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def _collect(pieces: AsyncIterator[Piece], body: ChatRequest, header: _Header) -> ChatCompletion:
    n = body.n or 1
    texts = [""] * n
    calls: list[list[ToolCall]] = [[] for _ in range(n)]
    reasons: list[FinishReason] = ["stop"] * n
    logprobs: list[list[TokenLogprob]] = [[] for _ in range(n)]
    meter = _Meter()
    async for piece in pieces:
        texts[piece.index] += piece.text
        logprobs[piece.index] += piece.logprobs
        calls[piece.index] += [ToolCall.model_validate(call) for call in piece.calls]
        if piece.stop is not None:
            reasons[piece.index] = _reason(piece.stop, body, called=bool(calls[piece.index]))
        meter.add(piece)
    return ChatCompletion(
        id=header.id,
        created=header.created,
        model=header.model,
        system_fingerprint=header.fingerprint,
        choices=[
            ChatChoice(
                index=index,
                message=_message(texts[index], calls[index], older=bool(body.functions)),
                logprobs=wire_logprobs(logprobs[index]) if body.logprobs else None,
                finish_reason=reasons[index],
            )
            for index in range(n)
        ],
        usage=meter.usage,
    )


def _message(text: str, calls: list[ToolCall], *, older: bool) -> AnswerMessage:
    """The turn; one that only calls has no content, as OpenAI has it. Who sent `functions` is answered in that form."""
    if not calls:
        return AnswerMessage(content=text)
    if older:
        return AnswerMessage(content=text or None, function_call=calls[0].function)
    return AnswerMessage(content=text or None, tool_calls=calls)


def _reason(stop: Stop, body: ChatRequest, *, called: bool) -> FinishReason:
    if called and stop == "end":
        return "function_call" if body.functions else "tool_calls"
    return FINISH_REASONS[stop]


class _Meter:
    """Tokens of all answers of one request. The prompt is read once and counted once, as OpenAI does."""

    def __init__(self) -> None:
        self._read = 0
        self._written = 0
        self._cached: list[int] = []

    def add(self, piece: Piece) -> None:
        if piece.usage is not None:
            self._read = piece.usage.prompt_tokens
            self._written += piece.usage.completion_tokens
            self._cached.append(piece.cached_tokens)

    @property
    def usage(self) -> WireUsage:
        # Of several answers all but the first find the prompt that the first has just computed.
        return WireUsage.of(self._read, self._written, min(self._cached, default=0))


# ── streaming ─────────────────────────────────────────────────────────────────────────────────────────────────


async def _frames(
    pieces: AsyncIterator[Piece],
    body: ChatRequest,
    header: _Header,
    request_id: str,
    store: Callable[[ChatCompletion], Awaitable[None]],
) -> AsyncIterator[str]:
    """Server-sent events: role, text, tool calls, finish reason for each answer, usage if asked for, [DONE].

    A failure on the way is a last frame with an error, which the SDKs raise.
    """
    usage: dict[str, Any] = {"usage": None} if body.include_usage else {}
    meter, begun, called = _Meter(), dict[int, _TextFrames](), Counter[int]()
    seen: list[Piece] = []
    try:
        async for piece in pieces:
            seen += [piece] if body.store else []
            if piece.index not in begun:
                begun[piece.index] = _TextFrames(header, piece.index, usage)
                yield _frame(
                    header, [_choice(piece.index, Delta(role="assistant", content="", refusal=None))], usage
                )
            if piece.logprobs and body.logprobs:
                logprobs = wire_logprobs(piece.logprobs)
                yield _frame(header, [_choice(piece.index, Delta(content=piece.text), logprobs=logprobs)], usage)
            elif piece.text:
                yield begun[piece.index].of(piece.text)
            for call in piece.calls:
                for delta in _call_deltas(call, called[piece.index]):
                    change = Delta(function_call=delta.function) if body.functions else Delta(tool_calls=[delta])
                    yield _frame(header, [_choice(piece.index, change)], usage)
                called[piece.index] += 1
            if piece.stop is not None:
                reason = _reason(piece.stop, body, called=called[piece.index] > 0)
                yield _frame(header, [_choice(piece.index, Delta(), reason)], usage)
            meter.add(piece)
        if body.include_usage:
            yield _frame(header, [], {"usage": meter.usage})
        if body.store:  # before the end, so that it can be retrieved as soon as the client has read it
            await store(await _collect(_again(seen), body, header))
        yield "data: [DONE]\n\n"
    except AbandonedError:
        return
    except Exception as error:
        if not isinstance(error, JourneymanError):
            log.exception("request %s failed while streaming", request_id)
        yield f"data: {envelope_of(error, request_id)[1].model_dump_json()}\n\n"


def _call_deltas(call: Mapping[str, Any], index: int) -> tuple[CallDelta, CallDelta]:
    """A call in two frames, as OpenAI streams it: what is called, then with which arguments."""
    function = call["function"]
    begin = FunctionDelta(name=function["name"], arguments="")
    return (
        CallDelta(index=index, id=call["id"], type="function", function=begin),
        CallDelta(index=index, function=FunctionDelta(arguments=function["arguments"])),
    )


def _choice(
    index: int, delta: Delta, finish_reason: FinishReason | None = None, logprobs: Logprobs | None = None
) -> ChunkChoice:
    return ChunkChoice(index=index, delta=delta, logprobs=logprobs, finish_reason=finish_reason)


class _TextFrames:
    """Frames of one answer that differ in their text only: written once, with a place for the text."""

    def __init__(self, header: _Header, index: int, usage: dict[str, Any]) -> None:
        # Found nowhere else in a frame: JSON escapes the quotes inside of its strings.
        empty = '"content":""'
        self._before, _, self._after = _frame(header, [_choice(index, Delta(content=""))], usage).rpartition(empty)

    def of(self, text: str) -> str:
        """The frame of a text."""
        return f'{self._before}"content":{to_json(text).decode()}{self._after}'


def _frame(header: _Header, choices: list[ChunkChoice], usage: dict[str, Any]) -> str:
    chunk = ChatChunk(
        id=header.id,
        object="chat.completion.chunk",
        created=header.created,
        model=header.model,
        system_fingerprint=header.fingerprint,
        service_tier="default",
        choices=choices,
        **usage,
    )
    return f"data: {chunk.model_dump_json(exclude_unset=True)}\n\n"


# ── clients that leave ────────────────────────────────────────────────────────────────────────────────────────


async def _close_when_gone(request: Request, pieces: Pieces[Piece]) -> None:
    """Close the decoding when the client disconnects, so that nobody's answer holds the engine."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    pieces.close()


async def _guarded(
    frames: AsyncIterator[str], pieces: Pieces[Piece], watch: asyncio.Task[None] | None
) -> AsyncIterator[str]:
    """The frames; however their sending ends, the decoding ends with it."""
    try:
        async for frame in frames:
            yield frame
    finally:
        pieces.close()
        if watch is not None:
            watch.cancel()


async def _again(pieces: list[Piece]) -> AsyncIterator[Piece]:
    for piece in pieces:
        yield piece


async def _chain(first: Piece, rest: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
    """A piece that has come already, and the rest."""
    yield first
    async for piece in rest:
        yield piece
