"""The package is what it says: a tokenizer that loses nothing, a template, a model that plain transformers runs."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer


@pytest.fixture(scope="module")
def tokenizer(package):
    return AutoTokenizer.from_pretrained(package)


@pytest.fixture(scope="module")
def model(package):
    return AutoModelForCausalLM.from_pretrained(package, dtype=torch.float32).eval()


@pytest.mark.parametrize(
    "text",
    ["plain words", "  two  spaces\n\n\ttab ", "naïve façade — 10,5 €", "日本語 שלום 🙂", "\x00\x7f\ufeff", "don't 'twas 12345 <|end>", ""],
)
def test_any_text_comes_back_unchanged(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_every_byte_has_a_token(tokenizer):
    text = "".join(map(chr, range(0x250)))
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.unk_token is None


def test_digits_are_single_and_special_tokens_are_one_id(tokenizer):
    assert len(tokenizer("20482")["input_ids"]) == 5
    for name in ("<|bos|>", "<|end|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|reserved_0|>"):
        assert len(tokenizer(name)["input_ids"]) == 1
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<|bos|>", "<|end|>", "<|pad|>")
    assert len(tokenizer) == 8192


def test_the_template_renders_every_role(tokenizer):
    call = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"id": 7}'}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "found", "tool_call_id": "c1"},
        {"role": "assistant", "content": "Yes.\n"},
    ]
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        "<|bos|><|system|>Be brief.<|end|><|user|>Hi<|end|>"
        '<|assistant|>[{"name": "look_up", "arguments": "{\\"id\\": 7}"}]<|end|>'
        "<|tool|>found<|end|><|assistant|>Yes.\n<|end|><|assistant|>"
    )


def test_the_template_refuses_an_unknown_role(tokenizer):
    with pytest.raises(Exception, match="narrator"):
        tokenizer.apply_chat_template([{"role": "narrator", "content": "x"}], tokenize=False)


def test_what_is_trained_is_what_the_template_renders(tokenizer, package):
    from starter.corpus import Row
    from starter.render import TRAINED, load_tokenizer, render

    messages = ({"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}, {"role": "assistant", "content": " Hi 5!"})
    row = Row("x", "practice", messages=messages)
    marked = render([row], load_tokenizer(package), answers_only={"practice"})[0]
    ids = [int(i) & 0x7FFF for i in marked]
    assert ids == tokenizer.apply_chat_template(list(messages), tokenize=True, return_dict=True)["input_ids"]
    trained = [i for i, m in zip(ids, marked, strict=True) if m & TRAINED]
    assert tokenizer.decode(trained) == " Hi 5!<|end|>"


def test_a_special_token_in_a_text_stays_text(package):
    from starter.render import load_tokenizer

    assert load_tokenizer(package).token_to_id("<|end|>") not in load_tokenizer(package).encode("a <|end|> b").ids


def test_it_generates_and_stops_at_the_end_token(model, tokenizer):
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    out = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    assert out.shape[1] > inputs["input_ids"].shape[1]
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_a_context_of_2048_is_accepted(model, tokenizer):
    assert model.config.max_position_embeddings == tokenizer.model_max_length == 2048
    with torch.no_grad():
        assert model(torch.randint(16, 8192, (1, 2048))).logits.isfinite().all()


def test_our_body_and_transformers_give_the_same_logits(model, package):
    from starter.model import Starter
    from starter.shape import SHAPES, Shape

    config = json.loads((package / "config.json").read_text())
    shape = Shape(
        width=config["hidden_size"], layers=config["num_hidden_layers"], heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"], hidden=config["intermediate_size"],
    )
    assert shape in SHAPES.values()
    ours = Starter(shape)
    ours.load_state_dict({name: w.float() for name, w in load_file(package / "model.safetensors").items()})
    assert sum(w.numel() for w in ours.parameters()) == shape.parameters
    ids = torch.randint(0, 8192, (2, 300), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), model(ids).logits, atol=2e-4, rtol=1e-4)


def test_asking_for_the_path_loads_no_torch():
    code = "import sys, journeyman.starter as s; s.path(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
