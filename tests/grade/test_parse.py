import pytest

from journeyman.errors import GraderError
from journeyman.grade.grade import grade_all
from journeyman.grade.parse import parse
from journeyman.grade.score import Graded, Sample, Score, item_of
from journeyman.records import Example, Message, Place

CHECK = {"type": "string_check", "name": "is yes", "input": "{{ sample.output_text }}", "operation": "eq"}


def grade(grader, text="", **item):
    return parse([{"name": "g", **grader}])[0].grade(Sample(text), item)


def problems(*objects):
    with pytest.raises(GraderError) as caught:
        parse(objects)
    return caught.value.problems


@pytest.mark.parametrize(
    ("operation", "text", "reference", "passed"),
    [
        ("eq", "yes", "yes", True),
        ("eq", "Yes", "yes", False),
        ("ne", "Yes", "yes", True),
        ("ne", "yes", "yes", False),
        ("like", "oh yes, sir", "yes", True),
        ("like", "oh Yes, sir", "yes", False),
        ("like", "yes", "oh yes, sir", False),
        ("ilike", "oh Yes, sir", "yES", True),
        ("ilike", "no", "yes", False),
    ],
)
def test_string_check(operation, text, reference, passed):
    grader = {**CHECK, "name": "c", "operation": operation, "reference": "{{ item.ideal }}"}
    assert grade(grader, text, ideal=reference) == Score("c", float(passed), passed)


@pytest.mark.parametrize(
    ("fields", "text", "passed"),
    [
        ({"pattern": "b+"}, "abb", True),
        ({"pattern": "^b"}, "a\nb", False),
        ({"pattern": "^B", "flags": "mi"}, "a\nb", True),
        ({"pattern": "b", "operation": "no_match"}, "abb", False),
        ({"pattern": "c", "operation": "no_match"}, "abb", True),
        ({"pattern": "b", "operation": "count", "count": 2}, "abb", True),
        ({"pattern": "b", "operation": "count", "count": 1}, "abb", False),
        ({"pattern": "z", "operation": "count", "count": 0}, "abb", True),
    ],
)
def test_regex(fields, text, passed):
    assert grade({"type": "regex", **fields}, text).passed is passed


@pytest.mark.parametrize(
    ("fields", "text", "value"),
    [
        ({}, "Kettles whistle.", 1.0),  # another form of "kettle" has the same first five letters
        ({}, "HELLO, about your order", 0.0),  # no word of the message but one that is ignored
        ({}, "ket tle", 0.0),
        ({"min_letters": 3}, "It sat on the hob.", 1.0),
    ],
)
def test_shared_words_tell_whether_an_answer_is_about_its_message(fields, text, value):
    asked = {"type": "shared_words", "reference": "{{ item.input }}", "ignore": ["order"], **fields}
    item = {"input": "My KETTLE sat on the hob; order 12."}
    score = grade(asked, text, **item)
    assert (score.value, score.passed) == (value, None)
    assert grade({**asked, "pass_threshold": 1}, text, **item).passed is (value == 1)


def test_any_answer_will_do_for_a_message_without_words():
    grader = {"type": "shared_words", "reference": "{{ item.input }}"}
    assert grade(grader, "anything", input="12, 13").value == 1


@pytest.mark.parametrize(("words", "passed"), [(1, False), (2, True), (3, True), (4, False)])
def test_length_counts_words_at_both_bounds(words, passed):
    text = " \n ".join(["word"] * words)
    assert grade({"type": "length", "min_words": 2, "max_words": 3}, text).passed is passed


def test_a_missing_item_key_is_an_error_in_the_score_and_no_zero():
    score = grade({**CHECK, "reference": "{{ item.nope }}"}, "yes", ideal="yes")
    assert (score.value, score.passed) == (None, None)
    assert "{{ item.nope }}" in score.error
    assert "ideal" in score.error


def test_an_output_that_is_no_json_fails_and_says_so():
    grader = {**CHECK, "input": "{{ sample.output_json.a }}", "reference": "1"}
    score = grade(grader, "not json")
    assert (score.value, score.passed) == (0.0, False)
    assert "not JSON" in score.error
    assert grade(grader, '{"a": 1}').passed


def test_text_similarity_has_a_verdict_only_with_a_threshold():
    grader = {
        "type": "text_similarity",
        "input": "{{ sample.output_text }}",
        "reference": "a b c d",
        "evaluation_metric": "rouge_1",
    }
    assert grade(grader, "a b c x") == Score("g", 0.75, None)
    assert grade({**grader, "pass_threshold": 0.75}, "a b c x").passed is True
    assert grade({**grader, "pass_threshold": 0.76}, "a b c x").passed is False


def multi(formula, **more):
    sub = {"type": "length", "name": "s", "min_words": 1}
    return {
        "type": "multi",
        "graders": {"a": sub, "b": {**sub, "min_words": 3}},
        "calculate_output": formula,
        **more,
    }


def test_multi_combines_and_passes_against_its_threshold():
    assert grade(multi("0.8 * a + 0.2 * b"), "one").value == pytest.approx(0.8)
    assert grade(multi("min(a, b)", pass_threshold=0.5), "one").passed is False
    assert grade(multi("max(a, b)", pass_threshold=0.5), "one").passed is True


def test_multi_without_a_value_is_an_error_in_the_score():
    score = grade(multi("a / b"), "one")
    assert (score.value, score.passed) == (None, None)
    assert "division" in score.error


def test_multi_says_which_of_its_graders_could_not_measure():
    grader = {
        "type": "multi",
        "graders": {"a": {**CHECK, "reference": "{{item.x}}"}},
        "calculate_output": "a",
    }
    assert grade(grader).error.startswith("a: ")


def test_all_problems_come_at_once_and_name_grader_field_and_mend():
    found = problems(
        {"type": "regex", "name": "one", "pattern": "("},
        {"type": "length", "name": "two", "min_words": 3, "max_words": 2},
        {
            "type": "string_check",
            "name": "three",
            "input": "{{ row.x }}",
            "operation": "equals",
            "refrence": "x",
        },
        {"type": "what", "name": "four"},
        "five",
    )
    text = "\n".join(found)
    assert all("mend:" in problem for problem in found)
    assert "grader 1 'one', pattern: is not a regular expression" in text
    assert "grader 2 'two', min_words: 3 is more than max_words = 2" in text
    assert "{{ row.x }}" in text
    assert "'equals' is not known" in text
    assert "refrence: is not a field of this grader; mend: did you mean reference?" in text
    assert "grader 3 'three', reference: is missing" in text
    assert "'what' is not known" in text
    assert "'five' is not an object" in text


@pytest.mark.parametrize("metric", ["cosine", "meteor"])
def test_metrics_that_are_missing_say_what_is_missing(metric):
    found = problems(
        {"type": "text_similarity", "name": "t", "input": "a", "reference": "b", "evaluation_metric": metric}
    )
    assert len(found) == 1
    assert f"{metric} is not available" in found[0]
    assert "missing" in found[0]


@pytest.mark.parametrize(
    ("grader", "words"),
    [
        ({"type": "regex", "pattern": "a", "flags": "q"}, "'q' is not a flag"),
        ({"type": "regex", "pattern": "a", "operation": "count"}, "count: is missing"),
        ({"type": "regex", "pattern": "a", "count": 2}, "has no meaning for match"),
        ({"type": "length"}, "neither min_words nor max_words"),
        ({"type": "length", "min_words": True}, "not a whole number"),
        ({"type": "length", "min_words": -1}, "not a whole number"),
        ({"type": "json_schema", "schema": {"type": "objekt"}}, "is not a JSON Schema"),
        ({"type": "json_schema"}, "schema: is missing"),
        ({**CHECK, "reference": "{{ sample.text }}"}, "a sample has sample.output_text"),
        ({**CHECK, "reference": "{{ item.x "}, "never closed"),
        (multi("a + c"), "'c' is none of its graders"),
        (multi("a + b", pass_threshold="high"), "'high' is not a number"),
        ({"type": "multi", "graders": {"a-b": CHECK}, "calculate_output": "1"}, "can't stand in a formula"),
        (
            {"type": "multi", "graders": {"m": multi("a", name="m")}, "calculate_output": "m"},
            "inside another",
        ),
        ({"type": "multi", "graders": {}, "calculate_output": "1"}, "is empty"),
    ],
)
def test_each_problem_is_said(grader, words):
    assert words in "\n".join(problems({"name": "g", **grader}))


def test_names_are_needed_and_unique():
    assert "name: is missing" in problems({"type": "length", "min_words": 1})[0]
    assert "name: is empty" in problems({"type": "length", "name": " ", "min_words": 1})[0]
    same = {"type": "length", "name": "twice", "min_words": 1}
    assert "'twice', name: 2 graders have it" in problems(same, same)[0]


def test_a_row_passes_where_all_graders_pass_and_an_error_is_not_a_pass():
    graders = parse(
        [
            {"type": "length", "name": "short", "max_words": 2},
            {**CHECK, "reference": "{{ item.wanted }}"},
        ]
    )
    assert grade_all(graders, Sample("yes"), {"wanted": "yes"}).passed is True
    assert grade_all(graders, Sample("no"), {"wanted": "yes"}).passed is False
    assert grade_all(graders, Sample("yes"), {}).passed is None
    assert grade_all(graders, Sample("yes yes yes"), {}).passed is False


def test_a_row_with_only_scores_neither_passes_nor_fails():
    grader = {
        "type": "text_similarity", "name": "t", "input": "a", "reference": "a", "evaluation_metric": "bleu",
    }  # fmt: skip
    assert grade_all(parse([grader]), Sample("a"), {}) == Graded((Score("t", 1.0, None),), None)


def test_without_graders_the_ideal_is_matched_by_name():
    graded = grade_all([], Sample(" boarding\n"), {"ideal": "boarding"})
    assert graded == Graded((Score("exact_match_with_ideal", 1.0, True),), True)
    assert grade_all([], Sample("Boarding"), {"ideal": "boarding"}).passed is False
    assert grade_all([], Sample("x"), {}).passed is None


def test_the_item_of_a_row_has_its_keys_the_ideal_and_the_last_user_text():
    turns = (
        Message("user", "one"),
        Message("assistant", "two"),
        Message("user", "three"),
        Message("assistant", "four"),
    )
    example = Example(turns, Place("f", 1), item={"order": 7, "ideal": "theirs"})
    assert item_of(example) == {"order": 7, "ideal": "four", "input": "three"}
