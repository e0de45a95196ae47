"""How the next token is chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from journeyman.errors import RequestError

SEEDS = range(-(2**63), 2**63)
"""What torch takes as a seed."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """What a request asks for. Temperature 0 takes the most likely token; `seed` makes a sampled answer repeatable.

    `top_p` keeps the smallest set of tokens whose probability reaches it (Holtzman et al. 2019,
    arXiv:1904.09751), and never less than the most likely one. `stop` are texts at which the answer ends; they are
    not part of it. Raises RequestError with every value out of range.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wrong = [
            f"{name} is {getattr(self, name)!r}; it must be {wanted}"
            for name, wanted, fits in (
                ("max_tokens", "1 or more", self.max_tokens >= 1),
                ("temperature", "a number from 0 up", math.isfinite(self.temperature) and self.temperature >= 0),
                ("top_p", "from 0 to 1", 0 <= self.top_p <= 1),
                ("seed", "a 64-bit number", self.seed is None or self.seed in SEEDS),
            )
            if not fits
        ]
        if wrong:
            raise RequestError("this can't be sampled", problems=wrong, code="invalid_value")

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken, so that nothing is drawn."""
        return self.temperature == 0 or self.top_p == 0


def choose(
    logits_BV: torch.Tensor, samplings: Sequence[Sampling], generators: Sequence[torch.Generator | None]
) -> list[int]:
    """The next token of each row; `generators` are those of `make_generator`."""
    best_B: list[int] = logits_BV.argmax(-1).tolist()
    return [
        best if generator is None else _draw(logits_V, sampling, generator)
        for best, logits_V, sampling, generator in zip(best_B, logits_BV, samplings, generators, strict=True)
    ]


def _draw(logits_V: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """One number is drawn a token, and it falls into the tokens' shares laid end to end.

    So the same seed finds the same token wherever the probabilities are the same but for rounding: on a GPU, or in
    another batch.
    """
    logits_V = logits_V.double().cpu()
    # The largest becomes 0 first: any temperature above 0 then leads to probabilities, the smallest to the greedy ones.
    probabilities_V = torch.softmax((logits_V - logits_V.max()) / sampling.temperature, -1)
    if sampling.top_p < 1:
        sorted_V, order_V = probabilities_V.sort(descending=True, stable=True)
        outside_V = sorted_V.cumsum(-1) - sorted_V >= sampling.top_p
        outside_V[0] = False
        probabilities_V[order_V[outside_V]] = 0
    ends_V = probabilities_V.cumsum(-1)
    drawn = torch.rand((), generator=generator, dtype=torch.float64) * ends_V[-1]
    # The first token whose share ends beyond the number; were that rounded up to the whole, the last token with a share.
    return int(torch.searchsorted(ends_V, drawn, right=True).clamp(max=int(probabilities_V.nonzero()[-1])))


def make_generator(sampling: Sampling) -> torch.Generator | None:
    """A random source of the request's own, so that its answer does not depend on its neighbours in a batch.

    None where nothing is drawn. It lives on the CPU, so that a seed means the same on every device.
    """
    if sampling.greedy:
        return None
    generator = torch.Generator()
    if sampling.seed is None:
        generator.seed()
    else:
        generator.manual_seed(sampling.seed)
    return generator
