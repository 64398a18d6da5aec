"""People when an import is taken back or comes back: who goes, who loses identifiers, what their values are then.

Everything here is told by what stands: which imports count, who named whom, which writes are in history. So it may be
done again from the start after a crash, and the way back is the same way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from pyroaring import BitMap

from backstory.core.condition import Json
from backstory.core.fact import IdentifierKind
from backstory.core.leaf import AttributeLeaf
from backstory.core.leaf_key import LeafKey
from backstory.core.person import Document, encode_document, folded
from backstory.engine.context import shown_values
from backstory.engine.retract import Retraction
from backstory.store.manifest import read_imports
from backstory.store.people import COLUMN_OF, INSERT_PERSON
from backstory.store.provenance import KINDS, NAMES
from backstory.store.retraction import read_retractions

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

GONE_AT_ONCE = 2000
FOLDED_AT_ONCE = 250
READ_AT_ONCE = 5000
_decode = msgspec.json.Decoder().decode
# Is told what is being done, between steps; may end the work there by raising.
Tell = Callable[[str], None]
Writes = dict[int, list[tuple[int, dict[str, Json]]]]


@dataclass(slots=True)
class Reconciled:
    """How many people went or came, lost or got identifiers, and have other values."""

    gone: int = 0
    returned: int = 0
    renamed: int = 0
    changed: int = 0


@dataclass(frozen=True, slots=True)
class _Standing:
    """What is true with the imports that count: who goes, and who has no right to identifiers of each kind."""

    gone: BitMap
    nameless: dict[IdentifierKind, BitMap]
    imports: frozenset[int]


def returning_people(workspace: Workspace, one: Retraction, done: Reconciled) -> dict[int, int]:
    """Bring back the people an import made, before its rows; returns those whose names others have now, with them."""
    folder = workspace.folder
    named = BitMap()
    for kind in KINDS:
        named |= workspace.call(partial(folder.namings.named_by, one.import_id, kind))
    rows = folder.state.rows("SELECT person FROM withdrawn WHERE gone ORDER BY person")
    waiting = [row[0] for row in rows if row[0] in named]
    taken: dict[int, int] = {}
    for low in range(0, len(waiting), GONE_AT_ONCE):
        some = waiting[low : low + GONE_AT_ONCE]
        taken |= workspace.call(lambda: _bring_back(workspace, some))  # noqa: B023
    done.returned = len(waiting) - len(taken)
    return taken


def _bring_back(workspace: Workspace, people: Sequence[int]) -> dict[int, int]:
    """On the loop."""
    folder, segments = workspace.folder, workspace.segments
    db, now_us = folder.state.db, folder.state.now_us
    standing = _standing(workspace)
    taken: dict[int, int] = {}
    back: list[int] = []
    for person in people:
        found = "SELECT id, email, phone, created_us, accept_us, creator FROM withdrawn WHERE person = ?"
        row = db.execute(found, (person,)).fetchone()
        names: dict[IdentifierKind, str] = {
            kind: value
            for kind, value in zip(NAMES, row[:3], strict=True)
            if value is not None and person not in standing.nameless[kind]
        }
        owner = _owner(workspace, names)
        if owner is not None:
            taken[person] = owner
            continue
        email = names.get("email")
        db.execute(
            INSERT_PERSON,
            (
                person, names.get("id"), email, None if email is None else email.strip().lower(), row[3], row[4],
                row[5], encode_document({}), names.get("phone"),
            ),
        )  # fmt: skip
        db.execute("DELETE FROM withdrawn WHERE person = ?", (person,))
        segments.known.add(person, min(row[3], row[4]))
        back.append(person)
    segments.alive |= BitMap(back)
    folder.people.forget_cache()
    folder.people.version += 1
    for person in back:
        shown = shown_values(folder.people.profile(person), {})
        segments.feed_attributes(person, None, lambda: shown, now_us)  # noqa: B023
    _settle(workspace, BitMap(back), None)
    return taken


def _owner(workspace: Workspace, names: dict[IdentifierKind, str]) -> int | None:
    for kind, value in names.items():
        compared = value.strip().lower() if kind == "email" else value
        found = f"SELECT person FROM person WHERE {COLUMN_OF[kind]} = ?"
        row = workspace.folder.state.db.execute(found, (compared,)).fetchone()
        if row is not None:
            return row[0]
    return None


def reconcile(workspace: Workspace, people: BitMap, tell: Tell) -> Reconciled:
    """Have people, among them all whom the import wrote to, be what they are with the imports that count."""
    done = Reconciled()
    standing = workspace.call(lambda: _standing(workspace))
    _withdraw_people(workspace, standing, done, tell)
    _withdraw_names(workspace, standing, done)
    tell("identifiers")
    _return_names(workspace, standing, done)
    _fold_all(workspace, people - standing.gone, done, tell)
    return done


def standing_imports(workspace: Workspace) -> frozenset[int]:
    """On the loop: the imports that count."""
    db = workspace.folder.state.db
    out = {number for number, one in read_retractions(db).items() if not one.returning}
    return frozenset(row.import_id for row in read_imports(db)) - out


def _standing(workspace: Workspace) -> _Standing:
    imports = standing_imports(workspace)
    namings, alive = workspace.folder.namings, workspace.segments.alive
    nameless: dict[IdentifierKind, BitMap] = {kind: namings.lost(kind, imports) for kind in NAMES}
    return _Standing(namings.orphans(imports) & alive, nameless, imports)


# -- people who go ----------------------------------------------------------------------------------------------------


def _withdraw_people(workspace: Workspace, standing: _Standing, done: Reconciled, tell: Tell) -> None:
    gone = list(standing.gone)
    for low in range(0, len(gone), GONE_AT_ONCE):
        some = gone[low : low + GONE_AT_ONCE]
        done.gone += workspace.call(lambda: _withdraw_some(workspace, some))  # noqa: B023
        tell("people")


def _withdraw_some(workspace: Workspace, people: Sequence[int]) -> int:
    """On the loop: whoever nobody else has named until now is no more."""
    folder, segments = workspace.folder, workspace.segments
    db, now_us = folder.state.db, folder.state.now_us
    still = BitMap(people) & _standing(workspace).gone
    marks = ", ".join(map(str, still))
    db.execute(
        "INSERT OR REPLACE INTO withdrawn SELECT person, 1, id, email, phone, created_us, accept_us, import_id"
        f" FROM person WHERE person IN ({marks})"
    )
    open_ = "state IN ('filtering', 'active')"
    busy = db.execute(
        f"SELECT person FROM journey WHERE person IN ({marks}) AND {open_}"
        f" UNION SELECT person FROM delivery WHERE person IN ({marks}) AND state = 'queued'"
    ).fetchall()
    for (person,) in busy:
        workspace.campaigns.on_delete(person, now_us)
    db.execute(f"DELETE FROM future WHERE person IN ({marks})")
    db.execute(f"DELETE FROM person WHERE person IN ({marks})")
    everybody = np.array(list(still), np.uint32)
    for kept in segments.segments.values():
        kept.members -= still
        if kept.incoming is not None:
            kept.incoming -= still
    for leaf in segments.leaves.values():
        if isinstance(leaf, AttributeLeaf):
            leaf.true -= still
            _clear(leaf.changes, everybody)
    _clear(segments.known.column, everybody)
    segments.alive -= still
    segments.bulk_fed()
    folder.people.forget_cache()
    folder.people.version += 1
    folder.people.renamed += 1
    return len(still)


def _clear(column: object, people: np.ndarray) -> None:  # pyright: ignore[reportMissingTypeArgument, reportUnknownParameterType]
    from backstory.core.column import Column

    assert isinstance(column, Column)
    if any(page is not None for page in column.pages):
        column.scatter(people, np.zeros(len(people), column.dtype))


# -- identifiers ------------------------------------------------------------------------------------------------------


def _withdraw_names(workspace: Workspace, standing: _Standing, done: Reconciled) -> None:
    for kind in NAMES:
        alive = workspace.call(lambda: BitMap(workspace.segments.alive))
        people = list((standing.nameless[kind] & alive) - standing.gone)
        for low in range(0, len(people), FOLDED_AT_ONCE):
            some = people[low : low + FOLDED_AT_ONCE]
            done.renamed += workspace.call(partial(_unname_some, workspace, kind, some))


def _unname_some(workspace: Workspace, kind: IdentifierKind, people: Iterable[int]) -> int:
    """On the loop: take identifiers that came of imports which do not count; what they replaced comes back."""
    folder = workspace.folder
    standing = _standing(workspace)
    moved = BitMap()
    for person in BitMap(people) & standing.nameless[kind] & workspace.segments.alive:
        profile = folder.people.profile(person)
        value = {one.kind: one.value for one in profile.identifiers()}.get(kind)
        before = _before(workspace, kind, person, standing)
        if value is None or value == before:
            continue
        _note_withdrawn(workspace, person, kind, value)
        folder.people.unassign(person, [kind])
        if before is not None and _owner(workspace, {kind: before}) is None:
            folder.people.restore(person, kind, before)
        moved.add(person)
    _feed_names(workspace, moved, kind)
    return len(moved)


def _before(workspace: Workspace, kind: IdentifierKind, person: int, standing: _Standing) -> str | None:
    """What an import that does not count has put another identifier in the place of."""
    rows = workspace.folder.state.db.execute(
        "SELECT import_id, value FROM replaced WHERE person = ? AND kind = ? ORDER BY import_id", (person, kind)
    ).fetchall()
    out = [value for import_id, value in rows if import_id not in standing.imports]
    return out[0] if out else None


def _note_withdrawn(workspace: Workspace, person: int, kind: IdentifierKind, value: str) -> None:
    db = workspace.folder.state.db
    db.execute(
        "INSERT OR IGNORE INTO withdrawn SELECT person, 0, NULL, NULL, NULL, created_us, accept_us, import_id"
        " FROM person WHERE person = ?",
        (person,),
    )
    db.execute(f"UPDATE withdrawn SET {kind} = ? WHERE person = ?", (value, person))


def _return_names(workspace: Workspace, standing: _Standing, done: Reconciled) -> None:
    rows = workspace.folder.state.rows("SELECT person FROM withdrawn WHERE NOT gone")
    people = [row[0] for row in rows]
    for low in range(0, len(people), FOLDED_AT_ONCE):
        some = people[low : low + FOLDED_AT_ONCE]
        done.renamed += workspace.call(lambda: _rename_some(workspace, some))  # noqa: B023


def _rename_some(workspace: Workspace, people: Sequence[int]) -> int:
    """On the loop: give identifiers back to whom an import gave them that counts again, where they are free."""
    folder, standing, count = workspace.folder, _standing(workspace), 0
    for person in people:
        if person not in workspace.segments.alive:
            continue
        row = folder.state.db.execute("SELECT id, email, phone FROM withdrawn WHERE person = ?", (person,)).fetchone()
        for kind, value in zip(NAMES, row, strict=True):
            if value is None or person in standing.nameless[kind] or _owner(workspace, {kind: value}) is not None:
                continue
            folder.people.unassign(person, [kind])
            folder.people.restore(person, kind, value)
            folder.state.db.execute(f"UPDATE withdrawn SET {kind} = NULL WHERE person = ?", (person,))
            _feed_names(workspace, BitMap([person]), kind)
            count += 1
    return count


def _feed_names(workspace: Workspace, people: BitMap, kind: IdentifierKind) -> None:
    folder, touched = workspace.folder, set[LeafKey]()
    for person in people:
        profile, document = folder.people.profile(person), folder.people.document(person)
        touched |= workspace.segments.feed_attributes(
            person, [kind], lambda: shown_values(profile, document), folder.state.now_us  # noqa: B023
        )
    _settle(workspace, people, touched)


# -- values -----------------------------------------------------------------------------------------------------------


def _fold_all(workspace: Workspace, people: BitMap, done: Reconciled, tell: Tell) -> None:
    everybody = list(people)
    history = workspace.folder.history
    for low in range(0, len(everybody), READ_AT_ONCE):
        some = everybody[low : low + READ_AT_ONCE]
        seq = workspace.call(lambda: workspace.folder.state.next_seq - 1)
        writes: Writes = defaultdict(list)
        for at in range(0, len(some), FOLDED_AT_ONCE):
            asked = some[at : at + FOLDED_AT_ONCE]
            for person, time_us, attributes in history.writes_of(asked):
                writes[person].append((time_us, _decode(attributes)))
            told = {person: writes[person] for person in asked}
            done.changed += workspace.call(lambda: _fold_some(workspace, told, seq))  # noqa: B023
            tell("values")


def _fold_some(workspace: Workspace, writes: Writes, seq: int) -> int:
    """On the loop: documents are what the writes come to, with those that came since."""
    folder, segments = workspace.folder, workspace.segments
    folder.tail.flush()
    marks = ", ".join(map(str, writes))
    newer = folder.state.db.execute(
        f"SELECT person, time_us, attributes FROM attribute_write WHERE seq > ? AND person IN ({marks})", (seq,)
    ).fetchall()
    for person, time_us, attributes in newer:
        writes[person].append((time_us, _decode(attributes)))
    moved, touched = BitMap(), set[LeafKey]()
    for person, told in writes.items():
        if person not in segments.alive:
            continue
        before, after = folder.people.document(person), folded(told)
        if before == after:
            continue
        folder.people.set_document(person, after)
        profile = folder.people.profile(person)
        touched |= segments.feed_attributes(
            person, _roots(before, after), lambda: shown_values(profile, after), folder.state.now_us  # noqa: B023
        )
        moved.add(person)
    _settle(workspace, moved, touched)
    return len(moved)


def _roots(before: Document, after: Document) -> set[str]:
    names = {name for name in (*before, *after) if before.get(name) != after.get(name)}
    return {name.partition(".")[0].partition("[")[0] for name in names}


def _settle(workspace: Workspace, people: BitMap, touched: Iterable[LeafKey] | None) -> None:
    """On the loop: who is in which segment now; nothing starts by it."""
    segments, now_us = workspace.segments, workspace.folder.state.now_us
    segments.bulk_fed()
    everybody = np.asarray((people & segments.alive).to_array(), np.uint32)
    if not len(everybody):
        return
    found = set(segments.segments) if touched is None else segments.segments_over(touched)
    for segment_id in segments.closure(found):
        kept = segments.segments[segment_id]
        if kept.condition is not None:
            segments.settle_many(segment_id, everybody, now_us)
