from __future__ import annotations

import datetime
import decimal
from pathlib import Path

import openpyxl
import polars
import pyarrow
import pyarrow.parquet
import pytest

from data.data_rows import read
from journeyman.data.columns import Columns, find_columns
from journeyman.data.source import read_source
from journeyman.errors import DataError


def write(folder: Path, data: bytes | str, name: str = "x.csv") -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize(
    ("separator", "name"), [(",", "x.csv"), (";", "x.csv"), ("\t", "x.csv"), ("\t", "x.tsv"), ("|", "x.csv")]
)
def test_separators(tmp_path: Path, separator: str, name: str) -> None:
    text = separator.join(["question", "answer"]) + "\r\n" + separator.join(['"a; b, c"', "d"]) + "\r\n"
    rows, bad = read(write(tmp_path, text, name))
    assert [dict(row.value) for row in rows] == [{"question": "a; b, c", "answer": "d"}]
    assert not bad


def test_a_cell_over_several_lines_keeps_them_and_the_record_has_its_first_line(tmp_path: Path) -> None:
    rows, _ = read(write(tmp_path, 'input,output\n"one\r\ntwo\n\nthree","say ""hi"""\nlast,row\n'))
    assert [(row.value["input"], row.value["output"], row.place.line) for row in rows] == [
        ("one\r\ntwo\n\nthree", 'say "hi"', 2),
        ("last", "row", 6),
    ]


def test_a_large_cell_is_read(tmp_path: Path) -> None:
    rows, bad = read(write(tmp_path, f"input,output\n{'x' * 5_000_000},y\n"))
    assert len(str(rows[0].value["input"])) == 5_000_000
    assert not bad


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        (b"one", "wrong_field_count", "1 cells where the header has 2"),
        (b"one,two,three", "wrong_field_count", "3 cells where the header has 2"),
        (b'"one" x,two', "invalid_csv", "expected"),
        (b"caf\xe9,two", "invalid_utf8", "0xe9"),
    ],
)
def test_a_bad_record_is_refused_and_the_next_is_read(
    tmp_path: Path, line: bytes, code: str, says: str
) -> None:
    rows, bad = read(write(tmp_path, b"input,output\na,b\n" + line + b"\n\nc,d\n"))
    assert [row.place.line for row in rows] == [2, 5]
    assert [(refusal.code, refusal.place.line) for refusal in bad] == [(code, 3)]
    assert says in bad[0].reason
    assert bad[0].text


def test_a_quote_that_never_closes_says_what_it_swallowed(tmp_path: Path) -> None:
    rows, bad = read(write(tmp_path, 'input,output\na,b\n"c,d\ne,f\n'))
    assert len(rows) == 1
    assert (bad[0].code, bad[0].place.line) == ("invalid_csv", 3)
    assert "never closed" in bad[0].reason


def sheet(path: Path, rows: list[list[object]]) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.create_sheet("other").append(["not", "read"])
    book.save(path)
    return path


def test_a_workbook(tmp_path: Path) -> None:
    path = sheet(
        tmp_path / "x.xlsx",
        [
            [None, None],
            ["input", "output", "when"],
            ["a", 3, datetime.datetime(2026, 1, 5)],
            [],
            ["b", True, 1.5],
            ["c", "d", None, "more"],
        ],
    )
    rows, bad = read(path)
    assert [(dict(row.value), row.place.line) for row in rows] == [
        ({"input": "a", "output": 3, "when": "2026-01-05"}, 3),
        ({"input": "b", "output": True, "when": 1.5}, 5),
    ]
    assert [(refusal.code, refusal.place.line) for refusal in bad] == [("wrong_field_count", 6)]


def test_a_workbook_cut_in_half_is_a_clear_error(tmp_path: Path) -> None:
    whole = sheet(tmp_path / "x.xlsx", [["input", "output"], ["a", "b"]]).read_bytes()
    for cut in (100, len(whole) // 2, len(whole) - 5):
        with pytest.raises(DataError) as caught:
            read(write(tmp_path, whole[:cut], "cut.xlsx"))
        assert caught.value.code == "damaged_file"


def test_parquet_of_nested_and_plain_columns(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    polars.DataFrame(
        {"messages": [turns, turns], "score": [1.5, float("nan")], "price": [decimal.Decimal("1.50"), None]}
    ).write_parquet(path)
    rows, bad = read(path)
    assert [dict(row.value) for row in rows] == [
        {"messages": turns, "score": 1.5, "price": "1.50"},
        {"messages": turns, "score": None, "price": None},
    ]
    assert [row.place.line for row in rows] == [1, 2]
    assert not bad


def test_parquet_cells_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table = pyarrow.table(
        {"input": ["a", "b", "c"], "output": [b"\x00\x01", None, b"x"], "n": [1.0, float("inf"), 2.0]}
    )
    pyarrow.parquet.write_table(table, path)
    rows, bad = read(path)
    assert not rows
    assert [(refusal.code, refusal.place.line) for refusal in bad] == [
        ("binary_value", 1),
        ("not_finite", 2),
        ("binary_value", 3),
    ]


def test_parquet_cut_in_half_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    polars.DataFrame({"input": ["a"] * 100, "output": ["b"] * 100}).write_parquet(path)
    with pytest.raises(DataError, match="can't be decoded"):
        read(write(tmp_path, path.read_bytes()[:-20], "cut.parquet"))


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"question": "a", "answer": "b"}, ("question", "answer", None)),
        ({"Label": "b", "Text": "a", "id": "c"}, ("Text", "Label", None)),
        ({"system prompt": "s", "prompt": "a", "ideal": "b"}, ("prompt", "ideal", "system prompt")),
        ({"foo": "some text", "bar": "more text"}, ("foo", "bar", None)),
        ({"id": 3, "foo": "some text", "bar": "more text"}, ("foo", "bar", None)),
        ({"reply": "b", "foo": "some text"}, ("foo", "reply", None)),
        ({"foo": "some text", "query": "more text"}, ("query", "foo", None)),
    ],
)
def test_columns_are_found(row: dict[str, object], found: tuple[str, str, str | None]) -> None:
    columns = find_columns([row], "x.csv")
    assert (columns.input, columns.output, columns.system) == found
    assert repr(columns.input) in columns.reason


@pytest.mark.parametrize(
    "row",
    [
        {"a": "x", "b": "y", "c": "z"},
        {"a": 1, "b": 2},
        {"question": "x", "foo": "y", "bar": "z"},
    ],
)
def test_columns_that_are_not_clear_name_the_columns_and_the_flags(row: dict[str, object]) -> None:
    with pytest.raises(DataError) as caught:
        find_columns([row], "x.csv")
    assert caught.value.code == "ambiguous_columns"
    assert all(repr(name) in caught.value.message for name in row)
    assert "--input-column" in (caught.value.fix or "") and "--output-column" in (caught.value.fix or "")


def test_a_first_row_of_data_is_not_taken_for_names() -> None:
    rows: list[dict[str, object]] = [
        {"hello there": "bye", "greeting": "greeting"},
        {"hello there": "x", "greeting": "farewell"},
    ]
    with pytest.raises(DataError) as caught:
        find_columns(rows, "x.csv")
    assert caught.value.code == "no_header"


@pytest.mark.parametrize("name", ["My mug is chipped", "Is it back?", "Thanks!", "x" * 61])
def test_a_first_row_that_talks_is_not_taken_for_names(name: str) -> None:
    rows: list[dict[str, object]] = [{name: "Where is it?", "late": "delivery"}, {name: "It broke.", "late": "damage"}]
    with pytest.raises(DataError) as caught:
        find_columns(rows, "x.csv")
    assert caught.value.code == "no_header"
    assert "--input-column" in (caught.value.fix or "")


@pytest.mark.parametrize("row", [{}, {"input": "x"}])
def test_one_column_is_too_few(row: dict[str, object]) -> None:
    with pytest.raises(DataError) as caught:
        find_columns([row], "x.csv")
    assert caught.value.code == "one_column"
    assert ("there is only 'input'" if row else "empty objects") in caught.value.message


def test_formulas_without_a_result_are_refused_and_named(tmp_path: Path) -> None:
    path = sheet(
        tmp_path / "x.xlsx",
        [
            ["input", "output", "n"],
            ["a", '=CONCATENATE("b", "c")', 1],
            ["=A2", None, None],
            ["a", "b", "=1+1"],
            ["a", "#REF!", 1],
            ["a", "b", None],
            ["a", "about #REF! and =1", 1],
        ],
    )
    rows, bad = read(path)
    assert [row.place.line for row in rows] == [6, 7]
    assert [(refusal.code, refusal.place.line) for refusal in bad] == [("no_result", line) for line in (2, 3, 4, 5)]
    for refusal, cell in zip(bad, ("B2", "A3", "C4", "B5"), strict=True):
        assert f"the cell {cell} " in refusal.reason


def test_sheets_that_are_not_read_are_named(tmp_path: Path) -> None:
    path = sheet(tmp_path / "x.xlsx", [["input", "output"], ["a", "b"]])
    book = openpyxl.load_workbook(path)
    book.create_sheet("empty")
    book.save(path)
    source = read_source(path)
    assert source.notes == ("only the first sheet is read; left out: 'other'",)
    assert source.as_dict()["notes"] == list(source.notes)


@pytest.mark.parametrize("rows", [[], [["input", "output"]]])
def test_a_table_without_rows_says_so(tmp_path: Path, rows: list[list[object]]) -> None:
    with pytest.raises(DataError, match="no rows below the names of its columns") as caught:
        read_source(sheet(tmp_path / "x.xlsx", rows))
    assert caught.value.code == "no_rows"


def test_the_users_columns_must_be_there(tmp_path: Path) -> None:
    from journeyman.data.columns import require_columns

    require_columns([{"a": 1, "b": 2}], Columns("a", "b"), "x.csv")
    with pytest.raises(DataError, match="no column 'c'; there are 'a', 'b'"):
        require_columns([{"a": 1, "b": 2}], Columns("a", "c"), "x.csv")
    with pytest.raises(DataError, match="two things"):
        require_columns([{"a": 1, "b": 2}], Columns("a", "a"), "x.csv")
