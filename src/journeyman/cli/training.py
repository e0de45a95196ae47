"""`plan` and `train`: what will be done and why, and doing it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from journeyman.cli import options
from journeyman.cli.show import Screen, duration, size

if TYPE_CHECKING:
    from journeyman.jobs.store import Job
    from journeyman.models.registry import Version
    from journeyman.plan.plan import Plan
    from journeyman.request import TrainRequest
    from journeyman.workspace import Workspace


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(plan)
    app.command()(train)


def plan(
    context: typer.Context,
    source: options.Source,
    base: options.Base = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    learning_rate: options.LearningRate = None,
    rank: options.Rank = None,
    top_layers: options.TopLayers = None,
    quantise: options.Quantise = None,
    full: options.Full = False,
    validation: options.Validation = None,
    held_out: options.HeldOut = None,
    suffix: options.Suffix = "",
    seed: options.Seed = None,
    max_tokens: options.MaxTokens = None,
    rehearsal: options.Rehearsal = None,
    select: options.Select = None,
    input_column: options.InputColumn = None,
    output_column: options.OutputColumn = None,
    as_json: options.AsJson = False,
) -> None:
    """Show every value a training would use, with its reason, and whether it fits. Trains nothing."""
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    made = Workspace().plan(options.request(context.params))
    show_plan(screen, made)
    screen.result(made.as_dict())


def train(
    context: typer.Context,
    source: options.Source,
    base: options.Base = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    learning_rate: options.LearningRate = None,
    rank: options.Rank = None,
    top_layers: options.TopLayers = None,
    quantise: options.Quantise = None,
    full: options.Full = False,
    validation: options.Validation = None,
    held_out: options.HeldOut = None,
    suffix: options.Suffix = "",
    seed: options.Seed = None,
    max_tokens: options.MaxTokens = None,
    rehearsal: options.Rehearsal = None,
    select: options.Select = None,
    input_column: options.InputColumn = None,
    output_column: options.OutputColumn = None,
    despite_errors: options.DespiteErrors = False,
    as_json: options.AsJson = False,
) -> None:
    """Train, followed live; ends with the model id. Ctrl-C pauses with a checkpoint."""
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    workspace = Workspace()
    request = options.request(context.params)
    job, version = run_job(screen, workspace, request)
    show_outcome(screen, job, version)


def run_job(screen: Screen, workspace: Workspace, request: TrainRequest) -> tuple[Job, Version | None]:
    """Start a job and follow it on the screen; Ctrl-C pauses it."""
    return follow(screen, lambda on_event, should_stop: workspace.train(request, on_event=on_event, should_stop=should_stop))


def follow(
    screen: Screen, start: Callable[[Callable[[Any], None], Callable[[], bool]], tuple[Job, Version | None]]
) -> tuple[Job, Version | None]:
    """Run `start(on_event, should_stop)` with the live view around it."""
    from pathlib import Path

    from journeyman.cli.data import show_dataset
    from journeyman.cli.follow import TrainingView
    from journeyman.data.dataset import open_dataset
    from journeyman.plan.plan import Plan

    folder = Path()
    with TrainingView(screen) as view, interruptible() as should_stop:

        def on_event(event: Any) -> None:
            nonlocal folder
            if event["type"] == "created":
                folder = Path(event["folder"])
                screen.line(f"job {event['job']}")
            elif event["type"] == "data":
                show_dataset(screen, open_dataset(folder / "dataset"))
            elif event["type"] == "checked":
                show_check(screen, event, folder.name)
            elif event["type"] == "planned":
                show_plan(screen, Plan.read(folder / "plan.json"))
                screen.heading("Training")
            view(event)

        return start(on_event, should_stop)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C asks for a pause, a second one ends at once (the last checkpoint stays)."""
    asked = False

    def on_interrupt(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


def show_check(screen: Screen, checked: Mapping[str, Any], job: str) -> None:
    """What the check of the examples says in a line, and what to do first where there is something to do."""
    from journeyman.cli.check import VERDICTS
    from journeyman.data.check.finding import counted

    mark, style = VERDICTS[checked["verdict"]]
    counts = counted(checked["counts"])
    screen.heading("Check")
    screen.line(f"{mark} {checked['ready']}" + (f": {counts}" if counts else ""), style=style, indent=2)
    for number, first in enumerate(checked["first"], 1):
        screen.line(f"{number}. {first['do']}  [{first['code']}]", indent=4)
    if checked["first"]:
        screen.line(f"`journeyman check {job}` shows the rows", style="dim", indent=4)


def show_plan(screen: Screen, plan: Plan) -> None:
    """Every value with its reason, and what it needs."""
    from journeyman.plan.plan import explain

    screen.heading("Plan")
    screen.table(["  value", "chosen", "why"], [(f"  {name}", value, why) for name, value, why in explain(plan)])
    screen.line(
        f"  {plan.facts.rows:,} rows, {plan.facts.tokens:,} tokens an epoch, {plan.facts.learned_tokens:,} of them learned; "
        f"{plan.steps:,} steps; about {size(plan.memory_bytes)} of memory and {duration(plan.time_s)}"
    )
    for note in plan.notes:
        screen.line(f"  note: {note}", style="yellow")


def show_outcome(screen: Screen, job: Job, version: Version | None) -> None:
    """How a job ended: the model id, or how to go on."""
    screen.line()
    if version is None:
        screen.line(f"paused. Go on with: journeyman jobs resume {job.id}", style="bold")
    else:
        screen.line(f"model   {version.id}", style="bold green")
        screen.line(f"folder  {version.folder}")
        screen.line(f"next:   journeyman evaluate {version.id}")
    screen.result(
        {"model": version.id if version else None, "job": job.id, "folder": str(job.folder), "status": str(job.status)}
    )
