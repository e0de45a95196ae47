"""`init` and `check`: the examples."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from journeyman.cli import options
from journeyman.cli.show import Screen

if TYPE_CHECKING:
    from journeyman.data.check.finding import Report
    from journeyman.data.dataset import Dataset
    from journeyman.workspace import Workspace

SHOWN_REFUSALS = 20
SHOWN_ROWS = 5


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(init)
    app.command()(check)


def init(name: Annotated[str, typer.Argument(help="The new task's folder.")]) -> None:
    """Write a new task folder, with comments that say what belongs where."""
    from journeyman.data.read import shown_path
    from journeyman.task import write_template

    folder = Path(name)
    write_template(folder, shown_path(Path(folder.absolute().name)))
    screen = Screen()
    screen.line(f"wrote {folder}/")
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        screen.line(f"  {file.relative_to(folder)}")
    screen.line(f"next: put your examples into {folder}/examples.jsonl, then `journeyman check {folder}`")


def check(
    source: options.Source,
    show: Annotated[int, typer.Option("--show", metavar="N", help="Print N rows with the learned tokens marked.")] = 0,
    base: options.Base = None,
    input_column: options.InputColumn = None,
    output_column: options.OutputColumn = None,
    as_json: options.AsJson = False,
) -> None:
    """Say what is wrong with the examples and what to do about it. Exits 1 where a training would be refused."""
    from journeyman.workspace import TrainRequest, Workspace

    screen = Screen(as_json=as_json)
    workspace = Workspace()
    columns = options.columns(input_column, output_column)
    dataset, report = workspace.check(TrainRequest(source, base=base, columns=columns))
    show_dataset(screen, dataset)
    _show_report(screen, report)
    if show:
        _show_learned(screen, workspace, dataset, show, base or workspace.task(source).base or "starter")
    screen.result(
        {
            **report.as_dict(),
            "counts": dataset.manifest["counts"],
            "refused": [refused.as_dict() for refused in dataset.refused],
        }
    )
    if report.verdict == "errors":
        raise typer.Exit(1)


def show_dataset(screen: Screen, dataset: Dataset) -> None:
    """What was read, in which form, and what became of it."""
    counts = dataset.manifest["counts"]
    screen.heading("Data")
    for source in dataset.manifest["sources"]:
        columns = source.get("columns")
        detail = f", input column {columns['input']!r}, output column {columns['output']!r}" if columns else ""
        screen.line(f"  {source['file']}: {source['rows']:,} rows, read as {source['shape']}{detail}")
    screen.line(
        f"  read {counts['read']:,} = kept {counts['kept']:,} + refused {counts['refused']:,}; "
        f"train {counts['train']:,}, validation {counts['validation']:,}, held out {counts['held_out']:,}"
    )
    if not dataset.refused:
        return
    for refused in dataset.refused[:SHOWN_REFUSALS]:
        screen.line(f"  refused {refused.place}: [{refused.code}] {refused.reason}", style="red")
        screen.line(f"      mend: {refused.fix}", style="dim")
    if len(dataset.refused) > SHOWN_REFUSALS:
        rest = Counter(r.code for r in dataset.refused[SHOWN_REFUSALS:])
        screen.line("  and " + ", ".join(f"{n} more of {code}" for code, n in rest.most_common()), style="red")


def _show_report(screen: Screen, report: Report) -> None:
    screen.heading("Findings")
    if not report.findings:
        screen.line("  nothing suspicious found")
    for finding in report.findings:
        style = {"error": "bold red", "warning": "yellow"}.get(finding.severity)
        screen.line(f"  {finding.severity}: [{finding.code}] {finding.message}", style=style)
        if finding.rows:
            more = f" and {len(finding.rows) - SHOWN_ROWS} more" if len(finding.rows) > SHOWN_ROWS else ""
            screen.line("      " + ", ".join(str(row.place) for row in finding.rows[:SHOWN_ROWS]) + more, style="dim")
        if finding.fix:
            screen.line(f"      mend: {finding.fix}", style="dim")
    screen.line()
    screen.line(f"verdict: {report.verdict}", style="bold")


def _show_learned(screen: Screen, workspace: Workspace, dataset: Dataset, rows: int, base: str) -> None:
    screen.heading(f"What would be learned, as {base} reads it (learned tokens are marked «like this»)")
    examples = dataset.train[:rows]
    for example in examples:
        for runs in workspace.show_learned([example], base=base):
            text = Text(f"  {example.place}\n  ", style="dim")
            for piece, learned in runs:
                text.append(f"«{piece}»" if learned else piece, style="bold green" if learned else "default")
            screen.console.print(text)
            screen.line()
