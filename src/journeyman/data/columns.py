"""Which column of a table is the input, which the ideal output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from journeyman.errors import DataError

INPUT_NAMES = (
    "input", "prompt", "question", "user", "query", "instruction", "message", "text", "sentence", "utterance",
    "request", "source", "description", "ticket", "email", "content", "document",
)  # fmt: skip
OUTPUT_NAMES = (
    "output", "completion", "response", "answer", "assistant", "ideal", "ideal_output", "target", "expected", "reply",
    "label", "category", "class", "intent", "summary", "result", "label_text", "reference",
)  # fmt: skip
SYSTEM_NAMES = ("system", "system_prompt", "instructions")

FLAGS = "name them: --input-column NAME --output-column NAME"
RENAMED = "name the columns input and output"
"""The same where there are no flags."""

LONGEST_NAME = 60
MOST_WORDS = 3
"""A column name longer than this, or one that ends like a sentence, is taken for a first row of data."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that become the user turn, the assistant turn and the system turn, and how they were found."""

    input: str
    output: str
    system: str | None = None
    reason: str = "given by the user"

    def as_dict(self) -> dict[str, object]:
        """The choice as it stands in the manifest."""
        return {"input": self.input, "output": self.output, "system": self.system, "reason": self.reason}


def find_columns(rows: Sequence[Mapping[str, object]], file: str) -> Columns:
    """Find the columns by name, or because just two hold text.

    Raises DataError `ambiguous_columns`, which names the columns and the flags, `one_column`, and `no_header` where
    the first row looks like data.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    if len(names) < 2:
        raise DataError(
            f"an example needs an input and an ideal output, and there is only {names[0]!r}"
            if names
            else "the rows are empty objects",
            where=file,
            fix="give each row both: a second column with the ideal output",
            code="one_column",
        )
    inputs, outputs = _named(names, INPUT_NAMES), _named(names, OUTPUT_NAMES)
    system = next(iter(_named(names, SYSTEM_NAMES)), None)
    if inputs and outputs:
        reason = f"the column names {inputs[0]!r} and {outputs[0]!r} say so"
        return Columns(inputs[0], outputs[0], system, reason)
    texts = [name for name in names if name != system and _mostly_text(rows, name)]
    if len(texts) == 2 and (inputs or outputs or len(names) == 2 or len(texts) < len(names)):
        first, second = _in_order(texts, inputs, outputs)
        _require_header(rows, texts, file)
        reason = f"{first!r} and {second!r} are the only columns of text"
        return Columns(first, second, system, reason)
    raise DataError(
        f"which column is the input and which the ideal output is not clear; there are {', '.join(map(repr, names[:20]))}",
        where=file,
        fix=FLAGS,
        code="ambiguous_columns",
    )


def require_columns(rows: Sequence[Mapping[str, object]], columns: Columns, file: str) -> None:
    """Raise DataError `unknown_column` where a column that the user named is in no row, or named twice."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    wanted = [name for name in (columns.input, columns.output, columns.system) if name is not None]
    for name in wanted:
        if name not in names:
            message = f"there is no column {name!r}; there are {', '.join(map(repr, names[:20]))}"
            raise DataError(message, where=file, fix=FLAGS, code="unknown_column")
    if len(set(wanted)) < len(wanted):
        raise DataError(
            f"the column {wanted[0]!r} can't be two things at once",
            where=file,
            fix=FLAGS,
            code="unknown_column",
        )


def _named(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """The columns with a known name, the best known first."""
    plain = {name.strip().lower().replace(" ", "_").replace("-", "_"): name for name in reversed(names)}
    return [plain[name] for name in known if name in plain]


def _mostly_text(rows: Sequence[Mapping[str, object]], name: str) -> bool:
    values = [row.get(name) for row in rows]
    filled = [value for value in values if value not in (None, "")]
    texts = [value for value in filled if isinstance(value, str) and not _is_number(value)]
    return bool(filled) and len(texts) * 2 > len(filled)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _in_order(texts: Sequence[str], inputs: Sequence[str], outputs: Sequence[str]) -> tuple[str, str]:
    """The input first: by the one name that is known, else as they stand in the file."""
    first, second = texts
    if (outputs and outputs[0] == first) or (inputs and inputs[0] == second):
        return second, first
    return first, second


def _require_header(rows: Sequence[Mapping[str, object]], names: Sequence[str], file: str) -> None:
    for name in names:
        talks = len(name) > LONGEST_NAME or len(name.split()) > MOST_WORDS or name.rstrip().endswith((".", "!", "?"))
        if talks or any(row.get(name) == name for row in rows):
            raise DataError(
                f"the first row looks like data, not like the names of columns: {name[:LONGEST_NAME]!r}",
                where=f"{file}:1",
                fix=f"add a first row of names, such as: input,output; or, if they are names, {FLAGS}",
                code="no_header",
            )
