"""People in ``state.db``: identifiers, documents, tombstones. Used by the loop's thread only."""

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat

from backstory.core.fact import Identifier, IdentifierKind
from backstory.core.person import Document, decode_document, encode_document

CACHE_ROWS = 200_000
CIO_ID_BASE = 0xA3000001

_INSERT = "INSERT INTO person VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_BY_ID = "SELECT person FROM person WHERE id = ?"
_BY_EMAIL = "SELECT person FROM person WHERE email_key = ?"


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
    created_us: int

    def owned(self) -> dict[IdentifierKind, str]:
        """The identifiers set, in the form in which they are compared."""
        owned: dict[IdentifierKind, str] = {}
        if self.id is not None:
            owned["id"] = self.id
        if self.email is not None:
            owned["email"] = self.email.strip().lower()
        return owned


class People:
    """Look-ups and writes; every write happens inside the loop's transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._cache: OrderedDict[str, int] = OrderedDict()
        # Goes up whenever who has which identifier changes, so that look-ups made elsewhere can be told stale.
        self.version = 0
        # Goes up when an identifier that named somebody names them no more.
        self.renamed = 0

    def forget_cache(self) -> None:
        """After a rollback, or after people came in bulk."""
        self._cache.clear()

    def find(self, identifier: Identifier) -> int | None:
        """The person with this (normal) identifier."""
        kind, value = identifier.kind, identifier.value
        if kind == "cio_id":
            number = person_of(value)
            if number is None:
                return None
            row = self._db.execute("SELECT person FROM person WHERE person = ?", (number,)).fetchone()
            return None if row is None else row[0]
        name = kind + value
        cached = self._cache.get(name)
        if cached is not None:
            return cached
        row = self._db.execute(_BY_ID if kind == "id" else _BY_EMAIL, (value,)).fetchone()
        if row is None:
            return None
        self._remember(name, row[0])
        return row[0]

    def _remember(self, name: str, person: int) -> None:
        self._cache[name] = person
        if len(self._cache) > CACHE_ROWS:
            self._cache.popitem(last=False)

    def profile(self, person: int) -> Profile:
        query = "SELECT person, id, email, created_us FROM person WHERE person = ?"
        row = self._db.execute(query, (person,)).fetchone()
        return Profile(*row)

    def document(self, person: int) -> Document:
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
        email = named.get("email")
        self._db.execute(
            _INSERT,
            (
                person,
                named.get("id"),
                email,
                email.strip().lower() if email is not None else None,
                created_us,
                accept_us,
                import_id,
                encode_document(document),
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
        self._db.executemany(
            _INSERT,
            zip(people, ids, emails, email_keys, created_us, repeat(accept_us), repeat(import_id), documents),
        )

    def assign(self, person: int, identifiers: tuple[Identifier, ...]) -> None:
        """Give a person identifiers, in place of any of the same kind."""
        owned = self.profile(person).owned()
        if any(identifier.kind in owned for identifier in identifiers):
            self.renamed += 1
        for identifier in identifiers:
            if identifier.kind == "id":
                self._db.execute("UPDATE person SET id = ? WHERE person = ?", (identifier.value, person))
            else:
                key = identifier.value.strip().lower()
                self._db.execute(
                    "UPDATE person SET email = ?, email_key = ? WHERE person = ?", (identifier.value, key, person)
                )
        self.version += 1
        self._cache.clear()

    def set_document(self, person: int, document: Document) -> None:
        self._db.execute("UPDATE person SET document = ? WHERE person = ?", (encode_document(document), person))

    def set_documents(self, documents: Iterable[tuple[bytes, int]]) -> None:
        """Documents as they are stored, each with its person."""
        self._db.executemany("UPDATE person SET document = ? WHERE person = ?", documents)

    def set_created(self, person: int, created_us: int) -> None:
        self._db.execute("UPDATE person SET created_us = min(created_us, ?) WHERE person = ?", (created_us, person))

    def delete(self, profile: Profile, deleted_us: int) -> None:
        """The person goes; what names them is kept to refuse older facts."""
        self._db.execute("DELETE FROM person WHERE person = ?", (profile.person,))
        self._db.execute(
            "INSERT INTO deleted VALUES (?, ?, ?, ?)", (profile.person, profile.id, profile.email, deleted_us)
        )
        for kind, value in profile.owned().items():
            self._db.execute(
                "INSERT OR REPLACE INTO tombstone VALUES (?, ?, ?, ?)", (kind, value, deleted_us, profile.person)
            )
        self.version += 1
        self.renamed += 1
        self._cache.clear()

    def deleted_us(self, identifier: Identifier) -> int | None:
        """When the identifier's last owner was deleted."""
        row = self._db.execute(
            "SELECT deleted_us FROM tombstone WHERE kind = ? AND value = ?", (identifier.kind, identifier.value)
        ).fetchone()
        return None if row is None else row[0]
