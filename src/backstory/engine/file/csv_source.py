"""CSV files as rows of cells, with the place behind each row: the strict reading, one row at a time."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from backstory.engine.file.csv_dialect import Dialect, Written, delimiter_named, find_dialect
from backstory.engine.file.line_source import Readable, lines_of, too_long
from backstory.engine.file.source import LINE_BYTES, Place, Source
from backstory.engine.file.unpack import Reading, SourceError

COLUMNS_MAX = 5000
# How much of an unusable row is told.
TEXT_BYTES = 100_000
TEXT_CHARACTERS = 200
_BOM = "\ufeff"


@dataclass(frozen=True, slots=True)
class CsvRow:
    """Cells of one row; ``line`` is where it begins; ``error`` says why it cannot be used."""

    line: int
    cells: list[str]
    end: Place
    error: str = ""


class CsvRows:
    """The rows of what is read from a place on, by the columns that the file's header names."""

    def __init__(self, source: Readable, header: list[str], written: Written, *, line_bytes: int = LINE_BYTES) -> None:
        self._lines = _Lines(source, line_bytes)
        self._header = header
        self._written = written

    def __iter__(self) -> Iterator[CsvRow]:
        """Blank lines are passed over.

        Of a row that is no CSV only its first line is given up, so that one stray quote does not take others along.
        """
        lines, width = self._lines, len(self._header)
        reader = self._written.reader(lines)
        while True:
            line = lines.begin_row()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except (csv.Error, _Unreadable) as error:
                lines.unread(keep=1)
                yield CsvRow(line, [lines.text()], lines.place, f"cannot be read as CSV: {_said(error)}")
                reader = self._written.reader(lines)
                continue
            if len(cells) == width:
                yield CsvRow(line, cells, lines.place, unnamed(self._header, cells))
            elif len(cells) > 1 or (cells and cells[0].strip()):
                yield CsvRow(line, cells, lines.place, wrong_width(self._header, cells))

    @property
    def place(self) -> Place:
        """The place behind the lines taken so far."""
        return self._lines.place

    def give_back(self) -> bytes | None:
        """The lines that were looked at and are in no row yet; None when they are not held whole."""
        return self._lines.give_back()


def unnamed(header: list[str], cells: list[str]) -> str:
    """What columns without a name hold would be lost: what to say of a row with some, else ""."""
    if all(header):
        return ""
    lost = [at for at, name in enumerate(header) if not name and cells[at]]
    return f"column {lost[0] + 1} has no name, but a value (found {cells[lost[0]]!r})" if lost else ""


def wrong_width(header: list[str], cells: list[str]) -> str:
    """What to say of a row with too few cells or too many."""
    width = len(header)
    more = f" (too many: {', '.join(map(repr, cells[width:]))})"[:TEXT_CHARACTERS] if len(cells) > width else ""
    return f"has {_count(len(cells), 'cell')} where the header names {_count(width, 'column')}{more}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class CsvSource:
    """A CSV file read from its header on, or gone on with behind a row. Raises ``SourceError``."""

    def __init__(
        self, path: Path, place: Place | None = None, *, line_bytes: int = LINE_BYTES, dialect: Dialect | None = None
    ) -> None:
        # The limit of the library is one for the whole process, and too small for a cell that holds a document.
        csv.field_size_limit(line_bytes)
        self.path = path
        self.written = find_dialect(path, dialect or Dialect())
        self.delimiter = self.written.delimiter
        # How the text under the cells is read.
        self.reading = Reading(encoding=self.written.encoding)
        self._source = Source(path, Place(), reading=self.reading)
        try:
            lines = _Lines(self._source, line_bytes)
            self.header = self._read_header(lines)
            # Behind the header, or where to go on.
            self.place = lines.place
        except (csv.Error, _Unreadable) as error:
            self.close()
            raise SourceError(f"{path}: the header cannot be read: {_said(error)}") from None
        except SourceError:
            self.close()
            raise
        if place is not None and place.offset:
            self.place = place
        self.close()
        self._source = Source(path, self.place, reading=self.reading)
        self._rows = CsvRows(self._source, self.header, self.written, line_bytes=line_bytes)

    def _read_header(self, lines: "_Lines") -> list[str]:
        if not delimiter_named(next(lines, "")):
            lines.unread()
        header = [name.strip() for name in next(self.written.reader(lines), list[str]())]
        if not any(header):
            said = "begins with a blank line" if next(lines, "") else "is empty"
            raise SourceError(f"{self.path} {said}: the first line must name the columns")
        named = [name for name in header if name]
        if len(set(named)) != len(named):
            twice = next(name for name in named if named.count(name) > 1)
            raise SourceError(f"{self.path} has two columns named {twice!r}: rename one of them")
        if len(header) > COLUMNS_MAX:
            raise SourceError(f"{self.path} has {len(header)} columns; at most {COLUMNS_MAX} are read")
        return header

    def rows(self) -> Iterator[CsvRow]:
        """The rows behind the place; see ``CsvRows``."""
        return iter(self._rows)

    def close(self) -> None:
        self._source.close()


def _said(error: Exception) -> str:
    """The library speaks to programmers of the only mistake of this kind."""
    if "new-line character" in str(error):
        return "a carriage return stands in it: end lines with a line feed, and put cells that hold one in quotes"
    return str(error)


class _Unreadable(ValueError):
    """A line that is no text, or too much of it."""


class _Lines:
    """Lines of text for the CSV reader, which takes exactly the lines of the row it returns."""

    def __init__(self, source: Readable, line_bytes: int) -> None:
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

    def give_back(self) -> bytes | None:
        """The lines that wait to be read again, given up here; None when one is not held whole."""
        if any(too_long(line, self._line_bytes) for line, _ in self._waiting):
            return None
        given = b"".join(line for line, _ in reversed(self._waiting))
        self._waiting.clear()
        return given

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
