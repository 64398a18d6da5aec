"""Objects in ``state.db``: their types, identifiers and attributes. What was deleted stays, to refuse older facts."""

import sqlite3
from dataclasses import dataclass

from backstory.core.fact import ObjectKey
from backstory.core.record import NEVER_US, Record
from backstory.store.record import record_of, stored

CIO_OBJECT_BASE = 0x020001
_COLUMNS = "object, type_id, object_id, created_us, seen_us, gone_us, document"


def cio_object_id_of(number: int) -> str:
    """The identifier we give to an object: immutable, short."""
    return f"ob{CIO_OBJECT_BASE + number:06x}"


def number_of(cio_object_id: str) -> int | None:
    """The number behind a cio_object_id, None when it cannot be one."""
    try:
        number = int(cio_object_id.removeprefix("ob"), 16) - CIO_OBJECT_BASE
    except ValueError:
        return None
    return number if 0 <= number < 1 << 32 and cio_object_id_of(number) == cio_object_id else None


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """An object as stored; ``number`` never leaves the process."""

    number: int
    type_id: int
    object_id: str
    created_us: int
    record: Record


def object_row(row: tuple[int, int, str, int, int, int, bytes]) -> ObjectRow:
    return ObjectRow(*row[:4], record_of(*row[4:]))


class Objects:
    """Reads and writes, inside the loop's transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def find(self, key: ObjectKey) -> ObjectRow | None:
        """The object under a key, gone or not; under a cio_object_id only one that is there."""
        return find_object(self._db, key)

    def get(self, number: int) -> ObjectRow:
        return object_row(self._db.execute(f"SELECT {_COLUMNS} FROM object WHERE object = ?", (number,)).fetchone())

    def insert(self, type_id: int, object_id: str, record: Record, created_us: int) -> ObjectRow:
        """A new object, or what is to refuse older facts about one nobody has told of yet."""
        number = (self._db.execute("SELECT max(object) FROM object").fetchone()[0] or 0) + 1
        row = ObjectRow(number, type_id, object_id, created_us, record)
        self._db.execute(
            "INSERT INTO object VALUES (?, ?, ?, ?, ?, ?, ?)", (number, type_id, object_id, created_us, *stored(record))
        )
        return row

    def use_type(self, type_id: int, now_us: int) -> None:
        """A type is made when it is first used."""
        self._db.execute("INSERT OR IGNORE INTO object_type VALUES (?, ?)", (type_id, now_us))

    def set_record(self, number: int, record: Record) -> None:
        self._db.execute(
            "UPDATE object SET seen_us = ?, gone_us = ?, document = ? WHERE object = ?", (*stored(record), number)
        )


def find_object(db: sqlite3.Connection, key: ObjectKey) -> ObjectRow | None:
    """The object under a key, gone or not; under a cio_object_id only one that is there."""
    if key.cio_object_id is not None:
        number = number_of(key.cio_object_id)
        row = db.execute(
            f"SELECT {_COLUMNS} FROM object WHERE object = ? AND (?2 = 0 OR type_id = ?2)"
            " AND seen_us >= gone_us AND seen_us != ?3",
            (number, key.type_id, NEVER_US),
        ).fetchone()
    else:
        row = db.execute(
            f"SELECT {_COLUMNS} FROM object WHERE type_id = ? AND object_id = ?", (key.type_id, key.object_id)
        ).fetchone()
    return None if row is None else object_row(row)


def read_object_types(db: sqlite3.Connection) -> list[int]:
    """The types that have been used, in order."""
    return [row[0] for row in db.execute("SELECT type_id FROM object_type ORDER BY type_id")]
