"""The workloads: a base, rows of tokens, and the settings that every contender is given alike.

Texts are written by this file: orders in prose, and the summary of each as its completion. Their lengths follow the mix
of short-instruction datasets (lognormal, median 110 tokens, 95th percentile 350, about a third of them learned). BANKING77
is the exception: its rows come from the folder that `--bench` names.

Bases other than the starter have random weights: neither time nor memory depends on their values.
"""

from __future__ import annotations

import json
import math
import random
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from journeyman.models import bases
from journeyman.records import Example, Message, Place
from journeyman.text.encode import encode
from journeyman.text.template import ChatFormat

_TIED = {"tie_word_embeddings": True, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5}
SHAPES: dict[str, dict[str, Any]] = {
    # huggingface.co/HuggingFaceTB/SmolLM2-135M, config.json
    "135M": {"hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536, "num_attention_heads": 9,
             "num_key_value_heads": 3, "vocab_size": 49152, **_TIED},
    # huggingface.co/Qwen/Qwen2.5-0.5B, config.json; without its biases, which cost nothing
    "0.5B": {"hidden_size": 896, "num_hidden_layers": 24, "intermediate_size": 4864, "num_attention_heads": 14,
             "num_key_value_heads": 2, "vocab_size": 151936, **_TIED},
}  # fmt: skip


@dataclass(frozen=True)
class Workload:
    """What is trained, and what is timed: every step after the first `untimed_steps`."""

    name: str
    title: str
    base: str
    """"starter", or a name of SHAPES."""

    method: Literal["lora", "full"]
    rows: int
    learning_rate: float
    epochs: int = 1
    batch_rows: int = 16
    rank: int = 16
    alpha: int = 32
    untimed_steps: int = 1
    held_out_rows: int = 24
    shared_tokens: int = 0
    """About how many tokens of a system prompt all rows begin with; rows are then of one length."""

    dataset: str | None = None
    """A folder of `--bench` whose rows are trained instead of ours."""


WORKLOADS = {
    w.name: w
    for w in (
        Workload("full", "all weights of the starter, mixed lengths", "starter", "full", 80, 1e-3),
        Workload("B1", "LoRA at 135M, mixed lengths", "135M", "lora", 32, 4e-4, held_out_rows=12),
        Workload("B2", "LoRA at 0.5B with vocabulary 152k, mixed lengths", "0.5B", "lora", 24, 3e-4, batch_rows=8, held_out_rows=16),
        Workload("B3", "LoRA at 135M, 600 shared tokens of 700", "135M", "lora", 32, 4e-4, shared_tokens=600, held_out_rows=8),
        Workload("B3-starter", "LoRA on the starter, 600 shared tokens of 700", "starter", "lora", 32, 2e-3, shared_tokens=600),
        Workload("B4", "BANKING77 on the starter, to the same accuracy", "starter", "full", 4096, 1e-3, epochs=2, untimed_steps=0, held_out_rows=400, dataset="banking77"),
    )
}  # fmt: skip

NOUNS = "lamp kettle ladder blanket bicycle window garden basket curtain hammer mirror pillow drawer candle bottle carpet".split()
COLOURS = "red green blue white black yellow brown grey silver golden".split()
PEOPLE = (
    "Anna Boris Clara David Elena Frank Greta Henry Irene Jacob Karin Louis Maria Nora Oscar Paula".split()
)
TOWNS = "Bergen Bologna Cork Dresden Exeter Florence Geneva Hamburg Lyon Malmo Porto Riga Seville Trieste Utrecht Vienna".split()


def write(workload: Workload, folder: Path, bench: Path | None) -> None:
    """The workload as a folder: base/, rows.jsonl, held_out.jsonl (ids and weights of each row), workload.json."""
    folder.mkdir(parents=True)
    _write_base(workload.base, folder / "base")
    chat = ChatFormat.open(folder / "base")
    if workload.dataset:
        if bench is None:
            raise SystemExit(f"{workload.name} needs the folder of {workload.dataset}: --bench DIR")
        rows = _public_rows(bench / workload.dataset / "train.jsonl", workload.rows, chat)
        held_out = _public_rows(bench / workload.dataset / "test.jsonl", workload.held_out_rows, chat)
    else:
        writer = random.Random(workload.name)
        system = _prose(writer, chat, workload.shared_tokens) if workload.shared_tokens else ""
        made = [_row(writer, chat, system, n) for n in range(workload.rows + workload.held_out_rows)]
        rows, held_out = made[: workload.rows], made[workload.rows :]
    for name, written in (("rows", rows), ("held_out", held_out)):
        lines = [json.dumps(row) + "\n" for row in written]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "workload.json").write_text(json.dumps(asdict(workload), indent=1), encoding="utf-8")


def _write_base(base: str, folder: Path) -> None:
    """The starter, or random weights with the starter's tokenizer; in fp32, as the peers load them."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    starter = bases.resolve("starter").folder
    shutil.copytree(
        starter, folder, ignore=shutil.ignore_patterns("*.safetensors", "README.md", "config.json")
    )
    torch.manual_seed(0)
    if base == "starter":
        model = AutoModelForCausalLM.from_pretrained(starter, dtype=torch.float32)
    else:
        model = LlamaForCausalLM(LlamaConfig(**SHAPES[base], bos_token_id=1, eos_token_id=2, pad_token_id=0))
    model.save_pretrained(folder)


def _row(writer: random.Random, chat: ChatFormat, system: str, number: int) -> dict[str, Any]:
    """One order and its summary; behind a system prompt 60 tokens are asked and 40 answered."""
    tokens = 100.0 if system else min(600.0, max(24.0, math.exp(writer.gauss(math.log(110), 0.70))))
    order = _prose(writer, chat, tokens * (0.60 if system else 0.65) - 8)
    summary = _prose(writer, chat, tokens * (0.40 if system else 0.35) - 4)
    messages = [
        *([Message("system", system)] if system else []),
        Message("user", order),
        Message("assistant", summary),
    ]
    return _tokens(Example(tuple(messages), Place("workload", number)), chat)


def _prose(writer: random.Random, chat: ChatFormat, tokens: float) -> str:
    """Sentences of at least so many tokens, the last one cut at a word."""
    text = ""
    while len(chat.ids(text)) < tokens:
        text += (
            f"{writer.choice(PEOPLE)} in {writer.choice(TOWNS)} ordered {writer.randint(2, 40)} {writer.choice(COLOURS)} "
            f"{writer.choice(NOUNS)}s and a {writer.choice(COLOURS)} {writer.choice(NOUNS)}. "
        )
    words = text.split()
    while len(words) > 1 and len(chat.ids(" ".join(words[:-1]))) >= tokens:
        words.pop()
    return " ".join(words)


def _public_rows(path: Path, count: int, chat: ChatFormat) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    chosen = random.Random(0).sample(lines, count)
    rows = []
    for number, line in enumerate(chosen):
        messages = tuple(Message(m["role"], m["content"]) for m in json.loads(line)["messages"])
        rows.append(_tokens(Example(messages, Place(path.name, number)), chat))
    return rows


def _tokens(example: Example, chat: ChatFormat) -> dict[str, Any]:
    (row,) = encode(example, chat)
    return {"ids": row.ids_T.tolist(), "weights": [int(w) for w in row.weights_T]}
