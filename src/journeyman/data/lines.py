"""Bytes to lines: line ends of every kind, byte-order marks, and lines too long to hold."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from journeyman.errors import DataError

CHUNK_BYTES = 1 << 20
SAMPLE_BYTES = 1 << 13

_MAGIC = (
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file (.xls, .doc)"),
    (b"SQLite format 3", "a SQLite database"),
    (b"\x7fELF", "a program"),
)


@dataclass(frozen=True, slots=True)
class Line:
    """A line with its end, its 1-based number, and whether it was cut because it is over the limit."""

    data: bytes
    number: int
    oversized: bool = False


def require_text(path: Path, sample: bytes) -> None:
    """Refuse a file that is not text, and say what it seems to be. Raises DataError `not_text`."""
    if sample.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise _not_text(path, "it is UTF-32")
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return
    for magic, name in _MAGIC:
        if sample.startswith(magic):
            raise _not_text(path, f"it is {name}")
    if b"\0" in sample:
        even, odd = sample[::2].count(0), sample[1::2].count(0)
        if min(even, odd) * 10 < max(even, odd) and max(even, odd) * 5 > len(sample):
            raise _not_text(path, "it looks like UTF-16 without a byte-order mark")
        raise _not_text(path, "it holds NUL bytes")
    # An incremental decoder does not mind that the sample may end inside a character.
    decoded = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode(sample)
    strange = sum(
        1 for c in decoded if (c < " " and c not in "\t\n\r\f\v") or "\udc80" <= c <= "\udcff" or c == "\x7f"
    )
    if strange * 10 > len(decoded) * 3:
        raise _not_text(path, "most of its first bytes are not UTF-8")


def _not_text(path: Path, why: str) -> DataError:
    return DataError(
        f"this is not a UTF-8 text file: {why}",
        where=str(path),
        fix="give JSONL, CSV or TSV saved as UTF-8, or .xlsx or .parquet",
        code="not_text",
    )


def chunks(path: Path) -> Iterator[bytes]:
    """The file's text as UTF-8 chunks, without a byte-order mark; UTF-16 is told by its mark and converted.

    Raises DataError `not_utf8` where UTF-16 is damaged.
    """
    with path.open("rb") as file:
        head = file.read(CHUNK_BYTES)
        if not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            head = head.removeprefix(codecs.BOM_UTF8)
            while head:
                yield head
                head = file.read(CHUNK_BYTES)
            return
        decoder = codecs.getincrementaldecoder("utf-16")()
        try:
            while head:
                yield decoder.decode(head).encode()
                head = file.read(CHUNK_BYTES)
            yield decoder.decode(b"", final=True).encode()
        except UnicodeError as error:
            raise DataError(
                f"the file begins as UTF-16 and then can't be decoded: {error.args[-1]}",
                where=str(path),
                fix="save the file as UTF-8",
                code="not_utf8",
            ) from None


def lines(source: Iterable[bytes], limit_bytes: int) -> Iterator[Line]:
    r"""Split at \n, \r\n and lone \r, ends kept. Of a line over `limit_bytes` only the beginning is held."""
    number, held, oversized, size = 1, [], False, 0  # type: int, list[bytes], bool, int
    for piece in _pieces(source):
        size += len(piece)
        if size > limit_bytes and not oversized:
            oversized = True
            held = [b"".join([*held, piece])[:CHUNK_BYTES]]
        elif not oversized:
            held.append(piece)
        if piece.endswith((b"\n", b"\r")):
            yield Line(b"".join(held), number, oversized)
            number, held, oversized, size = number + 1, [], False, 0
    if held:
        yield Line(b"".join(held), number, oversized)


def _pieces(source: Iterable[bytes]) -> Iterator[bytes]:
    r"""Pieces that end at a line end or at the end of a chunk; a \r\n that two chunks share stays whole."""
    carry = b""
    for chunk in source:
        data = carry + chunk
        carry = b""
        if data.endswith(b"\r"):
            data, carry = data[:-1], b"\r"
        # bytes.splitlines splits at \n, \r and \r\n only (str.splitlines splits at many more).
        yield from data.splitlines(keepends=True)
    if carry:
        yield carry
