"""Applying events: who, whether it is known already, what it moves."""

from collections.abc import Mapping

import msgspec
import numpy as np

from backstory.core.condition import Json
from backstory.core.event import Event, canonical, content_key, id_key
from backstory.core.fact import Identifier, Receipt, Track
from backstory.core.identity import normal
from backstory.core.leaf import NEVER_US
from backstory.core.leaf_key import LeafKey
from backstory.core.since import Told
from backstory.core.trace import FAILED_EVENT, PROFILE_CREATE
from backstory.engine.apply.addressee import FORGOTTEN, SUPPRESSED, Addressees
from backstory.engine.apply.profile import Profiles
from backstory.engine.apply.transition import Transitions
from backstory.engine.context import Audience, Context, Happened, shown_values
from backstory.store.tombstone import Gone

_decode = msgspec.json.Decoder(dict[str, object]).decode
LIVE = 0
# The name in ``meta`` of the last moment at which events dated in the future came to count.
ARRIVED_US = "arrived_us"


class Waiting(Event, frozen=True, kw_only=True, gc=False):
    """An event whose moment is still to come; ``fires``: it may start journeys then."""

    fires: bool = True


def event_data(event: Event) -> "Data":
    """An event's data, for whoever may ask."""
    return Data(event.data)


class Data:
    """Event data decoded when somebody first asks."""

    __slots__ = ("_raw", "_value")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._value: Mapping[str, Json] | None = None

    def __call__(self) -> Mapping[str, Json]:
        if self._value is None:
            self._value = _decode(self._raw)  # pyright: ignore[reportAttributeAccessIssue]
        assert self._value is not None
        return self._value


class Events:
    """Events of known people, and the moments of those dated in the future."""

    def __init__(self, context: Context, profiles: Profiles, transitions: Transitions, audience: Audience) -> None:
        self._context = context
        self._folder = context.folder
        self._segments = context.segments
        self._profiles = profiles
        self._transitions = transitions
        self._audience = audience
        self._addressees = Addressees(context.folder)
        self.next_arrival_us = self._next_arrival()

    def track(self, fact: Track, now_us: int) -> Receipt:
        path = normal(fact.person)
        person = self._addressees.find(path, fact.time_us)
        if isinstance(person, Gone) and person.hidden:
            self._context.activity(None, FAILED_EVENT, now_us, now_us, {"reason": FORGOTTEN})
            return Receipt("dropped", reason=FORGOTTEN)
        if isinstance(person, Gone):
            return self._failed(fact, "The event is older than the deletion of this person.", now_us)
        is_new = person is None
        if person is None:
            if self._addressees.blocked(path):
                self._context.activity(None, FAILED_EVENT, now_us, now_us, {"reason": SUPPRESSED})
                return Receipt("suppressed", reason=SUPPRESSED)
            if path.kind == "cio_id":
                return self._failed(fact, "nobody has this cio_id", now_us)
            person = self._create(fact.person, fact.time_us, now_us)
        event = self._event(fact, person, now_us)
        receipt = self.take(event, now_us, is_new=is_new)
        if fact.rescaled and not event.duplicate:
            reason = "The time was taken as milliseconds or microseconds."
            self._context.activity(person, FAILED_EVENT, event.time_us, now_us, {"name": fact.name, "warning": reason})
        return receipt

    def take(self, event: Event, now_us: int, *, is_new: bool = False) -> Receipt:
        """Keep an event of a person who exists, and let it count unless it repeats another."""
        self._folder.tail.add_event(event)
        if event.duplicate:
            return Receipt("duplicate", reason="an equal event was accepted before")
        return Receipt("applied", reason=self._count(event, now_us, is_new=is_new))

    def feed(self, event: Event, now_us: int) -> set[LeafKey]:
        """Keep an event that comes with others; the caller settles the leaves returned, then calls ``start``."""
        self._folder.tail.add_event(event)
        if event.duplicate:
            return set()
        if event.time_us > now_us:
            self._wait(event)
            return self._segments.feed_known(event.person, now_us, now_us)
        touched = self._segments.feed_known(event.person, event.time_us, now_us)
        data = Data(event.data)
        return touched | self._segments.feed_event(
            event.person, event.kind, event.name, event.time_us, data, now_us
        )

    def start(self, event: Event, now_us: int) -> None:
        """What waits for an event that was fed hears of it."""
        if not event.duplicate and event.time_us <= now_us and self._audience.waits_for(event.kind, event.name):
            self._audience.on_event(event.person, happened(event, now_us), now_us)

    def _create(self, identifier: Identifier, time_us: int | None, now_us: int) -> int:
        effective_us = now_us if time_us is None else min(time_us, now_us)
        person = self._profiles.create((identifier,), {}, time_us=effective_us, now_us=now_us)
        self._context.activity(person, PROFILE_CREATE, effective_us, now_us, {})
        profile = self._folder.people.profile(person)
        self._segments.feed_attributes(person, None, lambda: shown_values(profile, {}), now_us)
        return person

    def _event(self, fact: Track, person: int, now_us: int) -> Event:
        key: int | None = None
        if fact.event_id is not None:
            key = id_key(fact.event_id)
        elif fact.time_us is not None:
            key = content_key(fact.kind, fact.name, fact.time_us, canonical(fact.data))
        return Event(
            seq=self._folder.state.take_seq(),
            person=person,
            name=fact.name,
            kind=fact.kind,
            time_us=now_us if fact.time_us is None else fact.time_us,
            accept_us=now_us,
            data=fact.data,
            event_id=fact.event_id,
            key=key,
            import_id=LIVE,
            duplicate=self.repeats(key, person, has_id=fact.event_id is not None),
        )

    def known(self, key: int, person: int) -> list[tuple[int, bool, int]]:
        """A person's events with this key: (import id, duplicate, how many)."""
        return self._folder.tail.key_counts(key, person) + self._folder.keys.counts(key, person)

    def repeats(self, key: int | None, person: int, *, has_id: bool) -> bool:
        """Does a live event repeat what is known already?

        The multiplicity kept is the maximum over sources; the live stream is one source (design section 7).
        """
        if key is None:
            return False
        known = self.known(key, person)
        if has_id:
            return any(not extra for _, extra, _ in known)
        kept = sum(count for _, extra, count in known if not extra)
        ordinal = 1 + sum(count for import_id, _, count in known if import_id == LIVE)
        return ordinal <= kept

    def _count(self, event: Event, now_us: int, *, is_new: bool) -> str:
        """An event that counts: feed it now, or keep it until its moment comes; returns why it started nothing."""
        if event.time_us > now_us:
            self._wait(event)
            touched = self._segments.feed_known(event.person, now_us, now_us)
            self._settle(event.person, None if is_new else touched, now_us)
            return ""
        told = self._told(event) if event.time_us < now_us else None
        touched = self._segments.feed_known(event.person, event.time_us, now_us)
        data = Data(event.data)
        touched |= self._segments.feed_event(event.person, event.kind, event.name, event.time_us, data, now_us)
        if touched or is_new:
            self._settle(event.person, None if is_new else touched, now_us, told=told)
        self._audience.on_person(event.person, now_us)
        if not self._audience.waits_for(event.kind, event.name):
            return ""
        return self._audience.on_event(event.person, happened(event, now_us), now_us)

    def _told(self, event: Event) -> Told:
        """A late event that is yet to be fed, with what leaves hold before it."""
        person = np.array([event.person], np.uint32)
        leaves = self._segments.event_leaves([(event.kind, event.name)])
        held = {leaf: leaf.gather(person) for leaf in leaves}
        return Told(
            times_us=np.array([event.time_us], np.int64),
            latest_us=self._segments.newest.events.latest_us(person),
            before=lambda leaf, now: held[leaf].reshape(now.shape) if leaf in held else now,
        )

    def _settle(
        self,
        person: int,
        touched: set[LeafKey] | None,
        now_us: int,
        *,
        told: Told | None = None,
        silent: bool = False,
    ) -> None:
        """``told``: the event that touched the leaves, if dated before now; ``silent``: nothing starts by it."""
        moved = self._segments.settle(person, touched, now_us, noted=True)
        if moved and silent:
            self._transitions.note(moved)
        elif moved:
            self._transitions.take(moved, now_us, late=told is not None, told=told)

    def _wait(self, event: Event) -> None:
        self._folder.state.db.execute(
            "INSERT INTO future VALUES (?, ?, ?, ?, ?)",
            (event.seq, event.time_us, event.person, msgspec.msgpack.encode(event), event.import_id),
        )
        self.next_arrival_us = min(self.next_arrival_us, event.time_us)

    def wait_silently(self, event: Event) -> None:
        """An event of a merged person that is still to come: it counts from its moment on and starts nothing."""
        fields = {name: getattr(event, name) for name in Event.__struct_fields__}
        self._wait(Waiting(**fields, fires=False))

    def wait_bulk(
        self,
        *,
        seq: int,
        person: int,
        kind: str,
        name: str,
        time_us: int,
        data: bytes,
        event_id: str | None,
        fires: bool,
        import_id: int,
    ) -> None:
        """An imported event dated in the future; the event itself is in a part."""
        self._wait(
            Waiting(
                seq=seq,
                person=person,
                name=name,
                kind=kind,
                time_us=time_us,
                accept_us=time_us,
                data=data,
                event_id=event_id,
                key=None,
                import_id=import_id,
                fires=fires,
            )
        )

    def _next_arrival(self) -> int:
        row = self._folder.state.db.execute("SELECT min(at_us) FROM future").fetchone()
        return NEVER_US if row[0] is None else row[0]

    def arrivals(self, now_us: int) -> None:
        """Events that were dated in the future and whose moment has come count from now on."""
        db = self._folder.state.db
        rows = db.execute("SELECT seq, body FROM future WHERE at_us <= ? ORDER BY at_us, seq", (now_us,)).fetchall()
        db.executemany("DELETE FROM future WHERE seq = ?", [(row[0],) for row in rows])
        # Leaves stored before now were not told of these, though their seqs are older.
        self._folder.state.set_meta(ARRIVED_US, now_us)
        self.next_arrival_us = self._next_arrival()
        for _, body in rows:
            event = msgspec.msgpack.decode(body, type=Waiting)
            if event.person in self._segments.alive:
                touched = self._segments.feed_event(
                    event.person, event.kind, event.name, event.time_us, Data(event.data), now_us
                )
                self._settle(event.person, touched, now_us, silent=not event.fires)
                self._audience.on_person(event.person, now_us)
                if event.fires and self._audience.waits_for(event.kind, event.name):
                    # What begins by it is the import's, if that brought it.
                    self._folder.namings.source = event.import_id
                    self._audience.on_event(event.person, happened(event, event.time_us), now_us)
                    self._folder.namings.source = LIVE

    def forget_waiting(self, import_id: int) -> None:
        """The events of an import that wait for their moment do not come."""
        self._folder.state.db.execute("DELETE FROM future WHERE import_id = ?", (import_id,))
        self.next_arrival_us = self._next_arrival()

    def _failed(self, fact: Track, reason: str, now_us: int) -> Receipt:
        data = {"name": fact.name, "reason": reason, fact.person.kind: fact.person.value}
        self._context.activity(None, FAILED_EVENT, fact.time_us or now_us, now_us, data)
        return Receipt("dropped", reason=reason)


def happened(event: Event, accept_us: int) -> Happened:
    """The event as what may start a journey."""
    return Happened(
        seq=event.seq,
        kind=event.kind,
        name=event.name,
        event_id=event.event_id,
        time_us=event.time_us,
        accept_us=accept_us,
        data=event.data,
    )
