"""How a training went, checkpoint by checkpoint, from its events; and overfitting in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

CLEARLY = 0.02
"""A validation loss that rose by less than this share is noise on the few rows that there usually are."""


def read_curve(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One entry a validation, in the order of steps; steps that a resume repeated count once.

    Each has the step, the training loss since the one before, the validation loss, and what a judge said (`score`,
    `general_prose`), where one was asked.
    """
    steps = {e["step"]: e["train_loss"] for e in events if e["type"] == "step"}
    checks = {e["step"]: e for e in events if e["type"] == "validation"}
    curve, last = [], 0
    for step, event in sorted(checks.items()):
        losses = [steps[s] for s in range(last + 1, step + 1) if s in steps]
        said = {name: event[name] for name in ("score", "general_prose") if name in event}
        train_loss = sum(losses) / len(losses) if losses else None
        curve.append({"step": step, "train_loss": train_loss, "valid_loss": event["valid_loss"], **said})
        last = step
    return curve


def overfitting(curve: Sequence[Mapping[str, Any]], kept_step: int | None) -> str | None:
    """Overfitting in words, or None where the validation loss did not clearly rise while the training loss fell."""
    if len(curve) < 2:
        return None
    best = min(curve, key=lambda c: c["valid_loss"])
    last = curve[-1]
    if None in (best["train_loss"], last["train_loss"]) or last["train_loss"] >= best["train_loss"]:
        return None
    if last["valid_loss"] <= best["valid_loss"] * (1 + CLEARLY):
        return None
    end = f"; the checkpoint of step {kept_step} was kept" if kept_step is not None and kept_step != last["step"] else ""
    return (
        f"Overfitting after step {best['step']}: from there to step {last['step']} the training loss fell from "
        f"{best['train_loss']:.3f} to {last['train_loss']:.3f}, and the loss on validation rows rose from "
        f"{best['valid_loss']:.3f} to {last['valid_loss']:.3f}{end}"
    )
