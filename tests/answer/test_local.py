from journeyman.answer.local import LocalModel
from journeyman.answer.prompt import Prompt, Prompted
from journeyman.generate.sampling import Sampling
from journeyman.records import Answer, Message, Usage


class RecordingEngine:
    """Takes what LocalModel asks, and answers with the adapter's name."""

    def __init__(self):
        self.chat = self
        self.requests = []

    def prompt_ids(self, messages, tools=()):
        return [len(m.content) for m in messages]

    def answers(self, requests):
        self.requests += requests
        return [Answer(str(r.adapter), "end", Usage(len(r.prompt_ids), 1)) for r in requests]


def test_a_local_model_asks_its_engine_with_its_adapter_and_the_given_sampling():
    engine, sampling = RecordingEngine(), Sampling(max_tokens=3)
    model = LocalModel(engine, "tuned-1", "tuned")
    answers = model.answers([[Message("user", "four")], [Message("user", "sixsix")]], sampling)
    assert [a.text for a in answers] == ["tuned-1", "tuned-1"]
    assert [(r.prompt_ids, r.sampling) for r in engine.requests] == [((4,), sampling), ((6,), sampling)]
    assert LocalModel(engine).answers([[Message("user", "x")]], sampling)[0].text == "None"


def test_a_prompted_model_is_an_answerer_like_any_other():
    engine = RecordingEngine()
    Prompted(LocalModel(engine), Prompt("Be brief."), "prompted").answers(
        [[Message("user", "x")]], Sampling()
    )
    assert engine.requests[0].prompt_ids == (9, 1)
