"""Adapters on the last layers only: what the layers below them give is computed once for each row, and kept.

Nothing is trained in those layers or before them, so that they give the same in every epoch, and an epoch costs the last
layers alone. What is lost is what adapters on the lower layers would have learned. The rest is exact.

Shapes: N tokens of rows one after the other, B rows of T tokens, D width.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from journeyman.errors import TrainingError
from journeyman.text.batch import MicroBatch
from journeyman.text.shared import Indexes, SharedBatch
from journeyman.train.layers import decoder_layers

Batch = MicroBatch | SharedBatch
Layer = Callable[..., torch.Tensor]


class FrozenLayers:
    """The first `count` layers of a model, computed once for each row.

    What they gave lies in a file without a name: it is gone when the process is, and the system may drop its pages from
    memory. It is computed in an order that is the same in every run, so that a resumed run goes on with the same bytes.
    """

    def __init__(self, model: nn.Module, count: int, batches: Sequence[Batch], loss: Callable[[Batch], float], folder: Path) -> None:
        """`batches` are together all rows that will be asked for; `loss` passes one through the model.

        Raises TrainingError where the family's layers are not known, and OSError where the disk has no room.
        """
        layers = decoder_layers(model)
        if layers is None:
            raise TrainingError("the layers of this family are not known", fix="train adapters on all layers: leave out --top-layers")
        for number, layer in enumerate(layers):
            layer.forward = _replaceable(number, layer.forward)
        self._count, self._layers = count, len(layers)
        self._starts: dict[int, int] = {}
        tokens = 0
        for row in (row for batch in batches for row in batch.rows):
            if id(row) not in self._starts:
                self._starts[id(row)] = tokens
                tokens += len(row) - 1
        weight = next(model.parameters())
        width = int(model.config.get_text_config().hidden_size)  # type: ignore[operator,union-attr]
        self._device, self._states_ND = weight.device, _unnamed(folder, tokens, width, weight.dtype)
        self._batches, self._loss = batches, loss

    def compute(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Compute all batches; false where `should_stop` ended it, which is asked after each.

        Raises TrainingError where a pass that begins after these layers does not give the loss of a whole one.
        """
        for index, batch in enumerate(self._batches):
            self._compute(batch)
            if index == 0:
                self._check(batch)
            if should_stop():
                return False
        return True

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return self._states_ND.nbytes

    @contextmanager
    def left_out(self, batch: Batch) -> Iterator[None]:
        """Within, the model passes over this batch from where these layers end."""
        shape = (1, len(batch.ids_N)) if isinstance(batch, SharedBatch) else (len(batch.ids_BT), batch.ids_BT.shape[1] - 1)
        states_BTD = self._states_ND.new_zeros(*shape, self._states_ND.shape[1])
        for row, at in zip(batch.rows, _inputs(batch), strict=True):
            start = self._starts[id(row)]
            states_BTD.view(-1, states_BTD.shape[-1])[torch.from_numpy(at)] = self._states_ND[start : start + len(at)]
        states_BTD = states_BTD.to(self._device)
        with _computing(dict.fromkeys(range(self._count), lambda *_, **__: states_BTD)):
            yield

    @torch.no_grad()
    def _compute(self, batch: Batch) -> None:
        """Pass over a batch without the layers above, and write down what stands between."""
        found: list[torch.Tensor] = []

        def catch(hidden: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
            found.append(hidden)
            return hidden

        above = dict.fromkeys(range(self._count + 1, self._layers), lambda hidden, *_, **__: hidden)
        with _computing({self._count: catch, **above}):
            self._loss(batch)
        states_ND = found[0].reshape(-1, found[0].shape[-1]).cpu()
        for row, at in zip(batch.rows, _inputs(batch), strict=True):
            start = self._starts[id(row)]
            self._states_ND[start : start + len(at)] = states_ND[torch.from_numpy(at)]

    @torch.no_grad()
    def _check(self, batch: Batch) -> None:
        whole = self._loss(batch)
        with self.left_out(batch):
            begun_later = self._loss(batch)
        # Not finite is the loop's to refuse, with the rows.
        if abs(begun_later - whole) > 1e-2 * abs(whole):
            raise TrainingError(
                f"this family's layers can't be computed apart: loss {begun_later:.4g} instead of {whole:.4g}",
                fix="train adapters on all layers: leave out --top-layers",
            )


def _inputs(batch: Batch) -> Iterable[Indexes]:
    """Where the inputs of each row stand among all places of the batch."""
    if isinstance(batch, SharedBatch):
        return batch.places
    width = batch.ids_BT.shape[1] - 1
    return (index * width + np.arange(len(row) - 1) for index, row in enumerate(batch.rows))


_instead: ContextVar[Mapping[int, Layer] | None] = ContextVar("what layers compute instead, by number", default=None)


@contextmanager
def _computing(instead: Mapping[int, Layer]) -> Iterator[None]:
    """Within, these layers compute this. They stay in their places, by which families choose masks and positions.

    A context and not another `forward`, since several micro-batches may pass through one model at a time.
    """
    token = _instead.set(instead)
    try:
        yield
    finally:
        _instead.reset(token)


def _replaceable(number: int, forward: Layer) -> Layer:
    def computed(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return (_instead.get() or {}).get(number, forward)(hidden, *args, **kwargs)

    return computed


def _unnamed(folder: Path, tokens: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    """Zeros (tokens, width) in a file below `folder` whose name is taken away at once.

    Its room on the disk is taken before: a page that finds none when it is written would end the process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".states-") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, tokens * width * dtype.itemsize)
        states = torch.from_file(file.name, shared=True, size=tokens * width, dtype=dtype)
    return states.view(tokens, width)
