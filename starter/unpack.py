"""Make a checkpoint of a package, so that training can go on from it where the run's own checkpoint is gone.

    python -m starter.unpack --model src/journeyman/starter/starter-1 --tokens 19372032 --out RUN/unpacked

Weights only: the optimizers begin with no memory, and half precision has rounded every weight to 11 bits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from safetensors.torch import load_file
from transformers import LlamaConfig

from starter import checkpoint
from starter.model import Starter
from starter.shape import Shape


def shape_of(config: LlamaConfig) -> Shape:
    """The recipe's words for the shape of a package."""
    return Shape(
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        hidden=config.intermediate_size,
        vocabulary=config.vocab_size,
        context=config.max_position_embeddings,
    )


def main(
    model: Annotated[Path, typer.Option(help="Folder written by starter.package.")],
    tokens: Annotated[int, typer.Option(help="How many tokens it has read; its card says so.")],
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint.")],
) -> None:
    """Write the package's weights as a checkpoint without optimizer states."""
    shape = shape_of(LlamaConfig.from_pretrained(model))
    starter = Starter(shape)
    starter.load_state_dict({name: w.float() for name, w in load_file(model / "model.safetensors").items()})
    checkpoint.save(out, starter, [], {"step": 0, "tokens": tokens, "seconds": 0.0, "shape": shape.as_dict(), "settings": {}})
    typer.echo(f"{shape.parameters:,} weights in {out}")


if __name__ == "__main__":
    typer.run(main)
