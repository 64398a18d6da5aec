"""Events fed to leaves in bursts against the same events fed one by one: the same transitions, leaves and moments."""

from collections.abc import Mapping

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from backstory.core.burst import Burst, BurstFeed, rounds
from backstory.core.condition import Condition, EventTest, Json, Last
from backstory.core.leaf import CountLeaf, WindowLeaf
from backstory.core.leaf_key import LeafKey
from backstory.core.segment import SegmentEngine
from backstory.core.time import SECOND_US
from tests.hunt import examples
from tests.model.strategy import AGES_S, NAMES, NOW_US, conditions, event_data

PEOPLE = 4
Event = tuple[int, str, int, int, dict[str, Json]]
Told = list[tuple[int, int, int, bool]]

# Who, what, how long before it is accepted, how long after the one before that is, and the data.
ages_us = st.one_of(
    st.just(0),
    st.sampled_from(AGES_S).map(lambda age_s: age_s * SECOND_US),
    st.builds(lambda age_s, more_us: age_s * SECOND_US + more_us, st.sampled_from(AGES_S), st.integers(-3, 30)),
).map(lambda age_us: max(age_us, 0))
drawn = st.tuples(
    st.integers(0, PEOPLE - 1), st.sampled_from(NAMES), ages_us, st.sampled_from((1, 1, 1, 2, 9)), event_data
)
bursts = st.lists(st.lists(drawn, min_size=1, max_size=14), min_size=1, max_size=4)


class Twin:
    """One engine of segments, with its transitions by person."""

    def __init__(self, conditions_: list[Condition]) -> None:
        self.engine = SegmentEngine()
        self.told: Told = []
        for number, condition in enumerate(conditions_, start=1):
            for key in self.engine.missing(condition):
                self.engine.attach(key, self.engine.make_leaf(key))
            self.engine.put(number, condition)
        for person in range(PEOPLE):
            self.engine.add_person(person)
            self.engine.feed_known(person, NOW_US - 10 * SECOND_US, NOW_US)
            self.note(self.engine.settle(person, None, NOW_US))
        self.engine.start_clock(NOW_US)

    def note(self, moved: list) -> None:  # pyright: ignore[reportMissingTypeArgument, reportUnknownParameterType]
        self.told += [(one.person, one.at_us, one.segment_id, one.entered) for one in moved]

    def pass_time(self, now_us: int) -> None:
        """Every moment up to now is settled as the applier does it."""
        self.engine.aim(now_us)
        while (moment_us := self.engine.next_moment_us()) <= now_us:
            touched: dict[int, list[LeafKey]] = {}
            for _, person, key in self.engine.due(moment_us):
                touched.setdefault(person, []).append(key)
            for person, keys in touched.items():
                self.note(self.engine.settle(person, keys, moment_us))
                for key in keys:
                    self.engine.expect_next(key, person, moment_us)
        self.engine.time_passed(now_us)

    def one(self, event: Event) -> None:
        person, name, time_us, now_us, data = event
        self.pass_time(now_us)
        touched = self.engine.feed_known(person, time_us, now_us)
        touched |= self.engine.feed_event(person, "event", name, time_us, lambda: data, now_us)
        self.note(self.engine.settle(person, touched, now_us))

    def many(self, events: list[Event]) -> None:
        """As much as can be together, the rest one by one; cut where time has something to do."""
        while events:
            self.pass_time(events[0][3])
            count = sum(event[3] < self.engine.next_moment_us() for event in events)
            if count:
                left = self.together(events[:count])
            else:
                count, left = 1, events[:1]
            for event in left:
                self.one(event)
            self.pass_time(events[count - 1][3])
            events = events[count:]

    def together(self, events: list[Event]) -> list[Event]:
        feed = BurstFeed(self.engine, burst_of(events).names)
        doubted = {events[row][0] for row in np.nonzero(feed.doubtful(burst_of(events)))[0].tolist()}
        plain = [event for event in events if event[0] not in doubted]
        burst = burst_of(plain)
        for rows in rounds(burst.people):
            moves = feed.feed(burst, rows)
            found = zip(moves.rows.tolist(), moves.segment_ids.tolist(), moves.entered.tolist(), strict=True)
            self.told += [(plain[row][0], plain[row][3], segment_id, entered) for row, segment_id, entered in found]
        return [event for event in events if event[0] in doubted]

    def by_person(self) -> list[Told]:
        return [[one for one in self.told if one[0] == person] for person in range(PEOPLE)]


def burst_of(events: list[Event]) -> Burst:
    def data(rows: list[int]) -> list[Mapping[str, Json]]:
        return [events[row][4] for row in rows]

    return Burst(
        people=np.array([event[0] for event in events], np.uint32),
        times_us=np.array([event[2] for event in events], np.int64),
        nows_us=np.array([event[3] for event in events], np.int64),
        codes=np.array([NAMES.index(event[1]) for event in events], np.int64),
        names=[("event", name) for name in NAMES],
        data=data,
    )


@settings(max_examples=examples(300), deadline=None)
@given(
    first=st.lists(conditions(), min_size=1, max_size=4),
    over=st.lists(conditions((1,)), max_size=2),
    drawn=bursts,
    pauses_us=st.lists(st.sampled_from((0, 1, SECOND_US, 5 * SECOND_US, 60 * SECOND_US)), min_size=4, max_size=4),
)
def test_a_burst_moves_everybody_as_its_events_one_by_one(
    first: list[Condition], over: list[Condition], drawn: list[list[tuple[int, str, int, int, dict[str, Json]]]],
    pauses_us: list[int],
) -> None:
    """Repeated people, late events, windows that end inside: the same transitions of each person, in the same order."""
    mine, other = Twin(first + over), Twin(first + over)
    now_us = NOW_US
    for some, pause_us in zip(drawn, pauses_us, strict=False):
        events: list[Event] = []
        now_us += pause_us
        for person, name, age_us, step_us, data in some:
            now_us += step_us
            events.append((person, name, now_us - age_us, now_us, data))
        mine.many(events)
        for event in events:
            other.one(event)
        assert mine.by_person() == other.by_person()
        compare(mine.engine, other.engine)
    for twin in (mine, other):
        twin.pass_time(now_us + 600 * SECOND_US)
    assert mine.by_person() == other.by_person()


def compare(mine: SegmentEngine, other: SegmentEngine) -> None:
    everybody = np.arange(PEOPLE, dtype=np.uint32)
    for segment_id, kept in other.segments.items():
        assert mine.segments[segment_id].members == kept.members
    assert (mine.known.gather_us(everybody) == other.known.gather_us(everybody)).all()
    for key, leaf in other.leaves.items():
        if isinstance(leaf, CountLeaf | WindowLeaf):
            twin = mine.leaves[key]
            assert isinstance(twin, CountLeaf | WindowLeaf)
            assert (twin.column.gather(everybody) == leaf.column.gather(everybody)).all()


def test_who_leaves_and_comes_again_inside_a_burst_is_told_by_the_clock() -> None:
    """Three within five seconds: with the third they enter, then the first is too old, then there is another."""
    test = EventTest(name="seen", kind="event", at_least=3, window=Last(5 * SECOND_US))
    edge_us = NOW_US + 5 * SECOND_US
    before: list[Event] = [(0, "seen", time_us, time_us, {}) for time_us in (NOW_US + 1, NOW_US + 100)]
    inside: list[Event] = [(person, "seen", edge_us + at, edge_us + at, {}) for person, at in ((0, -2), (1, 0), (0, 3))]
    mine, other = Twin([test]), Twin([test])
    for twin in (mine, other):
        for event in before:
            twin.one(event)
    mine.many(inside)
    for event in inside:
        other.one(event)
    assert mine.by_person() == other.by_person()
    told = [(at_us - edge_us, entered) for _, at_us, _, entered in mine.by_person()[0]]
    assert told == [(-2, True), (1, False), (3, True)]
