"""`compare`: prompts, retrieval, fine-tuning and plain classifiers on the same held-out rows, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from journeyman.cli import options
from journeyman.cli.follow import TrainingView
from journeyman.cli.show import Screen, duration
from journeyman.cli.training import interruptible

if TYPE_CHECKING:
    from journeyman.evaluate.compare import Line
    from journeyman.evaluate.comparison import Comparison
    from journeyman.request import CompareRequest, RemoteRequest


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(compare)


def compare(
    context: typer.Context,
    source: options.Source,
    model: Annotated[str | None, typer.Option("--model", metavar="ID", help="A fine-tuned model to take, instead of training one.")] = None,
    contenders: Annotated[str, typer.Option("--contenders", metavar="NAMES", help="Only these, separated by commas.")] = "",
    rows: Annotated[int | None, typer.Option("--rows", metavar="N", help="Only N held-out rows: the first of a shuffle by the seed.")] = None,
    remote: Annotated[list[str], typer.Option("--remote", metavar="URL=MODEL", help="Also a model behind an OpenAI-compatible URL. May be given several times.")] = [],  # noqa: B006
    remote_key: Annotated[str, typer.Option("--remote-key", metavar="VARIABLE", help="The environment variable that holds the key of remote models and of the one of --reflection.")] = "OPENAI_API_KEY",
    shots: Annotated[int | None, typer.Option("--shots", help="Examples shown in the prompt. Default: 4.")] = None,
    passages: Annotated[int | None, typer.Option("--passages", help="Passages of documents/ put into the prompt. Default: 3.")] = None,
    embedder: Annotated[str | None, typer.Option("--embedder", metavar="MODEL", help="Retrieve passages and examples by the vectors of this sentence-transformers model (folder or hub id) instead of BM25. Needs `journeyman[vectors]`.")] = None,
    budget: Annotated[int | None, typer.Option("--budget", help="Prompts that the prompt search tries, each on at most 32 validation rows; for gepa as many answers in all, those to training rows counted too. Default: 12.")] = None,
    optimiser: Annotated[str, typer.Option("--optimiser", metavar="search|gepa", help="What looks for a better prompt: a search that leaves out parts and adds examples, or GEPA, in which a model rewrites the instructions (needs `journeyman[gepa]` and --reflection).")] = "search",
    reflection: Annotated[str | None, typer.Option("--reflection", metavar="URL=MODEL", help="For gepa: a capable model behind an OpenAI-compatible URL that rewrites the instructions. It is shown training rows.")] = None,
    prices: Annotated[Path | None, typer.Option("--prices", metavar="FILE", help="A price table. Default: prices.toml of the task, else of the home.")] = None,
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
    """Prompt, examples, retrieval and a fine-tuned model on the same held-out rows, with advice. Goes on where it was interrupted."""
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    workspace = Workspace()
    request = _request(context.params)
    with TrainingView(screen) as view, interruptible() as should_stop, _Bars(screen, should_stop) as bars:
        made = workspace.compare(request, on_event=view, on_progress=bars, should_stop=should_stop)
    show_comparison(screen, made)
    screen.result(made.as_dict())


def _request(flags: dict[str, Any]) -> CompareRequest:
    from journeyman.request import CompareRequest

    return CompareRequest(
        train=options.request(flags),
        model=flags["model"],
        contenders=tuple(name.strip() for name in flags["contenders"].split(",") if name.strip()),
        rows=flags["rows"],
        remotes=tuple(_remote(text, flags["remote_key"], "--remote") for text in flags["remote"]),
        shots=flags["shots"],
        passages=flags["passages"],
        budget=flags["budget"],
        prices=flags["prices"],
        embedder=flags["embedder"],
        optimiser=flags["optimiser"],
        reflection=_remote(flags["reflection"], flags["remote_key"], "--reflection") if flags["reflection"] else None,
    )


def _remote(text: str, key_variable: str, flag: str) -> RemoteRequest:
    """`URL=MODEL` as a request. Raises RequestError where it is neither."""
    from journeyman.errors import RequestError
    from journeyman.request import RemoteRequest

    url, equals, model = text.rpartition("=")
    if not (equals and model and url.startswith(("http://", "https://"))):
        raise RequestError(
            f"{text!r} is no URL=MODEL",
            where=flag,
            fix=f"such as {flag} http://127.0.0.1:8000/v1=starter",
        )
    return RemoteRequest(url, model, key_variable)


class _Bars:
    """A bar for the contender at work, with the time that its rows still take; a line each where no one watches.

    Ctrl-C ends between two batches: all answers so far are kept.
    """

    def __init__(self, screen: Screen, should_stop: Callable[[], bool]) -> None:
        self._screen = screen
        self._should_stop = should_stop
        columns = (TextColumn("  {task.description}"), BarColumn(bar_width=28), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=screen.console, transient=True)
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, name: str, done: int, of: int) -> None:
        """Show how far a contender is. Raises KeyboardInterrupt where the user has asked to stop."""
        if self._should_stop():
            raise KeyboardInterrupt
        if name not in self._bars:
            if self._screen.console.is_terminal:
                self._progress.start()  # not before: a training has a live view of its own
            else:
                self._screen.line(f"  {name}")
            self._bars[name] = self._progress.add_task(name, total=of)
        self._progress.update(self._bars[name], completed=done, total=of)


def show_comparison(screen: Screen, made: Comparison) -> None:
    """The table, the graders of those that matter, what each number needs to be read, and the advice."""
    setting = made.setting
    all_of = "all" if len(setting.rows) == setting.held_out_rows else f"the first of a shuffle by seed {setting.seed}, of"
    screen.heading(f"{setting.task}: {len(made.lines)} contenders on {len(setting.rows)} held-out rows ({all_of} {setting.held_out_rows})")
    score = "rows passed" if made.pass_or_fail else "mean grade"
    money = f"per 1,000{f', {setting.prices.currency}' if setting.prices.currency else ''}"
    screen.table(
        ["  contender", score, "95% interval", f"against {made.reference}", "", "tokens in", "out", "seconds", money],
        [_row(made, line) for line in made.lines],
        right=(1, 2, 3, 5, 6, 7, 8),
    )
    screen.line("  seconds: the median of requests asked one at a time; per 1,000: ? where the price table says nothing", style="dim")
    _show_graders(screen, made)
    _show_training(screen, made)
    notes = [(line.title, note) for line in made.lines for note in line.notes]
    left_out = [(name, f"left out: {why}") for name, why in made.left_out.items() if why != "not asked for"]
    if notes or left_out:
        screen.heading("To know of the numbers")
        for title, note in (*notes, *left_out):
            screen.line(f"{title}: {note}", indent=2)
    screen.heading(f"Advice: {made.advice.as_dict()['in_words']}")
    screen.line(made.advice.reason, indent=2)
    for remark in made.advice.remarks:
        screen.line(remark, indent=2)
    screen.line(f"  answers and numbers: {setting.folder}", style="dim")


def _row(made: Comparison, line: Line) -> tuple[str, ...]:
    cost = made.cost_1000(line)
    return (
        f"  {line.name}",
        _number(line.score.value, made.pass_or_fail),
        _interval(line.score.interval, made.pass_or_fail),
        "" if line.against is None else _interval(line.against.interval, made.pass_or_fail, signed=True),
        "the reference" if line.against is None else line.against.outcome.replace("_", " "),
        "?" if line.prompt_tokens is None else f"{line.prompt_tokens:,.0f}",
        "?" if line.completion_tokens is None else f"{line.completion_tokens:,.0f}",
        "?" if line.latency_s is None else f"{line.latency_s:.2f}",
        "?" if cost is None else f"{cost:,.2f}",
    )


def _number(value: Any, pass_or_fail: bool) -> str:
    if not isinstance(value, (int, float)):
        return "no data"
    return f"{value:.1%}" if pass_or_fail else f"{value:.3f}"


def _interval(interval: Any, pass_or_fail: bool, *, signed: bool = False) -> str:
    from journeyman.evaluate.statistics import Interval

    if not isinstance(interval, Interval):
        return "no data"
    sign = "+" if signed else ""
    form = f"{{:{sign}.1f}}" if pass_or_fail else f"{{:{sign}.3f}}"
    scale = 100 if pass_or_fail else 1
    return f"{form.format(scale * interval.low)} to {form.format(scale * interval.high)}"


def _show_graders(screen: Screen, made: Comparison) -> None:
    """The graders of the reference, of the best other one, and of the tuned model."""
    from journeyman.evaluate.statistics import Missing

    scored = [line for line in made.lines if not isinstance(line.score.value, Missing)]
    best = max(scored, key=lambda line: float(line.score.value), default=None)  # type: ignore[arg-type]
    chosen = dict.fromkeys(line.name for line in (made.line(made.reference), made.line("tuned"), best) if line)
    lines = [line for name in chosen if (line := made.line(name)) is not None]
    names = dict.fromkeys(grader.name for line in lines for grader in line.graders)
    if len(names) < 2:
        return
    screen.heading("Rows passed, grader by grader")
    screen.table(
        ["  grader", *(line.name for line in lines)],
        [(f"  {name}", *(_grade(line, name) for line in lines)) for name in names],
        right=tuple(range(1, len(lines) + 1)),
    )


def _grade(line: Line, name: str) -> str:
    from journeyman.evaluate.statistics import Mean, Proportion

    grader = next((g for g in line.graders if g.name == name), None)
    if grader is None:
        return "no data"
    if isinstance(grader.passed, Proportion):
        return f"{grader.passed.share:.1%}"
    return f"{grader.mean.value:.3f}" if isinstance(grader.mean, Mean) else "no data"


def _show_training(screen: Screen, made: Comparison) -> None:
    if made.training is None:
        return
    took = "unknown time" if made.training.seconds is None else duration(made.training.seconds)
    cost = made.training_cost
    money = "cost unknown (no price for an hour of training)" if cost is None else f"{cost:,.2f} {made.setting.prices.currency}"
    even = made.break_even_requests
    pays = "" if even is None else f"; paid for after {even:,} requests, against {made.reference}"
    screen.line(f"  training, once: {took}, {money}{pays}. The model is {made.training.model}")
