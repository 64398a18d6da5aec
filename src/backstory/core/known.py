"""Since when people are known, and the leaves over it: the guard of "has not done X within N days"."""

import numpy as np
from numpy.typing import NDArray

from backstory.core.column import Column, Moment, People, Truth
from backstory.core.leaf import NEVER_US, SHIFT_US, due_in


class KnownLeaf:
    """Known for at least so long (``last_us``), or since before a fixed moment (``before_us``).

    All such leaves read one shared column of the earliest effective times.
    """

    def __init__(self, known: "KnownSince", *, last_us: int | None, before_us: int | None) -> None:
        self.known = known
        self.last_us = last_us
        self.before_us = before_us
        self.timed = last_us is not None

    def _edge_us(self, now_us: Moment) -> Moment:
        if self.last_us is not None:
            return now_us - self.last_us
        assert self.before_us is not None
        return min(now_us, self.before_us) if isinstance(now_us, int) else np.minimum(now_us, self.before_us)

    def holds(self, person: int, now_us: int) -> bool:
        return bool(self.known.get_us(person) <= self._edge_us(now_us))

    def holds_many(self, people: People, now_us: Moment) -> Truth:
        return self.known.gather_us(people) <= self._edge_us(now_us)

    def next_change_us(self, person: int, now_us: int) -> int:
        known_us = self.known.get_us(person)
        if self.last_us is None or known_us == NEVER_US:
            return NEVER_US
        moment = known_us + self.last_us
        return moment if moment > now_us else NEVER_US

    def due_many(self, now_us: int, until_us: int) -> tuple[People, NDArray[np.int64]]:
        if self.last_us is None:
            return np.empty(0, np.uint32), np.empty(0, np.int64)
        return self.known.between(now_us - self.last_us, until_us - self.last_us, shift_us=self.last_us)

    def moments_many(self, people: People) -> NDArray[np.int64]:
        if self.last_us is None:
            return np.empty((len(people), 0), np.int64)
        return self.known.gather_us(people)[:, None] + self.last_us

    def forget(self, person: int) -> None:
        """The shared column is cleared once, by its owner."""


class KnownSince:
    """The earliest effective time of any fact of each person."""

    def __init__(self) -> None:
        self.column = Column("int64")

    def add(self, person: int, time_us: int) -> bool:
        """Take a fact's time; returns whether the person is known for longer now."""
        held = self.column.get(person)
        if held and held - SHIFT_US <= time_us:
            return False
        self.column.set(person, time_us + SHIFT_US)
        return True

    def add_many(self, people: People, earliest_us: NDArray[np.int64]) -> None:
        held = self.column.gather(people)
        stored = earliest_us + SHIFT_US
        self.column.scatter(people, np.where(held == 0, stored, np.minimum(held, stored)))

    def get_us(self, person: int) -> int:
        held = self.column.get(person)
        return held - SHIFT_US if held else NEVER_US

    def gather_us(self, people: People) -> NDArray[np.int64]:
        held = self.column.gather(people)
        return np.where(held == 0, NEVER_US, held - SHIFT_US)

    def between(self, low_us: int, high_us: int, *, shift_us: int) -> tuple[People, NDArray[np.int64]]:
        """People first known in (low, high], with that moment plus ``shift_us``."""
        # Of whom nothing is known there is a zero, which is a moment too.
        return due_in(self.column, max(low_us, -SHIFT_US), high_us, shift_us=shift_us)

    def forget(self, person: int) -> None:
        if self.column.get(person):
            self.column.set(person, 0)
