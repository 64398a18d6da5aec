"""Segments as of any moment, and questions asked once: leaves of their own, filled from history up to that moment.

As of T a person exists when any fact of theirs is as old as T; identity is today's; deleted people are gone from
all days; today's definitions apply. ``known`` leaves out
what was accepted later, and takes in what has been taken back since. Source: design section 8.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from backstory.core.column import People, bitmap_of
from backstory.core.condition import Condition, Json, segments_in
from backstory.core.known import KnownLeaf, KnownSince
from backstory.core.leaf import NEVER_US, AttributeLeaf, CountLeaf, WindowLeaf
from backstory.core.leaf_key import LeafKey
from backstory.core.person import decode_document
from backstory.core.record_leaf import RecordLeaf
from backstory.core.record_time import RecordsInTime
from backstory.core.segment import SegmentEngine
from backstory.engine.context import shown_values
from backstory.engine.segment.scan import Since, feed_rows, scan
from backstory.engine.segment.turning import Turns, manual_turns
from backstory.engine.segment.value_column import ValueColumn, read_shown
from backstory.store.folder import Folder
from backstory.store.history import Rows, runs
from backstory.store.knowledge import Knowledge
from backstory.store.people import PROFILE_COLUMNS, Profile, people_known
from backstory.store.record import earliest_known, read_records

PAGE = 5000
_LATER_THAN_ALL_US = NEVER_US - 1


def members_as_of(
    folder: Folder, live: SegmentEngine, condition: Condition, at_us: int, known: Knowledge | None = None
) -> BitMap:
    """The people for whom a condition held at a moment, as now known. From any thread; reads what is committed."""
    return next(members_over(folder, live, condition, [at_us], known))


def members_over(
    folder: Folder, live: SegmentEngine, condition: Condition, points_us: list[int], known: Knowledge | None = None
) -> Iterator[BitMap]:
    """The same for each of some ascending moments: history is read once for all of them."""
    question = _Question(folder, live, condition, points_us[-1], known, many=len(points_us) > 1)
    for point_us in points_us:
        question.go_on_to(point_us)
        yield question.members


@dataclass(slots=True)
class _Events:
    """Rows of one leaf by person, then time; for more than one moment ``order`` is that of time, fed up to ``told``."""

    leaf: CountLeaf | WindowLeaf
    rows: Rows
    order: NDArray[np.int64] | None
    told: int = 0


class _Question:
    """Leaves of a condition, told of history step by step, as if it were lived through again."""

    def __init__(
        self,
        folder: Folder,
        live: SegmentEngine,
        condition: Condition,
        until_us: int,
        known: Knowledge | None,
        *,
        many: bool,
    ) -> None:
        self._folder = folder
        self._known = known
        self._engine = SegmentEngine()
        self._engine.known = live.known if known is None else _known_by(folder, known)
        self._everybody = BitMap(live.alive)
        # Read once: live facts may make people known for longer meanwhile.
        self._people, self._known_us = self._engine.known.between(-NEVER_US, until_us, shift_us=0)
        self._manual: dict[int, Turns] = {}
        self._order = [*self._define(live, condition), 0]
        self._past_us = -NEVER_US
        self._many = many
        self._events: list[_Events] = []
        self._values: dict[str, ValueColumn] = {}
        self._records: dict[int, RecordsInTime] = {}
        self._verdicts: dict[LeafKey, NDArray[np.bool_]] = {}
        self._read(until_us)

    @property
    def members(self) -> BitMap:
        """Who is in as of the moment reached."""
        return self._engine.segments[0].members

    def _define(self, live: SegmentEngine, condition: Condition) -> list[int]:
        """Put in the segments a condition refers to, each after those it refers to itself, then the condition."""
        done: dict[int, None] = {}

        def visit(current: Condition) -> None:
            for other in sorted(segments_in(current)):
                kept = live.segments.get(other)
                if kept is not None and other not in done:
                    if kept.condition is not None:
                        visit(kept.condition)
                    done[other] = None
                    self._put(other, kept.condition)
                    if kept.condition is None:
                        self._manual[other] = manual_turns(self._folder, other, self._known)

        visit(condition)
        self._put(0, condition)
        return [number for number in done if live.segments[number].condition is not None]

    def _put(self, segment_id: int, condition: Condition | None) -> None:
        if condition is not None:
            for key in self._engine.missing(condition):
                self._engine.attach(key, self._engine.make_leaf(key))
        self._engine.put(segment_id, condition)

    def _read(self, until_us: int) -> None:
        state = self._folder.state
        since = Since(state.next_seq - 1, until_us)
        # What was written a little ahead of now counts in what is live now.
        self._live_from_us = state.now_us
        values_until_us = _LATER_THAN_ALL_US if until_us >= self._live_from_us else until_us
        for leaf in self._engine.leaves.values():
            match leaf:
                case CountLeaf() | WindowLeaf():
                    timed = self._many or isinstance(leaf, WindowLeaf) or not leaf.ever
                    rows = scan(self._folder, leaf.test, since, known=self._known, timed=timed)
                    self._events.append(_Events(leaf, rows, np.argsort(rows.times_us) if self._many else None))
                case AttributeLeaf():
                    if leaf.root not in self._values:
                        self._values[leaf.root] = read_shown(
                            self._folder, leaf.root, until_us=values_until_us, known=self._known
                        )
                case RecordLeaf():
                    known = self._known
                    self._records = self._records or state.read(lambda db: read_records(db, known=known))  # noqa: B023
                case KnownLeaf():
                    pass

    # -- time -----------------------------------------------------------------------------------------------------

    def go_on_to(self, at_us: int) -> None:
        """Tell the leaves what happened up to a moment, and judge everybody about whom anything may have changed."""
        past_us, self._past_us = self._past_us, at_us
        engine = self._engine
        come = (self._known_us <= at_us) & (self._known_us > past_us)
        moved = bitmap_of(self._people[come]) & self._everybody
        engine.alive |= moved
        for leaf in engine.leaves.values():
            if leaf.timed and past_us > -NEVER_US and not isinstance(leaf, AttributeLeaf | RecordLeaf):
                moved |= bitmap_of(np.unique(leaf.due_many(past_us, at_us)[0]))
        for events in self._events:
            moved |= bitmap_of(self._feed(events, at_us))
        for leaf in engine.leaves.values():
            if isinstance(leaf, AttributeLeaf):
                moved |= self._judge(leaf, past_us, at_us)
            elif isinstance(leaf, RecordLeaf):
                moved |= self._judge_records(leaf, at_us)
        for segment_id, turns in self._manual.items():
            moved |= self._place(segment_id, turns, at_us)
        moved &= engine.alive
        for segment_id in self._order:
            people = np.asarray(moved.to_array(), dtype=np.uint32)
            entered, left = engine.settle_many(segment_id, people, at_us)
            moved |= entered | left

    def _place(self, segment_id: int, turns: Turns, at_us: int) -> BitMap:
        """Who had been put into a manual segment by then; who was moved since the moment before."""
        kept = self._engine.segments[segment_id]
        who = turns.people[runs(turns.people)]
        inside = BitMap(who[turns.since(who, at_us)[1]])
        moved, kept.members = kept.members ^ inside, inside
        return moved

    def _feed(self, events: _Events, at_us: int) -> People:
        rows = events.rows
        if events.order is not None:
            end = int(np.searchsorted(rows.times_us, at_us, side="right", sorter=events.order))
            some = np.sort(events.order[events.told : end])
            events.told = end
            rows = Rows(people=rows.people[some], times_us=rows.times_us[some])
        # Of people who are not known yet nothing happened yet either; those who are gone are not asked about.
        return feed_rows(events.leaf, rows)

    def _judge(self, leaf: AttributeLeaf, past_us: int, at_us: int) -> BitMap:
        """Who was written to, or may have been changed by time; verdicts are by value, whoever has it."""
        until_us = _LATER_THAN_ALL_US if at_us >= self._live_from_us else at_us
        column = self._values[leaf.root]
        first = past_us == -NEVER_US
        rows = column.at(until_us) if leaf.timed or first else column.between(past_us, until_us)
        truth = self._verdict(leaf, column, rows.codes, at_us)
        before = BitMap(leaf.true)
        if first and leaf.holds_nothing(at_us):
            leaf.true = BitMap(self._everybody)
        leaf.true -= bitmap_of(rows.people[~truth])
        leaf.true |= bitmap_of(rows.people[truth])
        return before ^ leaf.true

    def _judge_records(self, leaf: RecordLeaf, at_us: int) -> BitMap:
        """What had been written to devices and relationships by then, folded anew for each moment: they are few."""
        until_us = _LATER_THAN_ALL_US if at_us >= self._live_from_us else at_us
        before = BitMap(leaf.odd)
        for person, records in self._records.items():
            leaf.set(person, records.rows(leaf.test, until_us), at_us)
        return before ^ leaf.odd

    def _verdict(
        self, leaf: AttributeLeaf, column: ValueColumn, codes: NDArray[np.int64], at_us: int
    ) -> NDArray[np.bool_]:
        verdicts = None if leaf.timed else self._verdicts.get(leaf.test)
        if verdicts is None:
            verdicts = self._verdicts[leaf.test] = column.truths(leaf.test, at_us)
        return verdicts[codes] if len(codes) else np.zeros(0, dtype=bool)


def _known_by(folder: Folder, known: Knowledge) -> KnownSince:
    """Since when people are known, by facts known at a moment."""
    found = KnownSince()
    people, told = folder.state.read(lambda db: (people_known(db, known), earliest_known(db, known)))
    for rows in (people, told):
        found.add_many(np.array([row[0] for row in rows], np.uint32), np.array([row[1] for row in rows], np.int64))
    found.add_many(*folder.history.earliest_since(0, known=known))
    return found


def current_values(folder: Folder) -> Iterator[tuple[int, dict[str, Json]]]:
    """Everybody's values as they are now."""
    last = -1
    while rows := folder.state.rows(
        f"SELECT {PROFILE_COLUMNS}, document FROM person WHERE person > ? ORDER BY person LIMIT ?",
        (last, PAGE),
    ):
        for row in rows:
            yield row[0], shown_values(Profile(*row[:5]), decode_document(row[5]))
        last = rows[-1][0]
