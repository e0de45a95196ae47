from __future__ import annotations

from pathlib import Path

import pytest

from data.data_rows import chat, write_rows
from journeyman import task as task_module
from journeyman.data.check.rules import check
from journeyman.data.dataset import build
from journeyman.errors import TaskError
from journeyman.task import BUNDLED, Task, bundled, write_template

FULL = """
name = "support"
base = "starter-1"
held_out_share = 0.2
[files]
examples = "pairs.jsonl"
held_out = "held.jsonl"
documents = "pages"
[columns]
input = "q"
output = "a"
[train]
epochs = 2
learning_rate = 1e-4
full = true
[[graders]]
type = "string_check"
input = "{{ sample.output_text }}"
"""


def folder(path: Path, toml: str) -> Path:
    write_rows(path / "pairs.jsonl", [chat()])
    write_rows(path / "held.jsonl", [chat()])
    (path / "pages").mkdir()
    (path / "task.toml").write_text(toml)
    return path


def test_a_whole_task(tmp_path: Path) -> None:
    (tmp_path / "instructions.md").write_text("\ufeffBe brief.\n")
    task = Task.open(folder(tmp_path, FULL))
    assert (task.name, task.base, task.held_out_share) == ("support", "starter-1", 0.2)
    assert (task.examples, task.held_out, task.validation) == (
        tmp_path / "pairs.jsonl",
        tmp_path / "held.jsonl",
        None,
    )
    assert (task.documents, task.instructions) == (tmp_path / "pages", "Be brief.")
    assert task.train == {"epochs": 2, "learning_rate": 1e-4, "full": True}
    assert task.columns is not None and (task.columns.input, task.columns.output) == ("q", "a")
    assert task.graders == ({"type": "string_check", "input": "{{ sample.output_text }}"},)
    assert Task.open(tmp_path / "task.toml") == task


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    toml = """
nam = "x"
base = 3
held_out_share = 0.9
[files]
examples = "../x.jsonl"
held_out = "missing.jsonl"
pictures = "x"
[columns]
input = "q"
[train]
epoch = 2
rank = true
[[graders]]
name = "no type"
"""
    with pytest.raises(TaskError) as caught:
        Task.open(folder(tmp_path, toml))
    said = "\n".join(caught.value.problems)
    for part in (
        "nam;",
        "base is 3",
        "held_out_share is 0.9",
        "leaves the folder",
        "'missing.jsonl'",
        "files.pictures",
        "[columns]",
        "train.epoch;",
        "train.rank is True",
        "graders[0]",
    ):
        assert part in said
    assert len(caught.value.problems) == 10
    assert caught.value.where == str(tmp_path / "task.toml")


@pytest.mark.parametrize("value", ["/etc/passwd", "../held.jsonl", "a/../../x", "link.jsonl"])
def test_paths_stay_inside_the_folder(tmp_path: Path, value: str) -> None:
    write_rows(tmp_path / "held.jsonl", [chat()])
    (tmp_path / "task").mkdir()
    (tmp_path / "task/link.jsonl").symlink_to(tmp_path / "held.jsonl")
    with pytest.raises(TaskError) as caught:
        Task.open(folder(tmp_path / "task", f'[files]\nexamples = "pairs.jsonl"\nheld_out = "{value}"\n'))
    assert "leaves the folder" in caught.value.problems[0]


def test_a_bare_file_is_a_task(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "pairs.jsonl", [chat()])
    assert Task.open(path) == Task(name="pairs", path=path, examples=path)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda path: path / "missing", "task_not_found"),
        (lambda path: path, "not_a_task"),
        (lambda path: (path / "task.toml").write_text("name = ") and path, "invalid_toml"),
        (lambda path: (path / "task.toml").write_bytes(b"name = '\xff'") and path, "invalid_toml"),
        (lambda path: (path / "task.toml").write_text("name = 'x'") and path, "invalid_task"),
    ],
)
def test_what_is_no_task(tmp_path: Path, make: object, code: str) -> None:
    with pytest.raises(TaskError) as caught:
        Task.open(make(tmp_path))  # type: ignore[operator]
    assert caught.value.code == code
    assert caught.value.fix


@pytest.mark.parametrize("name", ["mine", 'with "quotes"', "ünï"])
def test_a_new_task_opens_and_its_examples_pass_the_check(tmp_path: Path, name: str) -> None:
    write_template(tmp_path / "new", name)
    task = Task.open(tmp_path / "new")
    assert task.name == name
    assert task.instructions and task.graders
    dataset = build(task.examples, tmp_path / "out", held_out_share=task.held_out_share)
    assert check(dataset).verdict == "ok"
    assert not dataset.refused
    with pytest.raises(TaskError) as caught:
        write_template(tmp_path / "new", name)
    assert caught.value.code == "folder_not_empty"


def test_every_line_of_the_template_that_is_commented_out_can_be_used(tmp_path: Path) -> None:
    write_template(tmp_path / "new", "mine")
    path = tmp_path / "new/task.toml"
    switched = [line.removeprefix("# ") if line.startswith(("# [", "# epochs", "# learning", "# rank", "# input", "# output", "# base", "# held", "# validation")) else line for line in path.read_text().splitlines()]  # fmt: skip
    path.write_text("\n".join(switched))
    for name in ("held_out.jsonl", "validation.jsonl"):
        write_rows(tmp_path / "new" / name, [chat()])
    task = Task.open(tmp_path / "new")
    assert set(task.train) == {"epochs", "learning_rate", "rank"}
    assert task.base and task.columns and task.held_out and task.validation


def test_bundled_tasks_are_folders_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_module, "__file__", str(tmp_path / "task.py"))
    (tmp_path / "tasks/triage").mkdir(parents=True)
    assert bundled("triage") == tmp_path / "tasks/triage"
    for name in ("../secret", "unknown", "support"):
        with pytest.raises(TaskError, match="no bundled task"):
            bundled(name)
    assert set(BUNDLED) == {"support", "triage", "catalog"}
