"""multipart/form-data, read while it arrives: text fields into memory, one file straight to disk.

Fields may come in any order and without a Content-Length: the Python SDK sends the purpose first, the Node SDK the file.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from journeyman.api.errors import RefusedError
from journeyman.api.sound import insist_on_sound
from journeyman.storage.files import plain_name

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELD_BYTES = 64 * 1024
MAX_FIELDS = 64
WRITE_BYTES = 1 << 20
"""So much of the file is gathered before it is written, in a thread."""


@dataclass
class Form:
    """What a form held: its text fields, and the file with the name that the client gave it."""

    path: Path
    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    size_bytes: int = 0


async def receive(
    request: Request, *, file_field: str, scratch: Path, max_bytes: int, over: RefusedError | None = None
) -> Form:
    """Read a form whose field `file_field` is a file, which is written to `scratch`.

    Raises RefusedError for a body that is no such form, or a file above `max_bytes` (`over`, where that is not the
    server's own limit); `scratch` is then deleted.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise _bad("the body is not multipart/form-data with a boundary", "send the file as a form")
    try:
        with scratch.open("xb") as file:
            reader = _Reader(file_field, max_bytes, Form(scratch), over)
            parser = MultipartParser(boundary, reader.callbacks())
            async for chunk in request.stream():
                parser.write(chunk)
                if len(reader.waiting) >= WRITE_BYTES:
                    await asyncio.to_thread(_write, file, reader)
            parser.finalize()
            await asyncio.to_thread(_write, file, reader)
        if not reader.ended:
            raise _bad("the form is cut off", "send the whole body")
        if reader.form.filename is None:
            raise RefusedError(
                400,
                f"Missing required parameter: '{file_field}'.",
                code="missing_required_parameter",
                where=file_field,
            )
        return reader.form
    except FormParserError as error:
        _delete(scratch)
        raise _bad(f"the form can't be read: {error}", "send the body as the SDKs do") from None
    except BaseException:
        _delete(scratch)
        raise


def _write(file: BinaryIO, reader: _Reader) -> None:
    file.write(reader.waiting)
    reader.waiting.clear()


def _delete(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _bad(message: str, fix: str) -> RefusedError:
    return RefusedError(400, message, code="invalid_form", fix=fix)


class _Reader:
    """Takes the parser's callbacks and sorts what they bring."""

    def __init__(self, file_field: str, max_bytes: int, form: Form, over: RefusedError | None) -> None:
        self.form = form
        self._over = over
        self.waiting = bytearray()
        self.ended = False
        self._file_field = file_field
        self._max_bytes = max_bytes
        self._header = bytearray()
        self._header_value = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._text = bytearray()
        self._parts = 0

    def callbacks(self) -> MultipartCallbacks:
        """What the parser calls, by its names."""
        return {
            "on_part_begin": self.part_begin,
            "on_part_data": self.part_data,
            "on_part_end": self.part_end,
            "on_header_field": self.header_field,
            "on_header_value": self.header_value,
            "on_header_end": self.header_end,
            "on_headers_finished": self.headers_finished,
            "on_end": self.end,
        }

    def part_begin(self) -> None:
        """A field begins."""
        self._parts += 1
        if self._parts > MAX_FIELDS:
            raise _bad(f"the form has more than {MAX_FIELDS} fields", "leave out what is not needed")
        self._headers.clear()
        self._text.clear()

    def header_field(self, data: bytes, start: int, end: int) -> None:
        """A piece of a header's name."""
        self._header += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        """A piece of a header's value."""
        self._header_value += data[start:end]

    def header_end(self) -> None:
        """A header is whole."""
        self._headers[bytes(self._header).lower()] = bytes(self._header_value)
        self._header.clear()
        self._header_value.clear()

    def headers_finished(self) -> None:
        """The field's name is known, and whether it is the file."""
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._name == self._file_field:
            if self.form.filename is not None:
                raise _bad(
                    f"the form has more than one field '{self._file_field}'", "send one file a request"
                )
            filename = options.get(b"filename", b"").decode("utf-8", "replace")
            insist_on_sound({self._file_field: filename})
            self.form.filename = plain_name(filename)

    def part_data(self, data: bytes, start: int, end: int) -> None:
        """A piece of the field's content."""
        if self._name == self._file_field:
            self.form.size_bytes += end - start
            if self.form.size_bytes > self._max_bytes:
                raise self._over or RefusedError(
                    413,
                    f"The file is larger than {self._max_bytes} bytes.",
                    code="request_too_large",
                    where=self._file_field,
                )
            self.waiting += data[start:end]
            return
        self._text += data[start:end]
        if len(self._text) > MAX_FIELD_BYTES:
            raise _bad(f"the field '{self._name[:100]}' is longer than {MAX_FIELD_BYTES} bytes", "shorten it")

    def part_end(self) -> None:
        """The field is whole."""
        if self._name != self._file_field:
            text = self._text.decode("utf-8", "replace")
            insist_on_sound({self._name: text})
            self.form.fields[self._name] = text

    def end(self) -> None:
        """The closing boundary has come."""
        self.ended = True
