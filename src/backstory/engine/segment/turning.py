"""Turning points: when a condition began to hold, and ceased to, of many people at once.

The theory of ``core.timeline`` over whole columns. A leaf turns where an event comes or leaves its window, where a
value is written or meets the clock; groups turn where their parts do. So that what became of a million people is a
few sorts and running sums. Read from any thread; nothing is kept. ``core.oracle`` says the same moment by moment.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from backstory.core.column import People, Truth
from backstory.core.comparison import holds
from backstory.core.condition import (
    And,
    AttributeTest,
    Between,
    Condition,
    DeviceTest,
    EventTest,
    InSegment,
    Last,
    Not,
    Or,
    RecordTest,
    RelationTest,
)
from backstory.core.leaf import NEVER_US
from backstory.core.leaf_key import event_test, guard_of
from backstory.core.record_leaf import RecordLeaf
from backstory.core.segment import SegmentEngine
from backstory.core.timeline import root_of
from backstory.engine.segment.value_column import ValueColumn, read_shown
from backstory.store.definition import placements_in
from backstory.store.folder import Folder
from backstory.store.history import Rows, runs
from backstory.store.knowledge import Knowledge
from backstory.store.record import read_records

Times = NDArray[np.int64]
EVER_US = -NEVER_US


@dataclass(frozen=True, slots=True)
class Turns:
    """``first`` holds of everybody before all; then rows by person, then time: ``truth`` holds from that moment on."""

    first: bool
    people: People
    times_us: Times
    truth: Truth

    def since(self, who: People, at_us: int) -> tuple[Times, Truth]:
        """Of sorted people: since when they have the answer that they have at a moment, and the answer."""
        early = self.times_us <= at_us
        people, times_us, truth = self.people[early], self.times_us[early], self.truth[early]
        last = np.searchsorted(people, who, side="right") - 1
        has = last >= 0
        has[has] = people[last[has]] == who[has]
        since_us = np.full(len(who), EVER_US, np.int64)
        answer = np.full(len(who), self.first)
        since_us[has], answer[has] = times_us[last[has]], truth[last[has]]
        return since_us, answer


@dataclass(slots=True, kw_only=True)
class Drawing:
    """Draws the turns of conditions for some sorted people, up to a moment.

    ``rows`` finds the events of a test, its window aside, that happened up to that moment.
    """

    folder: Folder
    segments: SegmentEngine
    who: People
    at_us: int
    rows: Callable[[EventTest], Rows]
    _drawn: dict[Condition, Turns] = field(default_factory=dict[Condition, Turns])
    _columns: dict[str, ValueColumn] = field(default_factory=dict[str, ValueColumn])

    def since(self, condition: Condition) -> tuple[Times, Truth]:
        """Since when each has the answer, at the earliest since they are known; and the answer."""
        since_us, answer = self.turns(condition).since(self.who, self.at_us)
        return np.minimum(np.maximum(since_us, self.segments.known.gather_us(self.who)), self.at_us), answer

    def turns(self, condition: Condition) -> Turns:
        """When the condition turns; each part is drawn once."""
        found = self._drawn.get(condition)
        if found is None:
            found = self._drawn[condition] = self._draw(condition)
        return found

    def _draw(self, condition: Condition) -> Turns:
        match condition:
            case And(children=children):
                return together([self.turns(child) for child in children], True)
            case Or(children=children):
                return together([self.turns(child) for child in children], False)
            case Not(child=child):
                return inverse(self.turns(child))
            case InSegment(segment_id=segment_id):
                return self._segment(segment_id)
            case AttributeTest():
                return self._attribute(condition)
            case EventTest():
                return self._event(condition)
            case DeviceTest() | RelationTest():
                return self._records(condition)
            case _:
                assert_never(condition)

    def _segment(self, segment_id: int) -> Turns:
        kept = self.segments.segments.get(segment_id)
        if kept is not None and kept.condition is not None:
            return self.turns(kept.condition)
        found = manual_turns(self.folder, segment_id)
        asked = _among(found.people, self.who)
        return Turns(False, found.people[asked], found.times_us[asked], found.truth[asked])

    # -- events ---------------------------------------------------------------------------------------------------

    def _event(self, test: EventTest) -> Turns:
        rows = self.rows(event_test(test))
        asked = _among(rows.people, self.who)
        performed = _counted(test, rows.people[asked], rows.times_us[asked])
        if test.performed:
            return performed
        guard = guard_of(test)
        never = inverse(performed)
        return never if guard is None else together([self._known(guard), never], True)

    def _known(self, guard: tuple[str, int]) -> Turns:
        known_us = self.segments.known.gather_us(self.who)
        sort, number = guard
        if sort == "last":
            return Turns(False, self.who, known_us + number, np.ones(len(self.who), bool))
        some = known_us <= number
        return Turns(False, self.who[some], known_us[some], np.ones(int(some.sum()), bool))

    # -- values ---------------------------------------------------------------------------------------------------

    def _attribute(self, test: AttributeTest) -> Turns:
        root = root_of(test.field)
        if root not in self._columns:
            self._columns[root] = read_shown(self.folder, root, until_us=self.at_us)
        column = self._columns[root]
        asked = _among(column.people, self.who)
        people, times_us, codes = column.people[asked], column.times_us[asked], column.codes[asked]
        before, after = column.truths(test, EVER_US)[codes], column.truths(test, NEVER_US)[codes]
        turn_us = column.moments_us(test)[codes]
        last = np.append(people[1:] != people[:-1], True) if len(people) else np.empty(0, bool)
        until_us = np.where(last, NEVER_US, np.append(times_us[1:], 0))
        meets = (turn_us > times_us) & (turn_us < until_us)
        return plain(
            Turns(
                holds(test, [], EVER_US),
                np.concatenate([people, people[meets]]),
                np.concatenate([times_us, turn_us[meets]]),
                np.concatenate([np.where(turn_us <= times_us, after, before), after[meets]]),
            )
        )

    # -- devices and relationships ---------------------------------------------------------------------------------

    def _records(self, test: RecordTest) -> Turns:
        rows: list[tuple[int, int, bool]] = []
        everybody = self.folder.state.read(lambda db: read_records(db))
        for person, records in everybody.items():
            rows += [
                (person, moment_us, RecordLeaf.judge(test, records.rows(test, moment_us), moment_us))
                for moment_us in records.moments_us(test, self.at_us)
            ]
        table = np.array(rows, np.int64).reshape(len(rows), 3)
        people = table[:, 0].astype(np.uint32)
        asked = _among(people, self.who)
        found = Turns(
            RecordLeaf.judge(test, (), EVER_US), people[asked], table[asked, 1], table[asked, 2].astype(bool)
        )
        return plain(found)


def manual_turns(folder: Folder, segment_id: int, known: Knowledge | None = None) -> Turns:
    """When people were put into a manual segment, and taken out."""
    rows = folder.state.read(lambda db: placements_in(db, segment_id, known))
    table = np.array(rows, np.int64).reshape(len(rows), 3)
    return plain(Turns(False, table[:, 0].astype(np.uint32), table[:, 1], table[:, 2].astype(bool)))


def _among(people: People, who: People) -> Truth:
    """Which of the people are among sorted ones."""
    if not len(who):
        return np.zeros(len(people), bool)
    place = np.minimum(np.searchsorted(who, people), len(who) - 1)
    return who[place] == people


def _counted(test: EventTest, people: People, times_us: Times) -> Turns:
    """How the number of events moves in and out of the bounds; rows by person, then time."""

    def fits(counts: Times) -> Truth:
        truth = counts >= test.at_least
        return truth if test.at_most is None else truth & (counts <= test.at_most)

    first = bool(fits(np.zeros(1, np.int64))[0])
    if isinstance(test.window, Last):
        step = np.repeat(np.array([1, -1], np.int64), len(people))
        people = np.concatenate([people, people])
        times_us = np.concatenate([times_us, times_us + test.window.last_us])
        order = np.lexsort((times_us, people))
        people, times_us, step = people[order], times_us[order], step[order]
    else:
        if isinstance(test.window, Between):
            inside = np.ones(len(people), bool)
            if test.window.from_us is not None:
                inside &= times_us >= test.window.from_us
            if test.window.to_us is not None:
                inside &= times_us < test.window.to_us
            people, times_us = people[inside], times_us[inside]
        step = np.ones(len(people), np.int64)
    total = np.cumsum(step)
    begins = runs(people)
    lengths = np.diff(np.append(begins, len(people)))
    before = total[begins] - step[begins]
    return _compact(Turns(first, people, times_us, fits(total - np.repeat(before, lengths))))


def plain(turns: Turns) -> Turns:
    """In order, and without rows that turn nothing; of rows at one moment the last counts."""
    order = np.lexsort((turns.times_us, turns.people))
    return _compact(Turns(turns.first, turns.people[order], turns.times_us[order], turns.truth[order]))


def _compact(turns: Turns) -> Turns:
    people, times_us, truth = turns.people, turns.times_us, turns.truth
    if not len(people):
        return turns
    another = people[1:] != people[:-1]
    last = np.append(another | (times_us[1:] != times_us[:-1]), True)
    people, times_us, truth = people[last], times_us[last], truth[last]
    begins = np.append(True, people[1:] != people[:-1])
    before = np.where(begins, turns.first, np.append(False, truth[:-1]))
    keep = truth != before
    return Turns(turns.first, people[keep], times_us[keep], truth[keep])


def inverse(turns: Turns) -> Turns:
    """Not(it)."""
    return Turns(not turns.first, turns.people, turns.times_us, ~turns.truth)


def together(parts: list[Turns], every: bool) -> Turns:
    """Where all of them hold, or (not ``every``) any of them."""
    if len(parts) == 1:
        return parts[0]
    people = np.concatenate([part.people for part in parts])
    times_us = np.concatenate([part.times_us for part in parts])
    order = np.lexsort((times_us, people))
    people, times_us = people[order], times_us[order]
    begin = np.zeros(len(people), np.int64)
    begins = runs(people)
    begin[begins] = begins
    begin = np.maximum.accumulate(begin)
    result = np.full(len(people), every)
    low = 0
    for part in parts:
        truth = np.full(len(people), part.first)
        here = (order >= low) & (order < low + len(part.people))
        newest = np.maximum.accumulate(np.where(here, np.arange(len(people)), -1))
        told = newest >= begin
        truth[told] = part.truth[order[newest[told]] - low]
        result = result & truth if every else result | truth
        low += len(part.people)
    firsts = [part.first for part in parts]
    return _compact(Turns(all(firsts) if every else any(firsts), people, times_us, result))
