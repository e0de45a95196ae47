"""Engines in memory: loaded once, shared by all who ask, and the least recently asked goes first."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import tiny
from journeyman import answering
from journeyman.workspace import Workspace


def test_an_engine_is_loaded_once_and_the_least_recently_asked_makes_room(tmp_path, bases, monkeypatch):
    monkeypatch.setattr(answering, "MAX_ENGINES", 2)
    folders = [str(bases("llama")), str(bases("llama", tiny.GEMMA)), str(bases("qwen2"))]
    workspace = Workspace(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        engines = {id(served.engine) for served in threads.map(workspace.served, [folders[0]] * 8)}
    assert len(engines) == 1
    workspace.served(folders[1])
    kept = workspace.served(folders[0]).engine
    workspace.served(folders[2])
    assert list(workspace.loads()) == [folders[0], folders[2]]
    assert workspace.served(folders[0]).engine is kept


def test_asking_how_busy_it_is_loads_nothing(tmp_path):
    probe = f"""if True:
        import sys
        from pathlib import Path
        from journeyman.workspace import Workspace
        assert Workspace(Path({str(tmp_path)!r})).loads() == {{}} and "torch" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", probe], check=True)
