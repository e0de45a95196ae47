"""POST /v1/completions: a prompt goes on as it stands, without roles; OpenAI's older API."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, cast

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from journeyman.api.chat import deliver
from journeyman.api.errors import envelope_of
from journeyman.api.models import CallableModel, Catalogue
from journeyman.api.pieces import AbandonedError, Decoder
from journeyman.api.wire import MAX_SEED
from journeyman.api.wire_completions import CompletionRequest, TextChoice, TextCompletion
from journeyman.errors import JourneymanError
from journeyman.records import Stop, Usage

if TYPE_CHECKING:
    from collections.abc import Generator

    from journeyman.generate.engine import Piece
    from journeyman.generate.sampling import Sampling
    from journeyman.workspace import Workspace

MAX_TOKENS = 16
"""OpenAI's default for this route."""

ENDED: Mapping[Stop, Literal["stop", "length"]] = {"end": "stop", "length": "length", "cancelled": "stop"}

log = logging.getLogger("journeyman.api")


def router(workspace: Workspace, catalogue: Catalogue, decoder: Decoder) -> APIRouter:
    """The route of completions."""
    routes = APIRouter(prefix="/v1")

    @routes.post("/completions", response_model=TextCompletion)
    async def create_completion(body: CompletionRequest, request: Request) -> Response:
        """Go on from a prompt, whole or as a stream of server-sent events."""
        body.check()
        model = await run_in_threadpool(catalogue.find, body.model)
        header = {"id": f"cmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model.id}

        async def whole(pieces: AsyncIterator[Piece]) -> Response:
            return JSONResponse((await _collect(pieces, header, body.n or 1)).model_dump())

        def frames(pieces: AsyncIterator[Piece]) -> AsyncIterator[str]:
            return _frames(pieces, body, header, request.state.request_id)

        def make() -> Iterator[Piece]:
            return _answers(workspace, model, body)

        return await deliver(request, decoder, make, frames if body.stream else whole)

    return routes


def _answers(workspace: Workspace, model: CallableModel, body: CompletionRequest) -> Iterator[Piece]:
    """The pieces of all answers: `n` of each prompt, the first prompt's first. Runs in a thread."""
    prompts = [workspace.prompt(model.source, prompt) for prompt in body.prompts()]
    n = body.n or 1
    for number, (text, ids) in enumerate(prompts):
        for index in range(n):
            yield from _answer(
                workspace, model, body, ids, index, number * n + index, text if body.echo else ""
            )


def _answer(
    workspace: Workspace,
    model: CallableModel,
    body: CompletionRequest,
    ids: Sequence[int],
    index: int,
    place: int,
    echo: str,
) -> Iterator[Piece]:
    if body.max_tokens == 0:  # only the prompt is wanted back
        from journeyman.generate.engine import Piece

        yield Piece(place, echo, "length", Usage(len(ids), 0))
        return
    pieces = workspace.go_on(model.source, ids, _sampling(body, index))
    with closing(cast("Generator[Piece, None, None]", pieces)):
        for piece in pieces:
            yield replace(piece, index=place, text=echo + piece.text)
            echo = ""


def _sampling(body: CompletionRequest, index: int) -> Sampling:
    from journeyman.generate.sampling import Sampling

    seed = None if body.seed is None else (body.seed + index) % (MAX_SEED + 1)
    return Sampling(
        max_tokens=min(MAX_TOKENS if body.max_tokens is None else body.max_tokens, 2**31),
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=seed,
        stop=tuple(body.stop or ()),
        frequency_penalty=body.frequency_penalty or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        logit_bias={int(token_id): bias for token_id, bias in (body.logit_bias or {}).items()},
    )


class _Tally:
    """Tokens of all answers; each prompt is counted once."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._read: dict[int, int] = {}
        self._written = 0

    def add(self, piece: Piece) -> None:
        if piece.usage is not None:
            self._read[piece.index // self._n] = piece.usage.prompt_tokens
            self._written += piece.usage.completion_tokens

    def shown(self) -> dict[str, int]:
        read = sum(self._read.values())
        return {
            "prompt_tokens": read,
            "completion_tokens": self._written,
            "total_tokens": read + self._written,
        }


async def _collect(pieces: AsyncIterator[Piece], header: dict[str, Any], n: int) -> TextCompletion:
    texts: dict[int, str] = defaultdict(str)
    reasons: dict[int, Literal["stop", "length"]] = {}
    tally = _Tally(n)
    async for piece in pieces:
        texts[piece.index] += piece.text
        if piece.stop is not None:
            reasons[piece.index] = ENDED[piece.stop]
        tally.add(piece)
    choices = [
        TextChoice(index=index, text=texts[index], finish_reason=reason)
        for index, reason in sorted(reasons.items())
    ]
    return TextCompletion(**header, choices=choices, usage=tally.shown())


async def _frames(
    pieces: AsyncIterator[Piece], body: CompletionRequest, header: dict[str, Any], request_id: str
) -> AsyncIterator[str]:
    usage: dict[str, Any] = {"usage": None} if body.include_usage else {}
    tally = _Tally(body.n or 1)

    def frame(choices: list[TextChoice], usage: dict[str, Any]) -> str:
        shown = {**header, "object": "text_completion", "choices": [c.model_dump() for c in choices], **usage}
        return f"data: {json.dumps(shown, ensure_ascii=False)}\n\n"

    try:
        async for piece in pieces:
            reason = None if piece.stop is None else ENDED[piece.stop]
            if piece.text or reason is not None:
                yield frame([TextChoice(index=piece.index, text=piece.text, finish_reason=reason)], usage)
            tally.add(piece)
        if body.include_usage:
            yield frame([], {"usage": tally.shown()})
        yield "data: [DONE]\n\n"
    except AbandonedError:
        return
    except Exception as error:
        if not isinstance(error, JourneymanError):
            log.exception("request %s failed while streaming", request_id)
        yield f"data: {envelope_of(error, request_id)[1].model_dump_json()}\n\n"
