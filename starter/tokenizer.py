"""Train the tokenizer: byte-level BPE on a sample of the stage-one mix.

    python -m starter.tokenizer --corpus DIR --out RUN/tokenizer

The splitting rule (digits one by one, then GPT-2's regular expression) is SmolLM's, which llama.cpp has under the
name `smollm`, so that a GGUF export can split text the same way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from starter import vocabulary as v
from starter.corpus import rows, shards
from starter.mix import STAGE_ONE


def sample(corpus: Path, megabytes: float, seed: int) -> Iterator[str]:
    """Texts in the shares of stage one, at most about `megabytes` of them, spread over all shards."""
    files = shards(corpus)
    allowance = dict.fromkeys(STAGE_ONE, 0.0)
    # Documents and conversations live in different shards; each kind spends its shares over its own files.
    for kind in ("text-", "chat-"):
        chosen = [file for file in files if file.name.startswith(kind)]
        for file in track(chosen, description=f"Reading {kind}*"):
            allowance = {g: share * megabytes * 1e6 / len(chosen) for g, share in STAGE_ONE.items()}
            for row in rows(file):
                if allowance[row.group] > 0 and row.draw(seed) < 0.5:
                    allowance[row.group] -= len(row.content)
                    yield row.content
                elif all(left <= 0 for left in allowance.values()):
                    break


def train(texts: Iterator[str], size: int) -> Tokenizer:
    """A byte-level BPE tokenizer with our special tokens first; every byte is in it, so any text round-trips."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(v.SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=20,
        show_progress=True,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save(tokenizer: Tokenizer, context: int, out: Path) -> None:
    """Write the tokenizer with its chat template as both transformers 4 and 5 read it."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "bos_token": v.BOS,
        "eos_token": v.END,
        "pad_token": v.PAD,
        "additional_special_tokens": [t for t in v.SPECIAL_TOKENS if t not in (v.BOS, v.END, v.PAD)],
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",
        "model_input_names": ["input_ids", "attention_mask"],
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (out / "chat_template.jinja").write_text(v.CHAT_TEMPLATE)


def main(
    corpus: Annotated[Path, typer.Option(help="Folder with text-*.jsonl.xz and chat-*.jsonl.xz.")],
    out: Annotated[Path, typer.Option(help="Folder to write the tokenizer to.")],
    megabytes: Annotated[float, typer.Option(help="How much text to learn the merges from.")] = 40.0,
    size: Annotated[int, typer.Option(help="Number of tokens, special ones included.")] = v.VOCABULARY_SIZE,
    context: Annotated[int, typer.Option(help="Longest input the model will accept, in tokens.")] = 2048,
    seed: Annotated[int, typer.Option(help="Decides which documents are in the sample.")] = 1,
) -> None:
    """Train the tokenizer and save it with the chat template."""
    save(train(sample(corpus, megabytes, seed), size), context, out)
    typer.echo(f"{size} tokens in {out}")


if __name__ == "__main__":
    typer.run(main)
