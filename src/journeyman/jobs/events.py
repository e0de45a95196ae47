"""What happened in a job: one object a line in its folder's events.jsonl, read with `cat` or listed page by page."""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from journeyman.errors import RequestError
from journeyman.files import read_jsonl

FILE = "events.jsonl"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `id` is the line's place in the file, so that it never changes."""

    id: str
    at: float
    type: str
    data: Mapping[str, Any]


def append(folder: Path, event: Mapping[str, Any]) -> dict[str, Any]:
    """Add an event, with the time; returns it as it was written.

    A last line that is half written, by a process that died or on a disk that was full, is dropped first. Server and worker
    may write at the same moment: each waits for the other, or what one writes would be taken for the end of a torn line.
    """
    stamped = {"at": round(time.time(), 3), **event}
    line = json.dumps({k: _finite(v) for k, v in stamped.items()}, ensure_ascii=False) + "\n"
    with (folder / FILE).open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # freed as the file is closed
        _cut_torn_line(file)
        file.write(line.encode("utf-8"))
    return stamped


def read_events(folder: Path) -> Sequence[Mapping[str, Any]]:
    """A job's events in the order they happened; steps that a resume repeated stand twice."""
    path = folder / FILE
    return list(read_jsonl(path)) if path.is_file() else []


def worked_s(events: Sequence[Mapping[str, Any]]) -> float:
    """Seconds of all runs of a job, each from its plan to its last event; a pause or a queue between two is none of it."""
    runs: list[tuple[float, float]] = []
    for event in events:
        if event["type"] == "planned":
            runs.append((event["at"], event["at"]))
        elif runs and event["type"] not in ("queued", "died", "cancelled"):
            runs[-1] = (runs[-1][0], event["at"])
    return sum(last - first for first, last in runs)


def newest(folder: Path, *, after: str | None = None, limit: int = 20) -> tuple[list[Event], bool]:
    """A page of events, newest first, and whether there are older ones.

    `after` is the id of the last event of the page before; events that came since do not shift the pages.
    Raises RequestError where it is not the id of an event of this job.
    """
    events = read_events(folder)
    end = len(events) if after is None else _place(folder, after, len(events))
    begin = max(0, end - limit)
    page = [
        Event(_id(folder, i), e["at"], e["type"], {k: v for k, v in e.items() if k not in ("at", "type")})
        for i, e in enumerate(events[begin:end], begin)
    ]
    return page[::-1], begin > 0


def cut_torn_line(folder: Path) -> None:
    """Drop a last line that a dying process left half written: the next one would be joined to it."""
    path = folder / FILE
    if not path.is_file():
        return
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _cut_torn_line(file)


def _cut_torn_line(file: BinaryIO) -> None:
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - 1))
    if file.read() not in (b"", b"\n"):
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def _id(folder: Path, index: int) -> str:
    return f"ftevent-{folder.name.removeprefix('ftjob-')}{index:08d}"


def _place(folder: Path, event_id: str, count: int) -> int:
    digits = event_id[-8:]
    if digits.isascii() and digits.isdigit() and int(digits) < count and event_id == _id(folder, int(digits)):
        return int(digits)
    raise RequestError(f"no event {event_id!r} in this job", where="after", fix="give the id of an event of the job")


def _finite(value: Any) -> Any:
    """JSON has no NaN or infinity; events spell them as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
