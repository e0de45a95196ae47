"""Which mends are made unasked, which only with `relabel`, and that what is said of a rule is what is done."""

from __future__ import annotations

import inspect
import json
import re
import sys
import tempfile
from pathlib import Path

import pytest

from journeyman.data.check.classify import judge
from journeyman.data.check.finding import Drop, SetOutput
from journeyman.data.check.labels import HARDLY_GUESSED
from journeyman.data.check.labels import RULES as LABEL_RULES
from journeyman.data.check.mending import DOES, SUGGESTING, does, is_suggestion
from journeyman.data.check.review import Review, ignoring
from journeyman.data.check.rule import Rows, Rule, Sample, pair
from journeyman.data.check.rules import CODES, RULES, check
from journeyman.data.dataset import build
from journeyman.errors import DataError

MAIL = "mara.lindt@posteo.de"


def review(path: Path) -> Review:
    with tempfile.TemporaryDirectory() as folder:
        dataset = build(path, Path(folder))
    return Review(path.stem, path, dataset, check(dataset), review)


def written(path: Path, rows: list[tuple[str, str]]) -> Path:
    turns = [[{"role": "user", "content": said}, {"role": "assistant", "content": output}] for said, output in rows]
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in turns), encoding="utf-8")
    return path


def outputs(path: Path) -> list[str]:
    return [json.loads(line)["messages"][-1]["content"] for line in path.read_text(encoding="utf-8").splitlines()]


LABELLED = [(row[0].content, row[1].content) for row in LABEL_RULES[0].example.train[:60]]
"""Questions of three kinds with their labels."""

LABELS = [
    *LABELLED,
    ("when will the parcel with my rug arrive", "care"),  # wrong
    ("how do i wash the curtain by hand", " Care"),  # spelt otherwise
    ("i want my money back for the curtain", "it is a return"),  # a sentence
    ("is the oak desk in the shop", "return"),
    ("is the oak desk in the shop", "return"),
    ("is the oak desk in the shop please", "return"),
    ("is the oak desk in the shop?", "delivery"),  # against a majority
    (f"write to me at {MAIL}, i want my money back for the rug", "return"),
]


def test_a_suggestion_is_taken_only_if_asked_for_and_is_counted(tmp_path: Path) -> None:
    found = review(written(tmp_path / "rows.jsonl", LABELS))
    kept = found.fix(tmp_path / "kept.jsonl")
    assert kept.mended["private_data"] == 1
    assert kept.mended["stray_labels"] == 1 and kept.left["stray_labels"] == 1
    assert "mislabelled_rows" not in kept.mended and kept.left["mislabelled_rows"] >= 1
    assert "contradictory_outputs" not in kept.mended and kept.left["contradictory_outputs"] == 1
    before = [output for _, output in LABELS]
    after = outputs(kept.out)
    assert after[60:63] == ["care", "care", "it is a return"] and after[-2] == "delivery"
    assert {text.strip().lower() for text in after} == {text.strip().lower() for text in before}
    assert kept.as_dict()["left"] == dict(kept.left)

    taken = found.fix(tmp_path / "taken.jsonl", relabel=True)
    assert not taken.left
    assert outputs(taken.out)[60:63] == ["delivery", "care", "return"]
    assert outputs(taken.out)[-2] == "return"
    mends, suggestions = found.offers()
    assert mends >= 2 and suggestions >= 2


def test_only_the_rules_that_are_named_are_mended(tmp_path: Path) -> None:
    found = review(written(tmp_path / "rows.jsonl", LABELS))
    private = found.fix(tmp_path / "private.jsonl", only=["private_data"], relabel=True)
    assert set(private.mended) == {"private_data"} and not private.left
    assert outputs(private.out) == [output for _, output in LABELS]
    two = found.fix(tmp_path / "two.jsonl", only=["stray_labels", "duplicate_rows"])
    assert set(two.mended) == {"stray_labels", "duplicate_rows"} and set(two.left) == {"stray_labels"}
    with pytest.raises(DataError, match=r"'rare_labels'.*\n.*name one of .*private_data") as caught:
        found.fix(tmp_path / "none.jsonl", only=["rare_labels", "secrets"])
    assert caught.value.code == "unknown_rule"


@pytest.mark.parametrize(
    ("code", "old", "new", "suggested"),
    [
        ("stray_labels", "Card Lost ", "card_lost", False),
        ("stray_labels", "card-lost", "card lost", False),
        ("stray_labels", "-1", "1", True),
        ("stray_labels", "C++", "C", True),
        ("stray_labels", "it is card_lost", "card_lost", True),
        ("stray_labels", "not card_lost", "card_lost", True),
        ("mislabelled_rows", "care", "delivery", True),
        ("contradictory_outputs", "Two years.", "Three years.", True),
        ("inconsistent_format", 'Here: {"a": 1}', '{"a": 1}', False),
    ],
)
def test_another_spelling_is_no_suggestion_and_another_meaning_is(code: str, old: str, new: str, suggested: bool) -> None:
    assert is_suggestion(code, SetOutput(new), old) is suggested
    assert not is_suggestion(code, Drop(), old)


@pytest.mark.parametrize("rule", RULES, ids=[rule.code for rule in RULES])
def test_what_a_fix_does_is_said_of_every_rule(rule: Rule) -> None:
    assert re.fullmatch(r"`--fix` \w+s .+\.", does(rule.code))
    mends = any(row.mend for finding in rule.find(rule.example.rows()) for row in finding.rows)
    assert not mends or rule.code in DOES


def test_nothing_is_said_of_rules_that_are_not_there_and_no_module_mends_in_silence() -> None:
    assert DOES.keys() <= {rule.code for rule in RULES} and DOES.keys() >= SUGGESTING
    making = {
        rule.find.__module__
        for rule in RULES
        if re.search(r"\b(Drop\(\)|Replace\(|SetOutput\()", inspect.getsource(sys.modules[rule.find.__module__]))
    }
    said = {rule.find.__module__ for rule in RULES if rule.code in DOES and rule.code != "refused_rows"}
    assert said == making
    assert all(("--relabel" in DOES[code]) == (code in SUGGESTING) for code in DOES)


def test_the_advice_tells_how_far_the_words_tell_the_labels() -> None:
    told = next(LABEL_RULES[1].find(LABEL_RULES[1].example.rows()))
    share = told.numbers["guessed"]
    assert told.severity == "warning"
    assert f"guess {share:.0%} of the labels here" in told.fix and "right after all" in told.fix


def test_where_words_hardly_tell_the_labels_the_list_is_for_information(monkeypatch: pytest.MonkeyPatch) -> None:
    things = ("mug", "lamp", "chair", "bowl", "teapot", "blanket", "shelf", "knife", "basket", "clock")
    asked = [(f"what about the {thing} number {n}", ("a", "b", "c")[(n * 7 + len(thing)) % 3]) for n, thing in enumerate(things * 6)]
    rows = Sample([pair(*one) for one in asked]).rows()
    judged = judge([said for said, _ in asked], [label for _, label in asked])
    assert judged.guessed < HARDLY_GUESSED
    monkeypatch.setattr("journeyman.data.check.labels.WORTH_A_LOOK", 0.0)
    (found,) = LABEL_RULES[1].find(Rows(rows.train))
    assert found.severity == "info"
    assert "hardly tell the labels" in found.fix and f"{judged.guessed:.0%}" in found.fix


def test_what_is_ignored_is_counted(tmp_path: Path) -> None:
    found = review(written(tmp_path / "rows.jsonl", LABELS))
    report, left_out = ignoring(found.report, ["private_data", "secrets"])
    assert left_out == {"private_data": 1}
    assert {f.code for f in report.findings} == {f.code for f in found.report.findings} - {"private_data"}
    assert set(CODES) > {rule.code for rule in RULES}
