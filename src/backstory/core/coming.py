"""Coming moments: when time alone may change somebody's answer, in order.

Moments are kept for a short horizon only; beyond it the leaves know them, and a scan of the columns (a millisecond
per million people and leaf) brings in the next stretch. So a million pending expiries cost nothing.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from backstory.core.column import Moment, Numbers, People
from backstory.core.leaf import NEVER_US
from backstory.core.leaf_key import AnyLeaf, LeafKey
from backstory.core.time import MINUTE_US

HORIZON_US = 10 * MINUTE_US
CATCH_UP_SCANS = 64


class Coming:
    """The moments of the leaves it was told to ``watch``."""

    def __init__(self) -> None:
        self._leaves: Mapping[LeafKey, AnyLeaf] = {}
        self._keys: list[LeafKey] = []
        self._rank_of: dict[LeafKey, int] = {}
        self._moments: list[tuple[int, int, int]] = []
        self._horizon_us = 0
        self._stride_us = HORIZON_US
        self._stale = True
        # All that was due up to here is settled.
        self.settled_us = 0
        # When to come back at the latest: the next coming moment, or the end of the horizon.
        self.next_us = NEVER_US

    def watch(self, leaves: Mapping[LeafKey, AnyLeaf]) -> None:
        """These leaves count from now on; what was expected of others is forgotten."""
        self._leaves = leaves
        self._keys = [key for key, leaf in leaves.items() if leaf.timed]
        self._rank_of = {key: rank for rank, key in enumerate(self._keys)}
        self.read_anew()

    def start(self, now_us: int) -> None:
        """All that time changed up to ``now_us`` is settled (after a restart or a build)."""
        self.settled_us = now_us
        self.read_anew()

    def passed(self, now_us: int) -> None:
        """All that was due up to ``now_us`` is settled: whatever is read from the leaves later begins there."""
        if now_us > self.settled_us:
            self.settled_us = now_us
            if self._stale:
                self._find_next()

    def aim(self, now_us: int) -> None:
        """Time is about to pass up to ``now_us``: a clock that jumped far is caught up in some sixty scans."""
        begin_us = self.settled_us if self._stale else self._horizon_us
        self._stride_us = max(HORIZON_US, (now_us - begin_us) // CATCH_UP_SCANS)

    def read_anew(self) -> None:
        """Leaves were fed without ``expect``: read the coming moments from them again."""
        self._stale = True
        self._find_next()

    def expect(self, key: LeafKey, leaf: AnyLeaf, person: int, now_us: int) -> None:
        """A timed leaf took something about a person."""
        if self._stale:
            return
        moment = leaf.next_change_us(person, now_us)
        if moment <= self._horizon_us:
            heapq.heappush(self._moments, (moment, person, self._rank_of[key]))
            self._find_next()

    def expect_fed(self, people: People, now_us: int, keys: Iterable[LeafKey] | None) -> None:
        """Leaves (None: all) took something about these sorted people in bulk."""
        for key in self._keys if keys is None else keys:
            if key in self._rank_of and not self._stale:
                self.expect_many(key, people, self._leaves[key].moments_many(people), now_us)

    def expect_many(self, key: LeafKey, people: People, moments_us: Numbers, now_us: Moment) -> None:
        """Time may change many people's answers at these moments, a row of them for each: those that are near are kept.

        A moment too many is looked at for nothing, and no harm done.
        """
        if self._stale:
            return
        near = moments_us <= self._horizon_us
        if not near.any():
            return
        row, place = np.nonzero(near & (moments_us > np.asarray(now_us)[..., None]))
        for moment, person in zip(moments_us[row, place].tolist(), people[row].tolist(), strict=True):
            heapq.heappush(self._moments, (moment, person, self._rank_of[key]))
        self._find_next()

    def _scan(self, until_us: int) -> None:
        """Read from the leaves every moment in (settled, until]."""
        moments: list[tuple[int, int, int]] = []
        for rank, key in enumerate(self._keys):
            people, at_us = self._leaves[key].due_many(self.settled_us, until_us)
            moments.extend(zip(at_us.tolist(), people.tolist(), [rank] * len(people), strict=True))
        heapq.heapify(moments)
        self._moments = moments
        self._horizon_us = until_us
        self._stale = False
        self._find_next()

    def _find_next(self) -> None:
        if not self._keys:
            self.next_us = NEVER_US
        elif self._stale:
            self.next_us = self.settled_us
        else:
            self.next_us = min(self._moments[0][0], self._horizon_us) if self._moments else self._horizon_us

    def due(self, now_us: int) -> Iterator[tuple[int, int, LeafKey]]:
        """Pop each (moment, person, leaf) up to ``now_us`` in order of time; the caller settles each."""
        if self._stale and self._keys:
            self._scan(self.settled_us + self._stride_us)
        while self._keys:
            until_us = min(now_us, self._horizon_us)
            while self._moments and self._moments[0][0] <= until_us:
                moment, person, rank = heapq.heappop(self._moments)
                self._find_next()
                self.settled_us = max(self.settled_us, moment)
                yield moment, person, self._keys[rank]
            self.settled_us = max(self.settled_us, until_us)
            if self._horizon_us > now_us:
                return
            self._scan(self._horizon_us + self._stride_us)
        self.settled_us = max(self.settled_us, now_us)
