"""`evaluate`: what a model gained, measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from journeyman.cli import options
from journeyman.cli.show import Screen

if TYPE_CHECKING:
    from journeyman.evaluate.report import Evaluation
    from journeyman.evaluate.run import ScoredRow
    from journeyman.evaluate.statistics import Missing, Proportion
    from journeyman.workspace import Workspace

def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(evaluate)


def evaluate(
    model: options.TunedName,
    task: Annotated[str | None, typer.Option("--task", metavar="TASK", help="Another task's held-out rows.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Only the first N held-out rows.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """The model and its base on the same held-out rows: what the graders say, with intervals."""
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    evaluation = run_evaluation(screen, Workspace(), model, task, limit)
    show_evaluation(screen, evaluation)
    screen.result(evaluation.as_dict())


def run_evaluation(
    screen: Screen, workspace: Workspace, model: str, task: str | None, limit: int | None
) -> Evaluation:
    """Evaluate with a progress bar."""
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn("rows"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen.console, transient=True) as progress:
        bars: dict[str, object] = {}

        def on_progress(name: str, done: int, total: int) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name, total=total)
            progress.update(bars[name], completed=done)  # type: ignore[arg-type]

        return workspace.evaluate(model, task, on_progress=on_progress, limit=limit)


def show_evaluation(screen: Screen, evaluation: Evaluation, *, examples: int = 0) -> None:
    """Examples side by side, the graders' pass rates with their counts, the verdict."""
    pairs = list(zip(evaluation.before.rows, evaluation.after.rows, strict=True))
    for number, (before, after) in enumerate(pairs[:examples], 1):
        screen.heading(f"Held-out row {number} ({before.place})")
        screen.line(before.input)
        screen.beside([_answer("base", before), _answer("tuned", after)])
    screen.heading(f"Graders on {len(pairs)} held-out rows")
    lines = [(line.name, line.passed_before, line.passed_after) for line in evaluation.graders]
    lines.append(("all graders", evaluation.passed_before, evaluation.passed_after))
    screen.table(
        ["  grader", "base", "tuned"],
        [(f"  {name}", show_share(before), show_share(after)) for name, before, after in lines],
        right=(1, 2),
    )
    screen.line(f"  {evaluation.verdict.sentence}", style="bold")


def _answer(label: str, row: ScoredRow) -> tuple[str, str, str]:
    verdict, style = ("passes", "green") if row.graded.passed else ("fails", "red")
    return f"── {label}, {verdict}", (row.output or row.error or "").strip() or "(nothing)", style


def show_share(value: Proportion | Missing) -> str:
    """A pass rate with its count: 85.0% (102/120)."""
    from journeyman.evaluate.statistics import Missing

    if isinstance(value, Missing):
        return "no data"
    return f"{value.share:.1%} ({value.count}/{value.total})"
