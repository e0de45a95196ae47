"""A mended copy of a file of examples: the mends that findings carry, and a ledger of every change.

What an ideal output means is never changed unasked: another label, or the majority's answer, is a suggestion, and is
taken only with `relabel` (`mending.py` says which mends are). Rows that are refused can't be learned from and are left out. The copy is checked again, and what a mend has brought to light is
mended too, so that fixing a fixed copy changes nothing.

Every row in is kept or dropped; a row that is in no line of the ledger is kept as it was. A line of the ledger:

    {"file": "replies.csv", "line": 12, "rule": "private_data", "before": {...}, "after": {...}}
    {"file": "replies.csv", "line": 19, "rule": "duplicate_rows", "before": {...}, "dropped": true}

`before` and `after` are the row's values as its file has them, but for what is private: that is masked, so that the
ledger may go where the copy goes; the file itself still has it. The text of a row that could not be read is `before`
as far as it is known.
"""

from __future__ import annotations

import csv
import io
import json
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from journeyman import files, settings
from journeyman.data.check.finding import (
    Drop,
    FoundRow,
    FoundSplit,
    Mend,
    Replace,
    Report,
    SetOutput,
)
from journeyman.data.check.mending import DOES, is_suggestion
from journeyman.data.check.private import concealed
from journeyman.data.check.rule import output_text
from journeyman.data.lines import chunks, lines
from journeyman.data.read import file_format, read_rows, shown_path
from journeyman.data.refused import Refused, Row
from journeyman.data.shapes import Shape
from journeyman.data.source import outcome
from journeyman.data.tables import csv_separator
from journeyman.errors import DataError
from journeyman.records import Example, Place

MAX_ROUNDS = 5
"""A mend may bring another fault to light (two rows become the same); measured, one or two rounds are the rule."""

_SUFFIXES = {"jsonl": (".jsonl", ".json", ".ndjson", ""), "csv": (".csv", ".tsv", ".tab")}

Value = Mapping[str, Any]
Splits = Mapping[FoundSplit, Sequence[Example]]


@dataclass(frozen=True, slots=True)
class Look:
    """What a check of a file gave: the rows by split, the shape of the file, and the report."""

    splits: Splits
    shape: Shape
    report: Report


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one row. `after` None: the row was dropped."""

    place: Place
    rule: str
    before: Value | str
    after: Value | None
    hidden: Sequence[str] = ()
    """What is private in the row, by what the check has found."""

    def as_dict(self) -> dict[str, Any]:
        """The change as a line of the ledger."""
        before = concealed(self.before, self.hidden)
        line = {"file": self.place.file, "line": self.place.line, "rule": self.rule, "before": before}
        return {**line, "dropped": True} if self.after is None else {**line, "after": concealed(self.after, self.hidden)}


@dataclass(frozen=True, slots=True)
class Fixed:
    """What became of a file."""

    out: Path
    ledger: Path
    rows: int
    kept: int
    changes: Sequence[Change]
    report: Report
    """Of the mended copy."""

    left: Mapping[str, int]
    """For each rule the rows whose suggested output was not taken."""

    @property
    def mended(self) -> dict[str, int]:
        """For each rule, or reason of refusal, how many changes it made."""
        return dict(Counter(change.rule for change in self.changes))

    @property
    def dropped(self) -> int:
        """Rows that are not in the copy."""
        return self.rows - self.kept

    @property
    def changed(self) -> int:
        """Rows that are in the copy, and not as they were."""
        gone = {change.place for change in self.changes if change.after is None}
        return len({change.place for change in self.changes} - gone)

    def as_dict(self) -> dict[str, Any]:
        """The outcome as `check --json` has it."""
        return {
            "out": str(self.out),
            "ledger": str(self.ledger),
            "rows": self.rows,
            "kept": self.kept,
            "dropped": self.dropped,
            "changed": self.changed,
            "mended": self.mended,
            "left": dict(self.left),
            "verdict": self.report.verdict,
        }


@dataclass(frozen=True, slots=True)
class _Kept:
    """A row on its way: where it came from, what it says now, and the line it is while nothing was changed."""

    origin: Place
    value: Value
    line: str | None


def fix(
    path: Path,
    out: Path,
    first: Look,
    look: Callable[[Path], Look],
    *,
    relabel: bool = False,
    only: Collection[str] = (),
) -> Fixed:
    """Write a mended copy of the file to `out`, and `out`.ledger.jsonl beside it. The file itself is not touched.

    `first` is what the check of `path` gave; `look` checks a copy in the same way. With `relabel` suggested outputs are
    taken too; `only` names the rules that are mended, in the place of all. The copy has the file's own format
    where that is JSONL, CSV or TSV, else it is JSONL. Raises DataError `unknown_rule` for a rule in `only` that has no
    mend, `no_folder` and `file_exists` as `require_free` does, `wrong_suffix` where `out` could not be read back as what
    it is, and `nothing_left` where no row would be kept.
    """
    form = "csv" if file_format(path) == "csv" else "jsonl"
    require_rules(only, DOES, "mended")
    ledger = require_free(out)
    _require_suffix(out, form)
    changes: list[Change] = []
    raw = list(read_rows(path))
    left: Counter[str] = Counter()
    kept = _readable(raw, _raw_lines(path), first.shape, changes)
    with tempfile.TemporaryDirectory(prefix="journeyman-fix-") as folder:
        seen, rows = first, kept
        separator = _separator(path, out) if form == "csv" else ""
        for number in range(MAX_ROUNDS):
            offers = [one for one in offered(seen, path) if not only or one.rule in only]
            taken = [one for one in offers if relabel or not one.suggested]
            # A majority may be gone from the copy, as rows that repeat each other: the most that was ever seen counts.
            left |= Counter(one.rule for one in offers if one.suggested and not relabel)
            rows, more = _mended(rows, _positions(path, rows, seen, first=number == 0), taken, seen.shape)
            changes += more
            if not rows:
                raise DataError(
                    f"none of its {len(raw)} rows would be kept",
                    where=shown_path(path),
                    fix="see what `journeyman check` finds, and mend by hand",
                    code="nothing_left",
                )
            path = Path(folder) / f"{number}{out.suffix}"
            text = _written(rows, form, separator)
            files.write_text(path, text)
            seen = look(path)
            if not more:
                break
    files.write_jsonl(ledger, (change.as_dict() for change in changes))
    files.write_text(out, text)
    return Fixed(out, ledger, len(raw), len(rows), changes, seen.report, left)


@dataclass(frozen=True, slots=True)
class Offer:
    """A mend that a finding offers for a row of the file; a suggestion is one that only a person can take."""

    rule: str
    row: FoundRow
    mend: Mend
    suggested: bool


def offered(seen: Look, path: Path) -> Iterator[Offer]:
    """All mends for rows of the file, the worst finding's first."""
    file = shown_path(path)
    for finding in seen.report.findings:
        for row in finding.rows if finding.code in DOES else ():
            if row.mend is not None and row.place.file == file:
                output = output_text(seen.splits[row.split][row.index])
                yield Offer(finding.code, row, row.mend, is_suggestion(finding.code, row.mend, output))


def require_rules(named: Collection[str], known: Collection[str], what: str) -> None:
    """Raise DataError `unknown_rule` where a rule is named that is not one of those that can be `what`."""
    unknown = [code for code in named if code not in known]
    if unknown:
        raise DataError(
            f"no rule of this name can be {what}: {', '.join(map(repr, unknown))}",
            fix=f"name one of {', '.join(sorted(known))}",
            code="unknown_rule",
        )


def require_folder(path: Path) -> None:
    """Raise DataError `no_folder` where the folder that a file is to be written to is not there."""
    if not path.parent.is_dir():
        raise DataError(
            "there is no such folder to write to",
            where=shown_path(path.parent),
            fix="create it, or name another file",
            code="no_folder",
        )


def require_free(out: Path) -> Path:
    """The ledger's name, where both it and the copy can be written. Raises DataError `no_folder` or `file_exists`."""
    require_folder(out)
    ledger = out.with_name(out.name + ".ledger.jsonl")
    for target in (out, ledger):
        if target.exists():
            raise DataError(
                "there is a file of this name already, and nothing is overwritten",
                where=shown_path(target),
                fix="name another file, or remove that one",
                code="file_exists",
            )
    return ledger


def _require_suffix(out: Path, form: str) -> None:
    if out.suffix.lower() not in _SUFFIXES[form]:
        raise DataError(
            f"the mended copy is {form.upper()}, and a file of this name would be read as something else",
            where=shown_path(out),
            fix=f"let the name end in {_SUFFIXES[form][0]}",
            code="wrong_suffix",
        )


def _readable(
    raw: Sequence[Row | Refused], raw_lines: Mapping[int, str], shape: Shape, changes: list[Change]
) -> list[_Kept]:
    """The rows that can be learned from; the others go to the ledger."""
    kept = []
    for row in raw:
        fate = outcome(row, shape)
        if isinstance(fate, Refused):
            before = row.value if isinstance(row, Row) else raw_lines.get(row.place.line, row.text)
            changes.append(Change(row.place, fate.code, before, None))
        elif isinstance(row, Row):
            kept.append(_Kept(row.place, row.value, raw_lines.get(row.place.line)))
    return kept


def _raw_lines(path: Path) -> dict[int, str]:
    """The lines of a JSONL file as they stand, so that rows without a fault stay as they were written."""
    if file_format(path) != "jsonl":
        return {}
    found = lines(chunks(path), settings.MAX_LINE_BYTES)
    return {line.number: line.data.decode("utf-8", "replace").strip("\r\n") for line in found if not line.oversized}


def _positions(path: Path, rows: Sequence[_Kept], seen: Look, *, first: bool) -> dict[tuple[FoundSplit, int], int]:
    """Which of `rows` each row of each split is."""
    file = shown_path(path)
    # A copy of ours has the rows in this order; in the file itself a line may hold several (a JSON array).
    places = [row.origin.line for row in rows] if first else [row.place.line for row in read_rows(path)]
    at: dict[int, list[int]] = defaultdict(list)
    for position, line in enumerate(places):
        at[line].append(position)
    found = {}
    for split, examples in seen.splits.items():
        for index, example in enumerate(examples):
            if example.place.file == file:
                found[split, index] = _take(at[example.place.line], example, rows, seen.shape)
    return found


def _take(positions: list[int], example: Example, rows: Sequence[_Kept], shape: Shape) -> int:
    """Take from the positions of a line the one that says what the example says."""
    if len(positions) == 1:
        return positions.pop()
    for number, position in enumerate(positions):
        same = outcome(Row(rows[position].value, example.place), shape)
        if isinstance(same, Example) and same.messages == example.messages:
            return positions.pop(number)
    raise RuntimeError(f"{example.place}: the row is not in its file any more")


def _mended(
    rows: Sequence[_Kept], positions: Mapping[tuple[FoundSplit, int], int], taken: Sequence[Offer], shape: Shape
) -> tuple[list[_Kept], list[Change]]:
    asked = _mends(taken, positions)
    out, changes = [], []
    for position, row in enumerate(rows):
        now: _Kept | None = row
        hidden = [old for _, mend in asked.get(position, ()) if isinstance(mend, Replace) for old, _ in mend.pairs]
        for rule, mend in asked.get(position, ()):
            if now is None:
                break
            before = now.value
            after = _apply(mend, before, shape)
            if after != before:
                changes.append(Change(row.origin, rule, before, after, hidden))
                now = None if after is None else _Kept(row.origin, after, None)
        if now is not None:
            out.append(now)
    return out, changes


def _mends(
    taken: Sequence[Offer], positions: Mapping[tuple[FoundSplit, int], int]
) -> dict[int, list[tuple[str, Mend]]]:
    """The mends of each row: new outputs first, then replacements in them, so that none is undone; worst first."""
    asked: dict[int, list[tuple[str, Mend]]] = defaultdict(list)
    for offer in taken:
        position = positions.get((offer.row.split, offer.row.index))
        if position is not None:
            asked[position].append((offer.rule, offer.mend))
    order = (Drop, SetOutput, Replace)
    for position, mends in asked.items():
        mends.sort(key=lambda one: order.index(type(one[1])))
        # One new output a row: the first finding that asks for one is the worst.
        outputs = [one for one in mends if isinstance(one[1], SetOutput)]
        asked[position] = [one for one in mends if one not in outputs[1:]]
    return asked


def _apply(mend: Mend, value: Value, shape: Shape) -> Value | None:
    match mend:
        case Drop():
            return None
        case Replace(pairs):
            return {key: _replaced(child, pairs) for key, child in value.items()}
        case SetOutput(output):
            return _with_output(value, output, shape)


def _replaced(value: Any, pairs: Sequence[tuple[str, str]]) -> Any:
    if isinstance(value, str):
        for old, new in pairs:
            value = _with_stand_in(value, old, new)
        return value
    if isinstance(value, Mapping):
        return {key: _replaced(child, pairs) for key, child in value.items()}
    if isinstance(value, list):
        return [_replaced(child, pairs) for child in value]
    return value


def _with_output(value: Value, output: str, shape: Shape) -> Value:
    """The row with another ideal output, wherever its shape has it."""
    if shape.columns is not None:
        return {**value, shape.columns.output: output}
    if shape.name == "alpaca":
        return {**value, "output": output}
    key = {"prompt_completion": "completion", "sharegpt": "conversations"}.get(shape.name, "messages")
    key = key if key in value else "messages"
    turns = value[key]
    if isinstance(turns, str):
        return {**value, key: output}
    last = max(i for i, turn in enumerate(turns) if str(turn.get("role", turn.get("from"))).lower() in _ANSWERS)
    content = "content" if "role" in turns[last] else "value"
    return {**value, key: [*turns[:last], {**turns[last], content: output}, *turns[last + 1 :]]}


_ANSWERS = ("assistant", "gpt", "chatgpt", "model", "bot")


def _separator(path: Path, out: Path) -> str:
    """The file's own, unless the copy's name asks for tabs."""
    return "\t" if out.suffix.lower() == ".tsv" else csv_separator(path)


def _written(rows: Sequence[_Kept], form: str, separator: str) -> str:
    if form == "jsonl":
        return "".join((row.line or json.dumps(row.value, ensure_ascii=False)) + "\n" for row in rows)
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerow(rows[0].value)
    writer.writerows(row.value.values() for row in rows)
    return text.getvalue()


_LIKE_A_NAME = re.compile(r"[^\W\d_]+(?:[ '’.-]{1,2}[^\W\d_]+)*\.?")
LONGEST_NAME = 16
"""The shortest keys known by their form have so many characters."""


def _with_stand_in(text: str, old: str, new: str) -> str:
    """The text with `new` in the place of `old`; what may be a name, where it is no part of a longer word.

    Digits alone are replaced where they are no part of a longer number. Anything else goes wherever it stands: of a key
    that runs on into other text nothing may stay.
    """
    if old.isdecimal():
        return re.sub(rf"(?<!\d){old}(?!\d)", lambda _: new, text)
    if _LIKE_A_NAME.fullmatch(old) is None or (len(old) >= LONGEST_NAME and " " not in old):
        return text.replace(old, new)
    return re.sub(rf"(?<!\w){re.escape(old)}(?!\w)", lambda _: new, text)
