"""One workload, every contender, interleaved.

    python benchmarks/train/run.py full
    python benchmarks/train/run.py B1 --repeats 3 --only ours TRL
    python benchmarks/train/run.py B4 --bench DIR

Each peer lives in an environment of its own below --home, made when first needed. The first round runs every setting of
every contender's grid; each further round runs each peer's default and the quickest of its grid. A run is a process of its
own with the same number of threads. One JSON line a run is appended to results/train.jsonl, so that an interrupted series
goes on where it stopped.

On a machine that does other things besides, say --clock processor: the quickest setting is then the one that takes the
least processor time, which hardly depends on the load.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import workloads

from journeyman.files import read_jsonl
from journeyman.plan.machine import probe
from journeyman.plan.shape import ModelShape

HERE = Path(__file__).parent
TORCH = f"torch=={torch.__version__}"
ENVIRONMENTS = {
    "trl": (TORCH, "trl==1.16.0", "peft==0.21.2", "transformers==5.24.0"),
    "litgpt": (TORCH, "litgpt==0.5.13", "requests"),
    "mlx": ("mlx-lm[cpu]==0.32.2",),
}
CLOCKS = {"wall": "tokens_per_s", "processor": "tokens_per_cpu_s"}


@dataclass(frozen=True)
class Setting:
    """One way to run one contender; `default` is the library as it comes."""

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    default: bool = False
    native: Literal["fp32", "bf16"] | None = None
    """The arithmetic of the machines on which it is part of the grid; None: of all."""


@dataclass(frozen=True)
class Contender:
    """Who trains: its script, the environment of that script (None: this one), and its grid."""

    script: str
    environment: str | None
    settings: tuple[Setting, ...]


QUIET = {"logging_steps": 100_000}
BY_LENGTH = {**QUIET, "train_sampling_strategy": "group_by_length", "micro_rows": 8}
BY_ROW = {**QUIET, "micro_rows": 1}
PACKED = {**QUIET, "micro_rows": 1, "packing": True}
TRL = {"trainer": "trl"}
TRL_BEST = {**TRL, "gradient_checkpointing": False, "max_length": None}
TRAINER = {"trainer": "transformers"}


def both(name: str, values: dict[str, Any]) -> tuple[Setting, Setting]:
    """The setting where fp32 is the machine's own arithmetic, and where bf16 is."""
    return (
        Setting(name, {**values, "precision": "fp32"}, native="fp32"),
        Setting(f"{name}, bf16", {**values, "precision": "bf16"}, native="bf16"),
    )


CONTENDERS = {
    "ours": Contender("ours.py", None, (Setting("plan", default=True),)),
    "TRL": Contender(
        "hugging_face.py",
        "trl",
        (
            Setting("default", TRL, default=True),
            Setting("default, but fp32", {**TRL, "precision": "fp32"}, native="fp32"),
            *both("by length, 8 rows", {**TRL_BEST, **BY_LENGTH}),
            *both("row by row", {**TRL_BEST, **BY_ROW}),
            *both("packed, 1024 tokens", {**TRL_BEST, **PACKED, "max_length": 1024}),
            Setting("packed, 512 tokens, bf16", {**TRL_BEST, **PACKED, "max_length": 512, "precision": "bf16"}, native="bf16"),
        ),
    ),
    "Trainer + PEFT": Contender(
        "hugging_face.py",
        "trl",
        (
            Setting("default", TRAINER, default=True),
            *both("by length, 8 rows", {**TRAINER, **BY_LENGTH}),
            *both("row by row", {**TRAINER, **BY_ROW}),
        ),
    ),
    "LitGPT": Contender(
        "litgpt_peer.py",
        "litgpt",
        (
            Setting("default", {"micro_rows": 1, "layers": "default", "precision": "default"}, default=True),
            *both("row by row", {"micro_rows": 1, "layers": "all"}),
            *both("8 rows", {"micro_rows": 8, "layers": "all"}),
        ),
    ),
    "mlx-lm": Contender(
        "mlx_peer.py",
        "mlx",
        (Setting("default", {"micro_rows": 4}, default=True), Setting("8 rows", {"micro_rows": 8})),
    ),
}  # fmt: skip


def python_of(environment: str | None, home: Path) -> Path:
    """The environment's interpreter; the environment is made where it is missing."""
    if environment is None:
        return Path(sys.executable)
    folder = home / "env" / environment
    if not (folder / "bin" / "python").exists():
        print(f"making the environment {environment}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        for package in ENVIRONMENTS[environment]:  # torch first: what follows takes the build that is there
            subprocess.run([folder / "bin" / "pip", "install", "--quiet", package], check=True)
    return folder / "bin" / "python"


def run_once(
    contender: Contender, setting: Setting, workload: Path, home: Path, threads: int, limit_s: float
) -> dict[str, Any]:
    """One training in a process of its own, judged from outside."""
    out = home / "out" / str(os.getpid())
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    python = python_of(contender.environment, home)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    if contender.environment is None:
        environment["OMP_WAIT_POLICY"] = "passive"  # as `journeyman` sets it; a peer's threads spin as OpenMP lets them
    command = [
        python,
        HERE / contender.script,
        "--workload",
        workload,
        "--out",
        out,
        "--setting",
        json.dumps(setting.values),
    ]
    load = os.getloadavg()[0]
    started_at = time.time()
    with (out / "log.txt").open("w") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, env=environment)
        code, used = _wait(process, limit_s)
    if code != 0:
        last = (out / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        return {"failed": f"exit {code}: {' '.join(last)[:300]}"}
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    result["end_to_end_s"] = result.pop("finished_at") - started_at
    result |= {
        "tokens_per_s": result["timed_tokens"] / result["timed_s"],
        "tokens_per_cpu_s": result["timed_tokens"] / result["timed_cpu_s"],
        "end_to_end_cpu_s": used.ru_utime + used.ru_stime,
        "peak_bytes": used.ru_maxrss * 1024,
        "load": load,
    }
    judge = [
        python_of("trl", home),
        HERE / "evaluate.py",
        "--workload",
        workload,
        "--trained",
        out / result.pop("trained"),
    ]
    if json.loads((workload / "workload.json").read_text())["dataset"]:
        judge.append("--exact")
    said = subprocess.run(list(map(str, judge)), capture_output=True, text=True, env=environment, check=True)
    return result | dict(json.loads(said.stdout.splitlines()[-1]))


def _wait(process: subprocess.Popen[bytes], limit_s: float) -> tuple[int, Any]:
    """Exit code, and what the process alone has used; it is ended when the limit is over."""
    deadline = time.monotonic() + limit_s
    while True:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, used
        if time.monotonic() > deadline:
            process.kill()
            deadline = float("inf")
        time.sleep(0.1)


def needed_flops(workload: workloads.Workload, folder: Path, tokens: int) -> float:
    """The matrix products that the result needs, attention left out, for so many computed tokens.

    Forward and the gradient of the input cost 2 FLOP a weight and token each, and so does the gradient of a weight where it
    is trained; the head is needed at learned tokens only.
    """
    shape = ModelShape.read(folder / "base")
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    learned = sum(sum(row["weights"]) for row in rows) * workload.epochs
    if workload.method == "full":
        return 6.0 * (shape.body_params * tokens + shape.head_params * learned)
    adapter = workload.rank * shape.lora_width
    return (4.0 * shape.body_params + 6.0 * adapter) * tokens + 4.0 * shape.head_params * learned


def chosen(done: list[dict[str, Any]], name: str, clock: str) -> list[Setting]:
    """What runs after the first round: the default, and the quickest of the grid."""
    settings = CONTENDERS[name].settings
    speeds = {
        row["setting"]: row[CLOCKS[clock]]
        for row in done
        if row["contender"] == name and row["round"] == 0 and "failed" not in row
    }
    best = max(speeds, key=speeds.__getitem__, default=None)
    return [s for s in settings if s.name in speeds and (s.default or s.name == best)]


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workload", choices=workloads.WORKLOADS)
    parser.add_argument("--home", type=Path, default=Path.home() / ".cache" / "journeyman-benchmarks")
    parser.add_argument("--bench", type=Path, help="the folder of the public datasets")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument(
        "--settings", nargs="+", help="names of settings; the others are left out of the first round"
    )
    parser.add_argument(
        "--best-only", action="store_true", help="leave the peers' defaults out of further rounds"
    )
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument(
        "--series", default="1", help="a name for runs that belong together; tables show the last one"
    )
    parser.add_argument("--grid-of", help="a series whose first round decides instead of a new one")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--limit-s", type=float, default=900, help="a run that takes longer is ended and noted as failed"
    )
    parser.add_argument("--out", type=Path, default=HERE.parent / "results" / "train.jsonl")
    args = parser.parse_args()
    workload = workloads.WORKLOADS[args.workload]
    native: Literal["fp32", "bf16"] = "bf16" if probe(args.home.parent).cpu_bf16 else "fp32"
    folder = args.home / "workloads" / workload.name
    if not folder.exists() or json.loads((folder / "workload.json").read_text()) != asdict(workload):
        shutil.rmtree(folder, ignore_errors=True)
        workloads.write(workload, folder, args.bench)

    def rows_of(series: str) -> list[dict[str, Any]]:
        found = read_jsonl(args.out) if args.out.is_file() else ()
        return [dict(row) for row in found if row["workload"] == workload.name and row["series"] == series]

    for number in range(args.repeats):
        for name in args.only:
            contender = CONTENDERS[name]
            if number == 0 and not args.grid_of:
                settings = [s for s in contender.settings if s.native in (None, native)]
                settings = [s for s in settings if not args.settings or s.name in args.settings]
            else:
                settings = chosen(rows_of(args.grid_of or args.series), name, args.clock)
            if args.best_only and len(settings) > 1:
                settings = [s for s in settings if not s.default]
            for setting in settings:
                if any(
                    (r["contender"], r["setting"], r["round"]) == (name, setting.name, number)
                    for r in rows_of(args.series)
                ):
                    continue
                result = run_once(contender, setting, folder, args.home, args.threads, args.limit_s)
                if "failed" not in result:
                    result["needed_flops"] = needed_flops(
                        workload, folder, result.get("computed_tokens", result["tokens"])
                    )
                row = {"workload": workload.name, "series": args.series, "round": number, "contender": name, "setting": setting.name,
                       "default": setting.default, "native": native, "threads": args.threads, **peak(args.threads, native), **result}  # fmt: skip
                args.out.parent.mkdir(exist_ok=True)
                with args.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(_line(row), flush=True)


def peak(threads: int, native: str) -> dict[str, float]:
    """The rate of matrix products right after a run, in a process like a contender's."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    said = subprocess.run(
        [sys.executable, HERE / "peak.py", native], capture_output=True, text=True, env=environment, check=True
    )
    return {name: value for name, value in json.loads(said.stdout).items() if name != "threads"}


def _line(row: dict[str, Any]) -> str:
    head = f"{row['workload']} {row['round']} {row['contender']:15} {row['setting']:20}"
    if "failed" in row:
        return f"{head} {row['failed']}"
    return (
        f"{head} {row['tokens_per_s']:7.0f} tokens/s {row['tokens_per_cpu_s']:7.0f} a processor second, "
        f"{row['peak_bytes'] / 2**20:6.0f} MiB, loss {row['held_out_loss']:.4f}"
    )


if __name__ == "__main__":
    main()
