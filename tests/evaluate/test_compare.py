import json

import pytest

from journeyman.answer.answerer import Echo, Scripted
from journeyman.answer.prompt import Prompt
from journeyman.errors import RequestError, TaskError
from journeyman.evaluate.compare import Contender, answer_rows, table
from journeyman.evaluate.contenders import LOCAL, choose, recipes
from journeyman.evaluate.cost import Prices, break_even, read_prices
from journeyman.evaluate.judgement import Judgement, corrected, judged
from journeyman.evaluate.prompt_search import parts_of, search
from journeyman.evaluate.statistics import Missing
from journeyman.grade.parse import parse
from journeyman.records import Example, Message, Place

BY_NAME = {recipe.name: recipe for recipe in LOCAL}


def rows(*pairs):
    return [
        Example((Message("user", asked), Message("assistant", ideal)), Place("held-out.jsonl", line))
        for line, (asked, ideal) in enumerate(pairs, 1)
    ]


class Counting(Echo):
    """Echoes, counts its requests, and refuses what is longer than ten characters."""

    def __init__(self):
        super().__init__()
        self.requests = 0

    def answers(self, conversations, sampling, tools=()):
        if any(len(c[-1].content) > 10 for c in conversations):
            raise RequestError("too long")
        self.requests += len(conversations)
        return super().answers(conversations, sampling)


def contender(name, answerer, prompt=None, identity="x", alone=False):
    return Contender(BY_NAME[name], answerer, prompt or Prompt(), identity, name, alone)


def test_answers_are_kept_and_asked_for_once(tmp_path):
    answerer, examples = Counting(), rows(("a", "a"), ("b", "x"))
    first = answer_rows(contender("base", answerer), examples, [], tmp_path, max_tokens=8)
    assert answerer.requests == 4  # two rows, and two timed alone
    assert len(first.alone_s) == 2
    again = answer_rows(contender("base", answerer), examples, [], tmp_path, max_tokens=8)
    assert (answerer.requests, again) == (4, first)
    longer = answer_rows(contender("base", answerer), [*examples, *rows(("c", "c"))], [], tmp_path, max_tokens=8)
    assert [r.output for r in longer.rows] == ["a", "b", "c"]
    assert answerer.requests == 6


@pytest.mark.parametrize(
    ("identity", "prompt", "max_tokens"), [("y", "", 8), ("x", "Be brief.", 8), ("x", "", 9)]
)
def test_another_model_prompt_or_length_is_asked_anew(tmp_path, identity, prompt, max_tokens):
    answerer, examples = Counting(), rows(("a", "a"))
    answer_rows(contender("base", answerer, alone=True), examples, [], tmp_path, max_tokens=8)
    changed = contender("base", answerer, Prompt(prompt), identity, alone=True)
    answer_rows(changed, examples, [], tmp_path, max_tokens=max_tokens)
    assert answerer.requests == 2


def test_an_answer_cut_off_by_a_crash_is_asked_again(tmp_path):
    answerer, examples = Counting(), rows(("a", "a"), ("b", "b"))
    answer_rows(contender("base", answerer, alone=True), examples, [], tmp_path, max_tokens=8)
    file = tmp_path / "base.jsonl"
    file.write_text(file.read_text()[:-20])
    answered = answer_rows(contender("base", answerer, alone=True), examples, [], tmp_path, max_tokens=8)
    assert answerer.requests == 3
    assert [r.output for r in answered.rows] == ["a", "b"]
    assert [json.loads(line)["text"] for line in file.read_text().splitlines()] == ["a", "b"]


def test_rows_that_do_not_fit_are_named_and_are_no_zeros(tmp_path):
    answerer = Counting()
    examples = rows(("a", "a"), ("b" * 11, "b"), ("c", "c"))
    answered = answer_rows(contender("base", answerer), examples, [], tmp_path, max_tokens=8)
    (line,), _ = table([(contender("base", answerer), answered)], "base")
    assert (line.score.value, line.score.rows) == (1.0, 2)
    assert line.unanswered == ("held-out.jsonl:2: too long",)
    assert any("held-out.jsonl:2" in note for note in line.notes)


def test_shots_without_room_are_said_with_their_rows(tmp_path):
    prompt = Prompt(shots=lambda _: rows(("q", "r"), ("s", "t")), fits=lambda messages, _tools: len(messages) <= 3)
    c = contender("few_shot", Echo(), prompt)
    (line,), _ = table([(c, answer_rows(c, rows(("a", "a")), [], tmp_path, max_tokens=8))], "few_shot")
    assert "1.0 are left out on average (first: held-out.jsonl:1)" in line.notes[0]
    kept = json.loads((tmp_path / "few_shot.jsonl").read_text())
    assert (kept["shots"], kept["left_out"]) == (["held-out.jsonl:1"], 1)


def test_the_table_is_paired_against_the_reference(tmp_path):
    examples = rows(*[(f"q{i}", "yes" if i < 30 else "no") for i in range(40)])
    base, tuned = contender("base", Scripted(["no"] * 40)), contender("tuned", Scripted(["yes"] * 40), identity="t")
    done = [(c, answer_rows(c, examples, [], tmp_path, max_tokens=8, time_alone=False)) for c in (base, tuned)]
    (first, second), pass_or_fail = table(done, "base")
    assert pass_or_fail and first.against is None
    assert (first.score.value, second.score.value) == (0.25, 0.75)
    assert (second.against.outcome, second.against.difference) == ("better", 0.5)
    assert second.latency_s is None  # nothing was timed: unknown, not 0


def test_graders_without_a_threshold_are_compared_by_their_mean(tmp_path):
    grader = {"type": "text_similarity", "name": "like", "input": "{{ sample.output_text }}", "reference": "{{ item.ideal }}", "evaluation_metric": "fuzzy_match"}
    c = contender("base", Echo())
    answered = answer_rows(c, rows(("abc", "abd"), ("x", "x")), parse([grader]), tmp_path, max_tokens=8)
    (line,), pass_or_fail = table([(c, answered)], "base")
    assert not pass_or_fail
    assert 0.5 < line.score.value < 1


def test_what_is_corrected_away_loses_its_verdict():
    def one(p):
        return Judgement("better", 50, 0.1, Missing.NO_DATA, p, 0.1, 0.2)

    out = corrected([one(0.001), one(0.03), one(0.04), one(0.045)])
    assert [j.outcome for j in out] == ["better"] + ["no_difference_seen"] * 3
    assert [j.p_value for j in out] == pytest.approx([0.004, 0.09, 0.09, 0.09])


def test_means_need_enough_rows_too():
    values = [0.1, 0.9, 0.4, 0.2]
    assert judged(values, [v + d for v, d in zip(values, (0.4, -0.4, 0.1, 0.0), strict=True)], pass_or_fail=False).outcome == "not_enough_rows"
    before = [0.5 + 0.001 * (i % 5) for i in range(200)]
    assert judged(before, [b + 0.002 * (i % 3 - 1) for i, b in enumerate(before)], pass_or_fail=False).outcome == "no_difference_seen"
    assert judged([None, None], [1.0, 0.0], pass_or_fail=True).difference is Missing.NO_DATA


def test_contenders_take_part_where_the_task_has_what_they_need():
    chosen, left_out = choose(LOCAL, {"instructions", "examples"})
    assert "prompt" in [r.name for r in chosen]
    assert {"retrieval", "tuned_retrieval", "tfidf", "head"} <= left_out.keys()
    assert "documents" in left_out["retrieval"]
    only, _ = choose(recipes(["big"]), {"instructions", "examples"}, ["base", "big:prompt"])
    assert [(r.name, r.who) for r in only] == [("base", "base"), ("big:prompt", "remote")]
    with pytest.raises(RequestError) as refused:
        choose(LOCAL, set(), ["retrieval", "magic"])
    assert "magic" in str(refused.value) and "documents" in str(refused.value)


# ── money ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_prices_by_token_and_by_the_hour(tmp_path):
    file = tmp_path / "prices.toml"
    file.write_text('currency = "EUR"\n[models."big"]\ninput = 2.0\noutput = 8\n[models.small]\nhour = 0.36\n[training]\nhour = 1.5\n')
    prices = read_prices(file)
    assert prices.of_1000("big", 1000, 100, None) == pytest.approx(2.8)
    assert prices.of_1000("small", 1000, 100, 0.5) == pytest.approx(0.05)
    assert prices.of_training(1200) == pytest.approx(0.5)
    assert break_even(0.5, 2.8, 0.05) == 182
    assert prices.currency == "EUR"


def test_an_unknown_price_is_unknown_and_no_break_even_is_made_of_it():
    assert Prices().of_1000("any", 10, 10, 1.0) is None
    assert Prices(models={"m": {"hour": 1}}).of_1000("m", 10, 10, None) is None
    assert Prices().of_training(60) is None
    assert break_even(None, 2, 1) is break_even(1, None, 1) is break_even(1, 1, 1) is None


def test_all_problems_of_a_price_table_are_named_at_once(tmp_path):
    file = tmp_path / "prices.toml"
    file.write_text('money = 1\n[models.a]\ninput = 1\n[models.b]\ninput = -1\noutput = "2"\n[models.c]\nday = 1\n')
    with pytest.raises(TaskError) as wrong:
        read_prices(file)
    assert all(text in str(wrong.value) for text in ("money", "both input and output", "-1", "'2'", "day", str(file)))


# ── the prompt search ─────────────────────────────────────────────────────────────────────────────────────────

INSTRUCTIONS = "# Task\nSort.\n\n# Useless\n" + "word " * 40 + "\n\n# Harmful\n" + "word " * 30 + "\n\n# Needed\nlabels"


def test_the_search_leaves_out_what_costs_and_keeps_what_is_needed():
    def measure(candidate):
        text = candidate.instructions
        return ("# Needed" in text) - 0.2 * ("# Harmful" in text) + 0.1 * len(candidate.shots), len(text)

    trials = search(INSTRUCTIONS, rows(*[(f"q{i}", "a") for i in range(20)]), measure, budget=12)
    best = trials[0].candidate
    assert len(trials) <= 12
    assert "# Needed" in best.instructions and "# Harmful" not in best.instructions and "# Useless" not in best.instructions
    assert len(best.shots) == 8
    assert trials == search(INSTRUCTIONS, rows(*[(f"q{i}", "a") for i in range(20)]), measure, budget=12)


def test_of_equal_prompts_the_shortest_is_taken_and_the_budget_holds():
    trials = search(INSTRUCTIONS, [], lambda c: (0.5, len(c.instructions)), budget=5)
    assert len(trials) <= 5
    assert len(trials[0].candidate.instructions) == min(len(t.candidate.instructions) for t in trials)


def test_instructions_are_cut_at_headings_else_at_empty_lines():
    assert [p.splitlines()[0] for p in parts_of(INSTRUCTIONS)] == ["# Task", "# Useless", "# Harmful", "# Needed"]
    assert parts_of("One.\n\nTwo.\n") == ["One.", "Two."]
    assert parts_of("  ") == []
