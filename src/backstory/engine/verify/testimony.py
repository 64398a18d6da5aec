"""Stored history as the oracle wants it: whole people, a stretch of their numbers at a time.

Everything in ``state.db`` is read in one short transaction, parts beside it; both are as of the same commit.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from backstory.core.condition import Json
from backstory.core.metric import MESSAGE
from backstory.core.oracle import PersonHistory
from backstory.core.record_time import RecordsInTime
from backstory.core.wildcard import is_wildcard, name_matches
from backstory.store.folder import Folder
from backstory.store.history import COUNTED, NO_END_SEQ
from backstory.store.ledger import MESSAGES, message_events
from backstory.store.manifest import Part, read_parts
from backstory.store.people import cio_id_of
from backstory.store.record import read_records
from backstory.store.write_block import table_of_writes

# How many numbers of people at a time: their events fit into memory.
PEOPLE_AT_ONCE = 5000

_PERSON = (
    "SELECT person, id, email, min(created_us, accept_us), import_id, document, phone FROM person"
    " WHERE person >= ? AND person < ?"
)
_TAIL_EVENTS = (
    "SELECT person, kind, name, time_us, data FROM event WHERE person >= ? AND person < ? AND seq <= ?"
    " AND NOT duplicate AND ({})"
)
_TAIL_EARLIEST = (
    "SELECT person, min(time_us) FROM event WHERE person >= ? AND person < ? AND seq <= ? AND NOT duplicate"
    " GROUP BY person"
)
_TAIL_WRITES = "SELECT person, time_us, attributes, seq > ? FROM {} WHERE person >= ? AND person < ?"
_TAIL_LATER = "SELECT DISTINCT person FROM event WHERE person >= ? AND person < ? AND seq > ?"
_RECORDS_LATER = "SELECT DISTINCT person FROM record_write WHERE person >= ? AND person < ? AND seq > ?"
_OBJECTS_LATER = (
    "SELECT DISTINCT related.person FROM record_write AS related JOIN record_write AS written USING (object)"
    " WHERE related.person >= ? AND related.person < ? AND written.kind = 'object' AND written.seq > ?"
)
_PART_EVENTS = (
    "SELECT person, kind, name, time_us, data FROM read_parquet($1) WHERE person >= $2 AND person < $3"
    f" AND NOT duplicate AND ($4 OR list_contains($5, name)) AND {COUNTED}"
)
_PART_EARLIEST = (
    "SELECT person, min(time_us) FROM read_parquet($1) WHERE person >= $2 AND person < $3 AND NOT duplicate"
    f" AND {COUNTED} GROUP BY person"
)
_PART_WRITES = (
    "SELECT person, time_us, attributes FROM read_parquet($1) WHERE person >= $2 AND person < $3"
    f" AND {COUNTED}"
)
_PART_PEOPLE = (
    f"SELECT DISTINCT person FROM read_parquet($1) WHERE person >= $2 AND person < $3 AND {COUNTED}"
)

_decode = msgspec.json.Decoder(dict[str, Any]).decode

Names = frozenset[tuple[str, str]]
Write = tuple[int, dict[str, Json]]


@dataclass(slots=True, kw_only=True)
class Witness:
    """A stored person with the history behind them, up to some seq.

    ``writes`` are those up to it, ``late`` those after. ``known_us`` is the earliest time of all that counts;
    ``facts`` whether anything does; ``touched`` whether facts came after the seq.
    """

    person: int
    id: str | None
    email: str | None
    phone: str | None
    import_id: int
    document: bytes
    known_us: int
    facts: bool = False
    touched: bool = False
    events: list[tuple[str, str, int, dict[str, Json]]] = field(default_factory=list[Any])
    writes: list[Write] = field(default_factory=list[Any])
    late: list[Write] = field(default_factory=list[Any])
    records: RecordsInTime = field(default_factory=RecordsInTime)

    @property
    def cio_id(self) -> str:
        return cio_id_of(self.person)

    def history(self, writes: list[Write]) -> PersonHistory:
        """What the oracle judges, with these writes."""
        identifiers = {"cio_id": self.cio_id}
        if self.id is not None:
            identifiers["id"] = self.id
        if self.email is not None:
            identifiers["email"] = self.email
        if self.phone is not None:
            identifiers["phone"] = self.phone
        return PersonHistory(
            person=self.person,
            identifiers=identifiers,
            events=self.events,
            writes=writes,
            exists_since_us=self.known_us,
            devices=self.records.devices,
            relations=self.records.relations,
            objects=self.records.objects,
        )

    def fact_at(self, time_us: int) -> None:
        self.facts = True
        self.known_us = min(self.known_us, time_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What one transaction of ``state.db`` says about the people from ``low`` to ``high``, and the parts there were."""

    low: int
    high: int
    names: Names
    people: list[Any]
    events: list[Any]
    earliest: list[Any]
    writes: list[Any]
    later: list[Any]
    parts: list[Part]
    until_seq: int
    messages: list[Any]
    records: dict[int, RecordsInTime]


def witnesses(folder: Folder, names: Names, *, until_seq: int, stop: int) -> Iterator[list[Witness]]:
    """All people below ``stop`` in stretches, with their events of these (kind, name).

    Raises ``StorageError`` when a part cannot be read, ``msgspec.DecodeError`` when a stored text is no JSON.
    """
    for low in range(0, stop, PEOPLE_AT_ONCE):
        high = min(low + PEOPLE_AT_ONCE, stop)
        with folder.history.reading():
            stored = folder.state.read(lambda db: read_stored(db, names, low, high, until_seq=until_seq))  # noqa: B023
            people = assemble(folder, stored)
        yield people


def read_stored(db: sqlite3.Connection, names: Names, low: int, high: int, *, until_seq: int) -> Stored:
    """Inside a transaction: the half of the history that is in ``state.db``, and which parts have the other."""
    parts = read_parts(db)
    asked, every = _asked(names)
    chosen = "1" if every else f"name IN ({', '.join('?' * len(asked))})"
    return Stored(
        low=low,
        high=high,
        names=names,
        people=db.execute(_PERSON, (low, high)).fetchall(),
        events=db.execute(_TAIL_EVENTS.format(chosen), (low, high, until_seq, *(() if every else asked))).fetchall(),
        earliest=db.execute(_TAIL_EARLIEST, (low, high, until_seq)).fetchall(),
        writes=db.execute(
            _TAIL_WRITES.format(table_of_writes(db, range(low, high))), (until_seq, low, high)
        ).fetchall(),
        later=[
            *db.execute(_TAIL_LATER, (low, high, until_seq)),
            *db.execute(_RECORDS_LATER, (low, high, until_seq)),
            *db.execute(_OBJECTS_LATER, (low, high, until_seq)),
        ],
        parts=parts,
        until_seq=until_seq,
        messages=db.execute(f"{MESSAGES} WHERE person >= ? AND person < ?", (low, high)).fetchall()
        if any(kind == MESSAGE for kind, _ in names)
        else [],
        records=read_records(db, span=(low, high)),
    )


def assemble(folder: Folder, stored: Stored) -> list[Witness]:
    """Parts and tail together, person by person; in the same reading of history as ``read_stored``."""
    people = {
        row[0]: Witness(
            person=row[0], id=row[1], email=row[2], known_us=row[3], import_id=row[4], document=row[5],
            phone=row[6],
        )
        for row in stored.people
    }
    asked, every = _asked(stored.names)
    wanted = _Wanted(stored.names)
    events = stored.events + _in_parts(folder, stored, "event", _PART_EVENTS, every, asked)
    for person, kind, name, time_us, data in events:
        if person in people and wanted[kind, name]:
            people[person].events.append((kind, name, time_us, _decode(data)))
    for row in stored.messages:
        if row[0] in people:
            people[row[0]].events += message_events(row)
    for person, records in stored.records.items():
        if person in people:
            people[person].records = records
            for time_us in records.told_us():
                people[person].fact_at(time_us)
    for person, time_us in stored.earliest + _in_parts(folder, stored, "event", _PART_EARLIEST):
        if person in people:
            people[person].fact_at(time_us)
    _add_writes(folder, stored, people)
    for (person,) in [*stored.later, *_in_parts(folder, stored, "event", _PART_PEOPLE, late=True)]:
        if person in people:
            people[person].touched = True
    return list(people.values())


def _add_writes(folder: Folder, stored: Stored, people: dict[int, Witness]) -> None:
    rows = list(stored.writes)
    for late in (False, True):
        rows += [(*row, late) for row in _in_parts(folder, stored, "write", _PART_WRITES, late=late)]
    for person, time_us, attributes, late in rows:
        witness = people.get(person)
        if witness is None:
            continue
        if late:
            witness.late.append((time_us, _decode(attributes)))
            witness.touched = True
        else:
            witness.writes.append((time_us, _decode(attributes)))
            witness.fact_at(time_us)


def _in_parts(
    folder: Folder, stored: Stored, kind: str, sql: str, *parameters: object, late: bool = False
) -> list[Any]:
    """Rows in parts, of those up to the seq asked for or of the ``late`` ones after it."""
    seqs = (stored.until_seq, NO_END_SEQ) if late else (0, stored.until_seq)
    history = folder.history
    found = history.between(history.rows, sql, stored.parts, kind, seqs, (stored.low, stored.high, *parameters))
    return [row for rows in found for row in rows]


def _asked(names: Names) -> tuple[list[str], bool]:
    """The names to ask for, and whether all have to be read because some hold wildcards."""
    asked = {name for kind, name in names if kind != MESSAGE}
    return sorted(asked), any(map(is_wildcard, asked))


class _Wanted(dict[tuple[str, str], bool]):
    """Is a (kind, name) asked for? Each is judged once."""

    def __init__(self, names: Names) -> None:
        super().__init__()
        self._names = names

    def __missing__(self, key: tuple[str, str]) -> bool:
        kind, name = key
        self[key] = any(kind == one and name_matches(pattern, name) for one, pattern in self._names)
        return self[key]
