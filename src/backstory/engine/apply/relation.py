"""Applying relationships of people, known or not yet known, with objects."""

from collections.abc import Callable

from backstory.core.condition import Json
from backstory.core.fact import Identifier, Receipt, Relate, Unrelate
from backstory.core.identity import normal
from backstory.core.leaf_key import LeafKey
from backstory.core.limit import RELATIONSHIPS_PER_PERSON
from backstory.core.object import problem_of, problem_of_document
from backstory.core.person import Written
from backstory.core.record import NEVER_US, Record, put, remove
from backstory.core.trace import (
    ADD_RELATIONSHIP,
    DELETE_RELATIONSHIP,
    RELATIONSHIP_ATTRIBUTE_CHANGE,
    RELATIONSHIP_FAILED_ATTRIBUTE_CHANGE,
    object_type,
    relationship_type,
)
from backstory.engine.apply.addressee import FORGOTTEN, NAMELESS, SUPPRESSED
from backstory.engine.apply.object import (
    NO_OBJECT,
    ObjectFacts,
    decode_attributes,
    identifiers_of_key,
    identifiers_of_object,
    receipt_of,
)
from backstory.engine.apply.record import TOO_OLD, UNKNOWN, Found, Subjects, past, written_json
from backstory.engine.apply.record_feed import RecordFeed
from backstory.engine.context import Context, encode_json
from backstory.store.object import ObjectRow
from backstory.store.people import cio_id_of
from backstory.store.tombstone import Gone

STALE = "older than the end of this relationship, or than the deletion of the object"
NOBODY_TO_UPDATE = "nobody has this identifier, and the call asked to make nothing"


class RelationFacts:
    """Relationships on the loop's thread.

    ``claimant`` tells who has claimed an anonymous id: what comes under it later is theirs.
    """

    def __init__(self, context: Context, subjects: Subjects, objects: ObjectFacts, feed: RecordFeed) -> None:
        self._context = context
        self._folder = context.folder
        self._relations = context.folder.relations
        self._subjects = subjects
        self._objects = objects
        self._feed = feed
        self.claimant: Callable[[str], int | None] = lambda anonymous_id: None

    # -- a relationship begins ------------------------------------------------------------------------------------

    def relate(self, fact: Relate, now_us: int) -> Receipt:
        attributes: dict[str, Json] = decode_attributes(fact.attributes)  # pyright: ignore[reportAssignmentType]
        row = self._folder.objects.find(fact.object)
        refusal = self._objects.refusal(fact.object, row, update_only=fact.update_only)
        problem = problem_of(attributes, of_object=False)
        if refusal or problem:
            return self._failed(None, fact, attributes, refusal or problem, now_us, "conflict" if problem else "")
        found = self._person(fact, now_us)
        if found is not None and found.person is None:
            return self._failed(None, fact, attributes, found.reason, now_us)
        effective_us = self._subjects.effective_us(fact.time_us, now_us)
        row = self._objects.make(fact.object, row, effective_us, now_us)
        if found is None:
            return self._relate_anonymous(fact, row, attributes, effective_us, now_us)
        receipt = self._relate(found, fact, row, attributes, effective_us, now_us)
        if found.is_new and receipt.result == "conflict":
            self._subjects.settle(found, set(), effective_us, now_us)
        return receipt

    def _person(self, fact: Relate, now_us: int) -> Found | None:
        """Who is meant; None: somebody not yet known."""
        if fact.person is None:
            return self._claimant(fact)
        if fact.update_only:
            found = self._subjects.find(fact.person, fact.time_us)
            return Found(None, reason=NOBODY_TO_UPDATE) if found.reason == UNKNOWN else found
        return self._subjects.find_or_make(fact.person, fact.time_us, now_us)

    def _relate(
        self, found: Found, fact: Relate, row: ObjectRow, attributes: dict[str, Json], effective_us: int, now_us: int
    ) -> Receipt:
        person = found.person
        assert person is not None
        record = self._relations.get(person, row.number)
        self._end_with(person, record, row, fact.person, now_us)
        was_there = record.there
        written = put(record, attributes, effective_us)
        problem = problem_of_document(record.document)
        if not was_there and record.there:
            problem = problem or past(RELATIONSHIPS_PER_PERSON, self._relations.count(person) + 1)
        if problem:
            return self._failed(person, fact, attributes, problem, now_us, "conflict")
        self._relations.put(person, row.number, record)
        self._record(row, effective_us, now_us, attributes, person=person)
        if written is None:
            self._subjects.settle(found, set(), effective_us, now_us)
            return self._failed(person, fact, attributes, STALE, now_us)
        self._trace(person, row, written, effective_us, now_us, added=not was_there)
        self._subjects.warn_of_future(person, fact.time_us, now_us)
        changed = bool(written.changed) or not was_there
        touched = self._feed.relations(person, row.type_id, now_us) if changed else set[LeafKey]()
        self._subjects.settle(found, touched, effective_us, now_us)
        return receipt_of(written)

    def _end_with(
        self, person: int, record: Record, row: ObjectRow, identifier: Identifier | None, now_us: int
    ) -> None:
        """What ended with the object, or was ended under an identifier nobody had then, ended here too."""
        remove(record, row.record.gone_us)
        gone_us = NEVER_US if identifier is None else self._relations.unrelated_us(normal(identifier), row.number)
        if gone_us > record.gone_us:
            remove(record, gone_us)
            # Somebody has it now: it is part of their history, whoever told of the relationship.
            self._record(row, gone_us, now_us, None, person=person, import_id=0)

    def _relate_anonymous(
        self, fact: Relate, row: ObjectRow, attributes: dict[str, Json], effective_us: int, now_us: int
    ) -> Receipt:
        assert fact.anonymous_id is not None
        record = self._relations.anonymous(fact.anonymous_id, row.number)
        remove(record, row.record.gone_us)
        was_there = record.there
        written = put(record, attributes, effective_us)
        problem = problem_of_document(record.document)
        if problem:
            return self._failed(None, fact, attributes, problem, now_us, "conflict")
        self._relations.put_anonymous(fact.anonymous_id, row.number, record)
        self._record(row, effective_us, now_us, attributes, anonymous_id=fact.anonymous_id)
        if written is None:
            return self._failed(None, fact, attributes, STALE, now_us)
        if not was_there:
            data = {**identifiers_of_object(row), "anonymous_id": fact.anonymous_id, **written_json(written)}
            self._context.activity(None, object_type(row.type_id, ADD_RELATIONSHIP), effective_us, now_us, data)
        return receipt_of(written)

    # -- a relationship ends --------------------------------------------------------------------------------------

    def unrelate(self, fact: Unrelate, now_us: int) -> Receipt:
        row = self._folder.objects.find(fact.object)
        if row is None and fact.object.object_id is None:
            return Receipt("skipped", reason=NO_OBJECT)
        effective_us = self._subjects.effective_us(fact.time_us, now_us)
        found = self._holder(fact)
        if found is not None and found.person is None and (fact.person is None or found.reason != UNKNOWN):
            return Receipt("suppressed" if found.reason == SUPPRESSED else "dropped", reason=found.reason)
        # An object nobody has told of yet may be told of by an older fact that is still to come.
        row = row or self._objects.keep(fact.object, None, Record(), effective_us)
        if found is None:
            return self._unrelate_anonymous(fact, row, effective_us, now_us)
        if found.person is None:
            assert fact.person is not None
            self._relations.set_unrelated(normal(fact.person), row.number, effective_us)
            return Receipt("skipped", reason=found.reason)
        return self._unrelate(found, row, effective_us, now_us, placed=fact.time_us is None)

    def _holder(self, fact: Unrelate) -> Found | None:
        if fact.person is not None:
            return self._subjects.find(fact.person, fact.time_us)
        return self._claimant(fact)

    def _claimant(self, fact: Relate | Unrelate) -> Found | None:
        """Who has claimed the anonymous id; None: nobody yet, what is told of it waits."""
        assert fact.anonymous_id is not None
        fate = self._folder.tombstones.fate("anonymous_id", fact.anonymous_id, fact.time_us)
        if isinstance(fate, Gone):
            return Found(None, reason=FORGOTTEN if fate.hidden else TOO_OLD)
        claimant = self.claimant(fact.anonymous_id)
        if claimant is None and self._folder.tombstones.blocked("anonymous_id", fact.anonymous_id):
            return Found(None, reason=SUPPRESSED)
        return None if claimant is None else Found(claimant)

    def _unrelate(self, found: Found, row: ObjectRow, effective_us: int, now_us: int, *, placed: bool) -> Receipt:
        person = found.person
        assert person is not None
        record = self._relations.get(person, row.number)
        if placed and record.there:
            # What was said of this very moment came before.
            effective_us = max(effective_us, record.seen_us + 1)
        before = dict(record.document)
        ended = remove(record, effective_us)
        self._relations.put(person, row.number, record)
        self._record(row, effective_us, now_us, None, person=person)
        if ended:
            data = identifiers_of_object(row)
            self._context.activity(person, DELETE_RELATIONSHIP, effective_us, now_us, data)
            both = {**data, "customer": cio_id_of(person)}
            self._context.activity(None, object_type(row.type_id, DELETE_RELATIONSHIP), effective_us, now_us, both)
        changed = ended or before != record.document
        touched = self._feed.relations(person, row.type_id, now_us) if changed else set[LeafKey]()
        self._subjects.settle(found, touched, effective_us, now_us)
        if ended:
            return Receipt("applied")
        later = "it was told to be there at a later time" if record.there else "there is no such relationship"
        return Receipt("skipped", reason=later)

    def _unrelate_anonymous(self, fact: Unrelate, row: ObjectRow, effective_us: int, now_us: int) -> Receipt:
        assert fact.anonymous_id is not None
        record = self._relations.anonymous(fact.anonymous_id, row.number)
        if fact.time_us is None and record.there:
            effective_us = max(effective_us, record.seen_us + 1)
        ended = remove(record, effective_us)
        self._relations.put_anonymous(fact.anonymous_id, row.number, record)
        self._record(row, effective_us, now_us, None, anonymous_id=fact.anonymous_id)
        if not ended:
            return Receipt("skipped", reason="there is no such relationship")
        data = {**identifiers_of_object(row), "anonymous_id": fact.anonymous_id}
        self._context.activity(None, object_type(row.type_id, DELETE_RELATIONSHIP), effective_us, now_us, data)
        return Receipt("applied")

    # -- identities change ----------------------------------------------------------------------------------------

    def merge(self, secondary: int, primary: int, now_us: int) -> set[LeafKey]:
        """One person's relationships become another's; the caller settles the leaves returned."""
        self._relations.move(secondary, primary)
        self._folder.record_writes.move("relationship", secondary, primary, self._folder.state.take_seq)
        return self._feed.relations(primary, None, now_us)

    def claim(self, anonymous_id: str, person: int, now_us: int) -> set[LeafKey]:
        """Relationships of an anonymous id become a person's; the caller settles the leaves returned."""
        for number in self._relations.claim(anonymous_id, person):
            row = self._folder.objects.get(number)
            data = identifiers_of_object(row)
            self._context.activity(person, ADD_RELATIONSHIP, now_us, now_us, data)
        earliest_us = self._folder.record_writes.claim(anonymous_id, person, self._folder.state.take_seq)
        touched = self._feed.relations(person, None, now_us)
        if earliest_us is None:
            return touched
        return touched | self._context.segments.feed_known(person, min(earliest_us, now_us), now_us)

    # -- history and traces ---------------------------------------------------------------------------------------

    def _record(
        self,
        row: ObjectRow,
        time_us: int,
        now_us: int,
        attributes: dict[str, Json] | None,
        *,
        person: int | None = None,
        anonymous_id: str | None = None,
        import_id: int | None = None,
    ) -> None:
        self._folder.record_writes.add(
            self._folder.state.take_seq(),
            "relationship",
            time_us=time_us,
            accept_us=now_us,
            attributes=None if attributes is None else encode_json(attributes).decode(),
            person=person,
            object=row.number,
            anonymous_id=anonymous_id,
            import_id=self._context.importing if import_id is None else import_id,
        )

    def _trace(
        self, person: int, row: ObjectRow, written: Written, effective_us: int, now_us: int, *, added: bool
    ) -> None:
        """An entry in the log of the person, and one in that of the object."""
        data = {**identifiers_of_object(row), **written_json(written)}
        both = {**data, "customer": cio_id_of(person)}
        if added:
            self._context.activity(person, ADD_RELATIONSHIP, effective_us, now_us, data)
            self._context.activity(None, object_type(row.type_id, ADD_RELATIONSHIP), effective_us, now_us, both)
        elif written.changed or written.lost:
            self._context.activity(person, RELATIONSHIP_ATTRIBUTE_CHANGE, effective_us, now_us, data)
            kind = relationship_type(row.type_id, "attribute_change")
            self._context.activity(None, kind, effective_us, now_us, both)

    def _failed(
        self,
        person: int | None,
        fact: Relate,
        attributes: dict[str, Json],
        reason: str,
        now_us: int,
        result: str = "dropped",
    ) -> Receipt:
        if reason in NAMELESS:
            kind = relationship_type(fact.object.type_id, "failed_attribute_change")
            self._context.activity(None, kind, now_us, now_us, {"reason": reason})
            return Receipt("suppressed" if reason == SUPPRESSED else "dropped", reason=reason)
        data = {**identifiers_of_key(fact.object), "reason": reason, "attributes": attributes}
        if person is not None:
            self._context.activity(person, RELATIONSHIP_FAILED_ATTRIBUTE_CHANGE, now_us, now_us, data)
        else:
            named = _named(fact.person, fact.anonymous_id)
            kind = relationship_type(fact.object.type_id, "failed_attribute_change")
            self._context.activity(None, kind, now_us, now_us, {**data, **named})
        return Receipt("conflict" if result == "conflict" else "dropped", reason=reason)


def _named(person: Identifier | None, anonymous_id: str | None) -> dict[str, object]:
    """Who was meant, as the fact said it."""
    return {person.kind: person.value} if person is not None else {"anonymous_id": anonymous_id}
