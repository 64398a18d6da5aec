"""Segments: boolean algebra over shared leaves, memberships kept, transitions told, the clock included.

The engine of membership, with no I/O: facts are fed in, transitions come out. What it must never know: where
facts come from, who stores transitions, what a campaign is.

Order of work for one fact: feed the leaves that mention it, then ``settle`` the person, which re-judges the segments
over those leaves and, when one flips, the segments that refer to it. For time: ``due`` names each moment at which
time alone may change somebody. Bulk: ``feed_many`` on a leaf, then ``settle_many`` with the people it touched.

What time changes is kept by ``coming``, what a condition asks by ``leaf`` and ``judge``.
"""

import heapq
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import numpy as np
from pyroaring import BitMap

from backstory.core.column import Moment, Numbers, People, bitmap_of, member_many
from backstory.core.coming import Coming
from backstory.core.condition import (
    AttributeTest,
    Condition,
    DeviceTest,
    EventTest,
    Json,
    RecordTest,
    RelationTest,
    segments_in,
)  # fmt: skip
from backstory.core.judge import Compiler
from backstory.core.known import KnownLeaf, KnownSince
from backstory.core.lateness import Basis, NewestFacts, basis_of
from backstory.core.leaf import AttributeLeaf, CountLeaf, WindowLeaf, event_leaf
from backstory.core.leaf_index import LeafIndex
from backstory.core.leaf_key import AnyLeaf, LeafKey, event_test, guard_of, leaf_keys
from backstory.core.membership import Kept, Transition, place
from backstory.core.record_leaf import RecordLeaf
from backstory.core.reference import in_order, refers_to

# Keys of leaves and memberships are used wherever segments are: they are told from here too.
__all__ = ["AnyLeaf", "Kept", "LeafKey", "SegmentEngine", "Transition", "event_test", "guard_of", "leaf_keys"]


class SegmentEngine:
    """Leaves, segments and memberships of one workspace."""

    def __init__(self) -> None:
        self.alive = BitMap()
        self.known = KnownSince()
        self.newest = NewestFacts()
        self.leaves: dict[LeafKey, AnyLeaf] = {}
        self.segments: dict[int, Kept] = {}
        self.told = LeafIndex()
        self._segments_of: dict[LeafKey, list[int]] = {}
        self._dependents: dict[int, list[int]] = {}
        self._order: dict[int, int] = {}
        self._bases: dict[int, Basis] = {}
        self._together = False
        self.importing = False  # Does what is told come of an import?
        self._guards: list[LeafKey] = []
        # What is asked of devices and relationships.
        self.records: list[RecordTest] = []
        self._coming = Coming()
        self._compiler = Compiler(self.leaves, lambda segment_id: self.segments[segment_id].members)

    # -- definitions ------------------------------------------------------------------------------------------

    @contextmanager
    def together(self) -> Generator[None]:
        """Leaves and segments put meanwhile are indexed once, at the end: each by itself costs as much as all."""
        self._together = True
        try:
            yield
        finally:
            self._together = False
            self._prune()
            self._index()

    def missing(self, condition: Condition) -> list[LeafKey]:
        """The leaves a condition needs that do not exist yet."""
        return [key for key in dict.fromkeys(leaf_keys(condition)) if key not in self.leaves]

    def make_leaf(self, key: LeafKey) -> AnyLeaf:
        """A new empty leaf, not yet attached."""
        match key:
            case EventTest():
                return event_leaf(key)
            case AttributeTest():
                return AttributeLeaf(key)
            case DeviceTest() | RelationTest():
                return RecordLeaf(key)
            case ("last", int(last_us)):
                return KnownLeaf(self.known, last_us=last_us, before_us=None)
            case (_, int(before_us)):
                return KnownLeaf(self.known, last_us=None, before_us=before_us)

    def attach(self, key: LeafKey, leaf: AnyLeaf) -> None:
        """From now on the leaf is fed by live facts."""
        self.leaves[key] = leaf
        self.told.add(leaf)
        self._index()

    def put(self, segment_id: int, condition: Condition | None, *, building: bool = False) -> Kept:
        """Define or redefine a segment whose leaves are attached; its members stay as they are until settled."""
        kept = self.segments.get(segment_id) or Kept(segment_id, condition)
        kept.begin(condition, building=building)
        if condition is not None:
            kept.judge, kept.judge_many = self._compiler.compile(condition)
        self.segments[segment_id] = kept
        self._prune()
        self._index()
        return kept

    def drop(self, segment_id: int) -> None:
        self.segments.pop(segment_id, None)
        self._prune()
        self._index()

    def _prune(self) -> None:
        """Let go of leaves that no segment asks for any more."""
        if self._together:
            return
        used = {key for kept in self.segments.values() if kept.condition for key in leaf_keys(kept.condition)}
        for key in [key for key in self.leaves if key not in used]:
            self.told.remove(self.leaves.pop(key))

    def _index(self) -> None:
        if self._together:
            return
        self._segments_of = {}
        self._dependents = {}
        self._bases = {}
        for kept in self.segments.values():
            if kept.condition is not None:
                for key in dict.fromkeys(leaf_keys(kept.condition)):
                    self._segments_of.setdefault(key, []).append(kept.segment_id)
                for other in segments_in(kept.condition):
                    self._dependents.setdefault(other, []).append(kept.segment_id)
        self._order = {segment_id: rank for rank, segment_id in enumerate(in_order(self._conditions()))}
        self._guards = [key for key, leaf in self.leaves.items() if isinstance(leaf, KnownLeaf)]
        self.records = [leaf.test for leaf in self.leaves.values() if isinstance(leaf, RecordLeaf)]
        self._coming.watch(self.leaves)

    def would_cycle(self, segment_id: int, condition: Condition) -> bool:
        """Would the condition make the segment refer to itself, over others or directly?"""
        return refers_to(segment_id, condition, self._conditions())

    def _conditions(self) -> dict[int, Condition | None]:
        return {kept.segment_id: kept.condition for kept in self.segments.values()}

    # -- one person -------------------------------------------------------------------------------------------

    def feed_event(
        self, person: int, kind: str, name: str, time_us: int, data: Callable[[], Mapping[str, Json]], now_us: int
    ) -> set[LeafKey]:
        """Feed an event whose time is not after ``now_us``; returns the leaves whose answer it changed.

        The others move nobody: what time changed up to now was settled at its moment.
        """
        self.newest.events.put(person, time_us)
        changed: set[LeafKey] = set()
        for leaf in self.told.of_event(kind, name):
            if leaf.where is None or leaf.where(data(), time_us):
                if leaf.add(person, time_us, now_us) or leaf.filling:
                    changed.add(leaf.test)
                if leaf.timed:
                    self._coming.expect(leaf.test, leaf, person, now_us)
        return changed

    def feed_known(self, person: int, time_us: int, now_us: int) -> set[LeafKey]:
        """A fact with this effective time exists: the person may be known for longer, and is known from now on."""
        if not self.known.add(person, min(time_us, now_us)):
            return set()
        for key in self._guards:
            self._coming.expect(key, self.leaves[key], person, now_us)
        return set(self._guards)

    def feed_attributes(
        self, person: int, roots: Iterable[str] | None, values: Callable[[], dict[str, Json]], now_us: int
    ) -> set[LeafKey]:
        """Attributes with these root names (None: all) changed; returns the leaves whose answer that changed."""
        touched: set[LeafKey] = set()
        for leaf in self.told.of_attributes(roots):
            if leaf.set(person, values(), now_us) or leaf.judged_live is not None:
                touched.add(leaf.test)
            if leaf.timed:
                self._coming.expect(leaf.test, leaf, person, now_us)
        return touched

    def feed_records(
        self, person: int, tests: Iterable[RecordTest], rows: Sequence[Mapping[str, Json]], now_us: int
    ) -> set[LeafKey]:
        """A person's records that these tests ask for are others; returns the leaves, all of them re-judged."""
        touched: set[LeafKey] = set()
        for test in tests:
            leaf = self.leaves[test]
            assert isinstance(leaf, RecordLeaf)
            leaf.set(person, rows, now_us)
            touched.add(test)
            if leaf.timed:
                self._coming.expect(test, leaf, person, now_us)
        return touched

    def add_person(self, person: int) -> None:
        self.alive.add(person)

    def settle(
        self, person: int, touched: Iterable[LeafKey] | None, now_us: int, *, noted: bool = False
    ) -> list[Transition]:
        """Re-judge the segments over the touched leaves (None: every segment) and those that follow from them.

        ``noted``: the time of what touched them is noted in ``newest`` already; else it is now.
        """
        if not noted:
            self.newest.put(person, now_us)
        if touched is not None and not touched:
            return []
        if touched is None:
            waiting = [(rank, segment_id) for segment_id, rank in self._order.items()]
        else:
            ids = {segment_id for key in touched for segment_id in self._segments_of.get(key, ())}
            waiting = [(self._order[segment_id], segment_id) for segment_id in ids]
        return self._settle_in_order(waiting, person, now_us) if waiting else []

    def _settle_in_order(self, waiting: list[tuple[int, int]], person: int, now_us: int) -> list[Transition]:
        """Judge (rank, segment) by rank, so that each is judged once, after all it refers to."""
        heapq.heapify(waiting)
        out: list[Transition] = []
        last = -1
        while waiting:
            rank, segment_id = heapq.heappop(waiting)
            if rank == last:
                continue
            last = rank
            kept = self.segments[segment_id]
            if kept.judge is None:
                continue
            if kept.building:
                member = kept.told(person, now_us, importing=self.importing)
            else:
                member = kept.judge(person, now_us)
            if member != (person in kept.members):
                out.append(self.move(kept, person, member, now_us))
                for other in self._dependents.get(segment_id, ()):
                    heapq.heappush(waiting, (self._order[other], other))
        return out

    def move(self, kept: Kept, person: int, member: bool, now_us: int) -> Transition:
        """Put a person into or take them out of a segment."""
        place(kept.members, person, member)
        return Transition(kept.segment_id, person, member, now_us)

    def place(self, segment_id: int, person: int, member: bool, now_us: int) -> list[Transition]:
        """Change one person of a manual segment, with what follows in the segments that refer to it."""
        kept = self.segments[segment_id]
        if (person in kept.members) == member:
            return []
        self.newest.others.put(person, now_us)
        waiting = [(self._order[other], other) for other in self._dependents.get(segment_id, ())]
        return [self.move(kept, person, member, now_us), *self._settle_in_order(waiting, person, now_us)]

    def forget(self, person: int, now_us: int) -> list[Transition]:
        """The person is deleted: out of every segment, and nothing of them stays in any leaf."""
        out = [self.move(kept, person, False, now_us) for kept in self.segments.values() if person in kept.members]
        for kept in self.segments.values():
            kept.forget(person)
        for leaf in self.leaves.values():
            leaf.forget(person)
        self.known.forget(person)
        self.alive.discard(person)
        return out

    # -- time -------------------------------------------------------------------------------------------------

    def start_clock(self, now_us: int) -> None:
        """All that time changed up to ``now_us`` is settled (after a restart or a build)."""
        self._coming.start(now_us)
        self.newest.raise_floor(now_us, self.alive)

    def aim(self, now_us: int) -> None:
        """Time is about to pass up to ``now_us``."""
        self._coming.aim(now_us)

    def time_passed(self, now_us: int) -> None:
        """All that was due up to ``now_us`` is settled."""
        self._coming.passed(now_us)

    def leaf_fed(self, key: LeafKey) -> None:
        """A leaf was fed in bulk: read its coming moments anew."""
        self._coming.read_leaf(key)

    @property
    def coming(self) -> Coming:
        """What time will change."""
        return self._coming

    def expect_fed(self, people: People, now_us: int, keys: Iterable[LeafKey] | None = None) -> None:
        """Leaves (None: all) were fed about these sorted people in bulk: only their coming moments are read."""
        self._coming.expect_fed(people, now_us, keys)

    def next_moment_us(self) -> int:
        """When to come back at the latest for what time changes."""
        return self._coming.next_us

    def due(self, now_us: int) -> Iterator[tuple[int, int, LeafKey]]:
        """Pop each (moment, person, leaf) up to ``now_us`` in order of time; the caller settles each."""
        return self._coming.due(now_us)

    def expect_all(self, keys: Iterable[LeafKey], person: int, now_us: int) -> None:
        """These leaves were told something about a person."""
        for key in keys:
            if self.leaves[key].timed:
                self._coming.expect(key, self.leaves[key], person, now_us)

    def expect_next(self, key: LeafKey, person: int, at_us: int) -> None:
        """After a moment was settled: the same leaf may change again for the same person."""
        self._coming.expect(key, self.leaves[key], person, at_us)

    def expect_many(self, leaf: WindowLeaf, people: People, moments_us: Numbers, now_us: Moment) -> None:
        """Times of many people in a window, a row each, leave it at these moments."""
        self._coming.expect_many(leaf.test, people, moments_us, now_us)

    # -- many people ------------------------------------------------------------------------------------------

    def settle_many(self, segment_id: int, people: People, now_us: int) -> tuple[BitMap, BitMap]:
        """Re-judge sorted distinct people for one segment; returns who entered and who left.

        Nobody does while the segment is being built; of its members to be they are judged all the same.
        """
        kept = self.segments[segment_id]
        if kept.judge_many is None or (kept.building and kept.incoming is None):
            return BitMap(), BitMap()
        members = kept.judge_many(people, now_us)
        if kept.building and kept.incoming is not None:
            kept.incoming |= bitmap_of(people[members])
            kept.incoming -= bitmap_of(people[~members])
            return BitMap(), BitMap()
        before = member_many(kept.members, people)
        entered, left = bitmap_of(people[members & ~before]), bitmap_of(people[before & ~members])
        kept.members |= entered
        kept.members -= left
        return entered, left

    def sharing(self) -> AbstractContextManager[None]:
        """Meanwhile the same people are settled for many segments, and each leaf is asked once."""
        return self._compiler.answers.sharing()

    def swap(self, segment_id: int) -> tuple[BitMap, BitMap]:
        """The members to be are the members from now on; returns who entered and who left."""
        kept = self.segments[segment_id]
        assert kept.incoming is not None, "nobody was judged yet"
        entered, left = kept.incoming - kept.members, kept.members - kept.incoming
        kept.members, kept.incoming, kept.building = kept.incoming, None, False
        return entered, left

    def event_leaves(self, names: Sequence[tuple[str, str]]) -> list[CountLeaf | WindowLeaf]:
        """The leaves over these (kind, name) pairs."""
        return self.told.of_events(names)

    def message_leaves(self) -> list[CountLeaf | WindowLeaf]:
        """The leaves over what happened to messages."""
        return self.told.of_messages()

    def attribute_leaves(self) -> list[AttributeLeaf]:
        return self.told.of_attributes()

    def closure(self, found: set[int]) -> list[int]:
        """These segments and those that refer to them, in an order in which to settle them."""
        ahead = list(found)
        while ahead:
            for other in self._dependents.get(ahead.pop(), ()):
                if other not in found:
                    found.add(other)
                    ahead.append(other)
        return sorted(found, key=self._order.__getitem__)

    def segments_over(self, keys: Iterable[LeafKey]) -> set[int]:
        """The segments whose own conditions use one of these leaves."""
        return {segment_id for key in keys for segment_id in self._segments_of.get(key, ())}

    def basis(self, segment_id: int) -> Basis:
        """What a segment's condition asks, with those of the segments it refers to."""
        if segment_id not in self._bases:
            condition = self.segments[segment_id].condition
            under = [self.basis(one) for one in segments_in(condition) if one in self.segments] if condition else []
            self._bases[segment_id] = basis_of(condition, self.leaves, under)
        return self._bases[segment_id]

    def refer_to(self, segment_id: int) -> list[int]:
        """The segments whose conditions name a segment."""
        return self._dependents.get(segment_id, [])

    def after(self, segment_id: int) -> list[int]:
        """The segments that refer to a segment, directly or over others, in an order in which to settle them."""
        return [other for other in self.closure({segment_id}) if other != segment_id]

    def everybody(self) -> People:
        return np.asarray(self.alive.to_array(), dtype=np.uint32)
