"""What is exported says what was trained, and nothing else is ever published."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
import unicodedata
from dataclasses import replace
from functools import cache
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.qwen2 import tokenization_qwen2
from typer.testing import CliRunner

import tiny
from journeyman import starter
from journeyman.cli.main import app
from journeyman.data.dataset import build
from journeyman.errors import CheckpointError, ExportError, ModelNotFound
from journeyman.files import hash_file, read_json, write_json
from journeyman.models import bases as base_models
from journeyman.models.export import formats, place, replay
from journeyman.models.export.export import export
from journeyman.models.export.llamacpp import tokenizer, write
from journeyman.models.export.source import Source, source_of
from journeyman.models.registry import Version
from journeyman.plan.plan import Wishes
from journeyman.records import Example, Message, Place
from journeyman.text.template import ChatFormat
from journeyman.train import lora
from journeyman.train.load import load_base
from journeyman.workspace import Workspace

IDS = torch.tensor([[12, 40, 7, 300, 99, 15, 201, 64, 31, 280]])


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    return model(input_ids=IDS, use_cache=False).logits.float()


def largest(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


def add_adapter(model: torch.nn.Module) -> None:
    """An adapter that changes every layer, as after training."""
    lora.add_adapter(model, "default", rank=4, alpha=8, seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for _, layer in lora.lora_layers(model):
            layer.lora_B["default"].normal_(0, 0.05, generator=generator)


@pytest.fixture(scope="module")
def sources(bases, tmp_path_factory):
    """A tuned tiny model of the family, as a source."""
    done: dict[tuple[str, str | None], Source] = {}

    def make(family: str = "llama", template: str | None = tiny.CHATML) -> Source:
        if (family, template) not in done:
            folder = tmp_path_factory.mktemp(f"{family}-adapter")
            base = bases(family, template)
            model = load_base(base)
            add_adapter(model)
            lora.save_adapter(model, "default", folder, base=str(base))
            tiny.write_tokenizer(folder, template)
            done[family, template] = Source("ft:tiny:local::Ab12Cd34", "tiny", "f", base, folder)
        return done[family, template]

    return make


def tuned(source: Source) -> torch.nn.Module:
    """The model as it is served: the adapter beside the base's layers."""
    model = load_base(source.folder)
    lora.load_adapter(model, "served", source.adapter)
    lora.activate(model, "served")
    return model


def theirs(folder: Path, **options) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options).eval()


def left(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


# ── adapter ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_peft_loads_the_exported_adapter_and_answers_as_served(sources, tmp_path):
    source = sources("llama")
    done = export(source, to="adapter", out=tmp_path / "out")
    model = PeftModel.from_pretrained(theirs(source.folder), tmp_path / "out").eval()
    assert largest(logits(model), logits(tuned(source))) < 1e-4
    assert largest(logits(model), logits(load_base(source.folder))) > 1e-2
    for name in (lora.ADAPTER_FILE, lora.CONFIG_FILE):
        assert (tmp_path / "out" / name).read_bytes() == (source.adapter / name).read_bytes()
    assert done.files == tuple(left(tmp_path / "out"))
    assert done.replay["largest_difference"] == 0.0


def test_a_model_without_an_adapter_says_so(sources, tmp_path):
    with pytest.raises(ExportError, match="has no adapter") as caught:
        export(replace(sources(), adapter=None), to="adapter", out=tmp_path / "out")
    assert "merged" in caught.value.fix
    assert left(tmp_path) == []


# ── merged ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_merged_is_the_adapter_on_its_base(sources, tmp_path, family):
    source = sources(family)
    done = export(source, to="merged", out=tmp_path / "out")
    assert largest(logits(theirs(tmp_path / "out")), logits(tuned(source))) < 1e-4
    assert largest(logits(theirs(tmp_path / "out")), logits(load_base(source.folder))) > 1e-2
    assert done.type == "f32"
    asked, got = (AutoTokenizer.from_pretrained(f) for f in (source.folder, tmp_path / "out"))
    chat = [{"role": "user", "content": "My mug: 12 €"}]
    assert got.apply_chat_template(chat, tokenize=False) == asked.apply_chat_template(chat, tokenize=False)
    assert got("Grüße, 你好").input_ids == asked("Grüße, 你好").input_ids


def test_what_the_model_is_sampled_with_goes_along(sources, tmp_path):
    """A plan's repetition penalty lies beside the adapter, and goes before the base's own settings."""
    source = sources("llama")
    adapter = tmp_path / "adapter"
    shutil.copytree(source.adapter, adapter)
    write_json(adapter / "generation_config.json", {"eos_token_id": 2, "repetition_penalty": 1.3})
    source = replace(source, adapter=adapter)
    export(source, to="merged", out=tmp_path / "merged")
    assert theirs(tmp_path / "merged").generation_config.repetition_penalty == 1.3
    assert any("repetition penalty of 1.3" in note for note in export(source, to="gguf", out=tmp_path / "gguf").notes)


@pytest.mark.parametrize("asked", [None, "f32", "f16"])
def test_weights_are_added_in_fp32_and_rounded_once(sources, tmp_path, asked):
    """A bf16 base: adding the adapter in bf16 would round twice, and lose small changes."""
    source = sources("qwen2")
    base = tmp_path / "base"
    shutil.copytree(source.folder, base)
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(base)
    done = export(replace(source, folder=base), to="merged", out=tmp_path / "out", dtype=asked)
    dtype = {None: torch.bfloat16, "f32": torch.float32, "f16": torch.float16}[asked]
    assert read_json(tmp_path / "out" / "config.json")["dtype"] == str(dtype).removeprefix("torch.")
    adapter = load_file(source.adapter / lora.ADAPTER_FILE)
    name = "model.layers.1.mlp.down_proj"
    prefix = f"base_model.model.{name}"
    delta = 2 * adapter[f"{prefix}.lora_B.weight"] @ adapter[f"{prefix}.lora_A.weight"]
    expected = (load_file(base / "model.safetensors")[f"{name}.weight"].float() + delta).to(dtype)
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(written[f"{name}.weight"], expected)
    assert {tensor.dtype for tensor in written.values()} == {dtype}
    rounding = done.replay["rounding"]
    assert rounding["largest"] < 1e-4 if asked == "f32" else rounding["largest"] > 1e-4


def test_a_full_fine_tune_and_a_base_export_too(bases, tmp_path):
    base = base_models.resolve(str(bases("llama")))
    export(source_of(None, base), to="merged", out=tmp_path / "base")
    assert largest(logits(theirs(tmp_path / "base")), logits(load_base(base.folder))) == 0.0
    version = full_version(base.folder, tmp_path / "version")
    export(source_of(version, None), to="merged", out=tmp_path / "full")
    assert largest(logits(theirs(tmp_path / "full")), logits(load_base(version.folder))) == 0.0


def full_version(base: Path, folder: Path) -> Version:
    shutil.copytree(base, folder)
    model = load_base(base)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(1.5)
    model.save_pretrained(folder)
    files = {f.name: hash_file(f) for f in folder.iterdir()}
    return Version(
        "ft:tiny:local::Fu11Fu11",
        "ftjob-1",
        "tiny",
        str(base),
        "f",
        "d" * 64,
        "full",
        {},
        {},
        files,
        folder,
        1.0,
    )


def test_a_base_without_a_template_takes_along_the_one_that_was_trained_with(sources, tmp_path):
    source = sources("llama", None)
    export(source, to="merged", out=tmp_path / "out")
    text = AutoTokenizer.from_pretrained(tmp_path / "out").apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|bos|>### User:\nHi<|eos|>\n### Assistant:\n"


# ── gguf ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def gguf_file(folder: Path) -> str:
    (file,) = folder.glob("*.gguf")
    return file.name


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_transformers_reads_the_gguf_and_agrees(sources, tmp_path, family):
    """Its own loader, written for llama.cpp's files, knows these; it gives no head width for qwen3."""
    source = sources(family)
    export(source, to="gguf", out=tmp_path / "out")
    known = {"head_dim": 8} if family == "qwen3" else {}
    model = theirs(tmp_path / "out", gguf_file=gguf_file(tmp_path / "out"), **known)
    assert largest(logits(model), logits(tuned(source))) < 1e-4


def with_tokenizer(source: Source, folder: Path, change) -> Source:
    """The same model with a tokenizer.json that `change` has edited."""
    shutil.copytree(source.folder, folder)
    form = json.loads((folder / "tokenizer.json").read_text())
    change(form)
    (folder / "tokenizer.json").write_text(json.dumps(form))
    return replace(source, folder=folder)


def split(*rules: str, ignore_merges: bool = False):
    """A change of tokenizer.json: text is cut by these expressions, as the tokenizers of large models say it."""

    def change(form):
        steps = [
            {"type": "Split", "pattern": {"Regex": r}, "behavior": "Isolated", "invert": False} for r in rules
        ]
        last = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        form["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [*steps, last]}
        form["model"]["ignore_merges"] = ignore_merges

    return change


CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.mark.parametrize(
    ("change", "pre"),
    [
        (lambda form: None, "gpt-2"),
        (split(tokenization_qwen2.PRETOKENIZE_REGEX), "qwen2"),
        (split(CL100K, ignore_merges=True), "llama-bpe"),
        (split(CL100K), "dbrx"),
    ],
    ids=["gpt-2", "qwen2", "llama-bpe", "dbrx"],
)
def test_transformers_reads_the_tokenizer_from_the_gguf_and_agrees(sources, tmp_path, change, pre):
    source = with_tokenizer(sources(), tmp_path / "base", change)
    export(source, to="gguf", out=tmp_path / "out")
    file = gguf_file(tmp_path / "out")
    assert gguf.GGUFReader(tmp_path / "out" / file).fields["tokenizer.ggml.pre"].contents() == pre
    read = AutoTokenizer.from_pretrained(tmp_path / "out", gguf_file=file)
    written = AutoTokenizer.from_pretrained(source.folder)
    for text in (*replay.FIXED_TEXTS, "<|im_start|>user\nHi<|im_end|>"):
        assert read(text).input_ids == written(text).input_ids, text
    assert read.chat_template == tiny.CHATML
    assert (read.bos_token, read.eos_token, read.pad_token) == ("<|bos|>", "<|eos|>", "<|pad|>")


@pytest.mark.parametrize("known", tokenizer.PRE_TOKENIZERS, ids=lambda p: p.name)
@given(text=st.text() | st.text("ab AB12 'stll.\n\t!<>|_", max_size=40))
def test_the_tokenizer_of_the_file_is_the_one_that_was_trained_with(known, text):
    chat, rebuilt = round_trip(known.name)
    text = "".join(c for c in text if not (known.inexact and unicodedata.category(c).startswith("M")))
    assert rebuilt.encode(text, add_special_tokens=False).ids == chat.ids(text)


@cache
def round_trip(name: str):
    """A tokenizer that cuts by this pre-tokenizer's definition, and what is made of its GGUF form."""
    known = next(p for p in tokenizer.PRE_TOKENIZERS if p.name == name)
    form = json.loads(tiny.tokenizer_json())
    if name == "smollm":
        form["pre_tokenizer"] = json.loads((starter.path() / "tokenizer.json").read_text())["pre_tokenizer"]
    elif name != "gpt-2":
        split(*known.cuts, ignore_merges=known.ignore_merges)(form)
    with tempfile.TemporaryDirectory() as folder:
        tiny.write_tokenizer(Path(folder), tiny.CHATML)
        (Path(folder) / "tokenizer.json").write_text(json.dumps(form))
        chat = ChatFormat.open(Path(folder))
    vocabulary = tokenizer.vocabulary(chat, tiny.VOCAB + 3)
    assert vocabulary.pre == name
    assert vocabulary.tokens[-1] == f"[PAD{tiny.VOCAB + 2}]"
    return chat, tokenizer.rebuild(vocabulary)


def cut_as_tekken(form):
    """And the last token becomes one of a letter with the first byte of an accent, which only one of the two cuts."""
    tekken = tokenizer.PRE_TOKENIZERS[-1]
    split(*tekken.cuts, ignore_merges=True)(form)
    vocabulary, merges = form["model"]["vocab"], form["model"]["merges"]
    vocabulary["eÌ"] = vocabulary.pop("".join(merges.pop()))
    merges.append(["e", "Ì"])


def test_a_tekken_tokenizer_says_where_llama_cpp_differs_and_is_refused_where_the_rows_do(sources, tmp_path):
    source = with_tokenizer(sources(), tmp_path / "base", cut_as_tekken)
    assert any("combining marks" in note for note in export(source, to="gguf", out=tmp_path / "out").notes)
    said = Message("user", "Caf\u0065\u0301 au lait")  # an accent that is a character of its own
    example = Example((said, Message("assistant", "With pleasure.")), Place("rows.jsonl", 1))
    with pytest.raises(ExportError, match="1 of 9 texts as other tokens"):
        export(replace(source, examples=(example,)), to="gguf", out=tmp_path / "other")
    assert left(tmp_path) == ["base", "out"]


def test_the_starter_as_gguf(tmp_path):
    done = export(source_of(None, base_models.resolve("starter")), to="gguf", out=tmp_path / "out")
    assert done.type == "f16", "the starter's weights are half precision"
    file = gguf_file(tmp_path / "out")
    model, ours = theirs(tmp_path / "out", gguf_file=file), load_base(starter.path())
    assert largest(logits(model), logits(ours)) < 1e-4
    read = AutoTokenizer.from_pretrained(tmp_path / "out", gguf_file=file)
    written = AutoTokenizer.from_pretrained(starter.path())
    for text in replay.FIXED_TEXTS:
        words = "".join(
            c for c in text if not c.isdigit()
        )  # its reader does not know how `smollm` cuts digits
        assert read(words).input_ids == written(words).input_ids
    fields = gguf.GGUFReader(tmp_path / "out" / file).fields
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    assert fields["tokenizer.chat_template"].contents() == written.chat_template


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "q8_0"])
def test_a_tensor_is_the_librarys_quantization_of_the_merged_weight(sources, tmp_path, dtype):
    """Though the model is rounded before it is written: rounding again changes nothing."""
    source = sources("qwen3")
    done = export(source, to="gguf", out=tmp_path / "out", dtype=dtype)
    export(source, to="merged", out=tmp_path / "merged")
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    tensors = {t.name: t for t in gguf.GGUFReader(tmp_path / "out" / gguf_file(tmp_path / "out")).tensors}
    matrix = tensors["blk.1.attn_output.weight"]
    assert matrix.tensor_type == gguf.GGMLQuantizationType[dtype.upper()]
    expected = gguf.quants.quantize(
        merged["model.layers.1.self_attn.o_proj.weight"].numpy(), matrix.tensor_type
    )
    assert np.array_equal(matrix.data.view(np.uint8), expected.view(np.uint8))
    assert tensors["blk.1.attn_norm.weight"].tensor_type == gguf.GGMLQuantizationType.F32
    assert done.replay["largest_difference"] < 1e-4
    assert done.replay["rounding"]["largest"] < {"f32": 1e-4, "f16": 0.1, "bf16": 0.5, "q8_0": 1.0}[dtype]


def test_rows_that_are_no_whole_blocks_stay_f16(sources, tmp_path):
    export(sources("llama"), to="gguf", out=tmp_path / "out", dtype="q8_0")  # intermediate_size is 48
    tensors = {
        t.name: t.tensor_type.name
        for t in gguf.GGUFReader(tmp_path / "out" / gguf_file(tmp_path / "out")).tensors
    }
    assert tensors["blk.0.ffn_down.weight"] == "F16"
    assert tensors["blk.0.ffn_up.weight"] == "Q8_0"


def test_a_sliding_window_bounds_the_files_context(sources, tmp_path):
    done = export(sources("mistral"), to="gguf", out=tmp_path / "out")
    fields = gguf.GGUFReader(tmp_path / "out" / gguf_file(tmp_path / "out")).fields
    assert fields["llama.context_length"].contents() == 12
    assert any("12 tokens" in note for note in done.notes)


REFUSED = [family for family in tiny.FAMILIES if family not in write.FAMILIES]


@pytest.mark.parametrize("family", REFUSED)
def test_other_families_are_refused_with_what_would_work(sources, tmp_path, family):
    with pytest.raises(ExportError) as caught:
        export(sources(family), to="gguf", out=tmp_path / "out")
    assert caught.value.code == "export_unsupported"
    assert "llama, mistral, qwen2" in caught.value.problems[0]
    assert "--to merged" in caught.value.fix
    assert "convert_hf_to_gguf.py" in caught.value.fix
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("family", "changes", "said"),
    [
        ("llama", {"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "'dynamic'"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0, "beta_fast": 8}}, "beta_fast"),
        ("qwen3", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 2.0, "low_freq_factor": 1.0,
                   "high_freq_factor": 4.0, "original_max_position_embeddings": 48}}, "'llama3'"),
        ("qwen2", {"head_dim": 16}, "4 heads of 16"),
        ("olmo2", {"tie_word_embeddings": True}, "output head too"),
        ("smollm3", {"no_rope_layers": [0, 1]}, "every fourth"),
        ("qwen3", {"attention_bias": True}, "self_attn.q_proj.bias"),
    ],
)  # fmt: skip
def test_what_llama_cpp_would_compute_otherwise_is_refused(bases, tmp_path, family, changes, said):
    folder = tmp_path / "base"
    config_class, model_class, values = tiny.FAMILIES[family]
    model_class(config_class(**{**values, **changes})).save_pretrained(folder)
    tiny.write_tokenizer(folder, tiny.CHATML)
    with pytest.raises(ExportError) as caught:
        export(source_of(None, base_models.resolve(str(folder))), to="gguf", out=tmp_path / "out")
    assert said in " ".join(caught.value.problems)
    assert left(tmp_path) == ["base"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (split(r"\w+"), "pre-tokenizer is none of gpt-2, smollm"),
        (lambda form: form["pre_tokenizer"].update(add_prefix_space=True), "pre-tokenizer is none of"),
        (lambda form: form["model"].update(ignore_merges=True), "pre-tokenizer is none of"),
        (lambda form: form.update(normalizer={"type": "Lowercase"}), "normalizes text (Lowercase)"),
        (lambda form: form["added_tokens"][3].update(rstrip=True), "'<|im_start|>' takes rstrip"),
        (lambda form: form.update(decoder=None), "not byte-level BPE"),
    ],
)
def test_a_tokenizer_that_llama_cpp_lacks_is_refused(sources, tmp_path, change, said):
    source = with_tokenizer(sources(), tmp_path / "base", change)
    with pytest.raises(ExportError, match="tokenize differently") as caught:
        export(source, to="gguf", out=tmp_path / "out")
    assert said in " ".join(caught.value.problems)
    assert left(tmp_path) == ["base"]


def test_a_tokenizer_that_composes_unicode_is_exported_with_a_remark(sources, tmp_path):
    source = with_tokenizer(
        sources(), tmp_path / "base", lambda form: form.update(normalizer={"type": "NFC"})
    )
    done = export(source, to="gguf", out=tmp_path / "out")
    assert any("NFC" in note for note in done.notes)


def test_without_the_package_the_error_names_the_extra(sources, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ExportError) as caught:
        export(sources(), to="gguf", out=tmp_path / "out")
    assert caught.value.code == "extra_missing"
    assert "journeyman[gguf]" in caught.value.fix
    export(sources(), to="merged", out=tmp_path / "out")


# ── a replay that differs ─────────────────────────────────────────────────────────────────────────────────────────


def test_weights_laid_out_wrongly_are_not_published(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "interleave", lambda rows, heads: rows)
    with pytest.raises(ExportError, match="GGUF file answers differently") as caught:
        export(sources(), to="gguf", out=tmp_path / "out")
    assert caught.value.code == "replay_mismatch"
    assert left(tmp_path) == []


def test_a_wrong_number_in_the_metadata_is_not_published(sources, tmp_path, monkeypatch):
    right = write.metadata
    monkeypatch.setattr(write, "metadata", lambda config: {**right(config), "rope.freq_base": 5000.0})
    with pytest.raises(ExportError, match="GGUF file answers differently"):
        export(sources(), to="gguf", out=tmp_path / "out")
    assert left(tmp_path) == []


def test_a_tokenizer_that_lost_merges_is_not_published(sources, tmp_path, monkeypatch):
    right = tokenizer.vocabulary

    def shorter(chat, rows):
        vocabulary = right(chat, rows)
        return replace(vocabulary, merges=vocabulary.merges[:-20])

    monkeypatch.setattr(tokenizer, "vocabulary", shorter)
    with pytest.raises(ExportError, match="as other tokens") as caught:
        export(sources(), to="gguf", out=tmp_path / "out")
    assert caught.value.problems
    assert left(tmp_path) == []


def test_an_adapter_that_is_not_added_is_not_published(sources, tmp_path, monkeypatch):
    right = lora.merge_adapter
    monkeypatch.setattr(formats.lora, "merge_adapter", lambda model, name: right(model, "another"))
    with pytest.raises(ExportError, match="adding the adapter changes the answers"):
        export(sources(), to="merged", out=tmp_path / "out")
    assert left(tmp_path) == []


def test_merged_files_that_were_damaged_are_not_published(sources, tmp_path, monkeypatch):
    right = formats.load_base

    def load(folder, **options):
        model = right(folder, **options)
        if folder.name.endswith(".exporting"):
            with torch.no_grad():
                model.model.layers[0].mlp.up_proj.weight[0, 0] += 1
        return model

    monkeypatch.setattr(formats, "load_base", load)
    with pytest.raises(ExportError, match="merged files answer differently"):
        export(sources(), to="merged", out=tmp_path / "out")
    assert left(tmp_path) == []


def test_values_that_half_precision_can_not_hold_are_refused(bases, tmp_path):
    folder = tmp_path / "base"
    model = load_base(bases("llama"))
    with torch.no_grad():
        model.lm_head.weight[0, 0] = 1e6
    model.save_pretrained(folder)
    tiny.write_tokenizer(folder, tiny.CHATML)
    source = source_of(None, base_models.resolve(str(folder)))
    with pytest.raises(ExportError) as caught:
        export(source, to="merged", out=tmp_path / "out", dtype="f16")
    assert caught.value.problems == ("lm_head.weight as f16",)
    export(source, to="merged", out=tmp_path / "out", dtype="bf16")


def test_no_number_is_far_from_every_number():
    one = replay.Reading(torch.tensor([-1.0, torch.nan]), torch.tensor([1, 2]))
    assert replay.compare(one, one).largest == float("inf")


# ── the place ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("to", ["adapter", "merged", "gguf"])
def test_an_interrupted_export_leaves_nothing(sources, tmp_path, monkeypatch, to):
    seen = []

    def interrupt(stage):
        seen.append(stage)
        if stage == "replaying":
            assert any(name.endswith(".exporting") for name in left(tmp_path))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(sources(), to=to, out=tmp_path / "out", on_stage=interrupt)
    assert left(tmp_path) == []


def test_what_a_killed_export_left_is_cleared_by_the_next(sources, tmp_path):
    gone, running, others = (tmp_path / name for name in (".out.4194303-0a1b2c3d.exporting",
                             f".out.{os.getpid()}-0a1b2c3d.exporting", ".other.4194303-0a1b2c3d.exporting"))  # fmt: skip
    recycled = tmp_path / f".out.{os.getpid()}-11111111.exporting"
    for folder in (gone, running, others, recycled):
        folder.mkdir()
    os.utime(recycled, (time.time() - 1e6,) * 2)  # from before this process: another bore its number
    with place.beside(tmp_path / "out") as scratch:
        assert left(tmp_path) == sorted([running.name, others.name, scratch.name])
    assert left(tmp_path) == sorted([running.name, others.name])


def test_a_folder_that_holds_something_is_not_touched(sources, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    export(sources(), to="merged", out=out)
    for force, said in ((False, "not empty"), (True, "not an export")):
        mine = tmp_path / "mine"
        mine.mkdir(exist_ok=True)
        (mine / "thesis.tex").write_text("three years")
        with pytest.raises(ExportError, match=said) as caught:
            export(sources(), to="merged", out=mine, force=force)
        assert caught.value.code == "folder_not_empty"
        assert left(mine) == ["thesis.tex"]
    with pytest.raises(ExportError, match="not empty"):
        export(sources(), to="gguf", out=out)
    done = export(sources(), to="gguf", out=out, force=True)
    assert left(out) == list(done.files)
    assert left(tmp_path) == ["mine", "out"]


def test_a_failed_export_keeps_the_earlier_one(sources, tmp_path, monkeypatch):
    out = tmp_path / "out"
    export(sources(), to="merged", out=out)
    before = {name: hash_file(out / name) for name in left(out)}
    monkeypatch.setattr(write, "interleave", lambda rows, heads: rows)
    with pytest.raises(ExportError):
        export(sources(), to="gguf", out=out, force=True)
    assert {name: hash_file(out / name) for name in left(out)} == before
    assert left(tmp_path) == ["out"]


def test_places_that_can_not_be_written_to_are_named(sources, tmp_path):
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("x")
    link.symlink_to(tmp_path)
    for out, said in ((file, "not a folder"), (link, "not a folder"), (tmp_path / "x.gguf", "names a file"),
                      (file / "below", "can't write there")):  # fmt: skip
        with pytest.raises(ExportError, match=said):
            export(sources(), to="merged", out=out)
    assert left(tmp_path) == ["file", "link"]


def test_room_is_checked_before_anything_is_loaded(sources, tmp_path, monkeypatch):
    stages = []
    monkeypatch.setattr(place.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**30, 2**30, 2**20))
    for to in ("adapter", "merged", "gguf"):
        with pytest.raises(ExportError, match="of disk") as caught:
            export(sources(), to=to, out=tmp_path / "out", on_stage=stages.append)
        assert caught.value.code == "no_space"
    monkeypatch.undo()
    monkeypatch.setattr(formats, "free_memory_bytes", lambda: 1000)
    with pytest.raises(ExportError, match="of memory") as caught:
        export(sources(), to="merged", out=tmp_path / "out", on_stage=stages.append)
    assert caught.value.code == "does_not_fit"
    assert stages == []
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("to", "dtype"), [("adapter", "f16"), ("merged", "q8_0"), ("gguf", "q4_k_m"), ("onnx", None)]
)
def test_a_format_or_type_that_is_none_is_named(sources, tmp_path, to, dtype):
    with pytest.raises(ExportError):
        export(sources(), to=to, out=tmp_path / "out", dtype=dtype)
    assert left(tmp_path) == []


# ── through the front door ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def registered(sources, tmp_path, monkeypatch):
    """A workspace with a registered model whose job has a dataset."""
    monkeypatch.setenv("JOURNEYMAN_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    workspace = Workspace()
    rows = tmp_path / "rows.jsonl"
    things = ("lamp", "kettle", "blanket", "mug", "chair", "clock", "basket", "mirror", "candle", "shelf")
    rows.write_text("".join(
        json.dumps({"messages": [{"role": "user", "content": f"Where is my {thing}? {n * 977}"},
                                 {"role": "assistant", "content": f"The {thing} left on day {n}."}]}) + "\n"
        for n, thing in enumerate(things * 3)
    ))  # fmt: skip
    source = sources()
    base = base_models.resolve(str(source.folder))
    job = workspace.jobs.create(base=base.source, source=str(rows), suffix="", wishes=Wishes())
    dataset = build(rows, job.folder / "dataset", held_out_share=0.3)
    assert len(dataset.held_out) > 3
    folder = job.folder / "model"
    shutil.copytree(source.adapter, folder)
    choice = {"value": 4, "reason": "small | rows", "source": "user"}
    version = Version(
        "ft:tiny:local::Ab12Cd34", job.id, base.name, base.source, base.fingerprint, dataset.hash, "lora",
        {"choices": {"rank": choice}}, {"steps": 3, "replay": {}}, {f.name: hash_file(f) for f in folder.iterdir()}, folder, 1.0,
    )  # fmt: skip
    workspace.registry.add(version)
    workspace.registry.set_alias("live", version.id)
    return workspace, version, dataset


def test_a_registered_model_is_replayed_on_its_held_out_rows(registered, tmp_path, monkeypatch):
    workspace, version, dataset = registered
    seen = []
    right = replay.rows_for
    monkeypatch.setattr(
        replay, "rows_for", lambda examples, *rest: seen.extend(examples) or right(examples, *rest)
    )
    done = workspace.export("live", to="merged")
    assert seen == dataset.held_out[:8]
    assert done.folder == tmp_path / "ft-tiny-local--Ab12Cd34-merged"
    assert done.replay["rows"] == len(seen)
    assert done.replay["texts"] == len(replay.FIXED_TEXTS) + len(seen)
    assert largest(logits(theirs(done.folder)), logits(tuned_version(version))) < 1e-4


def tuned_version(version: Version) -> torch.nn.Module:
    return tuned(Source(version.id, "", "", Path(version.base_source), version.folder))


def test_the_record_and_the_card_say_what_it_is(registered, tmp_path):
    workspace, version, dataset = registered
    done = workspace.export(version.id, to="gguf", out=tmp_path / "out")
    record = read_json(done.folder / place.RECORD_FILE)
    assert (record["model"], record["format"], record["dataset_hash"]) == (version.id, "gguf", dataset.hash)
    assert record["files"] == {
        n: hash_file(done.folder / n) for n in done.files if n not in (place.RECORD_FILE, "README.md")
    }
    card = (done.folder / "README.md").read_text(encoding="utf-8")
    for said in (version.id, version.base_fingerprint, dataset.hash, "| rank | 4 | small \\| rows |", "| steps | 3 |",
                 f"llama-server -m {gguf_file(done.folder)}"):  # fmt: skip
        assert said in card
    for to, said in (("adapter", "--max-lora-rank 4"), ("merged", "AutoModelForCausalLM.from_pretrained")):
        folder = workspace.export(version.id, to=to, out=tmp_path / to).folder
        assert said in (folder / "README.md").read_text(encoding="utf-8")


def test_files_that_are_not_the_registered_ones_are_not_exported(registered, tmp_path):
    workspace, version, _ = registered
    weights = version.folder / lora.ADAPTER_FILE
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointError, match="not the registered ones") as caught:
        workspace.export(version.id, to="adapter", out=tmp_path / "out")
    assert lora.ADAPTER_FILE in caught.value.problems[0]


def test_a_model_whose_dataset_is_gone_is_replayed_on_fixed_texts(registered, tmp_path):
    workspace, version, _ = registered
    shutil.rmtree(workspace.jobs.get(version.job).folder / "dataset")
    assert workspace.export(version.id, to="merged", out=tmp_path / "out").replay["rows"] == len(
        replay.FIXED_TEXTS
    )


def test_nobodys_model_is_not_found(registered):
    for name in ("ft:nobody", "nobody"):
        with pytest.raises(ModelNotFound):
            registered[0].export(name, to="merged")


def test_the_command_prints_one_object(registered, tmp_path):
    done = CliRunner().invoke(
        app, ["export", "live", "--to", "gguf", "--type", "q8_0", "--out", "out", "--json"]
    )
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["model"], said["format"], said["type"]) == ("ft:tiny:local::Ab12Cd34", "gguf", "q8_0")
    assert said["folder"] == str(tmp_path / "out")
    assert sorted(said["files"]) == left(tmp_path / "out")
    assert said["replay"]["token_ids"] == "same"
    again = CliRunner().invoke(app, ["export", "live", "--to", "adapter", "--out", "out"])
    assert isinstance(again.exception, ExportError)
    assert (
        CliRunner().invoke(app, ["export", "live", "--to", "adapter", "--out", "out", "--force"]).exit_code
        == 0
    )


def test_the_bases_card_goes_along(tmp_path):
    export(source_of(None, base_models.resolve("starter")), to="merged", out=tmp_path / "out")
    assert (tmp_path / "out" / "BASE.md").read_bytes() == (starter.path() / "README.md").read_bytes()
    assert "[BASE.md](BASE.md)" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    with (
        safe_open(tmp_path / "out" / "model.safetensors", "pt") as weights,
        safe_open(starter.path() / "model.safetensors", "pt") as original,
    ):
        for name in original.keys():  # noqa: SIM118  (not a dictionary)
            assert torch.equal(weights.get_tensor(name), original.get_tensor(name))
