"""A task folder: the examples, the instructions and the graders of one task.

    support/
      task.toml          name, base, files, shares, wishes for training, graders
      instructions.md    the prompt you would otherwise paste into every request
      examples.jsonl     OpenAI chat format
      documents/         what changes: for the retrieval baseline (optional)

A bare data file works wherever a folder does: it is a task with defaults and no graders.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from journeyman.data.columns import Columns
from journeyman.data.new_task import write_template
from journeyman.data.split import HELD_OUT_SHARE, VALIDATION_SHARE
from journeyman.errors import TaskError

__all__ = ["BUNDLED", "FILE", "Task", "bundled", "write_template"]

FILE = "task.toml"
BUNDLED = ("support", "triage", "catalog")

_TOP: Mapping[str, tuple[type, ...]] = {
    "name": (str,),
    "base": (str,),
    "files": (dict,),
    "columns": (dict,),
    "held_out_share": (int, float),
    "validation_share": (int, float),
    "train": (dict,),
    "graders": (list,),
}
_TABLES: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "files": dict.fromkeys(("examples", "held_out", "validation", "instructions", "documents", "marked"), (str,)),
    "columns": dict.fromkeys(("input", "output", "system"), (str,)),
    "train": {
        "epochs": (int,),
        "batch_size": (int,),
        "learning_rate": (int, float),
        "rank": (int,),
        "full": (bool,),
        "max_tokens": (int,),
        "seed": (int,),
        "rehearsal": (int, float),
        "select": (str,),
        "suffix": (str,),
        "repetition_penalty": (int, float),
        "top_layers": (int,),
        "quantise": (str,),
    },
}
_DEFAULT_FILES = {"examples": "examples.jsonl", "instructions": "instructions.md", "documents": "documents"}


@dataclass(frozen=True, slots=True)
class Task:
    """One task, read and checked. Paths exist; graders are OpenAI grader objects, not yet compiled."""

    name: str
    path: Path
    """The folder, or the bare file of examples."""

    examples: Path
    held_out: Path | None = None
    validation: Path | None = None
    documents: Path | None = None
    marked: Path | None = None
    """Answers that a person has marked, to hold judge models against."""

    instructions: str = ""
    base: str | None = None
    held_out_share: float = HELD_OUT_SHARE
    validation_share: float = VALIDATION_SHARE
    columns: Columns | None = None
    train: Mapping[str, Any] = field(default_factory=dict)
    """Wishes for training, by the names of the training flags."""

    graders: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def open(cls, path: Path) -> Task:
        """Open a task folder, or a bare file of examples.

        Raises TaskError that lists every problem of task.toml at once (unknown keys, wrong types, missing files,
        paths that leave the folder), or says that there is nothing at `path`.
        """
        if path.is_dir():
            return _open_folder(path)
        if path.name == FILE and path.is_file():
            return _open_folder(path.parent)
        if not path.exists():
            raise TaskError(
                "there is no such task folder or file",
                where=str(path),
                fix=f"check the path, or use a bundled task: {', '.join(BUNDLED)}",
                code="task_not_found",
            )
        return cls(name=path.stem, path=path, examples=path)


def bundled(name: str) -> Path:
    """The folder of a task that comes with the package. Raises TaskError `task_not_found` for any other name."""
    folder = Path(__file__).parent / "tasks" / name
    if name not in BUNDLED or not folder.is_dir():
        raise TaskError(
            f"there is no bundled task {name!r}",
            fix=f"use one of: {', '.join(BUNDLED)}",
            code="task_not_found",
        )
    return folder


def _open_folder(folder: Path) -> Task:
    table = _read_table(folder)
    problems = _wrong_keys(table)
    paths, path_problems = _paths(folder, _table(table, "files"))
    problems += path_problems + _wrong_shares(table) + _wrong_graders(table)
    columns = _table(table, "columns")
    if columns and not {"input", "output"} <= set(columns):
        problems.append("[columns] needs both input and output")
    if problems:
        raise TaskError(
            f"{FILE} has {len(problems)} problem(s)",
            where=str(folder / FILE),
            fix="correct the lines named; `journeyman init NAME` writes a commented example",
            code="invalid_task",
            problems=problems,
        )
    instructions = paths.get("instructions")
    return Task(
        name=table.get("name", folder.absolute().name),
        path=folder,
        examples=paths["examples"],
        held_out=paths.get("held_out"),
        validation=paths.get("validation"),
        documents=paths.get("documents"),
        marked=paths.get("marked"),
        instructions=_read_text(instructions).strip() if instructions else "",
        base=table.get("base"),
        held_out_share=table.get("held_out_share", HELD_OUT_SHARE),
        validation_share=table.get("validation_share", VALIDATION_SHARE),
        columns=Columns(**columns, reason=f"named in {FILE}") if columns else None,
        train=_table(table, "train"),
        graders=tuple(table.get("graders", ())),
    )


def _read_table(folder: Path) -> dict[str, Any]:
    path = folder / FILE
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        fix = "`journeyman init NAME` writes one, or name the file of examples itself"
        raise TaskError(f"the folder has no {FILE}", where=str(folder), fix=fix, code="not_a_task") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise TaskError(
            f"{FILE} can't be read: {error}", where=str(path), fix="correct it", code="invalid_toml"
        ) from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(
            f"the instructions can't be read: {error}",
            where=str(path),
            fix="save them as UTF-8",
            code="invalid_task",
        ) from error


def _table(table: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = table.get(name)
    return value if isinstance(value, dict) else {}


def _wrong_keys(table: Mapping[str, Any]) -> list[str]:
    problems = _wrong_values(table, _TOP, "")
    for name, known in _TABLES.items():
        problems += _wrong_values(_table(table, name), known, f"{name}.")
    return problems


def _wrong_values(values: Mapping[str, Any], known: Mapping[str, tuple[type, ...]], prefix: str) -> list[str]:
    problems = []
    for key, value in values.items():
        if key not in known:
            problems.append(f"unknown key {prefix}{key}; known are {', '.join(known)}")
        # bool is an int to Python; `epochs = true` is a mistake all the same.
        elif not isinstance(value, known[key]) or (isinstance(value, bool) and bool not in known[key]):
            problems.append(f"{prefix}{key} is {value!r}; it must be {_NAMES[known[key]]}")
    return problems


_NAMES: Mapping[tuple[type, ...], str] = {
    (str,): "a text",
    (int,): "a whole number",
    (int, float): "a number",
    (bool,): "true or false",
    (dict,): "a table",
    (list,): "an array of tables",
}


def _paths(folder: Path, named: Mapping[str, Any]) -> tuple[dict[str, Path], list[str]]:
    """The files of the task by name, and what is wrong with them. A default that is not there is left out."""
    found, problems = {}, []
    for name, value in {**_DEFAULT_FILES, **named}.items():
        if name not in _TABLES["files"] or not isinstance(value, str):
            continue
        path = folder / value
        if not _inside(folder, path):
            problems.append(f"files.{name} is {value!r}, which leaves the folder")
        elif path.is_dir() if name == "documents" else path.is_file():
            found[name] = path
        elif name in named or name == "examples":
            problems.append(
                f"files.{name}: there is no {'folder' if name == 'documents' else 'file'} {value!r}"
            )
    return found, problems


def _inside(folder: Path, path: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a NUL in the name, a loop of links
        return False


def _wrong_shares(table: Mapping[str, Any]) -> list[str]:
    values = {name: table.get(name) for name in ("held_out_share", "validation_share")}
    numbers = {
        name: v for name, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)
    }
    return [
        f"{name} is {value}; it must be from 0 to 0.4"
        for name, value in numbers.items()
        if not 0 <= value <= 0.4
    ]


def _wrong_graders(table: Mapping[str, Any]) -> list[str]:
    graders = table.get("graders", [])
    if not isinstance(graders, list):
        return []
    return [
        f'graders[{index}] needs a type, such as "string_check"'
        for index, grader in enumerate(graders)
        if not isinstance(grader, dict) or not isinstance(grader.get("type"), str)
    ]
