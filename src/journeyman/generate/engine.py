"""Answering: one base in memory, any number of adapters on it, any number of requests at once.

The loop (`loop.py`) answers in a thread of its own; here are its callers' ways in. A slow reader of one stream holds up
nobody, and one that goes away frees its row.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from journeyman.errors import ModelNotFound, RequestError
from journeyman.generate.adapters import MAX_ADAPTERS, Adapters
from journeyman.generate.arriving import Arriving
from journeyman.generate.constrain import Vocabulary
from journeyman.generate.crew import Adapter, Crew, CrewQueue, Model, Queue
from journeyman.generate.forward import is_small, make_forward
from journeyman.generate.likelihood import Likelihood, likelihoods, prompt_logits
from journeyman.generate.logprobs import TokenLogprob, bytes_of, token_logprob
from journeyman.generate.loop import MAX_ROWS, MAX_WAITING, Load, Loop
from journeyman.generate.packed import can_pack, pack
from journeyman.generate.row import Piece, Request, Row, Sink
from journeyman.generate.sampling import Sampling, own_repetition_penalty
from journeyman.plan.shape import ModelShape
from journeyman.records import Answer, Message
from journeyman.text.encode import Encoded
from journeyman.text.template import ChatFormat
from journeyman.train import lora
from journeyman.train.load import load_base
from journeyman.train.workers import in_passing

KV_BYTES = 2**30
"""Keys and values in memory, those of running rows and those that are kept for prompts that begin alike."""

__all__ = ["Engine", "Piece", "Request"]


class Engine:
    """A base model that answers, with or without one of its adapters.

    `folder` is a model in transformers' format. `kv_bytes` bounds the keys and values in memory (never below one whole
    context), `max_adapters` the adapters. With a `crew`, its processes answer where the model is small. Raises BaseNotFound where the model can't be loaded.
    """

    _loop: Queue

    def __init__(
        self,
        folder: Path,
        *,
        precision: str = "fp32",
        device: str = "cpu",
        kv_bytes: int = KV_BYTES,
        max_adapters: int = MAX_ADAPTERS,
        max_rows: int = MAX_ROWS,
        max_waiting: int = MAX_WAITING,
        crew: Crew | None = None,
    ) -> None:
        model = in_passing(_load, folder, precision, device)
        self._adapters: Adapters | None = Adapters(model, device, max_adapters)
        context_tokens = ModelShape.read(folder).context_tokens
        self._hold(model, ChatFormat.open(folder), context_tokens, device, kv_bytes, max_rows, max_waiting)
        self._own_penalty[None] = own_repetition_penalty(folder)
        if crew is not None and device == "cpu" and is_small(model):
            shared = Model(folder, precision, kv_bytes // len(crew))
            self._loop = CrewQueue(crew, shared, self._known, self._loop, max_rows=max_rows, max_waiting=max_waiting)

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
        engine._adapters = None
        engine._hold(model, chat, context_tokens, device, KV_BYTES, MAX_ROWS, MAX_WAITING)
        engine._own_penalty[None] = repetition_penalty
        return engine

    def _hold(
        self,
        model: Any,
        chat: ChatFormat,
        context_tokens: int,
        device: str,
        kv_bytes: int,
        max_rows: int,
        max_waiting: int,
    ) -> None:
        self.chat = chat
        self.context_tokens = context_tokens
        self.device = device
        self._model: Any = model
        self._vocabulary = Vocabulary(chat)
        self._own_penalty: dict[str | None, float] = {None: 1.0}
        self._known: dict[str, Adapter] = {}
        self._lock = threading.Lock()
        forward = make_forward(
            model,
            device=device,
            kv_bytes=kv_bytes,
            context_tokens=context_tokens,
            max_rows=max_rows,
            own=self._adapters is not None,
        )
        self._loop = Loop(forward, self._adapters, self._lock, max_rows=max_rows, max_waiting=max_waiting)

    @property
    def load(self) -> Load:
        """What the engine is at, and has done: for measurements."""
        return self._loop.load

    def count_anew(self) -> None:
        """Forget what was answered so far, as after a rehearsal."""
        assert isinstance(self._loop, Loop)
        self._loop.load = Load()

    @property
    def model(self) -> torch.nn.Module:
        """The module itself, for measurements."""
        module: torch.nn.Module = self._model
        return module

    @property
    def adapters(self) -> int:
        """How many adapters are in memory."""
        return 0 if self._adapters is None else len(self._adapters)

    def knows(self, adapter: str) -> bool:
        """Whether an adapter was added."""
        return self._adapters is not None and adapter in self._adapters

    def add_adapter(self, name: str, folder: Path, *, repetition_penalty: float | None = None) -> None:
        """Make an adapter callable under `name`; nothing happens if it already is. Streams go on while it is read.

        Its repetition penalty is this one, else what its folder says, else the base's.
        Raises CheckpointError where it was not trained on this base.
        """
        assert self._adapters is not None, "an engine around a module takes no adapters"
        if name in self._adapters:
            return
        adapter = in_passing(self._adapters.read, name, folder)
        self._own_penalty[name] = repetition_penalty or own_repetition_penalty(folder, default=self._own_penalty[None])
        with self._lock:
            self._adapters.add(name, folder, adapter)
        self._known[name] = Adapter(name, folder, self._own_penalty[name])

    def drop_adapter(self, name: str) -> None:
        """Take an adapter that answers nobody out of memory, and know it no longer; nothing happens to another."""
        if self._adapters is not None:
            with self._lock:
                self._adapters.drop(name)
            if name not in self._adapters:
                self._known.pop(name, None)

    def likelihoods(self, rows: Sequence[Encoded], *, adapter: str | None = None) -> list[Likelihood]:
        """How probable the base, or an adapter on it, holds each row's learned tokens."""
        with self._lock:
            self._activate(adapter)
            return in_passing(likelihoods, self._model, rows, context_tokens=self.context_tokens, device=self.device)

    def prompt_logprobs(
        self, prompt_ids: Sequence[int], *, adapter: str | None = None, top: int = 0
    ) -> list[TokenLogprob]:
        """How probable each token of a prompt is after those before it, and the `top` likeliest in its place.

        Raises RequestError where the prompt is longer than the context.
        """
        if len(prompt_ids) > self.context_tokens:
            raise self._too_long(len(prompt_ids))
        first = TokenLogprob(bytes_of(self._vocabulary, prompt_ids[0]), None)

        def read() -> list[TokenLogprob]:
            rest = prompt_logits(self._model, prompt_ids, device=self.device)
            return [token_logprob(self._vocabulary, i, logits_V, top) for i, logits_V in zip(prompt_ids[1:], rest, strict=True)]

        with self._lock:
            self._activate(adapter)
            return [first, *in_passing(read)]

    def activate(self, name: str | None) -> None:
        """Let the module compute with this adapter, or bare, outside of answering (measurements)."""
        with self._lock:
            self._activate(name)

    def _activate(self, name: str | None) -> None:
        if self._adapters is not None:
            lora.activate(self._model, None if name is None else self._adapters.key(name))

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
        for piece in self.stream(requests, patient=True):
            texts[piece.index] += piece.text
            if piece.stop is not None and piece.usage is not None:
                latency_s = time.perf_counter() - started_s
                answers[piece.index] = Answer(texts[piece.index], piece.stop, piece.usage, latency_s)
        return [a for a in answers if a is not None]

    def stream(self, requests: Sequence[Request], *, patient: bool = False) -> Arriving:
        """Answer requests, yielding text as it comes; pieces of different requests are interleaved.

        Raises RequestError where a prompt leaves no room in the context or a schema can't be followed, and, unless the
        caller is `patient`, QueueFull where too many wait, before anything is answered. Closing the iterator ends the
        answers.
        """

        def begin(sink: Sink) -> Sequence[Row]:
            rows = self.rows(requests, [sink] * len(requests), range(len(requests)))
            self.submit(rows, patient=patient)
            return rows

        return Arriving(len(requests), begin, self.leave)

    def rows(self, requests: Sequence[Request], sinks: Sequence[Sink], indices: Sequence[int]) -> list[Row]:
        """Requests as rows whose pieces go to `sinks`, each under its index. Raises RequestError as `stream`."""
        return [self._row(index, request, sink) for index, request, sink in zip(indices, requests, sinks, strict=True)]

    def submit(self, rows: Sequence[Row], *, patient: bool = False) -> None:
        """Let rows be answered. Raises QueueFull as `stream`."""
        self._loop.submit(rows, patient=patient)

    def leave(self, rows: Sequence[Row]) -> None:
        """End answers that nobody waits for."""
        self._loop.leave(rows)

    def _too_long(self, tokens: int) -> RequestError:
        return RequestError(
            f"this model's context is {self.context_tokens} tokens, and the messages have {tokens}",
            where="messages",
            fix="shorten the messages",
            code="context_length_exceeded",
        )

    def _row(self, index: int, request: Request, sink: Sink) -> Row:
        if request.adapter is not None and not self.knows(request.adapter):
            raise ModelNotFound(f"the adapter {request.adapter!r} is not loaded")
        if len(request.prompt_ids) >= self.context_tokens:
            raise self._too_long(len(request.prompt_ids))
        return Row(
            index,
            request,
            sink,
            chat=self.chat,
            context_tokens=self.context_tokens,
            vocabulary=self._vocabulary,
            own_penalty=self._own_penalty[request.adapter],
        )


def _load(folder: Path, precision: str, device: str) -> torch.nn.Module:
    model = load_base(folder, precision=precision, device=device)
    if can_pack(model):
        pack(model)
    return model
