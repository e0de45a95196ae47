"""A model on this machine as an answerer: a base, or a base with one of its adapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from journeyman.answer.answerer import Tools
from journeyman.generate.engine import Engine, Request
from journeyman.generate.sampling import Sampling
from journeyman.records import Answer, Message
from journeyman.text.template import ChatFormat
from journeyman.text.tools import call_readers


class LocalModel:
    """Answers with an engine's base, or with an adapter that was added to it."""

    def __init__(self, engine: Engine, adapter: str | None = None, name: str = "base") -> None:
        self.name = name
        self._engine = engine
        self._adapter = adapter

    def answers(
        self, conversations: Sequence[Sequence[Message]], sampling: Sampling, tools: Sequence[Tools] = ()
    ) -> list[Answer]:
        """One answer a conversation, its calls apart. Raises RequestError where one does not fit the context."""
        chat = self._engine.chat
        offered = tools or [()] * len(conversations)
        prompts = [tuple(chat.prompt_ids(c, some)) for c, some in zip(conversations, offered, strict=True)]
        answers = self._engine.answers([Request(ids, self._adapter, sampling) for ids in prompts])
        return [read_calls(answer, some, chat) for answer, some in zip(answers, offered, strict=True)]


def read_calls(answer: Answer, tools: Tools, chat: ChatFormat) -> Answer:
    """The answer with its calls taken out of its text; as it is where the template writes calls in no form that is known."""
    readers = call_readers(chat, [tool["function"]["name"] for tool in tools]) if tools else []
    for reader in readers:
        (said, calls), (rest, last) = reader.push(answer.text), reader.finish()
        return replace(answer, text=said + rest, tool_calls=(*calls, *last))
    return answer
