"""Applying objects: their attributes, their deletion with all relationships, and who is touched by either."""

import msgspec

from backstory.core.condition import Json
from backstory.core.fact import DeleteObject, IdentifyObject, ObjectKey, Receipt, SkippedValue
from backstory.core.object import problem_of, problem_of_document
from backstory.core.person import Written
from backstory.core.record import Record, put, remove
from backstory.core.time import SECOND_US
from backstory.core.trace import DELETE_RELATIONSHIP, SKIPPED_UPDATE, object_type
from backstory.engine.apply.record import Found, Subjects, written_json
from backstory.engine.apply.record_feed import RecordFeed
from backstory.engine.context import Context, encode_json
from backstory.store.object import ObjectRow, cio_object_id_of

decode_attributes = msgspec.json.Decoder(dict[str, object]).decode
NO_OBJECT = "no object has this cio_object_id"
NOTHING_TO_UPDATE = "no object has this object_id, and the call asked not to make one"
STALE = "older than the deletion of this object"


class ObjectFacts:
    """Objects on the loop's thread; relationships find and make theirs here."""

    def __init__(self, context: Context, subjects: Subjects, feed: RecordFeed) -> None:
        self._context = context
        self._folder = context.folder
        self._objects = context.folder.objects
        self._subjects = subjects
        self._feed = feed

    def identify(self, fact: IdentifyObject, now_us: int) -> Receipt:
        attributes: dict[str, Json] = decode_attributes(fact.attributes)  # pyright: ignore[reportAssignmentType]
        row = self._objects.find(fact.object)
        refusal = self.refusal(fact.object, row, update_only=fact.update_only)
        if refusal:
            return self._failed(fact.object, attributes, refusal, now_us)
        effective_us = self._subjects.effective_us(fact.time_us, now_us)
        record = Record() if row is None else row.record
        was_there = record.there
        written = put(record, attributes, effective_us)
        problem = problem_of(attributes, of_object=True) or problem_of_document(record.document)
        if problem:
            return self._failed(fact.object, attributes, problem, now_us, "conflict")
        row = self.keep(fact.object, row, record, effective_us)
        self._record(row.number, effective_us, now_us, encode_json(attributes).decode())
        if written is None:
            return self._failed(fact.object, attributes, STALE, now_us)
        self._trace(row, written, effective_us, now_us, created=not was_there, asked_us=fact.time_us)
        if written.changed or not was_there:
            self._touch(row, effective_us, now_us)
        return receipt_of(written)

    def refusal(self, key: ObjectKey, row: ObjectRow | None, *, update_only: bool) -> str:
        """Why an object cannot be written to: one of ours that is not there, or one that is not to be made."""
        if row is None and key.cio_object_id is not None:
            return NO_OBJECT
        return NOTHING_TO_UPDATE if update_only and (row is None or not row.record.there) else ""

    def keep(self, key: ObjectKey, row: ObjectRow | None, record: Record, effective_us: int) -> ObjectRow:
        """Store an object, new or known, under a key that can be written to."""
        if record.there:
            self._objects.use_type(key.type_id if row is None else row.type_id, effective_us)
        if row is None:
            assert key.object_id is not None
            return self._objects.insert(key.type_id, key.object_id, record, effective_us)
        self._objects.set_record(row.number, record)
        return row

    def make(self, key: ObjectKey, row: ObjectRow | None, effective_us: int, now_us: int) -> ObjectRow:
        """A relationship names an object: it is there from then on, unless it was deleted since."""
        record = Record() if row is None else row.record
        was_there = record.there
        if was_there:
            assert row is not None
            self._confirm(row, effective_us, now_us)
            return row
        put(record, {}, effective_us)
        row = self.keep(key, row, record, effective_us)
        if record.there:
            self._record(row.number, effective_us, now_us, "{}")
            data = identifiers_of_object(row)
            self._context.activity(None, object_type(row.type_id, "create"), effective_us, now_us, data)
        return row

    def _confirm(self, row: ObjectRow, effective_us: int, now_us: int) -> None:
        """An object that only imports have told of is there by this relationship too: they may be taken back."""
        importing, gone_us = self._context.importing, row.record.gone_us
        if effective_us >= gone_us and not self._folder.record_writes.made_by(row.number, (0, importing), gone_us):
            self._record(row.number, effective_us, now_us, "{}")

    def delete(self, fact: DeleteObject, now_us: int) -> Receipt:
        row = self._objects.find(fact.object)
        if row is None or not row.record.there:
            # It does not come back with an import that was taken back.
            if row is not None and self._folder.record_writes.forget_retracted(row.number):
                return Receipt("applied")
            return Receipt("skipped", reason="there is no such object")
        people = self._folder.relations.people_of(row.number)
        # What was said of this very moment came before.
        gone_us = max(now_us, row.record.seen_us + 1)
        remove(row.record, gone_us)
        self._objects.set_record(row.number, row.record)
        self._folder.relations.forget_object(row.number)
        self._record(row.number, gone_us, now_us, None)
        data = identifiers_of_object(row)
        self._context.activity(None, object_type(row.type_id, "delete"), now_us, now_us, data)
        for person in people:
            self._context.activity(person, DELETE_RELATIONSHIP, now_us, now_us, data)
        self._settle(row, people, now_us, now_us)
        return Receipt("applied")

    def _touch(self, row: ObjectRow, effective_us: int, now_us: int) -> None:
        """An object is another: whoever is related to it may be in other segments; nobody looks where none asks."""
        if self._feed.asks_for(row.type_id):
            self._settle(row, self._folder.relations.people_of(row.number), effective_us, now_us)

    def _settle(self, row: ObjectRow, people: list[int], effective_us: int, now_us: int) -> None:
        for person in people:
            touched = self._feed.relations(person, row.type_id, now_us)
            self._subjects.settle(Found(person), touched, effective_us, now_us, own=False)

    def _record(self, number: int, time_us: int, now_us: int, attributes: str | None) -> None:
        self._folder.record_writes.add(
            self._folder.state.take_seq(),
            "object",
            time_us=time_us,
            accept_us=now_us,
            attributes=attributes,
            object=number,
            import_id=self._context.importing,
        )

    def _trace(
        self,
        row: ObjectRow,
        written: Written,
        effective_us: int,
        now_us: int,
        *,
        created: bool,
        asked_us: int | None,
    ) -> None:
        data = {**identifiers_of_object(row), **written_json(written)}
        if created:
            self._context.activity(None, object_type(row.type_id, "create"), effective_us, now_us, data)
        elif written.changed:
            self._context.activity(None, object_type(row.type_id, "attribute_change"), effective_us, now_us, data)
        if written.lost:
            self._context.activity(None, SKIPPED_UPDATE, effective_us, now_us, data)
        self._subjects.warn_of_future(None, asked_us, now_us)

    def _failed(
        self, key: ObjectKey, attributes: dict[str, Json], reason: str, now_us: int, result: str = "dropped"
    ) -> Receipt:
        data = {**identifiers_of_key(key), "reason": reason, "attributes": attributes}
        self._context.activity(None, object_type(key.type_id, "failed_attribute_change"), now_us, now_us, data)
        return Receipt("conflict" if result == "conflict" else "dropped", reason=reason)


def identifiers_of_object(row: ObjectRow) -> dict[str, object]:
    return {
        "object_type_id": str(row.type_id),
        "object_id": row.object_id,
        "cio_object_id": cio_object_id_of(row.number),
    }


def identifiers_of_key(key: ObjectKey) -> dict[str, object]:
    """An object as a fact named it."""
    named = ("object_id", key.object_id) if key.object_id is not None else ("cio_object_id", key.cio_object_id)
    return {"object_type_id": str(key.type_id), named[0]: named[1]}


def receipt_of(written: Written) -> Receipt:
    skipped = [
        SkippedValue(loss.name, loss.stored_at_us / SECOND_US, loss.sent_at_us / SECOND_US) for loss in written.lost
    ]
    return Receipt("skipped" if skipped and not written.touched else "applied", skipped=skipped)
