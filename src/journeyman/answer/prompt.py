"""Prompts around any answerer: instructions, worked examples, passages of documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from journeyman.answer.answerer import Answerer, Tools
from journeyman.records import Answer, Example, Message

if TYPE_CHECKING:
    from journeyman.answer.retrieve import Passage  # it imports bm25s, and that numpy
    from journeyman.generate.sampling import Sampling  # it imports torch; only its type is needed here

Conversation = Sequence[Message]
Shots = Callable[[Conversation], Sequence[Example]]
Passages = Callable[[Conversation], Sequence["Passage"]]
Fits = Callable[[Conversation, Tools], bool]

NOTES = "Notes that may help with this message. Use what applies, and do not go beyond it."
"""What stands before retrieved passages, in the system message."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A conversation as it is sent, what was put into it, and what found no room.

    The least important shots and passages (the last) are left out first; `left_out` counts them.
    """

    messages: tuple[Message, ...]
    shots: tuple[str, ...] = ()
    passages: tuple[str, ...] = ()
    left_out: int = 0


@dataclass(frozen=True)
class Prompt:
    """How a conversation is asked: instructions, shots as earlier turns, passages after the instructions.

    `shots` and `passages` give the most important first. `fits` says whether a conversation leaves room for an
    answer: where it does not, passages and shots are left out, one at a time; instructions never are. A
    conversation that brings its own system or developer message keeps it, after the instructions, in the same
    message: many chat templates allow only one. Shots should be training rows, never held-out ones.
    """

    instructions: str = ""
    shots: Shots = lambda _: ()
    passages: Passages = lambda _: ()
    fits: Fits = lambda _messages, _tools: True

    def ask(self, conversation: Conversation, tools: Tools = ()) -> Asked:
        """The conversation as it is sent, where these tools are offered with it."""
        shots, passages = list(self.shots(conversation)), list(self.passages(conversation))
        left_out = 0
        while True:
            messages = self._messages(conversation, shots, passages)
            if not (shots or passages) or self.fits(messages, tools):
                return Asked(
                    messages, tuple(str(s.place) for s in shots), tuple(p.place for p in passages), left_out
                )
            (shots if len(shots) > len(passages) else passages).pop()
            left_out += 1

    def _messages(
        self, conversation: Conversation, shots: Sequence[Example], passages: Sequence[Passage]
    ) -> tuple[Message, ...]:
        own = [m.content for m in conversation if _is_system(m)]
        notes = "\n\n".join([NOTES, *(p.text for p in passages)]) if passages else ""
        system = "\n\n".join(text for text in (self.instructions.strip(), notes, *own) if text)
        # the nearest example stands last, next to the question
        turns = [m for shot in reversed(shots) for m in (*shot.prompt, shot.ideal) if not _is_system(m)]
        rest = [m for m in conversation if not _is_system(m)]
        return (*((Message("system", system),) if system else ()), *turns, *rest)


class Prompted:
    """An answerer that is asked through a prompt."""

    def __init__(self, answerer: Answerer, prompt: Prompt, name: str) -> None:
        self.name = name
        self.prompt = prompt
        self._answerer = answerer

    def answers(
        self, conversations: Sequence[Conversation], sampling: Sampling, tools: Sequence[Tools] = ()
    ) -> list[Answer]:
        """One answer a conversation, each asked through the prompt."""
        offered = tools or [()] * len(conversations)
        asked = [self.prompt.ask(c, some).messages for c, some in zip(conversations, offered, strict=True)]
        return self._answerer.answers(asked, sampling, tools)


def _is_system(message: Message) -> bool:
    return message.role in ("system", "developer")
