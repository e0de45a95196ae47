"""What a rule finds: the rows, what is wrong with each, what would mend it, and the report of all findings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from journeyman.records import Place

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
"""Worst first."""

FoundSplit = Literal["train", "validation", "held_out", "against", "refused"]
"""Where a found row stands: in a split, in the file given to compare with, or among the refused rows."""

Verdict = Literal["ok", "warnings", "errors"]
READINESS: Mapping[Verdict, str] = {
    "ok": "ready",
    "warnings": "ready with remarks",
    "errors": "not yet",
}
"""The verdict as a person reads it."""

FIRST = 3
"""So many things to do first are named by a report."""


LONGEST_WORD = 16
"""The shortest keys known by their form have so many characters."""

Hidden = Mapping[tuple[FoundSplit, int], Sequence[str]]
"""What is not to be shown of each row, by split and index."""


def masked(text: str) -> str:
    """Enough of something private to recognise it in the file, not enough to use it; what is masked already stays."""
    if text.endswith("…"):
        return text
    return text[: min(3, len(text) // 3)] + "…"


def without(text: str, hidden: Sequence[str]) -> str:
    """The text with what is hidden masked."""
    for one in hidden:
        if one in text:
            # A name or a card's last digits may be a part of another word, a key may run on into one.
            word = rf"(?<!\w){one}(?!\w)" if one.isalnum() and len(one) < LONGEST_WORD else re.escape(one)
            text = re.sub(word, masked(one).replace("\\", r"\\"), text)
    return text


@dataclass(frozen=True, slots=True)
class Drop:
    """A mend: leave the row out."""


@dataclass(frozen=True, slots=True)
class Replace:
    """A mend: in every text of the row, write the second text of each pair where the first stands.

    The first texts are private: nothing that is shown or stored has them in clear.
    """

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SetOutput:
    """A mend: make this text the ideal output."""

    output: str


Mend = Drop | Replace | SetOutput


@dataclass(frozen=True, slots=True)
class FoundRow:
    """A row that a finding is about. `index` counts the rows of its split from 0: a place may hold several rows.

    `mend` is the change that the data itself speaks for, as `--fix` would make it; None where a person must decide.
    """

    place: Place
    split: FoundSplit
    index: int
    note: str = ""
    mend: Mend | None = None

    @property
    def key(self) -> tuple[FoundSplit, int]:
        """What the row is known by among all."""
        return self.split, self.index

    def as_dict(self, hidden: Sequence[str] = ()) -> dict[str, Any]:
        """The row as `check --json` and report.json have it, with what is hidden of its mend masked."""
        out: dict[str, Any] = {
            "file": self.place.file,
            "line": self.place.line,
            "split": self.split,
            "index": self.index,
        }
        if self.note:
            out["note"] = self.note
        if self.mend is not None:
            out["mend"] = _mend_as_dict(self.mend, hidden)
        return out


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the dataset that its owner should know, with the rows that show it and what to do.

    The rows come worst first. `numbers` holds what the finding rests on (counts, shares, distributions), JSON values
    only: text keys, lists rather than tuples, no NaN.
    """

    code: str
    severity: Severity
    message: str
    rows: tuple[FoundRow, ...]
    fix: str
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def masked(self, hidden: Hidden) -> Finding:
        """The finding without what is hidden of its rows in what it says; the mends still have it."""
        rows = tuple(replace(row, note=without(row.note, hidden.get(row.key, ()))) for row in self.rows)
        of_rows = {one for row in self.rows for one in hidden.get(row.key, ())}
        return replace(self, message=without(self.message, sorted(of_rows, key=len, reverse=True)), rows=rows)

    def as_dict(self, hidden: Hidden | None = None) -> dict[str, Any]:
        """The finding as `check --json` and report.json have it, with what is hidden of its mends masked."""
        hidden = hidden or {}
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "rows": [row.as_dict(hidden.get(row.key, ())) for row in self.rows],
            "fix": self.fix,
            "numbers": dict(self.numbers),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, worst first."""

    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """What the worst finding says; `READINESS` has it in words."""
        worst = min((SEVERITIES.index(f.severity) for f in self.findings), default=len(SEVERITIES))
        return "errors" if worst == 0 else "warnings" if worst == 1 else "ok"

    @property
    def first(self) -> tuple[Finding, ...]:
        """The findings to see to first; what is merely worth knowing is not among them."""
        return tuple(f for f in self.findings if f.severity != "info")[:FIRST]

    def summary(self) -> dict[str, Any]:
        """The verdict, how many findings there are of each severity, and what to do first; no row is shown."""
        return {
            "verdict": self.verdict,
            "ready": READINESS[self.verdict],
            "counts": {severity: sum(f.severity == severity for f in self.findings) for severity in SEVERITIES},
            "first": [{"code": f.code, "do": f.fix} for f in self.first],
        }

    @property
    def hidden(self) -> Hidden:
        """What is private in each row, longest first: what its mends would replace."""
        found: dict[tuple[FoundSplit, int], set[str]] = {}
        for row in (row for finding in self.findings for row in finding.rows):
            if isinstance(row.mend, Replace):
                found.setdefault(row.key, set()).update(old for old, _ in row.mend.pairs)
        return {key: sorted(texts, key=len, reverse=True) for key, texts in found.items()}

    def masked(self) -> Report:
        """The report without what is private in what it says; the mends still have it, for `--fix`."""
        hidden = self.hidden
        return Report(tuple(finding.masked(hidden) for finding in self.findings)) if hidden else self

    def with_findings(self, further: Sequence[Finding]) -> Report:
        """The report with these too, each before what was found with its severity."""
        return Report(tuple(sorted((*further, *self.findings), key=lambda f: SEVERITIES.index(f.severity)))).masked()

    def as_dict(self) -> dict[str, Any]:
        """The report as `check --json` and report.json have it: what is private in mends is masked."""
        hidden = self.hidden
        return {
            "verdict": self.verdict,
            "ready": READINESS[self.verdict],
            "first": [{"code": f.code, "do": f.fix} for f in self.first],
            "findings": [finding.as_dict(hidden) for finding in self.findings],
        }


def counted(counts: Mapping[str, int]) -> str:
    """How many findings of each severity, as a person reads it: "1 error, 3 warnings"; nothing of what is only worth knowing."""
    return ", ".join(f"{count:,} {name}{'s' * (count != 1)}" for name, count in counts.items() if count and name != "info")


def report_from_dict(value: Mapping[str, Any]) -> Report:
    """Read back a report that `Report.as_dict` wrote (trusted input: our own files). What was masked stays so."""
    return Report(
        tuple(
            Finding(
                f["code"],
                f["severity"],
                f["message"],
                tuple(_row_from_dict(row) for row in f["rows"]),
                f["fix"],
                f["numbers"],
            )
            for f in value["findings"]
        )
    )


def _row_from_dict(row: Mapping[str, Any]) -> FoundRow:
    return FoundRow(
        Place(row["file"], row["line"]),
        row["split"],
        row["index"],
        row.get("note", ""),
        _mend_from_dict(row["mend"]) if "mend" in row else None,
    )


def _mend_as_dict(mend: Mend, hidden: Sequence[str]) -> dict[str, Any]:
    match mend:
        case Drop():
            return {"drop": True}
        case Replace(pairs):
            return {"replace": [[masked(old), new] for old, new in pairs]}
        case SetOutput(output):
            return {"output": without(output, hidden)}


def _mend_from_dict(value: Mapping[str, Any]) -> Mend:
    if "replace" in value:
        pairs: Sequence[Sequence[str]] = value["replace"]
        return Replace(tuple((old, new) for old, new in pairs))
    return SetOutput(value["output"]) if "output" in value else Drop()
