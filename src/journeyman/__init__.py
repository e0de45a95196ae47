"""Journeyman: from pairs of (input, ideal output) to a model id that is called just like the original.

    import journeyman
    model = journeyman.load("ft:starter-1:local::Ab12Cd34")
    print(model.ask("My mug arrived with a chip."))

Importing the package imports nothing heavy; torch is imported when a model is loaded.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Threads of a product that wait for each other spin by default, and where other programs want the cores too, they spin
# away the time of the thread they wait for: a training of 4 s took 163 s. OpenMP reads this when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# But not to spin at all costs every product the 45 us in which the system wakes a thread, as much as a small one takes itself.
# So they spin that long, and sleep then (libgomp: tries of some 20 ns, and none while a process has more threads than cores).
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
# cuBLAS sums in the same order in every run only with buffers of its own (NVIDIA's cuBLAS documentation, 2.1.4 "Results
# reproducibility"), and reads this when a GPU is first used.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

if TYPE_CHECKING:
    from journeyman.asking import Model, load
    from journeyman.workspace import Workspace

__version__ = "0.1.0"
__all__ = ["Model", "Workspace", "__version__", "load"]


_HOMES = {"Model": "journeyman.asking", "Workspace": "journeyman.workspace", "load": "journeyman.asking"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'journeyman' has no attribute {name!r}")
