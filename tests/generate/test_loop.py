"""Answering under load: rows join and leave, prompts come in chunks, beginnings are found again, the queue is bounded."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
import threading
import time
import tracemalloc
from dataclasses import replace
from queue import SimpleQueue

import pytest
import torch

import tiny
from journeyman.errors import CheckpointError, QueueFull
from journeyman.generate.blocks import BLOCK_TOKENS, Blocks
from journeyman.generate.engine import Engine, Request
from journeyman.generate.forward import LEAST_TOKENS, _moved, _shares
from journeyman.generate.row import Segment
from journeyman.generate.sampling import Sampling
from journeyman.train import lora
from journeyman.train.workers import Workers

PROMPTS = [tuple(row.ids_T.tolist()) for row in tiny.rows(9, seed=3, shortest=2, longest=30)]
GREEDY = Sampling(max_tokens=16)
LONG = tuple(int(i) for row in tiny.rows(9, seed=5, shortest=20, longest=20) for i in row.ids_T)
"""A prompt of 180 tokens; the tiny models' context is 192."""


def endless(prompt) -> Request:
    """An answer that goes on to the end of the context."""
    return Request(prompt, None, Sampling(max_tokens=1000, temperature=1.0, seed=1, logit_bias={2: -100, 4: -100}))


@pytest.fixture(scope="module")
def adapters(bases, tmp_path_factory):
    """Six adapters of ranks 4 and 2, one of them on some of the layers only."""
    folders = {}
    for seed in range(6):
        folder = tiny.write_adapter(bases("llama"), tmp_path_factory.mktemp(f"a{seed}"), seed)
        folders[f"ft:tiny:local:v1.{seed}:aaaaaaa{seed}"] = folder
    return folders


def test_mixed_adapters_compute_what_each_alone_computes(bases, adapters):
    """Logits, not only the answers: one token each of several adapters, the base, and a chunk, in one pass."""
    model = Engine(bases("llama")).model
    for index, folder in enumerate(adapters.values()):
        lora.load_adapter(model, f"a{index}", folder)
    with torch.no_grad():
        del model.get_submodule("model.layers.0.mlp.up_proj").lora_A["a1"]
        x = torch.randn(1, 9, 32, generator=torch.Generator().manual_seed(0))
        for path, layer in lora.lora_layers(model):
            if lora.linear_sizes(layer.base)[0] != 32:
                continue
            alone = {}
            for name in (None, "a0", "a1", "a2"):
                layer.active = name if name in layer.lora_A else None
                alone[name] = layer(x)[0]
            owners = [None, "a0", "a2", "a1"]
            scale = torch.zeros(4, 12)
            for token, name in enumerate(owners):
                if name:
                    scale[token, 4 * int(name[1]) : 4 * int(name[1]) + 4] = layer.scaling["a0"]
            parts = [
                lora.Mixed(slice(0, 4), ("a0", "a1", "a2"), (4, 4, 4), scale),
                lora.Mixed(slice(6, 9), ("a2",), (4,), torch.tensor([[layer.scaling["a2"]]])),
            ]
            with lora.mixed(parts):
                together = layer(x)[0]
            wanted = [*owners, None, None, "a2", "a2", "a2"]
            for token, name in enumerate(wanted):
                assert torch.allclose(together[token], alone[name][token], atol=1e-5), (path, token)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_requests_that_come_at_different_times_answer_as_they_do_alone(bases, adapters, tmp_path, family):
    engine = Engine(bases(family), max_rows=4)
    names = [None]
    if family == "llama":
        for name, folder in adapters.items():
            engine.add_adapter(name, folder)
        names += list(adapters)
    asked = [Request(PROMPTS[i % 9], names[i % len(names)], GREEDY) for i in range(12)] + [Request(LONG, names[-1], GREEDY)]
    alone = [engine.answers([r])[0] for r in asked]
    got: dict = {}

    def ask(index):
        time.sleep(0.003 * index)
        got[index] = engine.answers([asked[index]])[0]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(got[i].text, got[i].usage) for i in range(len(asked))] == [(a.text, a.usage) for a in alone]
    assert len({a.text for a in alone}) > 6


def test_prompts_of_any_length_answer_in_company_as_they_do_alone_and_again_when_asked_again(bases, adapters):
    """A prompt of which one token is left stands in a pass between longer ones: found again, or where room for one is left."""
    name, folder = next(iter(adapters.items()))

    def new_engine() -> Engine:
        engine = Engine(bases("llama"))
        engine.add_adapter(name, folder)
        return engine

    prompts = [tuple(row.ids_T.tolist()) for row in tiny.rows(70, seed=8, shortest=2, longest=70)]
    prompts += [LONG[i : i + n] for i, n in enumerate([BLOCK_TOKENS + 1, 2 * BLOCK_TOKENS + 1, 8, 17, 40, 62] * 2)]
    asked = [Request(p, (None, name)[i % 3 == 0], Sampling(max_tokens=24, temperature=1.0, seed=i)) for i, p in enumerate(prompts)]
    alone = [new_engine().answers([request])[0].text for request in asked]
    engine = new_engine()
    for asking in range(3):
        assert [a.text for a in engine.answers(asked)] == alone, f"asking {asking}"
    assert engine.load.cached_tokens > 0


def test_adapters_beyond_the_bound_are_dropped_and_read_again(bases, adapters, tmp_path):
    engine = Engine(bases("llama"), max_adapters=2)
    copies = {name: shutil.copytree(folder, tmp_path / name[-1]) for name, folder in adapters.items()}
    for name, folder in copies.items():
        engine.add_adapter(name, folder)
    assert engine.adapters == 2
    requests = [Request(PROMPTS[0], name, GREEDY) for name in copies]
    alone = [engine.answers([r])[0].text for r in requests]
    assert len(set(alone)) == 6 and engine.adapters == 2
    # More at once than the bound: those in use stay, and the next that ends makes room again.
    assert [a.text for a in engine.answers(requests)] == alone
    engine.answers(requests[:1])
    first = next(iter(copies))
    for name in list(copies)[1:]:
        engine.answers([Request(PROMPTS[0], name, GREEDY)])
    shutil.rmtree(copies[first])
    with pytest.raises((CheckpointError, OSError)):
        engine.answers([Request(PROMPTS[0], first, GREEDY)])
    assert engine.answers(requests[1:2])[0].text == alone[1], "one that can't be read is its own caller's affair"


def test_adapters_that_are_read_again_and_again_leave_nothing_behind(bases, adapters):
    """safetensors' reader of files loses objects at each file, here 1.6 KB; what else comes and goes is some 300 bytes."""
    engine = Engine(bases("llama"), max_adapters=1)
    for name, folder in adapters.items():
        engine.add_adapter(name, folder)

    def read_all(times: int) -> None:
        for _ in range(times):
            for name in adapters:
                engine.answers([Request(PROMPTS[0], name, Sampling(max_tokens=1))])
        gc.collect()

    read_all(3)
    tracemalloc.start()
    try:
        read_all(1)
        before = tracemalloc.get_traced_memory()[0]
        read_all(20)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 20 * len(adapters) * 800, f"{grown / 20 / len(adapters):.0f} bytes a reading"


def test_a_prompt_that_begins_like_an_earlier_one_computes_only_the_rest(bases, adapters):
    engine = Engine(bases("llama"))
    name, folder = next(iter(adapters.items()))
    engine.add_adapter(name, folder)
    first = engine.answers([Request(LONG[:150], None, GREEDY)])[0]
    before = engine.load.prompt_tokens
    again = engine.answers([Request(LONG[:150], None, GREEDY)])[0]
    assert again.text == first.text and again.usage == first.usage
    assert engine.load.prompt_tokens - before < BLOCK_TOKENS and engine.load.cached_tokens == 150 // BLOCK_TOKENS * BLOCK_TOKENS
    other = engine.answers([Request(LONG[:150], name, GREEDY)])[0]
    assert engine.load.cached_tokens == 150 // BLOCK_TOKENS * BLOCK_TOKENS, "another adapter's keys are not this one's"
    assert other.text != first.text
    engine.answers([Request((*LONG[:70], 99, *LONG[71:150]), None, GREEDY)])
    assert engine.load.cached_tokens == 150 // BLOCK_TOKENS * BLOCK_TOKENS + 70 // BLOCK_TOKENS * BLOCK_TOKENS


def test_prompts_that_come_together_and_begin_alike_compute_the_beginning_once(bases):
    engine, tokens = Engine(bases("llama")), 150
    alone = [engine.answers([Request(LONG[:tokens], None, replace(GREEDY, temperature=1.0, seed=s))])[0] for s in range(4)]
    engine = Engine(bases("llama"))
    together = engine.answers([Request(LONG[:tokens], None, replace(GREEDY, temperature=1.0, seed=s)) for s in range(4)])
    assert [a.text for a in together] == [a.text for a in alone] and len({a.text for a in alone}) > 1
    assert engine.load.prompt_tokens == tokens + 3 * (tokens % BLOCK_TOKENS)


def test_where_no_beginning_is_found_again_nobody_waits_for_one(bases):
    """Gemma 2 is read row by row: the second prompt would gain nothing from the first."""
    engine = Engine(bases("gemma2"))
    requests = [Request(LONG[:40], None, Sampling(max_tokens=1, seed=s)) for s in range(4)]
    assert len({a.text for a in engine.answers(requests)}) == 1
    assert engine.load.passes == 1


def test_a_failure_between_passes_ends_its_requests_and_no_later_ones(bases):
    engine = Engine(bases("llama"))

    class Failing(Blocks):
        left = 1

        def extend(self, holding, tokens):
            self.left -= 1
            if self.left == 0:
                raise ValueError("no such block")
            return super().extend(holding, tokens)

    engine._loop._forward.blocks = Failing(engine._loop._blocks.count)
    with pytest.raises(ValueError, match="no such block"):
        engine.answers([Request(PROMPTS[0], None, GREEDY), Request(LONG, None, GREEDY)])
    assert engine.answers([Request(PROMPTS[0], None, GREEDY)])[0].text
    blocks = engine._loop._blocks
    until(lambda: blocks.free == blocks.count and not engine._loop._running)


def test_with_little_memory_for_keys_rows_start_again_and_answer_the_same(bases):
    roomy, tight = Engine(bases("llama")), Engine(bases("llama"), kv_bytes=0)
    requests = [Request(LONG[: 40 + 5 * i], None, Sampling(max_tokens=60, temperature=1.0, seed=i)) for i in range(8)]
    assert [a.text for a in tight.answers(requests)] == [a.text for a in roomy.answers(requests)]
    assert tight.load.preempted > 0 and roomy.load.preempted == 0


def test_a_long_prompt_comes_in_chunks_between_the_tokens_of_a_stream(bases):
    engine = Engine(bases("llama"))
    engine._loop._pass_tokens = 16
    stream = engine.stream([endless(PROMPTS[0])])
    next(stream)
    passes = []
    forward = engine._loop._forward

    class Watched:
        blocks = forward.blocks
        arrange = staticmethod(forward.arrange)

        def __call__(self, segments, adapters):
            passes.append([s.tokens for s in segments])
            return forward(segments, adapters)

    engine._loop._forward = Watched()
    answer = engine.answers([Request(LONG, None, GREEDY)])[0]
    stream.close()
    with_prompt = [tokens for tokens in passes if max(tokens) > 1]
    assert len(with_prompt) == -(-len(LONG) // 15)
    assert all(tokens[0] == 1 and sum(tokens) <= 16 for tokens in with_prompt)
    assert answer.text == Engine(bases("llama")).answers([Request(LONG, None, GREEDY)])[0].text


def test_a_full_queue_refuses_and_says_when_to_come_again(bases):
    engine = Engine(bases("llama"), max_rows=1, max_waiting=2)
    streams = [engine.stream([endless(PROMPTS[i])]) for i in range(3)]
    next(streams[0])
    others = [threading.Thread(target=lambda s=s: next(s)) for s in streams[1:]]
    for thread in others:
        thread.start()
    until(lambda: engine._loop._waiting and len(engine._loop._waiting) == 2)
    with pytest.raises(QueueFull) as caught:
        next(engine.stream([endless(PROMPTS[4])]))
    assert caught.value.retry_after_s >= 1 and engine.load.refused == 1
    streams[0].close()
    for thread in others:
        thread.join(20)
        assert not thread.is_alive(), "a row that was freed is the next one's"
    for stream in streams[1:]:
        stream.close()


def test_who_leaves_frees_the_row_and_its_blocks(bases):
    engine = Engine(bases("llama"), max_rows=2)
    blocks = engine._loop._forward.blocks
    streams = [engine.stream([endless(PROMPTS[i])]) for i in range(2)]
    for stream in streams:
        next(stream)
    assert blocks.free < blocks.count
    for stream in streams:
        stream.close()
    until(lambda: blocks.free == blocks.count and not engine._loop._running)


def test_the_thread_ends_when_there_is_nothing_to_do_and_comes_again(bases, monkeypatch):
    monkeypatch.setattr("journeyman.generate.loop.IDLE_S", 0.05)
    engine = Engine(bases("llama"))
    text = engine.answers([Request(PROMPTS[0], None, GREEDY)])[0].text
    until(lambda: engine._loop._thread is None)
    assert engine.answers([Request(PROMPTS[0], None, GREEDY)])[0].text == text


def test_a_request_that_comes_as_the_thread_gives_up_waiting_is_answered(bases):
    engine = Engine(bases("llama"))
    loop, arrived = engine._loop, SimpleQueue()
    late = [engine._row(0, Request(PROMPTS[0], None, GREEDY), arrived.put)]

    class RunsOut(threading.Condition):
        """A wait that runs out while a request is being taken in."""

        def wait(self, timeout=None):
            if late:
                loop.submit([late.pop()])
                return False
            return super().wait(timeout)

    loop._changed = RunsOut()
    engine.answers([Request(PROMPTS[1], None, GREEDY)])
    assert arrived.get(timeout=20).text is not None


def test_a_failing_pass_ends_its_rows_and_the_next_ones_are_answered(bases):
    engine = Engine(bases("llama"))
    forward = engine._loop._forward

    class Fails:
        blocks = forward.blocks
        arrange = staticmethod(forward.arrange)

        def __call__(self, segments, adapters):
            raise MemoryError("no room")

    engine._loop._forward = Fails()
    with pytest.raises(MemoryError):
        engine.answers([Request(PROMPTS[0], None, GREEDY), Request(PROMPTS[1], None, GREEDY)])
    engine._loop._forward = forward
    assert engine.answers([Request(PROMPTS[0], None, GREEDY)])[0].usage.completion_tokens > 0
    until(lambda: forward.blocks.free == forward.blocks.count)


def test_blocks_are_kept_until_they_are_needed_the_oldest_first_and_the_last_of_a_sequence_before_its_first():
    blocks = Blocks(4)
    ids = list(range(3 * BLOCK_TOKENS))
    first = blocks.begin(None, ids)
    assert blocks.extend(first, len(ids)) and not blocks.extend(blocks.begin(None, [1]), 2 * BLOCK_TOKENS)
    blocks.seal(first, ids, len(ids))
    blocks.release(first)
    assert blocks.free == 4
    assert len(blocks.begin(None, [*ids, 7]).blocks) == 3 and blocks.free == 1
    again = Blocks(4)
    held = again.begin(None, ids)
    again.extend(held, len(ids))
    again.seal(held, ids, len(ids))
    again.release(held)
    other = again.begin(None, [9])
    again.extend(other, 2 * BLOCK_TOKENS)
    assert len(again.begin(None, [*ids, 7]).blocks) == 2, "the free block and the sequence's last one were taken"
    assert not again.begin("other", [*ids, 7]).blocks


def until(holds, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_memory_that_was_touched_serves_again_before_new_memory_is_touched():
    """Or a server that is asked the same for hours would grow until it has touched its whole pool."""
    blocks = Blocks(100)
    touched = set()
    for _ in range(50):
        holding = blocks.begin(None, [1, 2, 3])
        assert blocks.extend(holding, 2 * BLOCK_TOKENS)
        touched |= set(holding.blocks)
        blocks.release(holding)
    assert len(touched) == 2


def test_what_can_be_found_again_outlives_what_can_not():
    blocks = Blocks(3)
    ids = list(range(2 * BLOCK_TOKENS))
    first = blocks.begin(None, ids)
    assert blocks.extend(first, len(ids))
    blocks.seal(first, ids, BLOCK_TOKENS)
    kept = first.blocks[0]
    blocks.release(first)
    other = blocks.begin(None, [7])
    assert blocks.extend(other, 2 * BLOCK_TOKENS)
    again = blocks.begin(None, ids)
    assert again.blocks == [kept]


def test_a_process_that_ends_in_the_middle_of_an_answer_ends_well(bases):
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from journeyman.generate.engine import Engine, Request\n"
        "from journeyman.generate.sampling import Sampling\n"
        "sampling = Sampling(max_tokens=150, temperature=1.0, logit_bias={2: -100, 4: -100})\n"
        "streams = [Engine(Path(sys.argv[1])).stream([Request(tuple(range(10, 20)), None, sampling)]) for _ in range(4)]\n"
        "for stream in streams:\n"
        "    next(stream)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, bases("llama")], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-1000:]


def test_a_request_that_comes_as_the_thread_is_about_to_end_is_answered(bases, monkeypatch):
    """It comes when the thread's time to wait is over, and before the thread has the lock again."""
    monkeypatch.setattr("journeyman.generate.loop.IDLE_S", 0.5)
    engine = Engine(bases("llama"))
    request = Request(PROMPTS[0], None, GREEDY)
    asked_before = engine.answers([request])[0].text
    pieces: SimpleQueue = SimpleQueue()
    time.sleep(0.2)  # by then the thread waits
    with engine._loop._changed:
        time.sleep(0.5)
        engine._loop.submit([engine._row(0, request, pieces.put)])
    text, piece = "", None
    while piece is None or piece.stop is None:
        piece = pieces.get(timeout=10)
        text += piece.text
    assert text == asked_before


def test_the_first_adapters_may_be_added_at_once(bases, adapters, monkeypatch):
    """One is read while the model's layers are being wrapped for the other."""

    class Slow(lora.LoraLinear):
        def __init__(self, base) -> None:
            time.sleep(0.02)
            super().__init__(base)

    monkeypatch.setattr(lora, "LoraLinear", Slow)
    engine, failed = Engine(bases("llama")), []

    def add(name: str) -> None:
        try:
            engine.add_adapter(name, adapters[name])
        except CheckpointError as error:
            failed.append(str(error))

    threads = []
    for name in adapters:
        threads.append(threading.Thread(target=add, args=(name,)))
        threads[-1].start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    assert not failed


@pytest.mark.parametrize("tokens", [[1] * 20, [1] * 9 + [70], [1, 1, 64, 32, 32, 9], [300], [1] * 3, [40, 41]])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_pass_is_shared_out_whole_in_order_and_evenly(tokens, workers):
    segments = [Segment(None, n) for n in tokens]  # type: ignore[arg-type]
    shares = _shares(segments, workers)
    assert sorted(n for share in shares for n in share) == list(range(len(tokens)))
    assert all(share == sorted(share) and share for share in shares)
    loads = [sum(tokens[n] for n in share) for share in shares]
    assert max(loads) <= max(max(tokens), -(-sum(tokens) // len(shares)) + max(tokens))
    assert len(shares) == 1 or sum(tokens) >= LEAST_TOKENS * len(shares)


def test_what_parts_say_of_tokens_goes_with_them():
    scale_NR = torch.arange(8.0).view(4, 2)
    parts = [lora.Mixed(slice(0, 4), ("a", "b"), (1, 1), scale_NR), lora.Mixed(slice(6, 9), ("c",), (1,), torch.tensor([[2.0]]))]
    moved = _moved(parts, [slice(1, 3), slice(4, 6), slice(7, 9)])
    assert [(p.tokens, p.names) for p in moved] == [(slice(0, 2), ("a", "b")), (slice(4, 6), ("c",))]
    assert torch.equal(moved[0].scale_NR, scale_NR[1:3])
    assert torch.equal(moved[1].scale_NR, parts[1].scale_NR)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2"])
def test_a_pass_that_workers_share_answers_as_one_does(bases, adapters, family):
    """Each row's own seed and adapter, prompts of several lengths in several passes: the same answers."""
    names = [None, *adapters] if family == "llama" else [None]
    rows = tiny.rows(24, seed=9, shortest=2, longest=60)
    asked = [
        Request(tuple(row.ids_T.tolist()), names[i % len(names)], Sampling(max_tokens=12, temperature=1.0, seed=i, logit_bias={2: -100}))
        for i, row in enumerate(rows)
    ]
    answers = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            engine = Engine(bases(family), max_rows=12)
        finally:
            torch.set_num_threads(1)
        for name in names[1:]:
            engine.add_adapter(name, adapters[name])
        answers.append([(a.text, a.usage) for a in engine.answers(asked)])
    assert answers[0] == answers[1]
    assert len({text for text, _ in answers[0]}) > 12


def test_text_comes_in_pieces_no_sooner_than_a_reader_sees_them(bases, monkeypatch):
    """The first token at once; what comes within PIECE_S of a piece comes with the next, and at the end with the last."""
    engine = Engine(bases("llama"))
    [request] = [replace(endless(PROMPTS[3]), sampling=replace(endless(()).sampling, max_tokens=30))]
    monkeypatch.setattr("journeyman.generate.row.PIECE_S", 0.0)
    each = [p.text for p in engine.stream([request])]
    monkeypatch.setattr("journeyman.generate.row.PIECE_S", 3600.0)
    first, last = engine.stream([request])
    assert len(each) > 10
    assert (first.text, first.text + last.text) == (each[0], "".join(each))
    assert last.usage.completion_tokens == 30


@pytest.mark.parametrize("sampling", [GREEDY, replace(GREEDY, temperature=1.0, seed=1)])
def test_a_model_whose_numbers_are_not_finite_says_so(bases, sampling):
    """NaN has an argmax, often the padding or the end: the answer would be empty, and look like one."""
    engine = Engine(bases("llama"))
    with torch.no_grad():
        engine.model.get_submodule("model.norm").weight[0] = float("nan")
    with pytest.raises(CheckpointError, match="not finite") as refused:
        engine.answers([Request(PROMPTS[0], None, sampling)])
    assert refused.value.code == "model_not_finite"


def test_an_adapter_that_overflows_fails_its_own_rows_only(bases, adapters):
    """The neighbours in the same pass are answered, as they are without it."""
    engine = Engine(bases("llama"))
    good, bad = list(adapters)[:2]
    alone = engine.answers([Request(PROMPTS[0], None, GREEDY)])[0]
    for name in (good, bad):
        engine.add_adapter(name, adapters[name])
    engine.activate(bad)
    with torch.no_grad():
        for _, layer in lora.lora_layers(engine.model):
            if layer.active in layer.lora_B:
                layer.lora_B[layer.active].fill_(float("inf"))
    arriving: dict[str | None, list[object]] = {}
    rows = []
    for name in (None, good, bad):
        arriving[name] = []
        rows.append(engine._row(0, Request(PROMPTS[0], name, GREEDY), arriving[name].append))
    engine._loop.submit(rows)
    deadline = time.monotonic() + 20
    while not all(row.done for row in rows) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert isinstance(arriving[bad][-1], CheckpointError)
    assert "".join(piece.text for piece in arriving[None]) == alone.text
    assert not any(isinstance(piece, BaseException) for piece in arriving[good])


def test_answers_are_computed_by_as_many_threads_as_the_engines_maker_has(bases):
    """A training's workers set one each, which every thread that begins later would have too."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        engine = Engine(bases("llama"))
        list(Workers(2, 2).map(lambda item: item, [1, 2, 3]))
        threads = SimpleQueue()
        engine.submit(engine.rows([Request(PROMPTS[0], None, GREEDY)], [lambda piece: threads.put(torch.get_num_threads())], [0]))
        assert threads.get(timeout=30) == 2
    finally:
        torch.set_num_threads(before)
