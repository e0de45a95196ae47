"""A script written for OpenAI's API, unchanged, against this server and the starter."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from journeyman.workspace import Workspace

from .scripted import serving
from .working import working

SCRIPT = Path(__file__).parent / "scripts" / "accept.py"


def test_a_script_for_openai_runs_unchanged(tmp_path):
    workspace = Workspace(tmp_path / "home")
    workspace.settings = replace(workspace.settings, api_keys=("sk-local",))
    with serving(workspace) as url, working(workspace):
        env = {**os.environ, "OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": "sk-local", "BASE_MODEL": "starter", "POLL": "0.1"}
        done = subprocess.run(
            [sys.executable, SCRIPT], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
        )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("python") and done.stdout.rstrip().endswith("OK")
