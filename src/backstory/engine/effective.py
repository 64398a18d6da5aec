"""The effective moment of a transition that a late fact caused: found by reading that person again."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import assert_never

import msgspec

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
    RelationTest,
    records_in,
)
from backstory.core.interval import moments_of, start_of_run
from backstory.core.leaf import NEVER_US
from backstory.core.person import Document, values, write
from backstory.core.record_leaf import RecordLeaf
from backstory.core.record_time import RecordsInTime
from backstory.core.segment import SegmentEngine, event_test, leaf_keys
from backstory.store.folder import Folder
from backstory.store.record import read_records

_decode = msgspec.json.Decoder().decode
# Kind, name, time in microseconds, data.
EventInTime = tuple[str, str, int, Mapping[str, Json]]


class PersonInTime:
    """One person's stored history, asked about any moment."""

    def __init__(
        self,
        person: int,
        identifiers: Mapping[str, Json],
        events: list[EventInTime],
        writes: list[tuple[int, Mapping[str, Json]]],
        segments: SegmentEngine,
        *,
        known_us: int | None = None,
        records: RecordsInTime | None = None,
    ) -> None:
        """``known_us``: since when the person is known, where the engine has it; else by the times given."""
        self.person = person
        self._events = events
        self._segments = segments
        self._records = records or RecordsInTime()
        if known_us is None:
            known_us = min([event[2] for event in events] + [write[0] for write in writes], default=0)
        self.known_us = known_us
        self.documents: list[tuple[int, dict[str, Json]]] = [(self.known_us, dict(identifiers))]
        document: Document = {}
        for time_us, attributes in sorted(writes, key=lambda item: item[0]):
            write(document, attributes, time_us)
            self.documents.append((time_us, {**values(document), **identifiers}))
        self._times: dict[EventTest, list[int]] = {}

    def times(self, test: EventTest) -> list[int]:
        """Sorted times of the events a test counts, its window aside."""
        test = EventTest(name=test.name, kind=test.kind, where=test.where)
        if test not in self._times:
            self._times[test] = sorted(
                time_us
                for kind, name, time_us, data in self._events
                if test.counts(kind, name)
                and (test.where is None or where_holds(test.where, data, time_us))
            )
        return self._times[test]

    def values_at(self, at_us: int) -> dict[str, Json]:
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
                    return kept is not None and self.person in kept.members
                return self.holds(kept.condition, at_us)
            case AttributeTest():
                return holds(condition, read_path(self.values_at(at_us), condition.field), at_us)
            case EventTest():
                return self._counts(condition, at_us)
            case DeviceTest() | RelationTest():
                return RecordLeaf.judge(condition, self._records.rows(condition, at_us), at_us)
            case _:
                assert_never(condition)

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

    def since_us(self, condition: Condition, now_us: int) -> int:
        """Since when the condition has given the answer it gives now; nobody is anywhere before they are known."""
        flat = self._flat(condition)
        times = [t for key in leaf_keys(flat) if isinstance(key, EventTest) for t in self.times(event_test(key))]
        moments = moments_of(
            flat, known_us=self.known_us, event_times_us=times, documents=self.documents, now_us=now_us
        )
        for test in records_in(flat):
            moments |= self._records.moments_us(test, now_us)
        return max(start_of_run(moments, lambda at_us: self.holds(condition, at_us), now_us), self.known_us)

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


def read_person(
    folder: Folder,
    segments: SegmentEngine,
    person: int,
    identifiers: Mapping[str, Json],
    *,
    also: Sequence[EventInTime] = (),
) -> PersonInTime:
    """A person's history from parts and tail; on the loop's thread, so that rows not yet written are seen.

    ``also``: events of theirs that are not yet in the tail.
    """
    events = folder.history.person_events(person) + folder.tail.person_events(person)
    writes = folder.history.person_writes(person) + folder.tail.person_writes(person)
    known_us = segments.known.get_us(person)
    return PersonInTime(
        person,
        identifiers,
        [*((*event[:3], _decode(event[3])) for event in events), *folder.ledger.message_events(person), *also],
        [(time_us, _decode(attributes)) for time_us, attributes in writes],
        segments,
        known_us=None if known_us == NEVER_US else known_us,
        records=read_records(folder.state.db, [person]).get(person),
    )
