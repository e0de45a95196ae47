"""What a batch has answered so far, on disk: the one place that says which requests are left when its server was killed."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

NAMES = ("output", "error")


class Answers:
    """The answers of one batch in a folder of its own, a line each, written as soon as it is there.

    Opened again they are all there: a line that was cut off by a kill or a full disk is dropped, and its request counts
    as not answered. Whoever opens them holds the folder's lock.
    """

    def __init__(self, folder: Path) -> None:
        self.paths = {name: folder / f"{name}.jsonl" for name in NAMES}
        self.known: set[str] = set()
        """The custom ids of requests that have an answer."""
        self.completed, self.failed = (self._read(self.paths[name]) for name in NAMES)
        self._files: dict[str, BinaryIO] = {}

    def __enter__(self) -> Answers:
        self._files = {name: path.open("ab") for name, path in self.paths.items()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()

    def add(self, shown: dict[str, Any]) -> None:
        """Write an answer down; it is whole in the file when this returns. Raises OSError where there is no room."""
        well = shown["response"] is not None and shown["response"]["status_code"] == 200
        file = self._files["output" if well else "error"]
        file.write(json.dumps(shown, ensure_ascii=False).encode() + b"\n")
        file.flush()
        self.known.add(shown["custom_id"])
        if well:
            self.completed += 1
        else:
            self.failed += 1

    def _read(self, path: Path) -> int:
        """How many whole lines a file holds; what follows them is cut off."""
        if not path.exists():
            return 0
        count = 0
        with path.open("rb+") as file:
            while line := file.readline():
                try:
                    custom_id = json.loads(line)["custom_id"] if line.endswith(b"\n") else None
                except ValueError:
                    custom_id = None
                if custom_id is None:
                    file.seek(-len(line), 1)
                    file.truncate()
                    break
                self.known.add(custom_id)
                count += 1
        return count
