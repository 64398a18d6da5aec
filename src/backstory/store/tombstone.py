"""Tombstones in ``state.db``: until when identifiers named people who are gone, and who has taken over whom.

A fact *timed* before somebody was deleted is not told of whoever has the identifier now: it is refused. Timed before
a merge, it goes to the survivor (design section 6). Of suppressed people only keyed hashes are kept.
Used by the loop's thread only.
"""

import hmac
import os
import sqlite3
from collections.abc import Callable, Iterable
from typing import Literal

NEVER_BEFORE_US = -(1 << 62)
# What a name is hashed under: the kinds of identifiers, and what a browser is known by.
Kind = Literal["id", "email", "phone", "cio_id", "anonymous_id"]
Name = tuple[str, str]
_SECRET = "suppression_key"


class Gone:
    """Who was meant is gone for good: they were deleted at ``at_us``, after the fact's own time.

    ``hidden``: only a hash of the name is kept, so no trace may say it.
    """

    __slots__ = ("at_us", "hidden")

    def __init__(self, at_us: int, *, hidden: bool = False) -> None:
        self.at_us = at_us
        self.hidden = hidden


class Tombstones:
    """Look-ups and writes; every write happens inside the loop's transaction."""

    def __init__(self, db: sqlite3.Connection, now_us: Callable[[], int]) -> None:
        self._db = db
        self._now_us = now_us
        self._secret: bytes | None = None
        # No fact with a time from here on can meet a tombstone: most need no look-up.
        self.latest_us = NEVER_BEFORE_US
        # How many people are gone, to tell whether somebody went since.
        self.count = 0
        # Was anybody ever suppressed, and is anybody now?
        self.hiding = False
        self.blocking = False
        self.refresh()

    def refresh(self) -> None:
        """Read again what is kept in memory."""
        rows = self._db.execute(
            "SELECT max(deleted_us) FROM tombstone UNION ALL SELECT max(at_us) FROM suppressed"
        ).fetchall()
        self.latest_us = max((row[0] for row in rows if row[0] is not None), default=NEVER_BEFORE_US)
        self.count = self._db.execute("SELECT count(*) FROM deleted").fetchone()[0]
        self.hiding = self._db.execute("SELECT 1 FROM suppressed LIMIT 1").fetchone() is not None
        self.blocking = self._db.execute("SELECT 1 FROM suppressed WHERE blocked LIMIT 1").fetchone() is not None

    @property
    def any(self) -> bool:
        """May a name mean another than who has it now?"""
        return bool(self.count) or self.hiding

    # -- the gone -----------------------------------------------------------------------------------------------

    def bury(
        self, person: int, names: Iterable[Name], shown: tuple[str | None, str | None, str | None], at_us: int,
        *, survivor: int | None = None, suppressed: bool = False,
    ) -> None:
        """Remember somebody who goes. ``names`` are in the form in which they are compared, ``shown`` as sent."""
        self._db.execute(
            "INSERT INTO deleted VALUES (?, ?, ?, ?, ?, ?, ?)", (person, *shown, at_us, survivor, suppressed)
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO tombstone VALUES (?, ?, ?, ?, ?)",
            [(kind, value, at_us, person, survivor) for kind, value in names],
        )
        if survivor is None:
            self.await_purge((person, *self.merged_into(person)), at_us)
        else:
            # Whoever they had taken over goes along, so that one look-up is enough.
            self._db.execute("UPDATE deleted SET survivor = ? WHERE survivor = ?", (survivor, person))
            self._db.execute("UPDATE tombstone SET survivor = ? WHERE survivor = ?", (survivor, person))
            self._db.execute("UPDATE suppressed SET survivor = ? WHERE survivor = ?", (survivor, person))
        self.latest_us = max(self.latest_us, at_us)
        self.count += 1

    def await_purge(self, numbers: Iterable[int], at_us: int) -> None:
        """Their data are to go by a set time from ``at_us`` on."""
        self._db.executemany(
            "INSERT INTO purge VALUES (?, ?, 0, NULL)"
            " ON CONFLICT (number) DO UPDATE SET again_us = excluded.gone_us WHERE stage > 0",
            [(one, at_us) for one in numbers],
        )

    def _named_again(self, hashed: bytes) -> None:
        """A call names somebody of whom only a hash is kept: what the journal has of it is to go by a set time, too."""
        numbers = self._db.execute("SELECT DISTINCT number FROM suppressed WHERE hash = ?", (hashed,)).fetchall()
        self.await_purge([row[0] for row in numbers], self._now_us())

    def fate(self, kind: str, value: str, time_us: int | None) -> int | Gone | None:
        """Whom a (normal) name meant at a moment of the past, if they are gone: the survivor's number, or nobody.

        None: whoever has the name now is meant. The survivor may be gone too.
        """
        if time_us is None or time_us >= self.latest_us:
            return None
        row = self._db.execute(
            "SELECT deleted_us, survivor FROM tombstone WHERE kind = ? AND value = ? AND deleted_us > ?"
            " ORDER BY deleted_us LIMIT 1",
            (kind, value, time_us),
        ).fetchone()
        hidden = self._hidden(kind, value, time_us) if self.hiding else None
        if hidden is not None and (row is None or hidden[0] <= row[0]):
            return Gone(hidden[0], hidden=True) if hidden[1] is None else hidden[1]
        if row is None:
            return None
        return Gone(row[0]) if row[1] is None else row[1]

    def _hidden(self, kind: str, value: str, time_us: int) -> tuple[int, int | None] | None:
        """The same of which only hashes are kept."""
        found = "SELECT at_us, survivor FROM suppressed WHERE hash = ? AND at_us > ? ORDER BY at_us LIMIT 1"
        hashed = self.hashed(kind, value)
        row = self._db.execute(found, (hashed, time_us)).fetchone()
        if row is not None:
            self._named_again(hashed)
        return row

    def merged_into(self, person: int) -> list[int]:
        """Everybody whom a person has taken over."""
        rows = self._db.execute("SELECT person FROM deleted WHERE survivor = ? ORDER BY person", (person,))
        return [row[0] for row in rows]

    def survivor(self, person: int) -> int | None:
        """Who has taken over a person who is gone."""
        row = self._db.execute("SELECT survivor FROM deleted WHERE person = ?", (person,)).fetchone()
        return None if row is None else row[0]

    # -- the suppressed -----------------------------------------------------------------------------------------

    def hashed(self, kind: str, value: str) -> bytes:
        """The keyed hash of a (normal) name: without the workspace's secret nobody can tell what it is of."""
        if self._secret is None:
            self._secret = read_secret(self._db) or self._new_secret()
        return hashed_name(self._secret, kind, value)

    def _new_secret(self) -> bytes:
        secret = os.urandom(32)
        self._db.execute("INSERT INTO meta VALUES (?, ?)", (_SECRET, secret))
        return secret

    def blocked(self, kind: str, value: str) -> bool:
        """Is a (normal) name suppressed?"""
        if not self.blocking:
            return False
        hashed = self.hashed(kind, value)
        if self._db.execute("SELECT 1 FROM suppressed WHERE hash = ? AND blocked", (hashed,)).fetchone() is None:
            return False
        self._named_again(hashed)
        return True

    def hidden_among(self, kind: str, values: Iterable[str]) -> bool:
        """Was any of these (normal) names ever suppressed?"""
        found = "SELECT 1 FROM suppressed WHERE hash = ? LIMIT 1"
        return self.hiding and any(self._db.execute(found, (self.hashed(kind, value),)).fetchone() for value in values)

    def block(self, number: int, names: Iterable[Name], at_us: int) -> None:
        """Block names, and remember them as of now; ``number`` says whose they are."""
        self._db.executemany(
            "INSERT OR REPLACE INTO suppressed VALUES (?, ?, NULL, ?, 1)",
            [(self.hashed(kind, value), at_us, number) for kind, value in names],
        )
        self.latest_us = max(self.latest_us, at_us)
        self.hiding = self.blocking = True

    def names_of(self, people: Iterable[int]) -> list[Name]:
        """What named people who are gone, as long as they were there."""
        found = "SELECT kind, value FROM tombstone WHERE person = ?"
        return [(row[0], row[1]) for person in people for row in self._db.execute(found, (person,))]

    def owners(self, name: Name) -> list[int]:
        """Everybody deleted who had a name."""
        found = "SELECT person FROM tombstone WHERE kind = ? AND value = ? AND survivor IS NULL"
        return [row[0] for row in self._db.execute(found, name)]

    def hide(self, number: int, people: Iterable[int], names: Iterable[Name]) -> None:
        """Nothing readable is left of these gone people, nor of anybody's having had these names."""
        for person in people:
            self._hide_rows(number, "person = ?", (person,))
            self._db.execute(
                "UPDATE deleted SET id = NULL, email = NULL, phone = NULL, suppressed = 1 WHERE person = ?", (person,)
            )
        for kind, value in names:
            had = self._hide_rows(number, "kind = ? AND value = ?", (kind, value))
            if kind in ("id", "email", "phone"):
                self._db.executemany(f"UPDATE deleted SET {kind} = NULL WHERE person = ?", [(one,) for one in had])

    def forget_names(self, person: int) -> None:
        """Of somebody gone nothing readable is left: what tells older facts from newer ones is a hash from now on."""
        self._hide_rows(person, "person = ?", (person,))
        self._db.execute("UPDATE deleted SET id = NULL, email = NULL, phone = NULL WHERE person = ?", (person,))

    def _hide_rows(self, number: int, where: str, parameters: tuple[object, ...]) -> list[int]:
        """Turn tombstones into hashes; returns whose they were."""
        rows = self._db.execute(
            f"SELECT kind, value, deleted_us, survivor, person FROM tombstone WHERE {where}", parameters
        ).fetchall()
        self._db.executemany(
            "INSERT OR IGNORE INTO suppressed VALUES (?, ?, ?, ?, 0)",
            [(self.hashed(row[0], row[1]), row[2], row[3], number) for row in rows],
        )
        self._db.execute(f"DELETE FROM tombstone WHERE {where}", parameters)
        self.hiding = True
        return [row[4] for row in rows]

    def free(self, kind: str, value: str) -> bool:
        """Free a name, and none that was blocked with it; returns whether it was blocked. What is older stays out."""
        if not self.blocked(kind, value):
            return False
        self._db.execute("UPDATE suppressed SET blocked = 0 WHERE hash = ?", (self.hashed(kind, value),))
        self.refresh()
        return True


def read_secret(db: sqlite3.Connection) -> bytes | None:
    """What names are hashed with, in this workspace; None before there is a hash."""
    row = db.execute("SELECT value FROM meta WHERE name = ?", (_SECRET,)).fetchone()
    return None if row is None else row[0]


def hashed_name(secret: bytes, kind: str, value: str) -> bytes:
    """The keyed hash of a (normal) name."""
    return hmac.digest(secret, f"{kind}\x1f{value}".encode(), "sha256")
