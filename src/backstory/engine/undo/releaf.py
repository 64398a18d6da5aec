"""Leaves when events leave history or come back: made anew from history beside the loop, then put in place at once.

The loop goes on feeding the leaf in use. The new one is brought up to date a second time beside it, so that only what
came in the last moments is left to be fed on the loop, which then takes it over page by page. What a page changes in
memberships is settled in the same piece of work, so that no live fact is taken for its cause; nothing starts by it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pyroaring import BitMap

from backstory.core.column import PAGE_BITS, PAGE_ROWS
from backstory.core.known import KnownLeaf, KnownSince
from backstory.core.leaf import CountLeaf, WindowLeaf, event_leaf
from backstory.core.leaf_key import LeafKey
from backstory.core.limit import LOOP_PEOPLE
from backstory.core.metric import MESSAGE
from backstory.engine.checkpoint import feed_again
from backstory.engine.segment.membership_log import settle_moved
from backstory.engine.segment.scan import Since, feed_rows, scan
from backstory.engine.undo.countable import Tell
from backstory.store.manifest import LeafMark
from backstory.store.record import EARLIEST
from backstory.store.write_block import table_of_writes

if TYPE_CHECKING:
    from backstory.core.column import Numbers, People
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
            _rebuild(workspace, leaf, tell)


def _mark(workspace: Workspace) -> tuple[LeafMark, BitMap]:
    state = workspace.folder.state
    mark = LeafMark(seq=state.next_seq - 1, now_us=state.now_us, next_person=state.next_person)
    return mark, BitMap(workspace.segments.alive)


def _rebuild(workspace: Workspace, leaf: CountLeaf | WindowLeaf, tell: Tell) -> None:
    made = event_leaf(leaf.test)
    mark, first = workspace.call(lambda: _mark(workspace))
    feed_rows(made, scan(workspace.folder, leaf.test, Since(mark.seq, mark.now_us)), first)
    newer, alive = workspace.call(lambda: _mark(workspace))
    feed_again(workspace.folder, made, mark, newer, alive)
    fresh = _Fresh(leaf, made, newer, first | alive)
    _in_turns(workspace, lambda people: _put(workspace, fresh, people), tell)


@dataclass(slots=True)
class _Fresh:
    """A leaf made anew: told up to ``mark``, of those who were ``fed``."""

    leaf: CountLeaf | WindowLeaf
    made: CountLeaf | WindowLeaf
    mark: LeafMark
    fed: BitMap


def _in_turns(workspace: Workspace, put: Callable[[range], bool], tell: Tell) -> None:
    """Have the loop put something in place for some people at a time; live facts go on in between."""
    low, step = 0, LOOP_PEOPLE.value // PAGE_ROWS * PAGE_ROWS

    def turn() -> bool:
        # Who is there when the last turn begins is in it, too.
        return put(range(low, low + step)) and low + step < workspace.folder.state.next_person

    while workspace.call(turn):
        low += step
        tell("segments")


def _put(workspace: Workspace, fresh: _Fresh, people: range) -> bool:
    """On the loop: have some pages be those of the leaf made anew; returns whether it is still asked for."""
    segments, builder = workspace.segments, workspace.builder
    leaf, made = fresh.leaf, fresh.made
    if segments.leaves.get(leaf.test) is not leaf or leaf.test in builder.unfilled:
        return False
    now, _ = _mark(workspace)
    # Live facts went to the pages in use: of those not yet in place the new ones are told what came since.
    waiting = BitMap(range(people.start, max(people.stop, now.next_person)))
    feed_again(workspace.folder, made, fresh.mark, now, segments.alive & waiting)
    fresh.mark = now
    for person in (fresh.fed - segments.alive) & BitMap(people):
        made.forget(person)

    def put() -> None:
        for number in range(people.start >> PAGE_BITS, people.stop >> PAGE_BITS):
            leaf.column.take_over(made.column, number)
            if isinstance(leaf, CountLeaf) and isinstance(made, CountLeaf):
                leaf.dates.take_over(made.dates, number)

    _change(workspace, [leaf.test], people, lambda some: leaf.holds_many(some, now.now_us), put)
    return True


def _change(
    workspace: Workspace,
    keys: list[LeafKey],
    people: range,
    holds: Callable[[People], Numbers],
    put: Callable[[], None],
) -> None:
    """On the loop: put something in place and settle the people for whom leaves answer otherwise then."""
    segments, now_us = workspace.segments, workspace.folder.state.now_us
    some = np.asarray((segments.alive & BitMap(people)).to_array(), np.uint32)
    before = holds(some)
    put()
    changed = some[before != holds(some)]
    segments.expect_fed(some, now_us, keys)
    segments.newest.raise_floor(now_us, segments.alive)
    moved = BitMap(changed)
    for segment_id in segments.closure(segments.segments_over(keys)):
        kept = segments.segments[segment_id]
        if kept.condition is None or not moved:
            continue
        entered, left = settle_moved(workspace.context, segment_id, np.asarray(moved.to_array(), np.uint32))
        moved |= entered | left


# -- since when people are known --------------------------------------------------------------------------------------


def rebuild_known(workspace: Workspace, people: BitMap, tell: Tell) -> None:
    """Have it known of these people since when they are, as history says it now."""
    folder = workspace.folder
    mark, _ = workspace.call(lambda: _mark(workspace))
    made = KnownSince()
    rows = folder.state.rows("SELECT person, min(created_us, accept_us) FROM person ORDER BY person")
    made.add_many(np.array([row[0] for row in rows], np.uint32), np.array([row[1] for row in rows], np.int64))
    made.add_many(*folder.history.earliest_since(0, until_seq=mark.seq))
    told = folder.state.rows(EARLIEST, (0, mark.seq))
    made.add_many(np.array([row[0] for row in told], np.uint32), np.array([row[1] for row in told], np.int64))
    told_upto = [mark]
    _in_turns(workspace, lambda some: _put_known(workspace, made, people, told_upto, some), tell)


def _put_known(
    workspace: Workspace, made: KnownSince, people: BitMap, told_upto: list[LeafMark], some: range
) -> bool:
    """On the loop: for some people, with what came since."""
    segments, state = workspace.segments, workspace.folder.state
    now, _ = _mark(workspace)
    (mark,) = told_upto
    newer = state.db.execute(
        "SELECT person, min(min(time_us, accept_us)) FROM (SELECT person, time_us, accept_us, seq FROM event"
        " WHERE NOT duplicate UNION ALL SELECT person, time_us, accept_us, seq FROM"
        f" {table_of_writes(state.db)})"
        " WHERE seq > ? GROUP BY person ORDER BY person",
        (mark.seq,),
    ).fetchall()
    newer += state.db.execute(EARLIEST, (mark.seq, now.seq)).fetchall()
    for person, time_us in newer:
        made.add(person, min(time_us, now.now_us))
    told_upto[:] = [now]
    who = np.asarray((people & segments.alive & BitMap(some)).to_array(), np.uint32)
    who = who[made.column.gather(who) != 0]
    guards: list[LeafKey] = [key for key, leaf in segments.leaves.items() if isinstance(leaf, KnownLeaf)]
    leaves = [leaf for leaf in segments.leaves.values() if isinstance(leaf, KnownLeaf)]

    def holds(some: People) -> Numbers:
        answers = [leaf.holds_many(some, now.now_us) for leaf in leaves]
        # One number for all the answers: people differ when any does.
        bits = [answer.astype(np.int64) << at for at, answer in enumerate(answers)]
        return sum(bits, np.zeros(len(some), np.int64))

    _change(workspace, guards, some, holds, lambda: segments.known.column.scatter(who, made.column.gather(who)))
    return True
