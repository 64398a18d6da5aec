"""How this project opens SQLite: WAL, explicit transactions, errors turned into ours."""

import os
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from backstory.core.error import StorageError

# Few sizes, so that their statements stay prepared.
ROWS_PER_STATEMENT = (512, 64, 8, 1)

# A text of so many values is a few hundred kilobytes long.
ROWS_PER_BLOCK = 4096

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
            # Who rebuilds a large file holds up whoever writes to it; nobody else ever does.
            timeout=600,
        )
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            # What is deleted is overwritten where that costs no write; the rest goes when a purge rebuilds the file.
            connection.execute("PRAGMA secure_delete = FAST")
        connection.execute("PRAGMA temp_store = MEMORY")
    except sqlite3.Error as error:
        raise StorageError(f"cannot open {path}: {error}") from error
    return connection


def reading(connection: sqlite3.Connection) -> Callable[[str, tuple[Any, ...]], list[Any]]:
    """What runs a query and returns all its rows; raises ``StorageError``."""

    def rows(sql: str, parameters: tuple[Any, ...]) -> list[Any]:
        try:
            return connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise StorageError(f"the state cannot be read: {error}") from error

    return rows


def insert_rows(
    connection: sqlite3.Connection, into: str, values: str, rows: Sequence[tuple[Any, ...]], *, then: str = ""
) -> None:
    """Insert rows inside a transaction, many with each statement; ``values`` are the brackets of one row.

    ``then`` is what stands behind them: what to do with rows that are there.

    ``executemany`` lets go of the interpreter lock once per row, and where other threads want it, each time is a wait:
    for short rows that costs more than the insert.
    """
    at = 0
    for size in ROWS_PER_STATEMENT:
        while len(rows) - at >= size:
            parameters = tuple(chain.from_iterable(rows[at : at + size]))
            connection.execute(f"{into} VALUES {', '.join([values] * size)} {then}", parameters)
            at += size


def insert_columns(connection: sqlite3.Connection, into: str, values: str, columns: Sequence[Sequence[Any]]) -> None:
    """The same of rows that come as columns, one for each question mark: no row is made of them."""
    width, count = len(columns), len(columns[0])
    flat: list[Any] = [None] * (width * count)
    for place, column in enumerate(columns):
        flat[place::width] = column
    at = 0
    for size in ROWS_PER_STATEMENT:
        while count - at >= size:
            connection.execute(
                f"{into} VALUES {', '.join([values] * size)}", flat[at * width : (at + size) * width]
            )
            at += size


def read_blocks(
    connection: sqlite3.Connection, table: str, key: str, columns: Sequence[str], where: str, values: tuple[Any, ...]
) -> Iterator[tuple[str, ...]]:
    """Rows of a table by its numbered key, some thousands at a time: each column as the text of one JSON array.

    Columns must hold JSON, numbers or null. A row of its own for each would cost ten times as much.
    """
    each = ", ".join(f"'[' || group_concat(ifnull(column_{place}, 'null')) || ']'" for place in range(len(columns)))
    names = ", ".join(f"{column} AS column_{place}" for place, column in enumerate(columns))
    found = (
        f"SELECT max({key}), {each} FROM (SELECT {key}, {names} FROM {table} WHERE {key} > ? AND ({where})"
        f" ORDER BY {key} LIMIT {ROWS_PER_BLOCK})"
    )
    last: int | None = -1
    while True:
        last, *texts = connection.execute(found, (last, *values)).fetchone()
        if last is None:
            return
        yield tuple(texts)


def among(numbers: Iterable[int], column: str = "seq") -> str:
    """A condition in SQL: the row is one of these."""
    return f"{column} IN ({', '.join(map(str, numbers))})"


def held_bytes(path: Path) -> int:
    """How much of a database file is in use; what was deleted and is not used again does not count."""
    connection = connect(path, synchronous="NORMAL", read_only=True)
    try:
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size
    except sqlite3.Error as error:
        raise StorageError(f"{path} cannot be read: {error}") from error
    finally:
        connection.close()


def rebuild(path: Path) -> bool:
    """Write a database anew, so that nothing that was deleted is left in it; False: a reader was in the way.

    Nobody can write to it meanwhile: about a second for 150 MB in use. Deleted rows leave remains in pages that were
    split or joined, which ``secure_delete`` does not reach; only a new file has none.
    """
    connection = connect(path, synchronous="FULL")
    try:
        # What waits for a lock need not be in memory.
        connection.execute("PRAGMA temp_store = FILE")
        connection.execute("PRAGMA busy_timeout = 5000")
        connection.execute("VACUUM")
        return _empty_log(connection)
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "busy" in str(error):
            return False
        raise StorageError(f"{path} cannot be rebuilt: {error}") from error
    except sqlite3.Error as error:
        raise StorageError(f"{path} cannot be rebuilt: {error}") from error
    finally:
        connection.close()


def _empty_log(connection: sqlite3.Connection) -> bool:
    """Move the log into the database and cut it to nothing; False while somebody reads from it."""
    connection.execute("PRAGMA busy_timeout = 200")
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


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


def write_alone(connection: sqlite3.Connection, statement: str, parameters: tuple[Any, ...]) -> None:
    """One statement as a transaction of its own, all or nothing; a failing disk raises ``StorageError``.

    Every statement, and so every BEGIN and COMMIT, lets go of the interpreter lock several times.
    """
    try:
        connection.execute(statement, parameters)
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise StorageError(f"the database refused a write: {error}") from error


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
