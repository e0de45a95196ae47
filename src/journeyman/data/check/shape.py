"""Rules about the shape of a dataset: enough rows, rows that were refused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from journeyman.data.check.finding import Finding, FoundRow
from journeyman.data.check.rule import Rows, Rule, Sample, pair
from journeyman.data.refused import Refused
from journeyman.records import Place

MIN_EXAMPLES = 10
"""OpenAI refuses a training file with fewer usable rows; those split off from it count."""


def too_few(training_file_rows: int) -> str | None:
    """Why a training file with so many usable rows is refused, in OpenAI's words; None where it is not."""
    if training_file_rows >= MIN_EXAMPLES:
        return None
    return f"Training file has {training_file_rows} example(s), but must have at least {MIN_EXAMPLES} examples"


def _too_few(rows: Rows) -> Iterator[Finding]:
    reason = too_few(rows.training_file_rows)
    if reason:
        fix = "add examples; from about 50 good ones on, a change is usually seen"
        yield Finding("invalid_n_examples", "error", reason, (), fix, {"examples": rows.training_file_rows})


def _refused(rows: Rows) -> Iterator[Finding]:
    by_code: dict[str, list[int]] = defaultdict(list)
    for index, refusal in enumerate(rows.refused):
        by_code[refusal.code].append(index)
    for code, indexes in by_code.items():
        first = rows.refused[indexes[0]]
        found = tuple(
            FoundRow(rows.refused[i].place, "refused", i, rows.refused[i].reason) for i in indexes
        )
        message = f"{len(indexes)} row(s) refused ({code}): {first.reason}"
        yield Finding("refused_rows", "warning", message, found, first.fix, {"reason": code, "rows": len(found)})


RULES = (
    Rule(
        "invalid_n_examples",
        "Too few examples",
        "error",
        "fewer than 10 rows of the training file can be used",
        "OpenAI refuses such a file, and a model learns nothing that lasts from it.",
        "add examples; from about 50 good ones on, a change is usually seen",
        Sample([pair("Is the blue mug back?", "Yes, since Monday."), pair("Do you ship to Riga?", "We do.")]),
        _too_few,
    ),
    Rule(
        "refused_rows",
        "Refused rows",
        "warning",
        "so many rows were refused for one reason",
        "What was refused is not learned; often one mistake of an export is behind all of them.",
        "mend the rows; the finding names them",
        Sample(
            [pair("Is the blue mug back?", "Yes, since Monday.")],
            refused=[
                Refused(
                    Place("examples.jsonl", 2),
                    "ends_on_user",
                    "the last turn, messages[2], has the role user",
                    "end on the ideal answer, or remove the turns after it",
                )
            ],
        ),
        _refused,
    ),
)
