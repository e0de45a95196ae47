from journeyman.evaluate.course import CheckpointScore, advice
from journeyman.evaluate.forgetting import Forgetting, Skill, TextLoss
from journeyman.evaluate.statistics import Interval, Missing, proportion


def one(step, passed, lost=(), *, published=False):
    """A checkpoint that passes so many of 20 rows, and has lost these skills."""
    skills = tuple(
        Skill(name, 40, 0, 0.5, 0.9, 0.6, -0.3, Interval(-0.4, -0.2), 0.001, 0.1, "worse") for name in lost
    )
    text = TextLoss(24, 1000, 3.0, 3.5, Interval(0.4, 0.6))
    share = Missing.NO_DATA if passed is None else proportion(passed, 20)
    return CheckpointScore(f"ft:x:ckpt-step-{step}", step, published, share, Forgetting(skills, text, (), 0.02))


def test_a_checkpoint_that_does_as_well_and_forgot_less_is_named():
    course = [one(10, 8), one(20, 15), one(30, 15, ("grammar", "json"), published=True)]
    assert "step 20" in advice(course) and "ft:x:ckpt-step-20" in advice(course)


def test_one_that_forgot_less_but_does_worse_is_not():
    assert advice([one(10, 14), one(30, 15, ("grammar",), published=True)]) is None


def test_nothing_is_said_where_the_model_is_no_kept_checkpoint_or_has_no_score():
    assert advice([one(10, 8), one(20, 9)]) is None
    assert advice([one(10, 8), one(20, None, ("json",), published=True)]) is None
    assert advice([]) is None


def test_the_loss_on_prose_is_against_the_base():
    assert one(1, 1).prose_loss == 0.5
