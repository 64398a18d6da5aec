"""How this project opens SQLite: WAL, explicit transactions, errors turned into ours."""

import os
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from backstory.core.error import StorageError

# Few sizes, so that their statements stay prepared.
ROWS_PER_STATEMENT = (64, 8, 1)

Synchronous = Literal["FULL", "NORMAL"]


def connect(path: Path, *, synchronous: Synchronous, read_only: bool = False) -> sqlite3.Connection:
    """Open a database file; ``synchronous`` FULL syncs every commit, NORMAL only checkpoints."""
    try:
        connection = sqlite3.connect(
            f"file:{path}?mode={'ro' if read_only else 'rwc'}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
            timeout=30,
        )
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA temp_store = MEMORY")
    except sqlite3.Error as error:
        raise StorageError(f"cannot open {path}: {error}") from error
    return connection


def insert_rows(connection: sqlite3.Connection, into: str, values: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows inside a transaction, many with each statement; ``values`` are the brackets of one row.

    ``executemany`` lets go of the interpreter lock once per row, and where other threads want it, each time is a wait:
    for short rows that costs more than the insert.
    """
    at = 0
    for size in ROWS_PER_STATEMENT:
        while len(rows) - at >= size:
            parameters = tuple(chain.from_iterable(rows[at : at + size]))
            connection.execute(f"{into} VALUES {', '.join([values] * size)}", parameters)
            at += size


@contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None]:
    """All or nothing; a failing disk raises ``StorageError`` and leaves nothing behind."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise StorageError(f"the database refused a write: {error}") from error
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def make_folder(path: Path, mode: int = 0o777) -> None:
    """Make a folder and its parents where they are missing; their names survive a power cut. Raises ``OSError``."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(mode, exist_ok=True)
        sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Force a file's bytes to the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)


def sync_folder(path: Path) -> None:
    """Force a folder's entries to the disk, so that a rename survives a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
