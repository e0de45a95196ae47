"""`worker`: run the queue's jobs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(worker)


def worker(
    slot: Annotated[
        int | None,
        typer.Option("--slot", min=0, help="Hold this slot of the home; a second worker in it waits for the first one's last job."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Stop when no job is waiting.")] = False,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="Stop after the present job once the process that started this one is gone.")
    ] = False,
    job: Annotated[
        str | None, typer.Option("--job", metavar="JOB", help="Run this claimed job here and end; a worker starts this.")
    ] = None,
    lease: Annotated[
        str | None, typer.Option("--lease", metavar="OWNER", help="The holder of the lease on --job.")
    ] = None,
) -> None:
    """Run queued jobs, one after the other, each in a process of its own. SIGTERM or Ctrl-C: the job under way writes a checkpoint and goes back into the queue."""
    from journeyman import logs
    from journeyman.workspace import Workspace

    stopped = _stop_asked()
    workspace = Workspace()
    logs.begin(workspace.settings.log_format)
    if job is not None and lease is not None:
        raise typer.Exit(workspace.run_claimed(job, lease, should_stop=stopped))
    parent = os.getppid()
    orphaned = (lambda: os.getppid() != parent) if with_parent else (lambda: False)
    workspace.work(should_stop=stopped, should_end=orphaned, slot=slot, once=once)


def _stop_asked() -> Callable[[], bool]:
    asked = False

    def on_signal(number: int, frame: Any) -> None:
        nonlocal asked
        asked = True

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    return lambda: asked
