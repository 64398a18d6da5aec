"""Applying identify: judged by the person's state, each refusal leaving a trace."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, assert_never

import msgspec

from backstory.core.condition import Json
from backstory.core.error import LimitError
from backstory.core.fact import IDENTIFIER_KINDS, Identifier, IdentifierKind, Identify, Receipt, SkippedValue
from backstory.core.identity import Apply, Drop, Join, Refuse, decide, normal
from backstory.core.leaf_key import LeafKey
from backstory.core.limit import ATTRIBUTES_PER_PERSON
from backstory.core.person import Change, Document, Loss, Written, root_names, values, write
from backstory.core.time import MINUTE_US, SECOND_US
from backstory.core.trace import (
    ATTRIBUTE_CHANGE,
    FAILED_ATTRIBUTE_CHANGE,
    PROFILE_CREATE,
    SKIPPED_UPDATE,
)
from backstory.engine.apply.addressee import FORGOTTEN, SUPPRESSED, Addressees
from backstory.engine.apply.transition import Transitions
from backstory.engine.context import Audience, Context, encode_json, shown_values
from backstory.store.people import Profile
from backstory.store.tombstone import Gone

if TYPE_CHECKING:
    from backstory.engine.apply.claim import Claimed, Claims
    from backstory.engine.apply.merge import Merges

_decode = msgspec.json.Decoder(dict[str, object]).decode
FUTURE_US = MINUTE_US
OLDER = "older than the deletion of this person"
# Who has each identifier a call names, and the identifiers of those people.
Owners = tuple[dict[Identifier, int], dict[int, Mapping[IdentifierKind, str]]]


class Profiles:
    """Identify; people made by events come through ``create`` too."""

    def __init__(self, context: Context, transitions: Transitions, audience: Audience) -> None:
        self._context = context
        self._folder = context.folder
        self._segments = context.segments
        self._transitions = transitions
        self._audience = audience
        self._addressees = Addressees(context.folder)
        self._merges: Merges | None = None
        self._claims: Claims | None = None

    def use(self, merges: "Merges", claims: "Claims") -> None:
        """Identify merges halves of a person, and claims anonymous ids."""
        self._merges, self._claims = merges, claims

    def create(
        self, identifiers: tuple[Identifier, ...], document: Document, *, time_us: int, now_us: int, import_id: int = 0
    ) -> int:
        """A new person; segments are settled by the caller."""
        state = self._folder.state
        person = state.next_person
        state.next_person += 1
        self._folder.people.insert(
            person, identifiers, document, created_us=time_us, accept_us=now_us, import_id=import_id
        )
        self._segments.add_person(person)
        return person

    def identify(self, fact: Identify, now_us: int) -> Receipt:
        path = normal(fact.person)
        body = _body_identifiers(fact)
        if not body:
            # Most are about somebody known and name them once: there is nothing to decide.
            person = self._addressees.find(path, fact.time_us)
            if isinstance(person, int):
                if self._repeats(fact, person, now_us):
                    return Receipt("applied")
                return self._write(fact, Apply(person, ()), now_us)
        found = self.owners(path, body, fact.time_us)
        if isinstance(found, Receipt):
            return self._turned_away(found, path, now_us)
        decision = decide(path, body, *found, update_only=fact.update_only, rules=self._context.rules)
        match decision:
            case Join(primary=primary, secondary=secondary):
                assert self._merges is not None
                self._merges.join(primary, secondary, now_us)
                return self.identify(fact, now_us)
            case Drop(reason=reason):
                self._failed(None, path.kind, path.value, reason, now_us)
                return Receipt("dropped", reason=reason)
            case Refuse():
                self._failed(decision.person, decision.attribute, decision.value, decision.reason, now_us)
                dropped = fact.update_only and decision.person is None
                return Receipt("dropped" if dropped else "conflict", reason=decision.reason)
            case Apply():
                return self._write(fact, decision, now_us)
            case _:
                assert_never(decision)

    def _repeats(self, fact: Identify, person: int, now_us: int) -> bool:
        """Does it say once more what was said of a person last? Then it is written: only times are others."""
        time_us = now_us if fact.time_us is None else fact.time_us
        if time_us > now_us or fact.anonymous_id is not None:
            return False
        if not self._folder.people.repeat(person, fact.attributes, time_us):
            return False
        self._record(person, fact.attributes, time_us, now_us)
        # Nobody is moved by it, nor known for longer than since the time before.
        self._segments.newest.others.put(person, time_us)
        self._audience.on_person(person, now_us)
        return True

    def _turned_away(self, receipt: Receipt, path: Identifier, now_us: int) -> Receipt:
        """Somebody deleted or suppressed was named: a trace, which says no name where only a hash of it is kept."""
        if receipt.result == "suppressed" or receipt.reason == FORGOTTEN:
            data = {"identifier": {"reason": receipt.reason}}
            self._context.activity(None, FAILED_ATTRIBUTE_CHANGE, now_us, now_us, data)
        else:
            self._failed(None, path.kind, path.value, "The update is older than the deletion of this person.", now_us)
        return receipt

    def owners(self, path: Identifier, body: tuple[Identifier, ...], time_us: int | None) -> Owners | Receipt:
        """Who has the identifiers that a call names, and what else they have; a receipt when it is turned away."""
        owner: dict[Identifier, int] = {}
        for identifier in (path, *body):
            person = self._addressees.find(identifier, time_us)
            if isinstance(person, Gone):
                return Receipt("dropped", reason=FORGOTTEN if person.hidden else OLDER)
            if person is not None:
                owner[identifier] = person
            elif self._addressees.blocked(identifier):
                return Receipt("suppressed", reason=SUPPRESSED)
        if not body and path in owner:
            return owner, {owner[path]: {}}
        return owner, {person: self._folder.people.profile(person).owned() for person in set(owner.values())}

    def _write(self, fact: Identify, decision: Apply, now_us: int) -> Receipt:
        attributes: dict[str, Json] = _decode(fact.attributes)  # pyright: ignore[reportAssignmentType]
        text, unclaimed = fact.attributes, ""
        if fact.anonymous_id is not None:
            unclaimed = self._claim_refusal(fact.anonymous_id, decision.person)
            if not unclaimed:
                attributes["anonymous_id"] = fact.anonymous_id
                text = encode_json(attributes)
        future = fact.time_us is not None and fact.time_us > now_us + FUTURE_US
        effective_us = now_us if fact.time_us is None or future else fact.time_us
        is_new = decision.person is None
        document: Document = {} if decision.person is None else self._folder.people.document(decision.person)
        written = write(document, attributes, effective_us)
        if len(document) > ATTRIBUTES_PER_PERSON.value:
            return self._too_many(decision.person, attributes, now_us)
        assign = _as_sent(decision.assign, fact) if decision.assign else ()
        before = self._folder.people.profile(decision.person).owned() if decision.person is not None and assign else {}
        if decision.person is None:
            person = self.create(assign, document, time_us=min(effective_us, now_us), now_us=now_us)
        else:
            person = decision.person
            self._folder.people.assign(person, assign) if assign else None
            self._folder.people.set_written(person, document, written, text, effective_us) if written.touched else None
        self._record(person, text, effective_us, now_us)
        given = identifier_changes(assign, before) if assign else {}
        self._trace(person, written, given, is_new=is_new, effective_us=effective_us, now_us=now_us)
        if future:
            reason = "The time lies in the future; the time of receipt was taken."
            self._context.activity(person, SKIPPED_UPDATE, now_us, now_us, {"_timestamp": {"reason": reason}})
        claimed = self._claim(fact.anonymous_id, person, unclaimed, now_us)
        self._settle(
            person, document, written, assign, is_new=is_new, effective_us=effective_us, now_us=now_us, claimed=claimed
        )
        if claimed is not None and self._claims is not None:
            self._claims.start(claimed, now_us)
        receipt = _receipt(attributes, written, bool(assign) or is_new)
        if not unclaimed:
            return receipt
        reason = f"{unclaimed} Everything else in the call was applied."
        return Receipt("conflict", skipped=receipt.skipped, reason=reason)

    def _claim_refusal(self, anonymous_id: str, person: int | None) -> str:
        assert self._claims is not None
        return self._claims.refusal(anonymous_id, person)

    def _claim(self, anonymous_id: str | None, person: int, refusal: str, now_us: int) -> "Claimed | None":
        """Claim, or leave a trace; the person is to be settled."""
        if anonymous_id is None:
            return None
        assert self._claims is not None
        if not refusal:
            return self._claims.claim(person, anonymous_id, now_us)
        self._claims.refused(person, anonymous_id, refusal, now_us)
        return None

    def update(self, person: int, attributes: dict[str, Json], now_us: int) -> None:
        """A campaign's step writes attributes of a person who exists.

        A step acts after what made it act: it wins against values of its own moment, which is that of the fact.
        """
        document = self._folder.people.document(person)
        roots = {name.partition(".")[0] for name in attributes}
        latest_us = max((one.time_us for name, one in document.items() if name.partition(".")[0] in roots), default=0)
        moment_us = max(now_us, latest_us + 1)
        written = write(document, attributes, moment_us)
        if len(document) > ATTRIBUTES_PER_PERSON.value:
            self._too_many(person, attributes, now_us)
        elif written.touched:
            self._folder.people.set_document(person, document)
            self._record(person, encode_json(attributes), moment_us, now_us)
            self._trace(person, written, {}, is_new=False, effective_us=moment_us, now_us=now_us)
            self._settle(person, document, written, (), is_new=False, effective_us=moment_us, now_us=now_us)

    def _record(self, person: int, attributes: bytes, effective_us: int, now_us: int) -> None:
        """Every write is kept, losers too. One without attributes still tells since when the person is known."""
        self._folder.tail.add_write(self._folder.state.take_seq(), person, effective_us, now_us, attributes.decode())

    def _trace(
        self,
        person: int,
        written: Written,
        given: dict[str, object],
        *,
        is_new: bool,
        effective_us: int,
        now_us: int,
    ) -> None:
        if is_new:
            self._context.activity(person, PROFILE_CREATE, effective_us, now_us, {})
        if written.changed or given:
            changes = changes_json(written.changed) | given
            self._context.activity(person, ATTRIBUTE_CHANGE, effective_us, now_us, changes)
        if written.lost:
            self._context.activity(person, SKIPPED_UPDATE, effective_us, now_us, losses_json(written.lost))

    def _settle(
        self,
        person: int,
        document: Document,
        written: Written,
        assign: tuple[Identifier, ...],
        *,
        is_new: bool,
        effective_us: int,
        now_us: int,
        claimed: "Claimed | None" = None,
    ) -> None:
        # A value dated a little ahead counts at once, and so does the person.
        touched = self._segments.feed_known(person, min(effective_us, now_us), now_us)
        if is_new or written.changed or assign:
            touched |= self._feed(person, document, written, assign, is_new=is_new, now_us=now_us)
        touched |= set() if claimed is None else claimed.touched
        moved = self._segments.settle(person, None if is_new else touched, now_us, noted=claimed is None)
        if moved:
            # What is claimed is mostly older than the call; identifiers are those of today on all days.
            late = effective_us < now_us or claimed is not None
            may_stand = claimed is None and (is_new or not assign)
            alone = may_stand and self._segments.newest.events.is_before(person, effective_us)
            self._transitions.take(moved, now_us, late=late, alone_us=effective_us if alone else None)
        self._segments.newest.others.put(person, effective_us)
        self._audience.on_person(person, now_us)

    def _feed(
        self,
        person: int,
        document: Document,
        written: Written,
        assign: tuple[Identifier, ...],
        *,
        is_new: bool,
        now_us: int,
    ) -> set[LeafKey]:
        """Tell the leaves over attributes; only the values that they ask for are made."""
        if is_new:
            shown = shown_values(self._folder.people.profile(person), document)
            return self._segments.feed_attributes(person, None, lambda: shown, now_us)
        roots = self._segments.told.asked_roots(root_names(written.changed) | {one.kind for one in assign})
        if IDENTIFIER_KINDS.isdisjoint(roots):
            shown = values(document, roots)
        else:
            shown = shown_values(self._folder.people.profile(person), document)
        return self._segments.feed_attributes(person, roots, lambda: shown, now_us)

    def _too_many(self, person: int | None, attributes: dict[str, Json], now_us: int) -> Receipt:
        try:
            ATTRIBUTES_PER_PERSON.check(ATTRIBUTES_PER_PERSON.value + 1)
        except LimitError as error:
            name = next(iter(attributes))
            self._failed(person, name, attributes[name], error.message, now_us)
            return Receipt("conflict", reason=error.message)
        raise AssertionError("the limit did not refuse")

    def _failed(self, person: int | None, attribute: str, value: Json, reason: str, now_us: int) -> None:
        data = {attribute: {"reason": reason, "value": value}}
        self._context.activity(person, FAILED_ATTRIBUTE_CHANGE, now_us, now_us, data)

    def shown(self, person: int) -> tuple[Profile, dict[str, Json]]:
        """A person as templates and filters see them."""
        profile = self._folder.people.profile(person)
        return profile, shown_values(profile, self._folder.people.document(person))


def _body_identifiers(fact: Identify) -> tuple[Identifier, ...]:
    if fact.body_id is fact.body_email is fact.body_phone is fact.body_cio_id is None:
        return ()
    body: list[Identifier] = []
    if fact.body_id is not None:
        body.append(Identifier("id", fact.body_id))
    if fact.body_email is not None:
        body.append(normal(Identifier("email", fact.body_email)))
    if fact.body_phone is not None:
        body.append(Identifier("phone", fact.body_phone))
    if fact.body_cio_id is not None:
        body.append(Identifier("cio_id", fact.body_cio_id))
    return tuple(body)


def _as_sent(assign: tuple[Identifier, ...], fact: Identify) -> tuple[Identifier, ...]:
    """Emails are kept as they were written, though compared without case."""
    sent = {normal(fact.person): fact.person}
    if fact.body_email is not None:
        sent[normal(Identifier("email", fact.body_email))] = Identifier("email", fact.body_email.strip())
    return tuple(sent.get(identifier, identifier) for identifier in assign)


def identifier_changes(
    assign: tuple[Identifier, ...], before: Mapping[IdentifierKind, str]
) -> dict[str, object]:
    """Identifiers that were given or changed, as the activity log shows them."""
    return {one.kind: {"from": before.get(one.kind, ""), "to": one.value} for one in assign}


def changes_json(changes: tuple[Change, ...]) -> dict[str, object]:
    """``{name: {from, to}}`` as the activity log shows it; nothing is the empty string there."""
    return {
        change.name: {
            "from": "" if change.before is None else change.before,
            "to": "" if change.after is None else change.after,
        }
        for change in changes
    }


def losses_json(losses: tuple[Loss, ...]) -> dict[str, object]:
    return {
        loss.name: {"stored_at": loss.stored_at_us / SECOND_US, "sent_at": loss.sent_at_us / SECOND_US}
        for loss in losses
    }


def _receipt(attributes: dict[str, Json], written: Written, something_else: bool) -> Receipt:
    skipped = [
        SkippedValue(loss.name, loss.stored_at_us / SECOND_US, loss.sent_at_us / SECOND_US) for loss in written.lost
    ]
    nothing = bool(skipped) and not written.touched and not something_else
    return Receipt("skipped" if nothing else "applied", skipped=skipped)


