"""Every family trains, saves, loads and answers, and agrees with transformers and PEFT about each number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
)

import tiny
from journeyman.generate.engine import Engine, Request
from journeyman.generate.sampling import Sampling
from journeyman.plan.shape import ModelShape
from journeyman.text.batch import pad
from journeyman.train import checkpoint, lora
from journeyman.train.load import load_base
from journeyman.train.loss import check_head, token_loss

FAMILIES = tuple(tiny.FAMILIES)
ROWS = tiny.rows(8)
IDS = torch.from_numpy(pad(tiny.rows(3, seed=9, shortest=20)).ids_BT)


def their_model(folder: Path) -> torch.nn.Module:
    """As transformers alone computes: eager attention, nothing of ours."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    return model(input_ids=IDS, use_cache=False).logits.float()


def largest(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


@pytest.fixture(scope="module")
def lora_runs(bases, tmp_path_factory):
    done: dict[str, tiny.Run] = {}

    def run(family: str) -> tiny.Run:
        if family not in done:
            plan = tiny.plan_for(bases(family), ROWS)
            done[family] = tiny.train(bases(family), plan, ROWS, (), tmp_path_factory.mktemp(family))
        return done[family]

    return run


@pytest.fixture(scope="module")
def full_runs(bases, tmp_path_factory):
    done: dict[str, tiny.Run] = {}

    def run(family: str) -> tiny.Run:
        if family not in done:
            plan = tiny.plan_for(bases(family), ROWS, full=True, learning_rate=1e-3)
            done[family] = tiny.train(bases(family), plan, ROWS, (), tmp_path_factory.mktemp(family))
        return done[family]

    return run


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_loaded_computes_what_transformers_computes(bases, family):
    assert largest(logits(load_base(bases(family))), logits(their_model(bases(family)))) < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_is_the_models_own(bases, family):
    assert check_head(load_base(bases(family))) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_lora_trains_saves_loads_and_answers(bases, lora_runs, family):
    run = lora_runs(family)
    assert run.losses[-1] < run.losses[0]
    fresh = load_base(bases(family))
    untouched = logits(fresh)
    lora.load_adapter(fresh, "mine", run.outcome.best)
    assert largest(logits(fresh), untouched) == 0.0, "a loaded adapter is inactive"
    lora.activate(fresh, "mine")
    assert largest(logits(fresh), logits(run.model.eval())) < 1e-5
    assert largest(logits(fresh), untouched) > 1e-2, "the training changed nothing"

    engine = Engine(bases(family))
    engine.add_adapter("mine", run.outcome.best)
    prompt = tuple(ROWS[0].ids_T[:5].tolist())
    tuned, plain = engine.answers(
        [Request(prompt, "mine", Sampling(max_tokens=6)), Request(prompt, None, Sampling(max_tokens=6))]
    )
    assert tuned.usage.completion_tokens <= 6
    assert tuned.text == greedy(fresh, prompt, engine)
    lora.activate(fresh, None)
    assert plain.text == greedy(fresh, prompt, engine)


def greedy(model: torch.nn.Module, prompt: tuple[int, ...], engine: Engine) -> str:
    """The slowest way to answer: the whole sequence again for each token."""
    ids = list(prompt)
    for _ in range(6):
        with torch.no_grad():
            step = int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        if step in engine.chat.stop_ids:
            break
        ids.append(step)
    return engine.chat.text(ids[len(prompt) :])


@pytest.mark.parametrize("family", FAMILIES)
def test_peft_loads_the_adapter_and_agrees(bases, lora_runs, family):
    run = lora_runs(family)
    theirs = PeftModel.from_pretrained(their_model(bases(family)), run.outcome.best).eval()
    assert largest(logits(theirs), logits(run.model.eval())) < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_merging_keeps_the_answers_and_leaves_an_ordinary_model(bases, lora_runs, family):
    run = lora_runs(family)
    merged = load_base(bases(family))
    lora.load_adapter(merged, "mine", run.outcome.best)
    lora.merge_adapter(merged, "mine")
    assert largest(logits(merged), logits(run.model.eval())) < 1e-4
    assert list(lora.lora_layers(merged)) == []
    assert {name for name, _ in merged.named_parameters()} == {
        name for name, _ in load_base(bases(family)).named_parameters()
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_full_training_saves_a_model_that_transformers_loads(bases, full_runs, tmp_path, family):
    run = full_runs(family)
    assert run.losses[-1] < run.losses[0]
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / file).write_bytes((bases(family) / file).read_bytes())
    (tmp_path / checkpoint.MODEL_FILE).write_bytes((run.outcome.best / checkpoint.MODEL_FILE).read_bytes())
    assert largest(logits(their_model(tmp_path)), logits(run.model.eval())) < 1e-4
    names = load_file(run.outcome.best / checkpoint.MODEL_FILE).keys()
    if family != "gpt_neox":  # transformers 5 renames its head while loading, from embed_out to lm_head
        assert names == load_file(bases(family) / "model.safetensors").keys()
    again = load_base(bases(family))
    checkpoint.read_weights(again, run.outcome.best)
    assert largest(logits(again), logits(run.model)) == 0.0
    assert Engine(tmp_path).answers([Request((20, 21, 22), None, Sampling(max_tokens=2))])[0].usage.prompt_tokens == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_transformers_own(bases, family):
    micro = pad(ROWS)
    ids, weights = torch.from_numpy(micro.ids_BT), torch.from_numpy(micro.weights_BT)
    model = load_base(bases(family))
    ours, learned, correct, _ = token_loss(model, ids, weights)
    assert learned == sum(r.learned_tokens for r in ROWS)

    labels = torch.where(weights > 0, ids, -100)
    mask = (torch.arange(ids.shape[1]) < torch.from_numpy(micro.lengths_B)[:, None]).long()
    theirs = model(input_ids=ids, attention_mask=mask, labels=labels, num_items_in_batch=1, use_cache=False)
    assert float(ours) == pytest.approx(float(theirs.loss), rel=1e-5)
    guesses = theirs.logits[:, :-1].argmax(-1) == ids[:, 1:]
    assert correct == int((guesses & (weights[:, 1:] > 0)).sum())


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "gpt2"])
def test_gradients_are_those_of_transformers_with_peft(bases, lora_runs, family):
    """The same adapter, the same rows: transformers' loss through PEFT's layers gives the same gradient."""
    run = lora_runs(family)
    micro = pad(ROWS)
    ids, weights = torch.from_numpy(micro.ids_BT), torch.from_numpy(micro.weights_BT)
    loss, learned, *_ = token_loss(run.model, ids, weights)
    parameters = {n: p for n, p in run.model.named_parameters() if p.requires_grad}
    gradients = dict(zip(parameters, torch.autograd.grad(loss / learned, parameters.values()), strict=True))

    theirs = PeftModel.from_pretrained(their_model(bases(family)), run.outcome.best, is_trainable=True)
    mask = (torch.arange(ids.shape[1]) < torch.from_numpy(micro.lengths_B)[:, None]).long()
    theirs(input_ids=ids, attention_mask=mask, labels=torch.where(weights > 0, ids, -100), use_cache=False).loss.backward()
    for name, gradient in gradients.items():
        path, part, _ = name.rsplit(".", 2)  # "….q_proj", "lora_A", the adapter's name
        other = theirs.get_submodule(f"base_model.model.{path}.{part}.default").weight.grad
        cosine = torch.nn.functional.cosine_similarity(gradient.flatten(), other.flatten(), 0)
        assert cosine > 0.9999, name
        assert largest(gradient, other) < 1e-5 + 1e-3 * float(other.abs().max())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_shape_counts_what_is_there(bases, lora_runs, family):
    shape = ModelShape.read(bases(family))
    model = load_base(bases(family))
    assert shape.params == sum(p.numel() for p in model.parameters())
    adapter = sum(p.numel() for p in lora_runs(family).model.parameters() if p.requires_grad)
    assert adapter == 4 * shape.lora_width


def test_a_fresh_adapter_changes_nothing_and_starts_as_pefts_does(bases):
    model = load_base(bases("llama"))
    before = logits(model)
    lora.add_adapter(model, "new", rank=8, alpha=32, seed=3)
    assert largest(logits(model), before) == 0.0
    peft = get_peft_model(their_model(bases("llama")), LoraConfig(r=8, target_modules=["q_proj"]))
    layer = peft.base_model.model.model.layers[0].self_attn.q_proj.lora_A["default"].weight
    ours = dict(lora.lora_layers(model))["model.layers.0.self_attn.q_proj"].lora_A["new"]
    assert ours.shape == layer.shape
    assert float(ours.abs().max()) == pytest.approx(float(layer.abs().max()), rel=0.1)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_a_base_that_brings_dropout_trains_without_it(tmp_path, layout):
    """GPT-2's own config.json asks for a tenth: rows could not be packed, and no loss would be a row's own."""
    config = {name: value for name, value in tiny.FAMILIES["gpt2"][2].items() if not name.endswith("_pdrop")}
    torch.manual_seed(1)
    model = GPT2LMHeadModel(GPT2Config(**config))
    assert model.config.resid_pdrop == 0.1
    model.save_pretrained(tmp_path / "base")
    plan = tiny.plan_for(tmp_path / "base", ROWS)
    plan = replace(plan, layout=replace(plan.layout, value=layout))
    tiny.write_base(tmp_path / "without", "gpt2")
    with_it, without = (tiny.train(tmp_path / name, plan, ROWS, ROWS, tmp_path / f"run-{name}") for name in ("base", "without"))
    assert with_it.losses == without.losses


def test_a_base_that_sees_pictures_too_trains_and_answers_in_text(tmp_path):
    """Gemma 3 from 4B on: its config keeps the decoder's sizes one level down."""
    pictures = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    config = Gemma3Config(text_config=dict(tiny.FAMILIES["gemma3"][2]), vision_config=pictures, mm_tokens_per_image=4, image_token_index=11)
    torch.manual_seed(1)
    theirs = Gemma3ForConditionalGeneration(config).eval()
    theirs.save_pretrained(tmp_path / "base")
    tiny.write_tokenizer(tmp_path / "base", tiny.CHATML)
    engine, ids = Engine(tmp_path / "base"), ROWS[0].ids_T.tolist()
    written = theirs.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False, eos_token_id=list(engine.chat.stop_ids))
    request = Request(tuple(ids), None, Sampling(max_tokens=12))
    assert engine.answers([request])[0].text == engine.chat.text(written[0, len(ids) :].tolist())

    run = tiny.train(tmp_path / "base", tiny.plan_for(tmp_path / "base", ROWS), ROWS, (), tmp_path / "run")
    assert run.losses[-1] < run.losses[0]
    engine.add_adapter("tuned", run.outcome.best)
    engine.activate("tuned")
    assert largest(logits(engine.model), logits(run.model)) < 1e-4
