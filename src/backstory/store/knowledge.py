"""What was known at a moment: what had been accepted by then, but for imports that did not count then.

An import that is taken back counts from its rows' acceptance until then, and again from when it is brought in again;
the spans between (``absence``) are kept. So a question may look at rows that have left history since.
"""

import sqlite3
from dataclasses import dataclass

from backstory.store.manifest import Part, read_parts

_EVER_US = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What had been accepted up to ``at_us``, of the imports that count now.

    ``as_then``: of those that counted then, which leaves those ``out``.
    """

    at_us: int
    as_then: bool = False
    out: frozenset[int] = frozenset()

    def told(self, accept: str = "accept_us", source: str = "import_id") -> str:
        """A condition of SQL for the columns with the accept time and the import of a row."""
        known = f" AND {accept} <= {int(self.at_us)}"
        return f"{known} AND {source} NOT IN ({', '.join(map(str, sorted(self.out)))})" if self.out else known

    def covers(self, accept_us: int, source: int) -> bool:
        """The same of one row."""
        return accept_us <= self.at_us and source not in self.out


def knowledge_at(db: sqlite3.Connection, at_us: int) -> Knowledge:
    """As it was known at a moment. What it says of a moment that is over never changes, short of a purge."""
    rows = db.execute("SELECT import_id FROM absence WHERE from_us <= ?1 AND until_us > ?1", (at_us,))
    return Knowledge(at_us=at_us, as_then=True, out=frozenset(row[0] for row in rows))


def told_by(known: Knowledge | None, accept: str = "accept_us", source: str = "import_id") -> str:
    """A condition of SQL; empty for what is known now."""
    return "" if known is None else known.told(accept, source)


def parts_for(db: sqlite3.Connection, known: Knowledge | None) -> list[Part]:
    """The parts that may hold rows that count."""
    if known is None or not known.as_then:
        return read_parts(db)
    parts = read_parts(db, retracted=None)
    return [part for part in parts if not (part.retracted and part.import_id in known.out)]


def table_for(known: Knowledge | None, name: str, retracted: str) -> str:
    """A table of ``state.db``, together with the one its rows go to when their import is taken back."""
    if known is None or not known.as_then:
        return name
    return f"(SELECT * FROM {name} UNION ALL SELECT * FROM {retracted}) AS {name}"


# -- inside the loop's transaction ------------------------------------------------------------------------------------


def begin_absence(db: sqlite3.Connection, import_id: int, now_us: int) -> None:
    """The import does not count from now on."""
    db.execute("INSERT OR REPLACE INTO absence VALUES (?, ?, ?)", (import_id, now_us, _EVER_US))


def end_absence(db: sqlite3.Connection, import_id: int, now_us: int) -> None:
    """It counts again from now on."""
    query = "UPDATE absence SET until_us = ? WHERE import_id = ? AND until_us = ?"
    db.execute(query, (now_us, import_id, _EVER_US))


def resume_absence(db: sqlite3.Connection, import_id: int) -> None:
    """It was on its way back and did not come: it has not counted all the while."""
    db.execute(
        "UPDATE absence SET until_us = ?2 WHERE import_id = ?1"
        " AND from_us = (SELECT max(from_us) FROM absence WHERE import_id = ?1)",
        (import_id, _EVER_US),
    )
