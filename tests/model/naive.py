"""The naive workspace: a list of accepted facts, kept the obvious way, for the engine to be compared with.

It knows the rules of identity, deletion and repetition (design sections 6 and 7) and leaves every question about
conditions and values to the oracle. Nothing of the engine is used but the shapes of facts.
"""

from dataclasses import dataclass, field

import msgspec

from backstory.core import oracle
from backstory.core.condition import Condition, Json, segments_in
from backstory.core.fact import DeletePerson, Identifier, IdentifierKind, Identify, Track
from backstory.core.oracle import PersonHistory
from backstory.core.time import MINUTE_US
from backstory.store.people import cio_id_of

NEVER_US = 1 << 62
Key = tuple[IdentifierKind, str]
Event = tuple[str, str, int, dict[str, Json]]


@dataclass(kw_only=True, eq=False)
class Person:
    """One living person; ``event_ids`` are those of the events that count."""

    number: int
    since_us: int
    identifiers: dict[IdentifierKind, str] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    writes: list[tuple[int, dict[str, Json]]] = field(default_factory=list)
    event_ids: set[str] = field(default_factory=set)

    def history(self) -> PersonHistory:
        """The person as the oracle sees them."""
        return PersonHistory(
            person=self.number,
            identifiers={**self.identifiers, "cio_id": cio_id_of(self.number)},
            events=self.events,
            writes=self.writes,
            exists_since_us=self.since_us,
        )

    def values(self) -> dict[str, Json]:
        """The attributes as they are: a value dated up to a minute ahead counts at once."""
        return oracle.values_at(self.history(), NEVER_US)

    def present(self) -> PersonHistory:
        """The person from now on: as if they had always had the attributes they have."""
        return msgspec.structs.replace(self.history(), writes=[(self.since_us, self.values())])


class Naive:
    """People, tombstones and segments after some facts."""

    def __init__(self) -> None:
        self.people: list[Person] = []
        self.deleted_us: dict[Key, int] = {}
        self.segments: dict[int, Condition | frozenset[int]] = {}
        self._next_person = 0
        self._next_segment = 1

    # -- people -------------------------------------------------------------------------------------------------------

    def find(self, key: Key) -> Person | None:
        """Who has this identifier now."""
        for person in self.people:
            named: dict[IdentifierKind, str] = {**person.identifiers, "cio_id": cio_id_of(person.number)}
            if any(_key(Identifier(kind, value)) == key for kind, value in named.items()):
                return person
        return None

    def identify(self, fact: Identify, now_us: int) -> None:
        """The decision table of identify, then one timed write."""
        path, body = _key(fact.person), [_key(identifier) for identifier in _named_inside(fact)]
        if self._buried(path, fact.time_us):
            return
        person = self._whom(path, body, update_only=fact.update_only)
        if person is None:
            return
        had = {_key(Identifier(kind, value)) for kind, value in person.identifiers.items()}
        given = [named for named in _given(fact) if _key(named) not in had]
        person.identifiers.update({named.kind: named.value for named in given})
        if person not in self.people:
            self.people.append(person)
            self._next_person += 1
        time_us = now_us if fact.time_us is None or fact.time_us > now_us + MINUTE_US else fact.time_us
        person.writes.append((time_us, msgspec.json.decode(fact.attributes)))
        person.since_us = min(person.since_us, time_us, now_us)

    def _whom(self, path: Key, body: list[Key], *, update_only: bool) -> Person | None:
        """Whom an identify is about; None when it is refused."""
        person = self.find(path)
        others = [found for key in body if (found := self.find(key)) is not None and found is not person]
        if path[0] == "cio_id":
            return None if others else person
        if person is None:
            if len({other.number for other in others}) > 1:
                return None
            if not others:
                clash = any(kind == path[0] and value != path[1] for kind, value in body)
                return None if update_only or clash else Person(number=self._next_person, since_us=NEVER_US)
            person = others[0]
            others = []
            body = [path, *body]
        if others:
            return None
        # Addressed by id or email, nobody's identifiers are changed, only added; two of one kind are a change.
        owned = {kind: _key(Identifier(kind, value)) for kind, value in person.identifiers.items()}
        for key in body:
            if owned.setdefault(key[0], key) != key:
                return None
        return person

    def _buried(self, key: Key, time_us: int | None) -> bool:
        return time_us is not None and self.deleted_us.get(key, -NEVER_US) > time_us

    def track(self, fact: Track, now_us: int) -> None:
        """One event, once per id."""
        path = _key(fact.person)
        person = self.find(path)
        if self._buried(path, fact.time_us) or (person is None and path[0] == "cio_id"):
            return
        time_us = now_us if fact.time_us is None else fact.time_us
        if person is None:
            person = Person(number=self._next_person, since_us=NEVER_US, identifiers={path[0]: fact.person.value})
            self.people.append(person)
            self._next_person += 1
        if fact.event_id is not None:
            if fact.event_id.lower() in person.event_ids:
                return
            person.event_ids.add(fact.event_id.lower())
        person.events.append((fact.kind, fact.name, time_us, msgspec.json.decode(fact.data)))
        person.since_us = min(person.since_us, time_us, now_us)

    def delete(self, fact: DeletePerson, now_us: int) -> None:
        """The person goes, their identifiers remember when."""
        person = self.find(_key(fact.person))
        if person is not None:
            self.people.remove(person)
            for kind, value in person.identifiers.items():
                self.deleted_us[_key(Identifier(kind, value))] = now_us
            for segment_id, segment in self.segments.items():
                if isinstance(segment, frozenset):
                    self.segments[segment_id] = segment - {person.number}

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

    def leads_to_manual(self, segment_id: int) -> bool:
        """Does a segment depend on a manual one?"""
        segment = self.segments[segment_id]
        return isinstance(segment, frozenset) or any(self.leads_to_manual(number) for number in segments_in(segment))

    def delete_segment(self, segment_id: int) -> bool:
        """Forget a segment nobody refers to."""
        used = [c for c in self.segments.values() if not isinstance(c, frozenset) and segment_id in segments_in(c)]
        return not used and self.segments.pop(segment_id, None) is not None

    def place(self, segment_id: int, people: list[Person], *, add: bool) -> None:
        """Put people into a manual segment, or take them out."""
        members = self.segments.get(segment_id)
        if isinstance(members, frozenset):
            numbers = {person.number for person in people}
            self.segments[segment_id] = members | numbers if add else members - numbers

    # -- answers ------------------------------------------------------------------------------------------------------

    def members(self, segment_id: int, at_us: int) -> set[int]:
        """Who was in a segment at a past moment, says the oracle."""
        return self._members(segment_id, [person.history() for person in self.people], at_us)

    def members_now(self, segment_id: int, now_us: int) -> set[int]:
        """Who is in a segment now."""
        return self._members(segment_id, [person.present() for person in self.people], now_us)

    def _members(self, segment_id: int, histories: list[PersonHistory], at_us: int) -> set[int]:
        segment = self.segments[segment_id]
        if isinstance(segment, frozenset):
            return set(segment)
        return oracle.members(segment, histories, at_us, self.segments)

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
    return inside
