"""What this computer has: one probe, without torch. Tests write a Machine by hand."""

from __future__ import annotations

import math
import os
import platform
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from journeyman.plan import cgroup


@dataclass(frozen=True, slots=True)
class Machine:
    """The facts a plan depends on. `matmul_flops_s` is the measured fp32 matrix-product rate of the CPU."""

    cores: int
    memory_bytes: int
    free_memory_bytes: int
    free_disk_bytes: int
    cpu: str
    cpu_bf16: bool
    matmul_flops_s: float
    gpu: str | None = None
    gpu_memory_bytes: int = 0
    gpu_free_bytes: int = 0

    @property
    def device(self) -> str:
        """The torch device name training uses."""
        return "cuda" if self.gpu else "cpu"

    def as_dict(self) -> dict[str, Any]:
        """The facts as they stand in a plan file."""
        return asdict(self)


def probe(folder: Path) -> Machine:
    """Look at this computer; `folder` is where checkpoints will be written. Takes about a fifth of a second."""
    memory, group = psutil.virtual_memory(), cgroup.limits()
    flags = _cpu_flags()
    gpu, total, free = _nvidia()
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    return Machine(
        cores=usable_cores(),
        memory_bytes=min(memory.total, group.memory_bytes or memory.total),
        free_memory_bytes=free_memory_bytes(),
        free_disk_bytes=shutil.disk_usage(existing).free,
        cpu=_cpu_name(),
        cpu_bf16="avx512_bf16" in flags or "amx_bf16" in flags,
        matmul_flops_s=_measure_matmul(),
        gpu=gpu,
        gpu_memory_bytes=total,
        gpu_free_bytes=free,
    )


def usable_cores() -> int:
    """Cores this process may run on, which in a container are fewer than the machine's; a part of one counts as one."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity call
        cores = os.cpu_count() or 1
    quota = cgroup.limits().cores
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def free_memory_bytes() -> int:
    """What this process may still take: the machine's free memory, or what a container's limit leaves."""
    available, free = psutil.virtual_memory().available, cgroup.limits().free_bytes
    return int(available) if free is None else min(int(available), free)


def _cpu_info() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _cpu_flags() -> frozenset[str]:
    for line in _cpu_info().splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def _cpu_name() -> str:
    for line in _cpu_info().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _measure_matmul(budget_s: float = 0.15) -> float:
    """Best rate of a 768-cube fp32 product within the budget (numpy's BLAS, all cores), in FLOP/s."""
    import numpy as np

    n = 768
    a = np.ones((n, n), dtype=np.float32)
    best_s = float("inf")
    deadline = time.perf_counter() + budget_s
    while time.perf_counter() < deadline:
        start = time.perf_counter()
        a @ a
        best_s = min(best_s, time.perf_counter() - start)
    return 2.0 * n**3 / best_s


def _nvidia() -> tuple[str | None, int, int]:
    """Name, memory and free memory of the first NVIDIA GPU, asked of nvidia-smi; none where it is missing."""
    command = shutil.which("nvidia-smi")
    if not command:
        return None, 0, 0
    query = [command, "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        out = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
        name, total, free = (part.strip() for part in out.splitlines()[0].split(","))
        return name, int(total) * 2**20, int(free) * 2**20
    except (subprocess.SubprocessError, OSError, ValueError, IndexError):
        return None, 0, 0
