"""Bursts: events of many people fed to leaves at once, with the very transitions that feeding them one by one makes.

The theory: people do not touch each other, so only the order of one person's events matters. Round by round everybody's
next event is fed, each judged as of its own moment. What this must be told: that time alone changes nothing between the
first and the last moment. For people of whom that is not certain, ``doubtful`` says so beforehand.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backstory.core.column import Numbers, People, Truth, bitmap_of, member_many
from backstory.core.comparison import WhereJudge
from backstory.core.condition import Json
from backstory.core.known import KnownLeaf
from backstory.core.lateness import Newest
from backstory.core.leaf import COUNT_MASK, SHIFT_US, CountLeaf, WindowLeaf
from backstory.core.segment import Kept, SegmentEngine
from backstory.core.since import UNKNOWN_US, AnyEventLeaf, Moments, Since, Told

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """Events of people who exist, in the order in which they were accepted; no event is dated after its ``now``.

    ``codes`` are places in ``names``, pairs of kind and name; ``data`` gives the data of the events in some rows.
    """

    people: People
    times_us: Moments
    nows_us: Moments
    codes: Rows
    names: Sequence[tuple[str, str]]
    data: Callable[[list[int]], list[Mapping[str, Json]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """Who entered and left what by which event, one item each, by row and then in the order of the segments.

    ``rows`` are those of the burst; ``since_us`` is since when what the event moved is true, ``UNKNOWN_US`` where only
    the person's history can tell.
    """

    rows: Rows
    segment_ids: Rows
    entered: Truth
    since_us: Moments


NO_MOVES = Moves(
    rows=np.empty(0, np.int64),
    segment_ids=np.empty(0, np.int64),
    entered=np.empty(0, bool),
    since_us=np.empty(0, np.int64),
)


def rounds(people: People) -> list[Rows]:
    """The rows of everybody's first event, of everybody's second, and so on; each sorted by person."""
    order = np.argsort(people, kind="stable")
    place = np.arange(len(people)) - _starts(people[order])
    return [order[place == number] for number in range(int(place.max()) + 1 if len(place) else 0)]


def nth(people: People) -> Rows:
    """How many events of the same person come before each."""
    order = np.argsort(people, kind="stable")
    out = np.empty(len(people), np.int64)
    out[order] = np.arange(len(people)) - _starts(people[order])
    return out


def _starts(people: People) -> Rows:
    """Of sorted people: where the run that each belongs to begins."""
    first = np.insert(people[1:] != people[:-1], 0, True) if len(people) else np.empty(0, bool)
    return np.maximum.accumulate(np.where(first, np.arange(len(people)), 0))


class BurstFeed:
    """Feeds bursts of events under these names to the leaves that ask for them."""

    def __init__(self, segments: SegmentEngine, names: Sequence[tuple[str, str]]) -> None:
        self._segments = segments
        self._questions = _questions(segments, names)
        leaves = [leaf for question in self._questions for leaf in (*question.counts, *question.windows)]
        self._over = {leaf: segments.segments_over([leaf.test]) for leaf in leaves}
        over = set[int]().union(*self._over.values())
        self._order = [segments.segments[segment_id] for segment_id in segments.closure(over)]

    def doubtful(self, burst: Burst) -> Truth:
        """Which events may meet a change by time alone between the first moment and the last, or move a guard."""
        doubt = np.zeros(len(burst.people), dtype=bool)
        if not len(doubt):
            return doubt
        first_us, last_us = int(burst.nows_us.min()), int(burst.nows_us.max())
        order = np.argsort(burst.people, kind="stable")
        people, times_us = burst.people[order], burst.times_us[order]
        found = np.zeros(len(order), dtype=bool)
        if any(isinstance(leaf, KnownLeaf) for leaf in self._segments.leaves.values()):
            # Known for longer than was known: "has not done so for a week" may hold from some other moment on.
            found |= times_us < self._segments.known.gather_us(people)
        places = _by_code(burst.codes[order], len(burst.names))
        for question in self._questions:
            some = _together(places, question.codes)
            for leaf in question.windows if len(some) else ():
                low, high = first_us - leaf.last_us + SHIFT_US, last_us - leaf.last_us + SHIFT_US
                held, stored = leaf.column.gather(people[some]), times_us[some] + SHIFT_US
                leaving = (held > low) & (held <= high)
                leaving = leaving if leaf.keep == 1 else leaving.any(axis=1)
                found[some] |= leaving | ((stored > low) & (stored <= high))
        doubt[order] = found
        return doubt

    def feed(self, burst: Burst, rows: Rows) -> Moves:
        """Feed one event each of some people, sorted by person; who comes and goes, by event and in order."""
        fed = _Fed.of(burst, rows, self._segments.newest.events)
        self._feed_known(fed.people, fed.times_us)
        self._segments.newest.events.put_many(fed.people, fed.times_us)
        touched: dict[int, list[Rows]] = {}
        places = _by_code(burst.codes[rows], len(burst.names))
        for question in self._questions:
            some = _together(places, question.codes)
            for leaf, changed in self._ask(question, burst, fed, some) if len(some) else ():
                if len(changed):
                    for segment_id in self._over[leaf]:
                        touched.setdefault(segment_id, []).append(changed)
        return self._settle(fed, touched) if touched else NO_MOVES

    def _feed_known(self, people: People, times_us: Moments) -> None:
        known = self._segments.known
        earlier = times_us < known.gather_us(people)
        if earlier.any():
            known.add_many(people[earlier], times_us[earlier])

    def _ask(
        self, question: "_Question", burst: Burst, fed: "_Fed", some: Rows
    ) -> Iterator[tuple[AnyEventLeaf, Rows]]:
        """Feed the leaves of one question; for which events the answer of each is another one now."""
        who, at_us = fed.people[some], fed.times_us[some]
        counted = [(leaf, leaf.gather(who)) for leaf in question.counts]
        # Where the count is full, or the time outside, there is nothing to find out.
        wanted = [(held & COUNT_MASK < leaf.cap) & leaf.takes_many(at_us) for leaf, held in counted]
        passed = np.ones(len(some), dtype=bool)
        if question.where is not None:
            passed = passed if question.windows else np.logical_or.reduce(wanted)
            passed[passed] = _passing(question.where, burst, fed.rows[some[passed]])
            wanted = [one & passed for one in wanted]
        for (leaf, held), taken in zip(counted, wanted, strict=True):
            fed.before[leaf] = some[taken], held[taken]
            leaf.count_many(who[taken], held[taken], at_us[taken])
            yield leaf, some[taken & _turning(leaf, held & COUNT_MASK)]
        if question.where is not None:
            some = some[passed]
        for leaf in question.windows:
            yield leaf, some[self._feed_window(leaf, fed, some)]

    def _feed_window(self, leaf: WindowLeaf, fed: "_Fed", some: Rows) -> Truth:
        """Feed one event of each; for whom the answer is another one now."""
        people, times_us, nows_us = fed.people[some], fed.times_us[some], fed.nows_us[some]
        held, stored = leaf.column.gather(people), times_us + SHIFT_US
        edges = nows_us - leaf.last_us + SHIFT_US
        if leaf.keep == 1:
            best = np.maximum(held, stored)
            changed = (held > edges) != (best > edges)
        else:
            both = np.concatenate([held, stored[:, None]], axis=1)
            both.sort(axis=1)
            best = both[:, :0:-1]
            before, after = ((some_us > edges[:, None]).sum(axis=1) for some_us in (held, best))
            changed = _inside(leaf, before) != _inside(leaf, after)
        leaf.column.scatter(people, best)
        fed.before[leaf] = some, held
        moments_us = best.reshape(len(people), leaf.keep) - SHIFT_US + leaf.last_us
        self._segments.expect_many(leaf, people, moments_us, nows_us)
        return changed

    def _settle(self, fed: "_Fed", touched: dict[int, list[Rows]]) -> Moves:
        found: list[tuple[Rows, int, Truth, Moments]] = []
        for kept in self._order:
            if kept.segment_id not in touched or kept.judge_many is None or kept.building:
                continue
            some = touched[kept.segment_id]
            places = some[0] if len(some) == 1 else np.unique(np.concatenate(some))
            flipped, entered = _flip(kept, fed.people[places], fed.nows_us[places])
            places = places[flipped]
            if len(places):
                found.append((fed.rows[places], kept.segment_id, entered, self._since(kept, fed, places, entered)))
                for other in self._segments.refer_to(kept.segment_id):
                    touched.setdefault(other, []).append(places)
        if not found:
            return NO_MOVES
        moved = np.concatenate([one[0] for one in found])
        order = np.argsort(moved, kind="stable")
        ids = np.repeat([one[1] for one in found], [len(one[0]) for one in found])
        entered = np.concatenate([one[2] for one in found])
        since_us = np.concatenate([one[3] for one in found])
        return Moves(rows=moved[order], segment_ids=ids[order], entered=entered[order], since_us=since_us[order])

    def _since(self, kept: Kept, fed: "_Fed", places: Rows, entered: Truth) -> Moments:
        """Since when it is true that these came and went: from their event on, unless that is late."""
        since_us = fed.nows_us[places]
        late = fed.times_us[places] < since_us
        if late.any() and kept.condition is not None:
            some = places[late]
            told = Told(fed.times_us[some], fed.latest_us[some], fed.before_of(some))
            found_us, answer = Since(self._segments, fed.people[some], fed.nows_us[some], told).of(kept.condition)
            since_us[late] = np.where(answer == entered[late], found_us, UNKNOWN_US)
        return since_us


@dataclass(frozen=True, slots=True)
class _Fed:
    """One event each of some people, as it was fed to the leaves.

    ``latest_us``: the newest of their events before it. ``before``: the places to which a leaf took the event, and what
    it held of them.
    """

    rows: Rows
    people: People
    times_us: Moments
    nows_us: Moments
    latest_us: Moments
    before: dict[AnyEventLeaf, tuple[Rows, Numbers]]

    @staticmethod
    def of(burst: Burst, rows: Rows, newest: Newest) -> "_Fed":
        people = burst.people[rows]
        return _Fed(rows, people, burst.times_us[rows], burst.nows_us[rows], newest.latest_us(people), {})

    def before_of(self, places: Rows) -> Callable[[AnyEventLeaf, Numbers], Numbers]:
        """What leaves held of the people in these places, given what they hold now."""

        def before(leaf: AnyEventLeaf, now: Numbers) -> Numbers:
            took, held = self.before.get(leaf, (places[:0], now[:0]))
            _, here, there = np.intersect1d(places, took, assume_unique=True, return_indices=True)
            found = now.copy()
            found[here] = held[there].reshape(len(there), *now.shape[1:])
            return found

        return before


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """Leaves that differ in how often and since when only: what they ask of an event is found out once for all."""

    codes: list[int]
    where: WhereJudge | None
    counts: list[CountLeaf]
    windows: list[WindowLeaf]


def _questions(segments: SegmentEngine, names: Sequence[tuple[str, str]]) -> list[_Question]:
    codes: dict[AnyEventLeaf, list[int]] = {}
    for code, name in enumerate(names):
        for leaf in segments.event_leaves([name]):
            codes.setdefault(leaf, []).append(code)
    made: dict[object, _Question] = {}
    for leaf, some in codes.items():
        key = (tuple(some), leaf.test.where)
        question = made.setdefault(key, _Question(codes=some, where=leaf.where, counts=[], windows=[]))
        if isinstance(leaf, CountLeaf):
            question.counts.append(leaf)
        else:
            question.windows.append(leaf)
    return list(made.values())


def _by_code(codes: Rows, count: int) -> list[Rows]:
    """Where each code stands."""
    return [np.nonzero(codes == code)[0] for code in range(count)]


def _together(places: list[Rows], codes: list[int]) -> Rows:
    """The places of some codes, ascending."""
    return places[codes[0]] if len(codes) == 1 else np.sort(np.concatenate([places[code] for code in codes]))


def _passing(where: WhereJudge, burst: Burst, rows: Rows) -> Truth:
    """For which of these events what is asked of their data holds."""
    asked: list[int] = rows.tolist()
    return np.fromiter(map(where, burst.data(asked), burst.times_us[asked].tolist()), bool, len(asked))


def _turning(leaf: CountLeaf, counts: Rows) -> Truth:
    """For which counts one more event changes the answer."""
    turned = counts == leaf.test.at_least - 1
    return turned if leaf.test.at_most is None else turned | (counts == leaf.test.at_most)


def _inside(leaf: WindowLeaf, counts: Rows) -> Truth:
    truth = counts >= leaf.test.at_least
    return truth if leaf.test.at_most is None else truth & (counts <= leaf.test.at_most)


def _flip(kept: Kept, people: People, nows_us: Moments) -> tuple[Truth, Truth]:
    """Put people where the condition says they belong; (for whom that is a change, whether these entered)."""
    assert kept.judge_many is not None
    belong, before = kept.judge_many(people, nows_us), member_many(kept.members, people)
    flipped = belong != before
    entered = belong[flipped]
    if len(entered):
        moved = people[flipped]
        kept.members |= bitmap_of(moved[entered])
        kept.members -= bitmap_of(moved[~entered])
    return flipped, entered
