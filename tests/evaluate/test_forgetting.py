import json

import pytest
import torch

import tiny
from journeyman.errors import DataError
from journeyman.evaluate.forgetting import TEXT, Measured, forgetting, measure
from journeyman.evaluate.probing import (
    SKILLS,
    Probe,
    Probed,
    bundled_probes,
    bundled_texts,
    own_probes,
    probe,
    read_probes,
    task_probes,
)
from journeyman.evaluate.statistics import Missing
from journeyman.generate.engine import Engine
from journeyman.generate.likelihood import Likelihood, likelihoods
from journeyman.records import Example, Message, Place


@pytest.fixture(scope="module")
def engine(bases):
    return Engine(bases("llama"))


def test_the_bundled_set_is_varied_and_every_skill_has_its_items():
    probes = bundled_probes()
    assert 300 <= len(probes) <= 400
    assert {p.skill for p in probes} == set(SKILLS)
    assert all(sum(p.skill == skill for p in probes) >= 24 for skill in SKILLS)
    keys = [(p.asked, p.right) for p in probes]
    assert len(set(keys)) == len(keys)
    assert all(p.right not in p.wrong and len(set(p.wrong)) == len(p.wrong) for p in probes)
    assert len(bundled_texts()) >= 20


def test_the_order_of_options_in_no_file_helps_the_longest_or_the_shortest():
    """A model that always takes the longest option, or always the shortest, must not pass a skill."""
    for skill in ("facts", "arithmetic", "reading", "memory", "refusal"):
        items = [p for p in bundled_probes() if p.skill == skill]
        for pick in (max, min):
            hits = sum(len(p.right) == pick(map(len, (p.right, *p.wrong))) and len(p.right) not in map(len, p.wrong) for p in items)
            assert hits / len(items) < 0.75, (skill, pick)


def test_likelihoods_are_the_models_own_whatever_the_batch(engine):
    rows = tiny.rows(9, seed=3)
    together = likelihoods(engine.model, rows, context_tokens=192)
    for row, found in zip(rows, together, strict=True):
        ids_BT = torch.from_numpy(row.ids_T).long()[None]
        with torch.no_grad():
            logits_TV = torch.log_softmax(engine.model(input_ids=ids_BT).logits[0, :-1].float(), -1)
        learned = row.weights_T[1:] > 0
        picked = logits_TV[range(len(learned)), ids_BT[0, 1:]][torch.from_numpy(learned)]
        guesses = (logits_TV.argmax(-1) == ids_BT[0, 1:])[torch.from_numpy(learned)]
        assert found.log_probability == pytest.approx(float(picked.sum()), abs=1e-3)
        assert (found.tokens, found.correct) == (row.learned_tokens, int(guesses.sum()))


def test_a_choice_passes_exactly_where_the_right_option_is_more_probable(engine):
    def item(right, wrong):
        return Probe("facts", Place("p", 1), context="The parcel left", right=right, wrong=(wrong,))

    there, back = probe(engine, None, [item(" on Monday", " zq zq zq"), item(" zq zq zq", " on Monday")])
    assert there.passed is not back.passed
    assert there.said == back.said


def test_a_choice_between_equals_is_no_pass(engine):
    same = Probe("facts", Place("p", 1), context="a", right=" b", wrong=(" b",))
    assert probe(engine, None, [same])[0].passed is False


def test_what_does_not_fit_the_context_is_not_measured_and_no_failure(engine):
    long = Probe("facts", Place("p", 1), context="a b " * 400, right=" c", wrong=(" d",))
    assert probe(engine, None, [long])[0].passed is None
    asked = Probe("format", Place("p", 1), messages=(Message("user", "a b " * 400),), graders=())
    assert probe(engine, None, [asked])[0].passed is None


def test_two_measurements_of_one_model_are_equal_and_nothing_is_forgotten(engine):
    probes = [p for p in bundled_probes() if p.wrong][::8]
    first, second = measure(engine, None, probes), measure(engine, None, probes)
    assert first == second
    found = forgetting(first, second, probes)
    assert found.within_budget
    assert found.flips == ()
    assert {s.difference for s in found.skills} == {0.0}


def outcomes(skill, before, after, chance=0.5):
    """Probes of one skill with made-up outcomes, and prose on which nothing changed."""
    wrong = ("x",) * round(1 / chance - 1)
    probes = [Probe(skill, Place("p", i), context=str(i), right="r", wrong=wrong) for i in range(len(before))]
    texts = tuple(Likelihood(-100.0 - i, 50, 10 + i) for i in range(24))
    return probes, *(Measured(tuple(Probed(p, "said") for p in passed), texts) for passed in (before, after))


def only(skill, found):
    return next(s for s in found.skills if s.name == skill)


def test_a_lost_skill_breaks_the_budget_and_is_named_with_its_items():
    probes, base, tuned = outcomes("grammar", [True] * 60, [True] * 48 + [False] * 12)
    found = forgetting(base, tuned, probes)
    assert only("grammar", found).verdict == "worse"
    assert not found.within_budget
    assert found.sentence.startswith("Forgot more than the budget of 2 points allows: grammar -20.0 points")
    assert [f.lost for f in found.flips] == [True] * 12
    assert forgetting(base, tuned, probes, budget=0.25).within_budget


def test_a_loss_that_chance_explains_is_within_the_budget():
    probes, base, tuned = outcomes("grammar", [True] * 60, [True] * 57 + [False] * 3)
    found = forgetting(base, tuned, probes)
    assert only("grammar", found).verdict == "no_difference_seen"
    assert found.within_budget


def test_a_base_that_guesses_can_not_forget():
    probes, base, tuned = outcomes("facts", [True] * 14 + [False] * 31, [False] * 45, chance=0.25)
    found = forgetting(base, tuned, probes)
    assert only("facts", found).verdict == "at_chance"
    assert found.within_budget
    assert "at chance on facts" in found.sentence


def test_items_that_could_not_be_measured_are_counted_and_left_out():
    probes, base, tuned = outcomes("grammar", [True, None, True], [None, True, True])
    skill = only("grammar", forgetting(base, tuned, probes))
    assert (skill.items, skill.unmeasured, skill.base) == (1, 2, 1.0)
    none = only("grammar", forgetting(*outcomes("grammar", [None], [True])[1:], probes[:1]))
    assert none.base is Missing.NO_DATA


def test_prose_that_is_guessed_less_well_is_a_loss_in_points():
    probes, base, _ = outcomes("grammar", [True] * 30, [True] * 30)
    worse = tuple(Likelihood(t.log_probability - 9, t.tokens, t.correct - 2 - i % 2) for i, t in enumerate(base.texts))
    found = forgetting(base, Measured(base.probed, worse), probes)
    prose = only(TEXT, found)
    assert prose.verdict == "worse"
    assert prose.difference == pytest.approx(-0.05)
    assert found.text.tuned - found.text.base == pytest.approx(9 / 50)
    assert not found.within_budget


def test_the_correction_grows_with_the_number_of_skills():
    probes, base, tuned = outcomes("grammar", [True] * 30, [True] * 24 + [False] * 6)
    alone = only("grammar", forgetting(base, tuned, probes)).p_value
    more, both, after = outcomes("memory", [True] * 30, [True] * 30)
    joined = forgetting(
        Measured(base.probed + both.probed, base.texts), Measured(tuned.probed + after.probed, base.texts), probes + more
    )
    assert only("grammar", joined).p_value > alone


def test_forgetting_as_json_holds_the_contract():
    probes, base, tuned = outcomes("grammar", [True] * 60, [True] * 48 + [False] * 12)
    value = json.loads(json.dumps(forgetting(base, tuned, probes).as_dict()))
    assert value["within_budget"] is False
    skill = next(s for s in value["skills"] if s["name"] == "grammar")
    assert {"name", "base", "tuned", "difference", "interval", "verdict"} <= skill.keys()
    assert skill["interval"][0] < skill["difference"] < skill["interval"][1] < 0


def test_probes_of_your_own_name_every_bad_row_at_once(tmp_path):
    path = tmp_path / "house.jsonl"
    path.write_text('{"context": "a", "right": "b", "wrong": ["c"]}\n{"context": "a"}\n3\n', encoding="utf-8")
    with pytest.raises(DataError) as raised:
        read_probes(path)
    assert [p.partition(":")[2][0] for p in raised.value.problems] == ["2", "3"]
    path.write_text('{"context": "a", "right": "b", "wrong": ["c"]}\n', encoding="utf-8")
    assert read_probes(path)[0].skill == "house"


def test_probes_of_your_own_are_checked_before_anything_is_asked(tmp_path):
    path = tmp_path / "house.jsonl"
    wrong = [
        "{", '{"context": 3, "right": "b", "wrong": ["c"]}', '{"right": "b", "wrong": [4]}', '{"messages": ["x"], "graders": [{}]}',
        '{"messages": [{"role": "user", "content": "a"}], "graders": [{"type": "regexp", "name": "x"}]}',
        '{"right": "b", "wrong": ["c"], "max_tokens": 0}',
    ]  # fmt: skip
    path.write_text("\n".join(wrong), encoding="utf-8")
    with pytest.raises(DataError) as raised:
        read_probes(path)
    assert [p.partition(":")[2][0] for p in raised.value.problems] == [str(i + 1) for i in range(len(wrong))]
    for nothing in (tmp_path / "missing.jsonl", tmp_path):
        with pytest.raises(DataError):
            read_probes(nothing)
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(DataError):
        read_probes(path)


def test_a_last_line_without_its_end_is_a_probe_like_any_other(tmp_path):
    path = tmp_path / "house.jsonl"
    path.write_text('{"right": "b", "wrong": ["c"]}', encoding="utf-8")
    assert len(read_probes(path)) == 1


def test_probes_of_your_own_change_no_bundled_skill(tmp_path):
    path = tmp_path / "json.jsonl"
    path.write_text('{"right": "b", "wrong": ["c"]}', encoding="utf-8")
    with pytest.raises(DataError) as raised:
        own_probes([path])
    assert "'json' is a bundled skill" in raised.value.problems[0]


def test_another_tasks_rows_are_graded_by_its_graders_with_the_row_at_hand(engine):
    (said,) = engine_says(engine, "a")
    rows = [Example((Message("user", "a"), Message("assistant", ideal)), Place("other.jsonl", i)) for i, ideal in enumerate((said, "not this"), 1)]
    probes = task_probes("other", rows, (), 8)
    assert [p.skill for p in probes] == ["task other"] * 2
    assert [p.passed for p in probe(engine, None, probes)] == [True, False]


def engine_says(engine, text):
    """What the model replies, found by a probe that can't pass."""
    asked = Probe("x", Place("p", 1), messages=(Message("user", text),), max_tokens=8, item={"ideal": "\0"})
    return [p.said for p in probe(engine, None, [asked])]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_a_probe_may_hold_a_separator_of_lines(tmp_path, separator):
    probe = {"context": f"a{separator}b", "right": "c", "wrong": ["d"]}
    (tmp_path / "own.jsonl").write_text(f"{json.dumps(probe, ensure_ascii=False)}\r\n", encoding="utf-8", newline="")
    (read,) = read_probes(tmp_path / "own.jsonl")
    assert read.context == f"a{separator}b"
