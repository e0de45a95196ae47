"""Each hyperparameter's rule, on machines and models written by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from journeyman.plan import rules
from journeyman.plan.shape import ModelShape

SHAPE = ModelShape(
    kind="llama", params=100_000_000, weight_bytes=200_000_000, body_params=80_000_000, head_params=20_000_000,
    lora_width=200_000, layers=12, hidden=768, intermediate=2048, kv_width=256, vocab=32_000, context_tokens=2048,
)  # fmt: skip


def openai_epochs(n: int) -> int:
    """Chat_finetuning_data_prep in OpenAI's cookbook, as it stands there."""
    epochs = 3
    if n * 3 < 100:
        epochs = min(25, 100 // n)
    elif n * 3 > 25_000:
        epochs = max(1, 25_000 // n)
    return epochs


@given(st.integers(1, 200_000))
def test_epochs_are_openais_auto(rows):
    assert rules.epochs(rows).value == openai_epochs(rows)


@pytest.mark.parametrize(("rows", "value"), [(1, 25), (4, 25), (10, 10), (33, 3), (34, 3), (101, 3), (8333, 3), (8334, 2), (30_000, 1)])
def test_epochs_at_the_borders(rows, value):
    choice = rules.epochs(rows)
    assert choice.value == value
    assert f"{rows:,}" in choice.reason


@given(st.integers(1, 100_000), st.integers(1, 50))
def test_batch_size_leaves_enough_steps(rows, passes):
    value = rules.batch_size(rows, passes).value
    assert value in (1, 2, 4, 8, 16)
    assert value == 1 or rows * passes // value >= 150
    assert value == 16 or rows * passes // (2 * value) < 150


@pytest.mark.parametrize(("rows", "value"), [(10, 1), (100, 2), (200, 4), (500, 8), (5000, 16)])
def test_batch_size_of_usual_sets(rows, value):
    assert rules.batch_size(rows, 3).value == value


def test_learning_rate_falls_with_width_and_lora_takes_ten_times_as_much():
    widths = (256, 768, 2048, 8192)
    values = [rules.learning_rate(replace(SHAPE, hidden=h), "lora").value for h in widths]
    assert values == sorted(values, reverse=True)
    for width, value in zip(widths, values, strict=True):
        full = rules.learning_rate(replace(SHAPE, hidden=width), "full").value
        assert value == pytest.approx(10 * full, rel=0.05)
    assert rules.learning_rate(replace(SHAPE, hidden=2000), "full").value == pytest.approx(5e-5)
    assert rules.learning_rate(replace(SHAPE, hidden=1000), "full").value == pytest.approx(5e-5 * 2**0.781, rel=0.05)


def test_a_narrow_model_learns_three_times_as_fast():
    narrow, wide = (rules.learning_rate(replace(SHAPE, hidden=h), "full") for h in (511, 512))
    assert narrow.value == pytest.approx(3 * wide.value, rel=0.05)
    assert "three times" in narrow.reason and "sweep" in narrow.source
    assert "three times" not in wide.reason and "sweep" not in wide.source


@pytest.mark.parametrize(
    ("learned", "value"), [(1_000, 16), (6_400_000, 16), (6_400_002, 32), (12_800_002, 64), (10**10, 64)]
)
def test_rank_grows_with_what_there_is_to_learn(learned, value):
    choice = rules.rank(SHAPE, learned)
    assert choice.value == value
    assert f"{value * SHAPE.lora_width:,}" in choice.reason


def test_precision_is_what_the_hardware_multiplies():
    assert rules.precision(tiny.MACHINE, "lora").value == "fp32"
    assert rules.precision(replace(tiny.MACHINE, cpu_bf16=True), "lora").value == "bf16"
    on_gpu = rules.precision(replace(tiny.MACHINE, gpu="NVIDIA H200"), "lora")
    assert on_gpu.value == "bf16"
    assert "NVIDIA H200" in on_gpu.reason


def test_length_is_that_of_the_longest_row_within_the_context():
    assert rules.max_tokens(300, SHAPE).value == 300
    assert rules.max_tokens(2048, SHAPE).value == 2048
    cut = rules.max_tokens(3000, SHAPE)
    assert cut.value == 2048
    assert "3,000" in cut.reason


@given(st.integers(1, 10_000))
def test_warm_up_and_validation_schedule(steps):
    assert 1 <= rules.warmup_steps(steps).value <= max(1, 0.05 * steps + 0.5)
    every = rules.evaluate_every(steps).value
    assert 1 <= every <= steps
    assert steps / every <= 2


def test_every_rule_gives_a_reason_and_a_source():
    choices = [
        rules.epochs(100), rules.batch_size(100, 3), rules.learning_rate(SHAPE, "lora"), rules.rank(SHAPE, 100),
        rules.precision(tiny.MACHINE, "full"), rules.max_tokens(100, SHAPE), rules.evaluate_every(10), rules.warmup_steps(10),
    ]  # fmt: skip
    assert all(len(c.reason) > 10 and c.source for c in choices)
