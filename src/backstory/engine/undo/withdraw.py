"""People and values when imports do not count, or count again.

Whoever came of them alone goes, and values are made anew from the writes that count. What went is remembered, so that
it can come back. Nothing starts by it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from pyroaring import BitMap

from backstory.core.condition import Json
from backstory.core.leaf import AttributeLeaf
from backstory.core.leaf_key import LeafKey
from backstory.core.person import Document, folded
from backstory.engine.context import shown_values
from backstory.engine.segment.membership_log import note_moved
from backstory.engine.undo.countable import (
    FOLDED_AT_ONCE,
    GONE_AT_ONCE,
    READ_AT_ONCE,
    Reconciled,
    Standing,
    Tell,
    settle,
    standing_now,
)
from backstory.engine.undo.withdraw_name import rename_people
from backstory.store.write_block import table_of_writes

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

_decode = msgspec.json.Decoder().decode
Writes = dict[int, list[tuple[int, dict[str, Json]]]]


def reconcile(workspace: Workspace, people: BitMap, written: BitMap, tell: Tell) -> Reconciled:
    """Have people, among them all whom the import named, be what they are with the imports that count.

    The values of those it has ``written`` to are found anew; nobody else's can be others.
    """
    done = Reconciled()
    standing = workspace.call(lambda: standing_now(workspace))
    _withdraw_people(workspace, standing, done, tell)
    tell("identifiers")
    rename_people(workspace, people - standing.gone, done)
    _fold_all(workspace, written - standing.gone, done, tell)
    return done


# -- people who go ----------------------------------------------------------------------------------------------------


def _withdraw_people(workspace: Workspace, standing: Standing, done: Reconciled, tell: Tell) -> None:
    gone = list(standing.gone)
    for low in range(0, len(gone), GONE_AT_ONCE):
        some = gone[low : low + GONE_AT_ONCE]
        done.gone += workspace.call(lambda: _withdraw_some(workspace, some))  # noqa: B023
        tell("people")


def _withdraw_some(workspace: Workspace, people: Sequence[int]) -> int:
    """On the loop: whoever nobody else has named until now is no more."""
    folder, segments = workspace.folder, workspace.segments
    db, now_us = folder.state.db, folder.state.now_us
    still = BitMap(people) & standing_now(workspace, among=BitMap(people)).gone
    marks = ", ".join(map(str, still))
    db.execute(
        "INSERT INTO withdrawn SELECT person, 1, id, email, phone, created_us, accept_us, import_id, 0, email_key"
        f" FROM person WHERE person IN ({marks})"
        # Since when they are, and what an import taken back before had given them, is known already.
        " ON CONFLICT (person) DO UPDATE SET gone = 1, id = coalesce(excluded.id, id),"
        " email = coalesce(excluded.email, email), phone = coalesce(excluded.phone, phone),"
        " email_key = coalesce(excluded.email_key, email_key)"
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
        note_moved(workspace.context, kept.segment_id, BitMap(), kept.members & still, workspace.context.import_at_work)
        kept.members -= still
        if kept.incoming is not None:
            kept.incoming -= still
    for leaf in segments.leaves.values():
        if isinstance(leaf, AttributeLeaf):
            leaf.true -= still
            _clear(leaf.changes, everybody)
    _clear(segments.known.column, everybody)
    # What was coming to them is found to be about nobody when its moment comes.
    segments.alive -= still
    folder.people.forget_cache()
    folder.people.version += 1
    folder.people.renamed += 1
    return len(still)


def _clear(column: object, people: np.ndarray) -> None:  # pyright: ignore[reportMissingTypeArgument, reportUnknownParameterType]
    from backstory.core.column import Column

    assert isinstance(column, Column)
    if any(page is not None for page in column.pages):
        column.scatter(people, np.zeros(len(people), column.dtype))


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
    table = table_of_writes(folder.state.db, writes)
    newer = folder.state.db.execute(
        f"SELECT person, time_us, attributes FROM {table} WHERE seq > ? AND person IN ({marks})", (seq,)
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
    settle(workspace, moved, touched)
    return len(moved)


def _roots(before: Document, after: Document) -> set[str]:
    names = {name for name in (*before, *after) if before.get(name) != after.get(name)}
    return {name.partition(".")[0].partition("[")[0] for name in names}
