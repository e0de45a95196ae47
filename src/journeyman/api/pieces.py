"""From a thread that decodes to the event loop that sends.

All of one answer is decoded in one thread: torch's inference mode belongs to a thread, so a generator that is
resumed in another one would lose it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

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

    `close` may be called at any time and from any thread: the reader gets an AbandonedError at once, and the
    decoding is closed in its own thread, at its next piece.
    """

    def __init__(self, make: Callable[[], Iterator[T]]) -> None:
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[T | _End] = asyncio.Queue()
        self._closed = threading.Event()

    @property
    def closed(self) -> bool:
        """Whether nobody waits for this answer any more."""
        return self._closed.is_set()

    def close(self) -> None:
        """Stop decoding and reading."""
        self._closed.set()
        self._put(_End(AbandonedError()))

    async def __aiter__(self) -> AsyncIterator[T]:
        while True:
            item = await self._queue.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item

    def run(self) -> None:
        """Make the pieces; what is raised on the way is raised to the reader."""
        try:
            if not self.closed:
                self._decode(self._make())
        except BaseException as error:  # the reader raises it again
            self._put(_End(error))
        else:
            self._put(_End())

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
    """The threads that decode, and what they are at."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="decode")
        self._open: set[Pieces[object]] = set()

    def start(self, make: Callable[[], Iterator[T]]) -> Pieces[T]:
        """Begin an answer. `make` runs in a thread too."""
        pieces = Pieces(make)
        self._open.add(pieces)  # type: ignore[arg-type]
        future = self._threads.submit(pieces.run)
        future.add_done_callback(lambda _: self._open.discard(pieces))
        return pieces

    def close(self) -> None:
        """End every answer; each thread stops at its next piece."""
        for pieces in list(self._open):
            pieces.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
