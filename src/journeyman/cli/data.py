"""`init`, and what every command says about the rows it has read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from journeyman.cli.show import Screen

if TYPE_CHECKING:
    from journeyman.data.dataset import Dataset

SHOWN_REFUSALS = 20


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(init)


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


def shown_file(file: str) -> str:
    """A file as short as it can be named: of a bundled task within the tasks, of one below the working folder within that."""
    import journeyman

    for folder in (Path(journeyman.__file__).parent / "tasks", Path.cwd()):
        if Path(file).is_relative_to(folder):
            return str(Path(file).relative_to(folder))
    return file


def show_dataset(screen: Screen, dataset: Dataset, *, refusals: bool = True) -> None:
    """What was read, in which form, and what became of it. Without `refusals` the refused rows are only counted."""
    counts = dataset.manifest["counts"]
    screen.heading("Data")
    for source in dataset.manifest["sources"]:
        columns = source.get("columns")
        detail = f", input column {columns['input']!r}, output column {columns['output']!r}" if columns else ""
        screen.line(f"  {shown_file(source['file'])}: {source['rows']:,} rows, read as {source['shape']}{detail}")
        for note in source.get("notes", ()):
            screen.line(f"  note: {note}", style="yellow")
    screen.line(
        f"  read {counts['read']:,} = kept {counts['kept']:,} + refused {counts['refused']:,}; "
        f"train {counts['train']:,}, validation {counts['validation']:,}, held out {counts['held_out']:,}"
    )
    if not refusals or not dataset.refused:
        return
    for refused in dataset.refused[:SHOWN_REFUSALS]:
        screen.line(f"  refused {shown_file(refused.place.file)}:{refused.place.line}: [{refused.code}] {refused.reason}", style="red")
        screen.line(f"      mend: {refused.fix}", style="dim")
    if len(dataset.refused) > SHOWN_REFUSALS:
        rest = Counter(r.code for r in dataset.refused[SHOWN_REFUSALS:])
        screen.line("  and " + ", ".join(f"{n} more of {code}" for code, n in rest.most_common()), style="red")
