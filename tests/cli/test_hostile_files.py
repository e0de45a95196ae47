"""Files that nobody would send, and everybody does: each ends in a clear error or a refused row, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from journeyman.cli.main import app
from journeyman.errors import JourneymanError

THINGS = ["lamp", "kettle", "blanket", "mug", "chair", "clock", "basket", "mirror", "candle", "shelf", "rug", "vase"]


def row(asked: Any, answer: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}], **more}


GOOD = "".join(json.dumps(row(f"Where is the {thing}?", f"Aisle {n}.")) + "\n" for n, thing in enumerate(THINGS))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JOURNEYMAN_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(name: str) -> dict[str, Any]:
    """What `check --json` says, having ended as a command may: well, or with an error that names a mend."""
    result = CliRunner().invoke(app, ["check", name, "--json"])
    if isinstance(result.exception, JourneymanError):
        assert result.exception.fix
        return {"error": result.exception.code, "where": result.exception.where}
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    said = json.loads(result.stdout)
    counts = said["counts"]
    assert counts["read"] == counts["kept"] + counts["refused"]
    assert counts["kept"] == counts["train"] + counts["validation"] + counts["held_out"]
    assert len(said["refused"]) == counts["refused"]
    for refused in said["refused"]:
        assert refused["file"] == name and refused["line"] >= 1
        assert refused["code"] and refused["reason"] and refused["fix"]
    return said


BAD_LINES = {
    "truncated": (json.dumps(row("a", "b"))[:-20], "invalid_json"),
    "weight_2": (json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 2}]}), "bad_weight"),
    "weight_text": (json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": "1"}]}), "bad_weight"),
    "object_for_text": (json.dumps(row({"a": 1}, "b")), "not_text"),
    "object_for_answer": (json.dumps(row("a", {"json": True})), "not_text"),
    "surrogate": (json.dumps(row("half \ud83d", "b")), "lone_surrogate"),
    "surrogate_key": (json.dumps({**row("a", "b"), "\udc00": 1}), "lone_surrogate"),
    "nul": (json.dumps(row("a\0b", "c")), "nul_character"),
    "deep": ('{"messages":' + "[" * 50_000 + "]" * 50_000 + "}", "too_deep"),
    "nan": ('{"messages": NaN}', "not_finite"),
    "other_shape": ('{"prompt": "a", "completion": "b"}', "wrong_shape"),
    "no_object": ("[1, 2]", "not_an_object"),
    "not_json": ("hello", "invalid_json"),
    "number": ("9" * 5000, "number_too_long"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_refused_and_the_others_are_kept(folder: Path, name: str) -> None:
    line, code = BAD_LINES[name]
    (folder / "x.jsonl").write_text(GOOD + line, encoding="utf-8")
    said = check("x.jsonl")
    assert [(r["code"], r["line"]) for r in said["refused"]] == [(code, 13)]
    assert said["counts"]["kept"] == 12


GOOD_FILES = {
    "bom": b"\xef\xbb\xbf" + GOOD.encode(),
    "crlf": GOOD.replace("\n", "\r\n").encode(),
    "cr": GOOD.replace("\n", "\r").encode(),
    "no_last_line_end": GOOD.rstrip().encode(),
    "utf16": GOOD.encode("utf-16"),
    "blank_lines": GOOD.replace("\n", "\n \n\n").encode(),
}


@pytest.mark.parametrize("name", GOOD_FILES)
def test_a_file_in_another_writing_is_read_whole(folder: Path, name: str) -> None:
    (folder / "x.jsonl").write_bytes(GOOD_FILES[name])
    said = check("x.jsonl")
    assert (said["counts"]["read"], said["counts"]["kept"], said["verdict"]) == (12, 12, "ok")


BAD_FILES = {
    "empty.jsonl": (b"", "empty_file"),
    "blank.jsonl": (b"\n \n", "empty_file"),
    "binary.jsonl": (bytes(range(256)) * 8, "not_text"),
    "png.jsonl": (b"\x89PNG\r\n\x1a\n", "not_text"),
    "utf16_without_mark.jsonl": (GOOD.encode("utf-16-le"), "not_text"),
    "all_bad.jsonl": (b"{}\n" * 12, "one_column"),
    "one_column.csv": (b"text\nhello\nworld\n", "one_column"),
    "two_names.csv": (b"a,a\n1,2\n", "bad_header"),
    "no_names.csv": (b"Where is my mug?,late\nWhere is my lamp?,late\n", "no_header"),
    "names_only.csv": (b"input,output\n", "no_rows"),
    "fake.xlsx": (b"hello", "damaged_file"),
    "fake.parquet": (b"PAR1hello", "damaged_file"),
    "below_a_key.json": (json.dumps({"data": [row("a", "b")] * 3}).encode(), "nested_rows"),
    "preferences.jsonl": (b'{"prompt": "a", "chosen": "b", "rejected": "c"}\n', "preference_file"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_can_not_be_used_is_one_clear_error(folder: Path, name: str) -> None:
    content, code = BAD_FILES[name]
    (folder / name).write_bytes(content)
    said = check(name)
    assert said["error"] == code
    assert name in said["where"]


def test_what_is_no_file(folder: Path) -> None:
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to("loop")
    (folder / "nowhere").symlink_to("gone")
    assert check("folder")["error"] == "not_a_task"
    for name in ("loop", "nowhere", "missing", "missing.jsonl"):
        assert check(name)["error"] == "task_not_found"


def test_a_row_of_5_mb_is_read_and_counted(folder: Path) -> None:
    """Most of it beside the messages: what is rendered is tokenized too, a second a megabyte."""
    (folder / "x.jsonl").write_text(GOOD + json.dumps(row("x" * 200_000, "y", log="x" * 5_000_000)), encoding="utf-8")
    assert check("x.jsonl")["counts"]["kept"] == 13


def test_a_ragged_table(folder: Path) -> None:
    rows = "".join(f"where is the {thing}\taisle\n" for thing in THINGS)
    (folder / "x.tsv").write_text(f"input\toutput\nshort\nlong\ta\tb\n{rows}", encoding="utf-8")
    said = check("x.tsv")
    assert [(r["code"], r["line"]) for r in said["refused"]] == [("wrong_field_count", 2), ("wrong_field_count", 3)]


def test_a_workbook_with_everything(folder: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["input", "output"])
    for thing in THINGS:
        sheet.append([f"where is the {thing}", "aisle"])
    sheet.append(["a formula", '=CONCATENATE("a", "b")'])
    sheet.append(["two cells merged", "aisle"])
    sheet.merge_cells("A15:A16")
    sheet["B16"] = "its answer"
    book.create_sheet("Notes").append(["left out"])
    book.save(folder / "x.xlsx")
    said = check("x.xlsx")
    assert [(r["code"], r["line"]) for r in said["refused"]] == [("no_result", 14), ("empty_input", 16)]
    assert said["sources"][0]["notes"] == ["only the first sheet is read; left out: 'Notes'"]


def test_parquet_columns_that_hold_structs(folder: Path) -> None:
    table = pyarrow.table({"input": [{"q": thing} for thing in THINGS], "output": THINGS})
    pyarrow.parquet.write_table(table, folder / "x.parquet")
    assert check("x.parquet")["error"] == "no_examples"
