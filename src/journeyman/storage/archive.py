"""Several files as one download: an uncompressed tar that is made while it is read, so that nothing is copied to the disk."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 1 << 20
"""How much of a file is in memory at a time."""


@dataclass(frozen=True, slots=True)
class Archive:
    """Files below one folder `top` of a tar, in the order given, all of the time `at` (seconds since 1970).

    The same files, top and time give the same bytes, whoever owns the files and whenever they were written.
    """

    files: Sequence[Path]
    top: str
    at: int

    @property
    def size_bytes(self) -> int:
        """How long the tar is. Raises FileNotFoundError where a file is gone."""
        content = sum(len(self._head(path)) + _padded(path.stat().st_size) for path in self.files)
        return content + len(_END)

    def chunks(self) -> Iterator[bytes]:
        """The tar, piece by piece. Raises OSError where a file is gone, or is shorter than it was when it began."""
        for path in self.files:
            head = self._head(path)
            with path.open("rb") as file:
                size_bytes = left = path.stat().st_size
                yield head
                while left:
                    chunk = file.read(min(CHUNK_BYTES, left))
                    if not chunk:
                        raise OSError(f"{path} has become shorter while it was read")
                    left -= len(chunk)
                    yield chunk
            yield bytes(_padded(size_bytes) - size_bytes)
        yield _END

    def _head(self, path: Path) -> bytes:
        info = tarfile.TarInfo(f"{self.top}/{path.name}")
        info.size, info.mtime = path.stat().st_size, self.at
        return info.tobuf(tarfile.GNU_FORMAT)  # which writes sizes above 8 GiB into the same block


_END = bytes(2 * tarfile.BLOCKSIZE)
"""Two empty blocks end a tar."""


def _padded(size_bytes: int) -> int:
    return -(-size_bytes // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
