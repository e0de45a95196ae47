"""The adapters of one base: any number are known, a bounded number are in memory, each of a step's tokens has its own.

Whoever calls holds the engine's lock on the model, but for `read`.
"""

from __future__ import annotations

import itertools
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from journeyman.errors import ModelNotFound
from journeyman.generate.row import Segment
from journeyman.train import lora

MAX_ADAPTERS = 64
"""Adapters in memory; beyond that the least recently used one that answers nobody is dropped, and read again when asked for."""


@dataclass(frozen=True, slots=True)
class _Resident:
    """An adapter in memory: its name on the layers (torch allows no dots there), its rank and scaling."""

    key: str
    rank: int
    scaling: float


class Adapters:
    """Adapters by name on `model`."""

    def __init__(self, model: Any, device: str, most: int = MAX_ADAPTERS) -> None:
        self.loaded = 0
        self.evicted = 0
        self._model = model
        # Looked up once: adapters are read while another thread, with the lock, may put layers of the model into others.
        self._sizes = lora.adaptable_sizes(model)
        self._device = device
        self._most = most
        self._folders: dict[str, Path] = {}
        self._resident: OrderedDict[str, _Resident] = OrderedDict()
        self._pins: Counter[str] = Counter()
        self._keys = (f"a{number}" for number in itertools.count())
        self._together: tuple[str, ...] = ()

    def __contains__(self, name: str) -> bool:
        return name in self._folders

    def __len__(self) -> int:
        return len(self._resident)

    def resident(self, name: str) -> bool:
        """Whether it is in memory."""
        return name in self._resident

    def read(self, name: str, folder: Path | None = None) -> lora.Loaded:
        """An adapter from its folder, or from where it was added. Raises CheckpointError where it does not fit this base."""
        return lora.read_adapter(self._sizes, folder or self._folders[name])

    def add(self, name: str, folder: Path, adapter: lora.Loaded) -> None:
        """Know an adapter that was read, and hold it in memory."""
        self._folders[name] = folder
        if name not in self._resident:
            self._attach(name, adapter)

    def key(self, name: str) -> str:
        """An adapter's name on the layers; read again where it was dropped. Raises ModelNotFound for one never added."""
        if name not in self._folders:
            raise ModelNotFound(f"the adapter {name!r} is not loaded")
        if name not in self._resident:
            self._attach(name, self.read(name))
        self._resident.move_to_end(name)
        return self._resident[name].key

    def drop(self, name: str) -> None:
        """Forget an adapter that nobody has pinned."""
        if self._pins[name]:
            return
        self._folders.pop(name, None)
        if name in self._resident:
            lora.remove_adapter(self._model, self._resident.pop(name).key)
            self.evicted += 1

    def pin(self, name: str | None) -> None:
        """Hold an adapter in memory until it is unpinned as often."""
        if name is not None:
            self.key(name)
            self._pins[name] += 1

    def unpin(self, name: str | None) -> None:
        """See `pin`."""
        if name is not None:
            self._pins[name] -= 1
            self._drop_beyond(self._most)

    def mixed(self, segments: Sequence[Segment]) -> list[lora.Mixed]:
        """Who uses which, for pinned adapters: one part for the rows of one token, which come first, and one a chunk."""
        steps = [s.row.adapter for s in segments if s.tokens == 1]
        parts = [self._part(slice(0, len(steps)), steps)] if any(steps) else []
        at = len(steps)
        for segment in segments[len(steps) :]:
            if segment.row.adapter is not None:
                parts.append(self._part(slice(at, at + segment.tokens), [segment.row.adapter]))
            at += segment.tokens
        return parts

    def _part(self, tokens: slice, of_tokens: Sequence[str | None]) -> lora.Mixed:
        used = {name for name in of_tokens if name is not None}
        names = (*used,) if len(of_tokens) == 1 else self._stacked(used)
        found = [self._resident[name] for name in names]
        if len(of_tokens) == 1:
            scale_NR = torch.tensor([[found[0].scaling]])
        else:
            column = {name: index for index, name in enumerate(names)}
            owners_N = torch.tensor([-1 if name is None else column[name] for name in of_tokens])
            owners_R = torch.tensor([index for index, r in enumerate(found) for _ in range(r.rank)])
            scalings_R = torch.tensor([r.scaling for r in found for _ in range(r.rank)])
            scale_NR = (owners_N[:, None] == owners_R) * scalings_R
        dtype = next(self._model.parameters()).dtype
        ranks = tuple(r.rank for r in found)
        return lora.Mixed(tokens, tuple(r.key for r in found), ranks, scale_NR.to(self._device, dtype))

    def _stacked(self, used: set[str]) -> tuple[str, ...]:
        """The names to stack: those of the step before where they hold these and few others, since a new stack costs a copy."""
        kept = tuple(name for name in self._together if name in self._resident)
        if not (used <= set(kept) and len(kept) <= 2 * len(used)):
            kept = tuple(sorted(used))
        self._together = kept
        return kept

    def _attach(self, name: str, adapter: lora.Loaded) -> None:
        self._drop_beyond(self._most - 1)
        key = next(self._keys)
        lora.attach(self._model, key, adapter)
        self._resident[name] = _Resident(key, adapter.rank, adapter.scaling)
        self.loaded += 1

    def _drop_beyond(self, most: int) -> None:
        """Drop the least recently used that answer nobody; those in use may be more for as long as they are."""
        unused = [name for name in self._resident if not self._pins[name]]
        for name in unused[: max(0, len(self._resident) - most)]:
            lora.remove_adapter(self._model, self._resident.pop(name).key)
            self.evicted += 1
