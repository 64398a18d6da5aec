"""The naive workspace: a list of accepted facts, kept the obvious way, for the engine to be compared with.

It knows the rules of identity, deletion, merging, claiming and repetition (design sections 6 and 7) and leaves every
question about conditions and values to the oracle. Nothing of the engine is used but the shapes of facts.
"""

from dataclasses import dataclass, field

import msgspec

from backstory.core import oracle
from backstory.core.condition import Condition, InSegment, Json, segments_in
from backstory.core.fact import (
    DeletePerson,
    Identifier,
    IdentifierKind,
    Identify,
    MergePeople,
    SuppressPerson,
    Track,
    TrackAnonymous,
    UnsuppressPerson,
)
from backstory.core.oracle import PersonHistory
from backstory.core.time import MINUTE_US
from backstory.store.people import cio_id_of

NEVER_US = 1 << 62
Key = tuple[str, str]
Event = tuple[str, str, int, dict[str, Json]]


@dataclass(kw_only=True, eq=False)
class Person:
    """One person; ``event_ids`` are those of the events, None where there is none. ``merged`` leads to the survivor."""

    number: int
    since_us: int
    identifiers: dict[IdentifierKind, str] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    writes: list[tuple[int, dict[str, Json]]] = field(default_factory=list)
    event_ids: list[str | None] = field(default_factory=list)
    placements: list[tuple[int, int, bool]] = field(default_factory=list)
    merged: "Person | None" = None

    def history(self) -> PersonHistory:
        """The person as the oracle sees them."""
        return PersonHistory(
            person=self.number,
            identifiers={**self.identifiers, "cio_id": cio_id_of(self.number)},
            events=self.events,
            writes=self.writes,
            exists_since_us=self.since_us,
            placements=self.placements,
        )

    def values(self) -> dict[str, Json]:
        """The attributes as they are: a value dated up to a minute ahead counts at once."""
        return oracle.values_at(self.history(), NEVER_US)

    def present(self) -> PersonHistory:
        """The person from now on: as if they had always had the attributes they have."""
        return msgspec.structs.replace(self.history(), writes=[(self.since_us, self.values())])


class Naive:
    """People, tombstones, claims and segments after some facts."""

    def __init__(self) -> None:
        self.people: list[Person] = []
        # Until when a name meant somebody who is gone now.
        self.tombstones: list[tuple[Key, int, Person | None]] = []
        # Suppressed names; those with one number are freed together.
        self.blocked: dict[Key, int] = {}
        self.claims: dict[str, Person] = {}
        self.unclaimed: list[tuple[TrackAnonymous, int]] = []
        self.segments: dict[int, Condition | frozenset[int]] = {}
        self._next_person = 0
        self._next_segment = 1

    # -- people -------------------------------------------------------------------------------------------------------

    def find(self, key: Key) -> Person | None:
        """Who has this identifier now."""
        return next((person for person in self.people if key in _keys(person)), None)

    def meant(self, key: Key, time_us: int | None) -> Person | None:
        """Who was meant by a name at a moment; raises ``LookupError`` when they are gone for good."""
        gone = [(at_us, fate) for name, at_us, fate in self.tombstones if name == key and time_us is not None
                and at_us > time_us]
        if not gone:
            return self.find(key)
        person = min(gone, key=lambda one: one[0])[1]
        while person is not None and person not in self.people:
            person = person.merged
        if person is None:
            raise LookupError
        return person

    def _new(self, identifiers: dict[IdentifierKind, str]) -> Person:
        person = Person(number=self._next_person, since_us=NEVER_US, identifiers=identifiers)
        self.people.append(person)
        self._next_person += 1
        return person

    def identify(self, fact: Identify, now_us: int, *, auto_merge: bool = True) -> None:
        """The decision table of identify, then one timed write, then the claim."""
        path, body = _key(fact.person), [_key(identifier) for identifier in _named_inside(fact)]
        try:
            owner = {key: self.meant(key, fact.time_us) for key in (path, *body)}
        except LookupError:
            return
        if any(key in self.blocked and owner[key] is None for key in owner):
            return
        halves = _halves(owner, [path, *body]) if auto_merge else None
        if halves is not None:
            self._merge(*halves, now_us)
            return self.identify(fact, now_us)
        person = self._whom(path, body, owner, update_only=fact.update_only)
        if person is None:
            return None
        attributes = msgspec.json.decode(fact.attributes)
        claims = fact.anonymous_id is not None and (
            self.claims.get(fact.anonymous_id, person) is person
            and (fact.anonymous_id in self.claims or ("anonymous_id", fact.anonymous_id) not in self.blocked)
        )
        if claims:
            attributes["anonymous_id"] = fact.anonymous_id
        given = [named for named in _given(fact) if owner[_key(named)] is None]
        if person not in self.people:
            person = self._new({})
        person.identifiers.update({named.kind: named.value for named in given})
        time_us = now_us if fact.time_us is None or fact.time_us > now_us + MINUTE_US else fact.time_us
        person.writes.append((time_us, attributes))
        person.since_us = min(person.since_us, time_us, now_us)
        if claims:
            assert fact.anonymous_id is not None
            self._claim(person, fact.anonymous_id, now_us)
        return None

    def _whom(self, path: Key, body: list[Key], owner: dict[Key, Person | None], *, update_only: bool) -> Person | None:
        """Whom an identify is about; None when it is refused."""
        person = owner[path]
        others = [found for key in body if (found := owner[key]) is not None and found is not person]
        if path[0] == "cio_id":
            return None if others else person
        if person is None:
            if len({other.number for other in others}) > 1:
                return None
            if not others:
                clash = any(kind == path[0] and value != path[1] for kind, value in body)
                return None if update_only or clash else Person(number=-1, since_us=NEVER_US)
            person = others[0]
            others = []
            body = [path, *body]
        if others:
            return None
        # Addressed by id, email or phone, nobody's identifiers are changed, only added; two of one kind are a change.
        owned = {key[0]: key for key in _keys(person)}
        for key in body:
            if owner[key] is None and owned.setdefault(key[0], key) != key:
                return None
        return person

    def track(self, fact: Track, now_us: int) -> None:
        """One event, once per id."""
        path = _key(fact.person)
        try:
            person = self.meant(path, fact.time_us)
        except LookupError:
            return
        if person is None and (path[0] == "cio_id" or path in self.blocked):
            return
        if person is None:
            person = self._new({fact.person.kind: fact.person.value})
        self._add(person, fact, now_us)

    def _add(self, person: Person, fact: Track | TrackAnonymous, now_us: int) -> None:
        time_us = now_us if fact.time_us is None else fact.time_us
        event = (fact.kind, fact.name, time_us, msgspec.json.decode(fact.data))
        event_id = None if fact.event_id is None else fact.event_id.lower()
        if event_id is None or event_id not in person.event_ids:
            person.events.append(event)
            person.event_ids.append(event_id)
            person.since_us = min(person.since_us, time_us, now_us)

    # -- claims -------------------------------------------------------------------------------------------------------

    def track_anonymous(self, fact: TrackAnonymous, now_us: int) -> None:
        """The claimant's event, or one that waits for a claim."""
        key = ("anonymous_id", fact.anonymous_id or "")
        try:
            self.meant(key, fact.time_us)
        except LookupError:
            return
        if fact.anonymous_id in self.claims:
            self._add(self.claims[fact.anonymous_id], fact, now_us)
        elif key not in self.blocked:
            self.unclaimed.append((fact, now_us))

    def _claim(self, person: Person, anonymous_id: str, now_us: int) -> None:
        """All that the anonymous id did is the person's."""
        self.claims[anonymous_id] = person
        for fact, accept_us in self.unclaimed:
            if fact.anonymous_id == anonymous_id:
                timed = fact if fact.time_us is not None else msgspec.structs.replace(fact, time_us=accept_us)
                self._add(person, timed, now_us)
        self.unclaimed = [one for one in self.unclaimed if one[0].anonymous_id != anonymous_id]

    # -- going --------------------------------------------------------------------------------------------------------

    def _names(self, person: Person) -> list[Key]:
        claimed = [("anonymous_id", name) for name, owner in self.claims.items() if owner is person]
        return [key for key in _keys(person) if key[0] != "cio_id"] + claimed

    def delete(self, fact: DeletePerson, now_us: int) -> None:
        """The person goes, their names remember when."""
        person = self.find(_key(fact.person))
        if person is not None:
            self._remove(person, now_us)

    def _remove(self, person: Person, now_us: int) -> None:
        self.tombstones += [(key, now_us, None) for key in self._names(person)]
        self.people.remove(person)
        self.claims = {name: owner for name, owner in self.claims.items() if owner is not person}
        for segment_id, segment in self.segments.items():
            if isinstance(segment, frozenset):
                self.segments[segment_id] = segment - {person.number}

    def suppress(self, fact: SuppressPerson, now_us: int) -> None:
        """The person goes, and all that named them, or anybody merged into them, is blocked where nobody has it."""
        key = _key(fact.person)
        person = self.find(key)
        if person is None:
            names = [] if key in self.blocked or key[0] == "cio_id" else [key]
        else:
            names = [*self._names(person), ("cio_id", cio_id_of(person.number))]
            self._remove(person, now_us)
            names += [
                name
                for name, _, fate in self.tombstones
                if fate is not None and _survivor(fate) is person and self.find(name) is None
            ]
        self.tombstones += [(name, now_us, None) for name in names]
        self.blocked.update(dict.fromkeys(names, now_us))

    def unsuppress(self, fact: UnsuppressPerson) -> None:
        """What was blocked together is free."""
        together = self.blocked.get(_key(fact.person))
        self.blocked = {key: number for key, number in self.blocked.items() if number != together}

    # -- merging ------------------------------------------------------------------------------------------------------

    def merge(self, fact: MergePeople, now_us: int) -> None:
        """Two people who exist become one."""
        primary, secondary = self.find(_key(fact.primary)), self.find(_key(fact.secondary))
        if primary is not None and secondary is not None and primary is not secondary:
            self._merge(primary, secondary, now_us)

    def _merge(self, primary: Person, secondary: Person, now_us: int) -> None:
        """The primary keeps what they have; what they lack, and all that happened, comes from the secondary."""
        for event, event_id in zip(secondary.events, secondary.event_ids, strict=True):
            if event_id is None or event_id not in primary.event_ids:
                primary.events.append(event)
                primary.event_ids.append(event_id)
        self._fill_in(primary, secondary)
        primary.since_us = min(primary.since_us, secondary.since_us)
        for segment_id, segment in list(self.segments.items()):
            if isinstance(segment, frozenset) and secondary.number in segment:
                self.place(segment_id, [primary], now_us, add=True)
        claimed = [name for name, owner in self.claims.items() if owner is secondary]
        self.claims.update(dict.fromkeys(claimed, primary))
        self.tombstones += [(key, now_us, primary) for key in _keys(secondary)]
        gone = secondary.identifiers
        before = len(self.tombstones)
        self._remove(secondary, now_us)
        del self.tombstones[before:]
        secondary.merged = primary
        primary.identifiers.update({kind: gone[kind] for kind in gone if kind not in primary.identifiers})

    def _fill_in(self, primary: Person, secondary: Person) -> None:
        mine, theirs = primary.values(), secondary.values()
        written = [(time_us, name) for time_us, one in primary.writes for name in one]
        for root in sorted({_root(name) for _, one in secondary.writes for name in one} - mine.keys()):
            had = [time_us for time_us, name in written if _root(name) == root]
            some = [
                (time_us, {name: value for name, value in one.items() if _root(name) == root})
                for time_us, one in secondary.writes
            ]
            some = [one for one in some if one[1]]
            if had and root in theirs:
                some = [(max(*had, *(time_us for time_us, _ in some)), {root: theirs[root]})]
            primary.writes += some

    # -- segments -----------------------------------------------------------------------------------------------------

    def put_segment(self, segment_id: int | None, condition: Condition | None) -> int | None:
        """Make or edit a segment (None as condition: manual); returns its number, None when refused."""
        if segment_id is not None:
            old = self.segments.get(segment_id)
            if old is None or isinstance(old, frozenset) != (condition is None):
                return None
        if condition is not None and not self._sound(segment_id, condition):
            return None
        if segment_id is None:
            segment_id = self._next_segment
            self._next_segment += 1
        if condition is not None:
            self.segments[segment_id] = condition
        else:
            self.segments.setdefault(segment_id, frozenset())
        return segment_id

    def _sound(self, segment_id: int | None, condition: Condition) -> bool:
        """Every segment named exists, and none leads back."""
        named = segments_in(condition)
        return segment_id not in named and all(
            number in self.segments and self._leads_elsewhere(segment_id, number) for number in named
        )

    def _leads_elsewhere(self, segment_id: int | None, number: int) -> bool:
        segment = self.segments[number]
        return isinstance(segment, frozenset) or self._sound(segment_id, segment)

    def delete_segment(self, segment_id: int) -> bool:
        """Forget a segment nobody refers to."""
        used = [c for c in self.segments.values() if not isinstance(c, frozenset) and segment_id in segments_in(c)]
        return not used and self.segments.pop(segment_id, None) is not None

    def place(self, segment_id: int, people: list[Person], now_us: int, *, add: bool) -> None:
        """Put people into a manual segment, or take them out."""
        for person in people:
            members = self.segments.get(segment_id)
            if isinstance(members, frozenset) and (person.number in members) != add:
                self.segments[segment_id] = members | {person.number} if add else members - {person.number}
                person.placements.append((segment_id, now_us, add))

    # -- answers ------------------------------------------------------------------------------------------------------

    def members(self, segment_id: int, at_us: int) -> set[int]:
        """Who was in a segment at a past moment, says the oracle."""
        return self._members(segment_id, [person.history() for person in self.people], at_us)

    def members_now(self, segment_id: int, now_us: int) -> set[int]:
        """Who is in a segment now."""
        return self._members(segment_id, [person.present() for person in self.people], now_us)

    def _members(self, segment_id: int, histories: list[PersonHistory], at_us: int) -> set[int]:
        return oracle.members(InSegment(segment_id), histories, at_us, self.segments)

    def flips(self, segment_id: int, from_us: int, to_us: int) -> list[tuple[int, int, bool]]:
        """What time alone does to a segment in (from, to]: (moment, person, entered), in order."""
        condition = self.segments[segment_id]
        if isinstance(condition, frozenset):
            return []
        found: list[tuple[int, int, bool]] = []
        for history in [person.present() for person in self.people]:
            at_us: int | None = from_us
            inside = oracle.member(condition, history, from_us, self.segments)
            while (at_us := oracle.next_change(condition, history, at_us, self.segments)) is not None:
                if at_us > to_us:
                    break
                inside = not inside
                found.append((at_us, history.person, inside))
        return sorted(found)

    def since_us(self, segment_id: int, number: int, now_us: int) -> int:
        """Since when a person has been in, or out of, a dynamic segment, as now known."""
        condition = self.segments[segment_id]
        assert not isinstance(condition, frozenset)
        (history,) = [person.history() for person in self.people if person.number == number]
        since_us = history.exists_since_us
        at_us: int | None = since_us
        while (at_us := oracle.next_change(condition, history, at_us, self.segments)) is not None and at_us <= now_us:
            since_us = at_us
        return since_us

    def next_change_us(self, segment_id: int, now_us: int) -> int | None:
        """The first moment at which time alone changes a segment."""
        condition = self.segments[segment_id]
        if isinstance(condition, frozenset):
            return None
        histories = [person.present() for person in self.people]
        moments = [oracle.next_change(condition, history, now_us, self.segments) for history in histories]
        return min((moment for moment in moments if moment is not None), default=None)


def _key(identifier: Identifier) -> Key:
    """The form in which identifiers are compared: emails without case and blanks around them."""
    value = identifier.value
    return identifier.kind, value.strip().lower() if identifier.kind == "email" else value


def _keys(person: Person) -> list[Key]:
    """All that names a person now."""
    named: dict[IdentifierKind, str] = {**person.identifiers, "cio_id": cio_id_of(person.number)}
    return [_key(Identifier(kind, value)) for kind, value in named.items()]


def _survivor(person: Person) -> Person:
    return person if person.merged is None else _survivor(person.merged)


def _root(name: str) -> str:
    return name.partition(".")[0]


def _halves(owner: dict[Key, Person | None], named: list[Key]) -> tuple[Person, Person] | None:
    """The older and the younger of two people, one named by id and without email, the other by email and without id."""
    kinds = [kind for kind, _ in set(named)]
    people = {kind: owner[kind, value] for kind, value in named}
    by_id, by_email = people.get("id"), people.get("email")
    if by_id is None or by_email is None or by_id is by_email or "cio_id" in kinds or len(set(kinds)) < len(kinds):
        return None
    if people.get("phone") not in (None, by_id, by_email):
        return None
    if "email" in by_id.identifiers or "id" in by_email.identifiers:
        return None
    return (by_id, by_email) if by_id.number < by_email.number else (by_email, by_id)


def _given(fact: Identify) -> list[Identifier]:
    """The identifiers a call names, as sent; a cio_id is never given."""
    given = [] if fact.person.kind == "cio_id" else [fact.person]
    return given + _named_inside(fact)


def _named_inside(fact: Identify) -> list[Identifier]:
    inside: list[Identifier] = []
    if fact.body_id is not None:
        inside.append(Identifier("id", fact.body_id))
    if fact.body_email is not None:
        inside.append(Identifier("email", fact.body_email.strip()))
    if fact.body_phone is not None:
        inside.append(Identifier("phone", fact.body_phone))
    return inside
