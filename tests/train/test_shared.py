"""Packed rows, and rows that share their beginnings, are the plain rows: same loss, same gradients, same run."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from transformers import AutoModelForCausalLM

import tiny
from journeyman.errors import TrainingError
from journeyman.plan import rules
from journeyman.plan.shape import ModelShape
from journeyman.records import Choice, Place
from journeyman.text.batch import pad
from journeyman.text.encode import Encoded
from journeyman.text.shared import SHORTEST_SHARED, STEP, computed_tokens, shared_batches
from journeyman.train import checkpoint, loop
from journeyman.train.load import load_base
from journeyman.train.loss import check_packed, shared_loss, token_loss

SOURCE = np.random.default_rng(7)
SYSTEM, TOOLS = (SOURCE.integers(12, 90, n).astype(np.int32) for n in (40, 20))


def rows_with_beginnings(count: int = 13) -> list[Encoded]:
    """A third with no common beginning, a third with one, a third with two nested; learned tokens also inside.

    Row 4 learns one token less of its beginning than the others, and the last row is there twice.
    """
    begins = (np.zeros(0, np.int32), SYSTEM, np.concatenate([SYSTEM, TOOLS]))
    out = []
    for index, row in enumerate(tiny.rows(count - 1)):
        begin = begins[index % 3]
        weights = np.zeros(len(begin), np.float32)
        weights[10:15] = 1
        if index == 4:
            weights[12] = 0
        out.append(replace(row, ids_T=np.concatenate([begin, row.ids_T]), weights_T=np.concatenate([weights, row.weights_T])))
    return [*out, out[-1]]


ROWS = rows_with_beginnings()
PADDED = pad(ROWS)


def plain(model) -> tuple[torch.Tensor, int, int]:
    return token_loss(model, torch.from_numpy(PADDED.ids_BT), torch.from_numpy(PADDED.weights_BT))[:3]


def shared(model, max_tokens: int = 4096, *, share: bool = True) -> tuple[torch.Tensor, int, int]:
    parts = [shared_loss(model, batch)[:3] for batch in shared_batches(ROWS, max_tokens, share=share)]
    losses, learned, correct = zip(*parts, strict=True)
    return sum(losses), sum(learned), sum(correct)


def gradients(loss: torch.Tensor, model) -> dict[str, torch.Tensor]:
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: g for name, g in zip(named, found, strict=True) if g is not None}


@pytest.mark.parametrize("family", [f for f in tiny.FAMILIES if f != "gemma2"])
def test_packed_and_shared_rows_give_the_plain_loss_and_gradients(bases, family):
    """Sliding windows included: Gemma 3's of 8 and Mistral's of 12 tokens are shorter than the beginnings."""
    assert ModelShape.read(bases(family)).kind in rules.PACKED_KINDS
    model = load_base(bases(family))
    assert check_packed(model) < 1e-5
    loss, learned, correct = plain(model)
    wanted = gradients(loss, model)
    for max_tokens, share in ((4096, True), (4096, False), (150, True)):
        other, other_learned, other_correct = shared(model, max_tokens, share=share)
        assert (other_learned, other_correct) == (learned, correct)
        assert other.item() == pytest.approx(loss.item(), rel=1e-6)
        for name, gradient in gradients(other, model).items():
            largest = float((gradient - wanted[name]).abs().max())
            assert largest < 1e-5 * max(1.0, float(wanted[name].abs().max())), name


def test_a_family_whose_attention_is_not_known_is_padded_and_never_packed(bases):
    """Gemma 2 caps its scores. The rule leaves it padded, and a plan that packs it all the same is refused."""
    plan = tiny.plan_for(bases("gemma2"), ROWS)
    assert (plan.layout.value, "gemma2" in plan.layout.reason) == ("padded", True)
    forced = replace(plan, layout=Choice("packed", "a test's wish", "user"))
    with pytest.raises(TrainingError, match="packed rows"):
        loop.prepare(load_base(bases("gemma2")), forced)


@pytest.mark.parametrize(
    ("family", "full"), [("llama", False), ("qwen3", True), ("gemma3", False), ("gpt_neox", False)]
)
def test_plain_is_bucketed_is_packed_is_shared_is_accumulated_step_by_step(bases, tmp_path, family, full, monkeypatch):
    plan = tiny.plan_for(bases(family), ROWS, batch_size=5, epochs=3, full=full, learning_rate=1e-3 if full else 1e-2)
    assert plan.layout.value == "packed"

    def losses(name: str, layout: str, tokens: int, workers: int = 1) -> np.ndarray:
        asked = replace(
            plan,
            layout=Choice(layout, "a test's wish", "user"),
            micro_batch_tokens=Choice(tokens, "a test's wish", "user"),
            workers=Choice(workers, "a test's wish", "user"),
        )
        return np.array(tiny.train(bases(family), asked, ROWS, (), tmp_path / name).losses)

    one_row = losses("plain", "padded", 1)
    runs = {
        "bucketed": losses("bucketed", "padded", 200),
        "shared": losses("shared", "packed", 4096),
        "accumulated": losses("accumulated", "packed", 100),
        "side by side": losses("side_by_side", "packed", 4096, workers=3),
        "side by side, padded": losses("side_by_side_padded", "padded", 200, workers=2),
    }
    whole = shared_batches
    monkeypatch.setattr(loop, "shared_batches", lambda rows, tokens, **rest: whole(rows, tokens, share=False, **rest))
    runs["packed"] = losses("packed", "packed", 4096)
    assert one_row[-1] < one_row[0]
    for name, run in runs.items():
        residuals = run - one_row
        assert np.abs(residuals).max() < 2e-4, f"{name}: largest difference {np.abs(residuals).max():.3g}"
        assert abs(residuals.mean()) < 5e-5, f"{name}: mean residual {residuals.mean():.3g}"
        assert run[0] == pytest.approx(one_row[0], rel=1e-6), name


def test_a_resumed_packed_run_ends_with_the_same_bytes(bases, tmp_path):
    base = bases("llama")
    plan = tiny.plan_for(base, ROWS, ROWS[:4], batch_size=5, epochs=2)

    def files(folder):
        latest = checkpoint.latest(folder / "checkpoints")
        return {file.name: file.read_bytes() for file in latest.iterdir()}

    tiny.train(base, plan, ROWS, ROWS[:4], tmp_path / "straight")
    tiny.train(base, plan, ROWS, ROWS[:4], tmp_path / "stopped", stop_at=2)
    tiny.train(base, plan, ROWS, ROWS[:4], tmp_path / "stopped")
    assert files(tmp_path / "straight") == files(tmp_path / "stopped")


@pytest.mark.parametrize("family", ["llama", "qwen2", "phi3", "gpt_neox"])
def test_gradients_of_shared_rows_are_those_of_transformers_with_peft(bases, tmp_path, family):
    """Padded rows, eager attention and PEFT's layers on one side; shared beginnings on ours."""
    run = tiny.train(bases(family), tiny.plan_for(bases(family), ROWS), ROWS, (), tmp_path)
    loss, learned, _ = shared(run.model)
    ours = gradients(loss / learned, run.model)
    their_base = AutoModelForCausalLM.from_pretrained(bases(family), dtype=torch.float32, attn_implementation="eager")
    theirs = PeftModel.from_pretrained(their_base.eval(), run.outcome.best, is_trainable=True)
    ids, weights = torch.from_numpy(PADDED.ids_BT), torch.from_numpy(PADDED.weights_BT)
    mask = (torch.arange(ids.shape[1]) < torch.from_numpy(PADDED.lengths_B)[:, None]).long()
    theirs(input_ids=ids, attention_mask=mask, labels=torch.where(weights > 0, ids, -100), use_cache=False).loss.backward()
    assert ours
    for name, gradient in ours.items():
        path, part, _ = name.rsplit(".", 2)
        other = theirs.get_submodule(f"base_model.model.{path}.{part}.default").weight.grad
        cosine = torch.nn.functional.cosine_similarity(gradient.double().flatten(), other.double().flatten(), 0)
        assert cosine > 0.9999, name


@st.composite
def trees(draw) -> list[Encoded]:
    """Rows of few different tokens, so that beginnings of all lengths coincide."""
    pieces = [np.full(n, token, np.int32) for n, token in ((18, 1), (17, 2), (3, 3), (30, 4))]
    out = []
    for line in range(draw(st.integers(1, 8))):
        ids = np.concatenate([pieces[i] for i in draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))])
        weights = draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=len(ids), max_size=len(ids)))
        out.append(Encoded(ids, np.array(weights, np.float32), Place("rows.jsonl", line + 1)))
    return out


@given(rows=trees(), limit=st.integers(1, 200), share=st.booleans(), side_by_side=st.integers(1, 4))
def test_every_row_can_be_read_back_and_every_learned_token_counts(rows, limit, share, side_by_side):
    batches = shared_batches(rows, limit, share=share, side_by_side=side_by_side)
    found: list[tuple[int, ...]] = []
    for batch in batches:
        keys = {}
        for block in batch.blocks:
            filler = len(batch.ids_N) - 1
            for queries, seen in zip(block.queries_BT, block.keys_BS, strict=True):
                real = seen[seen != filler]
                assert list(batch.positions_N[real]) == list(range(len(real)))
                assert list(real[block.first :]) == list(queries[queries != filler])
                keys[tuple(real)] = batch.ids_N[real]
        ends = {path for path in keys if not any(other[: len(path)] == path and other != path for other in keys)}
        found += [tuple(keys[path]) for path in ends]
    inputs = {tuple(row.ids_T[:-1]) for row in rows}
    assert set(found) <= inputs
    assert all(any(path[: len(ids)] == ids for path in found) for ids in inputs if ids)
    assert sum(batch.counts_M.sum() for batch in batches) == sum(row.learned_tokens for row in rows)


def test_what_is_computed_side_by_side_is_of_about_equal_size():
    """Rows that share nothing, and rows that all begin alike, which are shared out for all that."""
    apart = [replace(r, ids_T=r.ids_T + 1000 * n) for n, r in enumerate(tiny.rows(40, longest=60))]
    alike = [replace(r, ids_T=np.concatenate([SYSTEM, r.ids_T]), weights_T=np.ones(40 + len(r), np.float32)) for r in apart]
    for rows, workers in product((apart, alike), (2, 3, 4)):
        batches = shared_batches(rows, 400, side_by_side=workers)
        sizes = [len(batch.ids_N) for batch in batches]
        assert len(sizes) % workers == 0 and max(sizes) <= 400 + STEP
        assert max(sizes) <= 1.35 * sum(sizes) / len(sizes)
        assert sorted(id(row) for batch in batches for row in batch.rows) == sorted(map(id, rows))


def test_each_row_has_its_own_loss(bases):
    """What a row's record says is the same, whether its beginning was computed for it alone or for all."""
    model = load_base(bases("llama"))
    batches = shared_batches(ROWS, 150)
    sums = {}
    for batch in batches:
        found = batch.row_sums(shared_loss(model, batch).losses_N.numpy())
        sums |= {id(row): loss for row, loss in zip(batch.rows, found, strict=True)}
    wanted = PADDED.row_sums(token_loss(model, torch.from_numpy(PADDED.ids_BT), torch.from_numpy(PADDED.weights_BT)).losses_N.numpy())
    assert [sums[id(row)] for row in ROWS] == pytest.approx(list(wanted), rel=1e-5)


def test_a_beginning_is_computed_once_and_a_short_one_is_not_worth_a_segment():
    rows = [Encoded(np.concatenate([SYSTEM, r.ids_T]), np.ones(40 + len(r.ids_T), np.float32), r.place) for r in tiny.rows(6)]
    (batch,) = shared_batches(rows, 4096)
    own = sum(len(r) - 1 - 40 for r in rows)
    assert 40 + own < len(batch.ids_N) <= 40 + own + 16
    assert computed_tokens(rows) == sum(map(len, rows)) - 5 * 40
    short = [replace(r, ids_T=r.ids_T[40 - SHORTEST_SHARED + 1 :], weights_T=r.weights_T[40 - SHORTEST_SHARED + 1 :]) for r in rows]
    assert computed_tokens(short) == sum(map(len, short))


def test_the_plan_says_what_sharing_saves(bases):
    shape = ModelShape.read(bases("llama"))
    choice = rules.layout(shape, 10_000, 2_500)
    assert (choice.value, "7,500 of 10,000" in choice.reason) == ("packed", True)
