"""Objects, relationships and manual members when an import does not count, or counts again.

Some writes at a time leave history or come back, each step with what follows from it for records, leaves and
memberships, so that every commit is true in itself. Nothing starts by it. Source: design section 10.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from backstory.core.leaf_key import LeafKey
from backstory.core.record import NEVER_US, Record, remove
from backstory.core.record_time import fold
from backstory.engine.segment.membership_log import note_transitions

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace
    from backstory.store.retraction import Retraction

WRITES_AT_ONCE = 100
_EVER_US = 1 << 62
_MADE = "SELECT type_id FROM record_write JOIN object USING (object) WHERE kind = 'object' AND attributes IS NOT NULL"


def turn_records(workspace: Workspace, one: Retraction) -> None:
    """Have an import's objects, relationships and members leave, or come back; what is done already is left."""
    while workspace.call(lambda: _turn_writes(workspace, one)):
        pass
    while workspace.call(lambda: _turn_members(workspace, one)):
        pass


def record_counts(workspace: Workspace, import_id: int, *, counting: bool) -> tuple[int, int]:
    """How many writes to objects and relationships, and how many placements in manual segments, an import has."""
    tables = ("record_write", "placement") if counting else ("retracted_write", "retracted_placement")
    writes, members = (
        workspace.folder.state.rows(f"SELECT count(*) FROM {table} WHERE import_id = ?", (import_id,))[0][0]
        for table in tables
    )
    return writes, members


def forget_import(workspace: Workspace, import_id: int) -> None:
    """On the loop: an import that was taken back is purged, with objects that nothing tells of any more."""
    db = workspace.folder.state.db
    numbers = db.execute(
        "SELECT DISTINCT object FROM retracted_write WHERE import_id = ? AND object IS NOT NULL", (import_id,)
    ).fetchall()
    for table in ("retracted_write", "retracted_placement", "activity"):
        db.execute(f"DELETE FROM {table} WHERE import_id = ?", (import_id,))
    told = " AND ".join(
        f"NOT EXISTS (SELECT 1 FROM {table} WHERE {table}.object = object.object)"
        for table in ("record_write", "retracted_write", "relationship", "anonymous_relationship", "unrelated")
    )
    db.executemany(f"DELETE FROM object WHERE object = ? AND gone_us = {NEVER_US} AND {told}", numbers)


# -- on the loop ------------------------------------------------------------------------------------------------------


def _turn_writes(workspace: Workspace, one: Retraction) -> int:
    """Returns how many writes went or came."""
    folder = workspace.folder
    rows = folder.record_writes.turn(one.import_id, WRITES_AT_ONCE, back=one.returning)
    touched: dict[int, set[int]] = defaultdict(set)
    for number in dict.fromkeys(number for kind, _, number in rows if kind == "object"):
        _fold_object(workspace, number)
        for person in folder.relations.people_of(number):
            touched[person].add(folder.objects.get(number).type_id)
    for person, number in dict.fromkeys((person, number) for kind, person, number in rows if kind == "relationship"):
        assert person is not None
        if person in workspace.segments.alive:
            _fold_relation(workspace, person, number)
            touched[person].add(folder.objects.get(number).type_id)
    for person, types in touched.items():
        _judge(workspace, person, types)
    _set_types(workspace)
    return len(rows)


def _fold_object(workspace: Workspace, number: int) -> None:
    folder = workspace.folder
    folder.objects.set_record(number, fold(folder.record_writes.of_object(number), _EVER_US))


def _fold_relation(workspace: Workspace, person: int, number: int) -> None:
    folder = workspace.folder
    _end_as_told(workspace, person, number)
    record = fold(folder.record_writes.of_relation(person, number), _EVER_US)
    remove(record, folder.objects.get(number).record.gone_us)
    if record == Record():
        folder.relations.forget(person, number)
    else:
        folder.relations.put(person, number, record)


def _end_as_told(workspace: Workspace, person: int, number: int) -> None:
    """A relationship that somebody ended while its person was gone is ended."""
    folder = workspace.folder
    told = [folder.relations.unrelated_us(name, number) for name in folder.people.profile(person).names()]
    gone_us = max(told, default=NEVER_US)
    if gone_us > fold(folder.record_writes.of_relation(person, number), _EVER_US).gone_us:
        folder.record_writes.add(
            folder.state.take_seq(), "relationship", time_us=gone_us, accept_us=folder.state.now_us, attributes=None,
            person=person, object=number,
        )  # fmt: skip


def _judge(workspace: Workspace, person: int, types: set[int]) -> None:
    """Somebody's relationships are others."""
    feed, segments, now_us = workspace.applier.record_feed, workspace.segments, workspace.folder.state.now_us
    keys: set[LeafKey] = set()
    for type_id in types:
        keys |= feed.relations(person, type_id, now_us)
    note_transitions(workspace.context, segments.settle(person, keys, now_us))


def _set_types(workspace: Workspace) -> None:
    """A type is there from the first object of it on that counts."""
    folder = workspace.folder
    db = folder.state.db
    db.execute(f"DELETE FROM object_type WHERE type_id NOT IN ({_MADE})")
    db.execute(f"INSERT OR IGNORE INTO object_type SELECT DISTINCT type_id, ? FROM ({_MADE})", (folder.state.now_us,))


def _turn_members(workspace: Workspace, one: Retraction) -> int:
    folder, segments = workspace.folder, workspace.segments
    rows = folder.definitions.turn(one.import_id, WRITES_AT_ONCE, back=one.returning)
    for segment_id, person, member in rows:
        if person in segments.alive:
            folder.definitions.set_member(segment_id, person, member)
            moved = segments.place(segment_id, person, member, folder.state.now_us)
            note_transitions(workspace.context, moved)
    return len(rows)
