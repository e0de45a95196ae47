"""`evaluate`: what a model gained, measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from journeyman.cli import options
from journeyman.cli.show import Screen

if TYPE_CHECKING:
    from journeyman.evaluate.consistency import Consistency
    from journeyman.evaluate.course import CheckpointScore
    from journeyman.evaluate.forgetting import Forgetting, Skill
    from journeyman.evaluate.measures import Measures
    from journeyman.evaluate.report import Evaluation
    from journeyman.evaluate.run import ScoredRow
    from journeyman.evaluate.statistics import Mean, Missing, Proportion
    from journeyman.workspace import Workspace

def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(evaluate)


def evaluate(
    model: options.TunedName,
    task: Annotated[str | None, typer.Option("--task", metavar="TASK", help="Another task's held-out rows.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Only N held-out rows, drawn once and for all.")] = None,
    forgetting_budget: Annotated[float | None, typer.Option("--forgetting-budget", metavar="POINTS", help="Exit 1 where a general skill is significantly worse by more points than this.")] = None,
    probes: Annotated[list[Path], typer.Option("--probes", metavar="FILE", help="Further items that must not be forgotten, as JSON lines. May be given several times.")] = [],  # noqa: B006
    other_task: Annotated[list[str], typer.Option("--other-task", metavar="TASK", help="Another task that must not be forgotten: its held-out rows. May be given several times.")] = [],  # noqa: B006
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="Score every checkpoint that the job has kept, on its validation rows and on what was forgotten.")] = False,
    consistency: Annotated[int, typer.Option("--consistency", metavar="ROWS", help="So many held-out rows are asked again and again, sampled and in other words; 0 leaves that out.")] = 20,
    price: Annotated[float | None, typer.Option("--price", metavar="MONEY", help="What a million input tokens cost you, for the money saved.")] = None,
    compared: Annotated[Path | None, typer.Option("--compared", metavar="FILE", help="The JSON object of a comparison: its table goes into the report.")] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="OUT", help="Write the report as one page here, too.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """The model and its base on the same held-out rows, and on general skills: what was gained, and what was forgotten."""
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    budget, workspace = _share(forgetting_budget), Workspace()
    evaluation = run_evaluation(
        screen, workspace, model, task, limit, forgetting_budget=budget, consistency_rows=consistency, price=price,
        compared=_read_compared(compared), probes=probes, other_tasks=other_task, checkpoints=checkpoints,
    )
    show_evaluation(screen, evaluation)
    folder = workspace.evaluation_folder(model, task)
    if html is not None:
        html.write_text((folder / "report.html").read_text(encoding="utf-8"), encoding="utf-8")
    screen.line()
    screen.line(f"report  {html or folder / 'report.html'}")
    screen.result({**evaluation.as_dict(), "report": str(html or folder / "report.html"), "folder": str(folder)})
    if budget is not None and evaluation.forgetting and not evaluation.forgetting.within_budget:
        raise typer.Exit(1)


def _read_compared(path: Path | None) -> dict[str, Any] | None:
    """The file of a comparison. Raises DataError where it is none."""
    from journeyman.errors import DataError
    from journeyman.files import read_json

    if path is None:
        return None
    try:
        value = read_json(path)
    except (OSError, ValueError) as error:
        reason = f"can't be read: {error}"
    else:
        if isinstance(value, dict) and isinstance(value.get("contenders"), list):
            return value
        reason = "is no comparison: it has no contenders"
    raise DataError(f"{path} {reason}", where="--compared", fix="give the JSON object of a comparison, with its contenders", code="not_a_comparison")


def _share(points: float | None) -> float | None:
    """Points as a share. Raises RequestError outside of 0 to 100."""
    from journeyman.errors import RequestError

    if points is not None and not 0 <= points <= 100:
        raise RequestError(
            f"{points:g} is no number of points", where="--forgetting-budget", fix="give points from 0 to 100"
        )
    return None if points is None else points / 100


def run_evaluation(
    screen: Screen, workspace: Workspace, model: str, task: str | None, limit: int | None, **more: Any
) -> Evaluation:
    """Evaluate with a progress bar; `more` goes to `Workspace.evaluate`."""
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

        return workspace.evaluate(model, task, on_progress=on_progress, limit=limit, **more)


def show_evaluation(screen: Screen, evaluation: Evaluation, *, examples: int = 0) -> None:
    """Examples side by side, the graders' pass rates with their counts, the verdict."""
    pairs = list(zip(evaluation.before.rows, evaluation.after.rows, strict=True))
    for number, (before, after) in enumerate(pairs[:examples], 1):
        screen.heading(f"Held-out row {number} ({before.place})")
        screen.line(before.input)
        screen.beside([_answer("base", before), _answer("tuned", after)])
    screen.heading(f"Graders on {len(pairs)} held-out rows")
    lines = [(line.name, line.before, line.after) for line in evaluation.graders]
    lines.append(("all graders", evaluation.passed_before, evaluation.passed_after))
    screen.table(
        ["  grader", "base", "tuned"],
        [(f"  {name}", show_share(before), show_share(after)) for name, before, after in lines],
        right=(1, 2),
    )
    screen.line(f"  {evaluation.verdict.sentence}", style="bold")
    for judge in evaluation.judges:
        screen.line(f"  judge {judge.sentence}")
    if evaluation.measures is not None:
        screen.line()
        show_measures(screen, evaluation.measures)
    if evaluation.consistency is not None:
        show_consistency(screen, evaluation.consistency)
    if evaluation.forgetting is not None:
        show_forgetting(screen, evaluation.forgetting)
    if evaluation.course:
        show_course(screen, evaluation.course)
    if evaluation.saving is not None:
        money = "" if evaluation.saving.money is None else f", {evaluation.saving.money:,.2f} in money,"
        screen.line(
            f"  without the instructions in each prompt: {evaluation.saving.tokens:,.0f} tokens{money} saved per 1,000 requests"
        )


def show_measures(screen: Screen, measures: Measures) -> None:
    """What is measured without graders."""
    from journeyman.evaluate.statistics import Missing

    means = [show_number(m if isinstance(m, Missing) else m.value, "{:.3f}") for m in measures.similarity]
    lines = [("exactly the ideal", *map(show_share, measures.exact)), ("likeness to the ideal (rouge_l)", *means)]
    if measures.loss is not None:
        losses = (show_number(value, "{:.3f}") for value in (measures.loss.before, measures.loss.after))
        lines.append(("loss on the ideal, nats a token", *losses))
    if measures.json is not None:
        lines.append(("valid JSON", *map(show_share, measures.json.valid)))
        lines += [(f"right {f.key}", show_share(f.before), show_share(f.after)) for f in measures.json.fields]
    screen.table(["  beside the graders", "base", "tuned"], [(f"  {name}", b, a) for name, b, a in lines], right=(1, 2))


def show_consistency(screen: Screen, found: Consistency) -> None:
    """How often the verdict holds, prompted base against tuned model."""
    screen.heading(f"Consistency: {found.after.rows} rows, asked again and in other words")
    screen.table(
        ["  verdict", "base + instructions", "tuned"],
        [
            ("  the same every time", show_share(found.before.steady), show_share(found.after.steady)),
            ("  passes every time", show_share(found.before.reliable), show_share(found.after.reliable)),
        ],
        right=(1, 2),
    )


def show_forgetting(screen: Screen, forgetting: Forgetting) -> None:
    """General skills before and after, what was lost, and the remedies where the budget is exceeded."""
    from journeyman.evaluate.forgetting import REMEDIES

    screen.heading("What it forgot: general skills that it was not tuned for")
    screen.table(
        ["  skill", "items", "base", "tuned", "points", "95% interval", ""],
        [_skill(skill) for skill in forgetting.skills],
        right=(1, 2, 3, 4, 5),
    )
    text = forgetting.text
    screen.line(f"  loss on general prose: {text.base:.3f} nats a token before, {text.tuned:.3f} after", style="dim")
    screen.line(f"  {forgetting.sentence}", style="bold")
    if not forgetting.within_budget:
        screen.line("  What helps, each a flag of `journeyman train`:")
        screen.table(["", ""], [(f"  {flag}", what) for flag, what in REMEDIES])


def show_course(screen: Screen, course: Sequence[CheckpointScore]) -> None:
    """Every checkpoint's score on the validation rows, and what it had lost by then."""
    from journeyman.evaluate.course import advice

    screen.heading("The checkpoints, on validation rows")
    screen.table(
        ["  step", "all graders", "loss on prose", "over the budget in", ""],
        [
            (f"  {c.step:,}", show_share(c.passed), f"{c.prose_loss:+.3f}", ", ".join(c.lost) or "nothing", "the model" * c.published)
            for c in course
        ],
        right=(1, 2),
    )
    if sentence := advice(course):
        screen.line(f"  {sentence}", style="bold")


def _skill(skill: Skill) -> tuple[str, ...]:
    from journeyman.evaluate.statistics import Interval

    base, tuned = (show_number(value, "{:.1%}") for value in (skill.base, skill.tuned))
    difference, interval = "", ""
    if isinstance(skill.difference, float):
        difference = f"{100 * skill.difference:+.1f}"
    if isinstance(skill.interval, Interval):
        interval = f"{100 * skill.interval.low:+.1f} to {100 * skill.interval.high:+.1f}"
    return f"  {skill.name}", str(skill.items), base, tuned, difference, interval, SKILL_VERDICTS[skill.verdict]


SKILL_VERDICTS = {
    "worse": "worse",
    "better": "better",
    "no_difference_seen": "no difference seen",
    "not_enough_rows": "too few items to tell",
    "at_chance": "base at chance",
}


def show_number(value: float | Missing, form: str) -> str:
    """A number in the form, or that there is none."""
    return form.format(value) if isinstance(value, (int, float)) else "no data"


def _answer(label: str, row: ScoredRow) -> tuple[str, str, str]:
    verdict, style = ("passes", "green") if row.graded.passed else ("fails", "red")
    return f"── {label}, {verdict}", (row.output or row.error or "").strip() or "(nothing)", style


def show_share(value: Proportion | Mean | Missing) -> str:
    """A pass rate with its count: 85.0% (102/120); of values, 0.850 (mean of 120)."""
    from journeyman.evaluate.statistics import Mean, Missing

    if isinstance(value, Missing):
        return "no data"
    if isinstance(value, Mean):
        return f"{value.value:.3f} (mean of {value.total})"
    return f"{value.share:.1%} ({value.count}/{value.total})"
