"""Constructed tables of which the right advice is known."""

import numpy as np
import pytest

from journeyman.evaluate.advice import Contested, Facts, advise
from journeyman.evaluate.judgement import judged

ROWS = 200


def contender(role, passed, *, title=None, offset=0):
    """Passes `passed` of 200 rows, from `offset` on."""
    values = [float((i - offset) % ROWS < passed) for i in range(ROWS)]
    return Contested(title or role, title or role, role, values)


@pytest.mark.parametrize(
    ("verdict", "passed"),
    [
        ("fine_tune", {"prompt": 60, "tuned": 160}),
        ("fine_tune", {"prompt": 60, "retrieval": 62, "tuned": 160, "both": 161}),
        ("fine_tune", {"prompt": 60, "tuned": 160, "outsider": 100}),
        ("prompt", {"prompt": 160, "tuned": 160}),
        ("prompt", {"prompt": 160, "tuned": 90}),
        ("retrieval", {"prompt": 60, "retrieval": 150, "tuned": 65, "both": 150}),
        ("retrieval", {"prompt": 60, "retrieval": 150, "tuned": 150}),
        ("both", {"prompt": 60, "retrieval": 100, "tuned": 110, "both": 170}),
        ("classifier", {"prompt": 60, "tuned": 150, "outsider": 190}),
        ("classifier", {"prompt": 60, "tuned": 150, "outsider": 150}),
        ("none", {"prompt": 0, "tuned": 3}),
        ("none", {"prompt": 2, "retrieval": 1, "tuned": 2, "outsider": 5}),
        ("fine_tune", {"prompt": 0, "tuned": 30}),
        ("not_enough_rows", {"prompt": 60}),
        ("not_enough_rows", {"tuned": 60}),
    ],
)
def test_the_right_advice_for_a_known_truth(verdict, passed):
    advice = advise([contender(role, count) for role, count in passed.items()])
    assert advice.verdict == verdict, advice.reason


def test_the_reason_has_the_numbers_of_the_best_prompt():
    advice = advise(
        [
            contender("prompt", 20, title="bare"),
            contender("prompt", 60, title="few-shot"),
            contender("tuned", 160),
        ]
    )
    assert "tuned (80.0%) is better than the best prompt, few-shot (30.0%) (+50.0 points, 95% interval" in advice.reason
    assert any("evaluate" in remark for remark in advice.remarks)


def test_where_nothing_works_no_contender_is_praised():
    advice = advise([contender("prompt", 0), contender("tuned", 3)])
    assert "the best of all scores 1.5%" in advice.reason.lower() and "larger base" in advice.reason
    assert advice.remarks == ()


def test_too_few_rows_say_how_many_more():
    few = [
        Contested("p", "p", "prompt", [1.0] * 4 + [0.0] * 8),
        Contested("t", "t", "tuned", [0.0] * 2 + [1.0] * 5 + [0.0] * 5),
    ]
    advice = advise(few)
    assert advice.verdict == "not_enough_rows"
    assert advice.rows_needed > 12
    assert f"about {advice.rows_needed:,} rows: {advice.rows_needed - 12:,} more" in advice.reason


def test_a_poor_winner_is_called_poor():
    advice = advise([contender("prompt", 0), contender("tuned", 60)])
    assert advice.verdict == "fine_tune"
    assert "the best of all scores 30.0%" in advice.remarks[0]


def test_facts_that_change_are_said_with_their_rows():
    facts = Facts(training_rows=100, rows_with_facts=12, missed=("held_out.jsonl:4 (£18)",), failed=30)
    remarks = " ".join(advise([contender("prompt", 100), contender("tuned", 160)], facts).remarks)
    assert "12 of 100 training outputs state facts that change" in remarks
    assert "1 of the 30 held-out rows" in remarks and "held_out.jsonl:4 (£18)" in remarks
    quiet = advise([contender("prompt", 100), contender("tuned", 160)], Facts(100, 1)).remarks
    assert not any("facts" in remark for remark in quiet)


def test_means_of_grades_are_compared_as_means():
    prompt = [0.3 + 0.01 * (i % 7) for i in range(60)]
    tuned = [v + 0.1 + 0.02 * (i % 3) for i, v in enumerate(prompt)]
    advice = advise([Contested("p", "p", "prompt", prompt), Contested("t", "t", "tuned", tuned)])
    assert advice.verdict == "fine_tune"
    assert "t (0.449)" in advice.reason


def test_rows_that_could_not_be_measured_are_no_zeros():
    nothing = Contested("t", "t", "tuned", [None] * ROWS)
    assert advise([contender("prompt", 100), nothing]).verdict == "not_enough_rows"
    holes = Contested("t", "t", "tuned", [None if i < 100 else float(i < 190) for i in range(ROWS)])
    assert "t (90.0%)" in advise([contender("prompt", 30, offset=150), holes]).reason


def test_a_gain_that_the_correction_takes_away_from_few_rows_is_not_called_none():
    prompt, tuned = [0.0] * 7 + [1.0] * 8 + [0.0] * 5, [1.0] * 15 + [0.0] * 5
    documents, both = [0.0] * 6 + [1.0] * 9 + [0.0] * 5, [1.0] * 6 + [0.0] + [1.0] * 8 + [0.0] * 5
    columns = {"prompt": prompt, "tuned": tuned, "retrieval": documents, "both": both}
    advice = advise([Contested(role, role, role, values) for role, values in columns.items()])
    assert advice.verdict == "not_enough_rows", advice.reason
    assert advice.rows_needed > 20, "as many as there are did not show it"
    alone = advise([Contested(role, role, role, columns[role]) for role in ("prompt", "tuned")])
    assert alone.verdict == "fine_tune", "seven rows of twenty gained and none lost: p = 0.016"


def test_the_rows_that_a_mean_grade_needs_are_those_that_show_it():
    def drawn(rows, draw):
        before = draw.uniform(0.2, 0.6, rows)
        return list(before), list(before + draw.normal(0.06, 0.12, rows))

    draw = np.random.default_rng(0)
    needed = [judged(*drawn(200, draw), pass_or_fail=False).rows_needed for _ in range(9)]
    rows = sorted(needed)[4]
    seen = sum(judged(*drawn(rows, draw), pass_or_fail=False).outcome == "better" for _ in range(100))
    assert 65 <= seen <= 95, f"{rows} rows are said to show it four times in five"
