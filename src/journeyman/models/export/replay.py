"""The same rows through two models: what is exported must say what was trained, token by token.

Both models compute in fp32, in the same process. What may differ is the order of sums; how much that is, is measured
on the model itself (`noise`), and a difference far above it is no rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from journeyman.errors import ExportError
from journeyman.records import Example
from journeyman.text.encode import encode
from journeyman.text.template import ChatFormat

MAX_ROWS = 8
MAX_TOKENS = 256
"""Of each row: an export of a large model on a CPU should not take minutes for its replay."""

LEAST_LIMIT = 1e-4
"""In fp32, as after training: sums in another order stayed below 1e-5 for every family in the tests."""

FIXED_TEXTS = (
    "The kettle arrived on Monday, but its lid doesn't close.",
    "Order 4471-B: 3 × 12.50 € = 37.50 €\n\n- cups (2)\n- saucers (1)\n",
    'def total(rows):\n    return sum(r["price"] for r in rows)  # in cents\n',
    '{"name": "Blue jug", "size_cm": 18, "in_stock": true, "tags": ["new", null]}',
    "Schöne Grüße aus Köln! Où est la clé ? ¿Qué tal?   Three   spaces.",
    "你好，世界。こんにちは。Привет, мир. Καλημέρα.",
    "WE'LL SEE; I'd say no… 😀 #1 @home http://localhost:8000/v1?x=1&y=2",
    "\tTabbed\r\nand broken\r\n\r\n  lines \u00a0 with 1234567890 digits",
)
"""Replayed where a model has no rows of its own, and tokenized for every model. None has combining marks."""


@dataclass(frozen=True)
class Reading:
    """What a model says of the rows, all tokens in a line: each next token's log-probability, and the likeliest one."""

    log_probs_N: torch.Tensor
    likeliest_N: torch.Tensor


@dataclass(frozen=True, slots=True)
class Difference:
    """How far two readings are apart, in log-probability, and how often they hold the same token likeliest."""

    largest: float
    mean: float
    same_likeliest: float

    def as_dict(self) -> dict[str, float]:
        """The numbers as they stand in an export's record."""
        return asdict(self)


def rows_for(examples: Sequence[Example], chat: ChatFormat, context_tokens: int) -> list[list[int]]:
    """Up to eight rows of tokens: the examples as they were trained, or else the fixed texts."""
    length = min(MAX_TOKENS, context_tokens)
    encoded = [
        e.ids_T.tolist() for example in examples[:MAX_ROWS] for e in encode(example, chat, max_tokens=length)
    ]
    rows = encoded[:MAX_ROWS] or [chat.ids(text)[:length] for text in FIXED_TEXTS]
    return [row for row in rows if len(row) > 1]


def texts_for(examples: Sequence[Example], chat: ChatFormat) -> list[str]:
    """What is tokenized to compare tokenizers: the fixed texts, and the examples' prompts as they are served."""
    prompts = (chat.render(e.prompt, tools=e.tools, add_generation_prompt=True) for e in examples[:MAX_ROWS])
    return [*FIXED_TEXTS, *prompts]


@torch.inference_mode()
def read(model: nn.Module, rows: Sequence[Sequence[int]]) -> Reading:
    """Row by row."""
    picked, likeliest = [], []
    for row in rows:
        log_probs_TV = _log_probs(model, torch.tensor([row]))[0, :-1]
        picked.append(log_probs_TV.gather(-1, torch.tensor(row)[1:, None]).squeeze(-1))
        likeliest.append(log_probs_TV.argmax(-1))
    return Reading(torch.cat(picked), torch.cat(likeliest))


@torch.inference_mode()
def noise(model: nn.Module, rows: Sequence[Sequence[int]], alone: Reading) -> float:
    """The largest change when each row is computed beside a longer one: the same mathematics, other sums."""
    longest = max(rows, key=len)
    picked = []
    for row in rows:
        ids_BT = torch.tensor([[*row, *longest[len(row) :]], list(longest)])
        log_probs_TV = _log_probs(model, ids_BT)[0, : len(row) - 1]
        picked.append(log_probs_TV.gather(-1, torch.tensor(row)[1:, None]).squeeze(-1))
    return float((torch.cat(picked) - alone.log_probs_N).abs().max())


def _log_probs(model: nn.Module, ids_BT: torch.Tensor) -> torch.Tensor:
    log_probs_BTV: torch.Tensor = model(input_ids=ids_BT, use_cache=False).logits.float().log_softmax(-1)
    return log_probs_BTV


def limit(measured_noise: float) -> float:
    """How far apart two computations of the same model may be."""
    return max(LEAST_LIMIT, 10 * measured_noise)


def compare(one: Reading, other: Reading) -> Difference:
    """How far `other` is from `one`. A value that is not finite is infinitely far."""
    apart_N = (one.log_probs_N - other.log_probs_N).abs().nan_to_num(nan=torch.inf)
    same_N = (one.likeliest_N == other.likeliest_N).float()
    return Difference(float(apart_N.max()), float(apart_N.mean()), float(same_N.mean()))


def insist(difference: Difference, limit: float, what: str, *, where: str) -> None:
    """Raises ExportError where a difference is more than noise: such files are not published."""
    if not difference.largest <= limit:
        raise ExportError(
            f"{what} (log-probability {difference.largest:.3g} apart, limit {limit:.3g})",
            where=where,
            fix="nothing was published; this is a defect: report it with the base's name",
            code="replay_mismatch",
        )


def insist_on_tokens(texts: Sequence[str], ours: Any, theirs: Any, *, where: str) -> None:
    """Raises ExportError where `theirs` turns one of the texts into other tokens than `ours` does."""
    problems = [f"{text[:60]!r}" for text in texts if list(ours(text)) != list(theirs(text))]
    if problems:
        raise ExportError(
            f"the exported tokenizer reads {len(problems)} of {len(texts)} texts as other tokens",
            where=where,
            fix="nothing was published; --to merged keeps the tokenizer as it is",
            code="replay_mismatch",
            problems=problems[:10],
        )
