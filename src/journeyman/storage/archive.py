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
        return sum(size for _, size in self._parts())

    def chunks(self, first: int = 0, last: int | None = None) -> Iterator[bytes]:
        """The tar from byte `first` to `last`, both with it, piece by piece; all of it where they are not given.

        Raises OSError where a file is gone, or is shorter than it was when it began.
        """
        at, end = 0, self.size_bytes if last is None else last + 1
        for part, size in self._parts():
            begin, stop = max(first - at, 0), min(end - at, size)
            at += size
            if begin < stop:
                yield from [part[begin:stop]] if isinstance(part, bytes) else _read(part, begin, stop)

    def _parts(self) -> Iterator[tuple[bytes | Path, int]]:
        """What the tar is made of, with its size: heads, files, and what fills their last block."""
        for path in self.files:
            head, size = self._head(path), path.stat().st_size
            filling = bytes(-size % tarfile.BLOCKSIZE)
            yield from ((head, len(head)), (path, size), (filling, len(filling)))
        yield _END, len(_END)

    def _head(self, path: Path) -> bytes:
        info = tarfile.TarInfo(f"{self.top}/{path.name}")
        info.size, info.mtime = path.stat().st_size, self.at
        return info.tobuf(tarfile.GNU_FORMAT)  # which writes sizes above 8 GiB into the same block


@dataclass(frozen=True, slots=True)
class Plain:
    """One file as it is, to be sent as an archive is."""

    path: Path

    @property
    def size_bytes(self) -> int:
        """How long the file is. Raises FileNotFoundError where it is gone."""
        return self.path.stat().st_size

    def chunks(self, first: int = 0, last: int | None = None) -> Iterator[bytes]:
        """The file from byte `first` to `last`, both with it. Raises OSError where it is gone, or has become shorter."""
        return _read(self.path, first, self.size_bytes if last is None else last + 1)


_END = bytes(2 * tarfile.BLOCKSIZE)
"""Two empty blocks end a tar."""


def _read(path: Path, begin: int, stop: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(begin)
        left = stop - begin
        while left:
            chunk = file.read(min(CHUNK_BYTES, left))
            if not chunk:
                raise OSError(f"{path} has become shorter while it was read")
            left -= len(chunk)
            yield chunk
