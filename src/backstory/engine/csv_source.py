"""CSV files as rows of cells, with the place behind each row, and the types of columns found over the whole file.

A column holds numbers only when every cell of it round-trips: ``00001`` and ``12.00`` stay text, and so does their
whole column. The same goes for ``true`` and ``false``. Source: design section 10.
"""

import csv
import re
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backstory.core.condition import Json
from backstory.engine.source import Place, Source, SourceError

COLUMNS_MAX = 5000
_NUMBER = re.compile(r"(?:0|-?[1-9][0-9]{0,14}|-?(?:[1-9][0-9]{0,5}|0)\.[0-9]{0,7}[1-9])\Z")
_SMALL = re.compile(r"-?0\.0000")
ColumnType = Literal["number", "boolean", "text"]
csv.field_size_limit(min(sys.maxsize, 1 << 30))


@dataclass(frozen=True, slots=True)
class CsvRow:
    """Cells of one row; ``line`` is where it begins; ``error`` says why it cannot be used."""

    line: int
    cells: list[str]
    end: Place
    error: str = ""


class CsvSource:
    """A CSV file read from its header on, or gone on with behind a row."""

    def __init__(self, path: Path, place: Place | None = None) -> None:
        self.path = path
        self._lines = _Lines(Source(path, Place()))
        self.delimiter = ","
        self.header = self._read_header()
        if place is not None and place.offset:
            self._lines.source.close()
            self._lines = _Lines(Source(path, place))
        self._reader = csv.reader(self._lines, delimiter=self.delimiter, strict=True)

    def _read_header(self) -> list[str]:
        try:
            first = next(self._lines)
        except StopIteration:
            raise SourceError(f"{self.path} is empty: the first line must name the columns") from None
        self.delimiter = max(",;\t|", key=lambda mark: (first.count(mark), mark == ","))
        self._lines.unread(first)
        header = next(csv.reader(self._lines, delimiter=self.delimiter, strict=True))
        header[0] = header[0].lstrip("\ufeff")
        if len(set(header)) != len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise SourceError(f"{self.path} has two columns named {twice!r}: rename one of them")
        if len(header) > COLUMNS_MAX:
            raise SourceError(f"{self.path} has {len(header)} columns; at most {COLUMNS_MAX} are read")
        return header

    def rows(self) -> Iterator[CsvRow]:
        """The rows; blank lines are passed over."""
        while True:
            line = self._lines.place.line + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except (csv.Error, UnicodeDecodeError) as error:
                yield CsvRow(line, [], self._lines.place, f"cannot be read as CSV: {error}")
                self._reader = csv.reader(self._lines, delimiter=self.delimiter, strict=True)
                continue
            if not cells:
                continue
            error = ""
            if len(cells) != len(self.header):
                error = f"has {len(cells)} cells where the header names {len(self.header)} columns"
            yield CsvRow(line, cells, self._lines.place, error)

    def close(self) -> None:
        self._lines.source.close()


class _Lines:
    """Lines of text for the CSV reader, which takes exactly the lines of the row it returns."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.place = source.place
        self._waiting: list[str] = []
        self._blocks = self._split()

    def unread(self, line: str) -> None:
        self._waiting.append(line)

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if self._waiting:
            return self._waiting.pop()
        raw = next(self._blocks)
        place = self.place
        self.place = Place(place.offset + len(raw), place.line + 1, zlib.crc32(raw, place.checksum))
        return raw.decode("utf-8")

    def _split(self) -> Iterator[bytes]:
        rest = b""
        while block := self.source.read(1 << 20):
            lines = (rest + block).split(b"\n")
            rest = lines.pop()
            for line in lines:
                yield line + b"\n"
        if rest:
            yield rest


def column_types(path: Path) -> list[ColumnType]:
    """The type of each column, over all rows of the file; unusable rows have no say."""
    source = CsvSource(path)
    numbers = [True] * len(source.header)
    booleans = [True] * len(source.header)
    seen = [False] * len(source.header)
    open_columns = list(range(len(source.header)))
    match, small = _NUMBER.match, _SMALL.match
    for row in source.rows():
        if row.error:
            continue
        cells = row.cells
        closed = False
        for column in open_columns:
            cell = cells[column]
            if not cell:
                continue
            seen[column] = True
            if numbers[column] and (not match(cell) or small(cell)):
                numbers[column] = False
            if booleans[column] and cell != "true" and cell != "false":
                booleans[column] = False
            closed = closed or not (numbers[column] or booleans[column])
        if closed:
            open_columns = [column for column in open_columns if numbers[column] or booleans[column]]
    source.close()
    types: list[ColumnType] = []
    for column in range(len(seen)):
        usable = seen[column]
        types.append("number" if usable and numbers[column] else "boolean" if usable and booleans[column] else "text")
    return types


def cell_value(cell: str, kind: ColumnType) -> Json:
    """A cell as the value it stands for; a cell that does not fit its column stays text."""
    if kind == "number" and _NUMBER.match(cell) and not _SMALL.match(cell):
        return float(cell) if "." in cell else int(cell)
    if kind == "boolean" and cell in ("true", "false"):
        return cell == "true"
    return cell
