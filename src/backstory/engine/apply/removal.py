"""Removing people: delete, which forgets; suppress, which forgets and blocks; unsuppress, which frees.

A tombstone remembers until when an identifier named somebody. Of the suppressed only keyed hashes are kept, and what
is stored of their past is made unreadable. Source: design section 6, semantics section 1.6.
"""

from dataclasses import dataclass
from functools import partial

from backstory.core.fact import DeletePerson, Identifier, Receipt, SuppressPerson, UnsuppressPerson
from backstory.core.identity import normal
from backstory.core.trace import PROFILE_DELETE
from backstory.engine.apply.addressee import SUPPRESSED, Addressees
from backstory.engine.apply.record_feed import forget_records
from backstory.engine.apply.transition import Transitions
from backstory.engine.context import Audience, Context, identifiers_of
from backstory.store.forget import forget
from backstory.store.people import Profile, cio_id_of, person_of
from backstory.store.provenance import NAMES
from backstory.store.tombstone import Name

FORGOTTEN = {"forgotten": True}
# Where the names of those who went with an import are kept, as they are compared.
_WITHDRAWN = {"id": "id", "email": "email_key", "phone": "phone", "cio_id": "person"}


@dataclass(frozen=True, slots=True)
class _Withdrawn:
    """Somebody who went with an import: what named them, and how that was shown (id, email, phone)."""

    names: set[Name]
    shown: tuple[str | None, str | None, str | None]


class Removals:
    """On the loop's thread, inside its transaction."""

    def __init__(self, context: Context, transitions: Transitions, audience: Audience) -> None:
        self._context = context
        self._folder = context.folder
        self._segments = context.segments
        self._transitions = transitions
        self._audience = audience
        self._addressees = Addressees(context.folder)

    def delete(self, fact: DeletePerson, now_us: int) -> Receipt:
        """A person and their data go; facts timed before are refused from now on."""
        identifier = normal(fact.person)
        person = self._folder.people.find(identifier)
        if person is None:
            if self._addressees.blocked(identifier):
                return Receipt("suppressed", reason=SUPPRESSED)
            if self._bury_withdrawn({(identifier.kind, identifier.value)}, now_us):
                return Receipt("applied")
            return Receipt("skipped", reason="nobody has this identifier")
        profile = self._folder.people.profile(person)
        self._bury_withdrawn({*self._remove(profile, now_us), ("cio_id", cio_id_of(person))}, now_us)
        self._context.activity(person, PROFILE_DELETE, now_us, now_us, identifiers_of(profile))
        return Receipt("applied")

    def _remove(self, profile: Profile, now_us: int) -> list[Name]:
        """Take a person out of everything; returns what named them."""
        person = profile.person
        self._transitions.take(self._segments.forget(person, now_us), now_us)
        self._audience.on_delete(person, now_us)
        self._folder.definitions.forget_person(person)
        forget_records(self._folder, person)
        db = self._folder.state.db
        lost = self._lost(person)
        claims = db.execute("SELECT anonymous_id FROM claim WHERE person = ?", (person,)).fetchall()
        db.execute("DELETE FROM claim WHERE person = ?", (person,))
        for table in ("future", "withdrawn", "replaced"):
            db.execute(f"DELETE FROM {table} WHERE person = ?", (person,))
        names: list[Name] = [*profile.owned().items(), *(("anonymous_id", row[0]) for row in claims), *lost]
        shown = (profile.id, profile.email, profile.phone)
        self._folder.tombstones.bury(person, names, shown, now_us)
        self._folder.people.remove(person)
        return names

    def _lost(self, person: int) -> list[Name]:
        """What named somebody until an import was taken back, and names nobody else by now: it goes with them."""
        found = "SELECT id, email_key, phone FROM withdrawn WHERE person = ? AND NOT gone"
        row = self._folder.state.db.execute(found, (person,)).fetchone()
        names: list[Name] = [] if row is None else [(k, v) for k, v in zip(NAMES, row, strict=True) if v is not None]
        return [name for name in names if not self._taken(name)]

    def suppress(self, fact: SuppressPerson, now_us: int) -> Receipt:
        """A person is deleted, all that named them is blocked, and what is stored of them made unreadable."""
        identifier = normal(fact.person)
        person = self._folder.people.find(identifier)
        if person is None:
            return self._suppress_unknown(identifier, now_us)
        names = {*self._remove(self._folder.people.profile(person), now_us), ("cio_id", cio_id_of(person))}
        merged = self._folder.tombstones.merged_into(person)
        # What named those whom they had taken over is theirs too, where nobody else has it by now.
        former = set(self._folder.tombstones.names_of(merged)) - names
        self._hide(person, names | {name for name in former if not self._taken(name)}, [person, *merged], now_us)
        return Receipt("applied")

    def _suppress_unknown(self, identifier: Identifier, now_us: int) -> Receipt:
        """Nobody has the identifier; whoever was deleted with it is forgotten now."""
        if self._addressees.blocked(identifier):
            return Receipt("skipped", reason="the identifier is suppressed already")
        if identifier.kind == "cio_id":
            return Receipt("dropped", reason="nobody has this cio_id")
        name = (identifier.kind, identifier.value)
        # Blocked under a number of its own, which no person has.
        number = -self._folder.state.take_seq()
        self._folder.tombstones.await_purge([number], now_us)
        self._hide(number, {name}, self._folder.tombstones.owners(name), now_us)
        return Receipt("applied")

    def _hide(self, number: int, names: set[Name], people: list[int], now_us: int) -> None:
        """Block names, keep only hashes of all that named these people, and forget what is stored of them."""
        tombstones = self._folder.tombstones
        # Nobody comes back with an import under a name that is blocked; what they are called besides is blocked too.
        withdrawn = self._forget_withdrawn(names, now_us)
        names = names | {name for one in withdrawn.values() for name in one.names if not self._taken(name)}
        people = [*people, *withdrawn]
        tombstones.hide(number, people, names)
        tombstones.block(number, names, now_us)
        self._folder.tail.flush()
        tail = self._folder.tail
        forget(self._folder.state.db, tail, people, names)
        self._context.after_commit += [partial(tail.forget_taken, one) for one in people]
        self._context.activity(None, PROFILE_DELETE, now_us, now_us, FORGOTTEN)

    def _bury_withdrawn(self, names: set[Name], now_us: int) -> bool:
        """The same of who is deleted: facts about them that are older are refused, as of anybody deleted."""
        gone = self._forget_withdrawn(names, now_us)
        for person, one in gone.items():
            buried = [name for name in one.names if name[0] != "cio_id"]
            self._folder.tombstones.bury(person, buried, one.shown, now_us)
            identifiers = {"id": one.shown[0], "email": one.shown[1], "cio_id": cio_id_of(person)}
            self._context.activity(person, PROFILE_DELETE, now_us, now_us, identifiers)
        return bool(gone)

    def _forget_withdrawn(self, names: set[Name], now_us: int) -> dict[int, "_Withdrawn"]:
        """Whoever went with an import and was called so does not come back with it; returns them and their names.

        Somebody who is there, but lost such a name with an import, does not get it again.
        """
        db, gone = self._folder.state.db, dict[int, _Withdrawn]()
        for kind, value in names:
            column = _WITHDRAWN.get(kind)
            if column is None:
                continue
            sought = person_of(value) if kind == "cio_id" else value
            found = f"SELECT person, gone, email, id, email_key, phone FROM withdrawn WHERE {column} = ?"
            for person, went, email, *owned in db.execute(found, (sought,)).fetchall():
                if went:
                    theirs = {(one, name) for one, name in zip(NAMES, owned, strict=True) if name is not None}
                    gone[person] = _Withdrawn({*theirs, ("cio_id", cio_id_of(person))}, (owned[0], email, owned[2]))
                elif kind in NAMES:
                    key = ", email_key = NULL" if kind == "email" else ""
                    db.execute(f"UPDATE withdrawn SET {kind} = NULL{key}, unsure = 1 WHERE person = ?", (person,))
        for person in gone:
            for table in ("withdrawn", "replaced"):
                db.execute(f"DELETE FROM {table} WHERE person = ?", (person,))
            self._folder.record_writes.forget_person(person)
            self._folder.definitions.forget_person(person)
        self._folder.tombstones.await_purge(gone, now_us)
        return gone

    def _taken(self, name: Name) -> bool:
        kind, value = name
        if kind == "anonymous_id":
            found = self._folder.state.db.execute("SELECT 1 FROM claim WHERE anonymous_id = ?", (value,)).fetchone()
            return found is not None
        return self._folder.people.find(Identifier(kind, value)) is not None  # pyright: ignore[reportArgumentType]

    def unsuppress(self, fact: UnsuppressPerson, now_us: int) -> Receipt:
        """One name is free again, not those blocked with it; facts timed before the suppression stay out."""
        identifier = normal(fact.person)
        if not self._folder.tombstones.free(identifier.kind, identifier.value):
            return Receipt("skipped", reason="the identifier is not suppressed")
        return Receipt("applied")
