"""What `serve` decides before it begins."""

from __future__ import annotations

import pytest

from journeyman.cli import server
from journeyman.plan import machine

GIB = 2**30


@pytest.mark.parametrize(
    ("cores", "free_bytes", "processes"),
    [(2, 16 * GIB, 2), (16, 64 * GIB, 4), (8, 4 * GIB, 2), (8, 3 * GIB, 0), (1, 16 * GIB, 0)],
)
def test_processes_for_small_models_are_as_many_as_cores_and_memory_allow(monkeypatch, cores, free_bytes, processes):
    """One alone would only be the server's own work done elsewhere."""
    monkeypatch.setattr(machine, "usable_cores", lambda: cores)
    monkeypatch.setattr(machine, "free_memory_bytes", lambda: free_bytes)
    assert server._processes() == processes
