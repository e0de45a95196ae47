"""What a training writes down about each row."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

import pytest

import tiny
from journeyman.records import Place
from journeyman.text.encode import Encoded
from journeyman.train import loop
from journeyman.train.load import load_base

ROWS = [Encoded(row.ids_T, row.weights_T, Place("rows.jsonl", line)) for line, row in enumerate(tiny.rows(22), 1)]


def read(folder):
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def test_the_record_is_what_the_steps_were_made_of(bases, tmp_path):
    plan = tiny.plan_for(bases("llama"), ROWS, batch_size=4, epochs=3, learning_rate=1e-2)
    run = tiny.train(bases("llama"), plan, ROWS, (), tmp_path)
    lines = read(tmp_path)
    assert Counter((line["place"]["line"], line["epoch"]) for line in lines) == {(n, e): 1 for n in range(1, 23) for e in (1, 2, 3)}
    sums = defaultdict(float)
    for line in lines:
        sums[line["epoch"]] += line["loss"] * line["tokens"]
    for epoch in (1, 2, 3):
        steps = [e for e in run.of("step") if e["epoch"] == epoch]
        assert sums[epoch] == pytest.approx(sum(e["train_loss"] * e["learned_tokens"] for e in steps), rel=1e-4)
    alone = tiny.train(bases("llama"), tiny.plan_for(bases("llama"), ROWS[:1], epochs=1), ROWS[:1], (), tmp_path / "alone")
    assert read(tmp_path / "alone")[0]["loss"] == pytest.approx(alone.losses[0], abs=1e-5)


def test_a_death_leaves_neither_gap_nor_repetition(bases, tmp_path):
    base = bases("llama")
    plan = tiny.plan_for(base, ROWS, batch_size=4, epochs=3, learning_rate=1e-2)
    tiny.train(base, plan, ROWS, (), tmp_path / "straight")
    model = load_base(base)
    loop.prepare(model, plan)

    def die(event):
        if event["type"] == "step" and event["step"] == 11:
            raise KeyboardInterrupt

    died = tmp_path / "died"
    with pytest.raises(KeyboardInterrupt):
        loop.train(plan, model, ROWS, (), died, on_event=die)
    # What a step past the checkpoint may have left behind, its last line torn.
    with (died / "rows.jsonl").open("a") as file:
        file.write('{"place": {"file": "rows.jsonl", "line": 1}, "epoch": 2, "loss": 9.0, "tokens": 1}\n{"place')
    tiny.train(base, plan, ROWS, (), died)
    assert (died / "rows.jsonl").read_bytes() == (tmp_path / "straight" / "rows.jsonl").read_bytes()


def test_a_record_that_lacks_rows_is_not_continued(bases, tmp_path):
    base = bases("llama")
    plan = tiny.plan_for(base, ROWS, batch_size=4, epochs=2)
    tiny.train(base, plan, ROWS, (), tmp_path, stop_at=4)
    first = (tmp_path / "rows.jsonl").read_bytes().splitlines(keepends=True)[0]
    (tmp_path / "rows.jsonl").write_bytes(first)
    tiny.train(base, plan, ROWS, (), tmp_path)
    assert (tmp_path / "rows.jsonl").read_bytes() == first
