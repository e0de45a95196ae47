"""The course of the loss as SVG, drawn for a column as narrow as a phone's and told apart without colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

WIDTH, HEIGHT = 360, 170
LEFT, RIGHT, TOP, BOTTOM = 38, 8, 10, 24


def loss_curve(validations: Sequence[Mapping[str, Any]]) -> str:
    """Loss by step: on validation rows solid, its lowest marked, on training rows dashed; "" where there are not two steps.

    `validations` have `step`, `valid_loss` and `train_loss` (None where it was not measured).
    """
    if len(validations) < 2:
        return ""
    valid = [(v["step"], v["valid_loss"]) for v in validations]
    train = [(v["step"], v["train_loss"]) for v in validations if v["train_loss"] is not None]
    losses = [loss for _, loss in valid + train]
    low, high = min(losses), max(losses)
    first, last = valid[0][0], valid[-1][0]

    def at(step: float, loss: float) -> str:
        x = LEFT + (step - first) / (last - first) * (WIDTH - LEFT - RIGHT)
        y = TOP + (high - loss) / ((high - low) or 1) * (HEIGHT - TOP - BOTTOM)
        return f"{x:.1f},{y:.1f}"

    best = min(valid, key=lambda point: point[1])
    x, y = at(*best).split(",")
    bottom = HEIGHT - BOTTOM
    said = f"validation loss from {valid[0][1]:.3f} to {valid[-1][1]:.3f}, lowest {best[1]:.3f} at step {best[0]:,}"
    lines = "".join(
        f'<polyline class="{name}" points="{" ".join(at(*point) for point in points)}"/>'
        for name, points in (("train", train), ("valid", valid))
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Loss by step: {said}">'
        f'<path class="axis" d="M{LEFT} {bottom}H{WIDTH - RIGHT}"/>{lines}'
        f'<circle cx="{x}" cy="{y}" r="4"><title>{said}</title></circle>'
        f'<text x="{LEFT - 5}" y="{TOP + 5}" text-anchor="end">{high:.2f}</text>'
        f'<text x="{LEFT - 5}" y="{bottom}" text-anchor="end">{low:.2f}</text>'
        f'<text x="{LEFT}" y="{bottom + 15}">step {first:,}</text>'
        f'<text x="{WIDTH - RIGHT}" y="{bottom + 15}" text-anchor="end">{last:,}</text></svg>'
    )
