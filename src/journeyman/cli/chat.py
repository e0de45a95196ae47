"""`chat`: talking to a model, alone or beside its base."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from journeyman.cli import options
from journeyman.cli.show import TWO_COLUMNS, Screen, side_by_side
from journeyman.errors import DataError, RequestError
from journeyman.records import Message

if TYPE_CHECKING:
    from journeyman.generate.sampling import Sampling
    from journeyman.workspace import Workspace


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(chat)


def chat(
    model: options.ModelName,
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
    names = _speakers(workspace, model, beside)
    talk = Conversations(workspace, names, system, Sampling(max_tokens=max_tokens, temperature=temperature))
    if sys.stdin.isatty():
        screen.line(f"{' beside '.join(names)}. An empty line ends.", style="dim")
    for question in _questions():
        try:
            talk.ask(screen, question)
        except RequestError as error:
            if error.code != "context_length_exceeded" or not talk.forget():
                raise
            screen.line("(what was said before no longer fits into the model's context and is forgotten)", style="yellow")
            talk.ask(screen, question)


def _speakers(workspace: Workspace, model: str, beside: bool) -> list[str]:
    """Who answers: the model, or its base and the model. Raises RequestError where there is no base to show."""
    name = workspace.served(model).id
    if not beside:
        return [name]
    if not name.startswith("ft:"):
        raise RequestError(
            f"{name} is a base: nothing stands beside it",
            where="--beside",
            fix="give a fine-tuned model's id; `journeyman models` lists them",
        )
    return [workspace.registry.get(name).base_source, name]


def _questions() -> Iterator[str]:
    """What is typed, up to an empty line; or the lines of what is piped in, blank ones left out."""
    typed = sys.stdin.isatty()
    while True:
        try:
            line = input("> ") if typed else sys.stdin.readline()
        except EOFError:
            return
        except UnicodeDecodeError as error:
            fix = "send UTF-8"
            raise DataError(f"the question is not UTF-8: {error}", where="standard input", fix=fix) from error
        if line.strip():
            yield line.strip()
        elif typed or not line:
            return


class Conversations:
    """The same questions put to one or two models, each of which remembers its own answers."""

    def __init__(self, workspace: Workspace, names: Sequence[str], system: str | None, sampling: Sampling) -> None:
        self._workspace = workspace
        self._names = names
        self._sampling = sampling
        self._start = [Message("system", system)] if system else []
        self._turns = {name: list(self._start) for name in names}

    def ask(self, screen: Screen, question: str) -> None:
        """Put a question, show the answers while they come, and remember them. Raises RequestError unchanged."""
        asked = {name: [*self._turns[name], Message("user", question)] for name in self._names}
        streams = [self._stream(name, asked[name]) for name in self._names]
        if len(streams) == 1:
            answers = [_show_stream(screen.console, streams[0])]
        elif screen.console.is_terminal and screen.console.width >= TWO_COLUMNS:
            answers = show_together(screen.console, self._names, streams)
        else:
            answers = []
            for name, stream in zip(self._names, streams, strict=True):
                screen.line(f"── {name}", style="dim")
                answers.append(_show_stream(screen.console, stream))
        for name, answer in zip(self._names, answers, strict=True):
            self._turns[name] = [*asked[name], Message("assistant", answer)]

    def forget(self) -> bool:
        """Begin anew after the system prompt; whether there was anything to forget."""
        before = self._turns
        self._turns = {name: list(self._start) for name in self._names}
        return before != self._turns

    def _stream(self, name: str, messages: Sequence[Message]) -> Iterator[str]:
        return (piece.text for piece in self._workspace.stream(name, messages, self._sampling))


def _show_stream(console: Console, stream: Iterable[str]) -> str:
    text = ""
    for piece in stream:
        console.print(Text(piece), end="", soft_wrap=True)
        text += piece
    console.print()
    return text


def show_together(console: Console, names: Sequence[str], streams: Sequence[Iterator[str]]) -> list[str]:
    """Show answers in a column each while they come, a piece of each in turn; returns them whole.

    While they grow, the last lines that fit the terminal are shown; in the end, everything.
    """
    texts = [""] * len(streams)

    def columns() -> Table:
        return side_by_side([(f"── {name}", text, "dim") for name, text in zip(names, texts, strict=True)])

    try:
        with Live(console=console, get_renderable=lambda: _LastLines(columns()), transient=True, refresh_per_second=12):
            for index, piece in alternately(streams):
                texts[index] += piece
    finally:
        if any(texts):
            console.print(columns())
    return texts


def alternately(streams: Sequence[Iterator[str]]) -> Iterator[tuple[int, str]]:
    """The next piece of each stream in turn, with the stream's number, until all have ended."""
    going = dict(enumerate(streams))
    while going:
        for index in list(going):
            piece = next(going[index], None)
            if piece is None:
                del going[index]
            else:
                yield index, piece


class _LastLines:
    """As many of the last lines of something as the terminal has room for."""

    def __init__(self, whole: Table) -> None:
        self._whole = whole

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self._whole, options.update(height=None), pad=False)
        for line in lines[-(console.height - 1) :]:
            yield from line
            yield Segment.line()
