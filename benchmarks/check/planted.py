"""How well the check finds faults that were planted into public data, and what it finds where none were.

    python benchmarks/check/planted.py --bench DIR              # what is not measured yet; of everything, half an hour
    python benchmarks/check/planted.py --bench DIR --fault leaks --again
    python benchmarks/check/planted.py --tables                 # only write the tables of docs/check-results.md

Each line of results/planted.jsonl is one check of one set with one fault (plant.py) in a share of its rows. A fault is
found where any of its rows is named by the fault's rule; recall is the share of faults found, precision the share of
named rows that were planted. Public data has such faults of its own: `known` counts the named rows that the rule names
without any planting too, and `precision_net` leaves them out. results/clean.jsonl has what the whole check says of
sets and bundled tasks as they are.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from plant import FAULTS, At, Fault, Planted, plant, rows_for

from journeyman.data.check.finding import Finding
from journeyman.data.check.rule import Rows
from journeyman.data.check.rules import RULES
from journeyman.data.source import read_source

HERE = Path(__file__).parents[1]
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "check-results.md"
TASKS = HERE.parent / "src" / "journeyman" / "tasks"
SETS = ("banking77", "clinc150", "e2e-json", "snips-json", "e2e-nlg", "onestop-simplify", "gsm8k")

RUNS = [(share, seed) for share in (0.05, 0.01, 0.1) for seed in (0, 1, 2)]
TEXTS = ("missed", "wrong")
"""What of a result is rows of the set: shown, and not kept."""

Result = dict[str, Any]


# ── measuring ─────────────────────────────────────────────────────────────────────────────────────────────────


def named(planted: Planted, fault: Fault) -> set[At]:
    """The rows that a fault's rules name, as a user meets them: by file and line."""
    with tempfile.TemporaryDirectory() as folder:
        sides = {"train": planted.train, "held_out": planted.held_out}
        sources = {}
        for side, lines in sides.items():
            if lines:
                path = Path(folder) / f"{side}.jsonl"
                path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
                sources[side] = read_source(path)
    train, measured = sources["train"], sources.get("held_out")
    rows = Rows(train.kept, (), measured.kept if measured else (), train.refused, len(train.kept))
    found = [row for rule in RULES if rule.code in fault.codes for finding in rule.find(rows) if finding.severity != "info" or not fault.severe for row in finding.rows]
    if fault.held_out:
        return {("held_out", row.place.line - 1) for row in found if row.split == "held_out"}
    return {("train", row.place.line - 1) for row in found if row.split in ("train", "refused")}


def measure(fault: str, name: str, bench: Path, share: float, seed: int, clean: dict[Any, set[str]]) -> Result:
    """Plant, check, and count."""
    wanted = FAULTS[fault]
    train, held_out = rows_for(fault, bench, name, seed)
    key = (name, None if wanted.whole else seed, wanted.codes, wanted.severe, wanted.held_out)
    if key not in clean:
        untouched = plant(fault, train, held_out, 0.0, seed)
        clean[key] = texts(untouched, named(untouched, wanted))
    planted = plant(fault, train, held_out, share, seed)
    start = time.perf_counter()
    found = named(planted, wanted)
    took_s = time.perf_counter() - start
    faulty = {at for places in planted.faults for at in places}
    right = found & faulty
    known = sum(text in clean[key] for text in texts_of(planted, found - faulty))
    missed = [places for places in planted.faults if not places & found]
    return {
        "fault": fault,
        "set": name,
        "share": share,
        "seed": seed,
        "rows": len(planted.train),
        "faults": len(planted.faults),
        "named": len(found),
        "right": len(right),
        "known": known,
        "recall": ratio(len(planted.faults) - len(missed), len(planted.faults)),
        "precision": ratio(len(right), len(found)),
        "precision_net": ratio(len(right), len(found) - known),
        "check_s": round(took_s, 2),
        "missed": sorted(line_of(planted, min(places)) for places in missed)[:5],
        "wrong": sorted(text for text in texts_of(planted, found - faulty) if text not in clean[key])[:5],
    }


def ratio(part: int, whole: int) -> float | None:
    """A share; None of nothing."""
    return round(part / whole, 4) if whole else None


def line_of(planted: Planted, at: At) -> str:
    side, index = at
    return (planted.train if side == "train" else planted.held_out)[index]


def texts_of(planted: Planted, found: Iterable[At]) -> list[str]:
    return [line_of(planted, at) for at in found]


def texts(planted: Planted, found: Iterable[At]) -> set[str]:
    return set(texts_of(planted, found))


# ── clean data ────────────────────────────────────────────────────────────────────────────────────────────────


def clean_findings(path: Path, held_out: Path | None) -> tuple[int, list[Finding]]:
    """The whole check of a file as it is, all of its rows."""
    train = read_source(path)
    measured = read_source(held_out) if held_out and held_out.is_file() else None
    refused = [*train.refused, *(measured.refused if measured else ())]
    rows = Rows(train.kept, (), measured.kept if measured else (), refused, len(train.kept))
    return len(rows.all) + len(refused), [finding for rule in RULES for finding in rule.find(rows)]


def measure_clean(name: str, path: Path, held_out: Path | None) -> Result:
    """How many rows are named, at which level, and by which rules."""
    start = time.perf_counter()
    size, findings = clean_findings(path, held_out)
    at_error = {(row.split, row.index) for f in findings if f.severity == "error" for row in f.rows}
    by_code: dict[str, Result] = {}
    for finding in findings:
        entry = by_code.setdefault(finding.code, {"severity": finding.severity, "rows": 0})
        entry["rows"] += len(finding.rows)
    return {
        "set": name,
        "rows": size,
        "error_rows": len(at_error),
        "error_share": ratio(len(at_error), size),
        "findings": by_code,
        "check_s": round(time.perf_counter() - start, 1),
    }


# ── tables ────────────────────────────────────────────────────────────────────────────────────────────────────


def read(name: str) -> list[Result]:
    path = RESULTS / name
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def table(head: Sequence[str], left: int, body: Iterable[Sequence[str]]) -> str:
    """A Markdown table; its first `left` columns are text, the others numbers."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *body])


def mean(rows: Sequence[Result], key: str) -> str:
    """The mean over seeds; where it is not defined for any, a dash."""
    values = [row[key] for row in rows if row[key] is not None]
    return f"{statistics.mean(values):.3f}" if values else "–"


def planted_table(results: Sequence[Result]) -> str:
    """A line a fault and set: recall and both precisions at 5%, then recall and net precision at 1% and 10%."""
    by_key: dict[tuple[str, str], dict[float, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for row in results:
        by_key[row["fault"], row["set"]][row["share"]].append(row)
    body = []
    for fault in FAULTS:
        for name in FAULTS[fault].sets:
            at = by_key.get((fault, name))
            if at:
                cells = [mean(at[0.05], key) for key in ("recall", "precision", "precision_net")]
                cells += [f"{mean(at[share], 'recall')} / {mean(at[share], 'precision_net')}" for share in (0.01, 0.1)]
                if not any(row["faults"] for share in at for row in at[share]):
                    # Nothing is to be found: what is named is a false alarm.
                    cells = [*cells[:3], *(f"{sum(row['named'] for row in at[share])} named" for share in (0.01, 0.1))]
                    cells[1] = f"{sum(row['named'] for row in at[0.05])} named"
                body.append([f"`{fault}`", name, f"{statistics.mean(r['faults'] for r in at[0.05]):.0f}" if at[0.05] else "", *cells])
    return table(["planted", "set", "faults at 5%", "recall", "precision", "precision, net", "1%", "10%"], 2, body)


def clean_table(results: Sequence[Result]) -> str:
    """A line a set: rows at error level, and what else was said."""
    body = []
    for row in results:
        said = ", ".join(f"`{code}` {one['rows']:,}" for code, one in row["findings"].items() if one["severity"] == "warning")
        errors = ", ".join(f"`{code}` {one['rows']:,}" for code, one in row["findings"].items() if one["severity"] == "error")
        body.append([row["set"], errors or "none", said or "none", f"{row['rows']:,}", f"{row['error_share']:.2%}"])
    return table(["set", "errors", "warnings", "rows", "rows at error level"], 3, body)


ORDER = ("its own", "the check's", "regression")
"""Whose probabilities come first in the table of peers."""


def peers_table(results: Sequence[Result]) -> str:
    """A line a filter: precision and recall a set and fault, the mean over seeds."""
    columns = sorted({(row["set"], row["fault"], row["rows"]) for row in results})
    by_key: dict[tuple[str, str], dict[tuple[str, str, int], list[Result]]] = defaultdict(lambda: defaultdict(list))
    for row in results:
        by_key[row["filter"], row["probabilities"]][row["set"], row["fault"], row["rows"]].append(row)
    body = [
        [name, probabilities, *(" / ".join(mean(at[c], key) for key in ("precision", "recall", "f1")) for c in columns)]
        for (name, probabilities), at in sorted(by_key.items(), key=lambda item: ORDER.index(item[0][1]))
    ]
    return table(["filter", "probabilities", *(f"{name}, {fault}, {rows:,} rows" for name, fault, rows in columns)], 2, body)


def write_page() -> None:
    """Fill the tables of the page; the text around them is written by hand."""
    text = PAGE.read_text(encoding="utf-8")
    made = {"planted": planted_table(read("planted.jsonl")), "clean": clean_table(read("clean.jsonl")), "peers": peers_table(read("mislabelled_peers.jsonl"))}
    for name, content in made.items():
        begin, end = f"<!-- {name} -->", "<!-- end -->"
        before, mark, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not mark or not closed:
            raise SystemExit(f"{PAGE}: there is no place for {begin}")
        text = f"{before}{begin}\n\n{content}\n\n{end}{after}"
    PAGE.write_text(text, encoding="utf-8")


# ── running ───────────────────────────────────────────────────────────────────────────────────────────────────


def keep(name: str, result: Result, by: Sequence[str]) -> None:
    """Put a result into its file, in the place of an older one of the same run."""
    kept = [row for row in read(name) if any(row[key] != result[key] for key in by)]
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in [*kept, result])
    (RESULTS / name).write_text("".join(lines), encoding="utf-8")


def run_planted(bench: Path, faults: Sequence[str], again: bool, show: bool) -> None:
    clean: dict[Any, set[str]] = {}
    done = {(row["fault"], row["set"], row["share"], row["seed"]) for row in read("planted.jsonl")}
    for share, seed in RUNS:
        for fault in faults:
            for name in FAULTS[fault].sets:
                if again or (fault, name, share, seed) not in done:
                    result = measure(fault, name, bench, share, seed, clean)
                    shown = {key: result.pop(key) for key in TEXTS}
                    keep("planted.jsonl", result, ("fault", "set", "share", "seed"))
                    print(result, file=sys.stderr, flush=True)
                    if show:
                        print(json.dumps(shown, ensure_ascii=False, indent=1), file=sys.stderr)


def run_clean(bench: Path, again: bool) -> None:
    files = {name: (bench / name / "train.jsonl", bench / name / "test.jsonl") for name in SETS}
    files |= {f"task {task.name}": (task / "examples.jsonl", task / "held_out.jsonl") for task in sorted(TASKS.iterdir()) if task.is_dir()}
    done = {row["set"] for row in read("clean.jsonl")}
    for name, (path, held_out) in files.items():
        if path.is_file() and (again or name not in done):
            result = measure_clean(name, path, held_out)
            keep("clean.jsonl", result, ("set",))
            print(name, result["rows"], "rows,", result["error_rows"], "at error level,", result["check_s"], "s", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=Path)
    parser.add_argument("--fault", choices=list(FAULTS), action="append", help="only this one; may be given again")
    parser.add_argument("--clean", action="store_true", help="only the data as it is")
    parser.add_argument("--again", action="store_true", help="measure what is there already, too")
    parser.add_argument("--show", action="store_true", help="print some of the rows that are missed and wrongly named")
    parser.add_argument("--tables", action="store_true", help="measure nothing")
    wanted = parser.parse_args()
    if wanted.bench and not wanted.tables:
        if not wanted.clean:
            run_planted(wanted.bench, wanted.fault or list(FAULTS), wanted.again, wanted.show)
        if not wanted.fault:
            run_clean(wanted.bench, wanted.again)
    elif not wanted.tables:
        parser.error("give the folder of the public sets with --bench DIR")
    if PAGE.is_file():
        write_page()


if __name__ == "__main__":
    main()
