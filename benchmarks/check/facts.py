"""How well facts that change are found, on 400 outputs labelled by hand.

python benchmarks/check/facts.py               # the half to tune on, with what is missed and what is wrong
python benchmarks/check/facts.py --half test   # the other half: numbers only

facts.jsonl marks each fact where it stands: "The teapot is [[price:€48.00]]." An output is found where any fact in it is; a
fact where a found one of its kind overlaps it. The halves are told apart by a hash of the output, and the test half was
not looked at while the detector was written.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from journeyman.data.check.facts import Fact, facts_in

LABELLED = Path(__file__).with_name("facts.jsonl")
MARK = re.compile(r"\[\[(\w+):(.*?)\]\]")


@dataclass(frozen=True)
class Labelled:
    domain: str
    asked: str
    output: str
    facts: list[Fact]


def labelled(half: str) -> Iterator[Labelled]:
    for line in LABELLED.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        output, facts = unmarked(row["output"])
        even = hashlib.sha256(output.encode()).digest()[0] % 2 == 0
        if half == ("dev" if even else "test"):
            yield Labelled(row["domain"], row["input"], output, facts)


def unmarked(text: str) -> tuple[str, list[Fact]]:
    """The output as it is said, and the facts in it."""
    output, facts, end = "", [], 0
    for mark in MARK.finditer(text):
        output += text[end : mark.start()]
        facts.append(Fact(mark[1], len(output), len(output) + len(mark[2]), mark[2]))
        output, end = output + mark[2], mark.end()
    return output + text[end:], facts


def overlaps(a: Fact, b: Fact) -> bool:
    return a.kind == b.kind and a.start < b.end and b.start < a.end


def measure(half: str, *, show: bool = False) -> dict[str, object]:
    outputs, spans = Counter(), Counter()
    by_kind: dict[str, Counter[str]] = {}
    for row in labelled(half):
        found = facts_in(row.output, row.asked)
        outputs[bool(row.facts), bool(found)] += 1
        missed = [f for f in row.facts if not any(overlaps(f, g) for g in found)]
        wrong = [g for g in found if not any(overlaps(f, g) for f in row.facts)]
        spans.update(labelled=len(row.facts), found=len(found), missed=len(missed), wrong=len(wrong))
        for name, group in (("labelled", row.facts), ("found", found), ("missed", missed), ("wrong", wrong)):
            for fact in group:
                by_kind.setdefault(fact.kind, Counter())[name] += 1
        if show and (missed or wrong):
            print(f"{row.output}\n    missed {[(f.kind, f.text) for f in missed]}  wrong {[(f.kind, f.text) for f in wrong]}")
    right = outputs[True, True]
    return {
        "half": half,
        "outputs": outputs.total(),
        "output_precision": round(right / max(right + outputs[False, True], 1), 3),
        "output_recall": round(right / max(right + outputs[True, False], 1), 3),
        "facts": spans["labelled"],
        "fact_precision": round(1 - spans["wrong"] / max(spans["found"], 1), 3),
        "fact_recall": round(1 - spans["missed"] / max(spans["labelled"], 1), 3),
        "by_kind": {kind: dict(counts) for kind, counts in sorted(by_kind.items())},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=("dev", "test"), default="dev")
    half = parser.parse_args().half
    print(json.dumps(measure(half, show=half == "dev"), indent=1))
