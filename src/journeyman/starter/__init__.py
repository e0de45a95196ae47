"""The bundled base model: where its files are. Its recipe is in the repository's top-level `starter/` folder."""

from __future__ import annotations

from pathlib import Path

NAME = "starter-1"


def path() -> Path:
    """The folder of the bundled base model, in the layout `transformers` reads: weights, tokenizer, template, card."""
    return Path(__file__).parent / NAME
