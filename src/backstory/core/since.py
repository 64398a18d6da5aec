"""Since when: what leaves know of how long they have given the answer they give now, without anybody's history.

The theory: of each person a leaf knows a moment since when its answer has been the one it is, and sometimes that it was
the other one just before. Going back over these moments, from the newest on, a condition is asked what it was just
before each: leaves whose own moment is later cannot say. Where the condition was the other way round, it has been as it
is since that moment; where it might have been, only history can tell (``UNKNOWN_US``). Nobody is anywhere before they
are known.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from backstory.core.column import Numbers, People, Truth
from backstory.core.condition import (
    And,
    AttributeTest,
    Condition,
    DeviceTest,
    EventTest,
    InSegment,
    Not,
    Or,
    RelationTest,
)
from backstory.core.known import KnownLeaf
from backstory.core.leaf import (
    COUNT_BITS,
    COUNT_MASK,
    DATED_FROM_US,
    NEVER_US,
    SHIFT_US,
    AttributeLeaf,
    CountLeaf,
    WindowLeaf,
    member_many,
)
from backstory.core.leaf_key import LeafKey, event_test, guard_of
from backstory.core.metric import MESSAGE
from backstory.core.record_leaf import RecordLeaf
from backstory.core.segment import SegmentEngine

UNKNOWN_US = NEVER_US
ALWAYS_US = -NEVER_US
Moments = NDArray[np.int64]
AnyEventLeaf = CountLeaf | WindowLeaf


@dataclass(frozen=True, slots=True)
class Standing:
    """Of each person: the answer, since when it is certain, and whether it is certain that it was the other one just
    before."""

    holds: Truth
    since_us: Moments
    turned: Truth


@dataclass(frozen=True, slots=True)
class Told:
    """One event each of some people, of which leaves have been told.

    ``times_us`` are its times, ``latest_us`` those of the newest events before it. ``before`` says what a leaf that
    holds these numbers now held before it was told.
    """

    times_us: Moments
    latest_us: Moments
    before: Callable[[AnyEventLeaf, Numbers], Numbers]


class Since:
    """Since when conditions have given the answer they give now, of sorted distinct people with a now of each."""

    def __init__(self, segments: SegmentEngine, people: People, nows_us: Moments, told: Told) -> None:
        self._segments = segments
        self._people = people
        self._known_us = segments.known.gather_us(people)
        self._nows_us = nows_us
        self._told = told
        self._standings: dict[LeafKey | InSegment, Standing] = {}

    def of(self, condition: Condition) -> tuple[Moments, Truth]:
        """(Since when, ``UNKNOWN_US`` where that is not known; the answer)."""
        asked = list(dict.fromkeys(self._asked(condition)))
        if any(self._untold(key) for key in asked):
            return np.full(len(self._people), UNKNOWN_US), np.zeros(len(self._people), dtype=bool)
        standings = {key: self._standing(key) for key in asked}
        now = self._at(condition, {key: (one.holds, one.holds) for key, one in standings.items()})[0]
        since_us = np.full(len(now), UNKNOWN_US)
        open_ = self._known_us != NEVER_US
        edges = np.sort([one.since_us for one in standings.values()], axis=0)[::-1]
        for edge in [*edges, np.full(len(now), ALWAYS_US)]:
            first = open_ & (edge <= self._known_us)
            since_us[first] = self._known_us[first]
            open_ &= ~first
            if not open_.any():
                break
            before = {key: _before(one, edge) for key, one in standings.items()}
            may, must = self._at(condition, before)
            other = open_ & np.where(now, ~may, must)
            since_us[other] = edge[other]
            # As it is for certain, before this moment too: then it is the next one that counts.
            open_ &= np.where(now, must, ~may)
        return since_us, now

    def _untold(self, key: LeafKey | InSegment) -> bool:
        """Is a leaf still to be told what came before it was there?"""
        leaf = None if isinstance(key, InSegment) else self._segments.leaves[key]
        match leaf:
            case CountLeaf() | WindowLeaf():
                return leaf.filling
            case AttributeLeaf() | RecordLeaf():
                return leaf.judged_live is not None
            case _:
                return False

    def _asked(self, condition: Condition) -> list[LeafKey | InSegment]:
        """The leaves, and manual segments, that a condition asks, with those of the segments it refers to."""
        match condition:
            case And(children=children) | Or(children=children):
                return [key for child in children for key in self._asked(child)]
            case Not(child=child):
                return self._asked(child)
            case EventTest():
                guard = guard_of(condition)
                return [event_test(condition), *([] if guard is None else [guard])]
            case AttributeTest() | DeviceTest() | RelationTest():
                return [condition]
            case InSegment(segment_id=segment_id):
                under = self._condition(segment_id)
                return [condition] if under is None else self._asked(under)
            case _:
                assert_never(condition)

    def _at(
        self, condition: Condition, answers: Mapping[LeafKey | InSegment, tuple[Truth, Truth]]
    ) -> tuple[Truth, Truth]:
        """For whom a condition may hold and for whom it must, where its leaves may and must."""
        match condition:
            case And(children=children):
                found = [self._at(child, answers) for child in children]
                return _all([may for may, _ in found]), _all([must for _, must in found])
            case Or(children=children):
                found = [self._at(child, answers) for child in children]
                return ~_all([~may for may, _ in found]), ~_all([~must for _, must in found])
            case Not(child=child):
                may, must = self._at(child, answers)
                return ~must, ~may
            case EventTest():
                may, must = answers[event_test(condition)]
                if condition.performed:
                    return may, must
                guard = guard_of(condition)
                known = (~must, ~may) if guard is None else answers[guard]
                return ~must & known[0], ~may & known[1]
            case AttributeTest() | DeviceTest() | RelationTest():
                return answers[condition]
            case InSegment(segment_id=segment_id):
                under = self._condition(segment_id)
                return answers[condition] if under is None else self._at(under, answers)
            case _:
                assert_never(condition)

    def _condition(self, segment_id: int) -> Condition | None:
        """None: whoever is in the segment was put there."""
        kept = self._segments.segments.get(segment_id)
        return None if kept is None else kept.condition

    def _standing(self, key: LeafKey | InSegment) -> Standing:
        found = self._standings.get(key)
        if found is None:
            found = self._standings[key] = self._find(key)
        return found

    def _find(self, key: LeafKey | InSegment) -> Standing:
        people, nows_us, newest = self._people, self._nows_us, self._segments.newest
        if isinstance(key, InSegment):
            kept = self._segments.segments.get(key.segment_id)
            inside = member_many(BitMap() if kept is None else kept.members, people)
            return _since(inside, newest.others.latest_us(people))
        leaf = self._segments.leaves[key]
        match leaf:
            case CountLeaf():
                latest_us = self._told.latest_us
                if leaf.test.kind == MESSAGE:
                    latest_us = np.maximum(latest_us, newest.others.latest_us(people))
                return _of_count(leaf, people, self._told, latest_us)
            case WindowLeaf():
                return _of_window(leaf, people, nows_us, self._told)
            case KnownLeaf():
                return _of_known(leaf, self._known_us, nows_us)
            case AttributeLeaf() | RecordLeaf():
                moments_us = nows_us if leaf.timed else newest.others.latest_us(people)
                return _since(leaf.holds_many(people, nows_us), moments_us)
            case _:
                assert_never(leaf)


def _since(holds: Truth, since_us: Moments) -> Standing:
    """Nothing is known of what was before."""
    return Standing(holds, since_us, np.zeros(len(holds), dtype=bool))


def _before(standing: Standing, edge_us: Moments) -> tuple[Truth, Truth]:
    """For whom a leaf may have held just before a moment, and for whom it must have."""
    settled = standing.since_us < edge_us
    other = (standing.since_us == edge_us) & standing.turned
    certain, answer = settled | other, standing.holds ^ other
    return answer | ~certain, answer & certain


def _all(parts: list[Truth]) -> Truth:
    found = parts[0]
    for part in parts[1:]:
        found = found & part
    return found


def _of_known(leaf: KnownLeaf, known_us: Moments, nows_us: Moments) -> Standing:
    """Known long enough since a moment; whether known before a fixed one does not change once somebody is known."""
    if leaf.last_us is None:
        assert leaf.before_us is not None
        return _since(known_us <= np.minimum(nows_us, leaf.before_us), np.full(len(known_us), ALWAYS_US))
    moments_us = known_us + leaf.last_us
    holds = moments_us <= nows_us
    return Standing(holds, np.where(holds, moments_us, ALWAYS_US), holds)


def _inside(leaf: CountLeaf | WindowLeaf, counts: Numbers) -> Truth:
    truth = counts >= leaf.test.at_least
    return truth if leaf.test.at_most is None else truth & (counts <= leaf.test.at_most)


def _of_count(leaf: CountLeaf, people: People, told: Told, latest_us: Moments) -> Standing:
    """``latest_us``: no event of these people, but for the one told, is newer.

    A count only grows with time: below the lower bound it has always been. The newest time counted is the moment
    since when there are as many, and the lower bound, where that is what there are, was not reached before it.
    """
    held = leaf.gather(people)
    before = told.before(leaf, held)
    counts, fresh = held & COUNT_MASK, held != before
    # The newest there is, whether the times before it are known or not.
    first = fresh & ((before & COUNT_MASK == 0) | (told.times_us > latest_us))
    dates, dates_before = held >> COUNT_BITS, before >> COUNT_BITS
    # Full just now: the time is gone from the count, but what was kept before and the event say it.
    filled = fresh & (counts >= leaf.cap) & (dates_before > 0)
    since_us = np.where(dates > 0, dates + DATED_FROM_US, latest_us)
    since_us = np.where(filled, np.maximum(dates_before + DATED_FROM_US, told.times_us), since_us)
    since_us = np.where(first, told.times_us, since_us)
    exact = first | filled | (dates > 0)
    turned = exact & (counts == leaf.test.at_least)
    if leaf.test.at_most is not None:
        # One too many, by the newest: just before it there were as many as are allowed.
        newest = first | (filled & (told.times_us > dates_before + DATED_FROM_US))
        turned |= newest & (counts == leaf.test.at_most + 1) & (leaf.test.at_most >= leaf.test.at_least)
    never = (counts == 0) | (counts < leaf.test.at_least)
    return Standing(_inside(leaf, counts), np.where(never, ALWAYS_US, since_us), turned & ~never)


def _of_window(leaf: WindowLeaf, people: People, nows_us: Moments, told: Told) -> Standing:
    """The newest times kept, and the one that the event pushed out, are the newest there are.

    The number inside changed last when the newest one came, or when the newest of those outside went out.
    """
    held = leaf.column.gather(people).reshape(len(people), leaf.keep)
    before = told.before(leaf, held)
    last = np.where((before != held).any(axis=1), before[:, -1], 0)
    whole = before[:, -1] == 0
    times = np.concatenate([held, last[:, None], np.zeros((len(people), 1), np.int64)], axis=1)
    counts = (times > (nows_us - leaf.last_us + SHIFT_US)[:, None]).sum(axis=1)
    rows = np.arange(len(people))
    out = times[rows, counts]
    came_us = np.where(counts > 0, times[:, 0] - SHIFT_US, ALWAYS_US)
    went_us = np.where(out > 0, out - SHIFT_US + leaf.last_us, ALWAYS_US)
    hidden = (out == 0) & ~whole
    holds = _inside(leaf, counts)
    less = counts - (times == times[:, :1]).sum(axis=1)
    more = counts + (times == out[:, None]).sum(axis=1)
    # Of the moment of the oldest one known there may be others: no matter where these are enough already.
    oldest = np.where(last > 0, last, held[:, -1])
    more_certain = whole | (out != oldest) | (more >= leaf.keep)
    by_coming = (came_us > went_us) & ~hidden & (_inside(leaf, less) != holds)
    by_going = (went_us > came_us) & more_certain & (_inside(leaf, more) != holds)
    return Standing(holds, np.maximum(came_us, went_us), by_coming | by_going)
