"""A model on this machine as an answerer: a base, or a base with one of its adapters."""

from __future__ import annotations

from collections.abc import Sequence

from journeyman.generate.engine import Engine, Request
from journeyman.generate.sampling import Sampling
from journeyman.records import Answer, Message


class LocalModel:
    """Answers with an engine's base, or with an adapter that was added to it."""

    def __init__(self, engine: Engine, adapter: str | None = None, name: str = "base") -> None:
        self.name = name
        self._engine = engine
        self._adapter = adapter

    def answers(self, conversations: Sequence[Sequence[Message]], sampling: Sampling) -> list[Answer]:
        """One answer a conversation. Raises RequestError where one does not fit the context."""
        chat = self._engine.chat
        return self._engine.answers(
            [Request(tuple(chat.prompt_ids(c)), self._adapter, sampling) for c in conversations]
        )
