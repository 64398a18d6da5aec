"""Applying devices: upsert by token, deletion, and a token that turns up at somebody else.

A token belongs to whoever was said to have it last, by the time of the fact (decision record on device tokens).
"""

from collections.abc import Iterable

import msgspec

from backstory.core.condition import Json
from backstory.core.device import registers, shown_device
from backstory.core.fact import DeleteDevice, PutDevice, Receipt, SkippedValue
from backstory.core.leaf_key import LeafKey
from backstory.core.limit import DEVICE_ATTRIBUTES, DEVICES_PER_PERSON
from backstory.core.person import Written
from backstory.core.record import Record, put, remove
from backstory.core.time import SECOND_US
from backstory.core.trace import DEVICE_CHANGE, FAILED_DEVICE_CHANGE
from backstory.engine.apply.addressee import NAMELESS, SUPPRESSED
from backstory.engine.apply.record import Found, Subjects, past
from backstory.engine.apply.record_feed import RecordFeed
from backstory.engine.context import Context, encode_json

_decode = msgspec.json.Decoder(dict[str, object]).decode
STALE = "older than the removal of this device"


class DeviceFacts:
    """Devices of people, on the loop's thread."""

    def __init__(self, context: Context, subjects: Subjects, feed: RecordFeed) -> None:
        self._context = context
        self._folder = context.folder
        self._devices = context.folder.devices
        self._subjects = subjects
        self._feed = feed

    def put(self, fact: PutDevice, now_us: int) -> Receipt:
        found = self._subjects.find_or_make(fact.person, fact.time_us, now_us)
        if found.person is None:
            return self._refused(None, fact, found.reason, now_us)
        effective_us = self._subjects.effective_us(fact.time_us, now_us)
        record = self._devices.get(found.person, fact.token)
        before = _shown(fact.token, record)
        taken_us = self._take_from_others(fact.token, found.person, effective_us, now_us)
        if taken_us is not None and taken_us > record.gone_us:
            remove(record, taken_us)
            self._devices.put(found.person, fact.token, record)
            self._record(found.person, fact.token, taken_us, now_us, None)
        given: dict[str, Json] = _decode(fact.attributes)  # pyright: ignore[reportAssignmentType]
        last_used_us = effective_us if fact.last_used_us is None else fact.last_used_us
        attributes = registers(given, fact.platform, last_used_us)
        written = put(record, attributes, effective_us)
        refusal = past(DEVICE_ATTRIBUTES, len(record.document) - 2)
        if not before and written is not None and not refusal:
            refusal = past(DEVICES_PER_PERSON, self._devices.count(found.person) + 1)
        if refusal:
            self._settle(found, effective_us, now_us)
            return self._refused(found.person, fact, refusal, now_us, "conflict")
        self._devices.put(found.person, fact.token, record)
        self._record(found.person, fact.token, effective_us, now_us, attributes)
        self._subjects.warn_of_future(found.person, fact.time_us, now_us)
        self._changed(found.person, fact.token, before, record, effective_us, now_us)
        self._settle(found, effective_us, now_us)
        if written is None:
            return self._refused(found.person, fact, STALE, now_us)
        return _receipt(written)

    def _take_from_others(self, token: str, person: int, effective_us: int, now_us: int) -> int | None:
        """The token is somebody's alone: others lose it from this moment on.

        Returns when somebody else was last said to have it, as that ends what came before here too.
        """
        taken_us: int | None = None
        for other, record in self._devices.others(token, person):
            before = _shown(token, record)
            if record.seen_us > effective_us:
                taken_us = max(taken_us or record.seen_us, record.seen_us)
            if effective_us > record.gone_us:
                remove(record, effective_us)
                self._devices.put(other, token, record)
                self._record(other, token, effective_us, now_us, None)
                self._changed(other, token, before, record, effective_us, now_us)
                self._settle(Found(other), effective_us, now_us, own=False)
        return taken_us

    def delete(self, fact: DeleteDevice, now_us: int) -> Receipt:
        found = self._subjects.find(fact.person, None)
        if found.person is None:
            return Receipt("suppressed" if found.reason == SUPPRESSED else "skipped", reason=found.reason)
        record = self._devices.get(found.person, fact.token)
        if not record.there:
            return Receipt("skipped", reason="this person has no such device")
        before = _shown(fact.token, record)
        # A put of this very moment came before.
        gone_us = max(now_us, record.seen_us + 1)
        remove(record, gone_us)
        self._devices.put(found.person, fact.token, record)
        self._record(found.person, fact.token, gone_us, now_us, None)
        self._changed(found.person, fact.token, before, record, gone_us, now_us)
        self._settle(found, now_us, now_us)
        return Receipt("applied")

    def set_status(self, person: int, token: str, status: str, time_us: int, now_us: int) -> None:
        """What sending to a device came to."""
        record = self._devices.get(person, token)
        if not record.there or time_us < record.gone_us:
            return
        before = _shown(token, record)
        attributes: dict[str, Json] = {"_last_status": status}
        put(record, attributes, time_us)
        self._devices.put(person, token, record)
        self._record(person, token, time_us, now_us, attributes)
        self._changed(person, token, before, record, time_us, now_us)
        self._settle(Found(person), time_us, now_us)

    def merge(self, secondary: int, primary: int, now_us: int) -> set[LeafKey]:
        """One person's devices become another's; the caller settles the leaves returned."""
        moved = self._devices.move(secondary, primary)
        self._folder.record_writes.move("device", secondary, primary, self._folder.state.take_seq)
        for token in moved:
            self._context.activity(primary, DEVICE_CHANGE, now_us, now_us, {"device_id": token, "changes": {}})
        return self._feed.devices(primary, now_us)

    def _settle(self, found: Found, effective_us: int, now_us: int, *, own: bool = True) -> None:
        assert found.person is not None
        touched = self._feed.devices(found.person, now_us)
        self._subjects.settle(found, touched, effective_us, now_us, own=own)

    def _record(self, person: int, token: str, time_us: int, now_us: int, attributes: dict[str, Json] | None) -> None:
        self._folder.record_writes.add(
            self._folder.state.take_seq(),
            "device",
            time_us=time_us,
            accept_us=now_us,
            attributes=None if attributes is None else encode_json(attributes).decode(),
            person=person,
            token=token,
        )

    def _changed(
        self, person: int, token: str, before: dict[str, Json], record: Record, time_us: int, now_us: int
    ) -> None:
        """One entry in the log for what is different now."""
        after = _shown(token, record)
        if before == after:
            return
        changes = {
            name: {"from": _of(before, name), "to": _of(after, name)}
            for name in dict.fromkeys((*before, *after))
            if _of(before, name) != _of(after, name)
        }
        self._context.activity(person, DEVICE_CHANGE, time_us, now_us, {"device_id": token, "changes": changes})

    def _refused(
        self, person: int | None, fact: PutDevice, reason: str, now_us: int, result: str = "dropped"
    ) -> Receipt:
        if reason in NAMELESS:
            self._context.activity(None, FAILED_DEVICE_CHANGE, now_us, now_us, {"reason": reason})
            return Receipt("suppressed" if reason == SUPPRESSED else "dropped", reason=reason)
        data = {"device_id": fact.token, "reason": reason}
        if person is None:
            data[fact.person.kind] = fact.person.value
        self._context.activity(person, FAILED_DEVICE_CHANGE, fact.time_us or now_us, now_us, data)
        return Receipt("conflict" if result == "conflict" else "dropped", reason=reason)


def _shown(token: str, record: Record) -> dict[str, Json]:
    return shown_device(token, record) if record.there else {}


def _of(shown: dict[str, Json], name: str) -> Json:
    return shown.get(name, "")


def _receipt(written: Written) -> Receipt:
    skipped: Iterable[SkippedValue] = [
        SkippedValue(loss.name.removeprefix(":"), loss.stored_at_us / SECOND_US, loss.sent_at_us / SECOND_US)
        for loss in written.lost
    ]
    return Receipt("applied" if written.touched or not written.lost else "skipped", skipped=list(skipped))
