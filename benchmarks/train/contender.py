"""What every contender does alike: read the workload, note the clock after each step, write what came of it.

Standard library only, since each contender runs in an environment of its own:

    PYTHON CONTENDER.py --workload DIR --out DIR --setting JSON
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any


@dataclass
class Run:
    """One training to be done, and its clock."""

    workload: SimpleNamespace
    """The fields of workloads.py:Workload."""

    base: Path
    rows: list[dict[str, Any]]
    """`ids` and `weights` (1 where the token is learned) of each row."""

    out: Path
    setting: dict[str, Any]
    marks: list[tuple[float, float]] = field(default_factory=list)
    """Seconds on the wall's clock, and of all threads on the processor's, at the start and after each step."""

    tokens: list[int] = field(default_factory=list)
    seen: int = 0
    """Tokens of the micro-batches of the step that is under way, for those who count as they go."""

    def start(self) -> None:
        """The first step begins now."""
        self.marks = [_now()]

    def step(self, tokens: int) -> None:
        """A step has ended, which trained rows of so many tokens, padding not counted."""
        self.marks.append(_now())
        self.tokens.append(tokens)

    def finish(self, trained: Path, **facts: Any) -> None:
        """The trained weights are saved in `trained`: a PEFT adapter, or a model of transformers."""
        skipped = self.workload.untimed_steps
        (first_s, first_cpu_s), (last_s, last_cpu_s) = self.marks[skipped], self.marks[-1]
        result = {
            "timed_s": last_s - first_s,
            "timed_cpu_s": last_cpu_s - first_cpu_s,
            "timed_tokens": sum(self.tokens[skipped:]),
            "steps": len(self.tokens),
            "tokens": sum(self.tokens),
            "trained": str(trained.relative_to(self.out)),
            "finished_at": time.time(),
            **facts,
        }
        (self.out / "result.json").write_text(json.dumps(result), encoding="utf-8")


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def run() -> Run:
    """The run that the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workload", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--setting", type=json.loads, default={})
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    workload = SimpleNamespace(**json.loads((args.workload / "workload.json").read_text(encoding="utf-8")))
    lines = (args.workload / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    return Run(workload, args.workload / "base", [json.loads(line) for line in lines], args.out, args.setting)
