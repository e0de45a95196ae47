"""A model as a program asks it: `journeyman.load`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from journeyman.records import Message
from journeyman.workspace import Workspace


class Model:
    """A model that answers: a base or a fine-tune.

        model = journeyman.load("ft:starter-1:local::Ab12Cd34")
        print(model.ask("My mug arrived with a chip."))
    """

    def __init__(self, workspace: Workspace, name: str) -> None:
        self._workspace = workspace
        self.id = workspace.served(name).id
        self._name = self.id if self.id.startswith("ft:") else name  # an alias may mean another model tomorrow; a folder's id is no path

    def ask(self, question: str | Sequence[Message], **sampling: Any) -> str:
        """The answer as text. `sampling` takes max_tokens, temperature, top_p, seed and stop."""
        from journeyman.generate.sampling import Sampling

        return self._workspace.answer(self._name, _conversation(question), Sampling(**sampling)).text

    def stream(self, question: str | Sequence[Message], **sampling: Any) -> Iterator[str]:
        """The answer piece by piece."""
        from journeyman.generate.sampling import Sampling

        for piece in self._workspace.stream(self._name, _conversation(question), Sampling(**sampling)):
            if piece.text:
                yield piece.text


def _conversation(question: str | Sequence[Message]) -> Sequence[Message]:
    return [Message("user", question)] if isinstance(question, str) else question


def load(model: str, *, home: Path | None = None) -> Model:
    """A model by its id, alias or base name. Raises ModelNotFound."""
    return Model(Workspace(home), model)
