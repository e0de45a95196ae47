"""Pieces on their way from the engine to their one reader: waited for, or handed on without a thread that waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue

from journeyman.generate.row import Piece, Row, Sink

Ended = Callable[[BaseException | None], None]
"""Told once when nothing more comes, with the error that ended it, if one did."""


class Arriving(Iterator[Piece]):
    """The pieces of `count` answers, in the order in which they come.

    Nothing is asked of the engine before the first is read. To close it, or to let it go, ends the answers. `begin` submits
    rows with the sink it is given, and raises what it raises; `leave` tells that nobody waits for rows any more.
    """

    def __init__(self, count: int, begin: Callable[[Sink], Sequence[Row]], leave: Callable[[Sequence[Row]], None]) -> None:
        self._inbox = _Inbox(count)
        self._begin = begin
        self._leave = leave
        self._rows: Sequence[Row] | None = None

    def __next__(self) -> Piece:
        self._started()
        if self._inbox.left == 0:
            self.close()
            raise StopIteration
        item = self._inbox.queue.get()
        if isinstance(item, BaseException):
            self.close()
            raise item
        self._inbox.count(item)
        return item

    def hand_on(self, sink: Callable[[Piece], None], ended: Ended) -> None:
        """Let each piece go to `sink` from now on, called by the engine's thread: it must not wait. Raises as the first read."""
        self._started()
        self._inbox.hand_on(sink, ended)

    def close(self) -> None:
        """End the answers, if they have not ended. From any thread."""
        self._inbox.shut()
        rows, self._rows = self._rows, ()
        if rows:
            self._leave(rows)

    def __del__(self) -> None:
        self.close()

    def _started(self) -> None:
        if self._rows is None:
            self._rows = self._begin(self._inbox.put)


class _Inbox:
    """What the rows know of their reader: not the reader itself, which may be let go while they are answered."""

    def __init__(self, count: int) -> None:
        self.queue: SimpleQueue[Piece | BaseException] = SimpleQueue()
        self.left = count
        self._lock = threading.Lock()
        self._sink: Callable[[Piece], None] | None = None
        self._ended: Ended = _nobody

    def put(self, item: Piece | BaseException) -> None:
        with self._lock:
            if self._sink is not None:
                self._give(self._sink, item)
            elif self.left:
                self.queue.put(item)

    def hand_on(self, sink: Callable[[Piece], None], ended: Ended) -> None:
        with self._lock:  # what has come already goes first
            self._ended = ended
            while not self.queue.empty():
                self._give(sink, self.queue.get())
            self._sink = sink if self.left else None

    def shut(self) -> Ended:
        """Nothing more is taken; whoever was told of the end before is let go, and returned."""
        ended, self._ended = self._ended, _nobody
        self.left, self._sink = 0, None
        return ended

    def count(self, piece: Piece) -> None:
        """One answer fewer where this was its last piece."""
        self.left -= piece.stop is not None

    def _give(self, sink: Callable[[Piece], None], item: Piece | BaseException) -> None:
        if self.left == 0:
            return
        if isinstance(item, BaseException):
            self.shut()(item)
            return
        sink(item)
        self.count(item)
        if self.left == 0:
            self.shut()(None)


def _nobody(_: BaseException | None) -> None:
    """Whom the end is told where nobody asked."""
