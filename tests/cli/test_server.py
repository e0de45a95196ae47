"""What `serve` decides before it begins."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from journeyman import database
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


@pytest.mark.parametrize(
    ("command", "url", "said"),
    [
        ("serve", "postgresql://u:secretpw@127.0.0.1:1/db?sslpassword=secretpw", "postgresql://u:***@127.0.0.1:1/db"),
        ("doctor", "postgresql://u:secretpw@127.0.0.1:1/db", "postgresql://u:***@127.0.0.1:1/db"),
        ("jobs", "postgresql://u:secretpw@host:port/db", "no URL"),
        ("jobs", "secretpw", "no URL"),
    ],
)
def test_a_database_that_can_not_be_opened_is_one_error_without_its_password(tmp_path, command, url, said):
    environment = {**os.environ, "JOURNEYMAN_HOME": str(tmp_path), "JOURNEYMAN_DATABASE_URL": url}
    ended = subprocess.run([sys.executable, "-m", "journeyman", command], env=environment, capture_output=True, text=True)
    everything = ended.stdout + ended.stderr
    assert ended.returncode == 1
    assert "JOURNEYMAN_DATABASE_URL" in everything and said in everything.replace("\n", "") and "mend:" in everything
    assert "Traceback" not in everything and "secretpw" not in everything


def test_a_databases_url_is_shown_without_its_secrets():
    said = database.shown("postgresql://u:one@host/db?password=two&sslmode=require")
    assert said.startswith("postgresql://u:***@host/db?") and "one" not in said and "two" not in said
    assert database.shown("sqlite:////home/x/journeyman.db") == "sqlite:////home/x/journeyman.db"
