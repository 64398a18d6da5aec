"""One person's whole history as it is stored, parts and tail together, with where each piece came from."""

import sqlite3
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import msgspec

from backstory.core.condition import Json
from backstory.core.metric import MESSAGE
from backstory.core.record_time import RecordsInTime
from backstory.core.timeline import Life, Occurrence, Writing
from backstory.store.database import among
from backstory.store.definition import placements_of
from backstory.store.folder import Folder
from backstory.store.knowledge import Knowledge, parts_for, told_by
from backstory.store.ledger import MESSAGES, message_events
from backstory.store.manifest import Part
from backstory.store.people import cio_id_of, people_known
from backstory.store.record import read_records
from backstory.store.write_block import table_of_writes

_EVENT = "kind, name, time_us, data, event_id, import_id"
_WRITE = "time_us, attributes, import_id"
_decode = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True)
class _Stored:
    """What one transaction of ``state.db`` says of a person."""

    person: tuple[Any, ...] | None
    since_us: list[int]
    events: list[Any]
    writes: list[Any]
    messages: list[Any]
    records: RecordsInTime
    placements: list[tuple[int, int, bool]]
    parts: list[Part]


def read_life(folder: Folder, person: int, *, present_us: int | None, known: Knowledge | None = None) -> Life | None:
    """None when there is no such person, or nothing of them was ``known``.

    With ``present_us`` what was written a little ahead of it shows already, as it does in what is live now.
    Raises ``StorageError`` when a part cannot be read.
    """
    with folder.history.reading():
        return _read_life(folder, person, present_us, known)


def _read_life(folder: Folder, person: int, present_us: int | None, known: Knowledge | None) -> Life | None:
    tail = folder.tail
    seqs, written = tail.person_seqs(person), tail.write_seqs(person)
    # Asked again inside: rows that came out of a block in between are in the table, and no longer there.
    stored = folder.state.read(lambda db: _read(db, person, seqs, lambda: {*written, *tail.write_seqs(person)}, known))
    if stored.person is None:
        return None
    events, writes = list(stored.events), list(stored.writes)
    for kind, columns, rows in (("event", _EVENT, events), ("write", _WRITE, writes)):
        files = folder.history.files(stored.parts, kind)
        counting = " AND NOT duplicate" if kind == "event" else ""
        if files:
            sql = f"SELECT {columns} FROM read_parquet($1) WHERE person = $2{told_by(known)}{counting}"
            rows += folder.history.rows(sql, files, (person,))
    occurrences = [
        Occurrence(kind=row[0], name=row[1], time_us=row[2], data=_decode(row[3]), event_id=row[4], import_id=row[5])
        for row in events
    ]
    return _life(stored, occurrences, [_writing(row, present_us) for row in writes], known)


def _read(
    db: sqlite3.Connection,
    person: int,
    seqs: list[int],
    written: Callable[[], Collection[int]],
    known: Knowledge | None,
) -> _Stored:
    found = "SELECT person, id, email, phone, min(created_us, accept_us) FROM person WHERE person = ?"
    # From here on the transaction sees what was committed by now.
    own = db.execute(found, (person,)).fetchone()
    return _Stored(
        person=own,
        since_us=[] if known is None else [row[1] for row in people_known(db, known, person)],
        events=db.execute(
            f"SELECT {_EVENT} FROM event WHERE {among(seqs)} AND NOT duplicate{told_by(known)}"
        ).fetchall(),
        writes=db.execute(
            f"SELECT {_WRITE} FROM {table_of_writes(db, (person,), written())} WHERE person = ?{told_by(known)}",
            (person,),
        ).fetchall(),
        messages=db.execute(f"{MESSAGES} WHERE person = ?", (person,)).fetchall(),
        records=read_records(db, [person], known=known).get(person, RecordsInTime()),
        placements=placements_of(db, person, known),
        parts=parts_for(db, known),
    )


def _writing(row: tuple[Any, ...], present_us: int | None) -> Writing:
    time_us = row[0]
    shown_us = time_us if present_us is None else min(time_us, present_us)
    return Writing(time_us=time_us, shown_us=shown_us, attributes=_decode(row[1]), import_id=row[2])


def _life(
    stored: _Stored, occurrences: list[Occurrence], writings: list[Writing], known: Knowledge | None
) -> Life | None:
    assert stored.person is not None
    number, own_id, email, phone, since_us = stored.person
    times = [one.time_us for one in occurrences] + [one.time_us for one in writings]
    times += stored.records.told_us()
    # What made the person older may have been told later.
    times += [since_us] if known is None else stored.since_us
    if not times:
        return None
    identifiers: dict[str, Json] = {"cio_id": cio_id_of(number)}
    named = (("id", own_id), ("email", email), ("phone", phone))
    identifiers |= {name: value for name, value in named if value is not None}
    messages = [
        Occurrence(kind=MESSAGE, name=name, time_us=time_us, data=data, event_id=str(data["delivery_id"]))
        for row in stored.messages
        for _, name, time_us, data in message_events(row)
        if known is None or time_us <= known.at_us
    ]
    return Life(
        person=number,
        identifiers=identifiers,
        known_us=min(times),
        occurrences=occurrences + messages,
        writings=writings,
        records=stored.records,
        placements=stored.placements,
    )
