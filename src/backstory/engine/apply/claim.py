"""Anonymous events and claims: what a browser did before anybody knew whose it is.

Once claimed, an anonymous id attaches all its events, whenever they come; a second claimant is refused. The claim is
the accept time of what it attaches, so events within 72 hours of it may start journeys (design sections 6 and 9).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from backstory.core.event import Event, canonical, content_key, id_key
from backstory.core.fact import Receipt, TrackAnonymous
from backstory.core.leaf_key import LeafKey
from backstory.core.trace import ANON_MERGE, FAILED_ATTRIBUTE_CHANGE, FAILED_EVENT
from backstory.engine.apply.addressee import FORGOTTEN, SUPPRESSED
from backstory.engine.apply.event import Events
from backstory.engine.context import Context
from backstory.store.tombstone import Gone

CLAIMED = "The anonymous_id belongs to a different profile."
KIND = "anonymous_id"


@dataclass(slots=True)
class Claimed:
    """What a claim has brought: the leaves that heard of it, and the events, which have started nothing yet."""

    touched: set[LeafKey] = field(default_factory=set[LeafKey])
    events: list[Event] = field(default_factory=list[Event])


class Claims:
    """Which anonymous id is whose; ``heirs`` move what else an anonymous id has: (anonymous id, person, now).

    They answer which leaves were told.
    """

    def __init__(self, context: Context, events: Events) -> None:
        self._context = context
        self._folder = context.folder
        self._events = events
        self.heirs: list[Callable[[str, int, int], set[LeafKey]]] = []

    def owner(self, anonymous_id: str) -> int | None:
        """Who has claimed an anonymous id."""
        found = "SELECT person FROM claim WHERE anonymous_id = ?"
        row = self._folder.state.db.execute(found, (anonymous_id,)).fetchone()
        return None if row is None else row[0]

    def refusal(self, anonymous_id: str, person: int | None) -> str:
        """Why a person (None: a new one) cannot claim an anonymous id; empty when they can, or have."""
        owner = self.owner(anonymous_id)
        if owner is not None:
            return "" if owner == person else CLAIMED
        return SUPPRESSED if self._folder.tombstones.blocked(KIND, anonymous_id) else ""

    def refused(self, person: int, anonymous_id: str, reason: str, now_us: int) -> None:
        """Leave a trace; of a suppressed id only that there was one."""
        value = "" if reason == SUPPRESSED else anonymous_id
        data = {KIND: {"reason": reason, "value": value}}
        self._context.activity(person, FAILED_ATTRIBUTE_CHANGE, now_us, now_us, data)

    def claim(self, person: int, anonymous_id: str, now_us: int) -> Claimed | None:
        """From now on what the anonymous id did and does is the person's; None when it is already.

        The caller settles the person, then has the events start what they start.
        """
        db = self._folder.state.db
        if self.owner(anonymous_id) is not None:
            return None
        db.execute("INSERT INTO claim VALUES (?, ?, ?)", (anonymous_id, person, now_us))
        rows = db.execute(
            "SELECT name, kind, time_us, data, event_id, timed FROM anonymous_event WHERE anonymous_id = ?"
            " ORDER BY seq",
            (anonymous_id,),
        ).fetchall()
        db.execute("DELETE FROM anonymous_event WHERE anonymous_id = ?", (anonymous_id,))
        self._context.activity(person, ANON_MERGE, now_us, now_us, {KIND: anonymous_id, "events": len(rows)})
        found = Claimed()
        for name, kind, time_us, data, event_id, timed in rows:
            fact = TrackAnonymous(
                anonymous_id=anonymous_id,
                name=name,
                kind=kind,
                data=data.encode(),
                time_us=time_us,
                event_id=event_id,
            )
            event = self._as_theirs(fact, person, now_us, timed=bool(timed))
            found.touched |= self._events.feed(event, now_us)
            found.events.append(event)
        for heir in self.heirs:
            found.touched |= heir(anonymous_id, person, now_us)
        return found

    def start(self, claimed: Claimed, now_us: int) -> None:
        """The person is settled: what was claimed starts what it starts."""
        for event in claimed.events:
            self._events.start(event, now_us)

    def _as_theirs(self, fact: TrackAnonymous, person: int, now_us: int, *, timed: bool) -> Event:
        key: int | None = None
        if fact.event_id is not None:
            key = id_key(fact.event_id)
        elif timed and fact.time_us is not None:
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
            import_id=0,
            duplicate=self._events.repeats(key, person, has_id=fact.event_id is not None),
        )

    def track(self, fact: TrackAnonymous, now_us: int) -> Receipt:
        """An anonymous event: its claimant's, or kept until somebody claims it."""
        if fact.anonymous_id is not None:
            fate = self._folder.tombstones.fate(KIND, fact.anonymous_id, fact.time_us)
            if isinstance(fate, Gone) and fate.hidden:
                self._context.activity(None, FAILED_EVENT, now_us, now_us, {"reason": FORGOTTEN})
                return Receipt("dropped", reason=FORGOTTEN)
            if isinstance(fate, Gone):
                return self._failed("older than the deletion of this person", fact, now_us)
            owner = self.owner(fact.anonymous_id)
            if owner is not None:
                timed = fact.time_us is not None
                return self._events.take(self._as_theirs(fact, owner, now_us, timed=timed), now_us)
            if self._folder.tombstones.blocked(KIND, fact.anonymous_id):
                data = {"reason": SUPPRESSED}
                self._context.activity(None, FAILED_EVENT, now_us, now_us, data)
                return Receipt("suppressed", reason=SUPPRESSED)
        self._keep(fact, now_us)
        return Receipt("applied")

    def _keep(self, fact: TrackAnonymous, now_us: int) -> None:
        self._folder.state.db.execute(
            "INSERT INTO anonymous_event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self._folder.state.take_seq(),
                fact.anonymous_id,
                fact.name,
                fact.kind,
                now_us if fact.time_us is None else fact.time_us,
                now_us,
                fact.data.decode(),
                fact.event_id,
                fact.time_us is not None,
            ),
        )

    def _failed(self, reason: str, fact: TrackAnonymous, now_us: int) -> Receipt:
        data = {"name": fact.name, "reason": reason, KIND: fact.anonymous_id}
        self._context.activity(None, FAILED_EVENT, fact.time_us or now_us, now_us, data)
        return Receipt("dropped", reason=reason)
