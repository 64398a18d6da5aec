"""Since when leaves say that a condition has held, against a person's whole life: never wrong, and silent seldom."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from backstory.core.condition import Condition, EventTest, InSegment, Json, parse
from backstory.core.leaf import AttributeLeaf, CountLeaf
from backstory.core.leaf_key import event_test
from backstory.core.segment import SegmentEngine
from backstory.core.since import UNKNOWN_US, AnyEventLeaf, Since, Told
from backstory.core.time import SECOND_US
from backstory.core.timeline import Life, Occurrence, Timeline, Writing
from tests.hunt import examples
from tests.model.strategy import AGES_S, NAMES, NOW_US, attributes, conditions, event_data

# What happens: how long before it is accepted, how long after the one before that is, and an event or a write.
ages_us = st.builds(
    lambda age_s, more_us: max(age_s * SECOND_US + more_us, 0), st.sampled_from(AGES_S), st.integers(-2, 2)
)
happenings = st.one_of(
    st.tuples(ages_us, st.integers(1, 3), st.sampled_from(NAMES), event_data),
    st.tuples(ages_us, st.integers(1, 3), st.sampled_from(NAMES), event_data),
    st.tuples(ages_us, st.integers(1, 3), st.none(), attributes),
)
ANN, BOB = 3, 5
MANUAL, OTHER = 8, 7


class World:
    """An engine of segments that is told of one person's events and writes, and that person's life beside it."""

    def __init__(self, asked: list[Condition], other: Condition) -> None:
        self.engine = SegmentEngine()
        self.engine.put(MANUAL, None)
        for number, condition in ((OTHER, other), *enumerate(asked, start=100)):
            for key in self.engine.missing(condition):
                self.engine.attach(key, self.engine.make_leaf(key))
            self.engine.put(number, condition)
        self.asked, self.segments = asked, {OTHER: other, MANUAL: frozenset({ANN})}
        self.engine.segments[MANUAL].members.add(ANN)
        self.now_us = self.known_us = NOW_US
        self.events: list[Occurrence] = []
        self.writes: list[Writing] = []
        for person in (ANN, BOB):
            self.engine.add_person(person)
            self.engine.feed_known(person, NOW_US, NOW_US)
        self.judge()

    def timeline(self) -> Timeline:
        life = Life(
            person=ANN, identifiers={"id": "ann"}, known_us=self.known_us, occurrences=self.events, writings=self.writes
        )
        return Timeline(life, self.segments)

    def judge(self) -> None:
        """All attributes as they are now; what time changed of them, too."""
        timeline = self.timeline()
        for leaf in self.engine.leaves.values():
            if isinstance(leaf, AttributeLeaf):
                leaf.set(ANN, timeline.shown(leaf.root, self.now_us), self.now_us)

    def restart(self) -> None:
        """The times of counts are not stored."""
        for leaf in self.engine.leaves.values():
            if isinstance(leaf, CountLeaf):
                leaf.undate(np.array([ANN], np.uint32))

    def take(self, age_us: int, step_us: int, name: str | None, data: dict[str, Json]) -> Told | None:
        """Somebody's event (else: a write) is accepted; what leaves held before it."""
        self.now_us += step_us
        time_us = self.now_us - age_us
        self.known_us = min(self.known_us, time_us)
        self.engine.feed_known(ANN, time_us, self.now_us)
        if name is None:
            self.writes.append(Writing(time_us=time_us, shown_us=time_us, attributes=data))
            self.engine.newest.others.put(ANN, time_us)
            self.judge()
            return None
        self.judge()
        person = np.array([ANN], np.uint32)
        held = {leaf: leaf.gather(person) for leaf in self.engine.event_leaves([("event", name)])}
        latest_us = self.engine.newest.events.latest_us(person)
        self.events.append(Occurrence(kind="event", name=name, time_us=time_us, data=data))
        self.engine.feed_event(ANN, "event", name, time_us, lambda: data, self.now_us)

        def before(leaf: AnyEventLeaf, now: NDArray[Any]) -> NDArray[Any]:
            return held[leaf].reshape(now.shape) if leaf in held else now

        return Told(np.array([time_us], np.int64), latest_us, before)

    def since(self, told: Told, condition: Condition) -> tuple[int, bool]:
        people, nows_us = np.array([ANN], np.uint32), np.array([self.now_us], np.int64)
        since_us, answer = Since(self.engine, people, nows_us, told).of(condition)
        return int(since_us[0]), bool(answer[0])


@settings(max_examples=examples(250), deadline=None)
@given(
    asked=st.lists(conditions((OTHER, MANUAL)), min_size=1, max_size=4),
    other=conditions(),
    told=st.lists(happenings, min_size=1, max_size=9),
    restarts=st.sets(st.integers(0, 8)),
)
def test_leaves_know_since_when_or_say_that_they_do_not(
    asked: list[Condition],
    other: Condition,
    told: list[tuple[int, int, str | None, dict[str, Json]]],
    restarts: set[int],
) -> None:
    """In any order of accepting, with windows, counts, attributes, other segments, and counts without their times."""
    world = World(asked, other)
    for number, happening in enumerate(told):
        if number in restarts:
            world.restart()
        one = world.take(*happening)
        if one is None:
            continue
        timeline = world.timeline()
        for condition in asked:
            line = timeline.membership(condition)
            since_us, answer = world.since(one, condition)
            if since_us != UNKNOWN_US:
                assert answer == line.at(world.now_us)
                turned = [turn_us for turn_us in line.turns_us if turn_us <= world.now_us]
                assert since_us == max([*turned, world.known_us])


ever = st.builds(
    lambda name, at_least: EventTest(name=name, at_least=at_least), st.sampled_from(NAMES), st.integers(1, 4)
)


@settings(max_examples=examples(150), deadline=None)
@given(
    condition=ever,
    told=st.lists(st.tuples(ages_us, st.integers(1, 3), st.sampled_from(NAMES), event_data), min_size=1, max_size=9),
)
def test_a_count_always_knows_since_when_it_was_reached(
    condition: EventTest, told: list[tuple[int, int, str, dict[str, Json]]]
) -> None:
    """In whatever order its events come: nobody's history is read for it."""
    world = World([condition], InSegment(MANUAL))
    leaf = world.engine.leaves[event_test(condition)]
    inside = False
    for happening in told:
        one = world.take(*happening)
        assert one is not None
        if leaf.holds(ANN, world.now_us) != inside:
            inside = True
            times_us = sorted(event.time_us for event in world.events if event.name == condition.name)
            assert world.since(one, condition) == (times_us[condition.at_least - 1], True)


def test_an_event_later_than_all_writes_is_what_moved_somebody() -> None:
    """A condition over an attribute and an event; before the write it is not known what was."""
    condition = parse({"and": [{"attribute": {"field": "p", "operator": "exists"}}, {"event": {"name": "bought"}}]})
    for age_s, known in ((20, True), (120, False)):
        world = World([condition], InSegment(MANUAL))
        world.take(90 * SECOND_US, 1, None, {"p": "pro"})
        one = world.take(age_s * SECOND_US, 1, "bought", {})
        assert one is not None
        since_us, answer = world.since(one, condition)
        assert answer
        assert since_us == (world.events[0].time_us if known else UNKNOWN_US)


def test_an_event_at_the_moment_at_which_the_one_before_leaves_makes_no_gap() -> None:
    """A microsecond later it does: then it is known since when the window has had one."""
    condition = parse({"event": {"name": "bought", "within": {"last_s": 20}}})
    for apart_us, known in ((20 * SECOND_US, False), (20 * SECOND_US + 1, True)):
        world = World([condition], InSegment(MANUAL))
        world.take(10 * SECOND_US + apart_us, 1, "bought", {})
        one = world.take(10 * SECOND_US + 1, 1, "bought", {})
        assert one is not None
        assert world.since(one, condition) == (world.events[1].time_us if known else UNKNOWN_US, True)


def test_of_a_count_without_times_an_event_newer_than_all_tells() -> None:
    """After a restart, or where events came in bulk; an older one does not, whatever was before."""
    condition = parse({"event": {"name": "bought", "count": {"at_least": 2}}})
    for age_s, known in ((20, True), (120, False)):
        world = World([condition], InSegment(MANUAL))
        world.take(90 * SECOND_US, 1, "bought", {})
        world.restart()
        one = world.take(age_s * SECOND_US, 1, "bought", {})
        assert one is not None
        assert world.since(one, condition) == (world.events[1].time_us if known else UNKNOWN_US, True)
