"""Events that repeat another one, for the activity log: kept whole, counted nowhere, shown to whoever asks for them.

Of an id it is the first accepted event that counts: an entry says so where a later one says something else
(design section 7).
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import msgspec

from backstory.core.condition import Json
from backstory.core.trace import DUPLICATE_EVENT
from backstory.store.database import among
from backstory.store.manifest import Part, read_parts

if TYPE_CHECKING:
    from backstory.engine.answer.activity import Row
    from backstory.store.folder import Folder

_decode = msgspec.json.Decoder().decode
_COLUMNS = "time_us, seq, accept_us, person, kind, name, data, event_id, key, import_id"
_BETWEEN = "time_us > {low} AND (time_us < {high} OR (time_us = {high} AND seq < {seq}))"
_NAMED = " AND ({name} IS NULL OR name = {name}) ORDER BY time_us DESC, seq DESC LIMIT {limit}"
_IN_TAIL = f"SELECT {_COLUMNS} FROM event WHERE {{who}} AND duplicate AND " + (_BETWEEN + _NAMED).format(
    low="?1", high="?2", seq="?3", name="?4", limit="?5"
)
_IN_PARTS = (
    f"SELECT {_COLUMNS} FROM read_parquet($1) WHERE ($2 IS NULL OR person = $2) AND duplicate"
    " AND person NOT IN (SELECT unnest($3::UINTEGER[])) AND "
) + (_BETWEEN + _NAMED).format(low="$4", high="$5", seq="$6", name="$7", limit="$8")
_WHAT = "SELECT person, key, kind, name, time_us, data FROM "
_FIRST_IN_TAIL = _WHAT + "event WHERE {who} AND NOT duplicate AND key IS NOT NULL"
_FIRST_IN_PARTS = (
    _WHAT + "read_parquet($1) WHERE NOT duplicate AND key IN (SELECT unnest($2)) AND person IN (SELECT unnest($3))"
)


def repeats(folder: Folder, bounds: tuple[Any, ...], gone: list[int]) -> list[Row]:
    """Entries of one person, or of all but those ``gone``; ``bounds`` are those of ``activity.activities``.

    Called while ``folder.history.reading()`` is open.
    """
    person, low_us, time_us, seq, _, name, limit = bounds
    seqs = None if person is None else folder.tail.person_seqs(person)
    who = "true" if seqs is None else among(seqs)
    asked = (low_us, time_us, seq, name, limit)
    parts, rows = folder.state.read(
        lambda db: (read_parts(db), db.execute(_IN_TAIL.format(who=who), asked).fetchall())
    )
    files = folder.history.files([part for part in parts if part.high_us > low_us], "event")
    if files:
        rows += folder.history.rows(_IN_PARTS, files, (person, gone, *asked))
    rows.sort(key=lambda row: (row[0], row[1]), reverse=True)
    firsts = _firsts(folder, [row for row in rows[:limit] if row[7] is not None])
    return [_entry(row, firsts.get((row[3], row[8]))) for row in rows[:limit]]


def _firsts(folder: Folder, rows: list[Any]) -> dict[tuple[int, int], tuple[Any, ...]]:
    """What the events say that count where these repeat an id, by person and key."""
    if not rows:
        return {}
    people, keys = sorted({row[3] for row in rows}), sorted({row[8] for row in rows})
    seqs = sorted({seq for person in people for seq in folder.tail.person_seqs(person)})

    def stored(db: sqlite3.Connection) -> tuple[list[Part], list[Any]]:
        return read_parts(db), db.execute(_FIRST_IN_TAIL.format(who=among(seqs))).fetchall()

    # In all parts that there are by now: an event that counts may be older than what is shown.
    parts, found = folder.state.read(stored)
    if files := folder.history.files(parts, "event"):
        found += folder.history.rows(_FIRST_IN_PARTS, files, (keys, people))
    return {(row[0], row[1]): tuple(row[2:]) for row in found}


def _entry(row: Any, first: tuple[Any, ...] | None) -> Row:
    time_us, seq, accept_us, person, kind, name, data, event_id, _, import_id = row
    # Without a time of its own a call that is sent again has another one, and says the same.
    timed = time_us != accept_us
    told: dict[str, Json] = {"data": _decode(data), "reason": "an equal event was accepted before"}
    if kind != "event":
        told["type"] = kind
    if event_id is not None:
        told["event_id"] = event_id
        if first is not None:
            same = (kind, name, _decode(data)) == (first[0], first[1], _decode(first[3]))
            told["differs"] = not same or (timed and time_us != first[2])
    text = msgspec.json.encode(told).decode()
    return time_us, seq, accept_us, person, DUPLICATE_EVENT, name, text, None, import_id
