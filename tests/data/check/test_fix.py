"""A mended copy: what is dropped and changed stands in the ledger, and fixing again changes nothing."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import openpyxl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from journeyman.data.check.finding import Drop, Finding, FoundRow, Report, SetOutput
from journeyman.data.check.fix import Fixed, Look, fix
from journeyman.data.check.private import concealed
from journeyman.data.check.review import Review
from journeyman.data.check.rules import check
from journeyman.data.dataset import build
from journeyman.data.read import read_rows
from journeyman.data.refused import Row
from journeyman.errors import DataError

MAIL = "mara.lindt@posteo.de"


def review(path: Path) -> Review:
    with tempfile.TemporaryDirectory() as folder:
        dataset = build(path, Path(folder))
    return Review(path.stem, path, dataset, check(dataset), review)


def values(path: Path) -> list[dict[str, object]]:
    return [dict(row.value) for row in read_rows(path) if isinstance(row, Row)]


def ledger(fixed: Fixed) -> list[dict[str, object]]:
    return [json.loads(line) for line in fixed.ledger.read_text(encoding="utf-8").splitlines()]


def asked(count: int) -> list[tuple[str, str]]:
    """Rows without a fault."""
    return [(f"What is the {noun} {n} for?", f"For the {noun}.") for n, noun in enumerate(["lamp", "wick", "shade"] * count)][:count]


def chat(said: str, output: str) -> str:
    return json.dumps({"messages": [{"role": "user", "content": said}, {"role": "assistant", "content": output}]})


def faulty_jsonl(path: Path) -> None:
    rows = [chat(*row) for row in asked(12)]
    rows.insert(3, '{"messages": [{"role": "user",  "content": "nobody answers"}]}')
    rows.insert(6, chat(f"I am {MAIL}", f"We write to {MAIL}."))
    rows += [rows[0], "{broken", chat(f"Still {MAIL}?", "Yes."), rows[0]]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def test_what_is_dropped_and_changed_stands_in_the_ledger(tmp_path: Path) -> None:
    path, out = tmp_path / "replies.jsonl", tmp_path / "clean.jsonl"
    faulty_jsonl(path)
    before = path.read_bytes()
    fixed = review(path).fix(out)
    assert path.read_bytes() == before
    assert (fixed.rows, fixed.kept, fixed.dropped, fixed.changed) == (18, 14, 4, 2)
    lines = ledger(fixed)
    assert [(line["line"], line["rule"]) for line in lines if "dropped" in line] == [
        (4, "no_assistant"), (16, "invalid_json"), (15, "duplicate_rows"), (18, "duplicate_rows"),
    ]  # fmt: skip
    assert next(line["before"] for line in lines if line["line"] == 16) == "{broken"
    changed = [line for line in lines if "after" in line]
    assert [(line["line"], line["rule"]) for line in changed] == [(7, "private_data"), (17, "private_data")]
    assert MAIL not in fixed.ledger.read_text(encoding="utf-8")
    text = out.read_text(encoding="utf-8")
    assert MAIL not in text and text.count("person1@example.com") == 3
    # Rows without a fault stay as they were written, byte for byte.
    assert text.splitlines()[0] == before.decode().splitlines()[0]
    assert {f.code for f in fixed.report.findings} < {f.code for f in review(path).report.findings}


def test_fixing_again_changes_nothing(tmp_path: Path) -> None:
    faulty_jsonl(tmp_path / "replies.jsonl")
    once = review(tmp_path / "replies.jsonl").fix(tmp_path / "once.jsonl")
    twice = review(once.out).fix(tmp_path / "twice.jsonl")
    assert twice.out.read_bytes() == once.out.read_bytes()
    assert (twice.changes, twice.ledger.read_bytes()) == ([], b"")


def write_table(path: Path, rows: list[tuple[str, str]]) -> None:
    if path.suffix == ".xlsx":
        book = openpyxl.Workbook()
        for row in [("question", "answer"), *rows]:
            book.active.append(row)
        book.save(path)
        return
    text = io.StringIO()
    writer = csv.writer(text, delimiter={".csv": ";", ".tsv": "\t"}[path.suffix])
    writer.writerows([("question", "answer"), *rows])
    path.write_text(text.getvalue(), encoding="utf-8")


@pytest.mark.parametrize(("suffix", "into"), [(".csv", ".csv"), (".tsv", ".tsv"), (".csv", ".tsv"), (".xlsx", ".jsonl")])
def test_a_table_stays_a_table_where_it_is_one_of_text(tmp_path: Path, suffix: str, into: str) -> None:
    rows = [*asked(11), ("Two\nlines; and a \"quote\"", f"Write to {MAIL}"), asked(1)[0]]
    path, out = tmp_path / f"replies{suffix}", tmp_path / f"clean{into}"
    write_table(path, rows)
    fixed = review(path).fix(out)
    assert (fixed.kept, fixed.dropped, fixed.changed) == (12, 1, 1)
    expected = [{"question": q, "answer": a.replace(MAIL, "person1@example.com")} for q, a in rows[:-1]]
    assert values(out) == expected
    assert review(out).fix(tmp_path / f"again{into}").out.read_bytes() == out.read_bytes()


def test_rows_of_an_array_on_one_line_are_told_apart(tmp_path: Path) -> None:
    rows = [chat(*row) for row in asked(11)]
    rows.insert(5, chat(f"I am {MAIL}", "Hello."))
    path = tmp_path / "replies.json"
    path.write_text("[" + ", ".join([*rows, rows[2], rows[2]]) + "]", encoding="utf-8")
    fixed = review(path).fix(tmp_path / "clean.jsonl")
    assert (fixed.rows, fixed.kept) == (14, 12)
    said = [value["messages"][0]["content"] for value in values(fixed.out)]  # type: ignore[index]
    assert said == [json.loads(row)["messages"][0]["content"].replace(MAIL, "person1@example.com") for row in rows]


SHAPES = {
    "openai_chat": ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "old"}]}, "messages"),
    "prompt_completion": ({"prompt": "q", "completion": "old"}, "completion"),
    "alpaca": ({"instruction": "q", "input": "", "output": "old"}, "output"),
    "sharegpt": ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "old"}]}, "conversations"),
    "columns": ({"question": "q", "answer": "old"}, "answer"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_new_output_is_written_where_the_shape_has_it(tmp_path: Path, shape: str) -> None:
    value, key = SHAPES[shape]
    rows = [{**json.loads(json.dumps(value).replace('"q"', f'"question {n}"')), "id": n} for n in range(12)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    first = review(path)._seen()
    at = next(n for n, example in enumerate(first.splits["train"]) if example.place.line == 5)
    place = first.splits["train"][at].place
    mended = (FoundRow(place, "train", at, "", SetOutput("new")), FoundRow(place, "train", at, "", SetOutput("worse")))
    report = Report((Finding("stray_labels", "warning", "m", mended, "f"),))
    copy = Look(first.splits, first.shape, Report(()))
    fixed = fix(path, tmp_path / "out.jsonl", Look(first.splits, first.shape, report), lambda p: replace(copy, splits=review(p)._seen().splits), relabel=True)
    assert first.shape.name == shape
    assert [change.place.line for change in fixed.changes] == [5]
    after = values(fixed.out)
    assert after[4] == json.loads(json.dumps(rows[4]).replace('"old"', '"new"'))
    assert after[:4] + after[5:] == rows[:4] + rows[5:]
    assert key in after[4]


def test_nothing_is_overwritten_and_a_name_that_misleads_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    faulty_jsonl(path)
    found = review(path)
    for out, code in (("replies.jsonl", "file_exists"), ("out.csv", "wrong_suffix"), ("nowhere/out.jsonl", "no_folder")):
        with pytest.raises(DataError) as caught:
            found.fix(tmp_path / out)
        assert caught.value.code == code
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "out.jsonl.ledger.jsonl").touch()
    with pytest.raises(DataError, match=r"out\.jsonl\.ledger\.jsonl"):
        found.fix(tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_a_copy_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    path.write_text("\n".join(chat(*row) for row in asked(12)), encoding="utf-8")
    first = review(path)._seen()
    drops = tuple(FoundRow(e.place, split, n, "", Drop()) for split, rows in first.splits.items() for n, e in enumerate(rows))
    report = Report((Finding("duplicate_rows", "warning", "m", drops, "f"),))
    with pytest.raises(DataError) as caught:
        fix(path, tmp_path / "out.jsonl", Look(first.splits, first.shape, report), lambda p: first)
    assert caught.value.code == "nothing_left"


def test_what_is_private_is_in_clear_in_no_report_and_in_no_ledger(tmp_path: Path) -> None:
    """Neither of a row that is mended, nor of one that is dropped, nor of one that was refused."""
    url, card = "postgres://admin:" + "S3cretPw9@db.shop.net/x", "4539148803436467"
    rows = [chat(f"Connect to {url}", "Connected."), chat(f"My card {card}", "ends in 6467"), chat(f"My card {card}", "ends in 6467")]
    rows += ['{"messages": [{"role": "user", "content": "key ghp_' + "q7Zt2mXv9LbR4cWn8HsK1dq7Zt2mXv9LbR4c" + '"}]}', f"{{broken {MAIL}"]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([*rows, *(chat(*row) for row in asked(12))]), encoding="utf-8")
    found = review(path)
    fixed = found.fix(tmp_path / "out.jsonl")
    for text in (json.dumps(found.as_dict()), found.html(), fixed.ledger.read_text(encoding="utf-8"), fixed.out.read_text(encoding="utf-8")):
        assert [one for one in ("S3cretPw9", card, "6467", "q7Zt2mXv9L", MAIL) if one in text] == []
    assert "postgres://admin:[PASSWORD_1]@db.shop.net/x" in fixed.out.read_text(encoding="utf-8")


SAID = st.sampled_from(["What is it for?", f"I am {MAIL}", "Call me: 07911 123456", "lamp", "Lamp ", "card 4539148803436467"])
ANSWERED = st.sampled_from(["For light.", f"Write to {MAIL}", "no", "No", "ghp_" + "q7Zt2mXv9LbR4cWn8HsK1dq7Zt2mXv9LbR4c"])
LINES = st.builds(chat, SAID, ANSWERED) | st.sampled_from(["{broken", '{"messages": []}'])


@hypothesis_settings(max_examples=6)
@given(st.lists(LINES, max_size=25))
def test_ledger_and_copy_tell_what_happened(lines: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = [chat(*row) for row in asked(12)] + lines
        path = folder / "x.jsonl"
        path.write_text("\n".join(whole), encoding="utf-8")
        fixed = review(path).fix(folder / "once.jsonl")
        kept, changes = values(fixed.out), ledger(fixed)
        assert fixed.rows == len(whole) == len(kept) + fixed.dropped
        dropped = {line["line"] for line in changes if "dropped" in line}
        assert len(dropped) == fixed.dropped
        # From the copy and the ledger's `before`, the file as it was, but for what is private.
        first: dict[object, object] = {}
        last: dict[object, object] = {}
        for line in changes:
            first.setdefault(line["line"], line["before"])
            last[line["line"]] = line.get("after")
        rest = iter(kept)
        for number, text in enumerate(whole, 1):
            if number in dropped:
                assert first[number] == concealed(json.loads(text) if isinstance(first[number], dict) else text)
            else:
                now = next(rest)
                assert now == last.get(number, now)
                assert first.get(number, now) == (concealed(json.loads(text)) if number in first else json.loads(text))
        assert next(rest, None) is None
        twice = review(fixed.out).fix(folder / "twice.jsonl")
        assert twice.out.read_bytes() == fixed.out.read_bytes() and not twice.changes
