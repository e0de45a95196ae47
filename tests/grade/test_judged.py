import json

import pytest

from journeyman.errors import GraderError
from journeyman.grade.judged import Question
from journeyman.grade.parse import parse
from journeyman.grade.score import NotMeasurableError, Sample

ASK = [{"role": "system", "content": "Be strict."}, {"role": "user", "content": "Kind? {{ sample.output_text }} ({{ item.ideal }})"}]
LABEL = {"type": "label_model", "name": "kind", "model": "m", "input": ASK, "labels": ["kind", "unkind"], "passing_labels": ["kind"]}
SCORE = {"type": "score_model", "name": "care", "model": "m", "input": ASK, "range": [1, 5], "pass_threshold": 4}


class Scripted:
    """A judge that says what it is told, and keeps what it was asked."""

    def __init__(self, *says):
        self.says, self.asked = list(says), []

    def __call__(self, question: Question) -> str:
        self.asked.append(question)
        said = self.says.pop(0)
        if isinstance(said, Exception):
            raise said
        return said


def grade(value, judge, text="Hello"):
    return parse([value], judge)[0].grade(Sample(text), {"ideal": "Hi"})


@pytest.mark.parametrize(("said", "value", "passed"), [("kind", 1.0, True), ("unkind", 0.0, False)])
def test_a_label_passes_where_it_is_one_that_passes(said, value, passed):
    judge = Scripted(json.dumps({"result": said}))
    found = grade(LABEL, judge)
    assert (found.value, found.passed) == (value, passed)
    (question,) = judge.asked
    assert question.messages == (("system", "Be strict."), ("user", "Kind? Hello (Hi)"))
    assert json.loads(question.schema)["properties"]["result"] == {"enum": ["kind", "unkind"]}


@pytest.mark.parametrize(("said", "value", "passed"), [(3, 3.0, False), (4, 4.0, True), (9, 5.0, True), (-2, 1.0, False)])
def test_a_score_is_clipped_to_its_range_and_held_to_the_threshold(said, value, passed):
    found = grade(SCORE, Scripted(json.dumps({"result": said})))
    assert (found.value, found.passed) == (value, passed)
    assert grade({**SCORE, "pass_threshold": None}, Scripted('{"result": 3}')).passed is None


@pytest.mark.parametrize("said", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number_is_no_score_and_no_pass(said):
    found = grade(SCORE, Scripted(f'{{"result": {said}}}'))
    assert (found.value, found.passed) == (None, None)
    assert grade(SCORE, Scripted(f'{{"result": {"9" * 400}}}')).value == 5, "a number, and a large one"


@pytest.mark.parametrize("said", ["", "kind", "{}", '{"result": "other"}', '{"result": null}', '{"result": [1]}', NotMeasurableError("too long")])
@pytest.mark.parametrize("grader", [LABEL, SCORE], ids=["label", "score"])
def test_what_a_judge_can_not_say_is_no_zero(grader, said):
    found = grade(grader, Scripted(said))
    assert found.value is None and found.passed is None and found.error


def test_without_a_judge_nothing_is_measured_and_the_grader_is_still_checked():
    assert parse([LABEL])[0].grade(Sample("a"), {"ideal": "b"}).error == "no judge model is asked here"
    wrong = [
        {"type": "label_model", "name": "a", "model": "m", "input": "Kind?", "labels": ["x"], "passing_labels": ["y"]},
        {"type": "score_model", "name": "b", "input": [{"role": "user", "content": "{{ item"}], "range": [1, 0]},
    ]  # fmt: skip
    with pytest.raises(GraderError) as raised:
        parse(wrong)
    said = "\n".join(raised.value.problems)
    for part in ("'a', input", "'y' is none of the labels", "'b', model", "'b', input: message 1", "'b', range"):
        assert part in said


def test_text_parts_are_joined_and_pictures_refused():
    parts = [{"type": "input_text", "text": "Kind? "}, {"type": "input_text", "text": "{{ sample.output_text }}"}]
    judge = Scripted('{"result": "kind"}')
    grade({**LABEL, "input": [{"role": "user", "content": parts}]}, judge)
    assert judge.asked[0].messages == (("user", "Kind? Hello"),)
    with pytest.raises(GraderError):
        parse([{**LABEL, "input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}])


def test_a_judge_stands_in_a_formula():
    multi = {"type": "multi", "name": "both", "graders": {"a": SCORE}, "calculate_output": "a / 5", "pass_threshold": 0.5}
    assert grade(multi, Scripted('{"result": 4}')).value == pytest.approx(0.8)


def test_sampling_parameters_reach_the_judge_by_openais_names():
    judge = Scripted('{"result": "kind"}')
    grade({**LABEL, "sampling_params": {"temperature": 0.5, "seed": 3, "max_completions_tokens": 9}}, judge)
    assert (judge.asked[0].temperature, judge.asked[0].seed, judge.asked[0].max_tokens) == (0.5, 3, 9)


@pytest.mark.parametrize("name", ["temperature", "top_p", "seed", "max_completions_tokens"])
@pytest.mark.parametrize("value", ["x", ["x"], {"a": 1}, True])
def test_sampling_parameters_that_are_no_numbers_are_named(name, value):
    with pytest.raises(GraderError) as caught:
        parse([{**LABEL, "sampling_params": {name: value}}])
    assert f"sampling_params, {name}: " in caught.value.problems[0]
