"""The sizes the recipe knows, and their arithmetic."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from starter.vocabulary import VOCABULARY_SIZE


@dataclass(frozen=True)
class Shape:
    """A Llama body: every layer is grouped-query attention with rotary positions, then a gated (SwiGLU) part."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    vocabulary: int = VOCABULARY_SIZE
    context: int = 2048
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-5

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    @property
    def body(self) -> int:
        """Weights in the layers, without the embedding, which is also the output matrix."""
        attention = self.width * self.head_width * 2 * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.width * self.hidden + 2 * self.width) + self.width

    @property
    def parameters(self) -> int:
        """All weights; the embedding counts once."""
        return self.body + self.vocabulary * self.width

    def flops_per_token(self, length: int) -> float:
        """Training FLOPs of one token in a sequence of `length`.

        6 per weight of every product (two forward, four backward; Kaplan et al. 2020, section 2.1), and the
        causal half of the attention products.
        """
        return 6 * (self.body + self.vocabulary * self.width) + 6 * self.layers * length * self.width

    def as_dict(self) -> dict[str, int | float]:
        """For JSON; `Shape(**it)` is the way back."""
        return asdict(self)


SHAPES = {
    "cpu": Shape(width=256, layers=4, heads=4, kv_heads=2, hidden=704),
    "gpu": Shape(width=512, layers=10, heads=8, kv_heads=2, hidden=1344),
}
