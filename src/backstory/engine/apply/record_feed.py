"""Telling leaves over devices and relationships what a person's are now."""

from backstory.core.condition import DeviceTest, Json, RecordTest, RelationTest
from backstory.core.device import asked_device
from backstory.core.leaf_key import LeafKey
from backstory.core.object import asked_object
from backstory.core.segment import SegmentEngine
from backstory.store.folder import Folder


class RecordFeed:
    """Reads a person's records only where some leaf asks for them."""

    def __init__(self, folder: Folder, segments: SegmentEngine) -> None:
        self._folder = folder
        self._segments = segments

    def asks_for(self, type_id: int) -> bool:
        """Does any segment ask for objects of this type?"""
        return bool(self._tests(type_id))

    def devices(self, person: int, now_us: int) -> set[LeafKey]:
        """Judge a person's devices anew; returns the leaves, for the caller to settle."""
        return self._feed(person, self._tests(None), now_us)

    def relations(self, person: int, type_id: int | None, now_us: int) -> set[LeafKey]:
        """The same for relationships with objects of a type; ``type_id`` None: of every type."""
        if type_id is not None:
            return self._feed(person, self._tests(type_id), now_us)
        types = {test.type_id for test in self._segments.records if isinstance(test, RelationTest)}
        return {key for one in types for key in self.relations(person, one, now_us)}

    def one(self, person: int, test: RecordTest, now_us: int) -> None:
        """A leaf's moment has come for a person."""
        self._feed(person, [test], now_us)

    def _tests(self, type_id: int | None) -> list[RecordTest]:
        """What is asked of relationships with objects of a type; None: of devices."""
        return [
            test
            for test in self._segments.records
            if (test.type_id if isinstance(test, RelationTest) else None) == type_id
        ]

    def _feed(self, person: int, tests: list[RecordTest], now_us: int) -> set[LeafKey]:
        if not tests:
            return set()
        return self._segments.feed_records(person, tests, self.rows(person, tests[0]), now_us)

    def rows(self, person: int, test: RecordTest) -> list[dict[str, Json]]:
        """The records a test looks at, as they are now."""
        if isinstance(test, DeviceTest):
            return [asked_device(token, record) for token, record in self._folder.devices.of_person(person)]
        related = self._folder.relations.of_person(person, test.type_id)
        return [asked_object(row.object_id, row.record, record) for row, record in related]


def forget_records(folder: Folder, person: int) -> None:
    """Somebody is deleted: their devices and relationships go with them, and the history of those."""
    folder.devices.forget_person(person)
    folder.relations.forget_person(person)
    folder.record_writes.forget_person(person)
