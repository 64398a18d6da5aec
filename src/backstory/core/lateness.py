"""Late facts: those dated before the moment at which they are taken in, and since when what they change is true.

The theory (design section 8, effective entry): when nothing happened to a person from a late fact's own time up to
now, neither by another fact nor by time alone, then the answers of all conditions stood still since then but for what
the fact itself changed, and what it changed is true since its time. Otherwise the person's history has to be read.

So of each person the newest time of an event is kept, and of any other fact, which only some conditions ask for. Where
many facts come or go at once, and at the start, since nothing of this is stored, only a floor is known: of everybody
who was there by then there may be facts up to that moment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from backstory.core.column import Column, People
from backstory.core.condition import Condition, EventTest
from backstory.core.known import KnownLeaf
from backstory.core.leaf import SHIFT_US, AttributeLeaf, CountLeaf, WindowLeaf
from backstory.core.leaf_key import AnyLeaf, LeafKey, leaf_keys
from backstory.core.metric import MESSAGE
from backstory.core.record_leaf import RecordLeaf
from backstory.core.wildcard import is_wildcard

Moments = NDArray[np.int64]


class Newest:
    """The newest time of facts of each person; one that is too recent does no harm."""

    def __init__(self) -> None:
        self.column = Column("int64")
        self._floor_us = -SHIFT_US
        # Whoever has a number from here on came later.
        self._next_person = 0

    def raise_floor(self, now_us: int, people: BitMap) -> None:
        """Of these people, and of all who came before the last of them, there may be facts up to this moment."""
        self._floor_us = max(self._floor_us, now_us)
        self._next_person = max(self._next_person, people.max() + 1 if people else 0)

    def put(self, person: int, time_us: int) -> None:
        if time_us + SHIFT_US > self.column.get(person):
            self.column.set(person, time_us + SHIFT_US)

    def put_many(self, people: People, times_us: Moments) -> None:
        """The same of sorted distinct people."""
        newer = times_us + SHIFT_US > self.column.gather(people)
        self.column.scatter(people[newer], times_us[newer] + SHIFT_US)

    def is_before(self, person: int, time_us: int) -> bool:
        """Are all facts told of a person older than this moment?"""
        above = time_us > self._floor_us or person >= self._next_person
        return above and self.column.get(person) < time_us + SHIFT_US

    def latest_us(self, people: People) -> Moments:
        """Of sorted distinct people: no fact told of them is newer."""
        told_us = self.column.gather(people) - SHIFT_US
        return np.where(people < self._next_person, np.maximum(told_us, self._floor_us), told_us)


class NewestFacts:
    """The newest events, and the newest of all other facts: values, records, memberships somebody gave, messages."""

    def __init__(self) -> None:
        self.events = Newest()
        self.others = Newest()

    def raise_floor(self, now_us: int, people: BitMap) -> None:
        """Facts of any sort came or went at once."""
        self.events.raise_floor(now_us, people)
        self.others.raise_floor(now_us, people)

    def put(self, person: int, time_us: int) -> None:
        """Something happened to somebody, of whatever sort."""
        self.events.put(person, time_us)
        self.others.put(person, time_us)

    def is_before(self, person: int, time_us: int, *, events_only: bool) -> bool:
        """Are all facts of a person, or their events, older than this moment?"""
        return self.events.is_before(person, time_us) and (events_only or self.others.is_before(person, time_us))


@dataclass(frozen=True, slots=True)
class Basis:
    """What a condition asks, with those of the segments it refers to: leaves over time, whether only events, and the
    names of events, those with wildcards aside."""

    timed: tuple[AnyLeaf, ...]
    events_only: bool
    names: frozenset[str] = frozenset()


def basis_of(condition: Condition | None, leaves: Mapping[LeafKey, AnyLeaf], under: Sequence[Basis]) -> Basis:
    """What a condition asks, None: a manual segment; ``under`` is what the segments ask to which it refers."""
    if condition is None:
        # Whom somebody put into a segment is no event.
        return Basis((), events_only=False)
    keys = list(leaf_keys(condition))
    timed = [leaves[key] for key in keys if leaves[key].timed] + [leaf for one in under for leaf in one.timed]
    events = all(isinstance(key, tuple) or (isinstance(key, EventTest) and key.kind != MESSAGE) for key in keys)
    names = {key.name for key in keys if isinstance(key, EventTest) and key.kind != MESSAGE}
    return Basis(
        timed=tuple(dict.fromkeys(timed)),
        events_only=events and all(one.events_only for one in under),
        names=frozenset(name for name in names if not is_wildcard(name)).union(*(one.names for one in under)),
    )


def may_have_turned(leaf: AnyLeaf, person: int, since_us: int, now_us: int) -> bool:
    """May time alone have changed the answer of a leaf at a moment from ``since_us`` up to now?"""
    match leaf:
        case CountLeaf():
            return False
        case WindowLeaf():
            low, high = since_us - leaf.last_us + SHIFT_US, now_us - leaf.last_us + SHIFT_US
            held = [leaf.column.get(person)] if leaf.keep == 1 else leaf.column.row(person)
            return any(low <= time <= high for time in held)
        case KnownLeaf():
            return leaf.last_us is not None and since_us <= leaf.known.get_us(person) + leaf.last_us <= now_us
        case AttributeLeaf() | RecordLeaf():
            # Only the moments that are still to come are kept.
            return leaf.timed
        case _:
            assert_never(leaf)
