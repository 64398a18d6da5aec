"""Who named whom: the identifiers by which each import, and anybody else, has named the people imports brought.

An import is taken back as if it had never been, so it must be known which people and identifiers came of it alone.
Imports name millions, so each keeps bitmaps of people, stored with its chunks. Others than imports are only noted
where it matters: the first time they name somebody by an identifier that an import gave. Used by the loop's thread.
"""

import sqlite3
from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from backstory.core.fact import IdentifierKind
from backstory.store.database import insert_rows

NAMES: tuple[IdentifierKind, ...] = ("id", "email", "phone")
KINDS: tuple[IdentifierKind, ...] = ("id", "email", "phone", "cio_id")
# Where it is stored whose identifiers are confirmed; the second table is folded into the first at so many rows.
CONFIRMED = ("confirmed", "confirmed_newly")
FOLD_ROWS = 10_000
Named = dict[IdentifierKind, BitMap]


class Namings:
    """Every write happens inside the loop's transaction; ``source`` is the import on whose behalf the loop works."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        # 0: live calls, and whatever else is no import.
        self.source = 0
        self._named: dict[int, Named] = {}
        self._given: dict[int, Named] = {}
        # Whose identifiers came with imports, and nobody else has named yet.
        self._unconfirmed: Named = _nobody()
        self._dirty: set[tuple[int, IdentifierKind]] = set()
        for import_id, kind, named, given in db.execute("SELECT import_id, kind, named, given FROM naming"):
            self._of(self._named, import_id)[kind] = BitMap.deserialize(named)
            self._of(self._given, import_id)[kind] = BitMap.deserialize(given)
        for given in self._given.values():
            for kind, people in given.items():
                self._unconfirmed[kind] |= people
        for table in CONFIRMED:
            for kind, person in db.execute(f"SELECT kind, person FROM {table}"):
                self._unconfirmed[kind].discard(person)
        # What this transaction has confirmed.
        self._fresh: list[tuple[IdentifierKind, int]] = []
        self._newly: int = db.execute("SELECT count(*) FROM confirmed_newly").fetchone()[0]

    @staticmethod
    def _of(where: dict[int, Named], import_id: int) -> Named:
        return where.setdefault(import_id, _nobody())

    # -- naming -------------------------------------------------------------------------------------------------

    def heard(self, kind: IdentifierKind, person: int) -> None:
        """Somebody was found by an identifier."""
        if self.source:
            self._of(self._named, self.source)[kind].add(person)
            self._dirty.add((self.source, kind))
        elif person in self._unconfirmed[kind]:
            self.confirm(kind, person)

    @property
    def unheard(self) -> list[IdentifierKind]:
        """The kinds of identifiers of which there are some that imports alone have named."""
        return [kind for kind, people in self._unconfirmed.items() if people]

    def heard_all(self, kind: IdentifierKind, people: Sequence[int]) -> None:
        """The same of many at once, who were found by others than imports."""
        if people and self._unconfirmed[kind]:
            self._confirm(kind, self._unconfirmed[kind] & BitMap(people))

    def confirm(self, kind: IdentifierKind, person: int) -> None:
        """The identifier is not an import's alone any more, and neither is the person."""
        both: tuple[IdentifierKind, ...] = (kind, "cio_id")
        for one in both:
            if person in self._unconfirmed[one]:
                self._unconfirmed[one].discard(person)
                self._fresh.append((one, person))

    def _confirm(self, kind: IdentifierKind, people: BitMap) -> None:
        both: tuple[IdentifierKind, ...] = (kind, "cio_id")
        for one in both:
            fresh = self._unconfirmed[one] & people
            self._unconfirmed[one] -= fresh
            self._fresh.extend((one, person) for person in fresh)

    def write_confirmed(self) -> None:
        """At the end of each transaction: store what was confirmed in it."""
        if not self._fresh:
            return
        insert_rows(self._db, "INSERT INTO confirmed_newly", "(?, ?)", self._fresh)
        self._newly += len(self._fresh)
        self._fresh.clear()
        if self._newly >= FOLD_ROWS:
            self._fold()

    def _fold(self) -> None:
        # In order, so that each page is written to once.
        fold = "INSERT OR IGNORE INTO confirmed SELECT kind, person FROM confirmed_newly ORDER BY kind, person"
        self._db.execute(fold)
        self._db.execute("DELETE FROM confirmed_newly")
        self._newly = 0

    def heard_many(self, kind: IdentifierKind, people: Iterable[int] | NDArray[np.uint32]) -> None:
        """An import named these people."""
        self._of(self._named, self.source)[kind] |= BitMap(people)
        self._dirty.add((self.source, kind))

    def gave_many(self, kind: IdentifierKind, people: Iterable[int] | NDArray[np.uint32]) -> None:
        """An import gave these people such an identifier, or (``cio_id``) made them."""
        given = BitMap(people)
        self._of(self._named, self.source)[kind] |= given
        self._of(self._given, self.source)[kind] |= given
        self._unconfirmed[kind] |= given
        self._dirty.add((self.source, kind))

    def replaced(self, person: int, kind: IdentifierKind, value: str, given: str) -> None:
        """An import gives an identifier in place of this one."""
        self._db.execute(
            "INSERT INTO replaced VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET given = excluded.given",
            (self.source, person, kind, value, given),
        )
        # Whoever used the one before has not used this one.
        self.write_confirmed()
        for table in CONFIRMED:
            self._db.execute(f"DELETE FROM {table} WHERE kind = ? AND person = ?", (kind, person))

    def flush(self) -> None:
        """Inside the transaction of a chunk: store what imports have named since."""
        for import_id, kind in self._dirty:
            named, given = self._of(self._named, import_id)[kind], self._of(self._given, import_id)[kind]
            for people in (named, given):
                people.run_optimize()
            self._db.execute(
                "INSERT OR REPLACE INTO naming VALUES (?, ?, ?, ?)",
                (import_id, kind, named.serialize(), given.serialize()),
            )
        self._dirty.clear()

    # -- taking back --------------------------------------------------------------------------------------------

    def named_by(self, import_id: int, kind: IdentifierKind) -> BitMap:
        """Whom an import has named so."""
        return BitMap(self._named.get(import_id, _nobody())[kind])

    def named(self, import_id: int) -> BitMap:
        """Whom an import has named, by whatever identifier."""
        people = BitMap()
        for some in self._named.get(import_id, _nobody()).values():
            people |= some
        return people

    def given_names(self, import_id: int) -> BitMap:
        """Everybody to whom an import gave an identifier."""
        given = self._given.get(import_id, _nobody())
        return given["id"] | given["email"] | given["phone"]

    def lost(self, kind: IdentifierKind, standing: Collection[int], among: BitMap | None = None) -> BitMap:
        """Whose identifiers came of imports that do not count, and were named by nobody else; ``among``: of these."""
        unconfirmed = self._unconfirmed[kind] if among is None else self._unconfirmed[kind] & among
        people = BitMap()
        for import_id, given in self._given.items():
            if import_id not in standing:
                people |= given[kind] & unconfirmed
        for import_id, named in self._named.items():
            if import_id in standing:
                people -= named[kind]
        return people

    def orphans(self, standing: Collection[int], among: BitMap | None = None) -> BitMap:
        """The people whom imports that do not count have made, and whom nobody else has named by anything."""
        people = self.lost("cio_id", standing, among)
        for import_id, named in self._named.items():
            if import_id in standing:
                for kind in NAMES:
                    people -= named[kind]
        return people

    def unconfirmed(self, kind: IdentifierKind, person: int) -> bool:
        """Did imports give somebody their identifier, and nobody else has used it?"""
        return person in self._unconfirmed[kind]

    def gave(self, import_id: int, kind: IdentifierKind, person: int) -> bool:
        """Did an import give somebody such an identifier?"""
        return person in self._given.get(import_id, _nobody())[kind]

    def givers(self, kind: IdentifierKind, person: int) -> list[int]:
        """The imports that gave somebody such an identifier."""
        return sorted(import_id for import_id, given in self._given.items() if person in given[kind])

    def forget(self, import_id: int) -> None:
        """An import is purged: it names nobody."""
        self._named.pop(import_id, None)
        self._given.pop(import_id, None)
        self._db.execute("DELETE FROM naming WHERE import_id = ?", (import_id,))


def _nobody() -> Named:
    return {kind: BitMap() for kind in KINDS}
