"""Coming moments: when time alone may change somebody's answer, in order.

Moments are kept for a short horizon only; beyond it the leaves know them, and a scan of the columns (a millisecond
per million people and leaf) brings in the next stretch. So a million pending expiries cost nothing. The scan is done
some leaves at a time, before the horizon is reached, so that it never holds up what comes in between.
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
# A leaf over a million people takes about a millisecond.
LEAVES_AT_ONCE = 8
# (moment, person, rank of the leaf)
Due = tuple[int, int, int]


class Coming:
    """The moments of the leaves it was told to ``watch``."""

    def __init__(self) -> None:
        self._leaves: Mapping[LeafKey, AnyLeaf] = {}
        # Leaves by rank; those that are watched no longer keep theirs until all is read anew.
        self._keys: list[LeafKey] = []
        self._rank_of: dict[LeafKey, int] = {}
        self._moments: list[Due] = []
        self._horizon_us = 0
        self._stride_us = HORIZON_US
        self._stale = True
        # All that was due up to here is settled.
        self.settled_us = 0
        # The stretch behind the horizon, read leaf by leaf before it is needed, and which leaves are still to be read.
        self._ahead: list[Due] = []
        self._ahead_us = 0
        self._unread: list[LeafKey] = []
        # When to come back at the latest: the next coming moment, or the end of the horizon.
        self.next_us = NEVER_US

    def watch(self, leaves: Mapping[LeafKey, AnyLeaf]) -> None:
        """These leaves count from now on; what was expected of others is forgotten."""
        self._leaves = leaves
        timed = [key for key, leaf in leaves.items() if leaf.timed]
        new = [key for key in timed if key not in self._rank_of]
        if len(new) == len(timed):
            self._keys, self._rank_of = timed, {key: rank for rank, key in enumerate(timed)}
            return self.read_anew()
        for key in self._rank_of.keys() - set(timed):
            del self._rank_of[key]
        for key in new:
            self._rank_of[key] = len(self._keys)
            self._keys.append(key)
            self.read_leaf(key)
        return self._find_next()

    def read_leaf(self, key: LeafKey) -> None:
        """One leaf was told much without ``expect``: read its coming moments from it again."""
        if self._stale or key not in self._rank_of:
            return
        for one in self._of(key, self.settled_us, self._horizon_us):
            heapq.heappush(self._moments, one)
        self._forget_ahead()
        self._find_next()

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
        self._forget_ahead()
        self._find_next()

    def expect(self, key: LeafKey, leaf: AnyLeaf, person: int, now_us: int) -> None:
        """A timed leaf took something about a person."""
        if self._stale:
            return
        moment = leaf.next_change_us(person, now_us)
        if moment <= self._horizon_us:
            heapq.heappush(self._moments, (moment, person, self._rank_of[key]))
            self._find_next()
        elif moment <= self._ahead_us:
            self._ahead.append((moment, person, self._rank_of[key]))

    def expect_fed(self, people: People, now_us: int, keys: Iterable[LeafKey] | None) -> None:
        """Leaves (None: all) took something about these sorted people in bulk."""
        for key in self._keys if keys is None else keys:
            if key in self._rank_of and not self._stale:
                self.expect_many(key, people, self._leaves[key].moments_many(people), now_us)

    def expect_many(self, key: LeafKey, people: People, moments_us: Numbers, now_us: Moment) -> None:
        """Time may change many people's answers at these moments, a row of them for each: those that are near are kept.

        A moment too many is looked at for nothing, and no harm done.
        """
        if self._stale or key not in self._rank_of:
            return
        near = moments_us <= max(self._horizon_us, self._ahead_us)
        if not near.any():
            return
        row, place = np.nonzero(near & (moments_us > np.asarray(now_us)[..., None]))
        for moment, person in zip(moments_us[row, place].tolist(), people[row].tolist(), strict=True):
            if moment <= self._horizon_us:
                heapq.heappush(self._moments, (moment, person, self._rank_of[key]))
            else:
                self._ahead.append((moment, person, self._rank_of[key]))
        self._find_next()

    def _of(self, key: LeafKey, after_us: int, until_us: int) -> list[Due]:
        """A leaf's moments in (after, until]."""
        people, at_us = self._leaves[key].due_many(after_us, until_us)
        return list(zip(at_us.tolist(), people.tolist(), [self._rank_of[key]] * len(people), strict=True))

    # -- the stretch after next ---------------------------------------------------------------------------------------

    def lags(self, now_us: int) -> bool:
        """Is it time to read the next stretch, some leaves at a time?"""
        if self._stale or not self._rank_of or self._horizon_us - now_us > HORIZON_US // 2:
            return False
        return bool(self._unread) or self._ahead_us <= self._horizon_us

    def read_some(self, leaves_max: int = LEAVES_AT_ONCE) -> None:
        """Read some leaves for the next stretch."""
        if self._ahead_us <= self._horizon_us:
            self._ahead, self._ahead_us = [], self._horizon_us + HORIZON_US
            self._unread = list(self._rank_of)
        for key in self._unread[-leaves_max:]:
            self._ahead += self._of(key, self._horizon_us, self._ahead_us)
        del self._unread[-leaves_max:]

    def _forget_ahead(self) -> None:
        self._ahead, self._ahead_us, self._unread = [], 0, []

    def _next_stretch(self) -> None:
        """The horizon is reached: what was read ahead is what comes; else all leaves are read in one go."""
        if self._unread or self._ahead_us <= self._horizon_us:
            return self._scan(self._horizon_us + self._stride_us)
        for one in self._ahead:
            heapq.heappush(self._moments, one)
        self._horizon_us = self._ahead_us
        self._forget_ahead()
        return self._find_next()

    def _scan(self, until_us: int) -> None:
        """Read from the leaves every moment in (settled, until]."""
        moments = [one for key in self._rank_of for one in self._of(key, self.settled_us, until_us)]
        heapq.heapify(moments)
        self._moments = moments
        self._horizon_us = until_us
        self._forget_ahead()
        self._stale = False
        self._find_next()

    def _find_next(self) -> None:
        if not self._rank_of:
            self.next_us = NEVER_US
        elif self._stale:
            self.next_us = self.settled_us
        else:
            self.next_us = min(self._moments[0][0], self._horizon_us) if self._moments else self._horizon_us

    def due(self, now_us: int) -> Iterator[tuple[int, int, LeafKey]]:
        """Pop each (moment, person, leaf) up to ``now_us`` in order of time; the caller settles each."""
        if self._stale and self._rank_of:
            self._scan(self.settled_us + self._stride_us)
        while self._rank_of:
            until_us = min(now_us, self._horizon_us)
            while self._moments and self._moments[0][0] <= until_us:
                moment, person, rank = heapq.heappop(self._moments)
                self._find_next()
                self.settled_us = max(self.settled_us, moment)
                key = self._keys[rank]
                # It may be watched no longer, or again under another rank.
                if self._rank_of.get(key) == rank:
                    yield moment, person, key
            self.settled_us = max(self.settled_us, until_us)
            if self._horizon_us > now_us:
                return
            self._next_stretch()
        self.settled_us = max(self.settled_us, now_us)
