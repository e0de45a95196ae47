"""A small file of examples, in which no two inputs are nearly alike."""

from __future__ import annotations

import json
from pathlib import Path

_THINGS = ("lamp", "kettle", "blanket", "mug", "chair", "clock", "basket", "mirror", "candle", "shelf")
_WISHES = ("arrived broken", "is late", "has the wrong colour", "should be a gift", "needs a new part")


def write_rows(path: Path, count: int = 45) -> Path:
    rows = []
    for i in range(count):
        thing, wish = _THINGS[i % 10], _WISHES[i // 10]
        messages = [
            {"role": "user", "content": f"My {thing} {wish}. {i * 7919 % 997}"},
            {"role": "assistant", "content": f"Please send us the order of the {thing}."},
        ]
        rows.append(json.dumps({"messages": messages}))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path
