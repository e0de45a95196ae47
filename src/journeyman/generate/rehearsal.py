"""Rehearsal: rows of the base's own words, to be mixed into a training so that it forgets less.

The rows are samples of the base itself: its answers to general questions, and its continuations of general openings.
A network that is also trained on its own former output keeps its former behaviour where the new rows say nothing about
it (Robins 1995, "Catastrophic forgetting, rehearsal and pseudorehearsal"). They are drawn at temperature 1, from the
base's own distribution, so that at the start of a training their expected gradient is zero: they pull only once the model
drifts. No text of anybody else is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from journeyman.generate.engine import Engine, Request
from journeyman.generate.sampling import Sampling
from journeyman.records import Message, Place
from journeyman.text.encode import Encoded
from journeyman.text.template import ChatFormat

PROMPTS = Path(__file__).parent / "rehearsal.txt"
REPLY_TOKENS = 64
PROSE_TOKENS = 128
BATCH = 32
_OPENING = "> "


@cache
def prompts() -> tuple[str, ...]:
    """The bundled questions, and openings of prose (after "> "), as they alternate."""
    lines = [line for line in PROMPTS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    questions = [line for line in lines if not line.startswith(_OPENING)]
    openings = [line for line in lines if line.startswith(_OPENING)]
    return tuple(p for i in range(max(len(questions), len(openings))) for p in (*questions[i : i + 1], *openings[i : i + 1]))


def rehearsal(engine: Engine, count: int, *, seed: int) -> list[dict[str, Any]]:
    """`count` rows sampled from the engine's base: `prompt`, `text`, and `ids` of which the first `given` are not learned.

    The same seed gives the same rows. Where there are more rows than prompts, a prompt is sampled again.
    """
    rows: list[dict[str, Any]] = []
    asked = [(prompts()[i % len(prompts())], seed * 1_000_003 + i) for i in range(count)]
    for start in range(0, count, BATCH):
        part = asked[start : start + BATCH]
        given = [_given(engine.chat, prompt) for prompt, _ in part]
        answers = engine.answers([_request(ids, prompt, s) for ids, (prompt, s) in zip(given, part, strict=True)])
        for ids, (prompt, _), answer in zip(given, part, answers, strict=True):
            learned = engine.chat.ids(answer.text)
            if answer.stop == "end" and not prompt.startswith(_OPENING):
                learned.append(engine.chat.end_of_turn_id)
            learned = learned or [engine.chat.end_of_turn_id]
            rows.append({"prompt": prompt, "text": answer.text, "ids": [*ids, *learned], "given": len(ids)})
    return rows


def encoded(rows: Sequence[dict[str, Any]]) -> list[Encoded]:
    """The rows as training sequences."""
    return [
        Encoded(
            np.array(row["ids"], dtype=np.int32),
            np.array([0.0] * row["given"] + [1.0] * (len(row["ids"]) - row["given"]), dtype=np.float32),
            Place("rehearsal.jsonl", line),
        )
        for line, row in enumerate(rows, 1)
    ]


def _given(chat: ChatFormat, prompt: str) -> tuple[int, ...]:
    if not prompt.startswith(_OPENING):
        return tuple(chat.prompt_ids([Message("user", prompt)]))
    bos = chat.tokenizer.token_to_id(chat.special.get("bos_token", ""))
    return (chat.end_of_turn_id if bos is None else bos, *chat.ids(prompt.removeprefix(_OPENING)))


def _request(ids: tuple[int, ...], prompt: str, seed: int) -> Request:
    room = PROSE_TOKENS if prompt.startswith(_OPENING) else REPLY_TOKENS
    # Without the base's own penalty, if it has one: that would be another distribution than the one that is trained.
    return Request(ids, None, Sampling(max_tokens=room, temperature=1.0, seed=seed, repetition_penalty=1.0))
