"""Relationships between people and objects in ``state.db``; those of people not yet known wait under anonymous ids."""

import sqlite3

from backstory.core.fact import Identifier
from backstory.core.record import NEVER_US, Record, merged
from backstory.store.object import ObjectRow, object_row
from backstory.store.record import record_of, stored

_THERE = "relationship.seen_us >= relationship.gone_us"


class Relations:
    """Reads and writes, inside the loop's transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def get(self, person: int, number: int) -> Record:
        """What is known of a relationship; an empty record when nothing is."""
        row = self._db.execute(
            "SELECT seen_us, gone_us, document FROM relationship WHERE person = ? AND object = ?", (person, number)
        ).fetchone()
        return Record() if row is None else record_of(*row)

    def put(self, person: int, number: int, record: Record) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO relationship VALUES (?, ?, ?, ?, ?)", (person, number, *stored(record))
        )

    def count(self, person: int) -> int:
        query = f"SELECT count(*) FROM relationship WHERE person = ? AND {_THERE}"
        return self._db.execute(query, (person,)).fetchone()[0]

    def of_person(self, person: int, type_id: int | None = None) -> list[tuple[ObjectRow, Record]]:
        return read_relations(self._db, person, type_id)

    def people_of(self, number: int) -> list[int]:
        """Everybody related to an object."""
        query = f"SELECT person FROM relationship WHERE object = ? AND {_THERE} ORDER BY person"
        return [row[0] for row in self._db.execute(query, (number,))]

    def forget_object(self, number: int) -> None:
        """The object goes: what it has to refuse, its own tombstone refuses."""
        self._db.execute("DELETE FROM relationship WHERE object = ?", (number,))
        self._db.execute("DELETE FROM anonymous_relationship WHERE object = ?", (number,))
        self._db.execute("DELETE FROM unrelated WHERE object = ?", (number,))

    def forget(self, person: int, number: int) -> None:
        """Nothing is told of a relationship any more."""
        self._db.execute("DELETE FROM relationship WHERE person = ? AND object = ?", (person, number))

    def forget_person(self, person: int) -> None:
        self._db.execute("DELETE FROM relationship WHERE person = ?", (person,))

    def move(self, secondary: int, primary: int) -> None:
        """After a merge: one person's relationships are the other's, attributes by their times."""
        rows = self._db.execute(
            "SELECT object, seen_us, gone_us, document FROM relationship WHERE person = ?", (secondary,)
        ).fetchall()
        for number, *columns in rows:
            self.put(primary, number, merged(self.get(primary, number), record_of(*columns)))
        self.forget_person(secondary)

    # -- people not yet known -------------------------------------------------------------------------------------

    def anonymous(self, anonymous_id: str, number: int) -> Record:
        row = self._db.execute(
            "SELECT seen_us, gone_us, document FROM anonymous_relationship WHERE anonymous_id = ? AND object = ?",
            (anonymous_id, number),
        ).fetchone()
        return Record() if row is None else record_of(*row)

    def put_anonymous(self, anonymous_id: str, number: int, record: Record) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO anonymous_relationship VALUES (?, ?, ?, ?, ?)",
            (anonymous_id, number, *stored(record)),
        )

    def claim(self, anonymous_id: str, person: int) -> list[int]:
        """Somebody turned out to be who they are: their relationships are theirs; returns the objects."""
        rows = self._db.execute(
            "SELECT object, seen_us, gone_us, document FROM anonymous_relationship WHERE anonymous_id = ?",
            (anonymous_id,),
        ).fetchall()
        for number, *columns in rows:
            self.put(person, number, merged(self.get(person, number), record_of(*columns)))
        self._db.execute("DELETE FROM anonymous_relationship WHERE anonymous_id = ?", (anonymous_id,))
        return [row[0] for row in rows]

    def unrelated_us(self, identifier: Identifier, number: int) -> int:
        """When a relationship ended that was told under an identifier nobody had then."""
        row = self._db.execute(
            "SELECT gone_us FROM unrelated WHERE kind = ? AND value = ? AND object = ?",
            (identifier.kind, identifier.value, number),
        ).fetchone()
        return NEVER_US if row is None else row[0]

    def set_unrelated(self, identifier: Identifier, number: int, gone_us: int) -> None:
        gone_us = max(gone_us, self.unrelated_us(identifier, number))
        self._db.execute(
            "INSERT OR REPLACE INTO unrelated VALUES (?, ?, ?, ?)",
            (identifier.kind, identifier.value, number, gone_us),
        )


def read_relations(db: sqlite3.Connection, person: int, type_id: int | None) -> list[tuple[ObjectRow, Record]]:
    """The objects a person is related to (of one type, or of all), each with the relationship."""
    rows = db.execute(
        "SELECT object.object, type_id, object_id, created_us, object.seen_us, object.gone_us, object.document,"
        " relationship.seen_us, relationship.gone_us, relationship.document"
        f" FROM relationship JOIN object USING (object) WHERE person = ?1 AND {_THERE}"
        " AND (?2 IS NULL OR type_id = ?2) ORDER BY object.object",
        (person, type_id),
    )
    return [(object_row(row[:7]), record_of(*row[7:])) for row in rows]
