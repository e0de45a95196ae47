"""Outputs that are labels, and those that are meant to be."""

from __future__ import annotations

from journeyman.data.labels import closed_set, stray_labels

LABELS = ("card_arrival", "card_lost", "exchange_rate", "top_up")
CLEAN = [label for label in LABELS for _ in range(20)]


def test_a_set_stays_closed_where_many_outputs_are_its_labels_in_other_spellings() -> None:
    spelt = [label.upper() for label in LABELS] + [f"The intent is {label}." for label in LABELS]
    outputs = [*CLEAN, *spelt]
    assert closed_set(outputs) == outputs
    assert stray_labels(outputs) == dict(zip(spelt, LABELS * 2, strict=True))


def test_a_set_is_not_closed_where_as_many_outputs_are_anything() -> None:
    assert closed_set([*CLEAN, *(f"What do you mean by {word}?" for word in ("a", "b", "c", "d", "e", "f", "g", "h"))]) is None
