"""What was told of devices, objects and relationships, as lists, for the naive workspace.

It knows the rules (a token is one person's, what ended with an object or a removal does not come back, everything of
somebody who goes goes, everything of somebody merged becomes the survivor's) and leaves the rest to the oracle.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from backstory.core import oracle
from backstory.core.condition import Json
from backstory.core.fact import DeleteDevice, DeleteObject, IdentifyObject, PutDevice, Relate, Unrelate
from backstory.core.time import MINUTE_US

if TYPE_CHECKING:
    from tests.model.naive import Person

NEVER_US = 1 << 62
Attributes = dict[str, Json] | None
ObjectId = tuple[int, str]


@dataclass(kw_only=True, eq=False)
class DeviceWrite:
    """Attributes None: the device went."""

    person: "Person"
    token: str
    time_us: int
    attributes: Attributes


@dataclass(kw_only=True, eq=False)
class RelationWrite:
    """Attributes None: the relationship ended. ``person``: or the anonymous id of somebody not yet known."""

    person: "Person | str"
    object: ObjectId
    time_us: int
    attributes: Attributes


@dataclass(kw_only=True, eq=False)
class Records:
    """All writes there were, of people who are there."""

    devices: list[DeviceWrite] = field(default_factory=list[DeviceWrite])
    relations: list[RelationWrite] = field(default_factory=list[RelationWrite])
    objects: list[tuple[ObjectId, int, Attributes]] = field(default_factory=list[tuple[ObjectId, int, Attributes]])
    # Ends told under an identifier nobody had: they count for whoever is told to be related under it later.
    unrelated: list[tuple[tuple[str, str], ObjectId, int]] = field(
        default_factory=list[tuple[tuple[str, str], ObjectId, int]]
    )

    # -- devices ------------------------------------------------------------------------------------------------------

    def put_device(self, fact: PutDevice, person: "Person", now_us: int) -> None:
        time_us = effective_us(fact.time_us, now_us)
        given: dict[str, Json] = msgspec.json.decode(fact.attributes)
        texts: dict[str, Json] = {
            name: msgspec.json.encode(value).decode() if isinstance(value, bool | int | float) else value
            for name, value in given.items()
        }
        texts |= {":platform": fact.platform, ":last_used": time_us}
        self.devices.append(DeviceWrite(person=person, token=fact.token, time_us=time_us, attributes=texts))

    def delete_device(self, fact: DeleteDevice, person: "Person", now_us: int) -> None:
        mine = self.device_writes(person, fact.token)
        if oracle.record_at(mine, NEVER_US) is not None:
            seen_us = max(time_us for time_us, attributes in mine if attributes is not None)
            gone_us = max(now_us, seen_us + 1)
            self.devices.append(DeviceWrite(person=person, token=fact.token, time_us=gone_us, attributes=None))

    def tokens(self, person: "Person") -> list[str]:
        return sorted({write.token for write in self.devices if write.person is person})

    def device_writes(self, person: "Person", token: str) -> list[tuple[int, Attributes]]:
        """A device ends where somebody else is told to have it."""
        mine = [(one.time_us, one.attributes) for one in self.devices if one.person is person and one.token == token]
        taken = [
            (one.time_us, None)
            for one in self.devices
            if one.person is not person and one.token == token and one.attributes is not None
        ]
        return [*mine, *taken] if mine else []

    def _settle_tokens(self, person: "Person") -> None:
        """What this person's devices ended elsewhere stays ended, and what ended theirs too."""
        for token in self.tokens(person):
            for other in {one.person for one in self.devices if one.token == token and one.person is not person}:
                for loser, winner in ((other, person), (person, other)):
                    self.devices += [
                        DeviceWrite(person=loser, token=token, time_us=one.time_us, attributes=None)
                        for one in self.devices
                        if one.person is winner and one.token == token and one.attributes is not None
                    ]

    # -- objects and relationships ------------------------------------------------------------------------------------

    def identify_object(self, fact: IdentifyObject, now_us: int) -> None:
        key = (fact.object.type_id, fact.object.object_id or "")
        self.objects.append((key, effective_us(fact.time_us, now_us), msgspec.json.decode(fact.attributes)))

    def delete_object(self, fact: DeleteObject, now_us: int) -> None:
        key = (fact.object.type_id, fact.object.object_id or "")
        told = self.object_writes(key)
        if oracle.record_at(told, NEVER_US) is not None:
            seen_us = max(time_us for time_us, attributes in told if attributes is not None)
            self.objects.append((key, max(now_us, seen_us + 1), None))
            self.unrelated = [one for one in self.unrelated if one[1] != key]

    def object_writes(self, key: ObjectId) -> list[tuple[int, Attributes]]:
        return [write[1:] for write in self.objects if write[0] == key]

    def claim(self, anonymous_id: str, person: "Person") -> list[int]:
        """What was told of an anonymous id was told of a person; returns the times."""
        mine = [one for one in self.relations if one.person == anonymous_id]
        for one in mine:
            one.person = person
        return [one.time_us for one in mine]

    def relate(self, fact: Relate, person: "Person | str", key: tuple[str, str], now_us: int) -> None:
        thing = (fact.object.type_id, fact.object.object_id or "")
        time_us = effective_us(fact.time_us, now_us)
        self.objects.append((thing, time_us, {}))
        ends = [ended_us for name, other, ended_us in self.unrelated if name == key and other == thing]
        for ended_us in ends:
            self.relations.append(RelationWrite(person=person, object=thing, time_us=ended_us, attributes=None))
        attributes = msgspec.json.decode(fact.attributes)
        self.relations.append(RelationWrite(person=person, object=thing, time_us=time_us, attributes=attributes))

    def unrelate(self, fact: Unrelate, person: "Person | str | None", key: tuple[str, str], now_us: int) -> int:
        """Returns when it ended."""
        thing = (fact.object.type_id, fact.object.object_id or "")
        time_us = effective_us(fact.time_us, now_us)
        if person is None:
            self.unrelated.append((key, thing, time_us))
            return time_us
        told = self._relation_writes(person, thing)
        if fact.time_us is None and oracle.record_at(told, NEVER_US) is not None:
            time_us = max(time_us, 1 + max(one_us for one_us, attributes in told if attributes is not None))
        self.relations.append(RelationWrite(person=person, object=thing, time_us=time_us, attributes=None))
        return time_us

    def _relation_writes(self, person: "Person | str", key: ObjectId) -> list[tuple[int, Attributes]]:
        mine = [(one.time_us, one.attributes) for one in self.relations if one.person == person and one.object == key]
        return mine + [write for write in self.object_writes(key) if write[1] is None]

    # -- people merge and go ------------------------------------------------------------------------------------------

    def merge(self, primary: "Person", secondary: "Person") -> None:
        self._settle_tokens(secondary)
        for one in (*self.devices, *self.relations):
            if one.person is secondary:
                one.person = primary

    def forget(self, person: "Person") -> None:
        self._settle_tokens(person)
        self.devices = [one for one in self.devices if one.person is not person]
        self.relations = [one for one in self.relations if one.person is not person]

    # -- answers ------------------------------------------------------------------------------------------------------

    def in_time(self, person: "Person") -> dict[str, list[object]]:
        """As fields of ``PersonHistory``."""
        devices = [(token, *write) for token in self.tokens(person) for write in self.device_writes(person, token)]
        mine = [one for one in self.relations if one.person is person]
        return {
            "devices": [*devices],
            "relations": [(*one.object, one.time_us, one.attributes) for one in mine],
            "objects": [(*key, *write) for key in {one.object for one in mine} for write in self.object_writes(key)],
        }

    def at_last(self, person: "Person", since_us: int) -> dict[str, list[object]]:
        """The same as if all had always been as it is: a value dated ahead counts at once."""
        devices: list[object] = []
        for token in self.tokens(person):
            held = oracle.record_at(self.device_writes(person, token), NEVER_US)
            if held is not None:
                devices.append((token, since_us, held))
        relations: list[object] = []
        objects: list[object] = []
        for key in sorted({one.object for one in self.relations if one.person is person}):
            held = oracle.record_at(self._relation_writes(person, key), NEVER_US)
            if held is not None:
                relations.append((*key, since_us, held))
                objects.append((*key, since_us, oracle.record_at(self.object_writes(key), NEVER_US) or {}))
        return {"devices": devices, "relations": relations, "objects": objects}

    def ahead(self, person: "Person", now_us: int) -> bool:
        """Is anything dated ahead?"""
        told = self.in_time(person)
        return any(write[-2] > now_us for some in told.values() for write in some)  # pyright: ignore[reportIndexIssue, reportUnknownVariableType]


def effective_us(time_us: int | None, now_us: int) -> int:
    """When something became true: a time too far ahead is taken as now."""
    return now_us if time_us is None or time_us > now_us + MINUTE_US else time_us
