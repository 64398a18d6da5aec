"""CSV files as rows of cells, with the place behind each row, and the types of columns found over the whole file.

A column holds numbers only when every cell of it round-trips: ``00001`` and ``12.00`` stay text, and so does their
whole column. The same goes for ``true`` and ``false``. Source: design section 10.
"""

import csv
import io
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backstory.core.condition import Json
from backstory.engine.line_source import lines_of, too_long
from backstory.engine.source import LINE_BYTES, Place, Source, SourceError, open_source

COLUMNS_MAX = 5000
# How much of an unusable row is told.
TEXT_BYTES = 100_000
TEXT_CHARACTERS = 200
TYPE_ROWS = 5000
DELIMITERS = ",;\t|"
_NUMBER = re.compile(r"(?:0|-?[1-9][0-9]{0,14}|-?(?:[1-9][0-9]{0,5}|0)\.[0-9]{0,7}[1-9])\Z")
_SMALL = re.compile(r"-?0\.0000")
_BOM = "\ufeff"
ColumnType = Literal["number", "boolean", "text"]


@dataclass(frozen=True, slots=True)
class CsvRow:
    """Cells of one row; ``line`` is where it begins; ``error`` says why it cannot be used."""

    line: int
    cells: list[str]
    end: Place
    error: str = ""


class CsvSource:
    """A CSV file read from its header on, or gone on with behind a row. Raises ``SourceError``."""

    def __init__(self, path: Path, place: Place | None = None, *, line_bytes: int = LINE_BYTES) -> None:
        # The limit of the library is one for the whole process, and too small for a cell that holds a document.
        csv.field_size_limit(line_bytes)
        self.path = path
        self._lines = _Lines(Source(path, Place()), line_bytes)
        try:
            self.header = self._read_header()
        except (csv.Error, _Unreadable) as error:
            self.close()
            raise SourceError(f"{path}: the header cannot be read: {error}") from None
        except SourceError:
            self.close()
            raise
        if place is not None and place.offset:
            self.close()
            self._lines = _Lines(Source(path, place), line_bytes)
        self._reader = self._new_reader()

    def _new_reader(self) -> Iterator[list[str]]:
        return csv.reader(self._lines, delimiter=self.delimiter, strict=True)

    def _read_header(self) -> list[str]:
        first = next(self._lines, "")
        self.delimiter = max(DELIMITERS, key=lambda mark: (first.count(mark), mark == ","))
        self._lines.unread()
        header = [name.strip() for name in next(self._new_reader(), list[str]())]
        if not any(header):
            raise SourceError(f"{self.path} is empty: the first line must name the columns")
        named = [name for name in header if name]
        if len(set(named)) != len(named):
            twice = next(name for name in named if named.count(name) > 1)
            raise SourceError(f"{self.path} has two columns named {twice!r}: rename one of them")
        if len(header) > COLUMNS_MAX:
            raise SourceError(f"{self.path} has {len(header)} columns; at most {COLUMNS_MAX} are read")
        return header

    def rows(self) -> Iterator[CsvRow]:
        """The rows; blank lines are passed over.

        Of a row that is no CSV only its first line is given up, so that one stray quote does not take others along.
        """
        lines, width = self._lines, len(self.header)
        while True:
            line = lines.begin_row()
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except (csv.Error, _Unreadable) as error:
                lines.unread(keep=1)
                yield CsvRow(line, [lines.text()], lines.place, f"cannot be read as CSV: {error}")
                self._reader = self._new_reader()
                continue
            if len(cells) == width:
                yield CsvRow(line, cells, lines.place, self._unnamed(cells))
            elif len(cells) > 1 or (cells and cells[0].strip()):
                yield CsvRow(line, cells, lines.place, self._wrong_width(cells))

    def _unnamed(self, cells: list[str]) -> str:
        """What columns without a name hold would be lost."""
        if all(self.header):
            return ""
        lost = [at for at, name in enumerate(self.header) if not name and cells[at]]
        return f"column {lost[0] + 1} has no name, but a value (found {cells[lost[0]]!r})" if lost else ""

    def _wrong_width(self, cells: list[str]) -> str:
        width = len(self.header)
        more = f" (too many: {', '.join(map(repr, cells[width:]))})"[:TEXT_CHARACTERS] if len(cells) > width else ""
        return f"has {len(cells)} cells where the header names {width} columns{more}"

    def close(self) -> None:
        self._lines.source.close()


class _Unreadable(ValueError):
    """A line that is no text, or too much of it."""


class _Lines:
    """Lines of text for the CSV reader, which takes exactly the lines of the row it returns."""

    def __init__(self, source: Source, line_bytes: int) -> None:
        self.source = source
        self.place = source.place
        self._line_bytes = line_bytes
        self._behind = lines_of(source, line_bytes)
        # Lines that were given back, the next one last; and those of the row being read.
        self._waiting: list[tuple[bytes, Place]] = []
        self._row: list[tuple[bytes, Place]] = []

    def begin_row(self) -> int:
        """A row begins; returns the number of its first line."""
        self._row.clear()
        return self.place.line + 1

    def unread(self, *, keep: int = 0) -> None:
        """Give back the lines of this row but the first ``keep``."""
        back = self._row[keep:]
        if back:
            del self._row[keep:]
            self._waiting += reversed(back)
            self.place = self._row[-1][1] if self._row else self.source.place

    def text(self) -> str:
        """The row's lines as far as they are text."""
        return b"".join(line for line, _ in self._row)[:TEXT_BYTES].decode("utf-8", "replace").rstrip("\r\n")

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        taken = self._waiting.pop() if self._waiting else next(self._behind)
        line, place = taken
        first = place.offset == len(line)
        self.place = place
        self._row.append(taken)
        if too_long(line, self._line_bytes):
            raise _Unreadable("the line is too long to be read")
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise _Unreadable(f"it is not UTF-8 text: {error.reason}") from None
        return text.removeprefix(_BOM) if first else text


def column_types(path: Path) -> list[ColumnType]:
    """The type of each column, over all rows of the file; unusable rows have no say."""
    try:
        return _types_of(_plain_rows(path))
    except (csv.Error, UnicodeDecodeError, _Unreadable):
        # Some row is no CSV: read again, in the way that passes over just that row.
        source = CsvSource(path)
        try:
            return _types_of((len(source.header), (row.cells for row in source.rows() if not row.error)))
        finally:
            source.close()


def _plain_rows(path: Path) -> tuple[int, Iterator[list[str]]]:
    """The number of columns and the rows of that width, with no account of where each lies."""
    source = CsvSource(path)
    source.close()

    def rows() -> Iterator[list[str]]:
        with open_source(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, delimiter=source.delimiter, strict=True)
            next(reader)
            yield from (cells for cells in reader if len(cells) == len(source.header))

    return len(source.header), rows()


def _types_of(table: tuple[int, Iterator[list[str]]]) -> list[ColumnType]:
    """Column by column over stretches of rows, each different cell once."""
    width, rows = table
    may_be = [{"number", "boolean"} for _ in range(width)]
    seen = [False] * width
    while stretch := list(itertools.islice(rows, TYPE_ROWS)):
        for at, column in enumerate(zip(*stretch, strict=True)):
            if not may_be[at]:
                continue
            cells = set(column) - {""}
            seen[at] = seen[at] or bool(cells)
            if "number" in may_be[at] and not all(_NUMBER.match(cell) and not _SMALL.match(cell) for cell in cells):
                may_be[at].discard("number")
            if not cells <= {"true", "false"}:
                may_be[at].discard("boolean")
    return [_type(kinds) if some else "text" for kinds, some in zip(may_be, seen, strict=True)]


def _type(kinds: set[str]) -> ColumnType:
    return "number" if "number" in kinds else "boolean" if "boolean" in kinds else "text"


def cell_value(cell: str, kind: ColumnType) -> Json:
    """A cell as the value it stands for; a cell that does not fit its column stays text."""
    if kind == "number" and _NUMBER.match(cell) and not _SMALL.match(cell):
        return float(cell) if "." in cell else int(cell)
    if kind == "boolean" and cell in ("true", "false"):
        return cell == "true"
    return cell
