"""Leaves when events leave history or come back: made anew from history beside the loop, then put in place at once.

The loop goes on feeding the leaf in use. The new one is brought up to date a second time beside it, so that only what
came in the last moments is left to be fed on the loop. What that changes in memberships is settled in the same piece
of work, so that no live fact is taken for its cause; nothing starts by it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from pyroaring import BitMap

from backstory.core.leaf import CountLeaf, KnownLeaf, KnownSince, WindowLeaf, event_leaf
from backstory.core.leaf_key import LeafKey
from backstory.core.metric import MESSAGE
from backstory.engine.checkpoint import feed_again
from backstory.engine.countable import Tell
from backstory.engine.scan import Since, feed_rows, scan
from backstory.store.manifest import LeafMark
from backstory.store.record import EARLIEST

if TYPE_CHECKING:
    from backstory.core.column import People
    from backstory.engine.workspace import Workspace


def rebuild_leaves(workspace: Workspace, names: set[tuple[str, str]] | None, tell: Tell) -> None:
    """Have the leaves over events of these (kind, name), None: all, be what history comes to."""

    def affected() -> list[CountLeaf | WindowLeaf]:
        segments = workspace.segments
        if names is not None:
            return [*dict.fromkeys(segments.event_leaves(sorted(names)))]
        leaves = segments.leaves.values()
        return [leaf for leaf in leaves if isinstance(leaf, CountLeaf | WindowLeaf)]

    for leaf in workspace.call(affected):
        if leaf.test.kind != MESSAGE:
            _rebuild(workspace, leaf)
            tell("segments")


def _mark(workspace: Workspace) -> tuple[LeafMark, BitMap]:
    state = workspace.folder.state
    mark = LeafMark(seq=state.next_seq - 1, now_us=state.now_us, next_person=state.next_person)
    return mark, BitMap(workspace.segments.alive)


def _rebuild(workspace: Workspace, leaf: CountLeaf | WindowLeaf) -> None:
    made = event_leaf(leaf.test)
    mark, alive = workspace.call(lambda: _mark(workspace))
    feed_rows(made, scan(workspace.folder, leaf.test, Since(mark.seq, mark.now_us)), alive)
    first = alive
    newer, alive = workspace.call(lambda: _mark(workspace))
    feed_again(workspace.folder, made, mark, newer, alive)
    workspace.call(lambda: _put(workspace, leaf, made, newer, first | alive))


def _put(
    workspace: Workspace, leaf: CountLeaf | WindowLeaf, made: CountLeaf | WindowLeaf, mark: LeafMark, fed: BitMap
) -> None:
    """On the loop."""
    segments, builder = workspace.segments, workspace.builder
    if segments.leaves.get(leaf.test) is not leaf or leaf.test in builder.unfilled:
        return
    now, _ = _mark(workspace)
    feed_again(workspace.folder, made, mark, now, segments.alive)
    for person in fed - segments.alive:
        made.forget(person)

    _change(
        workspace,
        [leaf.test],
        lambda people: leaf.holds_many(people, now.now_us),
        lambda: leaf.column.take_over(made.column),
    )


def _change(
    workspace: Workspace, keys: list[LeafKey], holds: Callable[[People], np.ndarray], put: Callable[[], None]  # pyright: ignore[reportMissingTypeArgument, reportUnknownParameterType]
) -> None:
    """On the loop: put something in place and settle the people for whom leaves answer otherwise then."""
    segments, now_us = workspace.segments, workspace.folder.state.now_us
    everybody = segments.everybody()
    before = holds(everybody)
    put()
    changed = everybody[before != holds(everybody)]
    segments.bulk_fed()
    moved = BitMap(changed)
    for segment_id in segments.affected(keys):
        kept = segments.segments[segment_id]
        if kept.condition is None or not moved:
            continue
        entered, left = segments.settle_many(segment_id, np.asarray(moved.to_array(), np.uint32), now_us)
        moved |= entered | left


# -- since when people are known --------------------------------------------------------------------------------------


def rebuild_known(workspace: Workspace, people: BitMap) -> None:
    """Have it known of these people since when they are, as history says it now."""
    folder = workspace.folder
    mark, _ = workspace.call(lambda: _mark(workspace))
    made = KnownSince()
    rows = folder.state.rows("SELECT person, min(created_us, accept_us) FROM person ORDER BY person")
    made.add_many(np.array([row[0] for row in rows], np.uint32), np.array([row[1] for row in rows], np.int64))
    made.add_many(*folder.history.earliest_since(0, until_seq=mark.seq))
    told = folder.state.rows(EARLIEST, (0, mark.seq))
    made.add_many(np.array([row[0] for row in told], np.uint32), np.array([row[1] for row in told], np.int64))
    workspace.call(lambda: _put_known(workspace, made, people, mark))


def _put_known(workspace: Workspace, made: KnownSince, people: BitMap, mark: LeafMark) -> None:
    """On the loop: with what came since."""
    segments, state = workspace.segments, workspace.folder.state
    now, _ = _mark(workspace)
    newer = state.db.execute(
        "SELECT person, min(min(time_us, accept_us)) FROM (SELECT person, time_us, accept_us, seq FROM event"
        " WHERE NOT duplicate UNION ALL SELECT person, time_us, accept_us, seq FROM attribute_write)"
        " WHERE seq > ? GROUP BY person ORDER BY person",
        (mark.seq,),
    ).fetchall()
    newer += state.db.execute(EARLIEST, (mark.seq, now.seq)).fetchall()
    for person, time_us in newer:
        made.add(person, min(time_us, now.now_us))
    who = np.asarray((people & segments.alive).to_array(), np.uint32)
    who = who[made.column.gather(who) != 0]
    guards: list[LeafKey] = [key for key, leaf in segments.leaves.items() if isinstance(leaf, KnownLeaf)]
    leaves = [leaf for leaf in segments.leaves.values() if isinstance(leaf, KnownLeaf)]

    def holds(everybody: People) -> np.ndarray:  # pyright: ignore[reportMissingTypeArgument, reportUnknownParameterType]
        answers = [leaf.holds_many(everybody, now.now_us) for leaf in leaves]
        # One number for all the answers: people differ when any does.
        bits = [answer.astype(np.int64) << at for at, answer in enumerate(answers)]
        return sum(bits, np.zeros(len(everybody), np.int64))

    _change(workspace, guards, holds, lambda: segments.known.column.scatter(who, made.column.gather(who)))

