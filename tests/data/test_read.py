from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import example as given_example
from hypothesis import given, settings
from hypothesis import strategies as st

from data.data_rows import chat, read, write_rows
from journeyman import settings as limits
from journeyman.data.read import file_format, read_rows
from journeyman.data.refused import Refused, Row
from journeyman.errors import DataError

GOOD = json.dumps(chat()).encode()


def write(folder: Path, data: bytes, name: str = "x.jsonl") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_a_row_remembers_its_file_and_line_and_blank_lines_are_not_rows(tmp_path: Path) -> None:
    path = write(tmp_path, b"\n" + GOOD + b"\n  \n\t\n" + GOOD + b"\n")
    rows, bad = read(path)
    assert not bad
    assert [str(row.place) for row in rows] == [f"{path}:2", f"{path}:5"]
    assert rows[0].value == chat()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_byte_order_marks(tmp_path: Path, end: bytes, mark: bytes) -> None:
    rows, bad = read(write(tmp_path, mark + GOOD + end + GOOD + end + GOOD))
    assert [row.place.line for row in rows] == [1, 2, 3]
    assert not bad


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_with_its_mark_is_read(tmp_path: Path, codec: str) -> None:
    text = json.dumps(chat("Grüße 😀"), ensure_ascii=False) + "\r\n"
    mark = "" if codec == "utf-16" else "\ufeff"
    rows, bad = read(write(tmp_path, (mark + text * 3).encode(codec)))
    assert [row.value for row in rows] == [chat("Grüße 😀")] * 3
    assert not bad


def test_utf16_that_is_damaged_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="UTF-16") as caught:
        read(write(tmp_path, b"\xff\xfe" + "{}\n".encode("utf-16-le") + b"\x00\xd8x\x00\n\x00"))
    assert caught.value.code == "not_utf8"


@pytest.mark.parametrize("size", [(1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_a_crlf_on_the_border_of_two_chunks_is_one_line_end(tmp_path: Path, size: int) -> None:
    row = json.dumps({"a": "x" * (size - 10)}).encode()
    rows, bad = read(write(tmp_path, row + b"\r\n" + GOOD))
    assert [row.place.line for row in rows] == [1, 2]
    assert not bad


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        (b'{"messages": [{"role": "us', "invalid_json", "truncated"),
        (b'{"a": 1', "invalid_json", "truncated"),
        (b'{"a": 1} {"b": 2}', "invalid_json", "column 9"),
        (b"{'a': 1}", "invalid_json", "column 2"),
        (b'{"a": "caf\xe9"}', "invalid_utf8", "0xe9"),
        (b'{"a": 1, "a": 2}', "duplicate_key", '"a"'),
        (b'{"b": {"a": 1, "a": 1}}', "duplicate_key", '"a"'),
        (b'{"a": NaN}', "not_finite", "NaN"),
        (b'{"a": -Infinity}', "not_finite", "-Infinity"),
        (b'{"a": 1e999}', "not_finite", "1e999"),
        (b'{"a": ' + b"9" * 5000 + b"}", "number_too_long", "5000"),
        (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "too_deep", "64"),
        (b"[" * 100_000, "too_deep", "64"),
        (b'{"a":' * 100_000, "too_deep", "64"),
        (b"[1, 2]", "not_an_object", "[1, 2]"),
        (b'"text"', "not_an_object", '"text"'),
        (b"null", "not_an_object", "null"),
        (b"3", "not_an_object", "3"),
    ],
)
def test_a_bad_line_is_one_refused_row_and_the_others_are_read(
    tmp_path: Path, line: bytes, code: str, says: str
) -> None:
    path = write(tmp_path, GOOD + b"\n" + line + b"\n" + GOOD)
    rows, bad = read(path)
    assert len(rows) == 2
    assert [(refusal.code, str(refusal.place)) for refusal in bad] == [(code, f"{path}:2")]
    assert says in bad[0].reason
    assert bad[0].fix
    assert bad[0].text == line[:200].decode("utf-8", "backslashreplace")[:200]


def test_a_truncated_last_line_is_refused(tmp_path: Path) -> None:
    rows, bad = read(write(tmp_path, GOOD + b"\n" + GOOD[:-9]))
    assert len(rows) == 1
    assert (bad[0].code, bad[0].place.line) == ("invalid_json", 2)
    assert "truncated" in bad[0].reason


def test_a_line_of_5_mb_is_a_row(tmp_path: Path) -> None:
    rows, bad = read(write_rows(tmp_path / "x.jsonl", [chat("x" * 5_000_000), chat()]))
    assert [row.place.line for row in rows] == [1, 2]
    assert len(rows[0].text) == 200
    assert not bad


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv"])
def test_a_line_over_the_limit_is_refused_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(limits, "MAX_LINE_BYTES", 3_000_000)
    good = GOOD if name == "x.jsonl" else b"q,a"
    long = b'{"a": "' + b"x" * 4_000_000 + b'"}' if name == "x.jsonl" else b"x" * 4_000_000 + b",y"
    rows, bad = read(
        write(tmp_path, b"\n".join([b"input,output" if name == "x.csv" else GOOD, long, good]), name)
    )
    assert [(refusal.code, refusal.place.line) for refusal in bad] == [("line_too_long", 2)]
    assert rows[-1].place.line == 3


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("x.jsonl", b"", "empty_file"),
        ("x.csv", b"", "empty_file"),
        ("x.xlsx", b"", "empty_file"),
        ("x.parquet", b"", "empty_file"),
        ("x.jsonl", b"\n \r\n\t\n", "empty_file"),
        ("x.csv", b"\xef\xbb\xbf\n\n", "empty_file"),
        ("x.jsonl", bytes(range(256)), "not_text"),
        ("x.jsonl", b"%PDF-1.7\n", "not_text"),
        ("x.csv", b"PK\x03\x04rest", "not_text"),
        ("x.jsonl", "{}".encode("utf-32"), "not_text"),
        ("x.jsonl", ('{"a": "b"}' * 9).encode("utf-16-le"), "not_text"),
        ("x.jsonl", "Привет, мир".encode("cp1251"), "not_text"),
        ("x.xlsx", b"no workbook at all", "damaged_file"),
        ("x.xlsx", b"PK\x03\x04no workbook", "damaged_file"),
        ("x.parquet", b"PAR1 no table", "damaged_file"),
        ("x.csv", b"input,,output\na,b,c\n", "bad_header"),
        ("x.csv", b"input,input\na,b\n", "bad_header"),
    ],
)
def test_a_file_that_is_no_file_of_rows_is_one_clear_error(
    tmp_path: Path, name: str, data: bytes, code: str
) -> None:
    path = write(tmp_path, data, name)
    with pytest.raises(DataError) as caught:
        list(read_rows(path))
    assert caught.value.code == code
    assert str(path) in (caught.value.where or "")
    assert caught.value.fix


def test_utf16_without_a_mark_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="UTF-16 without"):
        list(read_rows(write(tmp_path, ('{"a": "b"}' * 9).encode("utf-16-be"))))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("missing.jsonl", "file_not_found"),
        ("folder", "not_a_file"),
        ("a\0b", "file_not_found"),
        ("x" * 300, "unreadable"),
    ],
)
def test_what_can_not_be_opened(tmp_path: Path, name: str, code: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError) as caught:
        list(read_rows(tmp_path / name))
    assert caught.value.code == code


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    path.chmod(0)
    with pytest.raises(DataError, match="can't be read"):
        list(read_rows(path))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="not a regular file"):
        list(read_rows(tmp_path / "pipe"))


def test_a_file_over_the_limit_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_FILE_BYTES", 10)
    with pytest.raises(DataError, match="the limit is 10") as caught:
        list(read_rows(write(tmp_path, GOOD)))
    assert caught.value.code == "file_too_large"


def test_an_array_gives_each_element_its_line(tmp_path: Path) -> None:
    data = b'[\n  {"a": 1},\n  {"a": NaN},\n  7,\n\n  {"a": "caf\xe9"},\n  {"a": 2, "a": 3}, {"a": 4}\n]\n'
    rows, bad = read(write(tmp_path, data, "x.json"))
    assert [(row.value["a"], row.place.line) for row in rows] == [(1, 2), (4, 7)]
    assert [(r.code, r.place.line) for r in bad] == [
        ("not_finite", 3),
        ("not_an_object", 4),
        ("invalid_utf8", 6),
        ("duplicate_key", 7),
    ]


@pytest.mark.parametrize(
    "cut",
    [
        b'[{"a": 1}, {"a"',
        b'[{"a": 1}, ',
        b'[{"a": 1}',
        b'[{"a": 1} {"a": 2}]',
        b'[{"a": 1}] x',
        b'[{"a": 1}, {bad}, {"a": 2}]',
    ],
)
def test_an_array_with_broken_syntax_refuses_the_rest_and_keeps_what_came_before(
    tmp_path: Path, cut: bytes
) -> None:
    rows, bad = read(write(tmp_path, cut, "x.json"))
    assert [row.value for row in rows] == [{"a": 1}]
    assert [refusal.code for refusal in bad] == ["invalid_json"]


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (b"[]", "not_an_object"),
        (b"[3]", "not_an_object"),
        (b"[" + GOOD + b"]", "not_an_object"),
        (b"[" + GOOD, "invalid_json"),
        (b'["' + b"x" * 20_000 + b'"]', "not_an_object"),
    ],
    ids=["empty", "numbers", "a row in brackets", "a stray bracket", "longer than the sample"],
)
@pytest.mark.parametrize("name", ["x.jsonl", "x.json"])
def test_a_first_line_that_is_a_list_is_to_blame_and_the_rows_below_are_kept(
    tmp_path: Path, first: bytes, code: str, name: str
) -> None:
    rows, bad = read(write(tmp_path, b"\n" + b"\n".join([first, GOOD, GOOD]), name))
    assert [(refusal.code, refusal.place.line) for refusal in bad] == [(code, 2)]
    assert [row.place.line for row in rows] == [3, 4]


@pytest.mark.parametrize(
    ("text", "broken_at"),
    [
        (b"[" + GOOD + b"\n," + GOOD + b"]\n", None),
        (b"[" + GOOD + b",\n" + GOOD + b"\n]\n", None),
        (b"[" + GOOD + b"]\n\n", None),
        (b'[{"messages": []\n}]', None),
        (b"[" + GOOD + b"\n" + GOOD + b",\n" + GOOD + b"]", 2),
    ],
    ids=["comma below", "comma above", "one line", "a list within", "a comma is missing"],
)
def test_an_array_over_several_lines_stays_one(tmp_path: Path, text: bytes, broken_at: int | None) -> None:
    path = write(tmp_path, text)
    assert file_format(path) == "json"
    _, bad = read(path)
    assert [refusal.place.line for refusal in bad] == ([] if broken_at is None else [broken_at])


def test_a_json_file_of_objects_over_several_lines(tmp_path: Path) -> None:
    text = json.dumps(chat(), indent=2) + "\n" + json.dumps(chat("b"), indent=2)
    rows, bad = read(write(tmp_path, text.encode(), "x.json"))
    assert [row.value for row in rows] == [chat(), chat("b")]
    assert rows[1].place.line == len(json.dumps(chat(), indent=2).splitlines()) + 1
    assert not bad


def test_jsonl_named_json_with_a_line_separator_in_its_first_row_loses_a_bad_row_only(tmp_path: Path) -> None:
    rows = [json.dumps(chat("a\u2028b", "c"), ensure_ascii=False), "{", json.dumps(chat("d", "e"))]
    path = tmp_path / "rows.json"
    path.write_text("\n".join(rows), encoding="utf-8")
    assert [type(row) for row in read_rows(path)] == [Row, Refused, Row]


def test_jsonl_named_json_is_read_line_by_line(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + b"\n{bad\n" + GOOD, "x.json")
    assert file_format(path) == "jsonl"
    rows, bad = read(path)
    assert (len(rows), len(bad)) == (2, 1)


TEXTS = st.binary(max_size=300) | st.text(max_size=200).map(
    lambda text: text.encode("utf-8", "surrogatepass")
)
JSON_LIKE = st.lists(
    st.sampled_from(
        [
            b"{",
            b"}",
            b"[",
            b"]",
            b'"',
            b":",
            b",",
            b"\n",
            b"\r",
            b"1",
            b"NaN",
            b"\\",
            b"\\ud800",
            b'"a"',
            b"\xff",
            GOOD,
            b" ",
            b"\x00",
        ]
    ),
    max_size=30,
).map(b"".join)


@settings(max_examples=150, deadline=None)
@given(
    TEXTS | JSON_LIKE,
    st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".xlsx", ".parquet", ""]),
    st.sampled_from([b"", b"\xff\xfe", b"\xef\xbb\xbf", b"[", b"a,b\n"]),
)
@given_example(b'a,b\n"', ".csv", b"")
def test_no_input_gives_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, suffix: str, head: bytes
) -> None:
    path = write(tmp_path_factory.getbasetemp(), head + data, f"fuzz{suffix}")
    try:
        found = list(read_rows(path))
    except DataError as error:
        assert error.code and error.where
        return
    for row in found:
        assert isinstance(row, Row | Refused)
        assert row.place.line >= 1
        row.place.file.encode()
        if isinstance(row, Refused):
            json.dumps(row.as_dict(), ensure_ascii=False).encode()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from([GOOD, b"{", b"[1]", b"", b"   ", b"\xff", b'{"a": 1}']), min_size=1, max_size=12
    )
)
def test_every_line_that_is_not_blank_is_kept_or_refused(
    tmp_path_factory: pytest.TempPathFactory, found: list[bytes]
) -> None:
    path = write(tmp_path_factory.getbasetemp(), b"\n".join([GOOD, *found]), "count.jsonl")
    expected = [number for number, line in enumerate([GOOD, *found], 1) if line.strip()]
    assert [row.place.line for row in read_rows(path)] == expected
