"""Log-probabilities of an answer's tokens, given out as the text that they make is shown.

They are the model's own, at temperature 1 and before penalties, biases and grammars, as OpenAI's are. An answer's end
token is not among them.

Shapes: V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from journeyman.generate.constrain import Vocabulary


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token's bytes and natural log-probability, and the most likely tokens in its place, the likeliest first.

    The first token of a prompt, before which nothing stands, has None.
    """

    token: bytes
    logprob: float | None
    top: tuple[tuple[bytes, float], ...] = ()


def token_logprob(vocabulary: Vocabulary, token_id: int, logits_V: torch.Tensor, top: int) -> TokenLogprob:
    """A token's log-probability where these are the logits."""
    log_V = torch.log_softmax(logits_V.float(), -1)
    values, ids = log_V.topk(min(top, len(log_V)))
    likeliest = tuple((bytes_of(vocabulary, i), v) for i, v in zip(ids.tolist(), values.tolist(), strict=True))
    return TokenLogprob(bytes_of(vocabulary, token_id), float(log_V[token_id]), likeliest)


def bytes_of(vocabulary: Vocabulary, token_id: int) -> bytes:
    """A token as bytes; none for an id that the tokenizer doesn't know, since a model's logits may be wider."""
    tokens = vocabulary.tokens
    return bytes(tokens.decode_bytes([token_id])) if token_id < tokens.vocab_size else b""


class LogprobStream:
    """The tokens of one answer that are written and not yet shown."""

    def __init__(self) -> None:
        self._held: list[TokenLogprob] = []
        self._given_bytes = 0
        self._shown_bytes = 0

    def push(self, token: TokenLogprob) -> None:
        """Add the token that was written."""
        self._held.append(token)

    def shown(self, text: str, *, end: bool = False) -> tuple[TokenLogprob, ...]:
        """The tokens of which something is shown with `text`; at an `end` by length, all that are left."""
        self._shown_bytes += len(text.encode())
        given = []
        while self._held and (end or self._given_bytes < self._shown_bytes):
            given.append(self._held.pop(0))
            self._given_bytes += len(given[-1].token)
        return tuple(given)
