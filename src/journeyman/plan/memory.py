"""How many bytes a training needs, term by term; benchmarks/memory.py and benchmarks/train hold it against measured peaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from journeyman.plan.shape import ModelShape

RUNTIME_BYTES = 500 * 2**20
"""What a Python process with torch and transformers occupies besides what is counted below: the libraries, and the buffers
of their matrix products (measured)."""

COMPILED_BYTES = 280 * 2**20
"""What a CPU's bf16 products take besides: the matrix library compiles one for each shape it meets and keeps a thousand, and
the heap grows between them (the starter and 135M, the first hundred steps; benchmarks/memory.py)."""

GATED_KINDS = frozenset(("llama", "mistral", "qwen2", "qwen3", "smollm3", "olmo2", "granite", "cohere"))
"""Families (`model_type`) whose feed-forward keeps half with adapters (train/gated.py), tests/train/test_gated.py."""

HELD = 1.7
"""Bytes of activations that a process holds for each that backward keeps: copies within eager operations, gathered queries
and keys, and what the allocator can't use between them (fitted to benchmarks/results/train.jsonl, ours in fp32)."""

HELD_AGAIN = 7.7
"""The same where activations are computed again. Little is alive then, but what is kept for each layer lies between what comes
and goes, so that the heap does not shrink to it (fitted at 135M, rows of 400 and of 1,000 tokens, in fp32)."""

QUANTISED_BYTES = {"int8": 1.0, "fp8": 1.0, "nf4": 0.5 + 4 / 64}
"""Of a weight in the layers, by the kind (train/quantised.py:KINDS); nf4 has a scale of four bytes for 64 weights."""

TILE_LOGITS, TILE_ROWS = 2**21, 64
"""Logits that train/loss.py:TiledLoss computes at a time: 8 MiB in fp32, which stays in a CPU's cache; and the rows of a
tile at least, for the products' sake."""

GPU_TILE_LOGITS = 2**27
"""The same on a GPU, where a tile must be large enough to keep it busy: 512 MiB in fp32, 883 rows of a vocabulary of 152,000."""


def tile_rows(vocab: int, *, gpu: bool) -> int:
    """Learned tokens whose logits are computed at a time."""
    return max(TILE_ROWS, (GPU_TILE_LOGITS if gpu else TILE_LOGITS) // vocab)


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
        """All terms together: they are alive at the same time when the backward pass begins."""
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
    quantised: str | None = None,
    recompute: bool = False,
    offload: bool = False,
    workers: int = 1,
    compiled: bool = False,
    gpu: bool = False,
) -> Memory:
    """Peak memory of one training step.

    Trained parameters cost 16 bytes each: fp32 value, gradient and AdamW's two moments. Activations a token and layer
    are what backward keeps of a Llama block: each norm's input and output (and the normed value before its trained
    weight), attention's q, k, v and output, gate, silu(gate), up and their product (gate and up alone with adapters in `GATED_KINDS`);
    `HELD` times that is in use. Logits exist for one tile of learned tokens, four times (logits, log-softmax, their two
    gradients); where the head is trained, its gradient is summed beside that of the tile. With a base that is `quantised`
    the weights in the layers take `QUANTISED_BYTES` each; with `recompute` each layer's input is kept,
    with `offload` outside of this memory, and the activations of one layer at a time.
    `micro_batch_tokens` are those of all `workers` together, each of which has a tile and gradients of its own.
    `compiled` says that products are those of a CPU in bf16, `gpu` that the memory is a GPU's.
    """
    trained = shape.params if method == "full" else rank * shape.lora_width
    kept_inside = 2 if method == "lora" and shape.kind in GATED_KINDS else 4
    token_width = (8 if method == "full" else 6) * shape.hidden + 2 * shape.kv_width + kept_inside * shape.intermediate
    if method == "lora":
        token_width += 7 * rank
    kept_width = shape.layers * token_width
    if recompute:
        inputs_width = 0 if offload else shape.layers * shape.hidden
        kept_width = min(kept_width, int(HELD_AGAIN / HELD * (inputs_width + token_width)))
    bytes_per_value = max(bytes_per_weight, 2)
    logits = 4 * 4 * tile_rows(shape.vocab, gpu=gpu) * shape.vocab
    if method == "full":
        logits += 2 * 4 * shape.head_params
    gradients = 4 * trained * workers if workers > 1 else 0
    weights = shape.params * bytes_per_weight
    if quantised:  # and one layer's weight at a time as it is multiplied with
        held = int(shape.body_params * QUANTISED_BYTES[quantised])
        weights -= shape.body_params * bytes_per_weight - held - shape.hidden * shape.intermediate * bytes_per_weight
    return Memory(
        runtime_bytes=RUNTIME_BYTES + (COMPILED_BYTES if compiled else 0),
        weights_bytes=weights if method == "lora" else 0,
        trained_bytes=16 * trained + gradients,
        activations_bytes=int(HELD * micro_batch_tokens * kept_width * bytes_per_value),
        logits_bytes=logits * workers,
    )


def answering_bytes(shape: ModelShape, bytes_per_weight: int) -> int:
    """What the base takes when it answers, which every training ends with."""
    return RUNTIME_BYTES + shape.params * bytes_per_weight
