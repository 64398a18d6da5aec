"""The effective moment of a transition that a late fact caused: found by reading that person again."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import assert_never

from backstory.core.comparison import holds, read_path, where_holds
from backstory.core.condition import (
    And,
    AttributeTest,
    Between,
    Condition,
    DeviceTest,
    EventTest,
    InSegment,
    Json,
    Last,
    Not,
    Or,
    RecordTest,
    RelationTest,
    records_in,
    segments_in,
)
from backstory.core.interval import attribute_tests, fixed_us, moments_of_values, start_of_run, windows_us
from backstory.core.leaf import NEVER_US
from backstory.core.person import Document, values, write
from backstory.core.record_leaf import RecordLeaf
from backstory.core.segment import SegmentEngine, leaf_keys
from backstory.core.timeline import root_of
from backstory.engine.context import shown_values
from backstory.engine.segment.past import EventInTime, Past, Stored
from backstory.store.folder import Folder


class PersonInTime:
    """One person's history, asked about any moment."""

    def __init__(
        self, person: int, identifiers: Mapping[str, Json], past: Past, segments: SegmentEngine, *, known_us: int
    ) -> None:
        """``known_us``: since when the person is known."""
        self.person = person
        self.known_us = known_us
        self._identifiers = identifiers
        self._past = past
        self._segments = segments
        # The values from each moment a write became true, of attributes with these roots; None: of all.
        self._documents: dict[frozenset[str] | None, list[tuple[int, dict[str, Json]]]] = {}
        self._roots: frozenset[str] | None = None
        # Values as they are, where they are all that is asked for.
        self._shown: dict[str, Json] | None = None
        self._times: dict[EventTest, list[int]] = {}

    @property
    def documents(self) -> list[tuple[int, dict[str, Json]]]:
        """The values asked for from each moment a write to them became true."""
        found = self._documents.get(self._roots)
        if found is None:
            found = self._documents[self._roots] = [(self.known_us, dict(self._identifiers))]
            document: Document = {}
            for time_us, attributes in sorted(self._past.writes(), key=lambda item: item[0]):
                some = attributes
                if self._roots is not None:
                    some = {name: value for name, value in attributes.items() if root_of(name) in self._roots}
                if some:
                    write(document, some, time_us)
                    found.append((time_us, {**values(document), **self._identifiers}))
        return found

    def show(self, values: dict[str, Json]) -> None:
        """Take these values for those of all days."""
        self._documents = {None: [(self.known_us, values)]}

    def times(self, test: EventTest) -> list[int]:
        """Sorted times of the events a test counts, its window aside."""
        found = self._times.get(test)
        if found is None:
            bare = EventTest(name=test.name, kind=test.kind, where=test.where)
            found = self._times[test] = self._times.get(bare) or sorted(
                time_us
                for kind, name, time_us, data in self._past.events(test.kind, test.name)
                if test.counts(kind, name)
                and (test.where is None or where_holds(test.where, data() if callable(data) else data, time_us))
            )
            self._times[bare] = found
        return found

    def values_at(self, at_us: int) -> dict[str, Json]:
        if self._shown is not None:
            return self._shown
        at = bisect_right(self.documents, at_us, key=lambda item: item[0])
        return self.documents[max(at - 1, 0)][1]

    def holds(self, condition: Condition, at_us: int) -> bool:
        """Does the condition hold in valid time at a moment?"""
        match condition:
            case And(children=children):
                return all(self.holds(child, at_us) for child in children)
            case Or(children=children):
                return any(self.holds(child, at_us) for child in children)
            case Not(child=child):
                return not self.holds(child, at_us)
            case InSegment(segment_id=segment_id):
                kept = self._segments.segments.get(segment_id)
                if kept is None or kept.condition is None:
                    return kept is not None and self._placed(segment_id, self.person in kept.members, at_us)
                return self.holds(kept.condition, at_us)
            case AttributeTest():
                return holds(condition, read_path(self.values_at(at_us), condition.field), at_us)
            case EventTest():
                return self._counts(condition, at_us)
            case DeviceTest() | RelationTest():
                return RecordLeaf.judge(condition, self._past.records().rows(condition, at_us), at_us)
            case _:
                assert_never(condition)

    def _placed(self, segment_id: int, now: bool, at_us: int) -> bool:
        """Was the person in a manual segment? Where nothing is told of it, as they are now."""
        told = [(moment, entered) for number, moment, entered in self._past.placements() if number == segment_id]
        if not told:
            return now
        return next((entered for moment, entered in reversed(told) if moment <= at_us), False)

    def _counts(self, test: EventTest, at_us: int) -> bool:
        times = self.times(test)
        low, high = 0, bisect_right(times, at_us)
        known = True
        match test.window:
            case Last(last_us=last_us):
                low = bisect_right(times, at_us - last_us)
                known = self.known_us <= at_us - last_us
            case Between(from_us=from_us, to_us=to_us):
                low = 0 if from_us is None else bisect_left(times, from_us)
                high = min(high, len(times) if to_us is None else bisect_left(times, to_us))
                known = from_us is None or self.known_us <= from_us
            case None:
                pass
            case _:
                assert_never(test.window)
        count = max(high - low, 0)
        if not test.performed:
            return count == 0 and known
        return count >= test.at_least and (test.at_most is None or count <= test.at_most)

    def since_us(self, condition: Condition, now_us: int) -> tuple[int, bool]:
        """Since when the condition has given the answer it gives now, and the answer; nobody is anywhere before they
        are known."""
        asked = _asked(self._flat(condition) if segments_in(condition) else condition)
        self._roots = asked.roots
        present = self._past.present(asked.roots) if asked.roots and asked.roots not in self._documents else None
        if present is not None and present[0] <= now_us:
            # Mostly the answer turned last after these values were written: then older ones need not be read.
            found = self._with_present(asked, present, now_us)
            if found is not None:
                return found
        moments = self._moments(asked, self.documents if asked.roots else [], now_us)
        since_us = start_of_run(moments, lambda at_us: self.holds(asked.condition, at_us), now_us)
        return max(since_us, self.known_us), self.holds(asked.condition, now_us)

    def _with_present(
        self, asked: "Asked", present: tuple[int, dict[str, Json]], now_us: int
    ) -> tuple[int, bool] | None:
        """The same with values that hold since a moment; None when the answer does not turn after it."""
        floor_us, shown = present
        flat, moments = asked.condition, self._moments(asked, [(floor_us, shown)], now_us)
        self._shown = shown
        try:
            answer = self.holds(flat, now_us)
            turned_us = now_us
            for moment in sorted({moment for moment in moments if floor_us <= moment <= now_us}, reverse=True):
                if self.holds(flat, moment) != answer:
                    return max(turned_us, self.known_us), answer
                turned_us = moment
        finally:
            self._shown = None
        return (self.known_us, answer) if floor_us <= self.known_us else None

    def _moments(self, asked: "Asked", documents: list[tuple[int, dict[str, Json]]], now_us: int) -> set[int]:
        """All moments at which the answer can change."""
        moments = {self.known_us, *asked.fixed_us, *(self.known_us + window for window in asked.windows_us)}
        for test in asked.events:
            times = self.times(test)
            moments.update(times)
            for window in asked.windows_us:
                moments.update([time_us + window for time_us in times])
        if documents:
            moments |= moments_of_values(asked.attributes, documents, now_us)
        for test in asked.records:
            moments |= self._past.records().moments_us(test, now_us)
        if asked.manual:
            moments |= {moment for _, moment, _ in self._past.placements() if moment <= now_us}
        return moments

    def _flat(self, condition: Condition) -> Condition:
        """The condition with the conditions of the segments it refers to put in."""
        match condition:
            case And(children=children):
                return And(tuple(self._flat(child) for child in children))
            case Or(children=children):
                return Or(tuple(self._flat(child) for child in children))
            case Not(child=child):
                return Not(self._flat(child))
            case InSegment(segment_id=segment_id):
                kept = self._segments.segments.get(segment_id)
                return condition if kept is None or kept.condition is None else self._flat(kept.condition)
            case AttributeTest() | EventTest() | DeviceTest() | RelationTest():
                return condition
            case _:
                assert_never(condition)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a condition, with those of other segments put in, asks of a person's history."""

    condition: Condition
    roots: frozenset[str]
    attributes: tuple[AttributeTest, ...]
    events: tuple[EventTest, ...]
    records: tuple[RecordTest, ...]
    windows_us: frozenset[int]
    fixed_us: frozenset[int]
    manual: bool


@lru_cache(8192)
def _asked(condition: Condition) -> Asked:
    attributes = attribute_tests(condition)
    return Asked(
        condition=condition,
        roots=frozenset(root_of(test.field) for test in attributes),
        attributes=tuple(attributes),
        events=tuple(key for key in leaf_keys(condition) if isinstance(key, EventTest)),
        records=tuple(records_in(condition)),
        windows_us=frozenset(windows_us(condition)),
        fixed_us=frozenset(fixed_us(condition)),
        manual=bool(segments_in(condition)),
    )


def stored_person(
    folder: Folder, segments: SegmentEngine, stored: Stored, person: int, *, also: Sequence[EventInTime] = ()
) -> PersonInTime:
    """One of the people whose histories are stored, read as far as it is asked for; on the loop's thread.

    ``also``: events of theirs that are not yet in the tail.
    """
    known_us = segments.known.get_us(person)
    identifiers = shown_values(stored.profile(person), {})
    known_us = 0 if known_us == NEVER_US else known_us
    return PersonInTime(person, identifiers, stored.of(person, also), segments, known_us=known_us)
