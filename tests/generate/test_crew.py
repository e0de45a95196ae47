"""Processes that answer: the same answers, and what happens when one of them dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import psutil
import pytest

import tiny
from journeyman.errors import JourneymanError, ModelNotFound, QueueFull, RequestError
from journeyman.generate.crew import DEATHS, Crew
from journeyman.generate.engine import Engine, Request
from journeyman.generate.sampling import Sampling

PROMPTS = [tuple(row.ids_T.tolist()) for row in tiny.rows(12, seed=3, shortest=2, longest=30)]
ENDLESS = Sampling(max_tokens=1000, temperature=1.0, seed=1, logit_bias={2: -100, 4: -100})


def until(holds, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def adapters(bases, tmp_path_factory):
    return {name: tiny.write_adapter(bases("llama"), tmp_path_factory.mktemp(name), seed) for seed, name in enumerate("ab")}


@pytest.fixture
def crew():
    crew = Crew(2)
    yield crew
    crew.close()
    until(lambda: not crew.pids)


@pytest.fixture
def engine(bases, adapters, crew) -> Engine:
    """An engine whose crew has come."""
    engine = Engine(bases("llama"), crew=crew)
    for name, folder in adapters.items():
        engine.add_adapter(name, folder)
    engine.answers([Request(PROMPTS[0], None, Sampling(max_tokens=1))])
    until(lambda: crew.ready == 2)
    return engine


def test_a_crew_is_begun_with_the_first_request_to_a_small_model(bases, crew):
    engine = Engine(bases("llama"), crew=crew)
    assert not crew.begun and not crew.pids
    engine.answers([Request(PROMPTS[0], None, Sampling(max_tokens=1))])
    assert crew.begun


def test_a_crew_answers_as_one_process_does_before_and_after_it_has_come(bases, adapters, crew):
    names = [None, *adapters]
    asked = [
        Request(prompt, names[i % 3], Sampling(max_tokens=12, temperature=1.0, seed=i, logprobs=2, stop=("zq",)))
        for i, prompt in enumerate(PROMPTS)
    ]
    alone, together = Engine(bases("llama")), Engine(bases("llama"), crew=crew)
    for engine in (alone, together):
        for name, folder in adapters.items():
            engine.add_adapter(name, folder)

    def said(engine: Engine):
        pieces = [[] for _ in asked]
        for piece in engine.stream(asked):
            pieces[piece.index].append(piece)
        return [
            ("".join(p.text for p in row), row[-1].stop, row[-1].usage, [round(t.logprob, 4) for p in row for t in p.logprobs])
            for row in pieces
        ]

    wanted = said(alone)
    assert said(together) == wanted
    until(lambda: crew.ready == 2)
    before = together.load.generated_tokens
    assert said(together) == wanted
    assert together._loop.local.load.requests == len(asked), "the second time this process answered none"
    assert together.load.generated_tokens == before + sum(usage.completion_tokens for _, _, usage, _ in wanted)
    assert (together.load.running, together.load.waiting) == (0, 0)
    assert len({text for text, *_ in wanted}) > 6


def test_what_can_not_be_answered_is_refused_by_the_crew_as_here(engine, adapters):
    with pytest.raises(RequestError, match="context"):
        engine.answers([Request(PROMPTS[0] * 100, None, Sampling())])
    with pytest.raises(ModelNotFound):
        engine.answers([Request(PROMPTS[0], "nobody", Sampling())])
    engine._known["b"] = replace(engine._known["b"], name="c", folder=adapters["a"].parent / "gone")
    with pytest.raises(Exception, match="gone"):
        engine.answers([Request(PROMPTS[0], "b", Sampling())])
    assert engine.answers([Request(PROMPTS[0], "a", Sampling(max_tokens=4))])


def test_a_full_crew_refuses_and_who_leaves_makes_room(bases, crew):
    engine = Engine(bases("llama"), crew=crew, max_rows=2, max_waiting=1)
    engine.answers([Request(PROMPTS[0], None, Sampling(max_tokens=1))])
    until(lambda: crew.ready == 2)
    streams = [engine.stream([Request(prompt, None, replace(ENDLESS, max_tokens=150))]) for prompt in PROMPTS[:5]]
    for stream in streams:
        next(stream)
    with pytest.raises(QueueFull) as refused:
        next(engine.stream([Request(PROMPTS[6], None, ENDLESS)]))
    assert refused.value.retry_after_s >= 1
    assert engine.load.refused == 1
    for stream in streams:
        stream.close()
    assert (engine.load.running, engine.load.waiting) == (0, 0)
    assert engine.answers([Request(PROMPTS[6], None, Sampling(max_tokens=4))])[0].usage.completion_tokens == 4


def test_a_process_that_dies_fails_what_it_had_begun_and_is_begun_again(engine, crew):
    """What it had said nothing of is answered here; nothing hangs."""
    streams = [engine.stream([Request(prompt, None, ENDLESS)]) for prompt in PROMPTS[:4]]
    for stream in streams:
        next(stream)
    pids = set(crew.pids)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for stream in streams:
        with pytest.raises(JourneymanError, match="signal 9") as died:
            list(stream)
        assert died.value.code == "answering_ended"
    assert engine.answers([Request(PROMPTS[0], "a", Sampling(max_tokens=8))])[0].usage.completion_tokens > 0
    until(lambda: crew.ready == 2)
    assert pids.isdisjoint(crew.pids)
    asked = engine._loop.local.load.requests
    assert engine.answers([Request(PROMPTS[0], "a", Sampling(max_tokens=8))])[0].usage.completion_tokens > 0
    assert engine._loop.local.load.requests == asked


def test_what_a_dead_process_had_said_nothing_of_is_answered_here(bases, engine, crew):
    for pid in crew.pids:
        os.kill(pid, signal.SIGSTOP)  # it takes requests and says nothing
    stream = engine.stream([Request(prompt, None, Sampling(max_tokens=6)) for prompt in PROMPTS])
    pids, first = crew.pids, []
    reader = threading.Thread(target=lambda: first.extend(stream))
    reader.start()
    until(lambda: crew.under_way(engine._loop) == len(PROMPTS))
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    reader.join(60)
    wanted = Engine(bases("llama")).answers([Request(prompt, None, Sampling(max_tokens=6)) for prompt in PROMPTS])
    texts = ["".join(p.text for p in first if p.index == i) for i in range(len(PROMPTS))]
    assert texts == [answer.text for answer in wanted]


def test_one_that_dies_again_and_again_is_left_and_this_process_answers(bases, crew, monkeypatch):
    monkeypatch.setattr("journeyman.generate.crew.MEMBER", "journeyman.no_such_module")
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(1) or popen(*a, **{**k, "stderr": subprocess.DEVNULL}))
    engine = Engine(bases("llama"), crew=crew)
    assert engine.answers([Request(PROMPTS[0], None, Sampling(max_tokens=4))])
    until(lambda: len(started) == 2 * DEATHS and not crew.pids)
    time.sleep(0.2)
    assert len(started) == 2 * DEATHS
    assert engine.answers([Request(PROMPTS[1], None, Sampling(max_tokens=4))])


def test_large_models_and_those_on_a_gpu_are_answered_here(bases, crew, monkeypatch):
    monkeypatch.setattr("journeyman.generate.engine.is_small", lambda model: False)
    engine = Engine(bases("llama"), crew=crew)
    assert engine.answers([Request(PROMPTS[0], None, Sampling(max_tokens=4))])
    assert not crew.pids


def test_processes_end_with_the_one_that_began_them(bases):
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom journeyman.generate.crew import Crew\n"
        "from journeyman.generate.engine import Engine, Request\nfrom journeyman.generate.sampling import Sampling\n"
        "crew = Crew(2)\nengine = Engine(Path(sys.argv[1]), crew=crew)\n"
        "engine.answers([Request((5, 6, 7), None, Sampling(max_tokens=1))])\n"
        "while crew.ready < 2: time.sleep(0.02)\nprint(*crew.pids, flush=True)\ntime.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(bases("llama"))], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2
    process.kill()
    process.wait()
    until(lambda: not any(_lives(pid) for pid in pids), 20)


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
