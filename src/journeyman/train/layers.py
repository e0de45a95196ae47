"""Where a decoder's layers are, whatever its family calls them."""

from __future__ import annotations

import re

from torch import nn

_LAYER = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)\.")


def decoder_layers(model: nn.Module) -> nn.ModuleList | None:
    """The layers in their order; None in a family that keeps them otherwise."""
    layers = getattr(model.base_model, "layers", None) or getattr(model.base_model, "h", None)
    return layers if isinstance(layers, nn.ModuleList) else None


def layer_of(path: str) -> int | None:
    """The number of the layer that a submodule's path lies in."""
    found = _LAYER.search(path)
    return int(found[1]) if found else None
