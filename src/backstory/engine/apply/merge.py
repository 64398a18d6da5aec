"""Merging people: one survives, with all that both had; the other becomes a tombstone that leads to the survivor.

Events move with their history (those in parts are written again, under the survivor), values are filled in where the
survivor has none, and nothing of it triggers event campaigns. The survivor may enter segments by it.
Source: design section 6, semantics section 1.6, ``docs/decisions/0016-merging-people.md``.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import msgspec

from backstory.core.condition import Json
from backstory.core.event import Event
from backstory.core.fact import Identifier, MergePeople, Receipt
from backstory.core.identity import normal
from backstory.core.inheritance import counting, inherited, root_of
from backstory.core.leaf_key import LeafKey
from backstory.core.limit import ATTRIBUTES_PER_PERSON
from backstory.core.person import Document, Register, values, write
from backstory.core.segment import Transition
from backstory.core.trace import ATTRIBUTE_CHANGE, FAILED_ATTRIBUTE_CHANGE, PROFILE_MERGE
from backstory.engine.apply.addressee import SUPPRESSED, Addressees
from backstory.engine.apply.event import LIVE, Events, event_data
from backstory.engine.apply.message import MessageActivity
from backstory.engine.apply.transition import Transitions
from backstory.engine.context import Audience, Context, encode_json, identifiers_of, shown_values
from backstory.engine.segment.membership_log import note_transitions
from backstory.store.people import Profile, cio_id_of

_decode = msgspec.json.Decoder().decode
# What else is somebody's (devices, relationships) moves: (other, survivor, now); answers which leaves were told.
Heir = Callable[[int, int, int], set[LeafKey]]
# A write: (time, accept time, attributes, import id).
Row = tuple[int, int, dict[str, Json], int]


class Merges:
    """``heirs`` move what else is somebody's, before the other person goes."""

    def __init__(
        self,
        context: Context,
        events: Events,
        transitions: Transitions,
        audience: Audience,
        messages: MessageActivity,
    ) -> None:
        self._context = context
        self._folder = context.folder
        self._segments = context.segments
        self._events = events
        self._transitions = transitions
        self._audience = audience
        self._messages = messages
        self._addressees = Addressees(context.folder)
        self.heirs: list[Heir] = []

    def merge(self, fact: MergePeople, now_us: int) -> Receipt:
        """Somebody says that two people are one."""
        named = (normal(fact.primary), normal(fact.secondary))
        survivor, other = (self._folder.people.find(identifier) for identifier in named)
        if survivor is not None and other is not None:
            if survivor == other:
                return Receipt("skipped", reason="both identifiers are the same person's already")
            self.join(survivor, other, now_us)
            return Receipt("applied")
        if any(self._addressees.blocked(identifier) for identifier in named):
            data = {"merge": {"reason": SUPPRESSED}}
            self._context.activity(None, FAILED_ATTRIBUTE_CHANGE, now_us, now_us, data)
            return Receipt("suppressed", reason=SUPPRESSED)
        missing = named[0] if survivor is None else named[1]
        reason = f"nobody has the {missing.kind} {missing.value!r}; nothing was merged"
        data = {missing.kind: {"reason": reason, "value": missing.value}}
        self._context.activity(survivor if other is None else other, FAILED_ATTRIBUTE_CHANGE, now_us, now_us, data)
        return Receipt("skipped", reason=reason)

    def join(self, survivor: int, other: int, now_us: int, *, quiet: bool = False) -> None:
        """Merge two people who exist. ``quiet``: an import tells campaigns at its end what it moved."""
        people = self._folder.people
        profile, gone = people.profile(survivor), people.profile(other)
        known_us = self._segments.known.get_us(other)
        theirs = people.document(other)
        manual = self._manual_segments(other)
        touched: set[LeafKey] = set()
        for heir in self.heirs:
            touched |= heir(other, survivor, now_us)
        self._audience.on_merge(survivor, other, now_us)
        self._move_traces(survivor, other)
        moved = self._moved_events(survivor, other)
        self._folder.definitions.give(other, survivor)
        self._go(gone, survivor, now_us)
        assign = tuple(named for named in gone.identifiers() if named.kind not in profile.owned())
        if assign:
            people.assign(survivor, assign)
        document = self._inherit_values(survivor, theirs, gone, assign, known_us, now_us)
        touched |= self._feed(survivor, document, moved, known_us, now_us)
        transitions = self._segments.settle(survivor, touched, now_us)
        transitions += self._place(survivor, manual, now_us)
        if quiet:
            note_transitions(self._context, transitions)
        else:
            self._transitions.take(transitions, now_us, late=True)
        self._audience.on_person(survivor, now_us)

    # -- the one who goes -----------------------------------------------------------------------------------------

    def _manual_segments(self, person: int) -> list[int]:
        kept = self._segments.segments.values()
        return [one.segment_id for one in kept if one.condition is None and person in one.members]

    def _go(self, gone: Profile, survivor: int, now_us: int) -> None:
        """The other is no more: out of every segment, and remembered as what leads to the survivor."""
        person = gone.person
        self._transitions.note(self._segments.forget(person, now_us))
        self._folder.definitions.forget_person(person)
        names = [*gone.owned().items(), ("cio_id", cio_id_of(person))]
        shown = (gone.id, gone.email, gone.phone)
        self._folder.tombstones.bury(person, names, shown, now_us, survivor=survivor)
        self._folder.people.remove(person)
        data = {"from": identifiers_of(gone)}
        self._context.activity(survivor, PROFILE_MERGE, now_us, now_us, data)

    def _move_traces(self, survivor: int, other: int) -> None:
        self._folder.tail.flush()
        db = self._folder.state.db
        db.execute("UPDATE activity SET person = ? WHERE person = ?", (survivor, other))
        db.execute("UPDATE claim SET person = ? WHERE person = ?", (survivor, other))

    def _place(self, survivor: int, theirs: list[int], now_us: int) -> list[Transition]:
        """The survivor is in the manual segments that either was in, whatever was said last."""
        definitions = self._folder.definitions
        for segment_id in sorted({*theirs, *self._manual_segments(survivor)}):
            if definitions.said_out(segment_id, survivor):
                definitions.place(self._folder.state.take_seq(), segment_id, survivor, True, now_us)
            definitions.set_member(segment_id, survivor, True)
        return [
            moved for segment_id in theirs for moved in self._segments.place(segment_id, survivor, True, now_us)
        ]

    # -- events ---------------------------------------------------------------------------------------------------

    def _moved_events(self, survivor: int, other: int) -> list[Event]:
        """Write the other's events again as the survivor's, equal ones once; returns those that count."""
        tail = self._folder.tail
        rows = tail.take_events(other) + self._folder.history.person_rows(other)
        self._context.after_commit.append(lambda: tail.forget_taken(other))
        self._folder.state.db.execute("DELETE FROM future WHERE person = ?", (other,))
        events = [self._as_theirs(row, survivor) for row in sorted(rows, key=lambda row: row[0])]
        by_key: defaultdict[int, list[Event]] = defaultdict(list)
        for event in events:
            if event.key is not None:
                by_key[event.key].append(event)
        repeats: set[int] = set()
        for key, some in by_key.items():
            counts = counting(some, self._events.known(key, survivor))
            repeats.update(event.seq for event, counts_still in zip(some, counts, strict=True) if not counts_still)
        counted: list[Event] = []
        for event in events:
            if event.seq in repeats and not event.duplicate:
                event = msgspec.structs.replace(event, duplicate=True)
            self._folder.tail.add_event(event)
            if not event.duplicate:
                counted.append(event)
        return counted

    def _as_theirs(self, row: tuple[Any, ...], survivor: int) -> Event:
        """A stored row as an event of the survivor, with a number of its own: leaves are told of it anew."""
        return Event(
            seq=self._folder.state.take_seq(),
            person=survivor,
            name=row[2],
            kind=row[3],
            time_us=row[4],
            accept_us=row[5],
            data=row[6].encode(),
            event_id=row[7],
            key=row[8],
            import_id=row[9],
            duplicate=bool(row[10]),
        )

    # -- values ---------------------------------------------------------------------------------------------------

    def _inherit_values(
        self,
        survivor: int,
        theirs: Document,
        gone: Profile,
        assign: tuple[Identifier, ...],
        known_us: int,
        now_us: int,
    ) -> Document:
        """Fill in what the survivor has not, as writes of theirs. Returns the document."""
        document = self._folder.people.document(survivor)
        before = values(document)
        moved, regained, left_out = inherited(document, theirs, registers_max=ATTRIBUTES_PER_PERSON.value)
        rows = self._writes_of(gone.person, moved)
        if known_us < self._segments.known.get_us(survivor):
            # A write without attributes tells since when somebody is known.
            rows.append((known_us, now_us, {}, LIVE))
        rows += [(one.time_us, now_us, {name: _json(one)}, LIVE) for name, one in regained.items()]
        for time_us, _, attributes, _ in rows:
            write(document, attributes, time_us)
        first = self._folder.state.take_seq(len(rows))
        self._folder.tail.add_imported(
            [
                # Nothing changed by the copy: what the log shows is the call itself.
                (first + at, survivor, time_us, accept_us, encode_json(attributes).decode(), "{}", False, import_id)
                for at, (time_us, accept_us, attributes, import_id) in enumerate(rows)
            ]
        )
        if rows:
            self._folder.people.set_document(survivor, document)
        self._trace(survivor, before, values(document), assign, now_us)
        if left_out:
            reason = ATTRIBUTES_PER_PERSON.message.format(value=ATTRIBUTES_PER_PERSON.value)
            shown = shown_values(gone, theirs)
            data: dict[str, Json] = {name: {"reason": reason, "value": shown.get(name)} for name in left_out}
            self._context.activity(survivor, FAILED_ATTRIBUTE_CHANGE, now_us, now_us, data)
        return document

    def _writes_of(self, person: int, roots: set[str]) -> list[Row]:
        """Somebody's writes of some attributes, as (time, accept time, attributes, import id)."""
        rows: list[Row] = []
        if roots:
            for time_us, accept_us, text, import_id in [
                *self._folder.tail.write_rows(person), *self._folder.history.write_rows(person)
            ]:
                attributes: dict[str, Json] = _decode(text)
                some = {name: value for name, value in attributes.items() if root_of(name) in roots}
                if some:
                    rows.append((time_us, accept_us, some, import_id))
        return rows

    def _trace(
        self,
        survivor: int,
        before: dict[str, Json],
        after: dict[str, Json],
        assign: tuple[Identifier, ...],
        now_us: int,
    ) -> None:
        changes: dict[str, Json] = {
            name: {"from": before.get(name, ""), "to": value}
            for name, value in after.items()
            if before.get(name) != value
        }
        changes.update({named.kind: {"from": "", "to": named.value} for named in assign})
        if changes:
            self._context.activity(survivor, ATTRIBUTE_CHANGE, now_us, now_us, changes)

    def _feed(
        self, survivor: int, document: Document, events: list[Event], known_us: int, now_us: int
    ) -> set[LeafKey]:
        """Leaves hear of what is the survivor's now; returns which."""
        touched: set[LeafKey] = self._segments.feed_known(survivor, known_us, now_us)
        for event in events:
            if event.time_us > now_us:
                self._events.wait_silently(event)
            else:
                data = event_data(event)
                touched |= self._segments.feed_event(
                    survivor, event.kind, event.name, event.time_us, data, now_us
                )
        profile = self._folder.people.profile(survivor)
        shown = shown_values(profile, document)
        touched |= self._segments.feed_attributes(survivor, None, lambda: shown, now_us)
        touched.update(self._messages.told(survivor, now_us))
        return touched


def _json(one: Register) -> Json:
    return None if one.value is None else _decode(one.value)
