"""Definitions in ``state.db``: segments, their manual members, campaigns."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from backstory.store.database import among
from backstory.store.knowledge import Knowledge, table_for, told_by


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRow:
    segment_id: int
    name: str
    description: str
    conditions: str | None
    created_us: int
    updated_us: int
    built: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignRow:
    campaign_id: int
    definition: str
    state: str
    created_us: int
    updated_us: int
    first_started_us: int | None
    started_us: int | None


def read_segments(db: sqlite3.Connection, chosen: Iterable[int] | None = None) -> list[SegmentRow]:
    """All segments, or those with these numbers, in order."""
    rows = db.execute(
        "SELECT segment_id, name, description, conditions, created_us, updated_us, built FROM segment"
        f" WHERE {'true' if chosen is None else among(chosen, 'segment_id')} ORDER BY 1"
    )
    return [
        SegmentRow(
            segment_id=row[0], name=row[1], description=row[2], conditions=row[3], created_us=row[4], updated_us=row[5],
            built=bool(row[6]),
        )
        for row in rows
    ]


def read_campaigns(db: sqlite3.Connection) -> list[CampaignRow]:
    rows = db.execute(
        "SELECT campaign_id, definition, state, created_us, updated_us, first_started_us, started_us"
        " FROM campaign ORDER BY 1"
    )
    return [
        CampaignRow(
            campaign_id=row[0], definition=row[1], state=row[2], created_us=row[3], updated_us=row[4],
            first_started_us=row[5], started_us=row[6],
        )
        for row in rows
    ]


def placements_of(
    db: sqlite3.Connection, person: int, known: Knowledge | None = None
) -> list[tuple[int, int, bool]]:
    """(segment, moment, entered) of a person in manual segments, in order."""
    found = f"SELECT segment_id, at_us, entered FROM {_placements(known)} WHERE person = ?{_told(known)} ORDER BY seq"
    rows = db.execute(found, (person,))
    return [(row[0], row[1], bool(row[2])) for row in rows]


def placements_in(
    db: sqlite3.Connection, segment_id: int, known: Knowledge | None = None
) -> list[tuple[int, int, int]]:
    """(person, moment, entered) of a manual segment, in order."""
    query = f"SELECT person, at_us, entered FROM {_placements(known)} WHERE segment_id = ?{_told(known)} ORDER BY seq"
    return db.execute(query, (segment_id,)).fetchall()


def _placements(known: Knowledge | None) -> str:
    return table_for(known, "placement", "retracted_placement")


def _told(known: Knowledge | None) -> str:
    """A placement counts from the moment it was said."""
    return told_by(known, accept="at_us")


_LAST_SAID = "SELECT entered FROM placement WHERE person = ? AND segment_id = ? ORDER BY seq DESC LIMIT 1"


class Definitions:
    """Writes, inside the loop's transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._segment_names: dict[int, str] | None = None

    def segment_name(self, segment_id: int) -> str:
        """What a segment is called now; empty when there is none."""
        if self._segment_names is None:
            self._segment_names = dict(self._db.execute("SELECT segment_id, name FROM segment"))
        return self._segment_names.get(segment_id, "")

    def next_id(self, table: str) -> int:
        """One past the largest id ever used by ``segment`` or ``campaign``."""
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (f"last_{table}",)).fetchone()
        number = int(row[0]) + 1 if row else 1
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"last_{table}", number))
        return number

    def put_segment(self, row: SegmentRow) -> None:
        self._segment_names = None
        self._db.execute(
            "INSERT INTO segment (segment_id, name, description, conditions, created_us, updated_us, built)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET name = excluded.name,"
            " description = excluded.description, conditions = excluded.conditions, updated_us = excluded.updated_us,"
            " built = excluded.built",
            (row.segment_id, row.name, row.description, row.conditions, row.created_us, row.updated_us, row.built),
        )

    def built(self, segment_id: int) -> bool:
        """Was the segment complete at the last commit, or since?"""
        row = self._db.execute("SELECT built FROM segment WHERE segment_id = ?", (segment_id,)).fetchone()
        return row is not None and bool(row[0])

    def set_built(self, segment_id: int) -> None:
        self._db.execute("UPDATE segment SET built = 1 WHERE segment_id = ?", (segment_id,))

    def set_unbuilt(self, segment_id: int) -> None:
        """It is to be built; who is in it until then the log of memberships tells."""
        self._db.execute("UPDATE segment SET built = 0 WHERE segment_id = ?", (segment_id,))

    def delete_segment(self, segment_id: int) -> None:
        self._segment_names = None
        self._db.execute("DELETE FROM segment WHERE segment_id = ?", (segment_id,))
        self._db.execute("DELETE FROM manual_member WHERE segment_id = ?", (segment_id,))
        for table in ("placement", "retracted_placement"):
            self._db.execute(f"DELETE FROM {table} WHERE segment_id = ?", (segment_id,))

    def place(
        self, seq: int, segment_id: int, person: int, entered: bool, at_us: int, import_id: int = 0
    ) -> None:
        """Somebody was put into a manual segment or taken out of it."""
        self.set_member(segment_id, person, entered)
        self._db.execute(
            "INSERT INTO placement VALUES (?, ?, ?, ?, ?, ?)", (seq, segment_id, person, at_us, entered, import_id)
        )

    def set_member(self, segment_id: int, person: int, member: bool) -> None:
        """Somebody is a member now, or not, whoever said so."""
        if member:
            self._db.execute("INSERT OR IGNORE INTO manual_member VALUES (?, ?)", (segment_id, person))
        else:
            self._db.execute("DELETE FROM manual_member WHERE segment_id = ? AND person = ?", (segment_id, person))

    def last_placement(self, segment_id: int, person: int) -> tuple[bool, int] | None:
        """(in or out, import) of what was said last, by imports that do not count, too."""
        query = (
            "SELECT entered, import_id FROM (SELECT * FROM placement WHERE person = ?1 AND segment_id = ?2"
            " UNION ALL SELECT * FROM retracted_placement WHERE person = ?1 AND segment_id = ?2)"
            " ORDER BY seq DESC LIMIT 1"
        )
        row = self._db.execute(query, (person, segment_id)).fetchone()
        return None if row is None else (bool(row[0]), row[1])

    def give(self, other: int, survivor: int) -> None:
        """After a merge: when one person was put into manual segments is when the other was; who is in is not told."""
        for table in ("placement", "retracted_placement"):
            self._db.execute(f"UPDATE {table} SET person = ? WHERE person = ?", (survivor, other))

    def said_out(self, segment_id: int, person: int) -> bool:
        """Does what counts of somebody's past in a manual segment say last that they are out, or nothing?"""
        row = self._db.execute(_LAST_SAID, (person, segment_id)).fetchone()
        return row is None or not row[0]

    def turn(self, import_id: int, rows_max: int, *, back: bool) -> list[tuple[int, int, bool]]:
        """Take some of an import's placements out of history, or ``back`` into it.

        Returns (segment, person, is a member by what is left) of each.
        """
        source, target = ("retracted_placement", "placement") if back else ("placement", "retracted_placement")
        query = f"SELECT seq, segment_id, person FROM {source} WHERE import_id = ? ORDER BY seq LIMIT ?"
        rows = self._db.execute(query, (import_id, rows_max)).fetchall()
        self._db.executemany(f"INSERT INTO {target} SELECT * FROM {source} WHERE seq = ?", [(row[0],) for row in rows])
        self._db.executemany(f"DELETE FROM {source} WHERE seq = ?", [(row[0],) for row in rows])
        return [(segment_id, person, not self.said_out(segment_id, person)) for _, segment_id, person in rows]

    def forget_person(self, person: int) -> None:
        self._db.execute("DELETE FROM manual_member WHERE person = ?", (person,))
        for table in ("placement", "retracted_placement"):
            self._db.execute(f"DELETE FROM {table} WHERE person = ?", (person,))

    def members(self, segment_id: int) -> list[int]:
        rows = self._db.execute("SELECT person FROM manual_member WHERE segment_id = ?", (segment_id,))
        return [row[0] for row in rows]

    def put_campaign(self, row: CampaignRow) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO campaign VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                row.campaign_id, row.definition, row.state, row.created_us, row.updated_us, row.first_started_us,
                row.started_us,
            ),
        )

    def put_start(self, campaign_id: int, at_us: int, people: bytes | None) -> None:
        """Who is still to begin a campaign that began at a moment; None: nobody."""
        self._db.execute("DELETE FROM campaign_start WHERE campaign_id = ?", (campaign_id,))
        if people is not None:
            self._db.execute("INSERT INTO campaign_start VALUES (?, ?, ?)", (campaign_id, at_us, people))

    def next_start(self) -> tuple[int, int, bytes] | None:
        """(campaign, moment, people) of a campaign that somebody is still to begin."""
        return self._db.execute("SELECT campaign_id, at_us, people FROM campaign_start ORDER BY 1 LIMIT 1").fetchone()
