import pytest

from journeyman.answer.answerer import Echo, Scripted
from journeyman.evaluate.consistency import REWORDINGS, SAMPLES, ask_again, consistency
from journeyman.evaluate.measures import loss_pair, measures, row_losses
from journeyman.evaluate.run import ScoredRow, Scores
from journeyman.evaluate.statistics import Missing
from journeyman.generate.engine import Engine
from journeyman.grade.parse import parse
from journeyman.grade.score import Graded
from journeyman.records import Answer, Example, Message, Place, Usage
from journeyman.text.encode import encode


def scores(*pairs):
    rows = (ScoredRow(Place("f", i), "q", ideal, out, Graded((), None)) for i, (ideal, out) in enumerate(pairs))
    return Scores("m", tuple(rows))


def examples(*pairs):
    return [
        Example((Message("user", asked), Message("assistant", ideal)), Place("f", i)) for i, (asked, ideal) in enumerate(pairs)
    ]


def test_json_is_measured_field_by_field_and_a_broken_output_has_no_right_value():
    ideals = ['{"a": 1, "b": "x"}', '{"a": 2, "b": "y"}', '{"a": 3}']
    before = scores(*zip(ideals, ["no", None, '{"a": 3.0, "c": 1}'], strict=True))
    after = scores(*zip(ideals, ['{"b": "x", "a": 1}', '{"a": 2, "b": "z"}', '{"a": true}'], strict=True))
    found = measures(before, after)
    assert (found.json.valid[0].count, found.json.valid[0].total) == (1, 2)
    assert found.json.valid[1].share == 1
    a, b = found.json.fields
    assert ((a.before.count, a.before.total), (a.after.count, a.after.total)) == ((1, 2), (2, 3))
    assert ((b.before.count, b.before.total), (b.after.count, b.after.total)) == ((0, 1), (1, 2))


def test_json_is_left_out_where_not_all_ideals_are_objects():
    assert measures(scores(("{}", "{}"), ("yes", "{}")), scores(("{}", "{}"), ("yes", "no"))).json is None


def test_exact_match_and_likeness_leave_out_what_was_not_answered():
    found = measures(scores(("a b", None)), scores(("a b", " a b\n")))
    assert found.exact[0] is Missing.NO_DATA
    assert found.similarity[0] is Missing.NO_DATA
    assert (found.exact[1].count, found.similarity[1].value) == (1, 1.0)


def test_the_loss_on_ideals_is_the_trainings_own(bases):
    engine = Engine(bases("llama"))
    rows = examples(("Where is it?", "On Monday."), ("And now?", "Soon."))
    for row, (loss, tokens) in zip(rows, row_losses(engine, None, rows), strict=True):
        (encoded,) = encode(row, engine.chat)
        (expected,) = engine.likelihoods([encoded])
        assert (loss, tokens) == (pytest.approx(-expected.log_probability), expected.tokens)


def test_a_row_that_does_not_fit_has_no_loss_and_is_counted(bases):
    engine = Engine(bases("llama"))
    losses = row_losses(engine, None, examples(("word " * 400, "x"), ("a", "b")))
    assert losses[0] is None
    pair = loss_pair(losses, losses)
    assert (pair.rows, pair.unmeasured) == (1, 1)
    assert loss_pair([None], [None]).before is Missing.NO_DATA


def test_losses_are_summed_and_divided_once_by_the_tokens():
    pair = loss_pair([(2.0, 1), (9.0, 9)], [(1.0, 1), (9.0, 9)])
    assert (pair.before, pair.after) == (pytest.approx(1.1), pytest.approx(1.0))
    assert pair.interval.low < pair.after - pair.before < 0 or pair.interval.low == -1


TEXT = "I do not know where the parcel from Lisbon is. Can you help me?"


@pytest.mark.parametrize("kind", REWORDINGS)
def test_a_rewording_is_the_same_every_time_and_keeps_the_words_nearly(kind):
    reword = REWORDINGS[kind]
    assert reword(TEXT) == reword(TEXT) != TEXT
    assert abs(len(reword(TEXT)) - len(TEXT)) < 40


def test_rewordings_one_by_one():
    assert REWORDINGS["contractions"]("I do not know.") == "I don't know."
    assert REWORDINGS["contractions"]("I don't know.") == "I do not know."
    assert REWORDINGS["final mark"]("Where is it?") == "Where is it"
    assert REWORDINGS["final mark"]("Where is it") == "Where is it."
    typo = REWORDINGS["with a typo"]("the parcel")
    assert sorted(typo) == sorted("the parcel") and typo != "the parcel" and typo[4] == "p"
    assert REWORDINGS["with a typo"]("a 12 b") == "a 12 b"


PASSES = parse([{"type": "regex", "name": "g", "pattern": "yes"}])


def test_a_model_that_always_passes_is_steady_and_reliable_one_that_always_fails_only_steady():
    rows = examples(("Is it open?", "yes"), ("May I do not pay", "yes"))
    rounds = len(rows) * (1 + SAMPLES + len(REWORDINGS))
    good = ask_again(Scripted(["yes"] * rounds), rows, PASSES, max_tokens=8)
    bad = ask_again(Scripted(["no"] * rounds), rows, PASSES, max_tokens=8)
    found = consistency(("bad", "good"), bad, good)
    assert (found.before.steady.share, found.before.reliable.share) == (1.0, 0.0)
    assert (found.after.steady.share, found.after.reliable.share) == (1.0, 1.0)


class CaseSensitive(Echo):
    """Passes unless the input is all lower case; and draws of an odd seed fail."""

    def answers(self, conversations, sampling, tools=()):
        def text(conversation):
            said = conversation[-1].content
            odd = sampling.temperature > 0 and sampling.seed % 2
            return "no" if said == said.lower() or odd else "yes"

        return [Answer(text(c), "end", Usage(1, 1)) for c in conversations]


def test_what_changes_the_verdict_is_named_by_kind():
    rows = examples(("Is the shop open?", "yes"))
    asked = ask_again(CaseSensitive(), rows, PASSES, max_tokens=8)
    line = consistency(("a", "b"), asked, asked).after
    changed = {kind.kind: kind.changed.share for kind in line.kinds}
    assert changed["in lower case"] == changed["sampled again"] == 1.0
    assert changed["with a greeting"] == changed["final mark"] == 0.0
    assert "contractions" not in changed, "nothing to contract: the row is not asked that way"
    assert line.steady.share == 0.0


def test_a_row_that_could_not_be_measured_is_neither_steady_nor_unsteady():
    ungraded = parse([{"type": "text_similarity", "name": "s", "input": "{{ sample.output_text }}", "reference": "{{ item.ideal }}", "evaluation_metric": "rouge_l"}])
    asked = ask_again(Echo(), examples(("Is it open?", "yes")), ungraded, max_tokens=8)
    assert asked[0].steady is None
    assert consistency(("a", "b"), asked, asked).after.steady is Missing.NO_DATA
