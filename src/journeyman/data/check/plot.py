"""A histogram as SVG, drawn for a column as narrow as a phone's."""

from __future__ import annotations

import math
from collections.abc import Sequence

WIDTH, HEIGHT = 360, 170
RIGHT, TOP, BOTTOM = 8, 10, 38
DIGIT = 8
"""Room for a character of the count at the left."""
BINS = 24


def histogram(values: Sequence[float], unit: str) -> str:
    """Counts of values in bins of equal width from 0 on, with median and longest named; "" for no values.

    The few values beyond the 99th of a hundred share the last bin, so that one long row does not flatten all others.
    """
    if not values:
        return ""
    ordered = sorted(values)
    end = ordered[min(len(ordered) - 1, math.floor(len(ordered) * 0.99))]
    step = _round_up(max(end, 1) / BINS)
    bins = [0] * (math.floor(end / step) + 1)
    for value in values:
        bins[min(int(value / step), len(bins) - 1)] += 1
    open_ended = ordered[-1] >= len(bins) * step
    most = max(bins)
    left = 10 + DIGIT * len(f"{most:,}")
    width = (WIDTH - left - RIGHT) / len(bins)
    bottom = HEIGHT - BOTTOM
    bars = "".join(
        f'<rect x="{left + i * width:.1f}" y="{bottom - n / most * (bottom - TOP):.1f}" width="{max(width - 1, 0.5):.1f}" '
        f'height="{n / most * (bottom - TOP):.1f}"><title>{_range(i, step, i == len(bins) - 1 and open_ended)} {unit}: {n} row(s)</title></rect>'
        for i, n in enumerate(bins)
        if n
    )
    last = f"{len(bins) * step:,g}" + ("+" if open_ended else "")
    said = f"median {ordered[len(ordered) // 2]:,g}, longest {ordered[-1]:,g} {unit}"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Rows by length: {said}">'
        f'<path class="axis" d="M{left} {bottom}H{WIDTH - RIGHT}"/>{bars}'
        f'<text x="{left - 5}" y="{TOP + 9}" text-anchor="end">{most:,}</text>'
        f'<text x="{left - 5}" y="{bottom}" text-anchor="end">0</text>'
        f'<text x="{left}" y="{bottom + 15}">0</text>'
        f'<text x="{WIDTH - RIGHT}" y="{bottom + 15}" text-anchor="end">{last}</text>'
        f'<text x="{(left + WIDTH - RIGHT) / 2}" y="{bottom + 32}" text-anchor="middle">{said}</text></svg>'
    )


def _range(number: int, step: float, open_ended: bool) -> str:
    return f"{number * step:,g}" + (" and more" if open_ended else f" to {(number + 1) * step:,g}")


def _round_up(step: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50, ..."""
    power = 10.0 ** math.floor(math.log10(max(step, 1)))
    return next(power * times for times in (1, 2, 5, 10) if power * times >= step)
