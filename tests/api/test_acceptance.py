"""Scripts written for OpenAI's API, run against this server and the starter: Python's unchanged, and ours for Node."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from journeyman.workspace import Workspace

from .scripted import serving
from .working import working

TESTS = Path(__file__).parents[1]
SCRIPT = Path(__file__).parent / "scripts" / "accept.py"
NODE = Path(__file__).parent / "node"
STRICTLY = """
import runpy, sys, openai
from api import sdk_types
sdk_types.complete()
for client in (openai.OpenAI, openai.AsyncOpenAI):
    client.__init__.__kwdefaults__["_strict_response_validation"] = True
runpy.run_path(sys.argv[1], run_name="__main__")
"""
"""Runs a script with the SDK's own switch on: a response that does not fit its type is an APIResponseValidationError."""


def run(command: Sequence[str | Path], folder: Path) -> str:
    """What a script prints that runs to its end beside a server and a worker; only the environment tells it where."""
    workspace = Workspace(folder / "home")
    workspace.settings = replace(workspace.settings, api_keys=("sk-local",))
    with serving(workspace) as url, working(workspace):
        env = {**os.environ, "OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": "sk-local", "BASE_MODEL": "starter", "POLL": "0.1", "PYTHONPATH": str(TESTS)}
        done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.rstrip()


def test_a_script_for_openai_runs_unchanged(tmp_path):
    said = run([sys.executable, "-c", STRICTLY, SCRIPT], tmp_path)
    assert said.startswith("python") and said.endswith("OK")


def test_the_same_path_in_node(tmp_path):
    node = shutil.which("node")
    if node is None or not (NODE / "node_modules" / "openai").is_dir():
        pytest.skip("needs Node and its openai package: npm install --prefix tests/api/node")
    said = run([node, NODE / "accept.mjs"], tmp_path)
    assert said.startswith("node") and said.endswith("OK")
