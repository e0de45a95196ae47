"""`chat` and `evaluate`: asking a model, and measuring it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from journeyman.cli import options
from journeyman.cli.show import Screen
from journeyman.records import Message

if TYPE_CHECKING:
    from journeyman.evaluate.report import Evaluation
    from journeyman.evaluate.statistics import Missing, Proportion
    from journeyman.generate.sampling import Sampling
    from journeyman.workspace import Workspace

ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="A fine-tuned model's id or alias, or a base.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(chat)
    app.command()(evaluate)


def chat(
    model: ModelName,
    beside: Annotated[bool, typer.Option("--beside", help="Show the base's answer next to it.")] = False,
    system: Annotated[str | None, typer.Option("--system", help="A system prompt.")] = None,
    temperature: Annotated[float, typer.Option("--temperature", min=0, max=2)] = 0.0,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1)] = 300,
) -> None:
    """Talk to a model; the answer streams. An empty line or Ctrl-D ends. Piped text is answered line by line."""
    from journeyman.generate.sampling import Sampling
    from journeyman.workspace import Workspace

    screen = Screen()
    workspace = Workspace()
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature)
    names = [workspace.served(model).id]
    if beside and names[0].startswith("ft:"):
        names.insert(0, workspace.registry.get(model).base_source)
    turns: dict[str, list[Message]] = {n: [Message("system", system)] if system else [] for n in names}
    if sys.stdin.isatty():
        screen.line(f"{' beside '.join(names)}. An empty line ends.", style="dim")
    while True:
        question = _read_question()
        if not question:
            return
        for name in names:
            turns[name].append(Message("user", question))
            if len(names) > 1:
                screen.line(f"── {name}", style="dim")
            turns[name].append(Message("assistant", _stream(screen, workspace, name, turns[name], sampling)))


def _read_question() -> str:
    try:
        if sys.stdin.isatty():
            return input("> ").strip()
        return sys.stdin.readline().strip()
    except EOFError:
        return ""


def _stream(screen: Screen, workspace: Workspace, name: str, messages: list[Message], sampling: Sampling) -> str:
    text = ""
    for piece in workspace.stream(name, messages, sampling):
        screen.console.print(Text(piece.text), end="")
        text += piece.text
    screen.line()
    return text


def evaluate(
    model: ModelName,
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
        for label, row in (("base", before), ("tuned", after)):
            screen.line(
                f"── {label}, {'passes' if row.graded.passed else 'fails'}",
                style="green" if row.graded.passed else "red",
            )
            screen.line((row.output or row.error or "").strip() or "(nothing)")
    screen.heading(f"Graders on {len(pairs)} held-out rows")
    lines = [(line.name, line.passed_before, line.passed_after) for line in evaluation.graders]
    lines.append(("all graders", evaluation.passed_before, evaluation.passed_after))
    screen.table(
        ["  grader", "base", "tuned"],
        [(f"  {name}", show_share(before), show_share(after)) for name, before, after in lines],
        right=(1, 2),
    )
    screen.line(f"  {evaluation.verdict.sentence}", style="bold")


def show_share(value: Proportion | Missing) -> str:
    """A pass rate with its count: 85.0% (102/120)."""
    from journeyman.evaluate.statistics import Missing

    if isinstance(value, Missing):
        return "no data"
    return f"{value.share:.1%} ({value.count}/{value.total})"
