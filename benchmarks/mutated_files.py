"""Mutated training files through the API's job path: never a crash, always an error that names line and key.

    python benchmarks/mutated_files.py --files 10000

Each file is 24 good rows with one change by a seeded draw. Some changes break a row in a known way, and then the job's
error must name its line and, where a key is to blame, the key. Others flip, drop or repeat bytes at random: what becomes of
such a file is not known beforehand, and the job must end in words all the same. Each file is read as a worker reads the rows of
a job, and what is looked at is the error that a client of the API reads; a file that would be trained is followed to there.
Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from journeyman import training
from journeyman.api.jobs import shown
from journeyman.errors import JourneymanError
from journeyman.jobs.state import JobState
from journeyman.request import TrainRequest
from journeyman.workspace import Workspace

ROWS = 24
CALL = {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": '{"zone": "CET"}'}}
TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}


def good(number: int) -> dict[str, Any]:
    """A row that trains: every third calls a tool."""
    asked = {"role": "user", "content": f"What is the {number}. of the month like?"}
    if number % 3:
        return {
            "messages": [
                {"role": "system", "content": "Be brief."},
                asked,
                {"role": "assistant", "content": f"Mild, {number} degrees."},
            ]
        }
    answered = {"role": "assistant", "tool_calls": [CALL]}
    told = {"role": "tool", "tool_call_id": "call_1", "content": f"day {number}"}
    return {
        "messages": [asked, answered, told, {"role": "assistant", "content": f"Day {number}."}],
        "tools": [TOOL],
    }


@dataclass(frozen=True)
class Mutated:
    """A file with one change: its bytes, the kind of change, and where the error has to point, where that is known."""

    data: bytes
    kind: str
    line: int | None = None
    key: str | None = None


Row = dict[str, Any]
Change = Callable[[Row, random.Random], str]
"""Changes a row in place and returns the key to blame."""

NOT_TEXT: list[Any] = [3, 1.5, True, {"a": 1}, [3], ["x"]]
NOT_LISTS: list[Any] = [3, "x", {"a": 1}, None, [], [3], ["x"], [None]]


def _set(name: str, values: list[Any]) -> Change:
    def change(row: Row, draw: random.Random) -> str:
        draw.choice(row["messages"])[name] = draw.choice(values)
        return name

    return change


def _drop(name: str) -> Change:
    def change(row: Row, draw: random.Random) -> str:
        message = draw.choice([m for m in row["messages"] if name in m])
        del message[name]
        return name

    return change


def _messages(row: Row, draw: random.Random) -> str:
    row["messages"] = draw.choice(NOT_LISTS)
    return "messages"


def _unknown(row: Row, draw: random.Random) -> str:
    name = "".join(draw.choices("abcdefghij", k=6))
    draw.choice(row["messages"])[name] = "x"
    return name


def _weight(row: Row, draw: random.Random) -> str:
    row["messages"][-1]["weight"] = draw.choice([2, -1, 0.5, 1.0, "1", True, [1]])
    return "weight"


def _tools(row: Row, draw: random.Random) -> str:
    row["tools"] = draw.choice(
        [
            "x",
            {"a": 1},
            [3],
            [{"type": "function"}],
            [{"type": "web"}],
            [{"type": "function", "function": {"name": 3}}],
        ]
    )
    return "tools"


def _calls(row: Row, draw: random.Random) -> str:
    broken: list[Any] = [
        "x",
        [3],
        [{}],
        [{**CALL, "id": 3}],
        [{**CALL, "type": "x"}],
        [{**CALL, "function": {"name": "now"}}],
        [{**CALL, "more": 1}],
    ]
    row["messages"][-1] = {"role": "assistant", "tool_calls": draw.choice(broken)}
    return "tool_calls"


def _part(row: Row, draw: random.Random) -> str:
    parts: list[Any] = [
        {"type": "image_url", "image_url": {"url": "x"}},
        {"type": "text"},
        {"type": "text", "text": 3},
        3,
    ]
    row["messages"][0]["content"] = [draw.choice(parts)]
    return "content"


CHANGES: dict[str, Change] = {
    "not text": _set("content", NOT_TEXT[:4]),
    "unknown role": _set("role", ["robot", "User", "", 3, [], {}]),
    "no role": _drop("role"),
    "no content": lambda row, draw: row["messages"][0].pop("content") and "content",
    "messages": _messages,
    "unknown key": _unknown,
    "weight": _weight,
    "tools": _tools,
    "tool calls": _calls,
    "part": _part,
    "name": _set("name", [3, [], {}]),
    "lone surrogate": lambda row, draw: row["messages"][0].update(content="half \ud83d") or "content",
}
"""Changes of a row's values, with the key to blame."""

LINES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut": lambda line, draw: line[: draw.randrange(1, len(line) - 1)],
    "not an object": lambda line, draw: draw.choice(
        [b"3", b"[]", b'"x"', b"null", b"true", b"[" + line + b"]"]
    ),
    "not UTF-8": lambda line, draw: line.replace(b"role", b"ro\xffle", 1),
    "NaN": lambda line, draw: line[:-1] + b', "score": NaN}',
    "key twice": lambda line, draw: line[:-1] + b', "messages": []}',
    "too deep": lambda line, draw: line[:-1] + b', "x": ' + b"[" * 3000 + b"]" * 3000 + b"}",
    "long number": lambda line, draw: line[:-1] + b', "x": ' + b"9" * 6000 + b"}",
    "two objects": lambda line, draw: line + b" " + line,
    "single quotes": lambda line, draw: line.replace(b'"', b"'"),
    "comma": lambda line, draw: line[:-1] + b",}",
}
"""Changes of a line's bytes."""

FREE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "bytes changed": lambda data, draw: bytes(
        draw.randrange(256) if draw.random() < 0.002 else b for b in data
    ),
    "bytes dropped": lambda data, draw: (
        data[: (at := draw.randrange(len(data)))] + data[at + draw.randrange(1, 200) :]
    ),
    "bytes repeated": lambda data, draw: data[: (at := draw.randrange(len(data)))] + data[max(0, at - 80) :],
    "cut off": lambda data, draw: data[: draw.randrange(len(data))],
    "zeros": lambda data, draw: data + bytes(draw.randrange(1, 5000)),
    "another encoding": lambda data, draw: data.decode().encode(
        draw.choice(["utf-16", "utf-32", "utf-8-sig"])
    ),
    "no line ends": lambda data, draw: data.replace(b"\n", draw.choice([b"", b"\r", b" ", b"\x0b"])),
    "noise": lambda data, draw: draw.randbytes(draw.randrange(3000)),
}
"""Changes of the whole file, of which nobody knows beforehand what they break."""


def mutated(seed: int) -> Mutated:
    """File `seed` of the series."""
    draw = random.Random(seed)
    rows = [good(number) for number in range(ROWS)]
    lines = [json.dumps(row, ensure_ascii=False).encode() for row in rows]
    at = draw.randrange(ROWS)
    kind = draw.choice([*CHANGES, *LINES, *FREE])
    if kind in FREE:
        return Mutated(FREE[kind](b"\n".join(lines) + b"\n", draw), kind)
    key = None
    if kind in CHANGES:
        row = json.loads(lines[at])
        key = CHANGES[kind](row, draw)
        lines[at] = json.dumps(row).encode()
    else:
        lines[at] = LINES[kind](lines[at], draw)
    return Mutated(b"\n".join(lines) + b"\n", kind, at + 1, key)


class Fits(JourneymanError):
    """A file that would be trained: this is as far as it is followed here."""

    code = "fits"


def _accepted(*_: Any) -> Any:
    raise Fits("the rows can be used")


up_to_training = patch("journeyman.training.report_of", _accepted)
"""Jobs end where their rows have been read and accepted."""


class Files:
    """One job, whose training file is another one each time."""

    def __init__(self, home: Path) -> None:
        self._workspace = Workspace(home)
        self._path = home / "file-mutated.jsonl"
        self._path.write_bytes(b"")
        request = TrainRequest(str(self._path), base="starter", despite_errors=True, every_row=True)
        self._job = self._workspace.submit(
            request, details={"model": "starter", "training_file": "file-mutated"}
        )

    @up_to_training
    def error(self, data: bytes) -> dict[str, Any]:
        """The error that a client reads of the job, once a worker has read its rows. Raises what crashes it."""
        self._path.write_bytes(data)
        try:
            training.materials(self._workspace, self._job, lambda event: None)
        except JourneymanError as error:
            failed = replace(self._job, status=JobState.FAILED, error=error.as_dict())
        told = shown(self._workspace, failed).error
        assert told is not None
        return told.model_dump()

    @up_to_training
    def error_by_queue(self, data: bytes) -> dict[str, Any]:
        """The same of a job of its own that goes through the queue: claimed, begun, failed, and read again."""
        self._path.write_bytes(data)
        request = TrainRequest(str(self._path), base="starter", despite_errors=True, every_row=True)
        job = self._workspace.submit(request, details=self._job.details)
        with suppress(JourneymanError):
            self._workspace.resume(job.id)
        told = shown(self._workspace, self._workspace.job(job.id)).error
        assert told is not None
        return told.model_dump()


def complaint(file: Mutated, error: dict[str, Any]) -> str | None:
    """What is wrong with a job's error; None where it tells what it has to."""
    if error["code"] == "internal_error":
        return "a crash"
    if error["code"] == "fits":
        return "accepted" if file.line is not None else None
    if error["param"] != "training_file":
        return "no param"
    if file.line is not None and f":{file.line}:" not in error["message"]:
        return "the line is not named"
    if file.key is not None and file.key not in error["message"]:
        return "the key is not named"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first file")
    asked = parser.parse_args()
    begun_s = time.perf_counter()
    codes: Counter[str] = Counter()
    complaints: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="mutated-") as folder:
        files = Files(Path(folder))
        for seed in range(asked.first, asked.first + asked.files):
            file = mutated(seed)
            error = files.error(file.data)
            codes[str(error.get("code"))] += 1
            wrong = complaint(file, error)
            if wrong is not None:
                complaints.append(
                    {
                        "seed": seed,
                        "kind": file.kind,
                        "key": file.key,
                        "line": file.line,
                        "complaint": wrong,
                        "error": error,
                    }
                )
    print(
        json.dumps(
            {
                "files": asked.files,
                "seconds": round(time.perf_counter() - begun_s, 1),
                "codes": dict(codes.most_common()),
                "complaints": len(complaints),
                "examples": complaints[:20],
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
