"""Following a training: a live bar with the loss and an honest time left, or plain lines where no one watches."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from journeyman.cli.show import Screen, duration, size, sparkline

_PLAIN_EVERY_S = 10.0


class TrainingView:
    """Shows the events of one training. The time left is measured over the last steps, not promised beforehand."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._live: Live | None = None
        self._losses: list[float] = []
        self._recent: deque[float] = deque(maxlen=30)
        self._event: Mapping[str, Any] = {}
        self._printed_s = 0.0
        self._last_s = 0.0
        self._other_s = 0.0
        self._tokens, self._busy_s = 0, 0.0

    def __enter__(self) -> TrainingView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Show one event."""
        show = getattr(self, f"_on_{event['type']}", None)
        if show is not None:
            show(event)

    def _on_step(self, event: Mapping[str, Any]) -> None:
        now_s = time.monotonic()
        if self._last_s:
            self._recent.append(now_s - self._last_s)
        self._last_s = now_s
        self._event = event
        self._losses.append(event["train_loss"])
        self._tokens += event["tokens"]
        self._busy_s += event["seconds"]
        if self._screen.console.is_terminal:
            if self._live is None:
                self._live = Live(console=self._screen.console, refresh_per_second=8, transient=True)
                self._live.start()
            self._live.update(self._bar())
        elif now_s - self._printed_s > _PLAIN_EVERY_S or event["step"] in (1, event["steps"]):
            self._printed_s = now_s
            self._screen.line(
                f"  step {event['step']}/{event['steps']}  loss {event['train_loss']:.3f}  "
                f"{self._rate():,.0f} tokens/s  {self._left()}"
            )

    def _on_validation(self, event: Mapping[str, Any]) -> None:
        mark = "  best so far" if event["best"] else ""
        self._screen.line(
            f"  step {event['step']:>5}  validation loss {event['valid_loss']:.3f}, "
            f"token accuracy {event['valid_mean_token_accuracy']:.1%}{_said_by_judge(event)}{mark}",
            style=None if event["best"] else "dim",
        )

    def _on_rehearsal(self, event: Mapping[str, Any]) -> None:
        self._screen.line(f"  {event['rows']} rehearsal rows sampled from the base")

    def _on_frozen_layers(self, event: Mapping[str, Any]) -> None:
        self._screen.line(f"  first {event['layers']} layers: computed once for {event['rows']:,} rows, {size(event['bytes'])} on disk while it trains")

    def _on_overfitting(self, event: Mapping[str, Any]) -> None:
        self._screen.line(f"  {event['sentence']}", style="yellow")

    def _on_resumed(self, event: Mapping[str, Any]) -> None:
        self._screen.line(f"  resumed from the checkpoint of step {event['step']}")

    def _on_early_stop(self, event: Mapping[str, Any]) -> None:
        self._screen.line(
            f"  stopped early at step {event['step']}: validation has not improved since step {event['best_step']}"
        )

    def _on_chosen(self, event: Mapping[str, Any]) -> None:
        self._stop()
        if event["valid_loss"] is None:
            self._screen.line(f"  kept: the last checkpoint, step {event['step']} (there are no validation rows)")
        else:
            self._screen.line(
                f"  kept: the checkpoint of step {event['step']}, validation loss {event['valid_loss']:.3f}"
            )
        if self._busy_s:
            self._screen.line(f"  {self._tokens:,} tokens at {self._rate():,.0f} tokens/s", style="dim")

    def _on_replayed(self, event: Mapping[str, Any]) -> None:
        self._screen.line(
            f"  replayed {event['rows']} rows through the served files: largest difference in log-probability "
            f"{event['largest_difference']:.1e} (limit {event['limit']:.0e})"
        )
        if (apart := event.get("difference_of_quantised")) is not None:
            self._screen.line(f"  it answers on the base's own weights, not on their quantised form: that changes log-probabilities by up to {apart:.1e}")

    def _on_paused(self, event: Mapping[str, Any]) -> None:
        self._stop()
        self._screen.line(f"  paused after step {event['step']}; the checkpoint is written")

    def _on_failed(self, _: Mapping[str, Any]) -> None:
        self._stop()

    def _bar(self) -> Table:
        event = self._event
        row = Table.grid(padding=(0, 1))
        row.add_row(
            Text(f"  step {event['step']}/{event['steps']}"),
            ProgressBar(total=event["steps"], completed=event["step"], width=28),
            Text(f"loss {event['train_loss']:.3f}"),
            Text(sparkline(self._losses), style="cyan"),
            Text(f"{self._rate():,.0f} tokens/s", style="dim"),
            Text(self._left(), style="dim"),
        )
        return row

    def _rate(self) -> float:
        return self._tokens / self._busy_s if self._busy_s else 0.0

    def _left(self) -> str:
        if len(self._recent) < 5:
            return "measuring the speed"
        steps = self._event["steps"] - self._event["step"]
        return f"{duration(steps * sum(self._recent) / len(self._recent))} left"

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _said_by_judge(event: Mapping[str, Any]) -> str:
    """Where checkpoints are chosen by graders: the rows that pass, and how much of general prose is still guessed."""
    if "score" not in event:
        return ""
    return f", graders {event['score']:.1%}, general prose {event['general_prose']:.1%}"
