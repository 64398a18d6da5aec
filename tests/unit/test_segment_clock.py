"""Segments and the clock: both edges of windows, a clock that stands, jumps or steps back, and what waiting costs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backstory.core.coming import HORIZON_US, LEAVES_AT_ONCE, Coming
from backstory.core.condition import EventTest, Json, Last
from backstory.core.leaf import WindowLeaf
from backstory.core.leaf_key import AnyLeaf, LeafKey
from backstory.core.time import DAY_US, HOUR_US, SECOND_US
from tests.live import NOW_US, Live

YEAR_US = 365 * DAY_US


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    live = Live(tmp_path / "default")
    yield live
    live.close()


def seen(**more: Json) -> Json:
    return {"event": {"name": "seen", **more}}


@pytest.mark.parametrize("early_us", [0, 1, 300_000])
def test_a_relative_window_is_exact_on_both_edges(live: Live, early_us: int) -> None:
    """An event at 12:00:00.7 is in a window of three seconds from that very microsecond up to 12:00:03.7, left out."""
    inside = live.segment(seen(within={"last_s": 3}))
    outside = live.segment(seen(within={"last_s": 3}, count={"at_most": 0}))
    live.identify("ann")
    event_us = NOW_US + 700_000
    live.track("ann", "seen", event_us)
    live.advance(event_us - 1 - live.now_us)
    assert (live.members(inside), live.members(outside)) == (set(), {"ann"})
    live.advance(1)
    assert (live.members(inside), live.members(outside)) == ({"ann"}, set())
    live.advance(3 * SECOND_US - 1 - early_us)
    assert (live.members(inside), live.members(outside)) == ({"ann"}, set())
    live.advance(1 + early_us)
    assert (live.members(inside), live.members(outside)) == (set(), {"ann"})
    moves = [(entered, effective_us, at_us) for _, entered, effective_us, at_us in live.transitions(inside)]
    end_us = event_us + 3 * SECOND_US
    assert moves == [(True, event_us, event_us), (False, end_us, end_us)]


@pytest.mark.parametrize(("event_s", "member"), [(9, False), (10, True), (19, True), (20, False)])
def test_a_fixed_window_takes_its_beginning_and_not_its_end(live: Live, event_s: int, member: bool) -> None:
    """``from`` is inside, ``to`` is not."""
    now_s = NOW_US // SECOND_US
    segment_id = live.segment(seen(within={"from": now_s + 10, "to": now_s + 20}))
    live.track("ann", "seen", NOW_US + event_s * SECOND_US)
    live.advance(60 * SECOND_US)
    assert live.members(segment_id) == ({"ann"} if member else set())


def test_a_clock_that_stands_still_lets_facts_in_and_nobody_out(live: Live) -> None:
    """Facts have times of their own, each after the other, and windows wait for the clock."""
    segment_id = live.segment(seen(within={"last_s": 1}))
    for number in range(50):
        live.track(f"p{number}", "seen")
    assert len(live.members(segment_id)) == 50
    times = [at_us for *_, at_us in live.transitions(segment_id)]
    assert times == sorted(set(times))
    live.workspace.loop.turn()
    assert len(live.members(segment_id)) == 50
    live.advance(SECOND_US + 1000)
    assert live.members(segment_id) == set()


def test_a_year_ahead_waits_until_it_is_accepted_and_then_happens_in_order(live: Live) -> None:
    """Nobody is moved by a clock in doubt; once it is accepted everything happens at its own moment."""
    long, short = live.segment(seen(within={"last_s": 3600})), live.segment(seen(within={"last_s": 60}))
    live.track("ann", "seen", NOW_US)
    live.clock.jump(YEAR_US)
    live.workspace.loop.turn()
    assert live.workspace.reader.health()["clock"] == "jumped"
    assert live.track("bob", "seen").result == "applied"
    assert live.members(long) == live.members(short) == {"ann", "bob"}
    # While it is in doubt time goes on for facts, as it passed, and for nothing else.
    live.advance(120 * SECOND_US)
    live.track("cem", "seen")
    assert live.members(long) == {"ann", "bob", "cem"}
    live.workspace.accept_clock()
    live.workspace.loop.turn()
    assert live.members(long) == live.members(short) == set()
    left = [(person, at_us) for person, entered, _, at_us in live.transitions(long) if not entered]
    assert left[0] == (0, NOW_US + HOUR_US)
    assert left == sorted(left, key=lambda move: move[1])


def test_an_hour_back_waits_and_never_takes_time_back(live: Live) -> None:
    """Facts go on from where time was; after accepting, nothing moves until the clock has caught up."""
    segment_id = live.segment(seen(within={"last_s": 60}))
    live.track("ann", "seen")
    before_us = live.workspace.folder.state.now_us
    live.clock.jump(-HOUR_US)
    live.advance(120 * SECOND_US)
    assert live.members(segment_id) == {"ann"}
    live.track("bob", "seen")
    assert live.workspace.folder.state.now_us > before_us
    live.workspace.accept_clock()
    live.advance(30 * 60 * SECOND_US)
    late_us = live.workspace.folder.state.now_us
    assert late_us >= before_us
    assert "bob" in live.members(segment_id)
    live.advance(60 * 60 * SECOND_US)
    assert live.members(segment_id) == set()
    times = [at_us for *_, at_us in live.transitions(segment_id)]
    assert times == sorted(times)


class Counted(WindowLeaf):
    """A window that counts how often its column is read through."""

    scans = 0

    def due_many(self, now_us: int, until_us: int) -> tuple[Any, NDArray[np.int64]]:
        self.scans += 1
        return super().due_many(now_us, until_us)


def test_what_is_to_come_later_costs_one_reading_for_each_stretch(live: Live) -> None:
    """A hundred thousand people leave a window in a day: until then time passes without asking about anybody."""
    test = EventTest(name="seen", window=Last(DAY_US))
    leaf = Counted(test)
    people = np.arange(100_000, dtype=np.uint32)
    leaf.add_many(people, people.astype(np.int64), np.full(len(people), NOW_US))
    coming = Coming()
    coming.watch({test: leaf})
    coming.start(NOW_US)
    asked = moved = 0
    for minute in range(24 * 60):
        now_us = NOW_US + minute * 60 * SECOND_US
        if coming.next_us <= now_us:
            asked += 1
            moved += sum(1 for _ in coming.due(now_us))
    stretches = DAY_US // HORIZON_US
    assert moved == 0
    assert asked <= stretches + 1
    assert leaf.scans <= stretches + 1
    assert sum(1 for _ in coming.due(NOW_US + DAY_US)) == len(people)


def test_the_next_stretch_is_read_some_leaves_at_a_time(live: Live) -> None:
    """Before its time, a few leaves in a step; what comes of it, also of leaves fed or made meanwhile, is the same."""
    tests = [EventTest(name="seen", window=Last(60 * SECOND_US * (number + 1))) for number in range(30)]
    people = np.arange(40, dtype=np.uint32)
    read, steps = Coming(), 0
    leaves: dict[LeafKey, AnyLeaf] = {test: Counted(test) for test in tests[:-1]}
    for leaf in leaves.values():
        leaf.add_many(people, people.astype(np.int64), NOW_US + people.astype(np.int64) * SECOND_US)  # type: ignore[union-attr]
    read.watch(leaves)
    read.start(NOW_US)
    found: list[tuple[int, int]] = []
    for minute in range(1, 120):
        now_us = NOW_US + minute * 60 * SECOND_US
        if minute == 13:
            # A window more is asked for, and told of somebody.
            leaves = {**leaves, tests[-1]: Counted(tests[-1])}
            leaves[tests[-1]].add(7, now_us, now_us)  # type: ignore[union-attr]
            read.watch(leaves)
            read.expect(tests[-1], leaves[tests[-1]], 7, now_us)
        found += [(moment_us, person) for moment_us, person, _ in read.due(now_us)]
        while read.lags(now_us):
            before = sum(leaf.scans for leaf in leaves.values() if isinstance(leaf, Counted))
            read.read_some()
            steps += 1
            assert sum(leaf.scans for leaf in leaves.values() if isinstance(leaf, Counted)) - before <= LEAVES_AT_ONCE
    expected = [
        (NOW_US + int(person) * SECOND_US + test.window.last_us, int(person))  # type: ignore[union-attr]
        for test in tests[:-1]
        for person in people
    ]
    expected.append((NOW_US + 13 * 60 * SECOND_US + 30 * 60 * SECOND_US, 7))
    assert sorted(set(found)) == sorted(set(expected))
    # Once in one go at the start, else in steps.
    assert max(leaf.scans for leaf in leaves.values() if isinstance(leaf, Counted)) <= 14
    assert steps > 10 * len(leaves) // LEAVES_AT_ONCE // 2
