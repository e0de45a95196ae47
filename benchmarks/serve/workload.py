"""What is served and what is asked: bases, random adapters, prompts of a given length, the same for every system."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from journeyman.models import bases
from journeyman.records import Message
from journeyman.text.template import ChatFormat
from journeyman.train import lora
from journeyman.train.load import load_base

RANK = 16
QWEN_05B = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
    "tie_word_embeddings": True,
    "max_position_embeddings": 2048,
}
"""The shape of Qwen2.5-0.5B (its config.json); the weights are random, so that nothing has to be fetched."""


@dataclass(frozen=True)
class Scenario:
    """So many clients, each asking again as soon as it is answered, until all requests are made."""

    name: str
    adapters: int
    clients: int
    requests: int
    prompt_tokens: int
    answer_tokens: int


SCENARIOS = (Scenario("starter", 0, 64, 256, 128, 64), Scenario("adapters", 8, 16, 48, 256, 64))
QUICK = (Scenario("starter", 0, 16, 32, 64, 16), Scenario("adapters", 2, 4, 8, 64, 16))


@dataclass(frozen=True)
class Ask:
    """One request: which adapter (None: the base), and the user's message."""

    adapter: str | None
    text: str


def write(scenario: Scenario, folder: Path) -> tuple[Path, dict[str, Path]]:
    """The base and the adapters by name, written once."""
    starter = bases.resolve("starter").folder
    if not scenario.adapters:
        return starter, {}
    base = folder / "base-05b"
    if not (base / "config.json").is_file():
        torch.manual_seed(0)
        config = Qwen2Config(**QWEN_05B, bos_token_id=1, eos_token_id=2, pad_token_id=0)
        AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(base)
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
            if (starter / name).is_file():
                shutil.copyfile(starter / name, base / name)
    adapters = {f"a{i}": folder / f"a{i}" for i in range(scenario.adapters)}
    if not all((path / lora.CONFIG_FILE).is_file() for path in adapters.values()):
        model = load_base(base)
        lora.add_adapter(model, "x", rank=RANK, alpha=2 * RANK, seed=0)
        for seed, path in enumerate(adapters.values()):
            generator = torch.Generator().manual_seed(seed)
            for _, layer in lora.lora_layers(model):
                layer.lora_B["x"].data.normal_(0, 0.02, generator=generator)
            lora.save_adapter(model, "x", path, base=str(base))
    return base, adapters


def asks(scenario: Scenario, base: Path, adapters: list[str]) -> list[Ask]:
    """The requests, over the adapters by Zipf's law (the k-th asked 1/k as often), no two prompts alike."""
    source, chat = random.Random(0), ChatFormat.open(base)
    words = [w for i in range(300, 4000) if (w := chat.text([i])).strip().isalpha() and w.startswith(" ")]
    shares = [1 / (rank + 1) for rank in range(len(adapters))]
    out = []
    for _ in range(scenario.requests):
        chosen = source.choices(words, k=scenario.prompt_tokens)
        while len(chat.prompt_ids([Message("user", "".join(chosen))])) > scenario.prompt_tokens:
            chosen.pop()
        adapter = source.choices(adapters, shares)[0] if adapters else None
        out.append(Ask(adapter, "".join(chosen)))
    return out


def save(path: Path, scenario: Scenario, base: Path, adapters: dict[str, Path], asked: list[Ask], chat: ChatFormat, dtype: str) -> None:
    """Everything for a system in a process of its own, prompts as tokens too."""
    prompts = [{**asdict(a), "ids": list(chat.prompt_ids([Message("user", a.text)]))} for a in asked]
    known = {name: str(folder) for name, folder in adapters.items()}
    told = {"stop_ids": list(chat.stop_ids), "dtype": dtype}
    path.write_text(json.dumps({**told, "scenario": asdict(scenario), "base": str(base), "adapters": known, "asks": prompts}))
