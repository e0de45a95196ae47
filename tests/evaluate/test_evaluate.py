import json

import pytest

from journeyman.answer.answerer import Echo, Scripted
from journeyman.errors import DataError, RequestError
from journeyman.evaluate.labels import find_labels, label_report
from journeyman.evaluate.markdown import markdown
from journeyman.evaluate.report import evaluate_pair
from journeyman.evaluate.run import ScoredRow, Scores, drawn, read_scores, score
from journeyman.evaluate.statistics import Missing
from journeyman.evaluate.verdict import compare, judge
from journeyman.grade.parse import parse
from journeyman.grade.score import Graded, Score
from journeyman.records import Example, Message, Place


def examples(*pairs):
    return [
        Example((Message("user", asked), Message("assistant", ideal)), Place("held-out.jsonl", line))
        for line, (asked, ideal) in enumerate(pairs, 1)
    ]


class ShortSighted(Echo):
    """Refuses what is longer than ten characters, as an engine refuses what does not fit its context."""

    def answers(self, conversations, sampling, tools=()):
        if any(len(c[-1].content) > 10 for c in conversations):
            raise RequestError("too long")
        return super().answers(conversations, sampling)


def test_scores_are_rows_in_the_order_of_the_examples():
    seen = []
    rows = examples(("a", "a"), ("b", "x"), ("c", "c"))
    scores = score(Echo(), rows, [], batch=2, on_progress=lambda done, total: seen.append((done, total)))
    assert [(r.place.line, r.input, r.output, r.graded.passed) for r in scores.rows] == [
        (1, "a", "a", True),
        (2, "b", "b", False),
        (3, "c", "c", True),
    ]
    assert seen == [(2, 3), (3, 3)]


def test_answers_are_greedy_and_of_the_asked_length():
    class Recording(Echo):
        def answers(self, conversations, sampling, tools=()):
            assert (sampling.max_tokens, sampling.temperature) == (7, 0.0)
            return super().answers(conversations, sampling)

    assert len(score(Recording(), examples(("a", "a")), [], max_tokens=7).rows) == 1


def test_a_row_that_can_not_be_answered_costs_no_other_its_answer():
    scores = score(ShortSighted(), examples(("a", "a"), ("b" * 11, "b"), ("c", "c")), [])
    assert [row.graded.passed for row in scores.rows] == [True, None, True]
    assert (scores.rows[1].output, scores.rows[1].error) == (None, "too long")


def test_scores_are_written_and_read_back(tmp_path):
    graders = parse([{"type": "length", "name": "short", "max_words": 1}])
    scores = score(
        ShortSighted(), examples(("é\u2028", "a"), ("b" * 11, "b"), ("c d", "c")), graders, folder=tmp_path
    )
    assert read_scores(tmp_path) == scores
    first = json.loads((tmp_path / "scores.jsonl").read_text(encoding="utf-8").split("\n")[0])
    assert first["graded"] == {
        "passed": True,
        "scores": [{"name": "short", "value": 1.0, "passed": True, "error": None}],
    }
    lines = (tmp_path / "scores.jsonl").read_text(encoding="utf-8").split("\n")
    (tmp_path / "scores.jsonl").write_text("\n".join(lines[1:]), encoding="utf-8")
    with pytest.raises(DataError, match="2 rows"):
        read_scores(tmp_path)


@pytest.mark.parametrize(
    ("gained", "lost", "same", "outcome"),
    [
        (20, 2, 78, "better"),
        (2, 20, 78, "worse"),
        (10, 10, 280, "no_difference_seen"),
        (0, 0, 120, "no_difference_seen"),
        (3, 1, 6, "not_enough_rows"),
        (5, 0, 0, "not_enough_rows"),
        (10, 10, 10, "not_enough_rows"),
    ],
)
def test_verdicts_by_name(gained, lost, same, outcome):
    before = [False] * gained + [True] * lost + [True] * same
    after = [True] * gained + [False] * lost + [True] * same
    verdict = judge(before, after)
    assert verdict.outcome == outcome
    assert verdict.difference == pytest.approx((gained - lost) / (gained + lost + same))
    assert f"of {gained + lost + same} passed before" in verdict.sentence


def test_the_sentence_has_the_numbers():
    verdict = judge([False] * 20 + [True] * 80, [True] * 18 + [False] * 2 + [True] * 80)
    assert verdict.sentence.startswith(
        "Better: 80 of 100 passed before, 98 after; +18.0 points (95% interval +"
    )
    assert "p < 0.001" in verdict.sentence


def test_rows_without_a_measure_are_counted_and_left_out():
    verdict = judge([None, True, False], [True, None, None])
    assert verdict.outcome == "not_enough_rows"
    assert verdict.difference is Missing.NO_DATA
    assert verdict.counts.unmeasured == 3
    assert judge([None] * 5 + [False] * 50, [True] * 55).counts.measured == 50
    assert "5 rows could not be measured" in judge([None] * 5 + [False] * 50, [True] * 55).sentence


def test_different_rows_are_not_compared():
    a = score(Echo("a"), examples(("a", "a"), ("b", "b")), [])
    b = score(Echo("b"), examples(("a", "a")), [])
    with pytest.raises(DataError, match=r"different rows \(2 and 1\)"):
        compare(a, b)


def test_labels_are_found_only_in_closed_sets():
    assert find_labels(["cat", "dog", "cat ", "dog"]) == ("cat", "dog")
    assert find_labels(["cat", "dog", "cow"]) is None
    assert find_labels(["cat"] * 10) is None
    assert find_labels(["a long reply " * 9, "b"] * 9) is None
    assert find_labels(["two\nlines", "b"] * 9) is None
    assert find_labels([]) is None


def test_a_grader_without_verdicts_is_shown_by_its_values():
    rows = examples(*((f"kettle {i}", "yes") for i in range(40)))
    about = parse([{"type": "shared_words", "name": "about", "reference": "{{ item.input }}"}])
    before, after = (score(Scripted([text] * 40), rows, about) for text in ("The lamp.", "The kettle."))
    line = evaluate_pair(before, after).graders[0]
    assert (line.passed_after, line.before.value, line.after.value, line.difference) == (Missing.NO_DATA, 0, 1, 1)
    assert line.p_value < 0.001
    assert "1.000" in markdown(evaluate_pair(before, after), title="t")


def scored(*pairs):
    return Scores(
        "m",
        tuple(
            ScoredRow(Place("f", i), "q", ideal, output, Graded((Score("e", None, None),), None))
            for i, (ideal, output) in enumerate(pairs)
        ),
    )


def test_label_scores_by_hand():
    report = label_report(
        scored(("a", "a"), ("a", "b"), ("a", "a\n"), ("b", "b"), ("b", "what?"), ("b", None)), ("a", "b", "c")
    )
    a, b, c = report.classes
    assert (report.accuracy.count, report.accuracy.total) == (3, 5)
    assert (a.precision, a.recall, a.f1, a.support) == (1.0, pytest.approx(2 / 3), pytest.approx(0.8), 3)
    assert (b.precision, b.recall, b.f1, b.support) == (0.5, 0.5, 0.5, 2)
    assert (c.precision, c.recall, c.f1) == (Missing.NO_DATA,) * 3
    assert report.macro_f1 == pytest.approx(0.65)
    assert report.confusion == {("a", "a"): 2, ("a", "b"): 1, ("b", "b"): 1}
    assert report.outside == {"b": 1}


def pair():
    rows = examples(*[(f"q{i}", "yes" if i % 2 else "no") for i in range(20)])
    graders = parse(
        [
            {"type": "length", "name": "one | word", "max_words": 1},
            {"type": "string_check", "name": "right", "input": "{{sample.output_text}}", "reference": "{{item.ideal}}", "operation": "eq"},
        ]
    )  # fmt: skip
    before = score(Scripted(["I think so\nperhaps"] * 20, "base"), rows, graders)
    after = score(Scripted([e.ideal.content for e in rows], "tuned"), rows, graders)
    return before, after


def test_the_report_as_numbers_is_json_with_counts_and_intervals():
    report = json.loads(json.dumps(evaluate_pair(*pair()).as_dict(), allow_nan=False))["task"]
    assert report["verdict"]["outcome"] == "better"
    assert report["passed"]["before"]["count"] == 0
    assert report["passed"]["after"] == {**report["passed"]["after"], "count": 20, "total": 20, "share": 1.0}
    assert report["passed"]["after"]["interval"][0] == pytest.approx(0.8389, abs=1e-4)
    assert [g["name"] for g in report["graders"]] == ["one | word", "right"]
    assert report["labels"][1]["macro_f1"] == 1.0
    assert report["labels"][1]["confusion"] == {"no": {"no": 10}, "yes": {"yes": 10}}
    assert report["labels"][0]["outside"] == {"no": 10, "yes": 10}
    assert report["tokens_per_request"]["before"] == {"prompt": 1.0, "completion": 4.0}


def test_the_report_as_text_begins_with_the_verdict_and_shows_rows_side_by_side():
    text = markdown(evaluate_pair(*pair()), title="Support", examples=2)
    assert text.startswith("# Support\n\nBetter: 0 of 20 passed before, 20 after")
    assert "one \\| word" in text
    assert "20 of 20, 100.0% (83.9% to 100.0%)" in text
    assert text.count("### held-out.jsonl:") == 2
    assert "base (failed: one | word, right):\n\n> I think so\n> perhaps\n\n" in text
    assert "tuned (passed):\n\n> no\n" in text


def test_the_mean_is_shown_where_it_says_more_than_the_share_that_passed():
    rows = examples(("q", '{"a": 1, "b": 2}'), ("r", '{"a": 3, "b": 4}'))
    graders = parse(
        [{"type": "json_equal", "name": "right"}, {"type": "length", "name": "long", "min_words": 1}]
    )
    before = score(Scripted(["{}", '{"a": 3}'], "base"), rows, graders)
    after = score(Scripted(['{"a": 1, "b": 0}', '{"a": 3, "b": 4}'], "tuned"), rows, graders)
    lines = markdown(evaluate_pair(before, after), title="Rows").split("\n")
    (right,) = [line for line in lines if line.startswith("| right ")]
    (long,) = [line for line in lines if line.startswith("| long ")]
    assert "| 0.250 (0.000 to 1.000) | 0.750 (0.000 to 1.000) |" in right
    assert long.endswith("|  |  | 1.000 |")


def test_a_report_without_data_says_no_data():
    empty = evaluate_pair(Scores("a", ()), Scores("b", ()))
    assert "no data" in markdown(empty, title="Nothing")
    assert empty.as_dict()["task"]["passed"]["before"] == {"missing": "no_data"}


def test_a_part_of_the_rows_is_drawn_from_all_of_them() -> None:
    """Files are often sorted by label: the first rows would show one or two of them, and pass for the whole."""
    rows = [Example((Message("user", f"row {n}"), Message("assistant", f"label {n // 100}")), Place("rows.jsonl", n + 1)) for n in range(1000)]
    some = drawn(rows, 50)
    assert len({row.ideal.content for row in some}) >= 8
    assert drawn(rows, 50) == some, "the same rows every time, so that two evaluations can be compared"
    assert drawn(rows, 50, seed=1) != some
    assert drawn(rows, None) == drawn(rows, 5000) == rows
