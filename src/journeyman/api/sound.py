"""JSON that can be read and kept: no half of a surrogate pair, no NaN, and no U+0000 where a database would hold it.

JavaScript's `text.slice(0, n)` can cut an emoji in two, and `JSON.stringify` sends the half as "\\ud83d". No tokenizer
reads that and UTF-8 can't hold it. U+0000 is a character that PostgreSQL keeps in no text. NaN and Infinity are no JSON,
though Python reads and writes them, 1e999 included.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from fastapi import Request

from journeyman.api.errors import RefusedError, param_of

_SUSPECT = re.compile(rb"\\u(?:[dD][89a-fA-F]|0000)|\xed[\xa0-\xbf]|\x00|NaN|Infinity|[eE]\+?\d{3}|\d{309}")
"""What the bytes of unsound JSON hold, in any encoding that JSON can be read in; few others do."""

_HALF = re.compile(r"[\ud800-\udfff]")
_NUL = "\0"
_NO_NUL = ("U+0000, which can't be kept", "leave the character out")

_STORED_BY_DEFAULT = {"/v1/chat/completions": False, "/v1/completions": False, "/v1/responses": True}
_ANSWERED = frozenset({"messages", "prompt", "input", "instructions"})
"""Fields of those routes that only a model reads, where the request is not stored."""


async def insist_on_sound_text(request: Request) -> None:
    """A dependency of every route. Raises RefusedError that names the place."""
    for name, text in (*request.path_params.items(), *request.query_params.multi_items()):
        if _NUL in f"{name}{text}":
            raise _refused((name.replace(_NUL, ""),), *_NO_NUL)
    # What the framework has read is kept on the request; forms are streamed, and looked at in api/multipart.py.
    if not hasattr(request, "_json") or not _SUSPECT.search(await request.body()):
        return
    body = await request.json()
    only_read = _ANSWERED if _is_only_answered(request.url.path, body) else frozenset[str]()
    insist_on_sound(body, only_read=only_read)


def insist_on_sound(value: Any, *, only_read: frozenset[str] = frozenset()) -> None:
    """Raises RefusedError for the first unsound value in JSON; U+0000 may stand in its fields `only_read`."""
    for path, it in _leaves(value):
        if isinstance(it, float):
            if not math.isfinite(it):
                raise _refused(path, "a number that JSON has not", "send null, or a finite number")
        elif half := _HALF.search(it):
            raise _refused(path, f"U+{ord(half[0]):04X}, half of a surrogate pair", "cut text between characters, not inside of one")
        elif _NUL in it and not (path and path[0] in only_read):
            raise _refused(path, *_NO_NUL)


def _is_only_answered(path: str, body: Any) -> bool:
    if path not in _STORED_BY_DEFAULT or not isinstance(body, dict):
        return False
    stored = body.get("store")
    return not (_STORED_BY_DEFAULT[path] if stored is None else stored)


def _leaves(value: Any) -> Iterator[tuple[tuple[str | int, ...], str | float]]:
    """Every text and broken number in a JSON value with its place; a key's place is that of its object."""
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while waiting:
        path, it = waiting.pop()
        if isinstance(it, str | float):
            yield path, it
        elif isinstance(it, dict):
            for key in it:
                yield path, key
            waiting += [((*path, key), inner) for key, inner in reversed(it.items())]
        elif isinstance(it, list):
            waiting += [((*path, index), inner) for index, inner in reversed(list(enumerate(it)))]


def _refused(path: tuple[str | int, ...], said: str, fix: str) -> RefusedError:
    where = param_of(path)
    return RefusedError(
        400, f"Invalid value for '{where or 'body'}': it holds {said}", code="invalid_value", where=where, fix=fix
    )
