"""Rows in lanes: each in one, the first ones taken, kept where it can be; and answers as without any."""

from __future__ import annotations

import random

import pytest

import tiny
from journeyman.generate import lanes as lanes_module
from journeyman.generate.blocks import BLOCK_TOKENS
from journeyman.generate.engine import Engine, Request
from journeyman.generate.lanes import Lanes
from journeyman.generate.parts import Gathered, InLanes
from journeyman.generate.row import Segment
from journeyman.generate.sampling import Sampling


class Written:
    """As much of a row as lanes look at."""

    def __init__(self, computed: int) -> None:
        self.computed = computed


def test_rows_fill_the_first_lanes_of_their_size_and_are_copied_only_when_they_come_or_move():
    lanes, source = Lanes(64, token_bytes=1024), random.Random(0)
    rows = [Written(source.randrange(1, 900)) for _ in range(20)]
    there = {}
    for _ in range(200):
        for row in source.sample(rows, source.randrange(3)):  # some end, and others come
            rows[rows.index(row)] = Written(source.randrange(1, 900))
        rows = rows[: source.randrange(10, 21)] + [Written(source.randrange(1, 900)) for _ in range(source.randrange(3))]
        absent = source.choice([None, *rows])  # one has no room for its next token, this time
        ordered = lanes.arrange([Segment(row, 1) for row in rows if row is not absent])
        assert len(ordered) == len(rows) - (absent is not None)
        taken = {}
        for segment in ordered:
            lane = lanes.lane_of(segment)
            assert segment.row.computed < lane.blocks * BLOCK_TOKENS and lane.tokens == segment.row.computed + 1
            taken.setdefault(lane.blocks, []).append(lane.number)
            key = (lane.blocks, lane.number)
            known = there.get(key) == (segment.row, segment.row.computed)
            assert lane.fresh or known, "a row that is not copied has all of its tokens in its lane"
            there[key] = segment.row, segment.row.computed + 1
            segment.row.computed += 1
        assert all(numbers == list(range(len(numbers))) for numbers in taken.values())
        assert list(taken) == sorted(taken)


def test_who_stays_keeps_the_lane():
    lanes, rows = Lanes(64, token_bytes=1024), [Written(40) for _ in range(5)]
    lanes.arrange([Segment(row, 1) for row in rows])
    for row in rows:
        row.computed += 1
    staying = [rows[0], rows[4], rows[2]]
    fresh = {step.row: lanes.lane_of(step).fresh for step in lanes.arrange([Segment(row, 1) for row in staying])}
    assert fresh == {rows[0]: False, rows[2]: False, rows[4]: True}, "the last one moves into the gap, no other"


def test_rows_too_long_for_the_room_have_none_and_come_last():
    lanes = Lanes(64, token_bytes=lanes_module.LANES_BYTES // 64 // 64)  # 64 tokens each
    rows = [Written(200), Written(10), Written(63), Written(64), Written(100)]
    ordered = lanes.arrange([Segment(row, 1) for row in rows])
    assert [s.row.computed for s in ordered] == [10, 63, 64, 100, 200]
    assert [lanes.lane_of(s) is not None for s in ordered] == [True, True, False, False, False]


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3"])
def test_rows_in_lanes_answer_as_gathered_ones(bases, monkeypatch, family):
    """Windows of 8 tokens included; rows that come and go, and grow out of their lanes."""
    rows = tiny.rows(20, seed=9, shortest=2, longest=60)
    asked = [
        Request(tuple(row.ids_T.tolist()), None, Sampling(max_tokens=10 + 5 * (i % 12), temperature=1.0, seed=i, logit_bias={2: -100}))
        for i, row in enumerate(rows)
    ]
    kinds, answers = [], []
    for room in (lanes_module.LANES_BYTES, 0):
        monkeypatch.setattr(lanes_module, "LANES_BYTES", room)
        seen = set()
        for kind in (InLanes, Gathered):
            attend = kind.attend
            monkeypatch.setattr(kind, "attend", lambda self, *a, attend=attend, seen=seen: (seen.add(type(self)), attend(self, *a))[1])
        answers.append([(a.text, a.usage) for a in Engine(bases(family), max_rows=6).answers(asked)])
        kinds.append(seen)
        monkeypatch.undo()
    assert kinds == [{InLanes}, {Gathered}]
    assert answers[0] == answers[1]
    assert len({text for text, _ in answers[0]}) > 12
