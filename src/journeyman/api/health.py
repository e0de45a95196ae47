"""/healthz: whether this server can answer, and whether jobs can go on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool

if TYPE_CHECKING:
    from journeyman.generate.loop import Load
    from journeyman.jobs.standing import Standing
    from journeyman.workspace import Workspace

PROBE_S = 2.0
"""A database that does not answer within this is not reachable, for whoever waits for it."""

STUCK_S = 60.0
"""A pass of the model takes a fraction of a second, and several seconds of a large one on a slow machine."""

KEPT_S = 1.0
"""How long one look counts: those who ask often cost nothing."""

log = logging.getLogger("journeyman.api")


class Health:
    """One look at a time: a database that hangs holds one thread, however often somebody asks."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._look: asyncio.Task[Standing] | None = None
        self._looked_s = 0.0
        self._progress = Progress()

    async def report(self) -> tuple[int, dict[str, Any]]:
        """The HTTP status and what is said.

        200 `ok`; 200 `degraded` where answers are given and jobs do not go on; 503 `failing` where no request can be
        served: the database does not answer, or an engine has work and does none of it.
        """
        try:
            standing = await asyncio.wait_for(asyncio.shield(self._begun()), PROBE_S)
        except TimeoutError:
            return _failing(f"no answer within {PROBE_S:g} s")
        except Exception:  # whatever it is, the load balancer must not see a server that seems well
            log.exception("the database can't be reached")
            return _failing("not reachable; the server's log has the reason")
        problems = standing.problems()
        if stuck := self._progress.stuck(self._workspace.loads()):
            problems["engine"] = stuck
        checks = {name: problems.get(name, "ok") for name in ("database", "engine", "disk", "workers")}
        if "engine" in problems:
            return 503, {"status": "failing", "checks": checks}
        return 200, {"status": "degraded" if problems else "ok", "checks": checks}

    def _begun(self) -> asyncio.Task[Standing]:
        now_s = time.monotonic()
        if self._look is None or (self._look.done() and now_s - self._looked_s > KEPT_S):
            self._look = asyncio.create_task(run_in_threadpool(self._workspace.standing))
            self._looked_s = now_s
        return self._look


class Progress:
    """Whether engines that have work get on with it, from one look to the next."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    def stuck(self, loads: Mapping[str, Load]) -> str | None:
        """Says what stands still; None where nothing does. STUCK_S is counted from the first look that saw it."""
        now_s = time.monotonic()
        for base, load in loads.items():
            passes, since_s = self._seen.get(base, (-1, now_s))
            busy = load.running + load.waiting
            if not busy or load.passes != passes:
                self._seen[base] = load.passes, now_s
            elif now_s - since_s > STUCK_S:
                return f"{busy} requests under way, and no pass of the model ended for {now_s - since_s:.0f} s"
        return None


def _failing(reason: str) -> tuple[int, dict[str, Any]]:
    return 503, {"status": "failing", "checks": {"database": reason}}
