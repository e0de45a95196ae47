"""Money: a price table that the user sets, what 1,000 requests cost, and after how many requests a training has paid."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from journeyman.errors import TaskError

FILE = "prices.toml"
MODEL_KEYS = ("input", "output", "hour")
"""For a model: money for a million tokens read, for a million written; or for an hour of the machine that answers."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What the user pays. What is not in the table is unknown, and never 0."""

    currency: str = ""
    models: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    training_hour: float | None = None

    def of_1000(
        self, model: str, prompt_tokens: float, completion_tokens: float, latency_s: float | None
    ) -> float | None:
        """Money for 1,000 requests of this size; None where the table does not say.

        By the token where the model has token prices. By the hour a request costs the machine for its own latency, as if
        requests came one after another: answered together they cost less.
        """
        price = self.models.get(model, {})
        if "input" in price and "output" in price:
            return 1000 * (prompt_tokens * price["input"] + completion_tokens * price["output"]) / 1e6
        if "hour" in price and latency_s is not None:
            return 1000 * latency_s * price["hour"] / 3600
        return None

    def of_training(self, seconds: float | None) -> float | None:
        """Money for a training, once; None where the price or the time is unknown."""
        return None if None in (self.training_hour, seconds) else self.training_hour * seconds / 3600  # type: ignore[operator]


def break_even(training: float | None, before_1000: float | None, after_1000: float | None) -> int | None:
    """The number of requests after which a training has paid for itself; None where a price is unknown or it never does."""
    if training is None or before_1000 is None or after_1000 is None or after_1000 >= before_1000:
        return None
    return math.ceil(1000 * training / (before_1000 - after_1000))


def read_prices(path: Path) -> Prices:
    """Read a price table. Raises TaskError `invalid_prices` that names every problem at once."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _wrong(path, [str(error)]) from error
    problems = [f"unknown key {key}; known are currency, models, training" for key in table if key not in _TOP]
    problems += [f"{key} is {table[key]!r}; it must be {_NAMES[kind]}" for key, kind in _TOP.items() if key in table and not isinstance(table[key], kind)]
    models = table.get("models") if isinstance(table.get("models"), dict) else {}
    assert models is not None
    for name, price in models.items():
        problems += _problems(f'models."{name}"', price, MODEL_KEYS)
        if isinstance(price, dict) and ("input" in price) != ("output" in price):
            problems.append(f'models."{name}" needs both input and output')
    training = table.get("training", {})
    problems += _problems("training", training, ("hour",))
    if problems:
        raise _wrong(path, problems)
    return Prices(table.get("currency", ""), models, training.get("hour"))


_TOP: Mapping[str, type] = {"currency": str, "models": dict, "training": dict}
_NAMES: Mapping[type, str] = {str: "a text", dict: "a table"}


def _problems(where: str, price: Any, known: tuple[str, ...]) -> list[str]:
    if not isinstance(price, dict):
        return [f"{where} is {price!r}; it must be a table with {', '.join(known)}"]
    return [
        f"unknown key {where}.{key}; known are {', '.join(known)}"
        if key not in known
        else f"{where}.{key} is {value!r}; it must be a number from 0 up"
        for key, value in price.items()
        if key not in known or isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0
    ]


def _wrong(path: Path, problems: list[str]) -> TaskError:
    return TaskError(
        f"the price table has {len(problems)} problem(s)",
        where=str(path),
        fix="correct the lines named; docs/compare.md has an example",
        code="invalid_prices",
        problems=problems,
    )
