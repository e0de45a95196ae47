"""llama.cpp judges the GGUF files: it must tokenize and compute as the model that was exported does.

Runs where its wheel is installed: pip install "journeyman[llama-cpp]".
"""

from __future__ import annotations

import json
import random
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import tiny
from journeyman import starter
from journeyman.models import bases as base_models
from journeyman.models.export import replay
from journeyman.models.export.export import export
from journeyman.models.export.llamacpp import tokenizer
from journeyman.models.export.source import source_of
from journeyman.records import Message
from journeyman.text.template import ChatFormat
from journeyman.train.load import load_base
from llama_cpp_server import LlamaCpp, serving

pytestmark = pytest.mark.skipif(
    find_spec("xllamacpp") is None,
    reason='llama.cpp is not here to judge: pip install "journeyman[llama-cpp]"',
)

ROOT = Path(__file__).parents[2]
LIMIT = 1e-3
"""fp32 against fp32; 2e-5 was the most that was seen, on the starter, and any wrong layout is above 0.1."""


def exported(folder: Path, out: Path, **options) -> Path:
    export(source_of(None, base_models.resolve(str(folder))), to="gguf", out=out, **options)
    (file,) = out.glob("*.gguf")
    return file


@torch.no_grad()
def insist(
    served: LlamaCpp, model: torch.nn.Module, ids: list[int], lengths: tuple[int, ...], limit: float = LIMIT
) -> None:
    """The whole distribution of the next token, after each of these many tokens."""
    ours_TV = model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)
    for length in lengths:
        theirs = served.log_probs(ids[:length], ours_TV.shape[-1])
        assert len(theirs) == ours_TV.shape[-1]
        assert max(abs(float(ours_TV[length - 1, i]) - value) for i, value in theirs.items()) < limit, length


ROPE = {"rope_theta": 10000.0}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 48,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 48}
CASES = {
    "llama": ("llama", {}),
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
    "llama, wide heads": ("llama", {"head_dim": 16}),
    "llama, biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, theta": ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}}),
    "llama, linear": ("llama", {"rope_parameters": {**ROPE, "rope_type": "linear", "factor": 4.0}}),
    "llama, yarn": ("llama", {"rope_parameters": {**ROPE, **YARN}}),
    "llama, llama3": ("llama", {"rope_parameters": {**ROPE, **LLAMA3}}),
    "mistral": ("mistral", {"sliding_window": None}),
    "qwen2": ("qwen2", {}),
    "qwen2, untied": ("qwen2", {"tie_word_embeddings": False}),
    "qwen2, yarn": ("qwen2", {"rope_parameters": {**ROPE, **YARN}}),
    "qwen3": ("qwen3", {}),
    "qwen3, untied, wide heads": ("qwen3", {"tie_word_embeddings": False, "head_dim": 16}),
    "qwen3, linear": ("qwen3", {"rope_parameters": {**ROPE, "rope_type": "linear", "factor": 4.0}}),
    "smollm3": ("smollm3", {"num_hidden_layers": 5}),
    "smollm3, untied, wide heads": ("smollm3", {"tie_word_embeddings": False, "head_dim": 16}),
    "olmo2": ("olmo2", {}),
    "olmo2, yarn": ("olmo2", {"rope_parameters": {**ROPE, **YARN}}),
    "granite": ("granite", {"attention_multiplier": 0.3, "embedding_multiplier": 3.0, "residual_multiplier": 0.5}),
    "granite, tied, biases": ("granite", {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_llama_cpp_computes_what_transformers_computes(tmp_path, case):
    family, changes = CASES[case]
    config_class, model_class, values = tiny.FAMILIES[family]
    torch.manual_seed(1)
    model = model_class(config_class(**{**values, **changes}))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:  # fresh ones are 0 and 1, which hide what is left out
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    model.save_pretrained(tmp_path / "base")
    tiny.write_tokenizer(tmp_path / "base", tiny.CHATML)
    ids = torch.randint(len(tiny.SPECIAL), tiny.VOCAB, (150,), generator=generator).tolist()
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32).eval()
    with serving(exported(tmp_path / "base", tmp_path / "out")) as served:
        insist(served, theirs, ids, (1, 40, 150))


@pytest.mark.parametrize(("dtype", "limit"), [("f16", 0.05), ("bf16", 0.3), ("q8_0", 0.8)])
def test_llama_cpp_reads_every_type(bases, tmp_path, dtype, limit):
    """It rounds activations to the type of the weights too, so that only closeness can be asked."""
    ids = list(range(len(tiny.SPECIAL), len(tiny.SPECIAL) + 30))
    with serving(exported(bases("llama"), tmp_path / "out", dtype=dtype)) as served:
        insist(served, load_base(bases("llama")), ids, (1, 30), limit)


# ── tokens ────────────────────────────────────────────────────────────────────────────────────────────────────────

WORDS = [
    "the",
    "don't",
    "I'LL",
    "WE'RE",
    "naïve",
    "Ärger",
    "straße",
    "ÉCOLE",
    "你好",
    "世界",
    "こんにちは",
    "привет",
    "ПРИВЕТ",
    "Мир",
    "ελληνικά",
    "שלום",
    "مرحبا",
    "ไทย",
    "한국어",
    "Å",
    "x²",
    "½",
    "١٢٣",
    "Ⅷ",
    "①",
    "3.14",
    "1,234,567",
    "2026-01-31",
    "#tag",
    "@me",
    "foo_bar",
    "fooBar",
    "HTTPServer",
    "$5",
    "€7",
    "…",
    "—",
    "“q”",
    "👍",
    "👩\u200d👩\u200d👧",
    "\u200b",
    "\xa0",
    "\t",
    "\n",
    "\r\n",
    "\n\n\n",
    "......",
    "!!!",
    "<|im_start|>",
    "<|im_end|>",
    "[INST]",
    "{}[]()",
    "/*",
    "//",
    "a.b.c",
    "ß",
    "ǅ",
    "ʰ",
    "ª",
    "µ",
    "हिन्दी",
    "é",
]


def mixed_texts(count: int) -> list[str]:
    """Words of many scripts, numbers and spaces in random order."""
    source = random.Random(5)
    pieces = [*WORDS, *(str(source.randrange(10**9)) for _ in range(10))]
    glue = (" ", "", "", " ", "  ", "\n", " \n ", "\t")
    return [
        "".join(source.choice(pieces) + source.choice(glue) for _ in range(source.randint(1, 14)))
        for _ in range(count)
    ]


TEXTS = mixed_texts(300)


def trained(known: tokenizer.PreTokenizer) -> Tokenizer:
    """Enough merges for every wrong cut to show."""
    made = Tokenizer(models.BPE(ignore_merges=known.ignore_merges))
    if known.name == "smollm":
        made.pre_tokenizer = Tokenizer.from_file(str(starter.path() / "tokenizer.json")).pre_tokenizer
    elif known.name == "gpt-2":
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        cuts = [pre_tokenizers.Split(Regex(rule), behavior="isolated") for rule in known.cuts]
        made.pre_tokenizer = pre_tokenizers.Sequence(
            [*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    made.decoder = decoders.ByteLevel()
    pages = [page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md"))]
    trainer = trainers.BpeTrainer(
        vocab_size=3000,
        special_tokens=[AddedToken(t, special=True) for t in tiny.SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([*pages, *TEXTS, *TEXTS], trainer)
    return made


@pytest.mark.parametrize("known", tokenizer.PRE_TOKENIZERS, ids=lambda p: p.name)
def test_llama_cpp_cuts_text_as_its_name_says(tmp_path, known):
    made = trained(known)
    base = tmp_path / "base"
    LlamaForCausalLM(LlamaConfig(**{**tiny._SIZES, "vocab_size": made.get_vocab_size()})).save_pretrained(
        base
    )
    tiny.write_tokenizer(base, tiny.CHATML)
    made.save(str(base / "tokenizer.json"))
    chat = ChatFormat.open(base)
    rebuilt = tokenizer.rebuild(tokenizer.vocabulary(chat, made.get_vocab_size()))
    differing = []
    with serving(exported(base, tmp_path / "out")) as served:
        for text in (*TEXTS, *replay.FIXED_TEXTS):
            theirs = served.tokens(text)
            assert rebuilt.encode(text, add_special_tokens=False).ids == theirs, text
            if chat.ids(text) != theirs:
                differing.append(text)
    assert bool(differing) == (known.inexact is not None)
    assert not set(replay.FIXED_TEXTS) & set(differing)


# ── the starter ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_starter_answers_in_llama_cpp_as_it_does_here(tmp_path):
    """Five prompts of a bundled task: the same prompt from the template, the same tokens, the same answer."""
    rows = (ROOT / "src/journeyman/tasks/support/held_out.jsonl").read_text(encoding="utf-8").splitlines()[:5]
    chat, model = ChatFormat.open(starter.path()), load_base(starter.path())
    out = tmp_path / "out"
    export(source_of(None, base_models.resolve("starter")), to="gguf", out=out, dtype="f32")
    (file,) = out.glob("*.gguf")
    with serving(file) as served:
        for row in map(json.loads, rows):
            messages = [m for m in row["messages"] if m["role"] != "assistant"]
            conversation = [Message(m["role"], m["content"]) for m in messages]
            prompt = chat.render(conversation, add_generation_prompt=True)
            assert served.post("/apply-template", {"messages": messages})["prompt"] == prompt
            ids = chat.prompt_ids(conversation)
            assert served.tokens(prompt) == ids
            insist(served, model, ids, (len(ids),))
            answer = greedy(model, ids, chat, 24)
            assert [t for t in served.greedy(ids, 24) if t not in chat.stop_ids] == answer
            said = served.post(
                "/v1/chat/completions", {"messages": messages, "max_tokens": 24, "temperature": 0}
            )
            assert said["choices"][0]["message"]["content"].strip() == chat.text(answer).strip()


@torch.no_grad()
def greedy(model: torch.nn.Module, ids: list[int], chat: ChatFormat, max_tokens: int) -> list[int]:
    """The slowest way to answer: the whole sequence again for each token."""
    ids = list(ids)
    answer: list[int] = []
    while len(answer) < max_tokens:
        token = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        if token in chat.stop_ids:
            break
        answer.append(token)
        ids.append(token)
    return answer
