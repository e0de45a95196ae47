"""`jobs`: list, show, follow, resume, pause, cancel."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated

import typer

from journeyman.cli import options
from journeyman.cli.show import Screen

group = typer.Typer(help="The trainings: list, show, follow, resume, pause, cancel.", invoke_without_command=True)
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, ftjob-…")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="jobs")


@group.callback()
def list_jobs(context: typer.Context, as_json: options.AsJson = False) -> None:
    """All jobs, newest first."""
    if context.invoked_subcommand is not None:
        return
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    jobs = Workspace().jobs.list()
    rows = [
        (
            job.id,
            str(job.status),
            datetime.fromtimestamp(job.created_at).strftime("%Y-%m-%d %H:%M"),
            f"{job.step}/{job.steps or '?'}",
            job.source,
            job.model or "",
        )
        for job in jobs
    ]
    if rows:
        screen.table(["job", "status", "created", "step", "source", "model"], rows, right=(3,))
    else:
        screen.line("no jobs yet; `journeyman train TASK` starts one")
    screen.result({"jobs": [job.as_dict() for job in jobs]})


@group.command()
def show(job_id: JobId, as_json: options.AsJson = False) -> None:
    """One job: its state, its plan and its last events."""
    from journeyman.cli.training import show_plan
    from journeyman.jobs.events import read_events
    from journeyman.jobs.lock import is_held
    from journeyman.plan.plan import Plan
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    job = Workspace().jobs.get(job_id)
    alive = is_held(job.folder)
    screen.line(f"{job.id}  {job.status}{'' if alive or job.status != 'running' else ' (its process has died)'}")
    screen.line(f"  source {job.source}   base {job.base}   model {job.model or '-'}")
    screen.line(f"  folder {job.folder}")
    if job.error:
        screen.line(f"  error: {job.error['message']}", style="red")
    if (job.folder / "plan.json").is_file():
        show_plan(screen, Plan.read(job.folder / "plan.json"))
    events = [e for e in read_events(job.folder) if e["type"] != "step"][-8:]
    screen.heading("Events")
    for event in events:
        rest = {k: v for k, v in event.items() if k not in ("at", "type")}
        when = datetime.fromtimestamp(event["at"]).strftime("%H:%M:%S")
        screen.line(f"  {when}  {event['type']}  {' '.join(f'{k}={v}' for k, v in rest.items())}")
    screen.result({**job.as_dict(), "alive": alive})


@group.command()
def follow(job_id: JobId) -> None:
    """Watch a job that another process runs."""
    from journeyman.cli.follow import TrainingView
    from journeyman.jobs.events import read_events
    from journeyman.jobs.lock import is_held
    from journeyman.workspace import Workspace

    screen = Screen()
    workspace = Workspace()
    job = workspace.jobs.get(job_id)
    seen = 0
    with TrainingView(screen) as view:
        while True:
            events = read_events(job.folder)
            for event in events[seen:]:
                view(event)
            seen = len(events)
            status = workspace.jobs.get(job_id).status
            if not is_held(job.folder) and (status.terminal or status in ("paused", "running")):
                break
            time.sleep(0.5)
    screen.line(f"{job.id}  {workspace.jobs.get(job_id).status}")


@group.command()
def resume(job_id: JobId, as_json: options.AsJson = False) -> None:
    """Go on with a job that was paused, or whose process died, from its last checkpoint."""
    from journeyman.cli import training
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    workspace = Workspace()
    job, version = training.follow(
        screen,
        lambda on_event, should_stop: workspace.resume(job_id, on_event=on_event, should_stop=should_stop),
    )
    training.show_outcome(screen, job, version)


@group.command()
def pause(job_id: JobId, as_json: options.AsJson = False) -> None:
    """Ask the process that runs the job to write a checkpoint and stop."""
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    job = Workspace().pause(job_id)
    screen.line(f"{job.id} is paused; a process that runs it stops after its current step")
    screen.result(job.as_dict())


@group.command()
def queue(job_id: JobId, as_json: options.AsJson = False) -> None:
    """Put a paused job back into the queue, for a worker to go on with."""
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    job = Workspace().requeue(job_id)
    screen.line(f"{job.id}  {job.status}")
    screen.result(job.as_dict())


@group.command()
def cancel(job_id: JobId, as_json: options.AsJson = False) -> None:
    """End a job for good. Its folder stays."""
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    job = Workspace().cancel(job_id)
    screen.line(f"{job.id}  {job.status}")
    screen.result(job.as_dict())
