"""The naive workspace: a list of accepted facts, kept the obvious way, for the engine to be compared with.

It knows the rules of identity, deletion, merging, claiming and repetition (design sections 6 and 7) and leaves every
question about conditions and values to the oracle. Nothing of the engine is used but the shapes of facts.
"""

from collections import Counter
from dataclasses import dataclass, field

import msgspec

from backstory.core import oracle
from backstory.core.condition import Condition, InSegment, Json, segments_in
from backstory.core.fact import (
    DeleteDevice,
    DeleteObject,
    DeletePerson,
    Fact,
    Identifier,
    IdentifierKind,
    Identify,
    IdentifyObject,
    MergePeople,
    PutDevice,
    Relate,
    SuppressPerson,
    Track,
    TrackAnonymous,
    Unrelate,
    UnsuppressPerson,
)
from backstory.core.oracle import PersonHistory
from backstory.store.people import cio_id_of
from tests.model.naive_record import Records, effective_us

NEVER_US = 1 << 62
Key = tuple[str, str]
Event = tuple[str, str, int, dict[str, Json]]


LIVE = 0


@dataclass(frozen=True, kw_only=True)
class Occurrence:
    """An event as it was told; ``source`` is the import that did, 0 for calls. ``timed``: it came with its time."""

    event: Event
    event_id: str | None
    source: int
    timed: bool
    since_us: int

    @property
    def content(self) -> tuple[str, str, int, bytes]:
        kind, name, time_us, data = self.event
        return kind, name, time_us, msgspec.json.encode(data, order="deterministic")


@dataclass(frozen=True, kw_only=True)
class Write:
    """Attributes that became true, as told by a source."""

    time_us: int
    attributes: dict[str, Json]
    source: int


@dataclass(kw_only=True, eq=False)
class Message:
    """A delivery: whose it is, what it is, when it reached which metric."""

    person: "Person"
    data: dict[str, Json]
    metrics_us: dict[str, int]


@dataclass(kw_only=True, eq=False)
class Person:
    """One person. ``known`` tells since when they are, by source; ``merged`` leads to the survivor.

    ``naive`` is the workspace they are in, which knows what imports do not count.
    """

    number: int
    naive: "Naive"
    identifiers: dict[IdentifierKind, str] = field(default_factory=dict)
    occurrences: list[Occurrence] = field(default_factory=list[Occurrence])
    told: list[Write] = field(default_factory=list[Write])
    known: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    # Which sources have named the person by which identifier.
    named: dict[Key, set[int]] = field(default_factory=dict[Key, set[int]])
    # Identifiers that went with imports that do not count.
    lost: dict[IdentifierKind, str] = field(default_factory=dict)
    placements: list[tuple[int, int, bool]] = field(default_factory=list)
    merged: "Person | None" = None

    def counts(self, source: int) -> bool:
        return source not in self.naive.out

    @property
    def counting(self) -> list[Occurrence]:
        """The first of those with one id; of equal ones without as many as the source that has most."""
        found: list[Occurrence] = []
        ids: set[str] = set()
        room = Counter[tuple[str, str, int, bytes]]()
        mine = [one for one in self.occurrences if self.counts(one.source)]
        plain = [one for one in mine if one.event_id is None and one.timed]
        for (content, _), count in Counter((one.content, one.source) for one in plain).items():
            room[content] = max(room[content], count)
        for one in mine:
            if one.event_id is not None:
                taken = one.event_id not in ids
                ids.add(one.event_id)
            else:
                taken = not one.timed or room[one.content] > 0
                room[one.content] -= 1
            if taken:
                found.append(one)
        return found

    @property
    def events(self) -> list[Event]:
        return [one.event for one in self.counting]

    @property
    def writes(self) -> list[tuple[int, dict[str, Json]]]:
        return [(one.time_us, one.attributes) for one in self.told if self.counts(one.source)]

    @property
    def since_us(self) -> int:
        known = [since_us for source, since_us in self.known if self.counts(source)]
        told = [*known, *(one.since_us for one in self.counting)]
        # Somebody was named by a call that said nothing of them: nobody knows better than the import that made them.
        made = [*(us for _, us in self.known), *(one.since_us for one in self.occurrences)]
        return min(told or made, default=NEVER_US)

    @property
    def messages(self) -> list[Event]:
        mine = [one for one in self.naive.messages.values() if one.person is self]
        return [("message", name, time_us, one.data) for one in mine for name, time_us in one.metrics_us.items()]

    def write(self, time_us: int, attributes: dict[str, Json], now_us: int, source: int) -> None:
        self.told.append(Write(time_us=time_us, attributes=attributes, source=source))
        self.known.append((source, min(time_us, now_us)))

    def history(self) -> PersonHistory:
        """The person as the oracle sees them."""
        return self._history(self.writes, self.naive.records.in_time(self))

    def present(self) -> PersonHistory:
        """The person from now on: as if they had always had the attributes they have."""
        since_us = self.since_us
        return self._history([(since_us, self.values())], self.naive.records.at_last(self, since_us))

    def _history(self, writes: list[tuple[int, dict[str, Json]]], records: dict[str, list[object]]) -> PersonHistory:
        return PersonHistory(
            person=self.number,
            identifiers={**self.identifiers, "cio_id": cio_id_of(self.number)},
            events=self.events + self.messages,
            writes=writes,
            exists_since_us=self.since_us,
            placements=self.placements,
            **records,  # pyright: ignore[reportArgumentType]
        )

    def values(self) -> dict[str, Json]:
        """The attributes as they are: a value dated up to a minute ahead counts at once."""
        return oracle.values_at(self._history(self.writes, {}), NEVER_US)

    def ahead(self, now_us: int) -> bool:
        """Is any value dated ahead? It counts at once, but was not yet true."""
        return any(time_us > now_us for time_us, _ in self.writes) or self.naive.records.ahead(self, now_us)


class Naive:
    """People, tombstones, claims and segments after some facts."""

    def __init__(self) -> None:
        self.people: list[Person] = []
        # Until when a name meant somebody who is gone now.
        self.tombstones: list[tuple[Key, int, Person | None]] = []
        # Suppressed names.
        self.blocked: set[Key] = set()
        self.claims: dict[str, Person] = {}
        self.unclaimed: list[tuple[TrackAnonymous, int]] = []
        self.segments: dict[int, Condition | frozenset[int]] = {}
        self.records = Records()
        self.messages: dict[str, Message] = {}
        # Imports that were taken back, and whoever went with them.
        self.out: set[int] = set()
        self.away: list[Person] = []
        # On whose behalf facts are told: an import, or (0) whoever calls.
        self.source = LIVE
        self._next_person = 0
        self._next_segment = 1

    def apply(self, fact: Fact, now_us: int) -> None:
        """What a fact about people, accepted now, changes."""
        match fact:
            case Identify():
                self.identify(fact, now_us)
            case Track():
                self.track(fact, now_us)
            case TrackAnonymous():
                self.track_anonymous(fact, now_us)
            case DeletePerson():
                self.delete(fact, now_us)
            case MergePeople():
                self.merge(fact, now_us)
            case SuppressPerson():
                self.suppress(fact, now_us)
            case UnsuppressPerson():
                self.unsuppress(fact)
            case PutDevice() | DeleteDevice() | IdentifyObject() | DeleteObject() | Relate() | Unrelate():
                self.record(fact, now_us)
            case _:
                raise AssertionError(f"{fact} is not told this way")

    # -- people -------------------------------------------------------------------------------------------------------

    def find(self, key: Key) -> Person | None:
        """Who has this identifier now; who is found was named by it."""
        person = next((person for person in self.people if key in _keys(person)), None)
        if person is not None:
            person.named.setdefault(key, set()).add(self.source)
        return person

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
        person = Person(number=self._next_person, naive=self, identifiers=identifiers)
        person.named = {key: {self.source} for key in _keys(person)}
        self.people.append(person)
        self._next_person += 1
        return person

    def identify(self, fact: Identify, now_us: int, *, auto_merge: bool = True) -> None:
        """The decision table of identify, then one timed write, then the claim."""
        path, body = _key(fact.person), [_key(identifier) for identifier in _named_inside(fact)]
        if fact.body_cio_id is not None:
            body.append(("cio_id", fact.body_cio_id))
        try:
            owner = {key: self.meant(key, fact.time_us) for key in (path, *body)}
        except LookupError:
            return
        if any(key in self.blocked and owner[key] is None for key in owner):
            return
        body = [key for key in body if key[0] != "cio_id" or owner[key] is not None]
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
        for named in given:
            person.named[_key(named)] = {self.source}
        person.write(effective_us(fact.time_us, now_us), attributes, now_us, self.source)
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
                return None if update_only or clash else Person(number=-1, naive=self)
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
        person = self._subject(fact.person, fact.time_us)
        if person is not None:
            self._add(person, fact, now_us)

    def _subject(self, named: Identifier, time_us: int | None, *, make: bool = True) -> Person | None:
        """Whom an event or a record is about, made where nobody has the name; None when it is refused."""
        path = _key(named)
        try:
            person = self.meant(path, time_us)
        except LookupError:
            return None
        if person is None and make and path[0] != "cio_id" and path not in self.blocked:
            person = self._new({named.kind: named.value})
        return person

    def _add(self, person: Person, fact: Track | TrackAnonymous, now_us: int) -> None:
        time_us = now_us if fact.time_us is None else fact.time_us
        one = Occurrence(
            event=(fact.kind, fact.name, time_us, msgspec.json.decode(fact.data)),
            event_id=None if fact.event_id is None else fact.event_id.lower(),
            source=self.source,
            timed=fact.time_us is not None,
            since_us=min(time_us, now_us),
        )
        person.occurrences.append(one)

    def record(
        self, fact: PutDevice | DeleteDevice | IdentifyObject | DeleteObject | Relate | Unrelate, now_us: int
    ) -> None:
        """Devices, objects and relationships: whom it is about, then what the lists of them make of it."""
        match fact:
            case IdentifyObject():
                self.records.identify_object(fact, now_us)
            case DeleteObject():
                self.records.delete_object(fact, now_us)
            case DeleteDevice():
                person = self.find(_key(fact.person))
                if person is not None:
                    self.records.delete_device(fact, person, now_us)
            case PutDevice():
                person = self._subject(fact.person, fact.time_us)
                if person is not None:
                    self.records.put_device(fact, person, now_us)
                    person.known.append((LIVE, min(effective_us(fact.time_us, now_us), now_us)))
            case Relate() if fact.anonymous_id is not None:
                if (person := self._anonymous(fact.anonymous_id, fact.time_us)) is not None:
                    self.records.relate(fact, person, ("anonymous_id", fact.anonymous_id), now_us)
                    if isinstance(person, Person):
                        person.known.append((LIVE, min(effective_us(fact.time_us, now_us), now_us)))
            case Unrelate() if fact.anonymous_id is not None:
                if (person := self._anonymous(fact.anonymous_id, fact.time_us)) is not None:
                    ended_us = self.records.unrelate(fact, person, ("anonymous_id", fact.anonymous_id), now_us)
                    if isinstance(person, Person):
                        person.known.append((LIVE, min(ended_us, now_us)))
            case Relate():
                assert fact.person is not None
                person = self._subject(fact.person, fact.time_us)
                if person is not None:
                    self.records.relate(fact, person, _key(fact.person), now_us)
                    person.known.append((LIVE, min(effective_us(fact.time_us, now_us), now_us)))
            case Unrelate():
                assert fact.person is not None
                self._unrelate(fact, fact.person, now_us)

    def _anonymous(self, anonymous_id: str, time_us: int | None) -> "Person | str | None":
        """Who has claimed an anonymous id, else the id itself; None: what is told of it is refused."""
        key = ("anonymous_id", anonymous_id)
        try:
            self.meant(key, time_us)
        except LookupError:
            return None
        if anonymous_id in self.claims:
            return self.claims[anonymous_id]
        return None if key in self.blocked else anonymous_id

    def _unrelate(self, fact: Unrelate, named: Identifier, now_us: int) -> None:
        key = _key(named)
        try:
            person = self.meant(key, fact.time_us)
        except LookupError:
            return
        if person is None and (key[0] == "cio_id" or key in self.blocked):
            return
        ended_us = self.records.unrelate(fact, person, key, now_us)
        if person is not None:
            person.known.append((LIVE, min(ended_us, now_us)))

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
        for told_us in self.records.claim(anonymous_id, person):
            person.known.append((LIVE, min(told_us, now_us)))

    # -- going --------------------------------------------------------------------------------------------------------

    def _names(self, person: Person) -> list[Key]:
        claimed = [("anonymous_id", name) for name, owner in self.claims.items() if owner is person]
        return [key for key in _keys(person) if key[0] != "cio_id"] + claimed

    def delete(self, fact: DeletePerson, now_us: int) -> None:
        """The person goes, their names remember when."""
        key = _key(fact.person)
        person = self.find(key)
        names = {key}
        if person is not None:
            names |= {*_keys(person), *self._names(person)}
            self._remove(person, now_us)
        self._stay_away(names)

    def _stay_away(self, names: set[Key]) -> set[Key]:
        """Whoever went with an import and is called so does not come back; returns all that they are called."""
        gone = [person for person in self.away if names & {*_keys(person)}]
        self.away = [person for person in self.away if person not in gone]
        return {key for person in gone for key in _keys(person)}

    def _remove(self, person: Person, now_us: int) -> None:
        self.tombstones += [(key, now_us, None) for key in self._names(person)]
        self.records.forget(person)
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
        withdrawn = {name for name in self._stay_away({key, *names}) if self.find(name) is None} if names else set()
        self.blocked.update(names, withdrawn)

    def unsuppress(self, fact: UnsuppressPerson) -> None:
        """The name is free, not those that were blocked with it."""
        self.blocked.discard(_key(fact.person))

    # -- merging ------------------------------------------------------------------------------------------------------

    def merge(self, fact: MergePeople, now_us: int) -> None:
        """Two people who exist become one."""
        primary, secondary = self.find(_key(fact.primary)), self.find(_key(fact.secondary))
        if primary is not None and secondary is not None and primary is not secondary:
            self._merge(primary, secondary, now_us)

    def _merge(self, primary: Person, secondary: Person, now_us: int) -> None:
        """The primary keeps what they have; what they lack, and all that happened, comes from the secondary."""
        since_us = secondary.since_us
        if since_us < primary.since_us:
            primary.known.append((LIVE, since_us))
        # Of equal ids the survivor's counts.
        primary.occurrences += secondary.occurrences
        self._fill_in(primary, secondary)
        self.records.merge(primary, secondary)
        for message in self.messages.values():
            if message.person is secondary:
                message.person = primary
        self._place_both(primary, secondary, now_us)
        claimed = [name for name, owner in self.claims.items() if owner is secondary]
        self.claims.update(dict.fromkeys(claimed, primary))
        self.tombstones += [(key, now_us, primary) for key in _keys(secondary)]
        gone = secondary.identifiers
        before = len(self.tombstones)
        self._remove(secondary, now_us)
        del self.tombstones[before:]
        secondary.merged = primary
        for kind in gone.keys() - primary.identifiers.keys():
            primary.identifiers[kind] = gone[kind]
            primary.named[_key(Identifier(kind, gone[kind]))] = {LIVE}

    def _place_both(self, primary: Person, secondary: Person, now_us: int) -> None:
        """Where either was put when is when the primary was; in is who was in as either of them."""
        primary.placements = sorted(primary.placements + secondary.placements, key=lambda one: one[1])
        for segment_id, segment in list(self.segments.items()):
            if isinstance(segment, frozenset) and segment & {primary.number, secondary.number}:
                self.segments[segment_id] = segment | {primary.number}
                if not [entered for number, _, entered in primary.placements if number == segment_id][-1]:
                    primary.placements.append((segment_id, now_us, True))

    def _fill_in(self, primary: Person, secondary: Person) -> None:
        mine, theirs = primary.values(), secondary.values()
        written = [(time_us, name) for time_us, one in primary.writes for name in one]
        for root in sorted({_root(name) for _, one in secondary.writes for name in one} - mine.keys()):
            had = [time_us for time_us, name in written if _root(name) == root]
            some = [
                Write(
                    time_us=one.time_us,
                    attributes={name: value for name, value in one.attributes.items() if _root(name) == root},
                    source=one.source,
                )
                for one in secondary.told
                if secondary.counts(one.source)
            ]
            some = [one for one in some if one.attributes]
            if had and root in theirs:
                last_us = max(*had, *(one.time_us for one in some))
                some = [Write(time_us=last_us, attributes={root: theirs[root]}, source=LIVE)]
            primary.told += some

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

    # -- imports ------------------------------------------------------------------------------------------------------

    def bring_in(self, import_id: int, facts: list[Identify | Track], now_us: int) -> list[Person]:
        """Rows of an import, which say what the same calls would say; returns whom they made."""
        known = list(self.people)
        self.source = import_id
        for fact in facts:
            self.apply(fact, now_us)
        self.source = LIVE
        return [person for person in self.people if person not in known]

    def number(self, made: list[Person], numbers: list[int], next_person: int) -> None:
        """An import numbers people in an order of its own."""
        for person, number in zip(made, numbers, strict=True):
            person.number = number
        self._next_person = next_person

    def undo(self, import_id: int) -> None:
        """As if it had never been; whom others have named stays, without the names that it alone gave."""
        self.out.add(import_id)
        self._reckon()

    def redo(self, import_id: int) -> None:
        """As if it had never gone."""
        self.out.discard(import_id)
        self._reckon()

    def _reckon(self) -> None:
        """Who is there, and what they are called, by the sources that count."""
        for person in [*self.people, *self.away]:
            stays = any(sources - self.out for sources in person.named.values())
            if stays and person in self.away:
                self.away.remove(person)
                self.people.append(person)
            elif not stays and person in self.people:
                self.people.remove(person)
                self.away.append(person)
                for segment_id, segment in self.segments.items():
                    if isinstance(segment, frozenset):
                        self.segments[segment_id] = segment - {person.number}
            for kind, value in [*person.identifiers.items()]:
                if stays and not person.named[_key(Identifier(kind, value))] - self.out:
                    person.lost[kind] = person.identifiers.pop(kind)
            for kind, value in [*person.lost.items()]:
                if stays and person.named[_key(Identifier(kind, value))] - self.out:
                    person.identifiers[kind] = person.lost.pop(kind)

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
