"""A person's devices and relationships as they were at a moment, from all that was ever written to them.

The fast twin of the oracle's reading: it folds writes with the code of the live path.
"""

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from backstory.core.comparison import next_change_us, read_path
from backstory.core.condition import AttributeTest, DeviceTest, Json, RecordTest, tests_in
from backstory.core.device import asked_device
from backstory.core.object import asked_object
from backstory.core.record import Record, put, remove

Attributes = dict[str, Json] | None
# (token, time_us, attributes) and (type, object_id, time_us, attributes); attributes None: it went.
DeviceWrite = tuple[str, int, Attributes]
ObjectWrite = tuple[int, str, int, Attributes]
Row = dict[str, Json]


class RecordsInTime(msgspec.Struct, kw_only=True):
    """What was written to a person's devices and relationships, and to the objects of those."""

    devices: list[DeviceWrite] = []
    relations: list[ObjectWrite] = []
    objects: list[ObjectWrite] = []

    def rows(self, test: RecordTest, at_us: int) -> list[Row]:
        """The records a test looks at, as they were."""
        return self._devices(at_us) if isinstance(test, DeviceTest) else self._relations(test.type_id, at_us)

    def moments_us(self, test: RecordTest, now_us: int) -> set[int]:
        """When the answer to a test can change, up to now: at each write, and where time alone turns a test."""
        writes = self.devices if isinstance(test, DeviceTest) else [*self.relations, *self.objects]
        moments = {write[-2] for write in writes if write[-2] <= now_us}
        timed = [] if test.where is None else [one for one in tests_in(test.where) if "timestamp" in one.operator]
        for moment in list(moments) if timed else ():
            for row in self.rows(test, moment):
                for one in timed:
                    moments.update(_turns(one, row, moment, now_us))
        return moments

    def told_us(self) -> list[int]:
        """The times of facts about the person; a device that went to somebody else tells nothing of whom it left."""
        devices = [write[1] for write in self.devices if write[2] is not None]
        return devices + [write[2] for write in self.relations]

    def _devices(self, at_us: int) -> list[Row]:
        writes: defaultdict[str, list[tuple[int, Attributes]]] = defaultdict(list)
        for token, time_us, attributes in self.devices:
            writes[token].append((time_us, attributes))
        records = {token: fold(those, at_us) for token, those in writes.items()}
        return [asked_device(token, record) for token, record in records.items() if record.there]

    def _relations(self, type_id: int, at_us: int) -> list[Row]:
        objects: defaultdict[str, list[tuple[int, Attributes]]] = defaultdict(list)
        for kind, object_id, time_us, attributes in self.objects:
            if kind == type_id:
                objects[object_id].append((time_us, attributes))
        relations: defaultdict[str, list[tuple[int, Attributes]]] = defaultdict(list)
        for kind, object_id, time_us, attributes in self.relations:
            if kind == type_id:
                relations[object_id].append((time_us, attributes))
        rows: list[Row] = []
        for object_id, those in relations.items():
            record, thing = fold(those, at_us), fold(objects[object_id], at_us)
            remove(record, thing.gone_us)
            if record.there:
                rows.append(asked_object(object_id, thing, record))
        return rows


def fold(writes: Iterable[tuple[int, Attributes]], at_us: int) -> Record:
    """A record as it was, from what was written to it."""
    record = Record()
    for time_us, attributes in writes:
        if time_us > at_us:
            continue
        if attributes is None:
            remove(record, time_us)
        else:
            put(record, attributes, time_us)
    return record


def _turns(test: AttributeTest, row: Row, from_us: int, now_us: int) -> Iterable[int]:
    found = read_path(row, test.field)
    moment = next_change_us(test, found, from_us)
    while moment is not None and moment <= now_us:
        yield moment
        moment = next_change_us(test, found, moment)
