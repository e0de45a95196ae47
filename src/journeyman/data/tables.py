"""CSV, TSV, XLSX and Parquet to raw rows: a header of names, then one row a record."""

from __future__ import annotations

import csv
import datetime
import decimal
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from journeyman import settings
from journeyman.data.jsonl import NOT_UTF8, too_long
from journeyman.data.lines import Line, chunks, lines
from journeyman.data.refused import TEXT_SHOWN, Refused, Row, quoted, refuse
from journeyman.errors import DataError
from journeyman.records import Place

SEPARATORS = ",;\t|"
_CELL_ERRORS = ("#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#N/A")


def read_csv(path: Path, file: str) -> Iterator[Row | Refused]:
    """One row a record; a record's place is its first line. The separator is told from the header."""
    csv.field_size_limit(
        settings.MAX_LINE_BYTES
    )  # the module's own limit, 131,072 characters, is for the whole process
    source = _Source(lines(chunks(path), settings.MAX_LINE_BYTES), file)
    first = _first_line(source)
    separator = _separator(path, first)
    header = require_header(next(csv.reader([first], delimiter=separator), []), file)
    reader = csv.reader(source, delimiter=separator, strict=True)
    while True:
        source.begin()
        record = _record(reader, source)
        yield from source.refused
        source.refused.clear()
        if record is None:
            return
        if record:
            yield _csv_row(header, record, source) if isinstance(record, list) else record


def csv_separator(path: Path) -> str:
    """What stands between the cells of a table of text."""
    return _separator(path, _first_line(_Source(lines(chunks(path), settings.MAX_LINE_BYTES), str(path))))


def _first_line(source: _Source) -> str:
    first = next(iter(source), "")
    while first and not first.strip():
        first = next(iter(source), "")
    return first


class _Source:
    """Lines as the csv module wants them, remembering where the record in hand began."""

    def __init__(self, found: Iterator[Line], file: str) -> None:
        self.found = found
        self.file = file
        self.refused: list[Refused] = []
        self.started: int | None = None
        self.text = ""

    def begin(self) -> None:
        self.started = None
        self.text = ""

    @property
    def place(self) -> Place:
        return Place(self.file, self.started or 1)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        for line in self.found:
            if line.oversized:
                self.refused.append(too_long(line, Place(self.file, line.number)))
                continue
            text = line.data.decode("utf-8", "surrogateescape")
            if self.started is None:
                self.started = line.number
            if len(self.text) < TEXT_SHOWN:
                self.text += text
            return text
        raise StopIteration


def _record(reader: Iterator[list[str]], source: _Source) -> list[str] | Refused | None:
    """The next record, its refusal, or None at the end of the file."""
    try:
        return next(reader)
    except StopIteration:
        return None
    except csv.Error as error:
        reason = str(error)
        if "unexpected end" in reason:
            reason = "the record is truncated: a quote opened on this line is never closed, so all that follows fell into one cell"
        elif "field limit" in reason:
            reason = f"a cell is over {settings.MAX_LINE_BYTES:,} characters"
        return refuse(source.place, "invalid_csv", reason, source.text)


def _csv_row(header: Sequence[str], record: list[str], source: _Source) -> Row | Refused:
    text = source.text.rstrip("\r\n")
    bad = next(filter(None, map(NOT_UTF8.search, record)), None)
    if bad is not None:
        reason = f"the row holds the byte 0x{ord(bad[0]) - 0xDC00:02x}, which is not UTF-8"
        return refuse(
            source.place, "invalid_utf8", reason, text, "save the file as UTF-8 (in Excel: CSV UTF-8)"
        )
    if len(record) != len(header):
        reason = f"{len(record)} cells where the header has {len(header)}"
        return refuse(source.place, "wrong_field_count", reason, text)
    return Row(dict(zip(header, record, strict=True)), source.place, text[:TEXT_SHOWN])


def _separator(path: Path, header: str) -> str:
    """A tab by the file's name, else the separator by which the header falls into most cells; a comma where none occurs."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    counts = {s: len(next(csv.reader([header], delimiter=s), [])) for s in SEPARATORS}
    return max(SEPARATORS, key=lambda s: counts[s])


def require_header(cells: Sequence[object], file: str) -> list[str]:
    """The column names. Raises DataError `bad_header` for names that are missing, repeated or not text."""
    names = ["" if cell is None else str(cell).strip() for cell in cells]
    problems = [f"column {number} has no name" for number, name in enumerate(names, 1) if not name]
    problems += [
        f"the name {name!r} stands twice" for name in sorted(set(names)) if name and names.count(name) > 1
    ]
    problems += [f"the name {name!r} is not UTF-8" for name in names if NOT_UTF8.search(name)]
    if problems or not names:
        raise DataError(
            "the first row must name every column",
            where=f"{file}:1",
            fix="write a first row such as: input,output",
            code="bad_header",
            problems=problems[:10],
        )
    return names


def read_xlsx(path: Path, file: str) -> Iterator[Row | Refused]:
    """One row a row of the first sheet; values as stored, formulas as last computed.

    Raises DataError `damaged_file` where the workbook can't be opened.
    """
    import zipfile

    import openpyxl

    book, formulas = None, _Formulas(path)
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        found = enumerate(_cells_of(book.worksheets[0]), 1)
        yield from _sheet_rows(found, formulas, file)
    except (DataError, MemoryError):
        raise
    except Exception as error:
        # A damaged workbook fails anywhere in zip or XML with many kinds of error, none documented.
        what = (
            "it is not a workbook"
            if isinstance(error, zipfile.BadZipFile)
            else f"{type(error).__name__}: {error}"
        )
        raise _damaged(file, what, "open it in a spreadsheet program and save it again as .xlsx") from error
    finally:
        formulas.close()
        if book is not None:
            book.close()


def further_sheets(path: Path) -> list[str]:
    """The names of the sheets behind the first that are not empty; a workbook that `read_xlsx` has read."""
    import openpyxl

    book = openpyxl.load_workbook(path, read_only=True)
    try:
        return [
            sheet.title
            for sheet in book.worksheets[1:]
            if any(cell is not None for row in _cells_of(sheet) for cell in row)
        ]
    finally:
        book.close()


def _cells_of(sheet: Any) -> Iterator[Sequence[object]]:
    sheet.reset_dimensions()  # some writers store a wrong size, and rows beyond it would be lost
    found: Iterator[Sequence[object]] = sheet.iter_rows(values_only=True)
    return found


class _Formulas:
    """The rows of the first sheet as they were written, opened when a cell without a value is met.

    A value that was never computed looks like an empty cell: programs that write workbooks store formulas alone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._book: Any = None
        self._rows: Iterator[tuple[int, Sequence[object]]] = iter(())

    def row(self, number: int) -> Sequence[object]:
        """The row of this number, which is above that of the call before."""
        import openpyxl

        if self._book is None:
            self._book = openpyxl.load_workbook(self._path, read_only=True)
            self._rows = enumerate(_cells_of(self._book.worksheets[0]), 1)
        return next((cells for found, cells in self._rows if found == number), ())

    def close(self) -> None:
        if self._book is not None:
            self._book.close()


def _without_result(cells: Sequence[object], number: int, formulas: _Formulas) -> str | None:
    """What is wrong with the first cell that holds a formula and no result, or an error as its result."""
    failed = next((i for i, cell in enumerate(cells) if isinstance(cell, str) and cell in _CELL_ERRORS), None)
    if failed is not None:
        return f"the cell {_column(failed)}{number} is the error {cells[failed]}"
    if None not in cells:
        return None
    for index, written in enumerate(formulas.row(number)):
        if isinstance(written, str) and written.startswith("=") and (index >= len(cells) or cells[index] is None):
            return f"the cell {_column(index)}{number} holds the formula {quoted(written)} and no result of it"
    return None


def _column(index: int) -> str:
    from openpyxl.utils import get_column_letter

    return str(get_column_letter(index + 1))


def _sheet_rows(
    found: Iterable[tuple[int, Sequence[object]]], formulas: _Formulas, file: str
) -> Iterator[Row | Refused]:
    header: list[str] | None = None
    for number, cells in found:
        filled = list(cells)
        place = Place(file, number)
        broken = _without_result(filled, number, formulas) if header else None
        if broken:
            yield refuse(place, "no_result", broken, _shown(filled))
            continue
        while filled and filled[-1] in (None, ""):
            filled.pop()
        if not filled:
            continue
        if header is None:
            header = require_header(filled, file)
            continue
        if len(filled) > len(header):
            reason = f"{len(filled)} cells where the header has {len(header)}"
            yield refuse(place, "wrong_field_count", reason, _shown(filled))
            continue
        filled += [None] * (len(header) - len(filled))
        yield _cells(dict(zip(header, filled, strict=True)), place)


def read_parquet(path: Path, file: str) -> Iterator[Row | Refused]:
    """One row a row, numbered from 1. Raises DataError `damaged_file` where the file can't be decoded."""
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            require_header(table.schema_arrow.names, file)
            for batch in table.iter_batches(batch_size=512):
                for value in batch.to_pylist():
                    number += 1
                    yield _cells(value, Place(file, number))
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, RecursionError) as error:
        what = (
            f"after row {number}: {str(error).splitlines()[0][:200] if str(error) else type(error).__name__}"
        )
        raise _damaged(file, what, "write the file again from its source") from error


def _damaged(file: str, what: str, fix: str) -> DataError:
    return DataError(f"the file can't be decoded; {what}", where=file, fix=fix, code="damaged_file")


def _cells(value: dict[str, object], place: Place) -> Row | Refused:
    text = _shown(value)
    try:
        return Row({name: _plain(cell) for name, cell in value.items()}, place, text)
    except _CellError as error:
        return refuse(place, error.code, str(error), text)


class _CellError(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _plain(value: Any) -> Any:
    """A cell as JSON has it. A missing number (NaN in tables made by pandas) is null."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if math.isinf(value):
            raise _CellError("not_finite", "a cell is infinite")
        return None if math.isnan(value) else value
    if isinstance(value, bytes):
        raise _CellError("binary_value", f"a cell holds {len(value)} bytes")
    if isinstance(value, dict):
        return {str(key): _plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    return str(value)


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)[:TEXT_SHOWN]
