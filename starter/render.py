"""Texts and conversations as ids, each id marked as trained or not.

An id is stored in 16 bits: the low 15 are the token, the highest says that the token is trained as a target.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from starter.corpus import Row
from starter.vocabulary import BOS_ID, END_ID, ROLE_IDS

TRAINED = 0x8000
Marked = npt.NDArray[np.uint16]


def load_tokenizer(folder: Path) -> Tokenizer:
    """The trained tokenizer, reading `<|end|>` and its like in a text as ordinary characters."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    return tokenizer


def render(rows: Sequence[Row], tokenizer: Tokenizer, answers_only: Collection[str] = ()) -> list[Marked]:
    """One array of marked ids a row.

    In the groups `answers_only` just what the assistant says is trained, its `<|end|>` included; elsewhere all is.
    """
    pieces = [piece for row in rows for piece in ([m["content"] for m in row.messages] or [row.text])]
    encoded = iter(tokenizer.encode_batch_fast(pieces, add_special_tokens=False))
    rendered = []
    for row in rows:
        ids, trained = [BOS_ID], [False]
        every_turn = row.group not in answers_only
        for message in row.messages or ({"role": "", "content": row.text},):
            content = next(encoded).ids
            speaks = every_turn or message["role"] in ("", "assistant")
            if message["role"]:
                ids.append(ROLE_IDS[message["role"]])
                trained.append(every_turn)
            ids += [*content, END_ID]
            trained += [speaks] * (len(content) + 1)
        rendered.append(np.array(ids, np.uint16) | np.where(trained, TRAINED, 0).astype(np.uint16))
    return rendered
