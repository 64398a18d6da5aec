"""Devices in ``state.db``: by person and token. A device that went keeps its row, to refuse older facts."""

import sqlite3

from backstory.core.record import Record, merged
from backstory.store.record import record_of, stored

_THERE = "seen_us >= gone_us"


class Devices:
    """Reads and writes, inside the loop's transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def get(self, person: int, token: str) -> Record:
        """What is known of a device; an empty record when nothing is."""
        row = self._db.execute(
            "SELECT seen_us, gone_us, document FROM device WHERE person = ? AND token = ?", (person, token)
        ).fetchone()
        return Record() if row is None else record_of(*row)

    def put(self, person: int, token: str, record: Record) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO device VALUES (?, ?, ?, ?, ?)", (person, token, *stored(record))
        )

    def others(self, token: str, person: int) -> list[tuple[int, Record]]:
        """Everybody else who has or had a device with this token."""
        rows = self._db.execute(
            "SELECT person, seen_us, gone_us, document FROM device WHERE token = ? AND person != ? ORDER BY person",
            (token, person),
        )
        return [(row[0], record_of(*row[1:])) for row in rows]

    def count(self, person: int) -> int:
        query = f"SELECT count(*) FROM device WHERE person = ? AND {_THERE}"
        return self._db.execute(query, (person,)).fetchone()[0]

    def of_person(self, person: int) -> list[tuple[str, Record]]:
        return read_devices(self._db, person)

    def move(self, secondary: int, primary: int) -> list[str]:
        """After a merge: one person's devices are the other's; returns the tokens of those that are there."""
        rows = self._db.execute(
            "SELECT token, seen_us, gone_us, document FROM device WHERE person = ? ORDER BY token", (secondary,)
        ).fetchall()
        for token, *columns in rows:
            self.put(primary, token, merged(self.get(primary, token), record_of(*columns)))
        self.forget_person(secondary)
        return [row[0] for row in rows if row[1] >= row[2]]

    def forget_person(self, person: int) -> None:
        self._db.execute("DELETE FROM device WHERE person = ?", (person,))


def read_devices(db: sqlite3.Connection, person: int) -> list[tuple[str, Record]]:
    """The devices of a person that are there, by token."""
    rows = db.execute(
        f"SELECT token, seen_us, gone_us, document FROM device WHERE person = ? AND {_THERE} ORDER BY token", (person,)
    )
    return [(row[0], record_of(*row[1:])) for row in rows]
