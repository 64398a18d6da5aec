"""Leaves fed in bulk, whose coming moments are read for those people only: time moves everybody at their moment."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from backstory.core.condition import Json, parse
from backstory.core.known import KnownLeaf
from backstory.core.leaf import CountLeaf, WindowLeaf
from backstory.core.leaf_key import LeafKey
from backstory.core.segment import SegmentEngine
from backstory.core.time import MINUTE_US, SECOND_US
from tests.hunt import examples

NOW_US = 1_717_243_200_000_000
PEOPLE = 4


def buys(**more: Json) -> Json:
    return {"event": {"name": "buy", **more}}


CONDITIONS: tuple[Json, ...] = (
    buys(within={"last_s": 60}),
    buys(within={"last_s": 900}, count={"at_least": 2}),
    buys(within={"last_s": 700}, count={"between": [1, 2]}),
    buys(within={"last_s": 60}, count={"at_most": 0}),
    buys(within={"last_s": 800}, performed=False),
)
ages_s = st.sampled_from((0, 1, 30, 59, 60, 61, 500, 699, 700, 800, 899, 900, 1000))
feeds = st.lists(st.tuples(st.integers(0, PEOPLE - 1), ages_s), min_size=1, max_size=8)
steps = st.lists(st.one_of(feeds, st.sampled_from((1, 29, 60, 300, 601, 900))), min_size=1, max_size=6)


class World:
    def __init__(self) -> None:
        self.engine = SegmentEngine()
        self.now_us = NOW_US
        for number, body in enumerate(CONDITIONS):
            condition = parse(body)
            for key in self.engine.missing(condition):
                self.engine.attach(key, self.engine.make_leaf(key))
            self.engine.put(number, condition)
        for person in range(PEOPLE):
            self.engine.add_person(person)
            self.engine.feed_known(person, NOW_US, NOW_US)
        everybody = self.engine.everybody()
        for number in self.engine.segments:
            self.engine.settle_many(number, everybody, NOW_US)
        self.engine.start_clock(NOW_US)
        # Nothing is stale from here on: all that is to come has been read once.
        list(self.engine.due(NOW_US))

    def feed(self, rows: list[tuple[int, int]]) -> None:
        """Tell leaves of events in bulk, as imports do."""
        engine, now_us = self.engine, self.now_us
        told = sorted((person, now_us - age_s * SECOND_US) for person, age_s in rows)
        people, first = np.unique(np.array([person for person, _ in told], np.uint32), return_index=True)
        times_us = np.array([time_us for _, time_us in told], np.int64)
        engine.known.add_many(people, times_us[first])
        for leaf in engine.leaves.values():
            if isinstance(leaf, CountLeaf | WindowLeaf):
                leaf.add_many(people, first, times_us)
        engine.expect_fed(people, now_us)
        for number in engine.segments:
            engine.settle_many(number, people, now_us)

    def pass_time(self, by_s: int) -> None:
        """Everything happens at its moment, as the applier has it."""
        until_us = self.now_us + by_s * SECOND_US
        self.engine.aim(until_us)
        while (moment_us := self.engine.next_moment_us()) <= until_us:
            self.now_us = max(self.now_us, moment_us)
            touched: dict[int, list[LeafKey]] = {}
            for _, person, key in self.engine.due(self.now_us):
                touched.setdefault(person, []).append(key)
            for person, keys in touched.items():
                self.engine.settle(person, keys, self.now_us)
                for key in keys:
                    self.engine.expect_next(key, person, self.now_us)
            self.check()
        self.engine.time_passed(until_us)
        self.now_us = until_us

    def check(self) -> None:
        """Everybody is where judging them anew puts them."""
        for number, kept in self.engine.segments.items():
            assert kept.judge is not None
            judged = {person for person in range(PEOPLE) if kept.judge(person, self.now_us)}
            assert set(kept.members) == judged, (number, self.now_us - NOW_US)


@settings(max_examples=examples(150), deadline=None)
@given(steps)
def test_what_was_fed_in_bulk_moves_people_at_its_moment(steps: list[Any]) -> None:
    """After every feed, and at every moment that time comes to, memberships are those of judging everybody anew."""
    world = World()
    for step in steps:
        if isinstance(step, int):
            world.pass_time(step)
        else:
            world.feed(step)
        world.check()


def test_a_bulk_feed_has_nobody_else_read_again() -> None:
    """Feeding one person leaves the columns of everybody else alone: they are read once per horizon, not per feed."""

    class Counting(KnownLeaf):
        reads = 0

        def due_many(self, now_us: int, until_us: int) -> Any:
            self.reads += 1
            return super().due_many(now_us, until_us)

    engine = SegmentEngine()
    leaf = Counting(engine.known, last_us=60 * SECOND_US, before_us=None)
    engine.attach(("last", 60 * SECOND_US), leaf)
    engine.start_clock(NOW_US)
    list(engine.due(NOW_US))
    for at in range(50):
        engine.known.add_many(np.array([at], np.uint32), np.array([NOW_US - at * SECOND_US]))
        engine.expect_fed(np.array([at], np.uint32), NOW_US)
    assert leaf.reads == 1
    assert [person for _, person, _ in engine.due(NOW_US + MINUTE_US)] == list(range(49, -1, -1))
