"""The report of a check as one HTML page: no network, readable on a phone, in print, and in the dark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from journeyman.data.check.finding import READINESS, SEVERITIES, Finding, FoundRow, Report, without
from journeyman.data.check.mending import is_suggestion
from journeyman.data.check.plot import histogram
from journeyman.data.check.private import concealed
from journeyman.data.check.rule import Checked, output_text
from journeyman.data.check.rules import RULES
from journeyman.data.html import script_json, template
from journeyman.data.similar import input_text
from journeyman.records import Example

MAX_ROWS = 5_000
"""So many rows can be searched in the page, those with findings first; the page says so where there are more."""

MAX_CHARACTERS = 4_000
"""Of a longer text the page shows the beginning."""

SHOWN_ROWS = 20
"""So many rows stand below each finding; the search shows all of them."""

MAX_LABELS = 40
CHARACTERS_A_TOKEN = 4
"""OpenAI's rule of thumb for English, used where there is no base to count with."""


Texts = dict[tuple[str, int], tuple[str, str]]
"""Input and output of each row, by split and index."""


def page(name: str, dataset: Checked, report: Report, row_tokens: Sequence[int] = (), training: str = "", ignored: str = "") -> str:
    """The page's HTML. `row_tokens` are the lengths of rows in tokens; without them they are estimated from the characters. `training` says what a training would take, `ignored` what was left out of the report."""
    splits = {"train": dataset.train, "validation": dataset.validation, "held_out": dataset.held_out}
    texts = {(split, i): _texts(example) for split, rows in splits.items() for i, example in enumerate(rows)}
    outputs = Counter(text for _, text in texts.values())
    lengths = list(row_tokens) or [sum(map(len, pair)) // CHARACTERS_A_TOKEN for pair in texts.values()]
    texts = _masked(texts, report)
    refused = {("refused", i): (concealed(row.text), "") for i, row in enumerate(dataset.refused)}
    return template(Path(__file__).parent / "page.html").render(
        name=name,
        ready=READINESS[report.verdict],
        verdict=report.verdict,
        first=report.first,
        counts={**{split.replace("_", " "): len(rows) for split, rows in splits.items()}, "refused": len(dataset.refused)},
        findings=[_finding(f, texts | refused) for f in report.findings],
        by_severity={s: sum(f.severity == s for f in report.findings) for s in SEVERITIES},
        bars=_bars(list(_rows_by_code(report).items())),
        training=training,
        ignored=ignored,
        lengths=histogram(lengths, "tokens" if row_tokens else "tokens (estimated)"),
        labels=_bars(outputs.most_common(MAX_LABELS)) if _closed(outputs) else [],
        more_labels=max(0, len(outputs) - MAX_LABELS),
        rows=script_json(list(_rows(splits, texts, report))),
        all_rows=len(texts),
        max_rows=MAX_ROWS,
        codes=list(_rows_by_code(report)),
    )


def _rows_by_code(report: Report) -> dict[str, int]:
    counts: dict[str, int] = {}
    for finding in report.findings:
        if finding.rows:
            counts[finding.code] = counts.get(finding.code, 0) + len(finding.rows)
    return counts


def _texts(example: Example) -> tuple[str, str]:
    return input_text(example), output_text(example)


def _masked(texts: Texts, report: Report) -> Texts:
    """The texts without what `--fix` would replace: a page is passed on more easily than the file it is about."""
    out = dict(texts)
    for key, hidden in report.hidden.items():
        if key in out:
            said, output = out[key]
            out[key] = without(said, hidden), without(output, hidden)
    return out


def _closed(outputs: Counter[str]) -> bool:
    """Whether the outputs are labels: short, and each used many times over."""
    return bool(outputs) and len(outputs) * 4 <= outputs.total() and max(map(len, outputs)) <= 80


def _bars(counts: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    most = max((n for _, n in counts), default=1)
    return [{"name": name, "count": n, "percent": max(1, round(100 * n / most))} for name, n in counts]


def _finding(finding: Finding, texts: Texts) -> dict[str, Any]:
    rule = next((rule for rule in RULES if rule.code == finding.code), None)
    return {
        "code": finding.code,
        "severity": finding.severity,
        "title": rule.title if rule else finding.code,
        "why": rule.why if rule else "",
        "message": finding.message,
        "fix": finding.fix,
        "count": len(finding.rows),
        "mends": sum(_mended(finding.code, row, texts) for row in finding.rows),
        "rows": [_found(row, texts) for row in finding.rows[:SHOWN_ROWS]],
    }


def _mended(code: str, row: FoundRow, texts: Texts) -> bool:
    """Whether `--fix` mends the row without being asked for more."""
    return row.mend is not None and not is_suggestion(code, row.mend, texts.get((row.split, row.index), ("", ""))[1])


def _found(row: FoundRow, texts: Texts) -> dict[str, str]:
    said, output = texts.get((row.split, row.index), ("", ""))
    return {"place": str(row.place), "note": row.note, "input": _short(said), "output": _short(output), "who": "row" if row.split == "refused" else "input"}


def _rows(splits: dict[str, Sequence[Example]], texts: Texts, report: Report) -> Iterator[list[Any]]:
    """The rows to search, those with findings first: place, split, input, output, and [code, note] of each finding."""
    notes: dict[tuple[str, int], list[list[str]]] = {}
    for finding in report.findings:
        for row in finding.rows:
            notes.setdefault((row.split, row.index), []).append([finding.code, row.note])
    keys = [(split, i) for split, rows in splits.items() for i in range(len(rows))]
    keys.sort(key=lambda key: key not in notes)
    for split, index in keys[:MAX_ROWS]:
        said, output = texts[split, index]
        yield [str(splits[split][index].place), split, _short(said), _short(output), notes.get((split, index), [])]


def _short(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}… ({len(text):,} characters)"
