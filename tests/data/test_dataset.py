from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.data_rows import chat, write_rows
from journeyman import files
from journeyman.data.check.finding import Report
from journeyman.data.check.rules import check
from journeyman.data.columns import Columns
from journeyman.data.dataset import SPLITS, build, open_dataset
from journeyman.errors import DataError

CITIES = ["Riga", "Tartu", "Lund", "Bergen", "Turku", "Vilnius", "Odense", "Aarhus", "Narva", "Gdansk"]


def rows(count: int) -> list[dict[str, Any]]:
    return [
        chat(f"question number {i}: {CITIES[i % 10]} or {CITIES[i // 10 % 10]}{i}?", f"answer {i}", n=i)
        for i in range(count)
    ]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def findings(report: Report) -> dict[str, Any]:
    return {finding.code: finding for finding in report.findings}


def test_a_dataset_is_written_and_opened(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "x.jsonl", rows(60))
    with path.open("a") as file:
        file.write('{"messages": []}\n{"cut')
    built = build(path, tmp_path / "out", seed=3)
    opened = open_dataset(tmp_path / "out")
    assert opened == built
    assert opened.manifest["counts"] == {
        "read": 62, "kept": 60, "refused": 2,
        "train": len(opened.train), "validation": len(opened.validation), "held_out": len(opened.held_out),
    }  # fmt: skip
    assert [(refusal.code, refusal.place.line) for refusal in opened.refused] == [
        ("bad_messages", 61),
        ("invalid_json", 62),
    ]
    assert sorted(e.item["n"] for name in SPLITS for e in getattr(opened, name)) == list(range(60))
    source = opened.manifest["sources"][0]
    assert (source["file"], source["hash"], source["rows"]) == (str(path), files.hash_file(path), 62)
    opened.keep(check(opened))
    assert opened.report() == check(built)
    assert opened.train[0].place.file == str(path)


def test_the_same_bytes_give_the_same_files(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "x.jsonl", [*rows(60), {"messages": 3}])
    build(path, tmp_path / "one")
    build(path, tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    build(path, tmp_path / "one")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert sorted(contents(tmp_path / "one")) == [
        "held_out.jsonl",
        "manifest.json",
        "refused.jsonl",
        "train.jsonl",
        "validation.jsonl",
    ]


def test_the_hash_is_of_what_the_rows_say(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    one = build(write_rows(tmp_path / "x.jsonl", rows(30)), tmp_path / "one")
    moved = build(write_rows(tmp_path / "elsewhere/y.jsonl", rows(30)), tmp_path / "two")
    other = build(write_rows(tmp_path / "x.jsonl", [*rows(29), chat("new")]), tmp_path / "three")
    seeded = build(tmp_path / "elsewhere/y.jsonl", tmp_path / "four", seed=1)
    assert one.hash == moved.hash
    assert len({one.hash, other.hash, seeded.hash}) == 3


def test_given_validation_and_held_out_files_are_used_as_they_are(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "train.jsonl", rows(40))
    held = write_rows(tmp_path / "held.jsonl", [rows(40)[5], chat("unseen and new", "a")])
    validation = write_rows(tmp_path / "validation.jsonl", [chat("watched", "a")])
    dataset = build(train, tmp_path / "out", validation=validation, held_out=held)
    assert (len(dataset.train), len(dataset.validation), len(dataset.held_out)) == (40, 1, 2)
    leak = findings(check(dataset))["leakage"]
    assert [str(row.place) for row in leak.rows] == [f"{train}:6", f"{held}:1"]
    assert "1 of 2 held-out" in leak.message
    assert [source["split"] for source in dataset.manifest["sources"]] == ["train", "validation", "held_out"]
    half = build(train, tmp_path / "half", held_out=held)
    assert len(half.train) + len(half.validation) == 40
    assert half.validation
    assert len(half.held_out) == 2


def test_no_leak_comes_from_our_own_split(tmp_path: Path) -> None:
    pairs = [chat(f"{row['messages'][0]['content']}{end}") for row in rows(60) for end in ("", " please")]
    dataset = build(write_rows(tmp_path / "x.jsonl", pairs), tmp_path / "out")
    assert dataset.held_out and dataset.validation
    assert "leakage" not in findings(check(dataset))


def test_rows_of_one_template_that_the_split_parts_are_said_to_be_that_and_rows_of_a_given_file_are_a_leak(tmp_path: Path) -> None:
    things = [f"{a}{b}" for a in ("ka", "lo", "mi", "ru", "te") for b in ("ban", "del", "fir", "gos")]
    pairs = [chat(f"Where can I buy a {thing}?", "In the shop.") for thing in things]
    dataset = build(write_rows(tmp_path / "x.jsonl", pairs), tmp_path / "out")
    found = [finding for finding in check(dataset).findings if finding.code == "leakage"]
    assert found and {finding.severity for finding in found} == {"info"}
    assert all("but for a word, the input of a training row" in finding.message and "--held-out" in finding.fix for finding in found)
    given = build(
        write_rows(tmp_path / "a.jsonl", pairs[:12]), tmp_path / "given", held_out=write_rows(tmp_path / "b.jsonl", pairs[12:]), validation_share=0
    )
    leak = findings(check(given))["leakage"]
    assert "nearly the same input" in leak.message and leak.fix == "remove the training rows, or measure on others"


def test_rows_linked_by_a_held_out_row_are_not_split_either(tmp_path: Path) -> None:
    def words(group: int, start: int) -> str:
        return " ".join(f"w{group}x{i}" for i in range(start, start + 12))

    # The first and the third window of a group are linked by the second, which is held out.
    train = [chat(words(group, start)) for group in range(60) for start in (0, 2)]
    held = write_rows(tmp_path / "held.jsonl", [chat(words(group, 1)) for group in range(60)])
    dataset = build(
        write_rows(tmp_path / "x.jsonl", train), tmp_path / "out", held_out=held, validation_share=0.3
    )
    leaks = [finding.message for finding in check(dataset).findings if finding.code == "leakage"]
    assert dataset.validation
    assert not any("validation" in message for message in leaks)


def test_findings_name_their_rows(tmp_path: Path) -> None:
    data = [
        *rows(20),
        chat("Where is my parcel?", "On its way."),
        chat("Where is my parcel?", "On its way."),
        chat("where is my  PARCEL?", "Lost."),
        chat("How do I reset the password of my account", "a"),
        chat("How do I reset the password of my account twice", "b"),
        {"messages": []},
    ]
    path = write_rows(tmp_path / "x.jsonl", data)
    report = check(build(path, tmp_path / "out", validation_share=0, held_out_share=0))
    found = {code: [row.place.line for row in finding.rows] for code, finding in findings(report).items()}
    assert found["duplicate_rows"] == [22]
    assert found["contradictory_outputs"] == [21, 22, 23]
    assert set(found["near_duplicate_inputs"]) >= {24, 25}
    assert found["refused_rows"] == [26]
    assert report.verdict == "warnings"
    contradiction = findings(report)["contradictory_outputs"]
    assert '"On its way."' in contradiction.message and '"Lost."' in contradiction.message
    json.dumps(report.as_dict())


@pytest.mark.parametrize(("count", "verdict"), [(3, "errors"), (9, "errors"), (10, "ok")])
def test_fewer_than_ten_rows_are_openais_error(tmp_path: Path, count: int, verdict: str) -> None:
    report = check(
        build(write_rows(tmp_path / "x.jsonl", [chat(city, f"{city} it is") for city in CITIES[:count]]), tmp_path / "out")
    )
    assert report.verdict == verdict
    if verdict == "errors":
        assert report.findings[0].code == "invalid_n_examples"
        assert (
            report.findings[0].message
            == f"Training file has {count} example(s), but must have at least 10 examples"
        )


def test_a_file_of_which_nothing_is_kept_leaves_its_reasons(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "x.jsonl", [{"messages": [{"role": "user", "content": "a"}]}] * 7)
    with pytest.raises(DataError) as caught:
        build(path, tmp_path / "out")
    assert caught.value.code == "no_examples"
    assert f"{path}:1: no_assistant" in caught.value.problems[0]
    assert len(list(files.read_jsonl(tmp_path / "out/refused.jsonl"))) == 7


def test_a_file_of_which_nothing_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("[1\n{2\n")
    with pytest.raises(DataError) as caught:
        build(tmp_path / "x.jsonl", tmp_path / "out")
    assert caught.value.code == "no_rows"


def test_a_csv_with_a_header_only(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("input,output\n")
    with pytest.raises(DataError) as caught:
        build(tmp_path / "x.csv", tmp_path / "out")
    assert caught.value.code == "no_rows"


def test_columns_are_shown_and_can_be_overridden(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(
        "id;question;answer;short\n"
        + "".join(f"{i};what about {CITIES[i]};long answer {i};{i}.50\n" for i in range(10))
    )
    found = build(path, tmp_path / "out")
    assert found.manifest["sources"][0]["columns"] == {
        "input": "question", "output": "answer", "system": None,
        "reason": "the column names 'question' and 'answer' say so",
    }  # fmt: skip
    wished = build(path, tmp_path / "wished", columns=Columns("question", "short"))
    assert wished.train[0].ideal.content.endswith(".50")
    assert set(wished.train[0].item) == {"id", "answer"}
    with pytest.raises(DataError, match="no column 'reply'"):
        build(path, tmp_path / "wrong", columns=Columns("question", "reply"))


def test_a_long_run_of_damaged_rows_does_not_hide_the_good_ones(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("{\n" * 500 + "".join(json.dumps(row) + "\n" for row in rows(20)))
    assert build(path, tmp_path / "out").manifest["counts"]["kept"] == 20


def test_only_an_untouched_dataset_is_opened(tmp_path: Path) -> None:
    build(write_rows(tmp_path / "x.jsonl", rows(20)), tmp_path / "out")
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path)
    assert caught.value.code == "not_a_dataset"
    (tmp_path / "out/train.jsonl").write_text("")
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path / "out")
    assert caught.value.code == "dataset_changed"
    manifest = files.read_json(tmp_path / "out/manifest.json")
    files.write_json(tmp_path / "out/manifest.json", {**manifest, "version": 99})
    with pytest.raises(DataError, match="version 99"):
        open_dataset(tmp_path / "out")


def test_a_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    name = b"caf\xe9.jsonl".decode("utf-8", "surrogateescape")
    dataset = build(write_rows(tmp_path / name, [*rows(12), {"messages": 1}]), tmp_path / "out")
    assert "caf\ufffd.jsonl" in str(dataset.refused[0].place)


LINES = st.lists(
    st.sampled_from([json.dumps(row).encode() for row in rows(8)])
    | st.sampled_from([b"{", b"", b"[]", b'{"messages": []}', b"\xff", b'{"messages": [{"role": "user", "content": "\\ud800"}]}', b'{"prompt": "a", "completion": "b"}'])
    | st.binary(max_size=40),
    max_size=14,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(LINES)
def test_read_is_kept_plus_refused_for_any_bytes(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    path = folder / "any.jsonl"
    path.write_bytes(b"\n".join(lines))
    try:
        dataset = build(path, folder / "any")
    except DataError:
        return
    counts = dataset.manifest["counts"]
    assert counts["read"] == sum(
        1 for line in path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip()
    )
    written = sum(
        1 for name in (*SPLITS, "refused") for _ in files.read_jsonl(folder / "any" / f"{name}.jsonl")
    )
    assert counts["read"] == counts["kept"] + counts["refused"] == written
    assert open_dataset(folder / "any") == dataset
