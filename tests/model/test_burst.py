"""Bursts against one by one: two workspaces take the same facts, one of them event for event, and are compared."""

import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from pyroaring import BitMap

from backstory.core.condition import Condition, to_json
from backstory.core.fact import Fact, Identifier, Identify, PutSegment, Track
from backstory.core.leaf import CountLeaf, WindowLeaf
from backstory.core.time import HOUR_US, MINUTE_US, SECOND_US
from backstory.engine.clock import ManualClock
from backstory.engine.compactor import Compactor
from backstory.engine.workspace import Workspace, open_workspace
from backstory.store.compaction import Sizes
from tests.hunt import examples
from tests.model.strategy import KINDS, NAMES, NOW_US, attributes, conditions, encoded, event_data, past_us

IDS = ("ann", "bob", "cid", "dan", "eve", "fay")
EVENT_IDS = tuple(f"e{number}" for number in range(40))
ahead_us = st.sampled_from((-1, -3, -SECOND_US, -HOUR_US))
ages_us = st.one_of(st.none(), st.none(), st.none(), past_us, st.integers(1, 3 * SECOND_US), ahead_us)
NEVER = 1 << 30
EVER_AFTER_US = 1 << 60


class Twins(RuleBasedStateMachine):
    """``burst`` applies two plain events and more together, ``single`` never does.

    ``single`` also reads a person's history for every late fact that moves somebody: it takes none to stand alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="backstory-twins-"))
        self.clock = ManualClock(NOW_US)
        self.folders = itertools.count()
        self.burst = self.open(self.root / "burst", 2)
        self.single = self.open(self.root / "single", NEVER)

    def open(self, path: Path, at_least: int) -> Workspace:
        workspace = open_workspace(path, clock=self.clock, threads=False)
        workspace.applier.bursts.at_least, workspace.applier.bursts.round_min = at_least, 1
        if at_least == NEVER:
            workspace.segments.newest.raise_floor(EVER_AFTER_US, BitMap([NEVER]))
        workspace.loop.turn()
        return workspace

    def teardown(self) -> None:
        self.burst.close()
        self.single.close()
        shutil.rmtree(self.root)

    def send(self, facts: list[Fact]) -> None:
        """Receipts are the same too, in the same order."""
        mine, other = self.burst.apply(list(facts)), self.single.apply(list(facts))
        assert mine == other

    @initialize(first=st.lists(conditions(), min_size=1, max_size=5))
    def begin(self, first: list[Condition]) -> None:
        for condition in first:
            self.put(condition)
        self.send([Identify(person=Identifier("id", name)) for name in IDS[:4]])
        self.clock.advance(5 * MINUTE_US)

    def put(self, condition: Condition) -> None:
        self.send([PutSegment(name="some", conditions=encoded(to_json(condition)))])
        for workspace in (self.burst, self.single):
            workspace.builder.work_off()

    @rule(data=st.data())
    def over_another_segment(self, data: st.DataObject) -> None:
        numbers = tuple(self.burst.segments.segments)
        if len(numbers) < 7:
            self.put(data.draw(conditions(numbers)))

    @rule(data=st.data())
    def a_build_that_waits(self, data: st.DataObject) -> None:
        """A segment is made or edited, and facts come before it is built."""
        numbers = tuple(self.burst.segments.segments)
        edited = data.draw(st.sampled_from([*numbers, *([None] if len(numbers) < 7 else [])]))
        condition = encoded(to_json(data.draw(conditions(numbers))))
        self.send([PutSegment(name="some", segment_id=edited, conditions=condition)])

    @rule()
    def builds_end(self) -> None:
        for workspace in (self.burst, self.single):
            workspace.builder.work_off()

    def track(self, data: st.DataObject) -> Track:
        age_us = data.draw(ages_us)
        return Track(
            person=Identifier("id", data.draw(st.sampled_from(IDS))),
            name=data.draw(st.sampled_from(NAMES)),
            kind=data.draw(st.sampled_from(KINDS)),  # pyright: ignore[reportArgumentType]
            data=encoded(data.draw(event_data)),
            event_id=data.draw(st.one_of(st.none(), st.sampled_from(EVENT_IDS))),
            time_us=None if age_us is None else self.clock.now_us() - age_us,
        )

    @rule(data=st.data(), count=st.integers(2, 25))
    def events(self, data: st.DataObject, count: int) -> None:
        self.send([self.track(data) for _ in range(count)])

    @rule(data=st.data(), before=st.integers(0, 6), after=st.integers(0, 6))
    def events_around_a_write(self, data: st.DataObject, before: int, after: int) -> None:
        person = Identifier("id", data.draw(st.sampled_from(IDS)))
        facts: list[Fact] = [self.track(data) for _ in range(before + after)]
        facts.insert(before, Identify(person=person, attributes=encoded(data.draw(attributes))))
        self.send(facts)

    @rule(data=st.data(), count=st.integers(2, 9))
    def events_in_tickets_of_their_own(self, data: st.DataObject, count: int) -> None:
        """As single calls come: some at once, and some a moment later."""
        facts: list[Fact] = [self.track(data) for _ in range(count)]
        for workspace in (self.burst, self.single):
            for fact in facts:
                workspace.submit([fact], on_error=fail)
            workspace.loop.turn()

    @rule(by_us=st.sampled_from((1, SECOND_US - 3, SECOND_US, 5 * SECOND_US, 20 * SECOND_US, 5 * MINUTE_US)))
    def time_passes(self, by_us: int) -> None:
        self.clock.advance(by_us)
        self.burst.loop.turn()
        self.single.loop.turn()

    @rule()
    def rows_leave_the_tail(self) -> None:
        """All of them, as which are the oldest is told by numbers that differ."""
        for workspace in (self.burst, self.single):
            Compactor(workspace, Sizes(tail_rows=1, move_rows=10_000, part_rows=10_000, run_rows=10_000)).work_off()

    @rule(count=st.integers(0, 20), data=st.data())
    def a_kill_between_accept_and_apply(self, count: int, data: st.DataObject) -> None:
        facts: list[Fact] = [self.track(data) for _ in range(count)]
        copies: list[Path] = []
        if facts:
            self.burst.submit(facts, on_accept=lambda: copies.append(self.copied()), on_error=fail)
            self.burst.loop.turn()
            self.single.apply(facts)
        path = copies[0] if copies else self.copied()
        self.burst.folder.close()
        self.burst = self.open(path, 2)
        self.single.loop.turn()

    def copied(self) -> Path:
        to = self.root / str(next(self.folders))
        path = self.burst.folder.path
        shutil.copytree(path, to, ignore=shutil.ignore_patterns("temporary", "*-shm"))
        return to

    @invariant()
    def stores_are_alike(self) -> None:
        assert kept(self.burst) == kept(self.single)

    @invariant()
    def memory_is_alike(self) -> None:
        mine, other = self.burst.segments, self.single.segments
        for segment_id, one in other.segments.items():
            assert mine.segments[segment_id].members == one.members
        everybody = other.everybody()
        assert (mine.known.gather_us(everybody) == other.known.gather_us(everybody)).all()
        for key, leaf in other.leaves.items():
            if isinstance(leaf, CountLeaf | WindowLeaf):
                twin = mine.leaves[key]
                assert isinstance(twin, CountLeaf | WindowLeaf)
                assert (twin.column.gather(everybody) == leaf.column.gather(everybody)).all(), key


def kept(workspace: Workspace) -> dict[str, list[Any]]:
    """What ``state.db`` holds, without the numbers that only say in which order people's rows were written."""
    queries = {
        "event": "SELECT person, name, kind, time_us, accept_us, data, event_id, key, duplicate FROM event"
        " ORDER BY accept_us",
        "order": "SELECT person, accept_us FROM event ORDER BY person, seq",
        "transition": "SELECT person, segment_id, entered, effective_us, at_us FROM transition ORDER BY person, seq",
        "activity": "SELECT person, type, time_us, accept_us, data FROM activity ORDER BY accept_us, type, data",
        "future": "SELECT person, at_us FROM future ORDER BY person, at_us",
        "person": "SELECT person, id, created_us, document FROM person ORDER BY person",
    }
    rows = {name: workspace.folder.state.db.execute(query).fetchall() for name, query in queries.items()}
    return {**rows, "counters": [workspace.folder.state.position, workspace.folder.state.next_seq]}


def fail(error: Exception) -> None:
    raise error


TestTwins = Twins.TestCase
TestTwins.settings = settings(
    max_examples=examples(10),
    stateful_step_count=12,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
    deadline=None,
)
