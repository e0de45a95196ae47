"""Rows of the corpus folder: documents (`text-*.jsonl.xz`) and conversations (`chat-*.jsonl.xz`)."""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from starter.mix import group_of

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Row:
    """One document or one conversation; exactly one of `text` and `messages` is filled."""

    source: str
    group: str
    text: str = ""
    messages: tuple[Message, ...] = ()

    @property
    def content(self) -> str:
        """Everything a reader would see, for counting and for comparing with the benchmarks."""
        return self.text or "\n".join(message["content"] for message in self.messages)

    def draw(self, seed: int) -> float:
        """A number in [0, 1) that depends only on the content and the seed, so that a choice is repeatable."""
        digest = hashlib.blake2b(f"{seed}\0{self.source}\0{self.content}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64


def shards(corpus: Path) -> list[Path]:
    """All shard files in a fixed order; refuses a folder that holds none."""
    found = sorted(corpus.glob("text-*.jsonl.xz")) + sorted(corpus.glob("chat-*.jsonl.xz"))
    if not found:
        raise SystemExit(f"{corpus} holds no text-*.jsonl.xz or chat-*.jsonl.xz; name the corpus folder with --corpus")
    return found


def rows(shard: Path) -> Iterator[Row]:
    """The rows of one shard that the mix uses."""
    with lzma.open(shard, "rt", encoding="utf-8") as lines:
        for line in lines:
            fields = json.loads(line)
            messages = tuple(fields.get("messages", ()))
            group = group_of(fields["source"], is_chat=bool(messages))
            if group is not None:
                yield Row(fields["source"], group, fields.get("text", ""), messages)
