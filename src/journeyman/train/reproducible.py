"""A GPU that sums in the same order in every run, so that a resumed training writes the bytes of one that was not interrupted.

Many of its sums are made by threads that add as they come, attention's backward among them. torch computes these in a fixed
order on request, and refuses what has none.
"""

from __future__ import annotations

from collections.abc import Callable

import torch


def reproducible(probe: Callable[[], None]) -> bool:
    """Compute in a fixed order from now on, in the whole process, if all that `probe` computes can be; whether that is so.

    Where it can't, nothing is changed: a training whose last digits differ is better than none.
    """
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing here reads what it has not written
    try:
        probe()
    except RuntimeError as error:
        torch.use_deterministic_algorithms(False)
        if "deterministic" not in str(error):
            raise
        return False
    return True
