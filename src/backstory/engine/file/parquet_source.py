"""A Parquet file as JSON lines, a row each, made while reading: the same file gives the same text every time."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from backstory.core.condition import Json
from backstory.engine.file.plain_value import plain
from backstory.engine.file.unpack import Made, SourceError

BATCH_CELLS = 100_000
_encode = msgspec.json.Encoder().encode


class ParquetText(Made):
    """The rows as text. Raises ``SourceError`` when the file cannot be opened."""

    def __init__(self, file: BinaryIO, path: Path, *, keep_nulls: bool) -> None:
        self._file = file
        self._keep_nulls = keep_nulls
        try:
            self._parquet = pq.ParquetFile(file)
        except (pa.ArrowException, OSError, ValueError) as error:
            file.close()
            raise SourceError(f"{path} cannot be read as Parquet: {error}") from error
        self.header = list(self._parquet.schema_arrow.names)
        if len(set(self.header)) != len(self.header):
            twice = next(name for name in self.header if self.header.count(name) > 1)
            raise SourceError(f"{path} has two columns named {twice!r}: rename one of them")
        self._lines = self._read()
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        pieces, have = [self._rest], len(self._rest)
        while have < size and (text := next(self._lines, b"")):
            pieces.append(text)
            have += len(text)
        whole = b"".join(pieces)
        self._rest = whole[size:]
        return whole[:size]

    def close(self) -> None:
        self._parquet.close()
        self._file.close()

    def _read(self) -> Iterator[bytes]:
        rows_max = max(BATCH_CELLS // max(len(self.header), 1), 1)
        for batch in self._parquet.iter_batches(batch_size=rows_max):
            columns = [_values(column) for column in batch.columns]
            rows = zip(*columns, strict=True)
            yield b"".join(line_of(self.header, cells, keep_nulls=self._keep_nulls) for cells in rows)


def line_of(names: list[str], cells: Iterable[Json], *, keep_nulls: bool) -> bytes:
    """A row as a line of JSON."""
    pairs = zip(names, cells, strict=True)
    return _encode({name: cell for name, cell in pairs if cell is not None or keep_nulls}) + b"\n"


def _values(column: pa.Array) -> list[Json]:
    """A column's values as JSON; those of plain types need no closer look."""
    kind = str(column.type)
    if kind.startswith("timestamp[ns"):
        zone = kind.partition("tz=")[2].removesuffix("]") or None
        column = pc.cast(column, pa.timestamp("us", zone), safe=False)
    values = column.to_pylist()
    if kind.startswith(("int", "uint", "bool", "string", "large_string", "null")):
        return values
    if kind in ("double", "float") and pc.all(pc.is_finite(column), min_count=0).as_py():
        return values
    return [plain(value) for value in values]
