"""Write the package: a folder that plain transformers loads, with its model card.

    python -m starter.package --checkpoint RUN/chat/checkpoint --tokenizer RUN/tokenizer \\
        --card starter/model_card.md --manifest starter/results/manifest-one.json \\
        --manifest starter/results/manifest-two.json --out src/journeyman/starter/starter-1
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import GenerationConfig, LlamaConfig

from starter import checkpoint
from starter import vocabulary as v
from starter.shape import Shape
from starter.tokenizer import save as save_tokenizer


def llama_config(shape: Shape) -> LlamaConfig:
    """The same shape in transformers' words."""
    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_width,
        max_position_embeddings=shape.context,
        rms_norm_eps=shape.norm_epsilon,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=True,
        pad_token_id=v.PAD_ID,
        bos_token_id=v.BOS_ID,
        eos_token_id=v.END_ID,
        dtype="float16",
    )


def sources_table(manifests: list[Path]) -> str:
    """Every source with its tokens, repository and licence, the largest first."""
    tokens: Counter[tuple[str, str, str]] = Counter()
    for manifest in manifests:
        for source in json.loads(manifest.read_text())["sources"]:
            name = source["source"].split(" (")[0]
            tokens[name, source["repo"], source["licence"]] += source["tokens"]
    lines = ["| source | tokens prepared | from | licence |", "|---|---:|---|---|"]
    lines += [f"| {name} | {count:,} | {repo} | {licence} |" for (name, repo, licence), count in tokens.most_common()]
    return "\n".join(lines)


def main(
    weights: Annotated[Path, typer.Option("--checkpoint", help="Checkpoint of the model to package.")],
    tokenizer: Annotated[Path, typer.Option(help="Folder written by starter.tokenizer.")],
    out: Annotated[Path, typer.Option(help="Folder of the package.")],
    card: Annotated[Path | None, typer.Option(help="The model card; becomes README.md.")] = None,
    manifest: Annotated[list[Path] | None, typer.Option(help="Manifest of a stage, for the card's sources.")] = None,
) -> None:
    """Package a checkpoint; every file is replaced as a whole, so a reader never sees half of one."""
    shape = Shape(**checkpoint.read(weights)[1]["shape"])
    fresh = out.with_name(out.name + ".new")
    fresh.mkdir(parents=True, exist_ok=True)
    save_tokenizer(Tokenizer.from_file(str(tokenizer / "tokenizer.json")), shape.context, fresh)
    llama_config(shape).save_pretrained(fresh)
    GenerationConfig(
        do_sample=True, temperature=0.7, top_p=0.9, max_new_tokens=256,
        bos_token_id=v.BOS_ID, eos_token_id=v.END_ID, pad_token_id=v.PAD_ID,
    ).save_pretrained(fresh)
    # Half precision keeps 11 significant bits, bfloat16 8; all weights are far inside its range.
    halves = {name: weight.to(torch.float16) for name, weight in checkpoint.weights(weights).items()}
    save_file(halves, fresh / "model.safetensors", metadata={"format": "pt"})
    (fresh / "model.safetensors").chmod(0o644)
    if card is not None:
        text = card.read_text(encoding="utf-8").replace("<!-- sources -->", sources_table(manifest or []))
        (fresh / "README.md").write_text(text, encoding="utf-8")

    out.mkdir(parents=True, exist_ok=True)
    for file in sorted(fresh.iterdir()):
        file.replace(out / file.name)
        typer.echo(f"{(out / file.name).stat().st_size:>10,}  {file.name}")
    fresh.rmdir()


if __name__ == "__main__":
    typer.run(main)
