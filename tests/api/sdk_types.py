"""Values that OpenAI's server sends and the types of its SDK leave out, added to them so that all the rest is held strictly.

`paused` is the API reference's answer to a pause, `evals` a purpose that the SDK sends and can't read back. The frames of
the older completions have no finish reason before the last, a prompt's first token no log-probability, and a stored
completion's messages are not all the assistant's.
"""

from __future__ import annotations

from typing import Any, Literal

from openai.types import Completion, CompletionChoice, FileObject
from openai.types.chat import ChatCompletionStoreMessage
from openai.types.completion_choice import Logprobs
from openai.types.fine_tuning import FineTuningJob

TYPES: tuple[tuple[Any, str, Any], ...] = (
    (FineTuningJob, "status", Literal["paused"]),
    (FileObject, "purpose", Literal["evals"]),
    (Logprobs, "token_logprobs", list[float | None] | None),
    (Logprobs, "top_logprobs", list[dict[str, float] | None] | None),
    (CompletionChoice, "finish_reason", None),
    (ChatCompletionStoreMessage, "role", Literal["system", "user", "tool"]),
)


def complete() -> None:
    """Let the SDK's types know them."""
    for model, field, more in TYPES:
        known = model.model_fields[field]
        known.annotation = known.annotation | more
        model.model_rebuild(force=True)
    Completion.model_rebuild(force=True)  # holds choices as they were
