"""One request while it is answered: its tokens, what may come next, and the text that can be shown."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from journeyman.generate.blocks import Holding
from journeyman.generate.constrain import Constraint, Vocabulary
from journeyman.generate.logprobs import LogprobStream, TokenLogprob, token_logprob
from journeyman.generate.sampling import Adjustment, Sampling, make_generator
from journeyman.generate.stream import TextStream
from journeyman.records import Stop, Usage
from journeyman.text.template import ChatFormat

PIECE_S = 0.04
"""Text that comes sooner after the last piece waits for more of it. Nobody sees 25 pieces a second as steps, and each one costs
its way through threads, event loop and socket: with many streams at once, as much as a small model's own work."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to answer, with which adapter (None: the bare base), and how."""

    prompt_ids: tuple[int, ...]
    adapter: str | None = None
    sampling: Sampling = Sampling()


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of one request's answer as it comes. `stop` is set on its last piece, with the usage.

    `calls` are tool calls in OpenAI's form, where they were asked for; the engine itself writes text only.
    `logprobs` are those of the tokens that `text` ends, where they were asked for, and `ended` that of the token by which
    the answer ended, which is no part of its text. `cached_tokens`, on the last piece, are those of the prompt that had
    been computed for an earlier request: they hang on what came before, so that equal answers may differ in them.
    """

    index: int
    text: str
    stop: Stop | None = None
    usage: Usage | None = None
    calls: tuple[Mapping[str, Any], ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    ended: TokenLogprob | None = None
    cached_tokens: int = field(default=0, compare=False)


Sink = Callable[[Piece | BaseException], None]
"""Where pieces go, called in the engine's thread: it must not wait. An exception is the last thing it is given."""


class Row:
    """A request on its way through the engine.

    `ids` are all tokens so far, prompt and answer; of these the keys and values of the first `computed` are in
    `holding`. The answer goes on when all have been computed. It has at most `room` tokens.
    """

    def __init__(
        self,
        index: int,
        request: Request,
        sink: Sink,
        *,
        chat: ChatFormat,
        context_tokens: int,
        vocabulary: Vocabulary,
        own_penalty: float,
    ) -> None:
        self.index = index
        self.request = request
        self.adapter = request.adapter
        self.sampling = request.sampling
        self.sink = sink
        self.generator = make_generator(request.sampling)
        self.ids = list(request.prompt_ids)
        self.computed = 0
        self.cached_tokens: int | None = None
        self.holding: Holding | None = None
        self.cache: Any = None
        self.deadline = 0
        self.cancelled = False
        self.done = False
        self._prompt_tokens = len(request.prompt_ids)
        self._chat = chat
        self._vocabulary = vocabulary
        self._constraint = Constraint.of(request.sampling, vocabulary)
        self._logprobs = None if request.sampling.logprobs is None else LogprobStream()
        self._adjustment = Adjustment(request.sampling, request.prompt_ids, own_penalty)
        self._text = TextStream(chat, request.sampling.stop)
        self._waiting = ""
        self._due_s = 0.0
        self.room = min(request.sampling.max_tokens, context_tokens - self._prompt_tokens)

    @property
    def pending(self) -> int:
        """Tokens still to compute before the next can be chosen."""
        return len(self.ids) - self.computed

    @property
    def repetition_penalty(self) -> float:
        """The request's, else the model's own."""
        return self._adjustment.repetition

    @property
    def written_ids(self) -> Sequence[int]:
        """The answer so far."""
        return self.ids[self._prompt_tokens :]

    def adjust(self, logits_V: torch.Tensor) -> None:
        """Change the logits in place to what the request asks for, given what it has written."""
        if self._adjustment.changes:
            self._adjustment.apply(logits_V)
        if self._constraint is not None:
            logits_V.copy_(self._constraint.mask(logits_V))

    @property
    def wants_logprobs(self) -> bool:
        """Whether `push` is to be told how probable the model held the token."""
        return self._logprobs is not None

    def logprob(self, token_id: int, own_logits_V: torch.Tensor) -> TokenLogprob:
        """How probable a token was at the model's own logits, and the likeliest in its place, as many as were asked for."""
        return token_logprob(self._vocabulary, token_id, own_logits_V, self.sampling.logprobs or 0)

    def push(self, token_id: int, told: TokenLogprob | None = None) -> Piece | None:
        """Take the next token; return a piece where the answer has ended, or there is text and PIECE_S are over."""
        self.ids.append(token_id)
        self._adjustment.take(token_id)
        if token_id in self._chat.stop_ids:
            return replace(self._end(self._text.finish(), "end"), ended=told)
        if self._logprobs is not None and told is not None:
            self._logprobs.push(told)
        if self._constraint is not None:
            self._constraint.take(token_id)
        text = self._text.push(token_id)
        if self._text.stopped:
            return self._end(text, "end", cut=True)
        if len(self.ids) - self._prompt_tokens >= self.room:
            return self._end(text + self._text.finish(), "length")
        self._waiting += text
        if not self._waiting or (now_s := time.monotonic()) < self._due_s:
            return None
        self._due_s = now_s + PIECE_S
        text, self._waiting = self._waiting, ""
        return Piece(self.index, text, logprobs=self._shown(text))

    def fail(self, error: BaseException) -> None:
        """End with an error."""
        self.done = True
        self.sink(error)

    def _shown(self, text: str, *, end: bool = False) -> tuple[TokenLogprob, ...]:
        return () if self._logprobs is None else self._logprobs.shown(text, end=end)

    def _end(self, text: str, stop: Stop, *, cut: bool = False) -> Piece:
        """The last piece; of an answer that a stop text has `cut`, the tokens beyond it are not told."""
        self.done = True
        text = self._waiting + text
        usage = Usage(self._prompt_tokens, len(self.ids) - self._prompt_tokens)
        return Piece(
            self.index, text, stop, usage, logprobs=self._shown(text, end=not cut), cached_tokens=self.cached_tokens or 0
        )


@dataclass(frozen=True, slots=True)
class Segment:
    """The next `tokens` tokens of a row, to be computed in this pass."""

    row: Row
    tokens: int

    @property
    def last(self) -> bool:
        """Whether the row's next token can be chosen afterwards."""
        return self.tokens == self.row.pending
