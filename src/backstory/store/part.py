"""Writing parts: immutable Parquet files, written aside, re-read, checksummed, synced, renamed.

A part counts only once the manifest names it; a file nobody names is swept at the next start.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from backstory.core.error import StorageError
from backstory.store.database import sync_folder
from backstory.store.keyrun import checksum_of

# Small groups let a person's history be found without reading a whole part.
GROUP_ROWS = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenPart:
    """A file that lies in the parts folder and is not named by the manifest yet."""

    path: str
    rows: int
    checksum: str
    bytes: int


def write_part(duck: duckdb.DuckDBPyConnection, folder: Path, name: str, table: pa.Table) -> WrittenPart:
    """Write a table, already in the order wanted, as a part. Raises ``StorageError`` and leaves nothing behind."""
    duck.register("part_rows", table)
    try:
        return write_query(duck, folder, name, "FROM part_rows", table.num_rows)
    finally:
        duck.unregister("part_rows")


def write_query(duck: duckdb.DuckDBPyConnection, folder: Path, name: str, sql: str, rows: int) -> WrittenPart:
    """Write what a query gives, which must be so many rows, as a part. Raises as ``write_part`` does."""
    path = folder / f"{name}.parquet"
    aside = path.with_suffix(".new")
    try:
        duck.execute(
            f"COPY ({sql}) TO '{_quoted(aside)}' (FORMAT parquet, COMPRESSION lz4_raw, ROW_GROUP_SIZE {GROUP_ROWS})"
        )
        found = duck.execute(f"SELECT num_rows FROM parquet_file_metadata('{_quoted(aside)}')").fetchall()
        if found != [(rows,)]:
            raise StorageError(f"the part {aside} does not hold the rows written to it")
        _sync(aside)
        written = WrittenPart(path=path.name, rows=rows, checksum=checksum_of(aside), bytes=aside.stat().st_size)
        os.rename(aside, path)
        sync_folder(folder)
    except (duckdb.Error, OSError) as error:
        aside.unlink(missing_ok=True)
        raise StorageError(f"cannot write the part {path}: {error}") from error
    return written


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
