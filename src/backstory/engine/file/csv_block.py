"""CSV files as columns, some thousand rows at a time: each row as ``CsvRows`` would read it, many times as fast.

A block without quotes and other peculiarities is read by Arrow, one with quotes by the csv module in one go, and one
in which something is wrong row by row. Whatever a quicker reader is not certain to read as ``CsvRows`` would, it
leaves to the next.
"""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from backstory.core.checksum import crc32
from backstory.engine.file.csv_dialect import Dialect
from backstory.engine.file.csv_source import CsvRow, CsvRows, CsvSource, unnamed, wrong_width
from backstory.engine.file.source import LINE_BYTES, Place, Source

BLOCK_BYTES = 4 << 20
_BOM = b"\xef\xbb\xbf"


@dataclass(slots=True, kw_only=True)
class Block:
    """Some rows in a row: ``columns`` in the order of the header, as text, a value for each row that can be used.

    ``lines`` are where those rows begin; ``bad`` are the rows that are no rows. ``ends`` are places to go on from, each
    behind some more of the rows, the last one behind all.
    """

    columns: list[pa.Array]
    lines: NDArray[np.int64]
    bad: list[CsvRow]
    ends: list[Place]

    def cells(self, row: int) -> list[str]:
        """One row's cells."""
        return [column[row].as_py() for column in self.columns]


class CsvBlocks:
    """A CSV file block by block, from its first row on or from a place. Raises ``SourceError``."""

    def __init__(
        self,
        path: Path,
        place: Place | None = None,
        *,
        rows_max: int,
        steps: int = 1,
        line_bytes: int = LINE_BYTES,
        dialect: Dialect | None = None,
    ) -> None:
        """At most ``rows_max`` rows lie between two places; a block of plain rows has up to ``steps`` of them."""
        source = CsvSource(path, place, line_bytes=line_bytes, dialect=dialect)
        source.close()
        self.header, self.written = source.header, source.written
        self.place = source.place
        self._rows_max = rows_max
        self._steps = steps
        self._line_bytes = line_bytes
        self._source = Source(path, source.place, reading=source.reading)
        # What was read, and from where on it is not given out yet: all of that lies behind ``place``.
        self._held, self._at = b"", 0
        self._named = all(self.header)
        self._arrow = _ArrowReader(len(self.header), self.written.delimiter)
        quote = self.written.quote.encode()
        self._peculiar = (b"\r", b"\0", quote) if quote else (b"\r", b"\0")

    def __iter__(self) -> Iterator[Block]:
        while lines := self._lines(self._rows_max * self._steps):
            block = self._plain(lines)
            if block is None:
                lines = self._first(lines)
                block = self._plain(lines) or self._quoted(lines) or self._row_by_row(lines)
            self.place = block.ends[-1]
            yield block

    def close(self) -> None:
        self._source.close()

    # -- lines --------------------------------------------------------------------------------------------------------

    def _lines(self, count: int) -> bytes:
        """Up to so many whole lines, in all no longer than one line may be; b"" at the end.

        Of a first line that is longer than that all of it, or its beginning.
        """
        most = self._line_bytes
        end = self._behind_lines(self._held, count, self._at)
        while end is None and len(self._held) - self._at <= most and self._read_more():
            end = self._behind_lines(self._held, count, self._at)
        held, at = self._held, self._at
        end = len(held) if end is None else end
        if end - at > most:
            end = (held.rfind(b"\n", at, at + most) + 1) or (held.find(b"\n", at) + 1) or len(held)
        self._at = end
        return held[at:end]

    def _read_more(self) -> bool:
        more = self._source.read(BLOCK_BYTES)
        if more:
            self._held, self._at = self._held[self._at :] + more, 0
        return bool(more)

    def _first(self, lines: bytes) -> bytes:
        """The first ``rows_max`` of lines that were just given out; the others are taken back."""
        cut = self._behind_lines(lines, self._rows_max)
        if cut is not None:
            self._at -= len(lines) - cut
        return lines[:cut]

    def _behind_lines(self, text: bytes, count: int, at: int = 0) -> int | None:
        """Where the ``count``-th line from a place on ends; None when there are not so many."""
        # Searched a stretch at a time: a block holds many times the lines of a small ``rows_max``.
        ends = 0
        for low in range(at, len(text), 1 << 18):
            found = np.flatnonzero(np.frombuffer(text, np.uint8, min(1 << 18, len(text) - low), low) == 10)
            if ends + len(found) >= count:
                return low + int(found[count - ends - 1]) + 1
            ends += len(found)
        return None

    def _read_line(self, size: int) -> bytes:
        """What comes next, up to a line's end: for a row that goes on behind its block."""
        while self._held.find(b"\n", self._at, self._at + size) < 0 and len(self._held) - self._at < size:
            if not self._read_more():
                break
        end = (self._held.find(b"\n", self._at, self._at + size) + 1) or min(self._at + size, len(self._held))
        piece, self._at = self._held[self._at : end], end
        return piece

    # -- three readers ------------------------------------------------------------------------------------------------

    def _plain(self, lines: bytes) -> Block | None:
        """No cell is in quotes, every line is a row, and every row has its cells."""
        # As many programs end their lines.
        text = lines.replace(b"\r\n", b"\n") if b"\r\n" in lines else lines
        if text.startswith(_BOM) or any(mark in text for mark in self._peculiar) or len(lines) > self._line_bytes:
            return None
        columns = self._arrow.read(text)
        count = text.count(b"\n") + (not text.endswith(b"\n"))
        if columns is None or len(columns[0]) != count or not self._keeps_all(columns):
            return None
        first = self.place.line + 1
        numbers = np.arange(first, first + count, dtype=np.int64)
        return Block(columns=columns, lines=numbers, bad=[], ends=list(self._steps_behind(lines, count)))

    def _steps_behind(self, lines: bytes, count: int) -> Iterator[Place]:
        """The places behind each ``rows_max`` lines, and behind all."""
        place, low = self.place, 0
        while count > self._rows_max:
            cut = self._behind_lines(lines[low:], self._rows_max)
            assert cut is not None
            place = _behind(place, lines[low : low + cut], self._rows_max)
            yield place
            low, count = low + cut, count - self._rows_max
        yield _behind(place, lines[low:], count)

    def _keeps_all(self, columns: list[pa.Array]) -> bool:
        """Do columns without a name hold nothing?"""
        return self._named or not any(
            text_bytes(column) for name, column in zip(self.header, columns, strict=True) if not name
        )

    def _quoted(self, lines: bytes) -> Block | None:
        """The csv module reads all of it without a complaint."""
        if len(lines) > self._line_bytes:
            return None
        good: list[list[str]] = []
        begins: list[int] = []
        bad: list[CsvRow] = []
        first, width = self.place.line + 1, len(self.header)
        try:
            reader = self.written.reader(io.StringIO(lines.decode(), newline="\n"))
            behind = 0
            for cells in reader:
                if len(cells) == width:
                    problem = unnamed(self.header, cells)
                elif len(cells) > 1 or (cells and cells[0].strip()):
                    problem = wrong_width(self.header, cells)
                else:
                    problem = None  # A blank line.
                if problem:
                    bad.append(CsvRow(first + behind, cells, self.place, problem))
                elif problem is not None:
                    good.append(cells)
                    begins.append(first + behind)
                behind = reader.line_num
        except (csv.Error, UnicodeDecodeError):
            return None
        return self._block(good, begins, bad, _behind(self.place, lines, behind))

    def _row_by_row(self, lines: bytes) -> Block:
        """Strictly; a row that begins in these lines may go on behind them."""
        source = _Part(lines, self.place, max(len(lines), 1), self._read_line)
        rows = CsvRows(source, self.header, self.written, line_bytes=self._line_bytes)
        good: list[CsvRow] = []
        bad: list[CsvRow] = []
        until = self.place.offset + len(lines)
        for row in rows:
            (bad if row.error else good).append(row)
            if rows.place.offset >= until and (back := rows.give_back()) is not None:
                self._held, self._at = back + self._held[self._at :], 0
                break
        return self._block([row.cells for row in good], [row.line for row in good], bad, rows.place)

    def _block(self, rows: list[list[str]], begins: list[int], bad: list[CsvRow], end: Place) -> Block:
        columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
        return Block(
            columns=columns or [pa.array([], pa.string()) for _ in self.header],
            lines=np.array(begins, np.int64),
            bad=bad,
            ends=[end],
        )


def _behind(place: Place, lines: bytes, count: int) -> Place:
    """The place behind so many lines."""
    return Place(place.offset + len(lines), place.line + count, crc32(lines, place.checksum))


class _Part:
    """Lines of a file that are read again, and what follows them, line by line."""

    def __init__(self, lines: bytes, place: Place, block_bytes: int, more: Callable[[int], bytes]) -> None:
        self._rest = lines
        self.place = place
        self.block_bytes = block_bytes
        self._more = more

    def read(self, size: int) -> bytes:
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece or self._more(size)


class _ArrowReader:
    """Arrow's reader of CSV, told to take every cell as the text it is."""

    def __init__(self, width: int, delimiter: str) -> None:
        names = [str(number) for number in range(width)]
        self._names = names
        self._parse = arrow_csv.ParseOptions(delimiter=delimiter, quote_char=False, double_quote=False)
        self._convert = arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        )

    def read(self, lines: bytes) -> list[pa.Array] | None:
        """The columns; None when some line has not just so many cells, or is no UTF-8."""
        options = arrow_csv.ReadOptions(column_names=self._names, use_threads=False, block_size=len(lines) + 1)
        try:
            table = arrow_csv.read_csv(
                pa.BufferReader(lines), read_options=options, parse_options=self._parse, convert_options=self._convert
            )
        except (pa.ArrowInvalid, UnicodeDecodeError):
            return None
        return [column.chunk(0) if column.num_chunks == 1 else column.combine_chunks() for column in table.columns]


def text_bytes(column: pa.Array) -> int:
    """How many bytes the texts of a column have together."""
    offsets = text_offsets(column)
    return int(offsets[-1] - offsets[0])


def text_offsets(column: pa.Array) -> NDArray[np.int32]:
    """Where each text begins in the column's bytes, and where the last one ends."""
    buffer = column.buffers()[1]
    if buffer is None or not len(column):
        return np.zeros(1, np.int32)
    return np.frombuffer(buffer, np.int32, len(column) + 1, column.offset * 4)
