"""The loop that answers: rows join and leave between passes of the model (Yu et al. 2022, Orca, OSDI).

One thread runs it while there is work. In each pass every row that is being answered gets its next token, and what room
is left goes to prompts, in chunks, so that a long prompt delays no stream by more than a chunk (Agrawal et al. 2024,
Sarathi-Serve, arXiv:2403.02310).
"""

from __future__ import annotations

import atexit
import logging
import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from journeyman.errors import CheckpointError, QueueFull
from journeyman.generate.adapters import Adapters
from journeyman.generate.blocks import BLOCK_TOKENS, Blocks, Holding, blocks_of
from journeyman.generate.forward import Forward
from journeyman.generate.row import Row, Segment
from journeyman.generate.sampling import choose

MAX_ROWS = 64
"""Requests answered together."""

MAX_WAITING = 256
"""Requests that wait for a row; a further one is refused."""

PASS_TOKENS = 256
"""Tokens of a pass that reads prompts while others get their next token, those of both together: about twice as long as without
prompts on a CPU, and a number that the products take as it is (`_padding` of decoder.py)."""

IDLE_S = 1.0
"""How long the thread waits for work before it ends; the next request starts another."""

END_S = 5.0
"""How long the end of the process waits for a pass of the model."""

log = logging.getLogger("journeyman.generate")

_loops: weakref.WeakSet[Loop] = weakref.WeakSet()
_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """A process must not end while a thread computes in torch, or frees a model it was the last to hold: that aborts it.

    (std::terminate, when the thread is ended on its way back to Python.)
    """
    for loop in list(_loops):
        loop.end()
    for thread in list(_threads):
        thread.join(END_S)


@dataclass(slots=True)
class Load:
    """What the loop is at, and has done since it was made."""

    running: int = 0
    waiting: int = 0
    requests: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    passes: int = 0
    preempted: int = 0


def retry_after_s(waiting: int, ended_s: Sequence[float]) -> int:
    """About when an eighth of a queue has been answered, at the rate at which the last ones ended."""
    if len(ended_s) < 2:
        return 1
    rate = len(ended_s) / max(time.monotonic() - ended_s[0], 1e-3)
    return max(1, min(60, math.ceil(waiting / 8 / rate)))


class Loop:
    """Answers rows with `forward`; `lock` is held while the model computes."""

    def __init__(
        self,
        forward: Forward,
        adapters: Adapters | None,
        lock: AbstractContextManager[object],
        *,
        max_rows: int = MAX_ROWS,
        max_waiting: int = MAX_WAITING,
        pass_tokens: int = PASS_TOKENS,
    ) -> None:
        self.load = Load()
        self._forward = forward
        self._adapters = adapters
        self._lock = lock
        self._max_rows = max_rows
        self._max_waiting = max_waiting
        self._pass_tokens = pass_tokens
        self._waiting: deque[Row] = deque()
        self._running: list[Row] = []
        self._ended_s: deque[float] = deque(maxlen=64)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        # Of whoever made the loop: a new thread has as many as some thread was last given, such as a training's worker its one.
        self._threads = torch.get_num_threads()
        self._ending = False
        _loops.add(self)

    @property
    def _blocks(self) -> Blocks:
        return self._forward.blocks

    def submit(self, rows: Sequence[Row], *, patient: bool = False) -> None:
        """Let rows be answered, together as far as there is room.

        Raises QueueFull where as many rows wait as may, unless the caller is `patient`.
        """
        with self._changed:
            if not patient and len(self._waiting) >= self._max_waiting:
                self.load.refused += len(rows)
                raise QueueFull(len(self._waiting), retry_after_s(len(self._waiting), self._ended_s))
            for row in rows:
                # Shorter prompts overtake longer ones, but only those that came within the longer one's length.
                row.deadline = self.load.prompt_tokens + len(row.ids)
                self._waiting.append(row)
            self.load.requests += len(rows)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="answering", daemon=True)
                _threads.add(self._thread)
                self._thread.start()
            self._changed.notify()

    def end(self) -> None:
        """Let the thread end after its present pass; what is still being answered is not."""
        with self._changed:
            self._ending = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(END_S)

    def leave(self, rows: Sequence[Row]) -> None:
        """Nobody waits for these rows any more: they make room before the next pass."""
        for row in rows:
            row.cancelled = True

    def _run(self) -> None:
        torch.set_num_threads(self._threads)
        while True:
            try:
                if not self._has_work():
                    return
                self._pass()
            except Exception as error:
                log.exception("the answering loop failed; its requests fail, and it goes on")
                self._abandon(error)

    def _abandon(self, error: Exception) -> None:
        """End all that is being answered after a failure outside of a pass: what it left behind is not to be trusted."""
        rows, self._running = self._running, []
        for row in rows:
            if not row.done:
                row.fail(error)
            self._give_back(row)

    def _has_work(self) -> bool:
        """Take rows in and leave out those that nobody waits for; false after a while without any, and the thread ends."""
        with self._changed:
            deadline = time.monotonic() + IDLE_S
            if self._ending:
                self._thread = None
                return False
            while not self._waiting and not self._running:
                self.load.running = self.load.waiting = 0
                told = self._changed.wait(deadline - time.monotonic())
                # A row may have come after the time was over and before the lock was this thread's again.
                if self._ending or not (told or self._waiting):
                    self._thread = None
                    return False
            for row in [r for r in self._running if r.cancelled]:
                self._leave(row)
            self._waiting = deque(row for row in self._waiting if not row.cancelled)
            while self._waiting and len(self._running) < self._max_rows and self._fits(self._waiting[0]):
                self._admit(self._waiting.popleft())
            self.load.running, self.load.waiting = len(self._running), len(self._waiting)
            return True

    def _fits(self, row: Row) -> bool:
        """Whether there is room for what the row has said so far, and for each row to go on a block further."""
        return not self._running or blocks_of(len(row.ids)) + len(self._running) < self._blocks.free

    def _admit(self, row: Row) -> None:
        if self._adapters is not None:
            try:
                with self._lock:
                    self._adapters.pin(row.adapter)
            except Exception as error:  # its folder may be gone by now
                row.fail(error)
                return
        self._running.append(row)

    def _leave(self, row: Row) -> None:
        """A row that has ended, or makes room, gives back what it holds."""
        self._running.remove(row)
        self._give_back(row)

    def _give_back(self, row: Row) -> None:
        if row.holding is not None:
            self._blocks.release(row.holding)
        row.holding, row.cache, row.computed = None, None, 0
        if self._adapters is not None:
            with self._lock:
                self._adapters.unpin(row.adapter)

    def _pass(self) -> None:
        """One pass of the model, and what comes of it. A failure ends the rows that took part, and no others."""
        segments = self._plan()
        if not segments:
            return
        try:
            with self._lock:
                adapters = None if self._adapters is None else self._adapters.mixed(segments)
                logits_BV = self._forward(segments, adapters)
            self._take(segments, logits_BV)
        except Exception as error:  # each caller raises it again
            for segment in segments:
                if not segment.row.done:
                    segment.row.fail(error)
        for row in [r for r in self._running if r.done]:
            self._leave(row)
            self._ended_s.append(time.monotonic())

    def _plan(self) -> list[Segment]:
        """What the next pass computes: rows of one token first, then chunks of prompts.

        A prompt of which one token is left, or room for one, is a row of one token as well.
        """
        steps = self._with_room([row for row in self._running if row.holding is not None and row.pending == 1])
        room = max(self._pass_tokens - len(steps), self._pass_tokens // 2) if steps else 4 * self._pass_tokens
        chunks = list(self._chunks(room))
        if not steps and not chunks and self._running:
            self._preempt()
        return self._forward.arrange([Segment(row, 1) for row in steps] + chunks)

    def _with_room(self, rows: Sequence[Row]) -> list[Row]:
        """The rows whose next token finds room; where one doesn't, the latest comer starts again when there is some."""
        ready = []
        for row in rows:
            while row.holding is not None and not self._blocks.extend(row.holding, len(row.ids)):
                self._preempt()
            if row.holding is not None:
                ready.append(row)
        return [row for row in ready if row.holding is not None]

    def _begin(self, row: Row, beginnings: set[tuple[object, ...]]) -> Holding | None:
        """Hold what is known of a prompt, when its turn comes.

        None where this pass computes the same beginning for another row already: the next pass finds it.
        """
        holding = self._blocks.begin(row.adapter, row.ids)
        if self._blocks.keep and not holding.blocks and len(row.ids) > BLOCK_TOKENS:
            beginning = (row.adapter, *row.ids[:BLOCK_TOKENS])
            if beginning in beginnings:
                return None
            beginnings.add(beginning)
        row.holding = holding
        row.computed = len(holding.blocks) * BLOCK_TOKENS
        self.load.cached_tokens += row.computed
        if row.cached_tokens is None:  # one that had to make room finds its own tokens again, which nobody saved it
            row.cached_tokens = row.computed
        return holding

    def _chunks(self, room: int) -> Iterator[Segment]:
        reading = [row for row in self._running if row.holding is None or row.pending > 1]
        beginnings: set[tuple[object, ...]] = set()
        for row in sorted(reading, key=lambda r: r.deadline):
            if room < 1:
                return
            holding = row.holding or self._begin(row, beginnings)
            if holding is None:
                continue
            tokens = min(row.pending, room)
            if not self._blocks.extend(holding, row.computed + tokens):
                return
            room -= tokens
            self.load.prompt_tokens += tokens
            yield Segment(row, tokens)

    def _preempt(self) -> None:
        """The latest comer gives its room back and waits; what it has said stays, and is computed again."""
        row = self._running[-1]
        self._leave(row)
        self.load.preempted += 1
        with self._changed:
            self._waiting.appendleft(row)

    @torch.inference_mode()
    def _take(self, segments: Sequence[Segment], logits_BV: torch.Tensor) -> None:
        """Note what was computed, and choose the next token of each row that is ready for it."""
        rows = [segment.row for segment in segments if segment.last]
        for segment in segments:
            row = segment.row
            row.computed += segment.tokens
            if row.holding is not None:
                self._blocks.seal(row.holding, row.ids, row.computed)
        self.load.passes += 1
        for row, largest in zip(rows, logits_BV.amax(-1).tolist() if rows else [], strict=True):
            if not math.isfinite(largest):
                row.fail(_not_finite(row))
        own = [logits_V.clone() if row.wants_logprobs else None for row, logits_V in zip(rows, logits_BV, strict=True)]
        for row, logits_V in zip(rows, logits_BV, strict=True):
            self._adjust(row, logits_V)
        chosen = choose(logits_BV, [r.sampling for r in rows], [r.generator for r in rows]) if rows else []
        self.load.generated_tokens += len(rows)
        for row, token_id, own_logits_V in zip(rows, chosen, own, strict=True):
            if not row.done:
                _push(row, token_id, own_logits_V)

    def _adjust(self, row: Row, logits_V: torch.Tensor) -> None:
        """Write a row's logits anew where the request asks for something."""
        if row.done:
            return
        try:
            row.adjust(logits_V)
        except Exception as error:  # a schema that can't be followed further: this row's own affair
            row.fail(error)


def _not_finite(row: Row) -> CheckpointError:
    """Whatever the next token, it would not be the model's choice: argmax of NaN is some token all the same."""
    whose = "the base" if row.adapter is None else f"the adapter {row.adapter}"
    return CheckpointError(
        f"{whose} computes numbers that are not finite (NaN or infinite), {len(row.written_ids)} tokens into this answer",
        fix="its files are damaged, its training diverged, or its activations are too large for half precision; try fp32",
        code="model_not_finite",
    )


def _push(row: Row, token_id: int, own_logits_V: torch.Tensor | None) -> None:
    try:
        piece = row.push(token_id, None if own_logits_V is None else row.logprob(token_id, own_logits_V))
    except Exception as error:  # as above
        row.fail(error)
    else:
        if piece is not None:
            row.sink(piece)
