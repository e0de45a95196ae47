"""POST /v1/completions: a prompt goes on as it stands, without roles; OpenAI's older API."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from journeyman.api.chat import deliver, drawn
from journeyman.api.errors import envelope_of
from journeyman.api.gate import project_of
from journeyman.api.models import CallableModel, Catalogue
from journeyman.api.pieces import AbandonedError, Decoder
from journeyman.api.rendering import Json
from journeyman.api.wire import MIN_LOGPROB, WireUsage
from journeyman.api.wire_completions import CompletionRequest, TextChoice, TextCompletion, TextLogprobs
from journeyman.errors import JourneymanError
from journeyman.records import Stop, Usage

if TYPE_CHECKING:
    from journeyman.generate.engine import Piece
    from journeyman.generate.logprobs import TokenLogprob
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
        model = await run_in_threadpool(catalogue.find, body.model, project_of(request))
        header = {"id": f"cmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model.id}

        async def whole(pieces: AsyncIterator[Piece]) -> Response:
            return Json((await _collect(pieces, body, header)).model_dump())

        def frames(pieces: AsyncIterator[Piece]) -> AsyncIterator[str]:
            return _frames(pieces, body, header, request.state.request_id)

        def make() -> Iterator[Piece]:
            return _answers(workspace, model, body)

        return await deliver(request, decoder, make, frames if body.stream else whole)

    return routes


def _answers(workspace: Workspace, model: CallableModel, body: CompletionRequest) -> Iterator[Piece]:
    """The pieces of all answers, `tries` of each prompt, the first prompt's first. Runs in a thread."""
    from journeyman.generate.engine import Piece

    prompts = [workspace.prompt(model.source, prompt) for prompt in body.prompts()]
    for number, (text, ids) in enumerate(prompts):
        if body.echo:
            read = () if body.logprobs is None else workspace.prompt_logprobs(model.source, ids, body.logprobs)
            for index in range(body.tries):
                yield Piece(number * body.tries + index, text, logprobs=tuple(read))
    if body.max_tokens == 0:  # only the prompts are wanted back
        for place in range(len(prompts) * body.tries):
            yield Piece(place, "", "length", Usage(len(prompts[place // body.tries][1]), 0))
        return
    sampling = _sampling(body)
    yield from workspace.go_on(
        model.source, [(ids, sampling.nth(index)) for _, ids in prompts for index in range(body.tries)]
    )


def _sampling(body: CompletionRequest) -> Sampling:
    from journeyman.generate.sampling import Sampling

    # The best are chosen by their log-probabilities, wanted or not.
    logprobs = 0 if body.logprobs is None and body.tries > (body.n or 1) else body.logprobs
    max_tokens = min(MAX_TOKENS if body.max_tokens is None else body.max_tokens, 2**31)
    return Sampling(max_tokens=max_tokens, logprobs=logprobs, **drawn(body))


class _Written:
    """One answer as its pieces come: its text, and how probable the model holds it."""

    def __init__(self) -> None:
        self.text = ""
        self.reason: Literal["stop", "length"] | None = None
        self.tokens: list[TokenLogprob] = []

    def take(self, piece: Piece) -> None:
        self.text += piece.text
        self.tokens += [*piece.logprobs, *([piece.ended] if piece.ended else [])]
        if piece.stop is not None:
            self.reason = ENDED[piece.stop]

    @property
    def mean_logprob(self) -> float:
        """By which OpenAI chooses the best: the mean over tokens, not the sum, which would favour short answers."""
        known = [token.logprob for token in self.tokens if token.logprob is not None]
        return sum(known) / len(known) if known else 0.0


def _logprobs(tokens: Sequence[TokenLogprob], before_bytes: bytes = b"") -> TextLogprobs:
    """The engine's log-probabilities as this route writes them; offsets are characters, `before_bytes` what came before."""
    shown = TextLogprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])
    read = before_bytes
    for token in tokens:
        text = token.token.decode("utf-8", "replace")
        shown.tokens.append(text)
        shown.text_offset.append(len(read.decode("utf-8", "ignore")))
        read += token.token
        if token.logprob is None:
            shown.token_logprobs.append(None)
            shown.top_logprobs.append(None)
            continue
        likeliest = {other.decode("utf-8", "replace"): max(value, MIN_LOGPROB) for other, value in token.top}
        shown.token_logprobs.append(max(token.logprob, MIN_LOGPROB))
        shown.top_logprobs.append({text: shown.token_logprobs[-1] or 0.0} | likeliest)
    return shown


class _Tally:
    """Tokens of all answers; each prompt is counted once."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._read: dict[int, int] = {}
        self._cached: dict[int, int] = {}
        self._written = 0

    def add(self, piece: Piece) -> None:
        if piece.usage is not None:
            prompt = piece.index // self._n
            self._read[prompt] = piece.usage.prompt_tokens
            self._cached[prompt] = min(piece.cached_tokens, self._cached.get(prompt, piece.cached_tokens))
            self._written += piece.usage.completion_tokens

    def shown(self) -> WireUsage:
        return WireUsage.of(sum(self._read.values()), self._written, sum(self._cached.values()))


async def _collect(
    pieces: AsyncIterator[Piece], body: CompletionRequest, header: dict[str, Any]
) -> TextCompletion:
    written: dict[int, _Written] = defaultdict(_Written)
    tally = _Tally(body.tries)
    async for piece in pieces:
        written[piece.index].take(piece)
        tally.add(piece)
    choices: list[TextChoice] = []
    for first in range(0, len(written), body.tries):
        tries = [written[place] for place in range(first, first + body.tries)]
        if body.tries > (body.n or 1):
            tries.sort(key=lambda answer: answer.mean_logprob, reverse=True)
        for answer in tries[: body.n or 1]:
            logprobs = None if body.logprobs is None else _logprobs(answer.tokens)
            choice = TextChoice(
                index=len(choices), text=answer.text, logprobs=logprobs, finish_reason=answer.reason
            )
            choices.append(choice)
    return TextCompletion(**header, choices=choices, usage=tally.shown())


async def _frames(
    pieces: AsyncIterator[Piece], body: CompletionRequest, header: dict[str, Any], request_id: str
) -> AsyncIterator[str]:
    usage: dict[str, Any] = {"usage": None} if body.include_usage else {}
    tally = _Tally(body.tries)
    read: dict[int, bytes] = defaultdict(bytes)

    def frame(choices: list[TextChoice], usage: dict[str, Any]) -> str:
        shown = {**header, "object": "text_completion", "choices": [c.model_dump() for c in choices], **usage}
        return f"data: {json.dumps(shown, ensure_ascii=False)}\n\n"

    try:
        async for piece in pieces:
            reason = None if piece.stop is None else ENDED[piece.stop]
            tokens = [*piece.logprobs, *([piece.ended] if piece.ended else [])]
            if piece.text or tokens or reason is not None:
                logprobs = None if body.logprobs is None else _logprobs(tokens, read[piece.index])
                read[piece.index] += b"".join(token.token for token in tokens)
                choice = TextChoice(
                    index=piece.index, text=piece.text, logprobs=logprobs, finish_reason=reason
                )
                yield frame([choice], usage)
            tally.add(piece)
        if body.include_usage:
            yield frame([], {"usage": tally.shown().model_dump()})
        yield "data: [DONE]\n\n"
    except AbandonedError:
        return
    except Exception as error:
        if not isinstance(error, JourneymanError):
            log.exception("request %s failed while streaming", request_id)
        yield f"data: {envelope_of(error, request_id)[1].model_dump_json()}\n\n"
