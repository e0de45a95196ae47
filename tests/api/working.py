"""A worker of the queue, in a thread of the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from journeyman.errors import JobConflict, JourneymanError


@contextmanager
def working(workspace: Any) -> Iterator[None]:
    """Run what is queued, oldest first, until the block ends."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.02):
            queued = [job for job in workspace.jobs.list() if str(job.status) == "queued"]
            if queued:
                with suppress(JourneymanError, JobConflict):
                    workspace.resume(queued[-1].id, should_stop=ended.is_set)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(60)
    assert not thread.is_alive()
