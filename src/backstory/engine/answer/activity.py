"""The activity log: events and traces of one person or of all, newest first, from the tail and from parts.

Ids are ULIDs made of the accept time and the sequence number. The cursor is the effective time and the sequence
number of the last entry shown. Source: design section 7, semantics section 8.
"""

import re
import sqlite3
from dataclasses import dataclass
from typing import Any

import msgspec

from backstory.core.condition import Json
from backstory.core.error import NotFoundError, RequestError
from backstory.core.fact import Identifier, IdentifierKind
from backstory.core.identity import normal
from backstory.core.time import DAY_US
from backstory.core.trace import ATTRIBUTE_CHANGE, DUPLICATE_EVENT, EVENT_KINDS, PROFILE_CREATE, SKIPPED_UPDATE
from backstory.engine.answer.repeat_log import repeats
from backstory.engine.answer.view import ActivityView, Identifiers
from backstory.store.database import among
from backstory.store.folder import Folder
from backstory.store.manifest import Part, read_parts
from backstory.store.people import COLUMN_OF, cio_id_of, person_of
from backstory.store.write_block import table_of_writes

SHOWN_US = 30 * DAY_US
# As many digits as a number of 64 bits can have in any case.
_CURSOR = re.compile(r"(-?[0-9]{1,18})-([0-9]{1,18})")
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_decode = msgspec.json.Decoder().decode
_pieces = msgspec.json.Decoder(list[msgspec.Raw]).decode
# time_us, seq, accept_us, person, type, name, data, delivery_id, import_id
Row = tuple[int, int, int, int | None, str, str | None, str, str | None, int]

_TAIL_EVENTS = (
    "SELECT time_us, seq, accept_us, person, kind, name, data, NULL, import_id FROM event"
    " WHERE {who} AND time_us > ?2 AND (time_us, seq) < (?3, ?4)"
    " AND (?5 IS NULL OR kind = ?5) AND (?6 IS NULL OR name = ?6) AND NOT duplicate"
    " ORDER BY time_us DESC, seq DESC LIMIT ?7"
)
_TAIL_TRACES = (
    "SELECT time_us, seq, accept_us, person, type, NULL, data, delivery_id, import_id FROM activity"
    " WHERE {who} AND time_us > ?2 AND (time_us, seq) < (?3, ?4)"
    " AND (?5 IS NULL OR type = ?5) AND ?6 IS NULL"
    # What an import left that was taken back.
    " AND import_id NOT IN (SELECT import_id FROM retraction WHERE NOT back)"
    " ORDER BY time_us DESC, seq DESC LIMIT ?7"
)
_TAIL_WRITES = (
    "SELECT time_us, seq, accept_us, person, created, attributes, changes, import_id FROM {table}"
    " WHERE import_id > 0 AND {shown} AND (?1 IS NULL OR person = ?1) AND time_us > ?2 AND (time_us, seq) <= (?3, ?4)"
    " ORDER BY time_us DESC, seq DESC LIMIT ?5"
)
_ANONYMOUS = (
    "SELECT time_us, seq, NULL, NULL, kind, name, data, NULL, 0 FROM anonymous_event"
    " WHERE ?1 IS NULL AND time_us > ?2 AND (time_us, seq) < (?3, ?4)"
    " AND (?5 IS NULL OR kind = ?5) AND (?6 IS NULL OR name = ?6)"
    " ORDER BY time_us DESC, seq DESC LIMIT ?7"
)
_PART_EVENTS = (
    "SELECT time_us, seq, accept_us, person, kind, name, data, NULL, import_id FROM read_parquet($1)"
    " WHERE ($2 IS NULL OR person = $2) AND time_us > $3 AND (time_us < $4 OR (time_us = $4 AND seq < $5))"
    " AND ($6 IS NULL OR kind = $6) AND ($7 IS NULL OR name = $7) AND NOT duplicate"
    " ORDER BY time_us DESC, seq DESC LIMIT $8"
)
# How old the last entry of a page of everybody's log is: told by few columns, where the page itself needs all.
_PART_FLOOR = (
    "SELECT min(time_us) FROM (SELECT time_us FROM read_parquet($1)"
    " WHERE time_us > $2 AND time_us <= $3 AND ($4 IS NULL OR kind = $4) AND ($5 IS NULL OR name = $5)"
    " AND NOT duplicate ORDER BY time_us DESC LIMIT $6)"
)
_PART_WRITES = (
    "SELECT time_us, seq, accept_us, person, created, attributes, changes, import_id FROM read_parquet($1)"
    " WHERE import_id > 0 AND {shown} AND ($2 IS NULL OR person = $2) AND time_us > $3"
    " AND (time_us < $4 OR (time_us = $4 AND seq <= $5))"
    " ORDER BY time_us DESC, seq DESC LIMIT $6"
)
# Which imported writes leave a trace of a type: those that do not must not use up a page.
_SHOWN = {
    None: "(created OR changes IS NULL OR changes <> '{}')",
    PROFILE_CREATE: "created",
    SKIPPED_UPDATE: "changes LIKE '[%'",
    ATTRIBUTE_CHANGE: "(changes IS NULL OR (changes <> '{}' AND changes NOT LIKE '[{},%'))",
}
# The same without some people who are gone.
_PART_EVENTS_BUT = _PART_EVENTS.replace(" ORDER BY", " AND person NOT IN (SELECT unnest($9)) ORDER BY")
_PART_FLOOR_BUT = _PART_FLOOR.replace(" ORDER BY", " AND person NOT IN (SELECT unnest($7)) ORDER BY")
_PART_WRITES_BUT = _PART_WRITES.replace(" ORDER BY", " AND person NOT IN (SELECT unnest($7)) ORDER BY")


def activities(
    folder: Folder,
    kind: IdentifierKind | None,
    value: str | None,
    *,
    types: str | None,
    name: str | None,
    deleted: bool,
    before: str | None,
    limit: int,
    everything: bool,
    now_us: int,
) -> tuple[list[ActivityView], str]:
    """A page of the log and the cursor of the next. Raises ``NotFoundError`` for an unknown person."""
    person = None if kind is None or value is None else _person(folder, kind, value, deleted=deleted)
    low_us = -(1 << 62) if everything else now_us - SHOWN_US
    time_us, seq = _cursor(before)
    bounds = (person, low_us, time_us, seq, types, name, limit + 1)
    with folder.history.reading():
        seqs = None if person is None else folder.tail.person_seqs(person)
        writes = None if person is None else _WriteSeqs(folder, person)
        stored = folder.state.read(lambda db: _stored(db, bounds, seqs, writes))
        rows = stored.rows + _from_parts(folder, stored, bounds)
        if types == DUPLICATE_EVENT:
            rows += repeats(folder, bounds, [*stored.survivor, *stored.suppressed])
    rows.sort(key=lambda row: (row[0], row[1]), reverse=True)
    page = rows[:limit]
    people = _identifiers(folder, {row[3] for row in page if row[3] is not None})
    after = f"{page[-1][0]}-{page[-1][1]}" if len(rows) > limit else ""
    return [_view(row, people) for row in page], after


@dataclass(frozen=True, slots=True)
class _Stored:
    """What one transaction says: the parts there are, the tail's rows, its imported writes, and who is gone.

    Their rows in parts stay: a merged person's events were written again as the survivor's, and of their writes the
    log is the survivor's; the suppressed are not shown at all.
    """

    parts: list[Part]
    rows: list[Row]
    writes: list[Any]
    survivor: dict[int, int]
    suppressed: list[int]

    def merged_into(self, person: int | None) -> list[int]:
        return [one for one, survivor in self.survivor.items() if survivor == person]


class _WriteSeqs:
    """Where the tail has the writes of somebody and of those merged into them: asked before the reading, and in it."""

    def __init__(self, folder: Folder, person: int) -> None:
        self._tail = folder.tail
        merged = folder.state.rows("SELECT person FROM deleted WHERE survivor = ?", (person,))
        self._before = {one: self._tail.write_seqs(one) for one in (person, *(row[0] for row in merged))}

    def of(self, person: int) -> set[int] | None:
        """Inside the transaction; None: they may be anywhere, as the person was merged since."""
        before = self._before.get(person)
        # Rows that came out of a block in between are in the table, and no longer there.
        return None if before is None else {*before, *self._tail.write_seqs(person)}


def _stored(
    db: sqlite3.Connection, bounds: tuple[Any, ...], seqs: list[int] | None, writes: _WriteSeqs | None
) -> _Stored:
    """Inside one transaction; ``seqs`` are those of the person's events in the tail, None: everybody's.

    ``writes`` has the same of the person's writes.
    """
    person, low_us, time_us, seq, types, name, limit = bounds
    # Of one person by what is indexed: there may be millions of traces.
    of_events, of_traces = ("?1 IS NULL",) * 2 if seqs is None else (f"{among(seqs)} AND ?1 IS NOT NULL", "person = ?1")
    rows: list[Row] = []
    for query in (_TAIL_EVENTS.format(who=of_events), _TAIL_TRACES.format(who=of_traces), _ANONYMOUS):
        rows += db.execute(query, bounds).fetchall()
    # Of one person only who has to do with them: there may be a great many who are gone.
    whose = "" if seqs is None else " AND (survivor = ?1 OR person = ?1)"
    who = bounds[: 0 if seqs is None else 1]
    found = f"SELECT person, survivor, suppressed FROM deleted WHERE (survivor IS NOT NULL OR suppressed){whose}"
    gone = db.execute(found, who).fetchall()
    stored = _Stored(
        read_parts(db),
        rows,
        [],
        {row[0]: row[1] for row in gone if row[1] is not None},
        [row[0] for row in gone if row[2]],
    )
    if name is None and types in _SHOWN:
        for one in (person, *stored.merged_into(person)):
            # One more: the first may be the write whose last trace was on the page before.
            asked = (one, low_us, time_us, seq, limit + 1)
            table = table_of_writes(db) if writes is None else table_of_writes(db, (one,), writes.of(one))
            stored.writes.extend(db.execute(_TAIL_WRITES.format(shown=_SHOWN[types], table=table), asked).fetchall())
    return stored


def _from_parts(folder: Folder, stored: _Stored, bounds: tuple[Any, ...]) -> list[Row]:
    """Events in parts, and the traces of imported writes, wherever they are."""
    person, low_us, time_us, seq, types, name, limit = bounds
    parts = [part for part in stored.parts if part.high_us > low_us and part.low_us <= time_us]
    rows: list[Row] = []
    files = folder.history.files(parts, "event")
    if files and (types is None or types in EVENT_KINDS):
        gone = [*stored.survivor, *stored.suppressed]
        floor_us = low_us if person is not None else _floor_us(folder, files, bounds, gone)
        asked = (person, floor_us, time_us, seq, types, name, limit, *([gone] if gone else []))
        rows += folder.history.rows(_PART_EVENTS_BUT if gone else _PART_EVENTS, files, asked)
    if name is None and types in _SHOWN:
        writes = stored.writes + _writes_in_parts(folder, stored, folder.history.files(parts, "write"), bounds)
        for row in writes:
            shown = (*row[:3], stored.survivor.get(row[3], row[3]), *row[4:])
            traces = (trace for trace in _write_traces(shown) if types in (None, trace[4]))
            rows += [trace for trace in traces if (trace[0], trace[1]) < (time_us, seq)]
    return rows


def _floor_us(folder: Folder, files: list[str], bounds: tuple[Any, ...], gone: list[int]) -> int:
    """A time after which a page of everybody's events lies. Those of the cursor's own moment may be left out of it."""
    _, low_us, time_us, seq, types, name, limit = bounds
    before_us = time_us - 1 if seq < 1 << 62 else time_us
    asked = (low_us, before_us, types, name, limit, *([gone] if gone else []))
    found = folder.history.rows(_PART_FLOOR_BUT if gone else _PART_FLOOR, files, asked)[0][0]
    return low_us if found is None else max(low_us, found - 1)


def _writes_in_parts(folder: Folder, stored: _Stored, files: list[str], bounds: tuple[Any, ...]) -> list[Any]:
    person, low_us, time_us, seq, types, _, limit = bounds
    rows: list[Any] = []
    if files:
        sql = (_PART_WRITES_BUT if stored.suppressed else _PART_WRITES).format(shown=_SHOWN[types])
        for one in (person, *stored.merged_into(person)):
            asked = (one, low_us, time_us, seq, limit + 1, *([stored.suppressed] if stored.suppressed else []))
            rows += folder.history.rows(sql, files, asked)
    return rows


def _write_traces(row: tuple[Any, ...]) -> list[Row]:
    """An imported row as the traces an identify call leaves; the import reserves two numbers for each row."""
    time_us, seq, accept_us, person, created, attributes, changes, import_id = row
    traces: list[Row] = []
    if changes is None:
        sent: dict[str, Json] = _decode(attributes)
        changed = {name: {"from": "", "to": value} for name, value in sent.items() if value not in (None, "")}
        changes = msgspec.json.encode(changed).decode()
    elif changes.startswith("["):
        made, lost = _pieces(changes)
        changes = bytes(made).decode()
        less = bytes(lost).decode()
        traces.append((time_us, seq - 1, accept_us, person, SKIPPED_UPDATE, None, less, None, import_id))
    if changes != "{}":
        traces.append((time_us, seq, accept_us, person, ATTRIBUTE_CHANGE, None, changes, None, import_id))
    if created:
        traces.append((time_us, seq - 1, accept_us, person, PROFILE_CREATE, None, "{}", None, import_id))
    return traces


def _person(folder: Folder, kind: IdentifierKind, value: str, *, deleted: bool) -> int:
    identifier = normal(Identifier(kind, value))
    number = _find(folder, identifier, deleted=deleted)
    if number is None:
        raise NotFoundError(f"there is no {'deleted ' if deleted else ''}person with {kind} {value!r}")
    return number


def _find(folder: Folder, identifier: Identifier, *, deleted: bool) -> int | None:
    if deleted:
        rows = folder.state.rows(
            "SELECT person FROM tombstone WHERE kind = ? AND value = ? ORDER BY deleted_us DESC LIMIT 1",
            (identifier.kind, identifier.value),
        )
    elif identifier.kind == "cio_id":
        number = person_of(identifier.value)
        rows = [] if number is None else folder.state.rows("SELECT person FROM person WHERE person = ?", (number,))
    else:
        column = COLUMN_OF[identifier.kind]
        rows = folder.state.rows(f"SELECT person FROM person WHERE {column} = ?", (identifier.value,))
    return rows[0][0] if rows else None


def _cursor(before: str | None) -> tuple[int, int]:
    if not before:
        return 1 << 62, 1 << 62
    found = _CURSOR.fullmatch(before)
    if found is None:
        raise RequestError(f"start is {before[:50]!r}; give the value of next of the page before", path="start")
    return int(found[1]), int(found[2])


def _identifiers(folder: Folder, people: set[int]) -> dict[int, Identifiers]:
    found: dict[int, Identifiers] = {}
    for table in ("deleted", "person"):
        for number in people:
            for row in folder.state.rows(f"SELECT id, email FROM {table} WHERE person = ?", (number,)):
                found[number] = {"id": row[0], "email": row[1], "cio_id": cio_id_of(number)}
    return found


def ulid(accept_us: int, seq: int) -> str:
    """26 characters: 48 bits of milliseconds, 80 bits of sequence number."""
    number = ((accept_us // 1000) & ((1 << 48) - 1)) << 80 | seq
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def _view(row: Row, people: dict[int, Identifiers]) -> ActivityView:
    time_us, seq, accept_us, person, kind, name, data, delivery_id, import_id = row
    nobody: Identifiers = {"id": None, "email": None, "cio_id": None}
    return ActivityView(
        id=ulid(accept_us or time_us, seq),
        type=kind,
        time_us=time_us,
        processed_us=accept_us,
        person=person,
        identifiers=nobody if person is None else people.get(person, nobody),
        name=name,
        data=_decode(data),
        delivery_id=delivery_id,
        import_id=import_id,
    )
