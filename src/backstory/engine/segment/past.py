"""The stored histories of some people: parts, tail and documents, each piece read once for all of them.

Used on the loop's thread, so that rows not yet written are seen. A piece is read when it is first asked for.
"""

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from backstory.core.condition import Json
from backstory.core.leaf import NEVER_US
from backstory.core.metric import MESSAGE
from backstory.core.person import Document
from backstory.core.record_time import RecordsInTime
from backstory.core.timeline import root_of
from backstory.engine.context import shown_values
from backstory.store.definition import placements_of
from backstory.store.folder import Folder
from backstory.store.people import Profile
from backstory.store.record import read_records

# (kind, name, time, data or how to have it)
Event = tuple[str, str, int, Mapping[str, Json] | Callable[[], Mapping[str, Json]]]
EventInTime = tuple[str, str, int, Mapping[str, Json]]
Write = tuple[int, Mapping[str, Json]]
_decode = msgspec.json.Decoder().decode


class Past(Protocol):
    """Where one person's history comes from; what is not asked for need not be read."""

    def events(self, kind: str, name: str) -> Iterable[Event]:
        """At least the events of a kind and a name, which may hold wildcards."""
        ...

    def writes(self) -> Sequence[Write]: ...

    def records(self) -> RecordsInTime: ...

    def placements(self) -> Sequence[tuple[int, int, bool]]:
        """(segment, moment, in or out) in manual segments, in order."""
        ...

    def present(self, roots: Container[str]) -> tuple[int, dict[str, Json]] | None:
        """Values as they are, and since when the attributes with these roots have been so; None when that is not known
        without reading all that was written."""
        ...


@dataclass(frozen=True, slots=True)
class Told:
    """A history that somebody has read already."""

    events_told: Sequence[Event]
    writes_told: Sequence[Write]
    records_told: RecordsInTime
    placements_told: Sequence[tuple[int, int, bool]] = ()

    def events(self, kind: str, name: str) -> Iterable[Event]:
        return self.events_told

    def writes(self) -> Sequence[Write]:
        return self.writes_told

    def records(self) -> RecordsInTime:
        return self.records_told

    def placements(self) -> Sequence[tuple[int, int, bool]]:
        return self.placements_told

    def present(self, roots: Container[str]) -> tuple[int, dict[str, Json]] | None:
        return None


class Stored:
    """The histories of these people; ``names`` of events that will be asked for are read in one go."""

    def __init__(self, folder: Folder, people: Sequence[int], names: Collection[str] = ()) -> None:
        self._folder = folder
        self._names = names
        self.people = people
        self._tail: dict[int, list[Event]] | None = None
        self._in_parts: dict[str, dict[int, list[Event]]] = {}
        self._writes: dict[int, list[Write]] | None = None
        self._records: dict[int, RecordsInTime] | None = None
        self._profiles: dict[int, tuple[Profile, Document]] = {}

    def of(self, person: int, also: Sequence[EventInTime] = ()) -> "StoredPast":
        """The history of one of them; ``also``: events of theirs that are not yet in the tail."""
        return StoredPast(self, person, also)

    def tail(self, person: int) -> list[Event]:
        """All events of the tail."""
        if self._tail is None:
            self._tail = _by_person(self._folder.tail.people_events(self.people))
        return self._tail.get(person, [])

    def in_parts(self, person: int, name: str) -> list[Event]:
        """The events of parts under a name, which may hold wildcards."""
        if name not in self._in_parts:
            names = self._names if name in self._names else [name]
            found = self._folder.history.people_events(self.people, names)
            for one in names:
                self._in_parts[one] = _by_person(row for row in found if len(names) == 1 or row[2] == one)
        return self._in_parts[name].get(person, [])

    def messages(self, person: int) -> Iterable[Event]:
        return self._folder.ledger.message_events(person)

    def writes(self, person: int) -> list[Write]:
        if self._writes is None:
            self._writes = {}
            rows = self._folder.history.people_writes(self.people) + self._folder.tail.people_writes(self.people)
            for one, time_us, attributes in rows:
                self._writes.setdefault(one, []).append((time_us, _decode(attributes)))
        return self._writes.get(person, [])

    def records(self, person: int) -> RecordsInTime:
        if self._records is None:
            self._records = read_records(self._folder.state.db, self.people)
        return self._records.get(person) or RecordsInTime()

    def placements(self, person: int) -> Sequence[tuple[int, int, bool]]:
        return placements_of(self._folder.state.db, person)

    def profile(self, person: int) -> Profile:
        return self._profile(person)[0]

    def _profile(self, person: int) -> tuple[Profile, Document]:
        if not self._profiles:
            self._profiles = self._folder.people.read_many(self.people)
        return self._profiles[person]

    def present(self, person: int, roots: Container[str]) -> tuple[int, dict[str, Json]]:
        profile, document = self._profile(person)
        some = {name: one for name, one in document.items() if root_of(name) in roots}
        return max((one.time_us for one in some.values()), default=-NEVER_US), shown_values(profile, some)


class StoredPast:
    """The history of one of several people."""

    def __init__(self, stored: Stored, person: int, also: Sequence[EventInTime]) -> None:
        self._stored = stored
        self._person = person
        self._also = also

    def events(self, kind: str, name: str) -> Iterable[Event]:
        if kind == MESSAGE:
            return self._stored.messages(self._person)
        stored, person = self._stored, self._person
        return [*stored.in_parts(person, name), *stored.tail(person), *self._also]

    def writes(self) -> Sequence[Write]:
        return self._stored.writes(self._person)

    def records(self) -> RecordsInTime:
        return self._stored.records(self._person)

    def placements(self) -> Sequence[tuple[int, int, bool]]:
        return self._stored.placements(self._person)

    def present(self, roots: Container[str]) -> tuple[int, dict[str, Json]] | None:
        return self._stored.present(self._person, roots)


def _by_person(rows: Iterable[tuple[int, str, str, int, str]]) -> dict[int, list[Event]]:
    """Rows of (person, kind, name, time, data), the data still to be decoded."""
    found: dict[int, list[Event]] = {}
    for person, kind, name, time_us, data in rows:
        found.setdefault(person, []).append((kind, name, time_us, Undecoded(data)))
    return found


class Undecoded:
    """Data of an event, decoded when somebody asks."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __call__(self) -> Mapping[str, Json]:
        return _decode(self._text)
