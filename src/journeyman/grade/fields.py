"""Reading the fields of one grader object: every problem is collected, none stops the reading."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from journeyman.grade.template import Template


class Fields:
    """The fields of one grader object.

    Each method takes a field and checks it; a problem goes to `problems`, and a harmless stand-in comes back, so
    that the next field can be checked too. `finish` then refuses the keys that nobody took.
    """

    def __init__(self, values: Mapping[str, Any], where: str, problems: list[str]) -> None:
        self.where = where
        self.problems = problems
        self._values = values
        self._known: list[str] = []

    def problem(self, key: str, message: str, mend: str) -> None:
        """Note what is wrong with a field, and what to do."""
        self.problems.append(f"{self.where}, {key}: {message}; mend: {mend}")

    def has(self, key: str) -> bool:
        """Whether the field is there and not null."""
        return self._values.get(key) is not None

    def raw(self, key: str) -> Any:
        """The field as it stands, None where it is missing."""
        self._known.append(key)
        return self._values.get(key)

    def text(self, key: str, default: str | None = None) -> str:
        """A text; required unless there is a default."""
        value = self.raw(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            self.problem(key, _missing_or(value, "a text"), f'write {key} = "..."')
            return ""
        return value

    def template(self, key: str, default: str | None = None) -> Template:
        """A text with variables in it."""
        text = self.text(key, default)
        try:
            return Template.parse(text)
        except ValueError as error:
            self.problem(key, str(error), "name a variable that exists, or leave the braces out")
            return Template(())

    def choice(self, key: str, options: Sequence[str], default: str | None = None) -> str:
        """One of several words."""
        value = self.raw(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or value not in options:
            message = "is missing" if value is None else f"{value!r} is not known"
            self.problem(key, message, f"write one of {', '.join(options)}")
            return options[0]
        return value

    def number(self, key: str) -> float | None:
        """A finite number, or None where there is none."""
        value = self.raw(key)
        if value is None:
            return None
        if not _is_number(value):
            self.problem(key, _missing_or(value, "a number"), f"write {key} = 0.8, for example")
            return None
        return float(value)

    def count(self, key: str, default: int | None = None) -> int | None:
        """A whole number, 0 or more, or the default where there is none."""
        value = self.raw(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            self.problem(
                key, _missing_or(value, "a whole number, 0 or more"), f"write {key} = 1, for example"
            )
            return default
        return value

    def texts(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """A list of texts, one at least; required unless there is a default."""
        value = self.raw(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, list) or not value or not all(isinstance(text, str) and text for text in value):
            self.problem(key, _missing_or(value, "a list of texts"), f'write {key} = ["good", "bad"], for example')
            return ()
        return tuple(value)

    def span(self, key: str, default: tuple[float, float]) -> tuple[float, float]:
        """Two finite numbers, the lower first."""
        value = self.raw(key)
        if value is None:
            return default
        numbers = value if isinstance(value, list) else []
        if len(numbers) == 2 and all(_is_number(n) for n in numbers) and numbers[0] < numbers[1]:
            return float(numbers[0]), float(numbers[1])
        self.problem(key, f"{value!r} is not two numbers, the lower first", f"write {key} = [0, 1], for example")
        return default

    def mapping(self, key: str) -> Mapping[str, Any]:
        """An object with text keys."""
        value = self.raw(key)
        if not isinstance(value, Mapping):
            self.problem(key, _missing_or(value, "an object"), f"give {key} as an object (a TOML table)")
            return {}
        return value

    def finish(self) -> None:
        """Refuse keys that no grader of this type has."""
        for key in self._values:
            if key not in self._known:
                close = difflib.get_close_matches(str(key), self._known, n=1)
                known = ", ".join(self._known)
                self.problem(
                    str(key),
                    "is not a field of this grader",
                    f"did you mean {close[0]}?" if close else f"it has {known}",
                )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _missing_or(value: object, wanted: str) -> str:
    return "is missing" if value is None else f"{value!r} is not {wanted}"
