"""Micro-batches side by side: the same bytes as one after the other, whoever ends first."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tiny
from journeyman.plan import rules
from journeyman.records import Choice
from journeyman.train import loop
from journeyman.train.load import load_base
from journeyman.train.workers import Workers, in_passing

ROWS, VALIDATION = tiny.rows(17), tiny.rows(5, seed=9)
WAYS = {
    "packed": {},
    "padded": {"layout": Choice("padded", "", "")},
    "recomputed": {"recompute": Choice(True, "", "")},
}


def trained(base, plan, folder):
    """Losses of all steps and validations, and the last checkpoint's weights."""
    run = tiny.train(base, plan, ROWS, VALIDATION, folder)
    (weights,) = (f for f in run.outcome.best.glob("*.safetensors") if f.name in ("adapter_model.safetensors", "model.safetensors"))
    return run.losses, [e["valid_loss"] for e in run.of("validation")], load_file(weights)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_same_bytes_as_one_after_the_other(bases, tmp_path, monkeypatch, family, full, way):
    plan = tiny.plan_for(bases(family), ROWS, VALIDATION, batch_size=9, full=full, learning_rate=1e-3)
    if way == "packed" and plan.layout.value != "packed":
        pytest.skip(f"{family} is padded")
    wish = Choice(3, "", "")
    plan = replace(plan, workers=wish, threads=wish, micro_batch_tokens=Choice(120, "", ""), **WAYS[way])
    beside = trained(bases(family), plan, tmp_path / "beside")
    monkeypatch.setattr(loop, "Workers", lambda count, threads: Workers(1, threads))
    in_turn = trained(bases(family), replace(plan, threads=Choice(1, "", "")), tmp_path / "in_turn")
    assert beside[:2] == in_turn[:2]
    assert beside[2].keys() == in_turn[2].keys()
    assert all(torch.equal(beside[2][name], in_turn[2][name]) for name in in_turn[2])


def test_the_same_bytes_with_adapters_on_the_last_layer_only(bases, tmp_path, monkeypatch):
    plan = tiny.plan_for(bases("llama"), ROWS, VALIDATION, batch_size=9, top_layers=1)
    plan = replace(plan, workers=Choice(2, "", ""), threads=Choice(2, "", ""), micro_batch_tokens=Choice(120, "", ""))
    beside = trained(bases("llama"), plan, tmp_path / "beside")
    monkeypatch.setattr(loop, "Workers", lambda count, threads: Workers(1, threads))
    in_turn = trained(bases("llama"), replace(plan, threads=Choice(1, "", "")), tmp_path / "in_turn")
    assert beside[:2] == in_turn[:2]
    assert all(torch.equal(beside[2][name], in_turn[2][name]) for name in in_turn[2])


def test_what_a_micro_batch_leaves_behind_does_not_lie_between_the_activations(bases, tmp_path, monkeypatch):
    left = []
    given = Workers.map

    def looked_at(self, function, items):
        for result in given(self, function, items):
            left.append(result)
            yield result

    monkeypatch.setattr(Workers, "map", looked_at)
    plan = tiny.plan_for(bases("llama"), ROWS, [], batch_size=9, learning_rate=1e-3)
    tiny.train(bases("llama"), replace(plan, workers=Choice(2, "", "")), ROWS, [], tmp_path)
    assert left
    for loss, gradients in left:
        assert loss.sum.grad_fn is None, "a loss that knows how it came about keeps the graph alive"
        assert len({gradient.untyped_storage().data_ptr() for gradient in gradients if gradient is not None}) == 1


def test_results_come_in_order_and_few_are_begun_ahead():
    begun, release = [], threading.Event()

    def work(number):
        begun.append(number)
        if number == 0:
            release.wait(10)
        elif number == 2:
            release.set()
        return number

    results = Workers(3, 3).map(work, range(7))
    assert next(results) == 0 and max(begun) <= 3
    assert list(results) == [1, 2, 3, 4, 5, 6]


def test_an_error_is_raised_in_the_place_of_its_result():
    def work(number):
        if number == 1:
            raise ValueError("the second one")
        return number

    for count in (1, 2):
        results = Workers(count, 2).map(work, range(3))
        assert next(results) == 0
        with pytest.raises(ValueError, match="the second one"):
            next(results)


def test_a_model_that_changes_its_frequencies_by_length_is_computed_in_turn(bases):
    plan = replace(tiny.plan_for(bases("llama"), ROWS), workers=Choice(4, "", ""))
    model = load_base(bases("llama"))
    assert loop._workers(model, plan).count == 4
    model.config.rope_parameters = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    assert loop._workers(model, plan).count == 1


@pytest.mark.parametrize(("cores", "step_tokens", "gpu", "count"), [(2, 2000, None, 2), (16, 300, None, 4), (8, 100, None, 1), (8, 9000, "a GPU", 1)])
def test_how_many_workers(cores, step_tokens, gpu, count):
    choice = rules.workers(replace(tiny.MACHINE, cores=cores, gpu=gpu), step_tokens)
    assert choice.value == count and choice.reason


@pytest.fixture
def two_threads():
    """Two threads a product, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in Linux's /proc")
def test_what_is_computed_in_passing_leaves_no_threads(two_threads):
    def threads():
        return set(Path("/proc/self/task").iterdir())

    def computed():
        torch.ones(2_000_000).mul(2)
        return threads()

    before = threads()
    assert len(in_passing(computed) - before) >= 2  # the one that computes, and one that helps it
    deadline = time.monotonic() + 10
    while threads() - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not threads() - before


def test_in_passing_has_the_threads_of_its_caller_whatever_workers_have(two_threads):
    list(Workers(2, 2).map(lambda item: item, [1, 2, 3]))
    assert in_passing(torch.get_num_threads) == 2
    with pytest.raises(ZeroDivisionError):
        in_passing(lambda: 1 // 0)
