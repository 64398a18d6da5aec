"""Objects and relationships as the edge shows them; every function reads inside one snapshot of the state."""

import sqlite3

from backstory.core.comparison import where_holds
from backstory.core.condition import Where
from backstory.core.fact import ObjectKey
from backstory.core.object import asked_object
from backstory.core.person import times_us, values
from backstory.core.record import Record
from backstory.engine.view import Identifiers, ObjectView, RelationView
from backstory.store.object import ObjectRow, cio_object_id_of, find_object, object_row
from backstory.store.people import cio_id_of
from backstory.store.relation import read_relations

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
    return _view(row) if row is not None and row.record.there else None


def objects_where(
    db: sqlite3.Connection, type_id: int, where: Where, first: int, limit: int, now_us: int
) -> tuple[list[ObjectView], str]:
    """A page of the objects of a type that pass; the cursor is the number of the next."""
    found: list[ObjectRow] = []
    for raw in db.execute(_OBJECTS, (type_id, first)):
        row = object_row(raw)
        if where_holds(where, asked_object(row.object_id, row.record, Record()), now_us):
            found.append(row)
            if len(found) > limit:
                break
    return [_view(row) for row in found[:limit]], str(found[limit].number) if len(found) > limit else ""


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
        )
        for row, record in related[:limit]
    ]
    return views, str(related[limit][0].number) if len(related) > limit else ""


def _view(row: ObjectRow) -> ObjectView:
    return ObjectView(
        type_id=row.type_id,
        object_id=row.object_id,
        cio_object_id=cio_object_id_of(row.number),
        attributes=values(row.record.document),
        times_us=times_us(row.record.document),
    )
