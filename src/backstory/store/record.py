"""How records lie in ``state.db``, and the history of what was written to them."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Literal

import msgspec

from backstory.core.condition import DeviceTest, RecordTest
from backstory.core.device import asked_device
from backstory.core.object import asked_object
from backstory.core.person import decode_document, encode_document
from backstory.core.record import Record
from backstory.core.record_time import Attributes, ObjectWrite, RecordsInTime, Row
from backstory.store.knowledge import Knowledge, table_for, told_by

RecordKind = Literal["device", "object", "relationship"]
_decode = msgspec.json.Decoder(dict[str, Any]).decode
Stored = tuple[int, int, bytes]
Write = tuple[int, Attributes]


def stored(record: Record) -> Stored:
    """The columns ``seen_us, gone_us, document``."""
    return record.seen_us, record.gone_us, encode_document(record.document)


def record_of(seen_us: int, gone_us: int, document: bytes) -> Record:
    return Record(seen_us=seen_us, gone_us=gone_us, document=decode_document(document))


class RecordWrites:
    """What was written to records, losers too: the source of every answer about another moment than now."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def add(
        self,
        seq: int,
        kind: RecordKind,
        *,
        time_us: int,
        accept_us: int,
        attributes: str | None,
        person: int | None = None,
        object: int | None = None,
        token: str | None = None,
        anonymous_id: str | None = None,
        import_id: int = 0,
    ) -> None:
        """``attributes`` None: it ended."""
        self._db.execute(
            "INSERT INTO record_write VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (seq, kind, person, object, token, anonymous_id, time_us, accept_us, attributes, import_id),
        )

    def move(self, kind: RecordKind, secondary: int, primary: int, take_seq: Callable[[], int]) -> None:
        """After a merge: what one person's records of a kind were is part of the other's."""
        query = "SELECT seq FROM record_write WHERE person = ? AND kind = ? ORDER BY seq"
        self._give(self._db.execute(query, (secondary, kind)).fetchall(), primary, take_seq)
        given = "UPDATE retracted_write SET person = ? WHERE person = ? AND kind = ?"
        self._db.execute(given, (primary, secondary, kind))

    def claim(self, anonymous_id: str, person: int, take_seq: Callable[[], int]) -> int | None:
        """Somebody turned out to be who they are; returns the earliest time of what becomes theirs."""
        query = "SELECT seq, time_us FROM record_write WHERE anonymous_id = ? ORDER BY seq"
        rows = self._db.execute(query, (anonymous_id,)).fetchall()
        self._give(rows, person, take_seq)
        return min((row[1] for row in rows), default=None)

    def _give(self, rows: list[Any], person: int, take_seq: Callable[[], int]) -> None:
        """With new numbers, as it is now that the person has them."""
        self._db.executemany(
            "UPDATE record_write SET seq = ?, person = ?, anonymous_id = NULL WHERE seq = ?",
            [(take_seq(), person, row[0]) for row in rows],
        )

    def forget_person(self, person: int) -> None:
        for table in ("record_write", "retracted_write"):
            self._db.execute(f"DELETE FROM {table} WHERE person = ?", (person,))

    # -- imports that do not count --------------------------------------------------------------------------------

    def of_object(self, number: int) -> list[Write]:
        """(time, attributes) of all that was written to an object, in order."""
        query = "SELECT time_us, attributes FROM record_write WHERE object = ? AND kind = 'object' ORDER BY seq"
        return _writes(self._db.execute(query, (number,)))

    def of_relation(self, person: int, number: int) -> list[Write]:
        """The same of a relationship."""
        query = (
            "SELECT time_us, attributes FROM record_write WHERE person = ? AND object = ? AND kind = 'relationship'"
            " ORDER BY seq"
        )
        return _writes(self._db.execute(query, (person, number)))

    def made_by(self, number: int, sources: tuple[int, int], since_us: int) -> bool:
        """Has one of two sources (imports, 0 for live calls) said since a moment that an object is there?"""
        query = (
            "SELECT 1 FROM record_write WHERE object = ? AND kind = 'object' AND attributes IS NOT NULL"
            " AND time_us >= ? AND import_id IN (?, ?) LIMIT 1"
        )
        return self._db.execute(query, (number, since_us, *sources)).fetchone() is not None

    def forget_retracted(self, number: int) -> bool:
        """What imports that were taken back said of an object does not come back; returns whether there was any."""
        return self._db.execute("DELETE FROM retracted_write WHERE object = ?", (number,)).rowcount > 0

    def turn(self, import_id: int, rows_max: int, *, back: bool) -> list[tuple[str, int | None, int]]:
        """Take some of an import's writes out of history, or ``back`` into it: (kind, person, object) of each.

        Relationships go before their objects, and come back after them.
        """
        source, target = ("retracted_write", "record_write") if back else ("record_write", "retracted_write")
        order = "kind, seq" if back else "kind DESC, seq"
        query = f"SELECT seq, kind, person, object FROM {source} WHERE import_id = ? ORDER BY {order} LIMIT ?"
        rows = self._db.execute(query, (import_id, rows_max)).fetchall()
        self._db.executemany(f"INSERT INTO {target} SELECT * FROM {source} WHERE seq = ?", [(row[0],) for row in rows])
        self._db.executemany(f"DELETE FROM {source} WHERE seq = ?", [(row[0],) for row in rows])
        return [(row[1], row[2], row[3]) for row in rows]


def _writes(rows: Iterable[Any]) -> list[Write]:
    return [(row[0], None if row[1] is None else _decode(row[1])) for row in rows]


# The earliest effective time of what was written to each person's records after some seq; a device that went to
# somebody else tells nothing of whom it left.
EARLIEST = (
    "SELECT person, min(time_us) FROM record_write WHERE seq > ? AND seq <= ? AND person IS NOT NULL"
    " AND (kind = 'relationship' OR attributes IS NOT NULL) GROUP BY person ORDER BY person"
)


def earliest_known(db: sqlite3.Connection, known: Knowledge) -> list[tuple[int, int]]:
    """The same of all that was known at some moment."""
    told = EARLIEST.replace("seq > ? AND seq <= ?", f"true{known.told()}")
    return db.execute(told.replace("FROM record_write", f"FROM {_record_writes(known)}")).fetchall()


def _record_writes(known: Knowledge | None) -> str:
    return table_for(known, "record_write", "retracted_write")


def everybodys_rows(db: sqlite3.Connection, test: RecordTest) -> Iterator[tuple[int, list[Row]]]:
    """Everybody who has such records, with them as they are now, as conditions ask for them."""
    if isinstance(test, DeviceTest):
        devices = db.execute(
            "SELECT person, token, seen_us, gone_us, document FROM device WHERE seen_us >= gone_us ORDER BY person"
        )
        for person, rows in groupby(devices, key=lambda row: row[0]):
            yield person, [asked_device(row[1], record_of(*row[2:])) for row in rows]
        return
    related = db.execute(
        "SELECT person, object_id, object.seen_us, object.gone_us, object.document, relationship.seen_us,"
        " relationship.gone_us, relationship.document FROM relationship JOIN object USING (object)"
        " WHERE relationship.seen_us >= relationship.gone_us AND type_id = ? ORDER BY person",
        (test.type_id,),
    )
    for person, rows in groupby(related, key=lambda row: row[0]):
        yield person, [asked_object(row[1], record_of(*row[2:5]), record_of(*row[5:])) for row in rows]


def read_records(
    db: sqlite3.Connection,
    people: Sequence[int] | None = None,
    *,
    span: tuple[int, int] | None = None,
    known: Knowledge | None = None,
) -> dict[int, RecordsInTime]:
    """What was written to the records of some people, of a span of numbers, or of everybody who has any.

    ``known``: only what was known then.

    Everything is read in one go on one connection: the caller sees to it that it is one commit.
    """
    if people is not None:
        chosen, parameters = f"person IN ({', '.join('?' * len(people))})", tuple(people)
    elif span is not None:
        chosen, parameters = "person >= ? AND person < ?", span
    else:
        chosen, parameters = "person IS NOT NULL", ()
    found: dict[int, RecordsInTime] = {}
    rows = db.execute(
        "SELECT record_write.kind, person, token, type_id, object_id, object, time_us, attributes"
        f" FROM {_record_writes(known)} LEFT JOIN object USING (object) WHERE {chosen}{told_by(known)} ORDER BY seq",
        parameters,
    ).fetchall()
    related: dict[int, set[int]] = {}
    for kind, person, token, type_id, object_id, number, time_us, text in rows:
        attributes = None if text is None else _decode(text)
        records = found.setdefault(person, RecordsInTime(devices=[], relations=[], objects=[]))
        if kind == "device":
            records.devices.append((token, time_us, attributes))
        else:
            records.relations.append((type_id, object_id, time_us, attributes))
            related.setdefault(number, set()).add(person)
    for number, those in related.items():
        writes = _object_writes(db, number, known)
        for person in those:
            found[person].objects += writes
    return found


def _object_writes(db: sqlite3.Connection, number: int, known: Knowledge | None) -> list[ObjectWrite]:
    rows = db.execute(
        f"SELECT type_id, object_id, time_us, attributes FROM {_record_writes(known)} JOIN object USING (object)"
        f" WHERE object = ? AND kind = 'object'{told_by(known)} ORDER BY seq",
        (number,),
    )
    return [(row[0], row[1], row[2], None if row[3] is None else _decode(row[3])) for row in rows]
