"""The commands as a person types them: what they print, and how they end."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from journeyman.cli.main import app
from journeyman.task import Task


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JOURNEYMAN_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words, catch_exceptions=True)


def test_a_task_written_where_one_stands_is_named_after_the_folder(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "support-desk").mkdir()
    monkeypatch.chdir(tmp_path / "support-desk")
    assert run("init", ".").exit_code == 0
    assert Task.open(Path()).name == "support-desk"


def test_a_new_task_passes_the_check_as_it_is(tmp_path: Path) -> None:
    assert "wrote mine/" in run("init", "mine").output
    checked = run("check", "mine")
    assert checked.exit_code == 0, checked.output
    assert "read 12 = kept 12 + refused 0" in checked.output
