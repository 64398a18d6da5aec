"""Leaves: the smallest questions of conditions, each with just enough state per person to stay exact.

The theory (design section 8): an event leaf is "how many of the k most recent matching times <= now lie inside the
window", so per person the k newest times are enough, they can be taken in any order, and with them the next moment
at which time alone changes the answer is known. Windows with fixed ends, and "ever", need only a count up to k.
Times in the future never come in here: whoever feeds a leaf keeps them apart until their moment.

A leaf knows no other leaf, no segment and no storage. Equal tests share one leaf.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from backstory.core import comparison
from backstory.core.column import Column, Fed, Moment, Numbers, People, Truth, bitmap_of, member_many
from backstory.core.condition import AttributeTest, Between, EventTest, Json, Last

NEVER_US = 1 << 62
# Stored times are shifted so that a zero means "nothing": the year 1 is about -6.2e16.
SHIFT_US = 1 << 57
# A count and the newest time counted in one number: so many bits are the count, those above it the time since 1900.
COUNT_BITS = 10
COUNT_MASK = (1 << COUNT_BITS) - 1
DATED_FROM_US = -2_208_988_800 * 1_000_000


class Leaf(Protocol):
    """What segments ask of a leaf. People passed in arrays are sorted and distinct."""

    timed: bool

    def holds(self, person: int, now_us: int) -> bool: ...

    def holds_many(self, people: People, now_us: Moment) -> Truth: ...

    def next_change_us(self, person: int, now_us: int) -> int:
        """The first moment after ``now_us`` at which time alone may change the answer, or NEVER_US."""
        ...

    def due_many(self, now_us: int, until_us: int) -> tuple[People, NDArray[np.int64]]:
        """Everybody whose answer may change by time in (now_us, until_us], with the moment."""
        ...

    def moments_many(self, people: People) -> NDArray[np.int64]:
        """The moments at which time alone may change the answers of these people, a row for each.

        Moments that are past, or lie before all time, say nothing.
        """
        ...

    def forget(self, person: int) -> None: ...


class EventLeaf(Protocol):
    """A leaf over events: fed times of matching events."""

    test: EventTest
    column: Column

    def add(self, person: int, time_us: int, now_us: int) -> bool:
        """Feed one event, not dated after ``now_us``; returns whether the answer at ``now_us`` is another one now."""
        ...

    def add_many(self, people: People, first: NDArray[np.int64], times_us: NDArray[np.int64]) -> Fed:
        """Feed events in bulk: distinct sorted ``people``, the row where each begins, all their times ascending."""
        ...

    def answers(self, held: Numbers, now_us: Moment) -> Truth:
        """What the leaf answers of people of whom it holds so much."""
        ...


class CountLeaf:
    """Events counted for ever or between two fixed moments; the count stops at the bound + 1.

    Where it goes beyond one, the newest time counted is kept beside the count until that is full: since then there are
    so many. It is kept of people whose events all came one by one or in bursts since the leaf is in memory, and not
    stored: events that come in bulk are too many for it.
    """

    timed = False
    # Has it still to be told what came before it was there? What it answers until then says nothing.
    filling = False

    def __init__(self, test: EventTest) -> None:
        self.test = test
        self.cap = (test.at_most if test.at_most is not None else test.at_least - 1) + 1
        self.dated = self.cap > 1
        self.column = Column("uint16")
        # The newest time counted, since 1900; 0 where it is not known.
        self.dates = Column("int64")
        self.where = None if test.where is None else comparison.where_judge(test.where)
        # The counts at which one more event changes the answer.
        self.turns = frozenset({test.at_least - 1, test.at_most})
        window = test.window
        self.from_us = window.from_us if isinstance(window, Between) else None
        self.to_us = window.to_us if isinstance(window, Between) else None

    @property
    def ever(self) -> bool:
        """Does it count whatever the time?"""
        return self.from_us is None and self.to_us is None

    def takes(self, time_us: int) -> bool:
        """Does the time lie inside the fixed window?"""
        return (self.from_us is None or time_us >= self.from_us) and (self.to_us is None or time_us < self.to_us)

    def takes_many(self, times_us: NDArray[np.int64]) -> Truth:
        """The same of many."""
        inside = np.ones(len(times_us), dtype=bool)
        if self.from_us is not None:
            inside &= times_us >= self.from_us
        if self.to_us is not None:
            inside &= times_us < self.to_us
        return inside

    def add(self, person: int, time_us: int, now_us: int) -> bool:
        count = self.column.get(person)
        if count >= self.cap or not self.takes(time_us):
            return False
        self.column.set(person, count + 1)
        if self.dated:
            self._date(person, count, time_us - DATED_FROM_US)
        return count in self.turns

    def _date(self, person: int, count: int, date: int) -> None:
        """One more event was counted."""
        held = self.dates.get(person)
        known = count + 1 < self.cap and date > 0 and (count == 0 or held > 0)
        found = max(date, held if count else 0) if known else 0
        if found != held:
            self.dates.set(person, found)

    def gather(self, people: People) -> Numbers:
        """The counts of sorted people, each with the newest time counted in the bits above it."""
        counts = self.column.gather(people).astype(np.int64)
        return self.dates.gather(people) << COUNT_BITS | counts if self.dated else counts

    def count_many(self, people: People, held: Numbers, times_us: NDArray[np.int64]) -> None:
        """Count one more event of each of these sorted people, of whom so much (``gather``) is held."""
        counts = (held & COUNT_MASK) + 1
        self.column.scatter(people, counts.astype(np.uint16))
        if self.dated:
            dates, held_dates = times_us - DATED_FROM_US, held >> COUNT_BITS
            known = (counts < self.cap) & (dates > 0) & ((counts == 1) | (held_dates > 0))
            self.dates.scatter(people, np.where(known, np.maximum(dates, np.where(counts == 1, 0, held_dates)), 0))

    def add_many(self, people: People, first: NDArray[np.int64], times_us: NDArray[np.int64]) -> Fed:
        counts = np.diff(np.append(first, len(times_us)))
        if not self.ever:
            inside = self.takes_many(times_us)
            counts = np.add.reduceat(inside.astype(np.int64), first) if len(first) else counts
        before = self.column.gather(people)
        after = np.minimum(before + counts, self.cap).astype(np.uint16)
        fed = Fed.of(people, before, after, before != after)
        self.column.scatter(fed.people, fed.after)
        self.undate(fed.people)
        return fed

    def undate(self, people: People) -> None:
        """The newest times counted of these sorted people are not known any more."""
        dated = people[self.dates.gather(people) > 0] if self.dates.pages else people[:0]
        if len(dated):
            self.dates.scatter(dated, np.zeros(len(dated), np.int64))

    def holds(self, person: int, now_us: int) -> bool:
        count = self.column.get(person)
        return count >= self.test.at_least and (self.test.at_most is None or count <= self.test.at_most)

    def holds_many(self, people: People, now_us: Moment) -> Truth:
        return self.answers(self.column.gather(people), now_us)

    def answers(self, held: Numbers, now_us: Moment) -> Truth:
        truth = held >= self.test.at_least
        return truth if self.test.at_most is None else truth & (held <= self.test.at_most)

    def next_change_us(self, person: int, now_us: int) -> int:
        return NEVER_US

    def due_many(self, now_us: int, until_us: int) -> tuple[People, NDArray[np.int64]]:
        return np.empty(0, np.uint32), np.empty(0, np.int64)

    def moments_many(self, people: People) -> NDArray[np.int64]:
        return np.empty((len(people), 0), np.int64)

    def forget(self, person: int) -> None:
        if self.column.get(person):
            self.column.set(person, 0)
        if self.dates.get(person):
            self.dates.set(person, 0)


class WindowLeaf:
    """Events within the last so many microseconds: the k newest times of each person, newest first."""

    timed = True
    filling = False

    def __init__(self, test: EventTest) -> None:
        assert isinstance(test.window, Last)
        self.test = test
        self.last_us = test.window.last_us
        self.keep = test.at_least if test.at_most is None else test.at_most + 1
        self.column = Column("int64", self.keep)
        self.where = None if test.where is None else comparison.where_judge(test.where)

    def gather(self, people: People) -> Numbers:
        """The times kept of sorted people, a row for each where there are several."""
        return self.column.gather(people)

    def _times(self, person: int) -> list[int]:
        row = [self.column.get(person)] if self.keep == 1 else self.column.row(person)
        return [time - SHIFT_US for time in row if time]

    def _inside(self, count: int) -> bool:
        return count >= self.test.at_least and (self.test.at_most is None or count <= self.test.at_most)

    def add(self, person: int, time_us: int, now_us: int) -> bool:
        stored = time_us + SHIFT_US
        if self.keep == 1:
            held = self.column.get(person)
            if stored <= held:
                return False
            self.column.set(person, stored)
            return held <= now_us - self.last_us + SHIFT_US < stored
        row = self.column.row(person)
        if stored <= row[-1]:
            return False
        before = self.holds(person, now_us)
        row[-1] = stored
        row.sort(reverse=True)
        self.column.set_row(person, row)
        return self.holds(person, now_us) != before

    def add_many(self, people: People, first: NDArray[np.int64], times_us: NDArray[np.int64]) -> Fed:
        ends = np.append(first, len(times_us))[1:]
        before = self.column.gather(people)
        if self.keep == 1:
            after = np.maximum(before, times_us[ends - 1] + SHIFT_US)
            fed = Fed.of(people, before, after, before != after)
        else:
            after = self._newest(before, first, ends, times_us)
            fed = Fed.of(people, before, after, (before != after).any(axis=1))
        self.column.scatter(fed.people, fed.after)
        return fed

    def _newest(
        self, held: Numbers, first: NDArray[np.int64], ends: NDArray[np.int64], times_us: NDArray[np.int64]
    ) -> Numbers:
        """The newest of the times held and of those that came, from ``first`` to ``ends`` for each person."""
        newest = np.zeros((len(held), self.keep), dtype=np.int64)
        for rank in range(self.keep):
            at = ends - 1 - rank
            has = at >= first
            if not has.any():
                break
            newest[has, rank] = times_us[at[has]] + SHIFT_US
        both = np.concatenate([held, newest], axis=1)
        both.sort(axis=1)
        return both[:, ::-1][:, : self.keep]

    def holds(self, person: int, now_us: int) -> bool:
        edge = now_us - self.last_us
        if self.keep == 1:
            newest = self.column.get(person)
            return self._inside(1 if newest and newest - SHIFT_US > edge else 0)
        return self._inside(sum(time > edge for time in self._times(person)))

    def holds_many(self, people: People, now_us: Moment) -> Truth:
        return self.answers(self.column.gather(people), now_us)

    def answers(self, held: Numbers, now_us: Moment) -> Truth:
        edge_us = now_us - self.last_us + SHIFT_US
        if self.keep == 1:
            counts = (held > edge_us).astype(np.uint8)
        else:
            counts = (held > np.asarray(edge_us)[..., None]).sum(axis=1)
        truth = counts >= self.test.at_least
        return truth if self.test.at_most is None else truth & (counts <= self.test.at_most)

    def next_change_us(self, person: int, now_us: int) -> int:
        edge = now_us - self.last_us
        if self.keep == 1:
            newest = self.column.get(person) - SHIFT_US
            return newest + self.last_us if newest > edge else NEVER_US
        inside = [time for time in self._times(person) if time > edge]
        now_true = self._inside(len(inside))
        for left, time in enumerate(reversed(inside), start=1):
            together = left < len(inside) and inside[-left - 1] == time
            if not together and self._inside(len(inside) - left) != now_true:
                return time + self.last_us
        return NEVER_US

    def due_many(self, now_us: int, until_us: int) -> tuple[People, NDArray[np.int64]]:
        low, high = now_us - self.last_us + SHIFT_US, until_us - self.last_us + SHIFT_US
        found: list[tuple[Numbers, Numbers]] = []
        for start, page in self.column.each():
            rows = page.reshape(-1, self.keep)
            row, rank = np.nonzero((rows > low) & (rows <= high))
            found.append(((row + start).astype(np.uint32), rows[row, rank] - SHIFT_US + self.last_us))
        if not found:
            return np.empty(0, np.uint32), np.empty(0, np.int64)
        return np.concatenate([people for people, _ in found]), np.concatenate([moments for _, moments in found])

    def moments_many(self, people: People) -> NDArray[np.int64]:
        return self.moments_of(self.column.gather(people))

    def moments_of(self, held: Numbers) -> NDArray[np.int64]:
        """The moments at which times held of people, a row for each, leave the window."""
        return held.reshape(len(held), self.keep) - SHIFT_US + self.last_us

    def forget(self, person: int) -> None:
        if self._times(person):
            self.column.set(person, 0) if self.keep == 1 else self.column.set_row(person, [0] * self.keep)


class AttributeLeaf:
    """A test of one attribute: the people for whom it holds, and when time will change that for whom."""

    def __init__(self, test: AttributeTest) -> None:
        self.test = test
        self.field = test.field
        self.root = test.field.partition(".")[0].partition("[")[0]
        self.timed = "timestamp" in test.operator
        self.true = BitMap()
        self.changes = Column("int64")
        # While the leaf is being built: who was judged by live facts, and must not be overwritten by the scan.
        self.judged_live: set[int] | None = None

    def set(self, person: int, values: dict[str, Json], now_us: int) -> bool:
        """Judge a person whose attributes changed, or whose moment has come; is the answer another one now?"""
        found = comparison.read_path(values, self.field)
        before, after = person in self.true, comparison.holds(self.test, found, now_us)
        self.take(person, after, comparison.next_change_us(self.test, found, now_us) if self.timed else None)
        if self.judged_live is not None:
            self.judged_live.add(person)
        return before != after

    def take(self, person: int, holds: bool, moment_us: int | None) -> None:
        """Take a verdict, with the moment at which time will change it (None or NEVER_US: never)."""
        if holds:
            self.true.add(person)
        else:
            self.true.discard(person)
        if self.timed:
            stored = 0 if moment_us is None or moment_us == NEVER_US else moment_us + SHIFT_US
            if stored or self.changes.get(person):
                self.changes.set(person, stored)

    def take_many(self, people: People, truth: Truth, moments_us: NDArray[np.int64] | None) -> None:
        """Take the verdicts of many, with moments (NEVER_US: never) where the test looks at the clock."""
        self.true |= bitmap_of(people[truth])
        self.true -= bitmap_of(people[~truth])
        if self.timed and moments_us is not None:
            self.changes.scatter(people, np.where(moments_us == NEVER_US, 0, moments_us + SHIFT_US))

    def holds_nothing(self, now_us: int) -> bool:
        """Does the test hold for somebody without the attribute?"""
        return comparison.holds(self.test, [], now_us)

    def holds(self, person: int, now_us: int) -> bool:
        return person in self.true

    def holds_many(self, people: People, now_us: Moment) -> Truth:
        return member_many(self.true, people)

    def next_change_us(self, person: int, now_us: int) -> int:
        stored = self.changes.get(person)
        return stored - SHIFT_US if stored else NEVER_US

    def due_many(self, now_us: int, until_us: int) -> tuple[People, NDArray[np.int64]]:
        return due_in(self.changes, -SHIFT_US, until_us, shift_us=0)

    def moments_many(self, people: People) -> NDArray[np.int64]:
        return self.changes.gather(people)[:, None] - SHIFT_US

    def forget(self, person: int) -> None:
        self.true.discard(person)
        if self.changes.get(person):
            self.changes.set(person, 0)


def due_in(column: Column, low_us: int, high_us: int, *, shift_us: int) -> tuple[People, NDArray[np.int64]]:
    """People whose time in a column of shifted times lies in (low, high], with that time plus ``shift_us``."""
    people: list[Numbers] = [np.empty(0, np.uint32)]
    moments: list[Numbers] = [np.empty(0, np.int64)]
    for start, page in column.each():
        at = np.nonzero((page > low_us + SHIFT_US) & (page <= high_us + SHIFT_US))[0]
        people.append((at + start).astype(np.uint32))
        moments.append(page[at] - SHIFT_US + shift_us)
    return np.concatenate(people), np.concatenate(moments)


def event_leaf(test: EventTest) -> CountLeaf | WindowLeaf:
    """The leaf that answers an event test. "At least none" holds for everybody: there is no window to keep."""
    always = test.at_least == 0 and test.at_most is None
    return WindowLeaf(test) if isinstance(test.window, Last) and not always else CountLeaf(test)
