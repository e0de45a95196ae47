"""The plan: wishes override and say so, every problem at once, what would fit, and a file that says it all."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_rules import SHAPE

import tiny
from journeyman.errors import BaseNotFound, PlanError
from journeyman.plan import machine, memory
from journeyman.plan.plan import DataFacts, Plan, Wishes, explain, from_hyperparameters, make_plan
from journeyman.plan.shape import ModelShape
from journeyman.train.schedule import learning_rate

FACTS = DataFacts(
    rows=500, tokens=100_000, learned_tokens=30_000, longest_row_tokens=400,
    validation_rows=50, validation_tokens=10_000, truncated_rows=0,
)  # fmt: skip


def plan(facts=FACTS, shape=SHAPE, on=tiny.MACHINE, **wishes) -> Plan:
    return make_plan(
        base="b", base_hash="h", dataset_hash="d", facts=facts, shape=shape, machine=on, wishes=Wishes(**wishes)
    )


def test_the_rules_decide_where_nothing_is_wished():
    made = plan()
    assert (made.epochs.value, made.batch_size.value, made.method.value) == (3, 8, "lora")
    assert made.steps == 3 * 63
    assert made.threads.value == tiny.MACHINE.cores
    assert made.device.value == "cpu"
    assert not [name for name, choice in made.choices().items() if choice.source == "user"]
    of_a_gpu = {"compiled", "offload"}
    assert [name for name, _, _ in explain(made)] == [name for name in made.choices() if name not in of_a_gpu]


@pytest.mark.parametrize(
    ("name", "wish"),
    [("epochs", 7), ("batch_size", 5), ("learning_rate", 3e-4), ("rank", 3), ("max_tokens", 64), ("seed", 11)],
)
def test_a_wish_overrides_and_the_plan_says_what_the_rule_would_have_taken(name, wish):
    rule = getattr(plan(), name)
    choice = getattr(plan(**{name: wish}), name)
    assert (choice.value, choice.source) == (wish, "user")
    assert str(rule.value) in choice.reason
    assert rule.reason in choice.reason


def test_a_multiplier_multiplies_the_rules_learning_rate():
    made = plan(learning_rate_multiplier=0.5)
    assert made.learning_rate.value == pytest.approx(plan().learning_rate.value / 2)
    assert made.learning_rate.source == "user"


@pytest.mark.parametrize(("cpu_bf16", "precision"), [(False, "fp32"), (True, "mixed")])
def test_full_fine_tuning_keeps_fp32_weights_on_any_machine(cpu_bf16, precision):
    made = plan(on=replace(tiny.MACHINE, cpu_bf16=cpu_bf16), full=True)
    assert (made.method.value, made.precision.value) == ("full", precision)
    assert made.learning_rate.value < plan().learning_rate.value


def test_all_problems_at_once():
    with pytest.raises(PlanError) as caught:
        plan(
            facts=replace(FACTS, learned_tokens=0),
            epochs=0, batch_size=10_000, learning_rate=-1.0, rank=0, seed=-1, max_tokens=10**6,
        )  # fmt: skip
    text = str(caught.value)
    for word in ("epochs is 0", "batch_size is 10000", "learning_rate is -1", "rank is 0", "seed is -1",
                 "max_tokens is 1000000", "nothing would be learned"):  # fmt: skip
        assert word in text
    assert len(caught.value.problems) == 7


def test_wishes_that_are_no_numbers_to_compute_with_are_refused():
    for value in (float("nan"), float("inf")):
        with pytest.raises(PlanError, match="learning_rate"):
            plan(learning_rate=value)


def test_no_rows_and_nothing_learned_do_not_start():
    with pytest.raises(PlanError, match="no training rows"):
        plan(facts=replace(FACTS, rows=0, tokens=0, learned_tokens=0))
    with pytest.raises(PlanError, match="nothing would be learned"):
        plan(facts=replace(FACTS, learned_tokens=0))


def test_what_does_not_fit_names_what_would():
    small = replace(tiny.MACHINE, free_memory_bytes=1200 * 2**20)
    long = replace(FACTS, longest_row_tokens=2048)
    with pytest.raises(PlanError) as caught:
        plan(facts=long, on=small)
    assert caught.value.code == "does_not_fit"
    advice = str(caught.value)
    tokens = int(advice.partition("--max-tokens ")[2].split()[0])
    assert plan(facts=long, on=small, max_tokens=tokens).memory_bytes <= small.free_memory_bytes

    tiny_machine = replace(tiny.MACHINE, free_memory_bytes=2**20)
    with pytest.raises(PlanError, match="smaller base"):
        plan(on=tiny_machine)
    with pytest.raises(PlanError, match="leave out --full"):
        plan(on=tiny_machine, full=True)


def test_the_micro_batch_holds_the_longest_row_and_fits_the_memory():
    for free in (2 * 2**30, 4 * 2**30, 64 * 2**30):
        made = plan(on=replace(tiny.MACHINE, free_memory_bytes=free))
        assert FACTS.longest_row_tokens <= made.micro_batch_tokens.value <= 4096
        assert made.memory_bytes <= free


def test_one_micro_batch_at_a_time_where_several_would_not_fit():
    machine = replace(tiny.MACHINE, cores=8, free_memory_bytes=64 * 2**30)
    facts = replace(FACTS, tokens=FACTS.rows * 500)
    roomy = plan(facts=facts, on=machine)
    assert roomy.workers.value > 1
    alone = plan(facts=facts, on=replace(machine, cores=1))
    assert alone.memory_bytes < roomy.memory_bytes
    tight = plan(facts=facts, on=replace(machine, free_memory_bytes=int(alone.memory_bytes / 0.79)))
    assert (tight.workers.value, tight.workers.reason) == (1, "several micro-batches at a time would not fit into memory")
    assert (tight.micro_batch_tokens.value, tight.memory_bytes) == (alone.micro_batch_tokens.value, alone.memory_bytes)


def of_steps(step_tokens, **wishes):
    return make_plan(
        base="b", base_hash="", dataset_hash="", facts=FACTS, shape=SHAPE, machine=tiny.MACHINE, wishes=Wishes(**wishes),
        step_tokens=step_tokens,
    )  # fmt: skip


def test_memory_is_that_of_the_largest_step_where_a_micro_batch_would_hold_more():
    small = of_steps(lambda batch_size: [200 * batch_size] * (500 // batch_size), batch_size=2)
    assert small.micro_batch_tokens.value == plan(batch_size=2).micro_batch_tokens.value
    assert small.memory_bytes < plan(batch_size=2).memory_bytes


def test_a_shared_beginning_is_not_cut_into_small_micro_batches():
    apart = of_steps(lambda batch_size: [200 * batch_size] * (500 // batch_size), batch_size=16)
    shared = of_steps(lambda batch_size: [60 * batch_size] * (500 // batch_size), batch_size=16)
    assert apart.micro_batch_tokens.value < shared.micro_batch_tokens.value


def test_a_gpus_own_memory_counts():
    gpu = replace(tiny.MACHINE, gpu="NVIDIA H200", gpu_memory_bytes=140 * 2**30, gpu_free_bytes=130 * 2**30,
                  free_memory_bytes=2**20)  # fmt: skip
    made = plan(on=gpu)
    assert (made.device.value, made.precision.value) == ("cuda", "bf16")
    assert made.time_s < plan().time_s
    assert {"compiled", "offload"} <= {name for name, _, _ in explain(made)}


LARGE = replace(SHAPE, params=8 * 10**9, body_params=7 * 10**9, head_params=5 * 10**8, hidden=4096, layers=32, vocab=128_256,
                context_tokens=8192, lora_width=32 * 60_000, kv_width=1024, intermediate=14_336)  # fmt: skip
LONG_ROWS = replace(FACTS, rows=20_000, tokens=80_000_000, learned_tokens=20_000_000, longest_row_tokens=8192)


def on_a_gpu(free_gib: float, **wishes) -> Plan:
    gpu = replace(tiny.MACHINE, gpu="a GPU", gpu_memory_bytes=int(free_gib * 2**30), gpu_free_bytes=int(free_gib * 2**30), free_memory_bytes=2**36)
    return make_plan(base="b", base_hash="", dataset_hash="", facts=LONG_ROWS, shape=LARGE, machine=gpu, wishes=Wishes(**wishes))


def test_on_a_gpu_more_is_given_up_the_less_memory_there_is():
    roomy, recomputed, offloaded = on_a_gpu(180), on_a_gpu(48), on_a_gpu(28)
    assert [(p.recompute.value, p.offload.value) for p in (roomy, recomputed, offloaded)] == [(False, False), (True, False), (True, True)]
    assert roomy.micro_batch_tokens.value == 16_384 > recomputed.micro_batch_tokens.value
    with pytest.raises(PlanError) as error:
        on_a_gpu(16)
    assert error.value.code == "does_not_fit" and "16.0 GiB are free" in error.value.message


def test_layers_are_compiled_where_a_training_on_a_gpu_is_long():
    assert on_a_gpu(180).compiled.value
    for plain in (on_a_gpu(48), on_a_gpu(180, top_layers=4), plan(on=replace(tiny.MACHINE, gpu="a GPU", gpu_free_bytes=2**36)), plan()):
        assert not plain.compiled.value and plain.compiled.reason


def test_notes_say_what_a_reader_should_know():
    assert plan().notes == ()
    assert "3 row(s)" in plan(facts=replace(FACTS, truncated_rows=3)).notes[0]
    assert "no validation rows" in plan(facts=replace(FACTS, validation_rows=0)).notes[0]
    assert "noisy" in plan(facts=replace(FACTS, validation_rows=5)).notes[0]


@given(
    st.builds(
        Wishes,
        epochs=st.none() | st.integers(1, 50),
        batch_size=st.none() | st.integers(1, 256),
        learning_rate=st.none() | st.floats(1e-8, 1),
        rank=st.none() | st.integers(1, 128),
        full=st.booleans(),
        max_tokens=st.none() | st.integers(8, 2048),
        seed=st.none() | st.integers(0, 2**31 - 1),
    )
)
def test_a_plan_is_its_file(tmp_path_factory, wishes):
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    made = make_plan(
        base="b", base_hash="h", dataset_hash="d", facts=FACTS, shape=SHAPE, machine=tiny.MACHINE, wishes=wishes
    )
    made.write(path)
    assert Plan.read(path) == made
    assert made.steps == -(-FACTS.rows // made.batch_size.value) * made.epochs.value


def test_a_plan_of_another_format_is_refused(tmp_path):
    path = tmp_path / "plan.json"
    plan().write(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(PlanError, match="99"):
        Plan.read(path)


def test_openais_hyperparameters_are_wishes():
    assert from_hyperparameters({"n_epochs": "auto", "batch_size": 2}) == Wishes(batch_size=2)
    assert from_hyperparameters({"n_epochs": 4, "learning_rate_multiplier": 2.0}) == Wishes(
        epochs=4, learning_rate_multiplier=2.0
    )
    assert from_hyperparameters({}) == Wishes()


BASE = {"method": "lora", "rank": 16, "bytes_per_weight": 4, "micro_batch_tokens": 1024}


@given(
    st.sampled_from(["lora", "full"]),
    st.integers(1, 256),
    st.integers(1, 8192),
    st.sampled_from(["rank", "bytes_per_weight", "micro_batch_tokens", "layers", "params", "vocab"]),
)
def test_more_of_anything_never_needs_less_memory(method, rank, tokens, what):
    asked = {**BASE, "method": method, "rank": rank, "micro_batch_tokens": tokens, "bytes_per_weight": 2}
    before = memory.estimate(SHAPE, **asked).total_bytes
    if what in {f.name for f in fields(ModelShape)}:
        after = memory.estimate(replace(SHAPE, **{what: 2 * getattr(SHAPE, what)}), **asked)
    else:
        after = memory.estimate(SHAPE, **{**asked, what: 2 * asked[what]})
    assert after.total_bytes >= before


def test_memory_terms_are_what_they_say():
    lora = memory.estimate(SHAPE, **BASE)
    assert lora.weights_bytes == 4 * SHAPE.params
    assert lora.trained_bytes == 16 * 16 * SHAPE.lora_width
    full = memory.estimate(SHAPE, **{**BASE, "method": "full"})
    assert full.weights_bytes + full.trained_bytes == 16 * SHAPE.params
    assert full.total_bytes > lora.total_bytes
    parts = (getattr(lora, f.name) for f in fields(lora))
    assert lora.total_bytes == sum(parts)


@given(st.integers(1, 5000), st.integers(1, 300))
def test_the_learning_rate_is_never_zero_nor_above_its_peak(steps, warmup):
    warmup = min(warmup, steps)
    rates = [learning_rate(s, peak=1.0, warmup_steps=warmup, steps=steps) for s in (1, warmup, steps // 2 + 1, steps)]
    assert all(0 < rate <= 1 for rate in rates)


def test_this_machine_is_described_without_torch(tmp_path):
    found = machine.probe(tmp_path / "not" / "there" / "yet")
    assert found.cores >= 1
    assert 0 < found.free_memory_bytes <= found.memory_bytes
    assert found.matmul_flops_s > 1e8
    assert found.free_disk_bytes > 0


def test_a_folder_that_is_no_model_says_what_is_missing(tmp_path):
    with pytest.raises(BaseNotFound, match=r"config\.json"):
        ModelShape.read(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(BaseNotFound, match="safetensors") as caught:
        ModelShape.read(tmp_path)
    assert "Pickled" in caught.value.fix
