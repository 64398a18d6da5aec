"""What leaves are told of many events: rows sorted by person, then time.

The plain way, step by step over arrays. ``feed_kernel`` does the same in one pass over the memory of the columns.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from backstory.core.column import Fed, People, Truth, member_many
from backstory.core.condition import Where
from backstory.core.known import KnownSince
from backstory.core.lateness import Newest
from backstory.core.leaf import CountLeaf, WindowLeaf
from backstory.store.history import runs

AnyEventLeaf = CountLeaf | WindowLeaf


@dataclass(frozen=True, slots=True)
class Told:
    """Rows that a leaf is told of: those of ``people`` and ``times_us`` that the mask (None: all) lets through.

    Without a leaf: that they happened at all.
    """

    leaf: AnyEventLeaf | None
    people: People
    times_us: NDArray[np.int64]
    mask: Truth | None = None

    def only(self, these: Truth) -> "Told":
        """The same, of these rows only."""
        return replace(self, mask=these if self.mask is None else self.mask & these)

    def whom(self) -> People:
        """Everybody it is told of, once each."""
        people, _ = self.rows()
        return people[runs(people)]

    def rows(self) -> tuple[People, NDArray[np.int64]]:
        """The people and times that the mask lets through."""
        if self.mask is None:
            return self.people, self.times_us
        return self.people[self.mask], self.times_us[self.mask]


class Feed(Protocol):
    """A way to tell leaves. What it returns holds until it is asked again."""

    def leaf(self, leaf: AnyEventLeaf, told: Told) -> Fed:
        """Tell a leaf of rows; returns of whom it holds something else now."""
        ...

    def known(self, newest: Newest, known: KnownSince, told: Told) -> People:
        """Something happened to these people, whatever it is; returns who is known for longer by it."""
        ...


class PlainFeed:
    """Over arrays, in steps."""

    def leaf(self, leaf: AnyEventLeaf, told: Told) -> Fed:
        people, times_us = told.rows()
        first = runs(people)
        return leaf.add_many(people[first], first, times_us)

    def known(self, newest: Newest, known: KnownSince, told: Told) -> People:
        people, times_us = told.rows()
        first = runs(people)
        if not len(first):
            return people
        last = np.append(first[1:], len(people)) - 1
        newest.put_many(people[last], times_us[last])
        people, times_us = people[first], times_us[first]
        earlier = times_us < known.gather_us(people)
        people = people[earlier]
        known.add_many(people, times_us[earlier])
        return people


def told_of(
    leaves: Iterable[AnyEventLeaf | None], people: People, times_us: NDArray[np.int64], masks: Mapping[Where, Truth]
) -> Iterator[Told]:
    """What each leaf is told of rows, where that is anything; ``masks`` say for which rows each where-test holds."""
    for leaf in leaves:
        mask = None if leaf is None or leaf.test.where is None else masks[leaf.test.where]
        if mask is None or mask.any():
            yield Told(leaf, people, times_us, mask)


def living_rows(alive: BitMap, people: People) -> Truth:
    """Which rows, sorted by person, are of somebody who is there."""
    first = runs(people)
    return np.repeat(member_many(alive, people[first]), np.diff(np.append(first, len(people))))


def stretches(people: People, rows_max: int) -> Iterator[slice]:
    """Cut rows sorted by person, at most so many in each piece but where one person alone has more."""
    low = 0
    while low < len(people):
        high = low + rows_max
        if high < len(people):
            # All of a person's rows stay together.
            own = people[high : high + 1]
            start = int(np.searchsorted(people, own)[0])
            high = start if start > low else int(np.searchsorted(people, own, side="right")[0])
        yield slice(low, min(high, len(people)))
        low = high


def batches(told: Iterable[Told], rows_max: int) -> Iterator[list[Told]]:
    """Put together what has at most so many rows, but where one leaf alone is told of more."""
    together: list[Told] = []
    rows = 0
    for one in told:
        count = len(one.people)
        if together and rows + count > rows_max:
            yield together
            together, rows = [], 0
        together.append(one)
        rows += count
    if together:
        yield together
