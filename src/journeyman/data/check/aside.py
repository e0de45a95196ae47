"""A second process that does a part of a long work, while this one does the rest.

It is a Python of its own, given what it needs through a pipe. A fork would copy the threads' locks of whoever checks (a
server, a progress bar) without the threads; `multiprocessing` would run the caller's script again.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, BinaryIO

Work = Callable[[Any], Iterator[Any]]


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Aside:
    """`work(given)` in another process; what it yields arrives one by one. Where anything goes wrong there, no more arrives.

    `work` is a function of a module, and it, what it is given and what it yields can be pickled.
    """

    def __init__(self, work: Work, given: Any) -> None:
        self._arrived: SimpleQueue[list[Any]] = SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        with suppress(OSError, pickle.PicklingError, TypeError, AttributeError):  # the last two: it can't be pickled
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            assert self._process.stdin and self._process.stdout
            Thread(target=_receive, args=(self._process.stdout, self._arrived), daemon=True).start()
            with self._process.stdin as pipe:
                pickle.dump((work, given), pipe, pickle.HIGHEST_PROTOCOL)
            return
        self._arrived.put([])

    def arrived(self, *, wait: bool) -> Iterator[Any]:
        """What has arrived since the last call; with `wait` what will, too, until all is done."""
        with suppress(Empty):
            while some := self._arrived.get(block=wait):
                yield from some
            self._arrived.put([])

    def stop(self) -> None:
        """End the process, whatever it is at."""
        if self._process:
            self._process.kill()
            self._process.wait()


def _receive(pipe: BinaryIO, arrived: SimpleQueue[list[Any]]) -> None:
    with suppress(EOFError, OSError, pickle.UnpicklingError):
        while True:
            arrived.put([pickle.load(pipe)])
    arrived.put([])


def _work() -> None:
    """What the second process runs."""
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # nothing else may write where the results go
        work, given = pickle.load(sys.stdin.buffer)
        for one in work(given):
            pickle.dump(one, out, pickle.HIGHEST_PROTOCOL)
            out.flush()


if __name__ == "__main__":
    _work()
