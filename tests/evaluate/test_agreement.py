import json

import pytest
from sklearn.metrics import cohen_kappa_score

from journeyman.errors import DataError
from journeyman.evaluate.agreement import agreement, read_marked
from journeyman.evaluate.statistics import Missing
from journeyman.files import write_jsonl
from journeyman.grade.parse import parse

GRADER = {
    "type": "label_model", "name": "kind", "model": "m", "labels": ["yes", "no"], "passing_labels": ["yes"],
    "input": [{"role": "user", "content": "{{ sample.output_text }}"}],
}  # fmt: skip


def says_what_it_reads(question):
    return json.dumps({"result": question.messages[0][1]})


def write(path, rows):
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_agreement_is_counted_both_ways_and_kappa_is_scikit_learns(tmp_path):
    pairs = [(True, "yes")] * 6 + [(False, "no")] * 3 + [(False, "yes")] * 2 + [(True, "no")]
    path = write(tmp_path / "marked.jsonl", [{"output": said, "passed": person} for person, said in pairs])
    (found,) = agreement(parse([GRADER], says_what_it_reads), read_marked(path))
    assert (found.agreed.count, found.agreed.total, found.too_kind, found.too_strict) == (9, 12, 2, 1)
    expected = cohen_kappa_score([p for p, _ in pairs], [s == "yes" for _, s in pairs])
    assert found.kappa == pytest.approx(expected)
    assert "9 of 12" in found.sentence and "passes 2 that the person fails" in found.sentence


def test_marks_may_be_for_one_grader_and_a_row_the_judge_can_not_judge_is_counted_apart(tmp_path):
    rows = [{"output": "yes", "passed": {"kind": True}}, {"output": "no", "passed": {"other": True}}, {"output": "hm", "passed": True}]
    (found,) = agreement(parse([GRADER], says_what_it_reads), read_marked(write(tmp_path / "m.jsonl", rows)))
    assert (found.agreed.total, found.unmeasured) == (1, 1)
    assert found.kappa is Missing.NO_SPREAD, "one row can't be better than chance"


def test_without_marks_it_is_said_that_nobody_knows():
    (found,) = agreement(parse([GRADER], says_what_it_reads), [])
    assert found.agreed is Missing.NO_DATA and "not measured" in found.sentence


def test_only_judges_are_held_against_people():
    assert agreement(parse([{"type": "length", "name": "short", "max_words": 9}]), []) == ()


def test_every_row_that_is_no_mark_is_named(tmp_path):
    rows = ["{", "3", {"output": 1, "passed": True}, {"output": "a"}, {"output": "a", "passed": "yes"}, {"output": "a", "passed": {"x": 1}}]
    with pytest.raises(DataError) as raised:
        read_marked(write(tmp_path / "marked.jsonl", rows))
    assert [p.split(":")[1] for p in raised.value.problems] == ["1", "2", "3", "4", "5", "6"]
    with pytest.raises(DataError):
        read_marked(tmp_path / "missing.jsonl")


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_a_line_of_scores_is_a_mark_whatever_separates_lines_within_its_output(tmp_path, separator):
    output = f"Two lines{separator}of one answer."
    write_jsonl(tmp_path / "marked.jsonl", [{"output": output, "passed": True}])
    (marked,) = read_marked(tmp_path / "marked.jsonl")
    assert marked.sample.output_text == output
