"""`check`: what is wrong with the examples, and what to do."""

from __future__ import annotations

import enum
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from journeyman.cli import options
from journeyman.cli.data import show_dataset, shown_file
from journeyman.cli.show import Screen

if TYPE_CHECKING:
    from journeyman.data.check.fix import Fixed
    from journeyman.data.check.review import Review
    from journeyman.records import Example
    from journeyman.workspace import Workspace

SHOWN_ROWS = 3
SHOWN_REFUSALS = 20
"""Of the rows refused for one reason; what they say is shown nowhere else."""

MARKS = {"error": ("✕", "bold red"), "warning": ("▲", "yellow"), "info": ("○", "cyan")}
VERDICTS = {"errors": ("✕", "bold red"), "warnings": ("▲", "bold yellow"), "ok": ("✓", "bold green")}


class FailOn(enum.StrEnum):
    """The least severity that makes the command exit 1."""

    ERROR = "error"
    WARNING = "warning"
    NEVER = "never"


FAILING = {FailOn.ERROR: ("errors",), FailOn.WARNING: ("errors", "warnings"), FailOn.NEVER: ()}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(check)


def check(
    source: Annotated[str, typer.Argument(metavar="TASK|FILE|JOB", help="A task folder, a data file, a bundled task, or a job's id: its rows, and how each was learned.")],
    html: Annotated[Path | None, typer.Option("--html", metavar="PATH", help="Write the report as one page: plots, findings, rows to search.")] = None,
    fix: Annotated[Path | None, typer.Option("--fix", metavar="OUT", help="Write a mended copy of the examples, and OUT.ledger.jsonl with every change. No label or answer is replaced by another unless --relabel says so.")] = None,
    relabel: Annotated[bool, typer.Option("--relabel", help="With --fix, also take suggested labels, and the majority's answer where rows contradict each other.")] = False,
    fix_only: Annotated[list[str] | None, typer.Option("--fix-only", metavar="CODE", help="With --fix, mend what this rule found and nothing else. May be given again.")] = None,
    ignore: Annotated[list[str] | None, typer.Option("--ignore", metavar="CODE", help="Leave findings of this rule out of the verdict and the report, which counts them. May be given again.")] = None,
    against: Annotated[Path | None, typer.Option("--against", metavar="FILE", help="Compare with a test set or a log of traffic.")] = None,
    names: Annotated[str | None, typer.Option("--names", metavar="MODEL", help="Find people's names too, with this spaCy model (the extra `names`).")] = None,
    fail_on: Annotated[FailOn, typer.Option("--fail-on", help="Exit 1 from this severity on.")] = FailOn.ERROR,
    show: Annotated[int, typer.Option("--show", metavar="N", help="Print N rows with the learned tokens marked.")] = 0,
    base: options.Base = None,
    validation: options.Validation = None,
    held_out: options.HeldOut = None,
    input_column: options.InputColumn = None,
    output_column: options.OutputColumn = None,
    as_json: options.AsJson = False,
) -> None:
    """Say what is wrong with the examples and what to do about it. Exits 1 where a training would be refused."""
    from journeyman.request import TrainRequest
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    _require_options(fix, html, relabel=relabel, fix_only=fix_only or ())
    workspace = Workspace()
    columns = options.columns(input_column, output_column)
    request = TrainRequest(source, base=base, validation=validation, held_out=held_out, columns=columns)
    with _progress(screen) as on_progress:
        if source.startswith("ftjob-"):
            review = workspace.check_job(source, ignore=ignore or (), on_progress=on_progress)
            base = base or workspace.jobs.get(source).base
        else:
            review = workspace.check(request, against=against, names=names, ignore=ignore or (), on_progress=on_progress)
    # Files first: whoever reads only the beginning of what is printed closes the pipe, which ends the command.
    if html:
        review.to_html(html)
    fixed = None
    if fix:
        with _progress(screen):
            fixed = review.fix(fix, relabel=relabel, only=fix_only or ())
    show_verdict(screen, review)
    show_dataset(screen, review.dataset, refusals=False)
    if lengths := review.lengths():
        screen.line(f"  tokens a row: median {lengths['median']:,}, 19 in 20 up to {lengths['p95']:,}, longest {lengths['longest']:,}")
    if review.training:
        screen.line(f"  {review.training.sentence()}")
    show_findings(screen, review, [*_files(review), *([str(against)] if against else [])])
    if show:
        base = base or workspace.task(source).base or "starter"
        _show_learned(screen, workspace, review.dataset.train[:show], base)
    if html:
        screen.line()
        screen.line(f"page    {html}")
    if fixed:
        _show_fixed(screen, fixed)
    else:
        _show_offers(screen, review)
    screen.result(
        {**review.as_dict(), **({"html": str(html)} if html else {}), **({"fixed": fixed.as_dict()} if fixed else {})}
    )
    if review.report.verdict in FAILING[fail_on]:
        raise typer.Exit(1)


def _require_options(fix: Path | None, html: Path | None, *, relabel: bool, fix_only: Sequence[str]) -> None:
    """What would be refused after the check is refused before it."""
    from journeyman.data.check.fix import require_free, require_rules
    from journeyman.data.check.mending import DOES
    from journeyman.data.check.review import require_page

    if html:
        require_page(html)
    if fix:
        require_free(fix)
    elif relabel or fix_only:
        raise typer.BadParameter("--relabel and --fix-only say what --fix mends: name the copy with --fix OUT")
    require_rules(fix_only, DOES, "mended")


@contextmanager
def _progress(screen: Screen) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal that goes away when the check is done; elsewhere nothing."""
    columns = (TextColumn("  {task.description:<34}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen.console, transient=True, disable=not screen.console.is_terminal) as progress:
        bar = progress.add_task("Reading the rows", total=None)
        yield lambda title, done, of: progress.update(bar, description=title, completed=done, total=of)


def show_verdict(screen: Screen, review: Review) -> None:
    """Whether the rows can be trained on, and what to do first."""
    report = review.report
    mark, style = VERDICTS[report.verdict]
    screen.line(f"{mark} {review.name}: {report.as_dict()['ready']}", style=style)
    for number, finding in enumerate(report.first, 1):
        screen.line(f"{number}. {finding.fix}  [{finding.code}]", indent=2)


def show_findings(screen: Screen, review: Review, files: Sequence[str]) -> None:
    """Every finding, worst first, with its first rows. `files` are those that the rows stand in."""
    report = review.report

    def near(text: str) -> str:
        for file in files:
            text = text.replace(f"{file}:", f"{shown_file(file)}:")
        return text

    screen.heading("Findings")
    if review.ignored:
        screen.line(review.left_out(), style="dim", indent=2)
    if not report.findings:
        screen.line("nothing suspicious found" + (" beside that" if review.ignored else ""), indent=2)
    for finding in report.findings:
        mark, style = MARKS[finding.severity]
        screen.line(f"{mark} {finding.severity}: [{finding.code}] {near(finding.message)}", style=style, indent=2)
        most = SHOWN_REFUSALS if finding.code == "refused_rows" else SHOWN_ROWS
        for row in finding.rows[:most]:
            screen.line(near(f"{row.place}  {row.note}").rstrip(), style="dim", indent=6)
        if len(finding.rows) > most:
            screen.line(f"and {len(finding.rows) - most:,} more", style="dim", indent=6)
        if finding.fix:
            screen.line(f"mend: {finding.fix}", indent=6)


def _files(review: Review) -> list[str]:
    return [str(source["file"]) for source in review.dataset.manifest["sources"]]


def _show_offers(screen: Screen, review: Review) -> None:
    """What `--fix` would do, where it would do anything."""
    mends, suggestions = review.offers()
    if not mends + suggestions:
        return
    screen.line()
    if review.look is None:
        if review.examples.is_file():
            command = f"journeyman check {shlex.quote(shown_file(str(review.examples)))} --fix OUT"
            screen.line(f"a job's rows stay as they were trained; `{command}` mends a copy of the file", style="dim")
        return
    if not mends:
        screen.line(f"--fix OUT --relabel writes a copy in which {suggestions:,} row(s) have the output that is suggested", style="dim")
        return
    more = f"; --relabel takes the output that is suggested for {suggestions:,} more" if suggestions else ""
    screen.line(f"--fix OUT writes a copy in which {mends:,} row(s) are mended, and a ledger of every change{more}", style="dim")


def _show_fixed(screen: Screen, fixed: Fixed) -> None:
    screen.heading("Mended")
    screen.line(f"  {fixed.rows:,} rows = kept {fixed.kept:,} + dropped {fixed.dropped:,}; of those kept, {fixed.changed:,} changed")
    for rule in dict.fromkeys([*fixed.mended, *fixed.left]):
        waiting = fixed.left.get(rule, 0)
        more = f", {waiting:,} suggestion(s) not taken (--relabel takes them)" if waiting else ""
        screen.line(f"{rule}: {fixed.mended.get(rule, 0):,} row(s){more}", indent=4)
    screen.line(f"  copy    {fixed.out}")
    screen.line(f"  ledger  {fixed.ledger}")
    mark, style = VERDICTS[fixed.report.verdict]
    left = ", ".join(dict.fromkeys(f.code for f in fixed.report.findings if f.severity != "info"))
    screen.line(f"  {mark} the copy is {fixed.report.as_dict()['ready']}" + (f"; left to you: {left}" if left else ""), style=style)


def _show_learned(screen: Screen, workspace: Workspace, examples: Sequence[Example], base: str) -> None:
    screen.heading(f"What would be learned, as {base} reads it (learned tokens are marked «like this»)")
    for example in examples:
        for runs in workspace.show_learned([example], base=base):
            text = Text(f"  {shown_file(example.place.file)}:{example.place.line}\n  ", style="dim")
            for piece, learned in runs:
                text.append(f"«{piece}»" if learned else piece, style="bold green" if learned else "default")
            screen.console.print(text, soft_wrap=not screen.console.is_terminal)
            screen.line()
