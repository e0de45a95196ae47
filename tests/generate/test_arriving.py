"""Pieces on their way to a reader: in their order, all of them, and the end told once, whenever they are handed on."""

from __future__ import annotations

import gc
import threading

import pytest

import tiny
from journeyman.errors import QueueFull
from journeyman.generate.arriving import Arriving
from journeyman.generate.engine import Engine, Request
from journeyman.generate.row import Piece
from journeyman.generate.sampling import Sampling

PROMPTS = [tuple(row.ids_T.tolist()) for row in tiny.rows(9, seed=3, shortest=2, longest=30)]
PIECES = [Piece(0, "a"), Piece(1, "b"), Piece(0, "c", "end"), Piece(1, "d"), Piece(1, "", "length")]


class Reader:
    """What is handed on, and how it ended."""

    def __init__(self) -> None:
        self.got: list[Piece] = []
        self.ends: list[BaseException | None] = []
        self.over = threading.Event()

    def ended(self, error: BaseException | None) -> None:
        self.ends.append(error)
        self.over.set()


@pytest.mark.parametrize("read", range(6))
@pytest.mark.parametrize("before", range(6))
def test_whatever_came_and_was_read_before_each_piece_comes_once(read, before):
    """`before` pieces are there when it is handed on, of which some were read."""
    sinks, left, reader = [], [], Reader()
    arriving = Arriving(2, lambda sink: sinks.append(sink) or ["row"], left.append)
    read = min(read, before)
    pieces = iter(PIECES)
    first = []
    if read or before:
        arriving._started()
        for piece in PIECES[:before]:
            next(pieces)
            sinks[0](piece)
        first = [next(arriving) for _ in range(read)]
    if read == len(PIECES):
        with pytest.raises(StopIteration):
            next(arriving)
        return
    arriving.hand_on(reader.got.append, reader.ended)
    for piece in pieces:
        sinks[0](piece)
    assert first + reader.got == PIECES
    assert reader.ends == [None]
    sinks[0](Piece(0, "late"))
    assert first + reader.got == PIECES


@pytest.mark.parametrize("handed_on", [False, True])
def test_an_error_is_the_end(handed_on):
    sinks, left, reader = [], [], Reader()
    arriving = Arriving(2, lambda sink: sinks.append(sink) or ["row"], left.append)
    if handed_on:
        arriving.hand_on(reader.got.append, reader.ended)
    else:
        arriving._started()
    error = ValueError("no")
    for item in (PIECES[0], error, PIECES[1]):
        sinks[0](item)
    if handed_on:
        assert (reader.got, reader.ends) == ([PIECES[0]], [error])
        return
    assert next(arriving) == PIECES[0]
    with pytest.raises(ValueError, match="no"):
        next(arriving)
    assert left == [["row"]]
    with pytest.raises(StopIteration):
        next(arriving)


def test_nothing_is_asked_before_the_first_is_read_and_a_refusal_is_raised_there():
    def refuse(_):
        raise QueueFull(1, 1)

    for take in (next, lambda one: one.hand_on(print, print)):
        with pytest.raises(QueueFull):
            take(Arriving(1, refuse, print))


@pytest.mark.parametrize("how", ["close", "let go"])
def test_who_closes_it_or_lets_it_go_frees_the_engine(bases, how):
    engine, reader = Engine(bases("llama")), Reader()
    stream = engine.stream([Request(PROMPTS[0], None, Sampling(max_tokens=1000, temperature=1.0, seed=1, logit_bias={2: -100, 4: -100}))])
    stream.hand_on(reader.got.append, reader.ended)
    if how == "close":
        stream.close()
        assert not reader.over.wait(0.2), "who closes it needs not be told"
    del stream
    gc.collect()
    assert engine.answers([Request(PROMPTS[1], None, Sampling(max_tokens=4))])[0].usage.completion_tokens == 4
    assert engine.load.running <= 1


def test_an_engine_hands_on_what_it_would_have_been_read_of(bases):
    engine, reader = Engine(bases("llama")), Reader()
    asked = [Request(prompt, None, Sampling(max_tokens=12)) for prompt in PROMPTS]
    stream = engine.stream(asked)
    stream.hand_on(reader.got.append, reader.ended)
    assert reader.over.wait(60)
    texts = ["".join(p.text for p in reader.got if p.index == i) for i in range(len(asked))]
    assert texts == [answer.text for answer in engine.answers(asked)]
