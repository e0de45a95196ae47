"""Outputs that are labels: a small closed set, found by itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from journeyman.data.spelling import one_slip

MAX_LABELS = 200
MAX_CHARACTERS = 60
ROWS_PER_LABEL = 4
"""A set is closed where its labels are used so many times on average."""

STRAYS = 0.05
"""So large a share of outputs may be no label of the set: those are mistakes."""

SPELT_OTHERWISE = 0.25
"""So large a share may be labels in other spellings: where it is plain which label is meant, the set is as closed as before."""

FEWER = 20
"""A spelling that is so many times rarer than a like one is a slip."""


def closed_set(outputs: Sequence[str]) -> list[str] | None:
    """The label of each output, without white space around it, where the outputs are a small closed set; else None.

    Labels are short, one line each, and used again and again. A few outputs may be something else, and are then
    labels that hardly anything else has; more may be, where they are labels of the set in other spellings.
    """
    labels = [output.strip() for output in outputs]
    if _is_closed(labels, STRAYS):
        return labels
    # Only what is nearly closed is looked at again: to know what is meant takes a look at each of the strays.
    if not _is_closed(labels, SPELT_OTHERWISE):
        return None
    meant = stray_labels(labels)
    return labels if _is_closed([meant.get(label) or label for label in labels], STRAYS) else None


def _is_closed(labels: Sequence[str], strays: float) -> bool:
    """Whether the outputs are a small closed set, but for so large a share of them."""
    counts = Counter(labels)
    short = {label for label in counts if label and len(label) <= MAX_CHARACTERS and "\n" not in label}
    others = sum(count for label, count in counts.items() if label not in short or count == 1)
    used = [label for label in short if counts[label] > 1]
    closed = 2 <= len(used) <= min(MAX_LABELS, sum(counts[label] for label in used) / ROWS_PER_LABEL)
    return closed and others <= strays * len(labels)


def stray_labels(labels: Sequence[str]) -> dict[str, str | None]:
    """Outputs that are no label of the set, and the label that each is meant to be where that is plain.

    Of two spellings of one label the rarer is a stray; so is an output that stands there once and is not told by its
    letters.
    """
    counts = Counter(labels)
    often = {label for label, count in counts.items() if count > 1}
    # Only of these can anything be a slip; each of many strays is compared with them alone.
    frequent = [(count, label) for label, count in counts.items() if count >= FEWER]
    by_letters: dict[str, str] = {}
    for label in sorted(often, key=lambda x: (counts[x], x)):
        by_letters[_letters(label)] = label
    out: dict[str, str | None] = {}
    for label, count in counts.items():
        like = by_letters.get(_letters(label))
        if like is not None and like != label and counts[like] >= 2 * count:
            out[label] = like
        elif count * FEWER <= (slip := _slip_of(label, frequent))[0]:
            out[label] = slip[1]
        elif count == 1:
            said = label.lower()
            within = [known for known in often if known.lower() in said and re.search(rf"(?<!\w){re.escape(known)}(?!\w)", label, re.I)]
            out[label] = within[0] if len(within) == 1 else None
    return out


def _letters(label: str) -> str:
    """The label without case, spaces and punctuation; the label itself where it has nothing else."""
    return "".join(c for c in label.casefold() if c.isalnum()) or label


def _slip_of(label: str, frequent: Sequence[tuple[int, str]]) -> tuple[int, str]:
    """The most frequent label that is one slip away from a longer one, after its count; 0 where there is none."""
    if len(label) < 5 or not label.replace("_", "").replace("-", "").replace(" ", "").isalpha():
        return 0, ""
    return max(((count, known) for count, known in frequent if known != label and one_slip(label, known)), default=(0, ""))
