"""Writing parts: immutable Parquet files, written aside, re-read, checksummed, synced, renamed.

A part counts only once the manifest names it; a file nobody names is swept at the next start.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from backstory.core.error import StorageError
from backstory.store.database import sync_folder
from backstory.store.keyrun import checksum_of

# Small groups let a person's history be found without reading a whole part.
GROUP_ROWS = 16_384
# Which columns repeat themselves, and which go on from row to row; the others are written as they are.
_REPEATING = ["name", "kind", "accept_us", "import_id"]
_ONGOING = {"seq": "DELTA_BINARY_PACKED", "person": "DELTA_BINARY_PACKED"}
# By their bounds a reader leaves out groups of rows.
_BOUNDED = ["seq", "person", "name", "kind", "time_us", "import_id", "commit_seq"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenPart:
    """A file that lies in the parts folder and is not named by the manifest yet."""

    path: str
    rows: int
    checksum: str
    bytes: int


def write_part(
    folder: Path, name: str, table: pa.Table, *, lasting: bool = True, packed: bool = True
) -> WrittenPart:
    """Write a table, already in the order wanted, as a part. Raises ``StorageError`` and leaves nothing behind.

    What is not ``lasting`` is neither synced nor looked at again, and has no checksum. What is not ``packed`` is
    written in two thirds of the time and takes twice the room, until it is merged with others.
    """
    return write_tables(folder, name, table.schema, [table], table.num_rows, lasting=lasting, packed=packed)


def write_tables(
    folder: Path,
    name: str,
    schema: pa.Schema,
    tables: Iterable[pa.Table],
    rows: int,
    *,
    lasting: bool = True,
    packed: bool = True,
) -> WrittenPart:
    """Write tables, which together must have so many rows in the order wanted, as one part.

    No more than one of them is in memory at a time. Otherwise as ``write_part``.
    """

    def write(aside: Path) -> None:
        with pq.ParquetWriter(aside, schema, **_how(schema.names, packed)) as writer:
            for table in tables:
                writer.write_table(table.select(schema.names).cast(schema), row_group_size=GROUP_ROWS)

    return _written(folder, name, write, rows, lasting)


def _how(columns: Sequence[str], packed: bool) -> dict[str, Any]:
    return {
        "compression": "lz4" if packed else "none",
        "use_dictionary": [name for name in _REPEATING if name in columns],
        "column_encoding": {name: how for name, how in _ONGOING.items() if name in columns},
        "write_statistics": [name for name in _BOUNDED if name in columns],
        # Readers other than Arrow have no use for its own schema.
        "store_schema": False,
        # As many rows at a time as a group has.
        "write_batch_size": GROUP_ROWS,
    }


def _written(folder: Path, name: str, write: Callable[[Path], None], rows: int, lasting: bool) -> WrittenPart:
    path = folder / f"{name}.parquet"
    aside = path.with_suffix(".new")
    try:
        write(aside)
        if lasting:
            if pq.read_metadata(aside).num_rows != rows:
                raise StorageError(f"the part {aside} does not hold the rows written to it")
            _sync(aside)
        checksum = checksum_of(aside) if lasting else ""
        written = WrittenPart(path=path.name, rows=rows, checksum=checksum, bytes=aside.stat().st_size)
        os.rename(aside, path)
        if lasting:
            sync_folder(folder)
    except (pa.ArrowException, OSError) as error:
        aside.unlink(missing_ok=True)
        raise StorageError(f"cannot write the part {path}: {error}") from error
    return written


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
