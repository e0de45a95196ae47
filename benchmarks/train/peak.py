"""The machine's rate of matrix products, measured as a contender runs: same torch, same threads.

    python peak.py fp32|bf16

Prints FLOP a second of wall clock, and of processor time (all threads together), the best of several products each.
"""

from __future__ import annotations

import json
import sys
import time

import torch

SHAPES = ((1024, 576, 1536), (1024, 896, 4864), (2048, 2048, 2048))
"""Rows, inputs and outputs: products of the two bases' feed-forward layers, and a large square one."""


def main() -> None:
    """Measure and print."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[sys.argv[1]]
    by_wall, by_processor = 0.0, 0.0
    for rows, inputs, outputs in SHAPES:
        x, w = torch.randn(rows, inputs).to(dtype), torch.randn(outputs, inputs).to(dtype)
        products = max(1, int(2e10 / (2 * rows * inputs * outputs)))
        x @ w.T
        for _ in range(5):
            wall_s, processor_s = time.perf_counter(), time.process_time()
            for _ in range(products):
                x @ w.T
            flops = 2.0 * rows * inputs * outputs * products
            by_wall = max(by_wall, flops / (time.perf_counter() - wall_s))
            by_processor = max(by_processor, flops / (time.process_time() - processor_s))
    print(
        json.dumps(
            {"peak_flops_s": by_wall, "peak_flops_cpu_s": by_processor, "threads": torch.get_num_threads()}
        )
    )


if __name__ == "__main__":
    main()
