"""A worker of the queue, in a thread of the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from journeyman.jobs.queue import claim_next
from journeyman.jobs.state import new_owner


@contextmanager
def working(workspace: Any) -> Iterator[None]:
    """Run what waits in the queue, as a worker claims it, until the block ends."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.02):
            owner = new_owner()
            if (job_id := claim_next(workspace.jobs.engine, owner, lease_s=workspace.settings.lease_s)) is not None:
                workspace.run_claimed(job_id, owner, should_stop=ended.is_set)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(60)
    assert not thread.is_alive()
