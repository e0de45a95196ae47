"""The prompt baseline: instructions, and perhaps a few examples, around any answerer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from journeyman.answer.answerer import Answerer
from journeyman.records import Answer, Example, Message

if TYPE_CHECKING:
    from journeyman.generate.sampling import Sampling  # it imports torch; only its type is needed here


class WithInstructions:
    """Puts a system prompt, and worked examples as earlier turns, before each conversation.

    A conversation that brings its own system or developer message keeps it, after the instructions, in the same
    message: many chat templates allow only one. `shots` should be training rows, never held-out ones.
    """

    def __init__(
        self, answerer: Answerer, instructions: str, shots: Sequence[Example] = (), name: str | None = None
    ) -> None:
        self.name = name or f"{answerer.name} + instructions" + (f" + {len(shots)} examples" if shots else "")
        self._answerer = answerer
        self._instructions = instructions.strip()
        self._shots = tuple(
            turn
            for shot in shots
            for turn in (*shot.prompt, shot.ideal)
            if turn.role not in ("system", "developer")
        )

    def answers(self, conversations: Sequence[Sequence[Message]], sampling: Sampling) -> list[Answer]:
        """One answer a conversation, each asked with the instructions."""
        return self._answerer.answers([self.prompted(c) for c in conversations], sampling)

    def prompted(self, conversation: Sequence[Message]) -> tuple[Message, ...]:
        """The conversation as it is asked."""
        own = [m.content for m in conversation if m.role in ("system", "developer")]
        rest = [m for m in conversation if m.role not in ("system", "developer")]
        system = "\n\n".join(text for text in (self._instructions, *own) if text)
        return (*((Message("system", system),) if system else ()), *self._shots, *rest)
