"""Texts with `{{ item.x }}` and `{{ sample.output_json.a[0] }}` in them.

The two namespaces and the JSON-path-like nesting are OpenAI's
(https://platform.openai.com/docs/guides/graders#templating). A value that is not text is written as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from journeyman.grade.score import BadOutputError, Item, NotMeasurableError, Sample
from journeyman.grade.strict_json import parse_json

SAMPLE_NAMES = ("output_text", "output_json", "output_tools")

_BRACES = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_PATH = re.compile(r"""(item|sample)((?:\.[\w-]+|\[\d+\]|\['[^']*'\]|\["[^"]*"\])+)""")
_STEP = re.compile(r"""\.([\w-]+)|\[(\d+)\]|\['([^']*)'\]|\["([^"]*)"\]""")


@dataclass(frozen=True, slots=True)
class Variable:
    """A place in the item or the sample: `item.a[0]` has the steps ("a", 0)."""

    namespace: str
    steps: tuple[str | int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Template:
    """A text and the variables in it, in order."""

    parts: tuple[str | Variable, ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """Read a template. Raises ValueError naming the variable that can't be understood."""
        parts: list[str | Variable] = []
        end = 0
        for match in _BRACES.finditer(text):
            parts += [text[end : match.start()], _variable(match.group(1).strip())]
            end = match.end()
        if "{{" in text[end:]:
            raise ValueError("a '{{' is never closed by '}}'")
        return cls(tuple(part for part in (*parts, text[end:]) if part != ""))

    def fill(self, sample: Sample, item: Item) -> str:
        """The text with its variables' values. Raises NotMeasurableError or BadOutputError where one has none."""
        return "".join(p if isinstance(p, str) else _as_text(_value(p, sample, item)) for p in self.parts)


def _variable(text: str) -> Variable:
    match = _PATH.fullmatch(text)
    if match is None:
        raise ValueError(
            f"unknown variable {{{{ {text} }}}}: write {{{{ item.KEY }}}} or {{{{ sample.output_text }}}}"
        )
    namespace, path = match.groups()
    steps: list[str | int] = []
    for step in _STEP.finditer(path):
        name, index, single, double = step.groups()
        steps.append(
            int(index) if index is not None else next(s for s in (name, single, double) if s is not None)
        )
    if namespace == "sample" and steps[0] not in SAMPLE_NAMES:
        known = ", ".join(f"sample.{name}" for name in SAMPLE_NAMES)
        raise ValueError(f"unknown variable {{{{ {text} }}}}: a sample has {known}")
    return Variable(namespace, tuple(steps), text)


def _value(variable: Variable, sample: Sample, item: Item) -> Any:
    if variable.namespace == "item":
        try:
            return _walk(item, variable.steps)
        except LookupError as error:
            keys = ", ".join(map(str, item)) or "no keys"
            raise NotMeasurableError(
                f"unknown variable {{{{ {variable.text} }}}}; this row has {keys}"
            ) from error
    try:
        return _walk(_sample_root(variable, sample), variable.steps[1:])
    except ValueError as error:
        raise BadOutputError(f"{{{{ {variable.text} }}}}: the output is {error}") from error
    except LookupError as error:
        raise BadOutputError(f"{{{{ {variable.text} }}}}: the output has no such place") from error


def _sample_root(variable: Variable, sample: Sample) -> Any:
    if variable.steps[0] == "output_text":
        return sample.output_text
    if variable.steps[0] == "output_tools":
        return sample.output_tools
    return parse_json(sample.output_text)


def _walk(value: Any, steps: Sequence[str | int]) -> Any:
    for step in steps:
        kind = Mapping if isinstance(step, str) else (list, tuple)
        if not isinstance(value, kind):
            raise LookupError(step)
        value = cast("Any", value)[step]
    return value


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
