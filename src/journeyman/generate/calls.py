"""Tool calls in a stream of pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from journeyman.generate.engine import Piece
from journeyman.text.tools import CallReader

if TYPE_CHECKING:
    from collections.abc import Generator


def with_calls(
    pieces: Iterator[Piece], readers: Sequence[CallReader], *, most: int | None = None, only_calls: bool = False
) -> Iterator[Piece]:
    """The pieces of answers with their tool calls taken out of the text, by a reader each.

    Calls beyond `most` are left out. Of answers that are held to `only_calls` no text is left: it is the form of calls.
    """
    called = [0] * len(readers)
    with closing(cast("Generator[Piece, None, None]", pieces)):
        for piece in pieces:
            reader = readers[piece.index]
            text, calls = reader.push(piece.text)
            if piece.stop is not None:
                rest, last = reader.cut() if piece.stop == "length" else reader.finish()
                text, calls = text + rest, [*calls, *last]
            text = "" if only_calls else text
            if most is not None:
                calls = calls[: most - called[piece.index]]
            called[piece.index] += len(calls)
            if text or calls or piece.logprobs or piece.stop is not None:
                yield replace(piece, text=text, calls=tuple(calls))
