"""What a person sees: tables, notes, errors. The only place that prints."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from journeyman.errors import JourneymanError

PIPE_COLUMNS = 140
"""How wide tables are where no terminal says how wide it is."""

TWO_COLUMNS = 70
"""On narrower screens two answers stand one below the other."""

_BARS = "▁▂▃▄▅▆▇█"


class Screen:
    """Where output goes: people read standard output, or with --json standard error, leaving standard output to JSON."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.console = Console(stderr=as_json, highlight=False)
        if not self.console.is_terminal:
            self.console = Console(stderr=as_json, highlight=False, width=PIPE_COLUMNS)

    def line(self, text: str = "", *, style: str | None = None, indent: int = 0) -> None:
        """One line of plain text; markup in it is not interpreted. Where it wraps, the `indent` in cells is kept."""
        if not self.console.is_terminal:
            self._plain(textwrap.indent(text, " " * indent))
            return
        shown = Text(text, style=style or "")
        self.console.print(Padding(shown, (0, 0, 0, indent), expand=False) if indent else shown)

    def _plain(self, text: str) -> None:
        """Lines for other programs: as long as they are, and with nothing behind them."""
        for line in text.split("\n"):
            self.console.print(Text(line.rstrip()), soft_wrap=True)

    def heading(self, text: str) -> None:
        """The beginning of a part."""
        self.console.print()
        self.console.print(Text(text, style="bold"))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> None:
        """A table whose columns align; the columns numbered in `right` are right-aligned."""
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        for index, column in enumerate(columns):
            table.add_column(column, justify="right" if index in right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        if self.console.is_terminal:
            self.console.print(table)
            return
        with self.console.capture() as shown:
            self.console.print(table)
        self._plain(shown.get().removesuffix("\n"))

    def beside(self, columns: Sequence[tuple[str, str, str | None]]) -> None:
        """(heading, text, style of the heading) in a column each; one below the other where the screen is narrow."""
        if self.console.width >= TWO_COLUMNS:
            self.console.print(side_by_side(columns))
            return
        for heading, text, style in columns:
            self.line(heading, style=style)
            self.line(text)

    def result(self, value: Mapping[str, Any]) -> None:
        """With --json, the command's one JSON object on standard output."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")

    def error(self, error: JourneymanError) -> None:
        """An error the user can mend: what, where, and the mend."""
        console = Console(stderr=True, highlight=False)
        where = f"{error.where}: " if error.where else ""
        console.print(Text(f"error: {where}{error.message}", style="bold red"))
        for problem in error.problems:
            console.print(Text(f"  - {problem}"))
        if error.fix:
            console.print(Text(f"  mend: {error.fix}", style="yellow"))
        if self.as_json:
            sys.stdout.write(json.dumps({"error": error.as_dict()}, ensure_ascii=False) + "\n")


def side_by_side(columns: Sequence[tuple[str, str, str | None]]) -> Table:
    """(heading, text, style of the heading) in columns of equal width."""
    table = Table.grid(expand=True, padding=(0, 3, 0, 0))
    for _ in columns:
        table.add_column(ratio=1, overflow="fold")
    table.add_row(*(Text(heading, style=style or "", overflow="fold") for heading, _, style in columns))
    table.add_row(*(Text(text, overflow="fold") for _, text, _ in columns))
    return table


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """A row of bars, newest at the right; each bar is the mean of an equal share of the values."""
    if not values:
        return ""
    width = min(width, len(values))
    edges = [len(values) * i // width for i in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    if high == low:
        return _BARS[3] * width
    return "".join(_BARS[round((m - low) / (high - low) * (len(_BARS) - 1))] for m in means)


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def size(count_bytes: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count_bytes < 1024 or unit == "GiB":
            return f"{count_bytes:.0f} {unit}" if unit in ("B", "KiB") else f"{count_bytes:.1f} {unit}"
        count_bytes /= 1024
    raise AssertionError("unreachable")
