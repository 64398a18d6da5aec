"""Which rows of a file of mended rows are to be taken, and which lines of the input are mended by it.

The file has the form of a report on errors: each row says by ``line`` which row of the input it is, and of an import of
several files by ``file`` of which. Of rows that name the same line the last one counts, and a line that was mended
before is passed over, so that nothing is taken twice. Lines are counted on from file to file.
A line is mended with the commit that takes its row in, unless the row is refused again.
"""

from array import array
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from backstory.core.error import RequestError
from backstory.engine.file.csv_dialect import Dialect
from backstory.engine.file.csv_source import CsvSource
from backstory.engine.file.file_shape import is_csv
from backstory.engine.file.line_source import lines_of, too_long
from backstory.engine.file.report import file_told, in_order, line_told
from backstory.engine.file.row_value import RowError, Settled, decode_line
from backstory.engine.file.source import Place, Source

_BOM = b"\xef\xbb\xbf"
# Lines are kept as 32 bits.
_LINE_MAX = 2**32 - 1
# How reports are written.
REPORT_DIALECT = Dialect(encoding="utf-8", quote='"')


class Mended:
    """The rows of one file by the line they begin at there, and what is mended so far."""

    def __init__(self, path: Path, mended: bytes, *, taken: int, before: int = 0) -> None:
        """``mended``: the lines so far, serialised; ``taken``: lines of the file that are in already.

        ``before``: how many lines the files of the input have before the one that these rows are of.
        """
        self._before = before
        self._lines, self._origins = _told(path)
        self._origins += before
        # The last row of each line of the input.
        backwards = np.unique(self._origins[::-1], return_index=True)[1]
        self._counts = np.zeros(len(self._lines), bool)
        self._counts[len(self._lines) - 1 - backwards] = True
        self._mended = BitMap.deserialize(mended) if mended else BitMap()
        self._refused: set[int] = set()
        self._next = int(np.searchsorted(self._lines, taken, "right"))

    def admit(self, line: int) -> None:
        """Raises ``Settled`` for a row that is not to be taken."""
        at = self._at(line)
        if not self._counts[at] or int(self._origins[at]) in self._mended:
            raise Settled("a line that is mended already")

    def origin(self, line: int) -> int:
        """Which line of the input the row at a line of the file is."""
        return int(self._origins[self._at(line)])

    def origins(self, lines: NDArray[np.int64]) -> NDArray[np.int64]:
        """The same, of many."""
        return self._origins[np.searchsorted(self._lines, lines)]

    def line(self, line: int) -> int:
        """The same as the line of its own file, as reports tell it."""
        return self.origin(line) - self._before

    def refused(self, line: int) -> int:
        """The row is told of as an error again; returns ``line`` of it."""
        self._refused.add(line)
        return self.line(line)

    def upto(self, line: int) -> bytes:
        """With the commit of everything up to a line of the file: what is mended now, serialised."""
        end = int(np.searchsorted(self._lines, line, "right"))
        for at in range(self._next, end):
            if self._counts[at] and int(self._lines[at]) not in self._refused:
                self._mended.add(int(self._origins[at]))
        self._next = max(self._next, end)
        self._refused = {one for one in self._refused if one > line}
        return self._mended.serialize()

    def _at(self, line: int) -> int:
        at = int(np.searchsorted(self._lines, line))
        assert self._lines[at : at + 1] == line, f"line {line} was not read before"
        return at


def _told(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    lines, origins = array("q"), array("q")
    for line, origin in rows_told(path):
        lines.append(line)
        origins.append(origin)
    return np.array(lines, np.int64), np.array(origins, np.int64)


def rows_told(path: Path) -> Iterator[tuple[int, int]]:
    """Of each row the line where it begins and the line of the input that it is; raises ``RequestError``."""
    for line, row, error in _csv_rows(path) if is_csv(path) else _json_rows(path):
        origin = None if error else _whole(line_told(row))
        if origin is None:
            reason = error or "does not say by `line` which row of the input it is: leave that column as it was"
            raise RequestError(f"line {line} of the file of mended rows {reason}; nothing was changed", path="file")
        yield line, origin


def file_of(path: Path) -> int | None:
    """Which file of the input mended rows are of; None where no row says. Raises ``RequestError``."""
    rows = _csv_rows(path) if is_csv(path) else _json_rows(path)
    found: dict[int | None, int] = {}
    for line, row, error in rows:
        told = {name: row[name] for name in in_order(row, several=True)}
        found.setdefault(None if error else _whole(file_told(told)), line)
    if len(found) > 1:
        line = max(found.values())
        raise RequestError(
            f"line {line} of the file of mended rows is of another file of the input than the rows before it, or does "
            "not say by `file` of which: mend the report of each file by itself; nothing was changed",
            path="file",
        )
    return next(iter(found), None)


def rows_in_order(path: Path, *, several: bool) -> Iterator[bytes]:
    """The lines of a file of JSON, with what is a report's own last in each; lines that are no objects as they are.

    ``several``: of an import of several files. Raises ``RequestError`` for a line that is too long.
    """
    source = Source(path, Place())
    try:
        for text, end in lines_of(source):
            if too_long(text):
                message = f"line {end.line} of the file of mended rows is too long to be read; nothing was changed"
                raise RequestError(message, path="file")
            yield _in_order(text, several=several)
    finally:
        source.close()


def _in_order(text: bytes, *, several: bool) -> bytes:
    try:
        row = msgspec.json.decode(text.removeprefix(_BOM), type=dict[str, msgspec.Raw])
        decode_line(text.removeprefix(_BOM))
    except (msgspec.MsgspecError, UnicodeDecodeError, RowError):
        # Refused with its line when it is read.
        return text
    names = in_order(row, several=several)
    if names == list(row):
        return text
    return msgspec.json.encode({name: row[name] for name in names}) + b"\n"


def _whole(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LINE_MAX else None


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, object], str]]:
    source = CsvSource(path, dialect=REPORT_DIALECT)
    try:
        for row in source.rows():
            yield row.line, {} if row.error else dict(zip(source.header, row.cells, strict=True)), row.error
    finally:
        source.close()


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, object], str]]:
    source = Source(path, Place())
    try:
        for text, end in lines_of(source):
            if text.isspace():
                continue
            try:
                if too_long(text):
                    raise RowError("", None, "is too long to be read")
                row = decode_line(text.removeprefix(_BOM) if end.line == 1 else text)
                yield end.line, dict(row), ""
            except RowError as error:
                yield end.line, {}, str(error)
    finally:
        source.close()
