"""From a thread that decodes to the event loop that sends.

An answer begins in a thread: it may load a model. Where its pieces can be handed on as they are, the engine's own thread
then passes them to the loop, and none waits for them; else (where calls are read out of them) all of one answer is read in one thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")

MAX_THREADS = 512
"""Answers under way or waiting for their turn, more than one engine takes (generate/loop.py): it refuses the next, and no
answer waits for a thread. A thread that waits costs some 30 KB."""


class AbandonedError(Exception):
    """An answer that was closed before it was whole: nobody is there to read it."""


@dataclass(frozen=True, slots=True)
class _End:
    """The last item of a queue, with the error that ended the decoding, if one did."""

    error: BaseException | None = None


class Pieces(Generic[T]):
    """The pieces of one answer, made in a thread and read once on the event loop.

    `close` may be called at any time and from any thread: the reader gets an AbandonedError, or the error that is given,
    at once, and the decoding is closed, at its next piece where a thread reads it. `ended` is called when nothing more is decoded.
    """

    def __init__(self, make: Callable[[], Iterator[T]], ended: Callable[[Pieces[T]], None] = lambda _: None) -> None:
        self._make = make
        self._ended = ended
        self._handed_on: Any = None
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[T | _End] = asyncio.Queue()
        self._closed = threading.Event()

    @property
    def closed(self) -> bool:
        """Whether nobody waits for this answer any more."""
        return self._closed.is_set()

    def close(self, error: Exception | None = None) -> None:
        """Stop decoding and reading."""
        self._closed.set()
        self._put(_End(error or AbandonedError()))
        if self._handed_on is not None:
            self._handed_on.close()
            self._ended(self)

    async def __aiter__(self) -> AsyncIterator[T]:
        while True:
            item = await self._queue.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item

    def run(self) -> None:
        """Make the pieces, or begin to; what is raised on the way is raised to the reader."""
        try:
            if not self.closed:
                pieces = self._make()
                if hasattr(pieces, "hand_on"):
                    self._hand_on(pieces)
                    return
                self._decode(pieces)
        except BaseException as error:  # the reader raises it again
            self._end(error)
        else:
            self._end(None)

    def _hand_on(self, pieces: Any) -> None:
        """Let whoever makes the pieces put them. One that was closed meanwhile is closed here, since `close` did not know it."""
        pieces.hand_on(self._put, self._end)
        self._handed_on = pieces
        if self.closed:
            pieces.close()
            self._ended(self)

    def _end(self, error: BaseException | None) -> None:
        self._put(_End(error))
        self._ended(self)

    def _decode(self, pieces: Iterator[T]) -> None:
        try:
            for piece in pieces:
                if self.closed:
                    return
                self._put(piece)
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()

    def _put(self, item: T | _End) -> None:
        # The loop may have ended before this thread; then there is no reader either.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)


class Decoder:
    """The threads in which answers begin, and those answers that have not ended."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="decode")
        self._open: set[Pieces[object]] = set()

    def start(self, make: Callable[[], Iterator[T]]) -> Pieces[T]:
        """Begin an answer. `make` runs in a thread too."""
        pieces = Pieces(make, self._open.discard)
        self._open.add(pieces)  # type: ignore[arg-type]
        self._threads.submit(pieces.run)
        return pieces

    def end_answers(self, error: Exception) -> None:
        """End every answer under way with an error, which its client is told."""
        for pieces in list(self._open):
            pieces.close(error)

    def close(self) -> None:
        """End every answer; a thread that reads one stops at its next piece."""
        for pieces in list(self._open):
            pieces.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
