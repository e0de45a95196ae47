"""Tiny models with random weights, one of each family, and trainings of them that take a fraction of a second."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers as tf
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from journeyman.plan.machine import Machine
from journeyman.plan.plan import DataFacts, Plan, Wishes, make_plan
from journeyman.plan.shape import ModelShape
from journeyman.records import Place
from journeyman.text.encode import Encoded
from journeyman.train import loop, lora
from journeyman.train.load import load_base

torch.set_num_threads(1)

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "{% for c in m['tool_calls'] or [] %}<tool_call>{{ c['function'] | tojson }}</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN3 = (
    "{% set ns = namespace(last=-1) %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% set content = m['content'] %}"
    "{% if m['role'] == 'assistant' and loop.index0 < ns.last %}"
    "{% set content = content.split('</think>')[-1] %}{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}<start_of_turn>"
    "{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
TEMPLATES = {"chatml": CHATML, "qwen3": QWEN3, "gemma": GEMMA, "mistral": MISTRAL, "llama3": LLAMA3}

SPECIAL = (
    "<|pad|>", "<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>", "[INST]",
    "[/INST]", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
)  # fmt: skip

_LINES = (
    "The parcel left our house on Monday and should reach you by Thursday.",
    "Could you send the order number, please? We will look at once.",
    "user assistant system model tool developer\n\n",
    "Schöne Grüße aus der Werkstatt, 你好, \N{GRINNING FACE}",
)


@cache
def tokenizer_json() -> str:
    """A byte-level BPE of 256 bytes, the special tokens and some dozen merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=[AddedToken(t, special=True) for t in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_LINES * 3, trainer)
    return str(tokenizer.to_str())


VOCAB: int = tokenizers.Tokenizer.from_str(tokenizer_json()).get_vocab_size()


def write_tokenizer(folder: Path, template: str | None) -> None:
    """What a model's folder holds for talking to it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|bos|>",
        "eos_token": "<|eos|>",
        "pad_token": "<|pad|>",
    }
    if template is not None:
        config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


_SIZES: Mapping[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 192,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GPT2: Mapping[str, Any] = {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 192,
                            "initializer_range": 0.2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
                            "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}  # fmt: skip
_SLIDING = ["sliding_attention", "full_attention"]

FAMILIES: Mapping[str, tuple[Any, Any, Mapping[str, Any]]] = {
    "llama": (tf.LlamaConfig, tf.LlamaForCausalLM, _SIZES),
    "qwen2": (tf.Qwen2Config, tf.Qwen2ForCausalLM, {**_SIZES, "tie_word_embeddings": True}),
    "qwen3": (tf.Qwen3Config, tf.Qwen3ForCausalLM, {**_SIZES, "head_dim": 8, "tie_word_embeddings": True}),
    "gemma3": (
        tf.Gemma3TextConfig,
        tf.Gemma3ForCausalLM,
        {**_SIZES, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8, "layer_types": _SLIDING},
    ),
    "mistral": (tf.MistralConfig, tf.MistralForCausalLM, {**_SIZES, "head_dim": 8, "sliding_window": 12}),
    "phi3": (tf.Phi3Config, tf.Phi3ForCausalLM, {**_SIZES, "original_max_position_embeddings": 192}),
    "smollm3": (tf.SmolLM3Config, tf.SmolLM3ForCausalLM, {**_SIZES, "tie_word_embeddings": True}),
    "olmo2": (tf.Olmo2Config, tf.Olmo2ForCausalLM, _SIZES),
    "gpt_neox": (tf.GPTNeoXConfig, tf.GPTNeoXForCausalLM, _SIZES),
    "gpt2": (tf.GPT2Config, tf.GPT2LMHeadModel, _GPT2),
    "granite": (tf.GraniteConfig, tf.GraniteForCausalLM, {**_SIZES, "logits_scaling": 4.0}),
    "cohere": (tf.CohereConfig, tf.CohereForCausalLM, {**_SIZES, "logit_scale": 0.5}),
    "gemma2": (
        tf.Gemma2Config,
        tf.Gemma2ForCausalLM,
        {**_SIZES, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8, "layer_types": _SLIDING,
         "final_logit_softcapping": 2.0, "attn_logit_softcapping": 0.5},
    ),
}  # fmt: skip


def write_base(folder: Path, family: str, template: str | None = CHATML, **changes: Any) -> None:
    """A model of the family in transformers' format, its sizes changed as asked; the same weights every time."""
    config_class, model_class, values = FAMILIES[family]
    torch.manual_seed(1)
    model = model_class(config_class(**{**values, **changes}))
    model.save_pretrained(folder)
    write_tokenizer(folder, template)


def write_embedder(folder: Path) -> Path:
    """A BERT of sentence-transformers' form that reads 64 tokens; skips the test where the extra is missing."""
    library = pytest.importorskip("sentence_transformers", reason='needs pip install "journeyman[vectors]"')
    bert, modules = folder / "bert", library.sentence_transformer.modules
    torch.manual_seed(1)
    config = tf.BertConfig(
        vocab_size=VOCAB, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, max_position_embeddings=64
    )
    tf.BertModel(config).save_pretrained(bert)
    write_tokenizer(bert, None)
    read = modules.Transformer(str(bert), max_seq_length=64)
    library.SentenceTransformer(modules=[read, modules.Pooling(16)]).save(str(folder))
    shutil.rmtree(bert)
    return folder


def write_adapter(base: Path, folder: Path, seed: int) -> Path:
    """A random adapter, as large as a real one."""
    model = load_base(base)
    lora.add_adapter(model, "x", rank=4, alpha=32, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for _, layer in lora.lora_layers(model):
        layer.lora_B["x"].data.normal_(0, 0.1, generator=generator)
    lora.save_adapter(model, "x", folder, base="tiny")
    return folder


MACHINE = Machine(
    cores=1,
    memory_bytes=8 * 2**30,
    free_memory_bytes=6 * 2**30,
    free_disk_bytes=50 * 2**30,
    cpu="a processor in a test",
    cpu_bf16=False,
    matmul_flops_s=50e9,
)


def rows(count: int, *, seed: int = 0, shortest: int = 6, longest: int = 24) -> list[Encoded]:
    """Rows of random tokens of which the second half is learned."""
    source = np.random.default_rng(seed)
    out = []
    for line in range(1, count + 1):
        length = int(source.integers(shortest, longest + 1))
        weights_T = np.zeros(length, np.float32)
        weights_T[length // 2 :] = 1
        ids_T = source.integers(len(SPECIAL), VOCAB, length).astype(np.int32)
        out.append(Encoded(ids_T, weights_T, Place("rows.jsonl", line)))
    return out


def plan_for(base: Path, train: Sequence[Encoded], validation: Sequence[Encoded] = (), **wishes: Any) -> Plan:
    """The plan of a training on these rows, as the worker draws it."""
    facts = DataFacts(
        rows=len(train),
        tokens=sum(len(r) for r in train),
        learned_tokens=sum(r.learned_tokens for r in train),
        longest_row_tokens=max(len(r) for r in train),
        validation_rows=len(validation),
        validation_tokens=sum(len(r) for r in validation),
        truncated_rows=0,
    )
    shape = ModelShape.read(base)
    asked = Wishes(**{"epochs": 2, "batch_size": 4, "learning_rate": 1e-2, "rank": 4, **wishes})
    return make_plan(
        base="tiny", base_hash="", dataset_hash="", facts=facts, shape=shape, machine=MACHINE, wishes=asked
    )


@dataclass
class Run:
    """A training that ran here: what came out, what happened, and the model as it stands."""

    outcome: loop.Outcome
    model: Any
    events: list[Mapping[str, Any]] = field(default_factory=list)

    def of(self, kind: str) -> list[Mapping[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    @property
    def losses(self) -> list[float]:
        return [event["train_loss"] for event in self.of("step")]


def train(
    base: Path,
    plan: Plan,
    train_rows: Sequence[Encoded],
    validation: Sequence[Encoded],
    folder: Path,
    *,
    stop_at: int | None = None,
) -> Run:
    """Run (or resume) the loop in `folder`; `stop_at` pauses it after that step."""
    model = load_base(base, precision=plan.precision.value, device=plan.device.value)
    loop.prepare(model, plan)
    events: list[Mapping[str, Any]] = []
    seen = [0]

    def on_event(event: Mapping[str, Any]) -> None:
        events.append(event)
        if event["type"] == "step":
            seen[0] = event["step"]

    outcome = loop.train(
        plan,
        model,
        train_rows,
        validation,
        folder,
        on_event=on_event,
        should_stop=lambda: stop_at is not None and seen[0] >= stop_at,
    )
    return Run(outcome, model, events)
