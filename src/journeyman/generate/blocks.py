"""Which blocks of the key-value pool belong to whom, and what they hold: paging, with a cache of prefixes.

After Kwon et al. 2023 (arXiv:2309.06180). A block holds the keys and values of BLOCK_TOKENS tokens. A full block is known by a digest of its tokens, of all before
it, and of the adapter that computed them, so that a later sequence that begins alike uses it instead of computing it.
Blocks that nobody uses keep their content until they are needed, the least recently used first. No torch here.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

BLOCK_TOKENS = 32
"""Tokens a block: a sequence wastes half of one on average, and a prefix is found to within one."""


@dataclass(slots=True)
class Holding:
    """The blocks of one sequence, in its order; `digests` are those of its full ones so far."""

    root: bytes
    blocks: list[int] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)


class Blocks:
    """`count` blocks, free or held. With `keep` false nothing is found again."""

    def __init__(self, count: int, *, keep: bool = True) -> None:
        self.count = count
        self.keep = keep
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(count))
        self._holders = [0] * count
        self._by_digest: dict[bytes, int] = {}
        self._digest_of: dict[int, bytes] = {}

    @property
    def free(self) -> int:
        """Blocks that nobody holds, with old content or none."""
        return len(self._free)

    def begin(self, adapter: str | None, ids: Sequence[int]) -> Holding:
        """Hold the blocks that `ids` begin with, as far as they are known; at least the last token is left to compute."""
        holding = Holding(hashlib.blake2b(repr(adapter).encode(), digest_size=16).digest())
        while self.keep and (len(holding.blocks) + 1) * BLOCK_TOKENS < len(ids):
            digest = self._next_digest(holding, ids)
            block = self._by_digest.get(digest)
            if block is None:
                break
            self._free.pop(block, None)
            self._holders[block] += 1
            holding.blocks.append(block)
            holding.digests.append(digest)
        return holding

    def extend(self, holding: Holding, tokens: int) -> bool:
        """Hold blocks for `tokens` tokens in all; false, and nothing changed, where there are not as many free."""
        missing = blocks_of(tokens) - len(holding.blocks)
        if missing > len(self._free):
            return False
        for _ in range(missing):
            block, _ = self._free.popitem(last=False)
            self._forget(block)
            self._holders[block] = 1
            holding.blocks.append(block)
        return True

    def seal(self, holding: Holding, ids: Sequence[int], computed: int) -> None:
        """Make the full blocks of the first `computed` tokens known to later sequences."""
        while self.keep and (len(holding.digests) + 1) * BLOCK_TOKENS <= computed:
            block = holding.blocks[len(holding.digests)]
            digest = self._next_digest(holding, ids)
            holding.digests.append(digest)
            if digest not in self._by_digest:
                self._by_digest[digest] = block
                self._digest_of[block] = digest

    def release(self, holding: Holding) -> None:
        """Give the blocks back; the last goes first when room is needed, since it is of no use without those before it.

        One with nothing that could be found again goes before all others, those never used included: memory that was
        touched already serves again, instead of the whole pool being touched in turn.
        """
        for block in reversed(holding.blocks):
            self._holders[block] -= 1
            if self._holders[block] == 0:
                self._free[block] = None
                if block not in self._digest_of:
                    self._free.move_to_end(block, last=False)
        holding.blocks, holding.digests = [], []

    def _next_digest(self, holding: Holding, ids: Sequence[int]) -> bytes:
        start = len(holding.digests) * BLOCK_TOKENS
        before = holding.digests[-1] if holding.digests else holding.root
        return hashlib.blake2b(before + array("q", ids[start : start + BLOCK_TOKENS]).tobytes(), digest_size=16).digest()

    def _forget(self, block: int) -> None:
        digest = self._digest_of.pop(block, None)
        if digest is not None:
            del self._by_digest[digest]


def blocks_of(tokens: int) -> int:
    """How many blocks hold so many tokens."""
    return -(-tokens // BLOCK_TOKENS)
