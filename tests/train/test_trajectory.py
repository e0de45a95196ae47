"""Equal by mathematics, step by step: however a step is cut, padded or interrupted, the run is the same run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import tiny
from journeyman.files import hash_file
from journeyman.records import Choice, Place
from journeyman.text.batch import pad
from journeyman.text.encode import Encoded
from journeyman.train import checkpoint, loop
from journeyman.train.load import load_base
from journeyman.train.loss import token_loss

ROWS = tiny.rows(22)
VALIDATION = tiny.rows(6, seed=5)


def with_micro_batch(plan, tokens: int):
    return replace(plan, micro_batch_tokens=Choice(tokens, "a test's wish", "user"))


@pytest.mark.parametrize("full", [False, True], ids=["lora", "full"])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
def test_one_row_at_a_time_is_batched_is_accumulated(bases, tmp_path, family, full):
    """Micro-batches of one row, of a few rows, and of the whole step follow the same path."""
    rate = 1e-3 if full else 1e-2
    plan = tiny.plan_for(bases(family), ROWS, batch_size=8, epochs=3, full=full, learning_rate=rate)
    runs = {
        tokens: tiny.train(bases(family), with_micro_batch(plan, tokens), ROWS, (), tmp_path / str(tokens))
        for tokens in (1, 60, 4096)
    }
    whole = runs[4096]
    assert whole.losses[-1] < whole.losses[0]
    for tokens in (1, 60):
        other = runs[tokens]
        residuals = np.array(whole.losses) - np.array(other.losses)
        norms = np.array([e["gradient_norm"] for e in whole.of("step")])
        others = np.array([e["gradient_norm"] for e in other.of("step")])
        assert np.abs(residuals).max() < 2e-4, f"largest difference in the loss {np.abs(residuals).max():.3g}"
        assert abs(residuals.mean()) < 5e-5, f"mean residual {residuals.mean():.3g}"
        assert np.abs(norms / others - 1).max() < 2e-3
        accuracy = "train_mean_token_accuracy"
        assert [e[accuracy] for e in whole.of("step")] == pytest.approx([e[accuracy] for e in other.of("step")], abs=0.02)
    first = whole.of("step")[0]["train_loss"]
    assert runs[1].of("step")[0]["train_loss"] == pytest.approx(first, rel=1e-6)


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "gpt_neox"])
def test_padding_changes_neither_loss_nor_gradient(bases, family):
    model = load_base(bases(family))
    parameters = list(model.parameters())

    def measure(ids: np.ndarray, weights: np.ndarray) -> tuple[float, list[torch.Tensor]]:
        loss, *_ = token_loss(model, torch.from_numpy(ids), torch.from_numpy(weights))
        return loss.item(), [g for g in torch.autograd.grad(loss, parameters, allow_unused=True) if g is not None]

    micro = pad(ROWS[:4])
    wide = ((0, 0), (0, 40))
    loss, gradients = measure(micro.ids_BT, micro.weights_BT)
    padded_loss, padded = measure(
        np.pad(micro.ids_BT, wide, constant_values=7), np.pad(micro.weights_BT, wide)
    )
    assert padded_loss == pytest.approx(loss, rel=1e-6)
    for one, two in zip(gradients, padded, strict=True):
        assert float((one - two).abs().max()) < 1e-4 * max(1.0, float(one.abs().max()))


def test_a_learned_token_counts_the_same_in_a_short_row_and_a_long_one(bases):
    """One division by the step's learned tokens: the mean is over tokens, never over rows or micro-batches."""
    model = load_base(bases("llama"))
    short, long = tiny.rows(1, shortest=6, longest=6)[0], tiny.rows(1, seed=2, shortest=40, longest=40)[0]
    sums, counts = zip(
        *((float(s), n) for s, n, *_ in (token_loss(model, *_tensors([row])) for row in (short, long))), strict=True
    )
    both, learned, *_ = token_loss(model, *_tensors([short, long]))
    assert learned == sum(counts) == 3 + 20
    assert float(both) == pytest.approx(sum(sums), rel=1e-6)


def _tensors(rows):
    micro = pad(rows)
    return torch.from_numpy(micro.ids_BT), torch.from_numpy(micro.weights_BT)


def digests(folder: Path) -> dict[str, str]:
    """Every file of every checkpoint that is left."""
    return {
        str(file.relative_to(folder)): hash_file(file)
        for path in checkpoint.all_checkpoints(folder / "checkpoints")
        for file in sorted(path.iterdir())
    }


# 22 rows in batches of 4 are 6 steps an epoch: validation after 3, 6, 9, …; a checkpoint of its own at 5, 10, …
STOPS = {
    "after the first step": (1,),
    "in mid-epoch": (4,),
    "right after a validation": (3,),
    "at an epoch's end": (6,),
    "one step before the end": (17,),
    "many times": (2, 3, 5, 8, 12, 13),
}


def resumable(base: Path, full: bool):
    plan = tiny.plan_for(base, ROWS, VALIDATION, epochs=3, full=full, learning_rate=1e-3 if full else 1e-2)
    every, patience = Choice(5, "a test's wish", "user"), Choice(99, "a test's wish", "user")
    return replace(plan, checkpoint_every=every, patience=patience)


@pytest.mark.parametrize("full", [False, True], ids=["lora", "full"])
def test_a_resumed_run_ends_with_the_same_bytes(bases, tmp_path, full):
    base = bases("qwen2")
    plan = resumable(base, full)
    straight = tiny.train(base, plan, ROWS, VALIDATION, tmp_path / "straight")
    assert straight.outcome.step == plan.steps == 18
    wanted = digests(tmp_path / "straight")
    assert any(name.endswith("optimizer.safetensors") for name in wanted)
    for name, stops in STOPS.items():
        folder = tmp_path / name
        for stop in stops:
            paused = tiny.train(base, plan, ROWS, VALIDATION, folder, stop_at=stop)
            assert (paused.outcome.status, paused.outcome.step) == ("paused", stop)
        resumed = tiny.train(base, plan, ROWS, VALIDATION, folder)
        assert resumed.of("resumed")[0]["step"] == stops[-1]
        assert resumed.losses == straight.losses[stops[-1] :], name
        assert digests(folder) == wanted, name
        assert resumed.outcome.best.name == straight.outcome.best.name
        assert resumed.outcome.trained_tokens == straight.outcome.trained_tokens


def test_a_crash_between_checkpoints_costs_only_the_steps_since_the_last(bases, tmp_path):
    """A process that dies writes nothing more: here an exception out of `on_event`, in the middle of a step."""
    base = bases("llama")
    plan = resumable(base, full=False)
    tiny.train(base, plan, ROWS, VALIDATION, tmp_path / "straight")

    model = load_base(base)
    loop.prepare(model, plan)

    def die(event):
        if event["type"] == "step" and event["step"] == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.train(plan, model, ROWS, VALIDATION, tmp_path / "died", on_event=die)
    resumed = tiny.train(base, plan, ROWS, VALIDATION, tmp_path / "died")
    assert 5 <= resumed.of("resumed")[0]["step"] < 8
    assert digests(tmp_path / "died") == digests(tmp_path / "straight")


def test_what_is_resumed_lies_where_the_weights_do(bases, tmp_path):
    """The count of steps as well: fused AdamW reads it on the weights' device. Here that is torch's "meta"."""
    plan = resumable(bases("llama"), full=False)
    tiny.train(bases("llama"), plan, ROWS, VALIDATION, tmp_path, stop_at=5)
    model = load_base(bases("llama"))
    loop.prepare(model, plan)
    model.to("meta")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    checkpoint.resume(checkpoint.latest(tmp_path / "checkpoints"), model, optimizer)
    assert optimizer.state
    assert {value.device.type for state in optimizer.state.values() for value in state.values()} == {"meta"}


def test_a_damaged_checkpoint_is_passed_over(bases, tmp_path):
    base = bases("llama")
    plan = resumable(base, full=False)
    straight = tiny.train(base, plan, ROWS, VALIDATION, tmp_path / "straight")
    wanted = digests(tmp_path / "straight")
    tiny.train(base, plan, ROWS, VALIDATION, tmp_path / "damaged", stop_at=13)
    newest = checkpoint.all_checkpoints(tmp_path / "damaged" / "checkpoints")[-1]
    file = newest / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    (tmp_path / "damaged" / "checkpoints" / ".step-000014.tmp").mkdir()
    resumed = tiny.train(base, plan, ROWS, VALIDATION, tmp_path / "damaged")
    assert resumed.of("resumed")[0]["step"] < 13
    assert digests(tmp_path / "damaged") == wanted
    assert resumed.losses[-1] == straight.losses[-1]


def test_a_finished_run_that_is_run_again_trains_nothing(bases, tmp_path):
    base = bases("llama")
    plan = resumable(base, full=False)
    first = tiny.train(base, plan, ROWS, VALIDATION, tmp_path)
    before = digests(tmp_path)
    again = tiny.train(base, plan, ROWS, VALIDATION, tmp_path)
    assert again.losses == []
    assert again.outcome == first.outcome
    assert digests(tmp_path) == before


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(bases, tmp_path):
    base = bases("llama")

    def weights(name: str, seed: int) -> str:
        plan = tiny.plan_for(base, ROWS, seed=seed)
        return hash_file(tiny.train(base, plan, ROWS, (), tmp_path / name).outcome.best / "adapter_model.safetensors")

    assert weights("a", 0) == weights("b", 0) != weights("c", 1)


def test_early_stop_keeps_the_best(bases, tmp_path):
    """Rows of noise, learned by heart: validation gets worse, the run ends early and hands back the best step."""
    base = bases("llama")
    plan = tiny.plan_for(base, ROWS, VALIDATION, epochs=40, learning_rate=5e-2)
    run = tiny.train(base, plan, ROWS, VALIDATION, tmp_path)
    by_step = {e["step"]: e["valid_loss"] for e in run.of("validation")}
    best_step = min(by_step, key=lambda step: by_step[step])
    assert run.outcome.step < plan.steps
    assert run.of("early_stop")[0]["best_step"] == run.outcome.best_step == best_step
    assert run.outcome.best_loss == by_step[best_step]
    assert list(by_step)[-1] == run.outcome.step
    assert list(by_step).index(best_step) == len(by_step) - 1 - plan.patience.value
    assert run.outcome.best.name == f"step-{best_step:06d}"

    model = load_base(base)
    loop.prepare(model, plan)
    checkpoint.read_weights(model, run.outcome.best)
    assert loop.validate(model, VALIDATION, plan)[0] == by_step[best_step]


def test_the_last_three_epochs_ends_and_the_best_are_kept(bases, tmp_path):
    base = bases("llama")
    plan = tiny.plan_for(base, ROWS, VALIDATION, epochs=5, learning_rate=1e-3)
    run = tiny.train(base, plan, ROWS, VALIDATION, tmp_path)
    kept = {int(p.name.removeprefix("step-")) for p in checkpoint.all_checkpoints(tmp_path / "checkpoints")}
    assert kept == {18, 24, 30, run.outcome.best_step}


def test_the_learning_rate_warms_up_and_ends_just_above_zero(bases, tmp_path):
    plan = tiny.plan_for(bases("llama"), ROWS, epochs=10)
    rates = [e["learning_rate"] for e in tiny.train(bases("llama"), plan, ROWS, (), tmp_path).of("step")]
    warm, peak = plan.warmup_steps.value, plan.learning_rate.value
    assert rates[warm - 1] == max(rates) == pytest.approx(peak)
    assert rates[:warm] == pytest.approx([peak * (i + 1) / warm for i in range(warm)])
    falls = np.diff(rates[warm - 1 :])
    assert np.allclose(falls, -peak / (plan.steps - warm + 1))
    assert 0 < rates[-1] == pytest.approx(peak / (plan.steps - warm + 1))


def test_every_row_is_trained_once_an_epoch(bases, tmp_path):
    plan = tiny.plan_for(bases("llama"), ROWS, epochs=2, batch_size=5)
    run = tiny.train(bases("llama"), plan, ROWS, (), tmp_path)
    for epoch in (1, 2):
        steps = [e for e in run.of("step") if e["epoch"] == epoch]
        assert sum(e["tokens"] for e in steps) == sum(len(r) for r in ROWS)
        assert sum(e["learned_tokens"] for e in steps) == sum(r.learned_tokens for r in ROWS)
    assert run.outcome.trained_tokens == 2 * sum(len(r) for r in ROWS)


def test_a_row_with_one_learned_token_trains(bases, tmp_path):
    ids = np.arange(20, 28, dtype=np.int32)
    weights = np.zeros(8, np.float32)
    weights[-1] = 1
    rows = [Encoded(ids, weights, Place("rows.jsonl", 1))]
    run = tiny.train(bases("llama"), tiny.plan_for(bases("llama"), rows), rows, (), tmp_path)
    assert run.of("step")[0]["learned_tokens"] == 1


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_mixed_precision_follows_fp32(bases, tmp_path, family):
    """fp32 weights, products in bf16: the same path within what 8 bits of a product allow, and fp32 on disk."""
    plan = tiny.plan_for(bases(family), ROWS, batch_size=8, epochs=3, full=True, learning_rate=1e-3)
    mixed = replace(plan, precision=Choice("mixed", "a test's wish", "user"))
    exact, rounded = (tiny.train(bases(family), p, ROWS, (), tmp_path / p.precision.value) for p in (plan, mixed))
    residuals = np.array(exact.losses) - np.array(rounded.losses)
    assert 0 < np.abs(residuals).max() < 0.03
    assert abs(residuals.mean()) < 0.01
    weights = checkpoint.latest(tmp_path / "mixed" / "checkpoints") / checkpoint.MODEL_FILE
    assert {t.dtype for t in load_file(weights).values()} == {torch.float32}
