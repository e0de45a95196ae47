"""How the next token is chosen."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Sampling:
    """What a request asks for. Temperature 0 takes the most likely token; `seed` makes a sampled answer repeatable.

    `top_p` keeps the smallest set of tokens whose probability reaches it (Holtzman et al. 2019,
    arXiv:1904.09751). `stop` are texts at which the answer ends; they are not part of it.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()


def choose(logits_V: torch.Tensor, sampling: Sampling, generator: torch.Generator | None) -> int:
    """The next token's id."""
    if sampling.temperature == 0:
        return int(logits_V.argmax())
    probabilities_V = torch.softmax(logits_V.float() / sampling.temperature, -1)
    if sampling.top_p < 1:
        sorted_V, order_V = probabilities_V.sort(descending=True)
        outside_V = sorted_V.cumsum(-1) - sorted_V >= sampling.top_p
        probabilities_V[order_V[outside_V]] = 0
    return int(torch.multinomial(probabilities_V, 1, generator=generator))


def make_generator(sampling: Sampling) -> torch.Generator | None:
    """A random source of the request's own, so that its answer does not depend on its neighbours in a batch."""
    if sampling.temperature == 0:
        return None
    generator = torch.Generator()
    if sampling.seed is None:
        generator.seed()
    else:
        generator.manual_seed(sampling.seed)
    return generator
