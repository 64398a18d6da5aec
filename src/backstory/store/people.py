"""People in ``state.db``: identifiers and documents. Used by the loop's thread only."""

import sqlite3
from collections import OrderedDict
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat

import msgspec

from backstory.core.fact import Identifier, IdentifierKind
from backstory.core.identity import normal
from backstory.core.person import Document, Written, decode_document, encode_document, is_repeatable, repeated
from backstory.store.database import among, insert_rows
from backstory.store.knowledge import Knowledge
from backstory.store.provenance import Namings
from backstory.store.recent import RECENT_BYTES, Recent, RecentDocuments, mark

CACHE_ROWS = 200_000
CIO_ID_BASE = 0xA3000001

INSERT_PERSON = (
    "INSERT INTO person (person, id, email, email_key, created_us, accept_us, import_id, document, phone)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_PLAIN = "INSERT INTO person (person, id, email, email_key, created_us, accept_us, import_id, document)"
# The columns of a ``Profile``, in its order.
PROFILE_COLUMNS = "person, id, email, phone, created_us"
# Where each kind of identifier is found, in the form in which it is compared.
COLUMN_OF: dict[IdentifierKind, str] = {"id": "id", "email": "email_key", "phone": "phone", "cio_id": "person"}
_FIND = {kind: f"SELECT person FROM person WHERE {column} = ?" for kind, column in COLUMN_OF.items()}
_FIND_IDS = "SELECT id, person FROM person WHERE id IN (SELECT value FROM json_each(CAST(? AS TEXT)))"
_encode = msgspec.json.Encoder().encode


def people_known(db: sqlite3.Connection, known: Knowledge, person: int | None = None) -> list[tuple[int, int]]:
    """(person, accept time) of those who had been made by a moment, or of one of them, in order.

    Whom an import made that was taken back since, another fact makes now.
    """
    rows = f"SELECT person, accept_us FROM person WHERE true{known.told()}"
    if known.as_then:
        made = known.told(source="creator")
        rows += f" UNION ALL SELECT person, accept_us FROM withdrawn WHERE NOT gone{made}"
    query = f"SELECT person, min(accept_us) FROM ({rows}) WHERE ?1 IS NULL OR person = ?1 GROUP BY 1 ORDER BY 1"
    return db.execute(query, (person,)).fetchall()


def cio_id_of(person: int) -> str:
    """The identifier we assign: immutable, short hexadecimal."""
    return f"{CIO_ID_BASE + person:x}"


def person_of(cio_id: str) -> int | None:
    """The person number behind a cio_id, None when it cannot be one."""
    try:
        number = int(cio_id, 16) - CIO_ID_BASE
    except ValueError:
        return None
    return number if 0 <= number < 1 << 32 and cio_id_of(number) == cio_id else None


@dataclass(frozen=True, slots=True)
class Profile:
    """A person as stored, without the document."""

    person: int
    id: str | None
    email: str | None
    phone: str | None
    created_us: int

    def owned(self) -> dict[IdentifierKind, str]:
        """The identifiers set, in the form in which they are compared."""
        owned: dict[IdentifierKind, str] = {}
        if self.id is not None:
            owned["id"] = self.id
        if self.email is not None:
            owned["email"] = self.email.strip().lower()
        if self.phone is not None:
            owned["phone"] = self.phone
        return owned

    def names(self) -> tuple[Identifier, ...]:
        """The identifiers set, in the form in which they are compared, and the one we give."""
        owned = (Identifier(kind, value) for kind, value in self.owned().items())
        return (*owned, Identifier("cio_id", cio_id_of(self.person)))

    def identifiers(self) -> tuple[Identifier, ...]:
        """The identifiers set, as they were sent."""
        named: tuple[tuple[IdentifierKind, str | None], ...] = (
            ("id", self.id), ("email", self.email), ("phone", self.phone),
        )
        return tuple(Identifier(kind, value) for kind, value in named if value is not None)


class People:
    """Look-ups and writes; every write happens inside the loop's transaction."""

    def __init__(self, db: sqlite3.Connection, namings: Namings, *, recent_bytes: int = RECENT_BYTES) -> None:
        self._db = db
        self._namings = namings
        self._cache: OrderedDict[str, int] = OrderedDict()
        self._recent = RecentDocuments(recent_bytes)
        # Documents that are still to be written in the transaction under way; only while they are ``gathered``.
        self._waiting: dict[int, bytes] = {}
        self._gathering = False
        # Goes up whenever who has which identifier changes, so that look-ups made elsewhere can be told stale.
        self.version = 0
        # Goes up when an identifier that named somebody names them no more.
        self.renamed = 0

    def forget_cache(self) -> None:
        """After a rollback, or after people came in bulk."""
        self._cache.clear()
        self._recent.clear()
        self._waiting.clear()

    @contextmanager
    def gathered(self) -> Generator[None]:
        """Inside a transaction: documents set meanwhile are written together, at the end.

        A statement for each lets go of the interpreter lock, and where other threads want it, each time is a wait.
        Meanwhile only this class may look for documents in the table.
        """
        self._gathering = True
        try:
            yield
        finally:
            self._gathering = False
        self._write_waiting()

    def _write_waiting(self) -> None:
        if self._waiting:
            documents = [(self._waiting[person], person) for person in sorted(self._waiting)]
            self._waiting.clear()
            self._update(documents)

    def find(self, identifier: Identifier) -> int | None:
        """The person with this (normal) identifier; who is found counts as named by it."""
        person = self._find(identifier)
        if person is not None:
            self._namings.heard(identifier.kind, person)
        return person

    def _find(self, identifier: Identifier) -> int | None:
        kind, value = identifier.kind, identifier.value
        if kind == "cio_id":
            number = person_of(value)
            if number is None:
                return None
            row = self._db.execute(_FIND[kind], (number,)).fetchone()
            return None if row is None else row[0]
        name = kind + value
        cached = self._cache.get(name)
        if cached is not None:
            return cached
        row = self._db.execute(_FIND[kind], (value,)).fetchone()
        if row is None:
            return None
        self._remember(name, row[0])
        return row[0]

    def find_many(self, identifiers: Sequence[Identifier]) -> list[int | None]:
        """The people with these identifiers, as they were sent; see ``hear`` for who counts as named by them."""
        cached = self._cache
        found = [cached.get("id" + one.value) if one.kind == "id" else None for one in identifiers]
        unknown = [one for one, person in zip(identifiers, found, strict=True) if person is None]
        asked = {one.value for one in unknown if one.kind == "id"}
        new: dict[str, int] = dict(self._db.execute(_FIND_IDS, (_encode(list(asked)),)).fetchall()) if asked else {}
        for value, person in new.items():
            self._remember("id" + value, person)
        return [
            person if person is not None else new.get(one.value) if one.kind == "id" else self._find(normal(one))
            for one, person in zip(identifiers, found, strict=True)
        ]

    @property
    def listening(self) -> bool:
        """Does it matter who is meant by an identifier (``hear``)?"""
        return bool(self._namings.unheard)

    def hear(self, identifiers: Sequence[Identifier], people: Sequence[int]) -> None:
        """These people, found together, were meant by these identifiers."""
        for kind in self._namings.unheard:
            self._namings.heard_all(
                kind, [person for one, person in zip(identifiers, people, strict=True) if one.kind == kind]
            )

    def _remember(self, name: str, person: int) -> None:
        self._cache[name] = person
        if len(self._cache) > CACHE_ROWS:
            self._cache.popitem(last=False)

    def exists(self, person: int) -> bool:
        """Is there (still) a person with this number?"""
        return self._db.execute("SELECT 1 FROM person WHERE person = ?", (person,)).fetchone() is not None

    def profile(self, person: int) -> Profile:
        query = f"SELECT {PROFILE_COLUMNS} FROM person WHERE person = ?"
        row = self._db.execute(query, (person,)).fetchone()
        return Profile(*row)

    def read_many(self, people: Sequence[int]) -> dict[int, tuple[Profile, Document]]:
        """The profiles and documents of people who exist."""
        self._write_waiting()
        query = f"SELECT {PROFILE_COLUMNS}, document FROM person WHERE {among(people, 'person')}"
        rows = self._db.execute(query).fetchall()
        return {row[0]: (Profile(*row[:-1]), decode_document(row[-1])) for row in rows}

    def document(self, person: int) -> Document:
        recent = self._recent.get(person)
        if recent is not None:
            return decode_document(recent.body)
        waiting = self._waiting.get(person)
        if waiting is not None:
            return decode_document(waiting)
        row = self._db.execute("SELECT document FROM person WHERE person = ?", (person,)).fetchone()
        return decode_document(row[0])

    def insert(
        self,
        person: int,
        identifiers: tuple[Identifier, ...],
        document: Document,
        *,
        created_us: int,
        accept_us: int,
        import_id: int,
    ) -> None:
        self.version += 1
        named = {identifier.kind: identifier.value for identifier in identifiers}
        if self._namings.source:
            for identifier in identifiers:
                self._namings.gave_many(identifier.kind, [person])
            self._namings.gave_many("cio_id", [person])
        email = named.get("email")
        self._db.execute(
            INSERT_PERSON,
            (
                person,
                named.get("id"),
                email,
                email.strip().lower() if email is not None else None,
                created_us,
                accept_us,
                import_id,
                encode_document(document),
                named.get("phone"),
            ),
        )

    def insert_many(
        self,
        people: Iterable[int],
        ids: Iterable[str | None],
        emails: Iterable[str | None],
        email_keys: Iterable[str | None],
        *,
        created_us: Iterable[int],
        accept_us: int,
        import_id: int,
        documents: Iterable[bytes],
    ) -> None:
        """Insert people whose identifiers nobody has; raises ``sqlite3.IntegrityError`` where somebody does."""
        self.version += 1
        rows = zip(people, ids, emails, email_keys, created_us, repeat(accept_us), repeat(import_id), documents)
        insert_rows(self._db, _INSERT_PLAIN, "(?, ?, ?, ?, ?, ?, ?, ?)", list(rows))

    def assign(self, person: int, identifiers: tuple[Identifier, ...]) -> None:
        """Give a person identifiers, in place of any of the same kind."""
        profile = self.profile(person)
        owned = profile.owned()
        if any(identifier.kind in owned for identifier in identifiers):
            self.renamed += 1
        self._note_given(profile, identifiers)
        for identifier in identifiers:
            if identifier.kind != "email":
                query = f"UPDATE person SET {COLUMN_OF[identifier.kind]} = ? WHERE person = ?"
                self._db.execute(query, (identifier.value, person))
            else:
                key = identifier.value.strip().lower()
                self._db.execute(
                    "UPDATE person SET email = ?, email_key = ? WHERE person = ?", (identifier.value, key, person)
                )
        self.version += 1
        self._cache.clear()

    def _note_given(self, profile: Profile, identifiers: tuple[Identifier, ...]) -> None:
        person, before = profile.person, {one.kind: one.value for one in profile.identifiers()}
        for identifier in identifiers:
            if not self._namings.source:
                self._namings.confirm(identifier.kind, person)
                continue
            if identifier.kind in before:
                self._namings.replaced(person, identifier.kind, before[identifier.kind], identifier.value)
            self._namings.gave_many(identifier.kind, [person])

    def restore(self, person: int, kind: IdentifierKind, value: str) -> None:
        """Give a person an identifier that nobody has, without anybody having named it."""
        if kind == "email":
            found = "UPDATE person SET email = ?, email_key = ? WHERE person = ?"
            self._db.execute(found, (value, value.strip().lower(), person))
        else:
            self._db.execute(f"UPDATE person SET {COLUMN_OF[kind]} = ? WHERE person = ?", (value, person))
        self.version += 1
        self._cache.clear()

    def unassign(self, person: int, kinds: Iterable[IdentifierKind]) -> None:
        """Take identifiers of these kinds from a person."""
        for kind in kinds:
            columns = "email = NULL, email_key = NULL" if kind == "email" else f"{COLUMN_OF[kind]} = NULL"
            self._db.execute(f"UPDATE person SET {columns} WHERE person = ?", (person,))
        self.version += 1
        self.renamed += 1
        self._cache.clear()

    def set_document(self, person: int, document: Document) -> None:
        self._set(person, Recent(encode_document(document)))

    def set_written(self, person: int, document: Document, written: Written, said: bytes, said_us: int) -> None:
        """A document to which some attributes were written, and their JSON."""
        body = encode_document(document)
        again = is_repeatable(body, written, said_us)
        self._set(person, Recent(body, mark(said), said_us) if again else Recent(body))

    def repeat(self, person: int, said: bytes, said_us: int) -> bool:
        """Write once more, later, what was written last; False: it was something else, or that is not known.

        The outcome is that of ``core.person.write``, which would change nothing but times.
        """
        recent = self._recent.get(person)
        if recent is None or recent.said is None or recent.said != mark(said):
            return False
        body = repeated(recent.body, recent.said_us, said_us)
        if body is None:
            return False
        self._set(person, Recent(body, recent.said, said_us))
        return True

    def _set(self, person: int, recent: Recent) -> None:
        if self._gathering:
            self._waiting[person] = recent.body
        else:
            self._db.execute("UPDATE person SET document = ? WHERE person = ?", (recent.body, person))
        self._recent.put(person, recent)

    def set_documents(self, documents: Sequence[tuple[bytes, int]]) -> None:
        """Documents as they are stored, each with its person, who must exist."""
        self._write_waiting()
        self._recent.clear()
        self._update(documents)

    def _update(self, documents: Sequence[tuple[bytes, int]]) -> None:
        # Nobody is inserted; but so many are updated by one statement, at three quarters of what one for each costs.
        insert_rows(
            self._db,
            "INSERT INTO person (document, person, created_us, accept_us, import_id)",
            "(?, ?, 0, 0, 0)",
            documents,
            then="ON CONFLICT (person) DO UPDATE SET document = excluded.document",
        )

    def remove(self, person: int) -> None:
        """The person goes; what is to be remembered of them is written elsewhere."""
        self._db.execute("DELETE FROM person WHERE person = ?", (person,))
        self._recent.drop(person)
        self._waiting.pop(person, None)
        self.version += 1
        self.renamed += 1
        self._cache.clear()
