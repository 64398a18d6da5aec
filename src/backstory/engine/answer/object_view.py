"""Objects and relationships as the edge shows them; every function reads inside one snapshot of the state."""

import sqlite3
from typing import Any, TypedDict

import msgspec

from backstory.core.comparison import where_holds
from backstory.core.condition import Where
from backstory.core.fact import ObjectKey
from backstory.core.object import asked_object
from backstory.core.person import origins, times_us, values
from backstory.core.record import Record
from backstory.engine.answer.view import Identifiers, ObjectView, RelationView
from backstory.store.object import ObjectRow, cio_object_id_of, find_object, object_row
from backstory.store.people import cio_id_of
from backstory.store.relation import read_relations

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_OBJECTS = (
    "SELECT object, type_id, object_id, created_us, seen_us, gone_us, document FROM object"
    " WHERE type_id = ? AND object >= ? AND seen_us >= gone_us ORDER BY object"
)
_PEOPLE = (
    "SELECT person, id, email FROM relationship JOIN person USING (person) WHERE object = ? AND person >= ?"
    " AND seen_us >= gone_us ORDER BY person LIMIT ?"
)


def read_object(db: sqlite3.Connection, key: ObjectKey) -> ObjectView | None:
    row = find_object(db, key)
    return _view(db, row) if row is not None and row.record.there else None


def objects_where(
    db: sqlite3.Connection, type_id: int, where: Where, first: int, limit: int, now_us: int
) -> tuple[list[ObjectView], str]:
    """A page of the objects of a type that pass; the cursor is the number of the next."""
    found: list[ObjectRow] = []
    for raw in db.execute(_OBJECTS, (type_id, first)):
        row = object_row(raw)
        if row.record.there and where_holds(where, asked_object(row.object_id, row.record, Record()), now_us):
            found.append(row)
            if len(found) > limit:
                break
    return [_view(db, row) for row in found[:limit]], str(found[limit].number) if len(found) > limit else ""


def people_of_object(
    db: sqlite3.Connection, key: ObjectKey, first: int, limit: int
) -> tuple[list[Identifiers], str] | None:
    """A page of the people related to an object; None when there is no such object."""
    row = find_object(db, key)
    if row is None or not row.record.there:
        return None
    rows = db.execute(_PEOPLE, (row.number, first, limit + 1)).fetchall()
    people: list[Identifiers] = [{"id": one[1], "email": one[2], "cio_id": cio_id_of(one[0])} for one in rows[:limit]]
    return people, str(rows[limit][0]) if len(rows) > limit else ""


def relations_of(db: sqlite3.Connection, person: int, first: int, limit: int) -> tuple[list[RelationView], str]:
    """A page of a person's relationships."""
    related = [(row, record) for row, record in read_relations(db, person, None) if row.number >= first]
    views = [
        RelationView(
            type_id=row.type_id,
            object_id=row.object_id,
            cio_object_id=cio_object_id_of(row.number),
            attributes=values(record.document),
            times_us=times_us(record.document),
            **_origins(db, record, "kind = 'relationship' AND person = ? AND object = ?", (person, row.number)),
        )
        for row, record in related[:limit]
    ]
    return views, str(related[limit][0].number) if len(related) > limit else ""


class _Origins(TypedDict):
    imports: dict[str, int]
    import_id: int


def _origins(db: sqlite3.Connection, record: Record, which: str, key: tuple[int, ...]) -> _Origins:
    """Which imports a record and its values came with."""
    rows = db.execute(
        f"SELECT time_us, attributes, import_id FROM record_write WHERE {which} AND attributes IS NOT NULL"
        " AND time_us >= ? ORDER BY seq",
        (*key, record.gone_us),
    )
    writes = [(row[0], _decode(row[1]), row[2]) for row in rows]
    told = [write[2] for write in writes]
    return {"imports": origins(record.document, writes), "import_id": 0 if 0 in told or not told else told[0]}


def _view(db: sqlite3.Connection, row: ObjectRow) -> ObjectView:
    return ObjectView(
        type_id=row.type_id,
        object_id=row.object_id,
        cio_object_id=cio_object_id_of(row.number),
        attributes=values(row.record.document),
        times_us=times_us(row.record.document),
        **_origins(db, row.record, "kind = 'object' AND object = ?", (row.number,)),
    )
