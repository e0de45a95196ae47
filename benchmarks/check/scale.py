"""How long `journeyman check` takes on many rows, and how much memory.

    python benchmarks/check/scale.py --bench DIR --rows 10000 30000 100000 --out scale.jsonl

The rows are those of support.py: one to three questions of BANKING77 and CLINC150, answered with a greeting, three to five
sentences of E2E-NLG and OneStop, and a sign-off. Each size is checked by the command itself, as a user runs it; processor
time is the sum over its processes and threads, and says on a busy machine what wall time can't. Memory is the highest sum of what
its processes hold, shared pages counted in each of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
from support import rows

LOOK_S = 0.05
"""So often memory is looked at."""


def held(pid: int) -> int:
    """The resident bytes of a process and its children; 0 once it has ended."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
    return 0


def measure(file: Path) -> dict[str, float | str]:
    """Seconds and peak resident bytes of one check of the file."""
    started_s = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([sys.executable, "-m", "journeyman", "check", str(file), "--json"], stdout=said)
        peak_bytes, ended = 0, 0
        while not ended:
            peak_bytes = max(peak_bytes, held(process.pid))
            time.sleep(LOOK_S)
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.perf_counter() - started_s
        said.seek(0)
        report = json.load(said)
    return {
        "wall_s": round(wall_s, 1),
        "processor_s": round(used.ru_utime + used.ru_stime, 1),
        "peak_bytes": peak_bytes,
        "verdict": report["verdict"],
        "findings": len(report["findings"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--out", type=Path, required=True)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for count in wanted.rows:
            file = Path(folder) / f"rows-{count}.jsonl"
            with file.open("w", encoding="utf-8") as out:
                out.writelines(json.dumps(row) + "\n" for row in rows(wanted.bench, count))
            line = {"rows": count, "bytes": file.stat().st_size, "load": round(os.getloadavg()[0], 1), **measure(file)}
            print(json.dumps(line), flush=True)
            with wanted.out.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
