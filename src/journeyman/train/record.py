"""What each row cost in each epoch, as the training met it: the record that `check JOB` reads.

    rows.jsonl      {"place": {"file", "line"}, "epoch": 1, 2, ..., "loss": nats a learned token, "tokens": 12}

One line a training sequence and epoch; a conversation that is trained as several sequences has several of a place.
The losses are those the step was made of, so they cost no further pass over the rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from journeyman.data.check.learned import FILE
from journeyman.text.encode import Encoded


class RowRecord:
    """Writes the record of one training, which a resume continues where its checkpoint stands.

    Lines past the checkpoint are cut off, as their steps are run again. Where fewer lines are there than it has
    rows, nothing is written any more: what lacks an epoch would be read as having learned in fewer.
    """

    def __init__(self, folder: Path, *, rows_done: int) -> None:
        self._path = folder / FILE
        self._lines: list[str] | None = [] if _cut(self._path, rows_done) else None

    def add(self, epoch: int, rows: Sequence[Encoded], loss_sums_B: npt.NDArray[np.float64]) -> None:
        """Note the summed loss of each row in this epoch."""
        if self._lines is not None:
            self._lines += [_line(epoch, row, loss) for row, loss in zip(rows, loss_sums_B, strict=True)]

    def keep(self) -> None:
        """Make all that was noted last; to be called before the checkpoint that it belongs to is written."""
        if self._lines:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.writelines(self._lines)
                file.flush()
                os.fsync(file.fileno())
            self._lines = []


def _line(epoch: int, row: Encoded, loss_sum: float) -> str:
    place = {"file": row.place.file, "line": row.place.line}
    tokens = row.learned_tokens
    line = {"place": place, "epoch": epoch, "loss": round(float(loss_sum) / tokens, 5), "tokens": tokens}
    return json.dumps(line, ensure_ascii=False) + "\n"


def _cut(path: Path, lines: int) -> bool:
    """Leave the first so many whole lines of the file, and say whether they were there."""
    if not path.is_file():
        return lines == 0
    kept_bytes = 0
    with path.open("rb") as file:
        for _ in range(lines):
            line = file.readline()
            if not line.endswith(b"\n"):
                return False
            kept_bytes += len(line)
    os.truncate(path, kept_bytes)
    return True
