"""Answering: one base in memory, any number of adapters on it, several requests at once.

Requests of one call that use the same adapter are decoded together, padded on the left; rows that have ended
leave the batch. One forward pass runs at a time: callers from several threads take turns, token by token, so that
a slow reader of one stream holds up nobody.

Shapes: B requests, T prompt tokens, V vocabulary.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache

from journeyman.errors import ModelNotFound, RequestError
from journeyman.generate.constrain import Constraint, Vocabulary
from journeyman.generate.likelihood import Likelihood, likelihoods
from journeyman.generate.sampling import Sampling, adjust, choose, make_generator, own_repetition_penalty
from journeyman.generate.stream import TextStream
from journeyman.plan.shape import ModelShape
from journeyman.records import Answer, Message, Stop, Usage
from journeyman.text.encode import Encoded
from journeyman.text.template import ChatFormat
from journeyman.train import lora
from journeyman.train.load import load_base

MAX_BATCH = 32
"""Requests decoded together; more are answered in turns."""


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
    """

    index: int
    text: str
    stop: Stop | None = None
    usage: Usage | None = None
    calls: tuple[Mapping[str, Any], ...] = ()


class Engine:
    """A base model that answers, with or without one of its adapters.

    `folder` is a model in transformers' format. Raises BaseNotFound where it can't be loaded.
    """

    def __init__(self, folder: Path, *, precision: str = "fp32", device: str = "cpu") -> None:
        model = load_base(folder, precision=precision, device=device)
        self._hold(model, ChatFormat.open(folder), ModelShape.read(folder).context_tokens, device)
        self._own_penalty[None] = own_repetition_penalty(folder)

    @classmethod
    def around(
        cls,
        model: torch.nn.Module,
        chat: ChatFormat,
        *,
        context_tokens: int,
        device: str = "cpu",
        repetition_penalty: float = 1.0,
    ) -> Engine:
        """An engine that answers with a module as it stands, such as one in training; it takes no adapters."""
        engine = cls.__new__(cls)
        engine._hold(model, chat, context_tokens, device)
        engine._own_penalty[None] = repetition_penalty
        return engine

    def _hold(self, model: Any, chat: ChatFormat, context_tokens: int, device: str) -> None:
        self.chat = chat
        self.context_tokens = context_tokens
        self.device = device
        self._model: Any = model
        # transformers 5 renames the argument family by family, and drops the old name in 5.40
        known = inspect.signature(self._model.forward).parameters
        self._cache_argument = "cache" if "cache" in known else "past_key_values"
        self._vocabulary = Vocabulary(chat)
        self._adapters: dict[str, str] = {}
        self._own_penalty: dict[str | None, float] = {None: 1.0}
        self._active: str | None = None
        self._lock = threading.Lock()

    @property
    def model(self) -> torch.nn.Module:
        """The module itself, for measurements."""
        module: torch.nn.Module = self._model
        return module

    def add_adapter(self, name: str, folder: Path) -> None:
        """Make an adapter callable under `name`; nothing happens if it already is.

        Raises CheckpointError where it was not trained on this base.
        """
        with self._lock:
            if name not in self._adapters:
                key = f"a{len(self._adapters)}"
                lora.load_adapter(self._model, key, folder)
                self._own_penalty[name] = own_repetition_penalty(folder, default=self._own_penalty[None])
                self._adapters[name] = key

    def likelihoods(self, rows: Sequence[Encoded], *, adapter: str | None = None) -> list[Likelihood]:
        """How probable the base, or an adapter on it, holds each row's learned tokens."""
        with self._lock:
            self._activate(adapter)
            return likelihoods(self._model, rows, context_tokens=self.context_tokens, device=self.device)

    def activate(self, name: str | None) -> None:
        """Let the module compute with this adapter, or bare, outside of answering (measurements)."""
        with self._lock:
            self._activate(name)

    def _activate(self, name: str | None) -> None:
        if name != self._active:
            lora.activate(self._model, self._adapters[name] if name else None)
            self._active = name

    def answer(
        self, messages: Sequence[Message], *, adapter: str | None = None, sampling: Sampling
    ) -> Answer:
        """Answer one conversation."""
        request = Request(tuple(self.chat.prompt_ids(messages)), adapter, sampling)
        return self.answers([request])[0]

    def answers(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer many requests; the order is kept."""
        started_s = time.perf_counter()
        texts = [""] * len(requests)
        answers: list[Answer | None] = [None] * len(requests)
        for piece in self.stream(requests):
            texts[piece.index] += piece.text
            if piece.stop is not None and piece.usage is not None:
                latency_s = time.perf_counter() - started_s
                answers[piece.index] = Answer(texts[piece.index], piece.stop, piece.usage, latency_s)
        return [a for a in answers if a is not None]

    def stream(self, requests: Sequence[Request]) -> Iterator[Piece]:
        """Answer requests, yielding text as it comes; pieces of different requests are interleaved.

        Raises RequestError where a prompt leaves no room in the context or a schema can't be followed, before
        anything is answered.
        """
        for request in requests:
            self._check(request)
        order = sorted(
            range(len(requests)), key=lambda i: (requests[i].adapter or "", len(requests[i].prompt_ids))
        )
        start = 0
        while start < len(order):
            adapter = requests[order[start]].adapter
            group = [i for i in order[start : start + MAX_BATCH] if requests[i].adapter == adapter]
            start += len(group)
            yield from self._decode([requests[i] for i in group], group, adapter)

    def _check(self, request: Request) -> None:
        if request.adapter is not None and request.adapter not in self._adapters:
            raise ModelNotFound(f"the adapter {request.adapter!r} is not loaded")
        if len(request.prompt_ids) >= self.context_tokens:
            raise RequestError(
                f"this model's context is {self.context_tokens} tokens, and the messages have "
                f"{len(request.prompt_ids)}",
                where="messages",
                fix="shorten the messages",
                code="context_length_exceeded",
            )
        self._constraint(request)

    def _constraint(self, request: Request) -> Constraint | None:
        return Constraint.of(request.sampling, self._vocabulary)

    def _decode(
        self, requests: Sequence[Request], indices: Sequence[int], adapter: str | None
    ) -> Iterator[Piece]:
        """Decode one batch, all with the same adapter, to its end. No lock or torch mode is held while yielding."""
        rows = [
            _Row(i, r, self.chat, self.context_tokens, self._constraint(r))
            for i, r in zip(indices, requests, strict=True)
        ]
        ids_BT, mask_BT = self._left_padded(requests)
        cache = DynamicCache(config=self._model.config)
        while rows:
            logits_BV = self._next_logits(ids_BT, mask_BT, cache, adapter)
            own_penalty = self._own_penalty[adapter]
            logits_BV = torch.stack(
                [row.adjust(logits_V, own_penalty) for row, logits_V in zip(rows, logits_BV, strict=True)]
            )
            chosen = choose(
                logits_BV, [row.request.sampling for row in rows], [row.generator for row in rows]
            )
            next_ids, alive = [], []
            for position, (row, token_id) in enumerate(zip(rows, chosen, strict=True)):
                piece = row.push(token_id)
                if piece is not None:
                    yield piece
                if not row.done:
                    next_ids.append(token_id)
                    alive.append(position)
            if len(alive) < len(rows):
                rows = [rows[p] for p in alive]
                keep_B = torch.tensor(alive, device=self.device, dtype=torch.long)
                mask_BT = mask_BT[keep_B]
                if rows:
                    cache.batch_select_indices(keep_B)
            ids_BT = torch.tensor(next_ids, device=self.device).unsqueeze(-1)
            mask_BT = torch.nn.functional.pad(mask_BT, (0, 1), value=1)

    def _next_logits(
        self, ids_BT: torch.Tensor, mask_BT: torch.Tensor, cache: DynamicCache, adapter: str | None
    ) -> torch.Tensor:
        """One forward pass; `cache` takes up the tokens."""
        positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)[:, -ids_BT.shape[1] :]
        with self._lock, torch.inference_mode():
            self._activate(adapter)
            logits_BV: torch.Tensor = self._model(
                input_ids=ids_BT,
                attention_mask=mask_BT if bool((mask_BT == 0).any()) else None,
                position_ids=positions_BT,
                use_cache=True,
                logits_to_keep=1,
                **{self._cache_argument: cache},
            ).logits[:, -1]
        return logits_BV

    def _left_padded(self, requests: Sequence[Request]) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(len(r.prompt_ids) for r in requests)
        ids_BT = torch.zeros(len(requests), width, dtype=torch.long)
        mask_BT = torch.zeros(len(requests), width, dtype=torch.long)
        for row, request in enumerate(requests):
            ids_BT[row, width - len(request.prompt_ids) :] = torch.tensor(request.prompt_ids)
            mask_BT[row, width - len(request.prompt_ids) :] = 1
        return ids_BT.to(self.device), mask_BT.to(self.device)


class _Row:
    """One request while it is decoded."""

    def __init__(
        self,
        index: int,
        request: Request,
        chat: ChatFormat,
        context_tokens: int,
        constraint: Constraint | None,
    ) -> None:
        self.index = index
        self.request = request
        self.generator = make_generator(request.sampling)
        self.done = False
        self._chat = chat
        self._constraint = constraint
        self._text = TextStream(chat, request.sampling.stop)
        self._written_ids: list[int] = []
        self._room = min(request.sampling.max_tokens, context_tokens - len(request.prompt_ids))

    def adjust(self, logits_V: torch.Tensor, own_penalty: float) -> torch.Tensor:
        """The logits with what the request asks for, given what it has written."""
        logits_V = adjust(
            logits_V, self.request.sampling, self.request.prompt_ids, self._written_ids, own_penalty
        )
        return logits_V if self._constraint is None else self._constraint.mask(logits_V)

    def push(self, token_id: int) -> Piece | None:
        """Take the next token; return a piece where there is text to show or the answer has ended."""
        self._written_ids.append(token_id)
        if token_id in self._chat.stop_ids:
            return self._end(self._text.finish(), "end")
        if self._constraint is not None:
            self._constraint.take(token_id)
        text = self._text.push(token_id)
        if self._text.stopped:
            return self._end(text, "end")
        if len(self._written_ids) >= self._room:
            return self._end(text + self._text.finish(), "length")
        return Piece(self.index, text) if text else None

    def _end(self, text: str, stop: Stop) -> Piece:
        self.done = True
        return Piece(self.index, text, stop, Usage(len(self.request.prompt_ids), len(self._written_ids)))
