"""Messages to token ids and loss weights. The mask is made here and only here.

A conversation is cut into segments: what the model is given, what it should say, what it is given next, and so
on. Each segment is tokenized by itself, because that is what happens when the model is served: the prompt is
tokenized first and the answer is then written token by token. A learned segment ends with the end-of-turn
token, or the model would never learn to stop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from journeyman.errors import DataError
from journeyman.records import Example, Message, Place
from journeyman.text.template import ChatFormat


@dataclass(frozen=True)
class Encoded:
    """One training sequence: `ids_T` and `weights_T` (1 where the token is learned, else 0), both of length T."""

    ids_T: npt.NDArray[np.int32]
    weights_T: npt.NDArray[np.float32]
    place: Place
    cut_tokens: int = 0
    """Tokens cut off at the end because the row was longer than the limit."""

    @property
    def learned_tokens(self) -> int:
        """How many tokens are targets. The first token of a row can't be one: nothing precedes it."""
        return int(np.count_nonzero(self.weights_T[1:]))

    def __len__(self) -> int:
        return len(self.ids_T)


def encode(example: Example, chat: ChatFormat, *, max_tokens: int | None = None) -> list[Encoded]:
    """Encode one example: usually one sequence, all learned turns in it.

    Some templates render an assistant turn differently once another follows (Qwen3 drops earlier thinking), and
    some tokenizers merge across the border of prompt and answer once the answer is part of the next prompt. A
    single sequence would then train on prompts that are never served, so such a conversation becomes one
    sequence a learned turn, each rendered as it would be served.

    Rows longer than `max_tokens` are cut at the end, as OpenAI does; `cut_tokens` says by how much.
    Raises DataError where the template refuses the conversation.
    """
    segments = _one_sequence(example.messages, example.tools, chat)
    one = segments is not None and _is_as_served(segments, chat)
    sequences = [segments] if segments and one else _sequence_per_turn(example.messages, example.tools, chat)
    return [_join(s, chat, example.place, max_tokens) for s in sequences]


Segment = tuple[str, bool]
"""Rendered text, and whether it is learned."""


def _one_sequence(
    messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], chat: ChatFormat
) -> list[Segment] | None:
    """Segments of the whole conversation, or None where the template is not the same with and without what follows."""
    last = max((i for i, m in enumerate(messages) if m.learned), default=-1)
    if last < 0:
        return [(chat.render(messages, tools=tools, add_generation_prompt=False), False)]
    whole = chat.render(messages[: last + 1], tools=tools, add_generation_prompt=False)
    segments: list[Segment] = []
    position = 0
    for index, message in enumerate(messages[: last + 1]):
        if not message.learned:
            continue
        prompt, answer = prompt_and_answer(messages[: index + 1], tools, chat)
        if answer is None or len(prompt) < position or not whole.startswith(prompt + answer):
            return None
        segments += [(prompt[position:], False), (answer, True)]
        position = len(prompt) + len(answer)
    return segments


def _is_as_served(segments: Sequence[Segment], chat: ChatFormat) -> bool:
    """Whether each later prompt, tokenized whole as it is when served, has the tokens of its pieces."""
    if sum(learned for _, learned in segments) < 2:
        return True
    text, ids = "", list[int]()
    for piece, learned in segments:
        if learned and chat.ids(text) != ids:
            return False
        text, ids = text + piece, ids + chat.ids(piece, after=text)
    return True


def _sequence_per_turn(
    messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], chat: ChatFormat
) -> list[list[Segment]]:
    sequences: list[list[Segment]] = []
    for index, message in enumerate(messages):
        if message.learned:
            prompt, answer = prompt_and_answer(messages[: index + 1], tools, chat)
            if answer is None and message.tool_calls:
                raise DataError(
                    "the model's chat template does not write this tool call after its own generation prompt",
                    code="template_refused",
                    fix="use a base whose template renders tool calls, or leave these rows out",
                )
            if answer is None:
                answer = message.content + chat.end_of_turn
            sequences.append([(prompt, False), (answer, True)])
    return sequences


def prompt_and_answer(
    messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], chat: ChatFormat
) -> tuple[str, str | None]:
    """The served prompt before the last turn, and the turn's text up to and including its end-of-turn token.

    The answer is None where the template does not continue the served prompt or does not end the turn.
    """
    prompt = chat.render(messages[:-1], tools=tools, add_generation_prompt=True)
    rendered = chat.render(messages, tools=tools, add_generation_prompt=False)
    if not rendered.startswith(prompt):
        return prompt, None
    answer, end, _ = rendered[len(prompt) :].rpartition(chat.end_of_turn)
    return (prompt, answer + end) if end else (prompt, None)


def _join(segments: Sequence[Segment], chat: ChatFormat, place: Place, max_tokens: int | None) -> Encoded:
    before = accumulate((text for text, _ in segments), initial="")
    pieces = [(chat.ids(text, after=after), learned) for after, (text, learned) in zip(before, segments, strict=False) if text]
    ids_T = np.array([i for piece, _ in pieces for i in piece], dtype=np.int32)
    weights_T = np.array([float(learned) for piece, learned in pieces for _ in piece], dtype=np.float32)
    cut_tokens = max(0, len(ids_T) - max_tokens) if max_tokens else 0
    if cut_tokens:
        ids_T, weights_T = ids_T[:-cut_tokens], weights_T[:-cut_tokens]
    return Encoded(ids_T, weights_T, place, cut_tokens)
