"""How threads wait for each other: small products on all cores, by one process alone and by two at once.

    python benchmarks/waiting.py --rounds 3

One round measures each way of waiting once, so that a slow hour is all of theirs. Each line of results/waiting.jsonl is one
process's products a second. The ways are OpenMP's environment variables; those of Journeyman are what it sets itself.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
WAYS = {
    "sleeping at once": {"OMP_WAIT_POLICY": "PASSIVE"},
    "2,000 tries, then sleeping": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "2000"},
    "5,000 tries, then sleeping": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "5000"},
    "spinning (OpenMP's default)": {},
}
TOKENS, WIDTH, OTHERS = 256, 512, 300_000
"""Sizes of the product and of the elementwise work after it, in fp32."""


def products_per_s(seconds: float) -> float:
    """Products, each with two elementwise operations behind it, that this process makes in a second."""
    import time

    import torch

    x, w, y = torch.randn(TOKENS, WIDTH), torch.randn(WIDTH, WIDTH), torch.randn(OTHERS)
    made, began_s = 0, time.perf_counter()
    while (took_s := time.perf_counter() - began_s) < seconds:
        for _ in range(20):
            (x @ w).relu()
            y.mul_(1.0001)
        made += 20
    return made / took_s


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "waiting.jsonl")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(products_per_s(args.seconds))
        return
    bare = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    command = [sys.executable, __file__, "--child", "--seconds", str(args.seconds)]
    for number in range(args.rounds):
        for way, variables in WAYS.items():
            for processes in (1, 2):
                begun = [subprocess.Popen(command, env=bare | variables, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
                for child in begun:
                    said, _ = child.communicate()
                    row = {"round": number, "way": way, "processes": processes, "cores": os.cpu_count(), "products_per_s": round(float(said), 1)}
                    with args.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
                    print(row, flush=True)


if __name__ == "__main__":
    main()
