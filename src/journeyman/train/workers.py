"""A step's micro-batches side by side, each on threads of its own.

torch spreads one product over all its threads, and lets them wait for each other at each of a step's ten thousand operations,
most of which are too small to be worth it. Micro-batches need not wait for one another: on two cores they do 1.6 times
as much side by side where waiting threads sleep at once (135M, bf16; benchmarks/train), less where they spin for a moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """`count` workers that share `threads` threads; with one, everything is computed where it is asked for.

    They end when nobody holds this object any more.
    """

    def __init__(self, count: int, threads: int) -> None:
        self.count = count
        self._pool: ThreadPoolExecutor | None = None
        if count > 1:
            each = max(1, threads // count)
            self._pool = ThreadPoolExecutor(count, "micro-batch", initializer=torch.set_num_threads, initargs=(each,))

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """The results in the order of the items, whichever ends first. No more than `count` are begun and not yet given.

        An error of one is raised in its place.
        """
        if self._pool is None:
            yield from map(function, items)
            return
        begun: deque[Future[Result]] = deque()
        for item in items:
            if len(begun) == self.count:
                yield begun.popleft().result()
            begun.append(self._pool.submit(function, item))
        while begun:
            yield begun.popleft().result()


def in_passing(function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """The function's result, computed in a thread that ends with it, and OpenMP's threads with that.

    Each thread that has computed keeps threads of its own to help it; while a process has more of them than cores, libgomp
    lets none spin (team.c, `gomp_managed_threads`), and each product waits for the system to wake them. A thread that
    answers or trains for long should therefore be the only one that has computed.
    """
    with ThreadPoolExecutor(1, "in-passing", torch.set_num_threads, (torch.get_num_threads(),)) as thread:
        return thread.submit(function, *args, **kwargs).result()
