"""The leaf over devices and relationships: how many of a person's records pass a test, and when time changes that.

It is told all of a person's records whenever one of them changed. People without any have an answer of their own,
the same for all of them, so only those whose answer is another are kept.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from backstory.core.column import Column, Moment, People, Truth, member_many
from backstory.core.comparison import next_change_us, read_path, where_holds
from backstory.core.condition import Json, RecordTest, RelationTest, tests_in
from backstory.core.leaf import NEVER_US, SHIFT_US, due_in

Rows = Sequence[Mapping[str, Json]]
Row = TypeVar("Row", bound=Mapping[str, Json])


class RecordLeaf:
    """A test of the number of devices, or of relationships, for which a tree of tests holds."""

    def __init__(self, test: RecordTest) -> None:
        self.test: RecordTest = test
        self._tests = [] if test.where is None else tests_in(test.where)
        self.timed = any("timestamp" in one.operator for one in self._tests)
        self._nothing = self.judge(test, (), 0)
        # Those for whom the answer is not that of people without any record.
        self.odd = BitMap()
        self.changes = Column("int64")
        # While the leaf is being built: who was judged by live facts, and must not be overwritten by the scan.
        self.judged_live: set[int] | None = None

    @staticmethod
    def judge(test: RecordTest, rows: Rows, now_us: int) -> bool:
        """Are there as many records for which the test holds as it asks for?"""
        count = len(passing(test, rows, now_us))
        return count >= test.at_least and (test.at_most is None or count <= test.at_most)

    def set(self, person: int, rows: Rows, now_us: int) -> None:
        """Judge a person whose records changed, or whose moment has come."""
        rows = asked(self.test, rows)
        holds = self.judge(self.test, rows, now_us)
        if holds != self._nothing:
            self.odd.add(person)
        else:
            self.odd.discard(person)
        if self.timed:
            self._expect(person, rows, now_us)
        if self.judged_live is not None:
            self.judged_live.add(person)

    def _expect(self, person: int, rows: Rows, now_us: int) -> None:
        """The first moment at which any of the tests turns; it is judged again then, whatever comes of it."""
        found = (next_change_us(one, read_path(row, one.field), now_us) for row in rows for one in self._tests)
        moment = min((us for us in found if us is not None), default=NEVER_US)
        stored = 0 if moment == NEVER_US else moment + SHIFT_US
        if stored or self.changes.get(person):
            self.changes.set(person, stored)

    def holds(self, person: int, now_us: int) -> bool:
        return (person in self.odd) != self._nothing

    def holds_many(self, people: People, now_us: Moment) -> Truth:
        return member_many(self.odd, people) != self._nothing

    def next_change_us(self, person: int, now_us: int) -> int:
        stored = self.changes.get(person)
        return stored - SHIFT_US if stored else NEVER_US

    def due_many(self, now_us: int, until_us: int) -> tuple[People, NDArray[np.int64]]:
        return due_in(self.changes, -SHIFT_US, until_us, shift_us=0)

    def moments_many(self, people: People) -> NDArray[np.int64]:
        return self.changes.gather(people)[:, None] - SHIFT_US

    def forget(self, person: int) -> None:
        self.odd.discard(person)
        if self.changes.get(person):
            self.changes.set(person, 0)


def asked(test: RecordTest, rows: Sequence[Row]) -> list[Row]:
    """The rows a test is about."""
    named = test.object_id if isinstance(test, RelationTest) else None
    return [row for row in rows if named is None or row["object_id"] == named]


def passing(test: RecordTest, rows: Sequence[Row], now_us: int) -> list[Row]:
    """The rows that pass a test."""
    return [row for row in asked(test, rows) if test.where is None or where_holds(test.where, row, now_us)]
