"""The commands as a person types them: what they print, and how they end."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from api.conftest import add_version
from journeyman.cli.main import app
from journeyman.errors import ModelConflict
from journeyman.task import Task
from journeyman.workspace import Workspace


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


def test_a_model_is_deleted_by_its_id_only_and_with_its_aliases(home: Path, bases) -> None:
    workspace = Workspace(home)
    version = add_version(workspace, bases("llama"), "ft:tiny:local:voice:Ab12Cd34")
    run("models", "alias", "live", version.id)
    run("models", "alias", "next", "live")
    refused = run("models", "delete", "live", "--yes")
    assert isinstance(refused.exception, ModelConflict)
    assert version.id in refused.exception.message
    assert "stays" in run("models", "unalias", "next").output
    assert workspace.registry.aliases() == {"live": version.id}
    asked = CliRunner().invoke(app, ["models", "delete", version.id], input="n\n")
    assert "its alias live" in asked.output
    assert version.folder.is_dir()
    assert run("models", "delete", version.id, "--yes").exit_code == 0
    assert (workspace.registry.list(), workspace.registry.aliases(), version.folder.exists()) == ([], {}, False)
