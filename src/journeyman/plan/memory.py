"""How many bytes a training needs, term by term. An estimate, not yet compared with measured peaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from journeyman.plan.shape import ModelShape

RUNTIME_BYTES = 450 * 2**20
"""What a Python process with torch and transformers imported occupies before a model is loaded (measured)."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Peak bytes of a training, by what they are for."""

    runtime_bytes: int
    weights_bytes: int
    trained_bytes: int
    activations_bytes: int
    logits_bytes: int

    @property
    def total_bytes(self) -> int:
        """All terms together: they are alive at the same time at the end of the forward pass."""
        return (
            self.runtime_bytes
            + self.weights_bytes
            + self.trained_bytes
            + self.activations_bytes
            + self.logits_bytes
        )


def estimate(
    shape: ModelShape,
    *,
    method: Literal["lora", "full"],
    rank: int,
    bytes_per_weight: int,
    micro_batch_tokens: int,
    learned_share: float,
) -> Memory:
    """Peak memory of one training step without recomputation.

    Trained parameters cost 16 bytes each: fp32 value, gradient and AdamW's two moments. Activations a token and
    layer follow what eager autograd keeps of a Llama block: inputs of norms and linears, attention's q, k, v and
    output, gate, up and their product, in fp32 or the weights' precision. Logits exist only for learned tokens,
    in fp32, three copies (logits, log-softmax, gradient).
    """
    trained = shape.params if method == "full" else rank * shape.lora_width
    token_width = 8 * shape.hidden + 3 * shape.kv_width + 5 * shape.intermediate
    if method == "lora":
        token_width += 7 * rank
    activations = micro_batch_tokens * shape.layers * token_width * max(bytes_per_weight, 2)
    learned = int(micro_batch_tokens * learned_share) + 1
    return Memory(
        runtime_bytes=RUNTIME_BYTES,
        weights_bytes=shape.params * bytes_per_weight if method == "lora" else 0,
        trained_bytes=16 * trained,
        activations_bytes=activations,
        logits_bytes=3 * 4 * learned * shape.vocab,
    )
