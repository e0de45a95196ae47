"""The protocol of everything that can answer, and two answerers without a model, for tests and demos."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from journeyman.records import Answer, Message, Usage

if TYPE_CHECKING:
    from journeyman.generate.sampling import Sampling  # it imports torch; only its type is needed here


Tools = Sequence[Mapping[str, Any]]
"""The functions that an answer may call, in OpenAI's form."""


class Answerer(Protocol):
    """Anything that can answer: a base, a tuned model, a prompt around one, a remote endpoint."""

    @property
    def name(self) -> str:
        """What tables and reports call it."""

    def answers(
        self, conversations: Sequence[Sequence[Message]], sampling: Sampling, tools: Sequence[Tools] = ()
    ) -> list[Answer]:
        """One answer a conversation, in the same order; `tools` are each conversation's own, or () where none has any.

        Raises RequestError where a conversation can't be answered as asked (it does not fit the context).
        """


class Scripted:
    """Gives the answers it was given, in turn, and records what it was asked. Raises ValueError when they run out."""

    def __init__(self, texts: Iterable[str], name: str = "scripted") -> None:
        self.name = name
        self.asked: list[tuple[Message, ...]] = []
        self._texts = list(texts)

    def answers(
        self, conversations: Sequence[Sequence[Message]], sampling: Sampling, tools: Sequence[Tools] = ()
    ) -> list[Answer]:
        """The next texts of the script."""
        start = len(self.asked)
        texts = self._texts[start : start + len(conversations)]
        if len(texts) < len(conversations):
            raise ValueError(f"the script has {len(self._texts)} answers, and more are asked for")
        self.asked += [tuple(conversation) for conversation in conversations]
        return [_answer(c, text) for c, text in zip(conversations, texts, strict=True)]


class Echo:
    """Answers with the last user text."""

    def __init__(self, name: str = "echo") -> None:
        self.name = name

    def answers(
        self, conversations: Sequence[Sequence[Message]], sampling: Sampling, tools: Sequence[Tools] = ()
    ) -> list[Answer]:
        """What the user said last; nothing where no user has spoken."""
        return [
            _answer(c, next((m.content for m in reversed(c) if m.role == "user"), "")) for c in conversations
        ]


def _answer(conversation: Sequence[Message], text: str) -> Answer:
    """An answer whose usage counts words, since no tokenizer is at hand."""
    asked = sum(len(message.content.split()) for message in conversation)
    return Answer(text, "end", Usage(asked, len(text.split())))
