"""A dataset with what its check found: what a person reads, and what can be done about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from journeyman import files
from journeyman.data.check.finding import FoundSplit, Report
from journeyman.data.check.fix import Fixed, Look, fix
from journeyman.data.check.page import page
from journeyman.data.check.private import concealed
from journeyman.data.dataset import Dataset
from journeyman.data.read import shown_path
from journeyman.data.shapes import Shape
from journeyman.errors import DataError
from journeyman.records import Example


@dataclass(frozen=True, slots=True)
class Training:
    """What a training would take, as its plan says."""

    base: str
    epochs: int
    steps: int
    tokens: int
    """In all epochs together, as OpenAI counts trained tokens; of these `learned_tokens` are targets."""

    learned_tokens: int
    time_s: float

    def sentence(self) -> str:
        """The same for a reader."""
        minutes = f"{self.time_s:.0f} s" if self.time_s < 90 else f"{self.time_s / 60:,.0f} min" if self.time_s < 5400 else f"{self.time_s / 3600:,.1f} h"
        return (
            f"a training on {self.base}: {self.epochs} epoch(s), {self.steps:,} steps, {self.tokens:,} trained tokens, "
            f"{self.learned_tokens:,} of them learned; about {minutes} on this machine"
        )


@dataclass(frozen=True)
class Review:
    """The rows of a task or file, and the report of their check; `dataset, report = review` takes it apart."""

    name: str
    examples: Path
    """The file that is trained on."""

    dataset: Dataset
    report: Report
    look: Callable[[Path], Review] | None = field(default=None, repr=False)
    """Checks another file in the place of `examples`; None where the rows are a job's, which stay as they were."""

    row_tokens: Sequence[int] = ()
    """The length of each row of train, validation and held-out as the base reads it; empty where there is no base."""

    training: Training | None = None
    """What a training of these rows would take; None where there is no base to say it, or the rows have errors."""

    def __iter__(self) -> Iterator[Dataset | Report]:
        yield self.dataset
        yield self.report

    def as_dict(self) -> dict[str, Any]:
        """What `check --json` prints."""
        return {
            **self.report.as_dict(),
            "counts": self.dataset.manifest["counts"],
            "sources": self.dataset.manifest["sources"],
            "refused": [concealed(refused.as_dict()) for refused in self.dataset.refused],
            "training": asdict(self.training) if self.training else None,
        }

    def html(self) -> str:
        """The report as one page that needs no network: plots, findings, and rows to search."""
        sentence = self.training.sentence() if self.training else ""
        return page(self.name, self.dataset, self.report, self.row_tokens, sentence)

    def to_html(self, path: Path) -> None:
        """Write the page; one that is there is replaced. Raises DataError `wrong_suffix` for a name of another kind."""
        if path.suffix.lower() not in (".html", ".htm"):
            raise DataError(
                "a file of this name is not a page, and may be something of yours",
                where=shown_path(path),
                fix="let the name end in .html",
                code="wrong_suffix",
            )
        files.write_text(path, self.html())

    def fix(self, out: Path) -> Fixed:
        """Write a mended copy of `examples` and its ledger; see `fix.py`, also for the errors.

        Raises DataError `rows_of_a_job` where the rows are those that a job has trained on.
        """
        look = self.look
        if look is None:
            raise DataError(
                "the rows of a job stay as they were trained",
                where=self.name,
                fix=f"mend the file that it was trained on: journeyman check {self.examples} --fix OUT",
                code="rows_of_a_job",
            )
        return fix(self.examples, out, self._seen(), lambda path: look(path)._seen())

    def _seen(self) -> Look:
        source = self.dataset.manifest["sources"][0]
        shape = Shape(source["shape"], source["reason"], self.dataset.columns)
        splits: dict[FoundSplit, Sequence[Example]] = {"train": self.dataset.train, "validation": self.dataset.validation, "held_out": self.dataset.held_out}
        return Look(splits, shape, self.report)
