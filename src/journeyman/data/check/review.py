"""A dataset with what its check found: what a person reads, and what can be done about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from journeyman import files
from journeyman.data.check.finding import FoundSplit, Report
from journeyman.data.check.fix import Fixed, Look, fix, offered, require_folder
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

    ignored: Mapping[str, int] = field(default_factory=dict)
    """For each code that was to be left out of the report and was found all the same: the rows it names."""

    def lengths(self) -> Mapping[str, int]:
        """Tokens of a row, of all that are kept: `median`, `p95` (19 in 20 are no longer) and `longest`; empty where there is no base."""
        ordered = sorted(self.row_tokens)
        last = len(ordered) - 1
        return {"median": ordered[last // 2], "p95": ordered[round(0.95 * last)], "longest": ordered[last]} if ordered else {}

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
            "ignored": dict(self.ignored),
            "row_tokens": dict(self.lengths()),
            "training": asdict(self.training) if self.training else None,
        }

    def html(self) -> str:
        """The report as one page that needs no network: plots, findings, and rows to search."""
        sentence = self.training.sentence() if self.training else ""
        return page(self.name, self.dataset, self.report, self.row_tokens, sentence, self.left_out())

    def left_out(self) -> str:
        """What the report does not show because it was told so; empty where that is nothing."""
        named = ", ".join(f"{code} ({rows:,} row(s))" if rows else code for code, rows in self.ignored.items())
        return f"found, and left out of this report as asked: {named}" if named else ""

    def to_html(self, path: Path) -> None:
        """Write the page; one that is there is replaced. Raises DataError as `require_page` does."""
        require_page(path)
        files.write_text(path, self.html())

    def offers(self) -> tuple[int, int]:
        """How many rows of `examples` `fix` would mend, and how many more have a suggested output that it takes if asked."""
        offers = list(offered(self._seen(), self.examples))
        mended = {(one.row.split, one.row.index) for one in offers if not one.suggested}
        return len(mended), len({(one.row.split, one.row.index) for one in offers} - mended)

    def fix(self, out: Path, *, relabel: bool = False, only: Collection[str] = ()) -> Fixed:
        """Write a mended copy of `examples` and its ledger; see `fix.py`, also for the errors.

        `relabel` takes suggested labels and the majority's outputs too; `only` names the rules that are mended. Raises DataError `rows_of_a_job` where the rows are those that a job has trained on.
        """
        look = self.look
        if look is None:
            raise DataError(
                "the rows of a job stay as they were trained",
                where=self.name,
                fix=f"mend the file that it was trained on: journeyman check {self.examples} --fix OUT",
                code="rows_of_a_job",
            )
        return fix(self.examples, out, self._seen(), lambda path: look(path)._seen(), relabel=relabel, only=only)

    def _seen(self) -> Look:
        source = self.dataset.manifest["sources"][0]
        shape = Shape(source["shape"], source["reason"], self.dataset.columns)
        splits: dict[FoundSplit, Sequence[Example]] = {"train": self.dataset.train, "validation": self.dataset.validation, "held_out": self.dataset.held_out}
        return Look(splits, shape, self.report)


def require_page(path: Path) -> None:
    """Raise DataError `wrong_suffix` where a file of this name is no page, and `no_folder` where its folder is not there."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise DataError(
            "a file of this name is not a page, and may be something of yours",
            where=shown_path(path),
            fix="let the name end in .html",
            code="wrong_suffix",
        )
    require_folder(path)


def ignoring(report: Report, codes: Collection[str]) -> tuple[Report, dict[str, int]]:
    """The report without the findings of these codes, and how many rows each of those named."""
    left_out: Counter[str] = Counter()
    for finding in report.findings:
        if finding.code in codes:
            left_out[finding.code] += len(finding.rows)
    return Report(tuple(finding for finding in report.findings if finding.code not in codes)), dict(left_out)
