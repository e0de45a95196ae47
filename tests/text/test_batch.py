"""Batches: every row once an epoch, an order of seed and epoch alone, no token lost between rows and tensors."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import tiny
from journeyman.records import Place
from journeyman.text.batch import epoch_steps, micro_batches, pad
from journeyman.text.encode import Encoded

COUNTS = st.integers(1, 200)
SIZES = st.integers(1, 40)


@st.composite
def some_rows(draw) -> list[Encoded]:
    out = []
    for line, length in enumerate(draw(st.lists(st.integers(1, 30), min_size=1, max_size=12))):
        weights = draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=length, max_size=length))
        ids = np.arange(100 * line + 1, 100 * line + 1 + length, dtype=np.int32)
        out.append(Encoded(ids, np.array(weights, np.float32), Place("rows.jsonl", line + 1)))
    return out


@given(rows=COUNTS, size=SIZES, seed=st.integers(0, 2**31 - 1), epoch=st.integers(0, 50))
def test_each_row_exactly_once_an_epoch(rows, size, seed, epoch):
    steps = epoch_steps(rows, size, seed=seed, epoch=epoch)
    assert Counter(i for step in steps for i in step) == Counter(range(rows))
    assert len(steps) == -(-rows // size)
    assert all(len(step) == size for step in steps[:-1])
    assert steps == epoch_steps(rows, size, seed=seed, epoch=epoch)


def test_the_order_follows_seed_and_epoch_and_not_the_batch_size():
    def order(size: int, seed: int, epoch: int) -> list[int]:
        return [i for step in epoch_steps(60, size, seed=seed, epoch=epoch) for i in step]

    assert order(4, 0, 0) == order(7, 0, 0)
    assert len({tuple(order(4, seed, epoch)) for seed in range(4) for epoch in range(4)}) == 16


@given(rows=some_rows(), limit=st.integers(1, 120))
def test_micro_batches_lose_nothing_and_respect_the_limit(rows, limit):
    micros = micro_batches(rows, limit)
    for micro in micros:
        assert micro.ids_BT.size <= limit or len(micro.ids_BT) == 1
    assert sum(float(m.weights_BT.sum()) for m in micros) == sum(float(r.weights_T.sum()) for r in rows)
    learned = sum(int(np.count_nonzero(m.weights_BT[:, 1:])) for m in micros)
    assert learned == sum(r.learned_tokens for r in rows)
    back = [
        (ids[:n].tolist(), weights[:n].tolist())
        for m in micros
        for ids, weights, n in zip(m.ids_BT, m.weights_BT, m.lengths_B, strict=True)
    ]
    assert sorted(back) == sorted((r.ids_T.tolist(), r.weights_T.tolist()) for r in rows)


@given(rows=some_rows())
def test_padding_is_on_the_right_and_weighs_nothing(rows):
    micro = pad(rows)
    assert micro.ids_BT.shape == (len(rows), max(map(len, rows)))
    for ids, weights, row in zip(micro.ids_BT, micro.weights_BT, rows, strict=True):
        assert ids[: len(row)].tolist() == row.ids_T.tolist()
        assert not weights[len(row) :].any()


def test_rows_of_like_length_travel_together():
    """Padding costs less than a seventh where short lengths are spread evenly, and there are few different widths."""
    rows = tiny.rows(200, shortest=4, longest=60)
    micros = micro_batches(rows, 512)
    padded, real = sum(m.ids_BT.size for m in micros), sum(map(len, rows))
    assert padded < 1.15 * real
    assert {m.ids_BT.shape[1] % 8 for m in micros} == {1}


def test_no_micro_batch_is_wider_than_the_context():
    """A model with learned positions has none beyond its context."""
    rows = tiny.rows(3, shortest=21, longest=21)
    assert [m.ids_BT.shape[1] for m in micro_batches(rows, 512, context_tokens=21)] == [22]
    assert [m.ids_BT.shape[1] for m in micro_batches(rows, 512)] == [25]
