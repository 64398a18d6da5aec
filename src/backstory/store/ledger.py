"""The ledger in ``state.db``: journeys, the decisions taken in them, and deliveries with what came of each."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """``body`` is the composed message; ``ready_us`` is when it may be attempted, None when it may not."""

    delivery_id: str
    seq: int
    journey_id: int
    campaign_id: int
    action_id: int
    person: int
    kind: str
    state: str
    body: bytes
    attempts: int
    created_us: int
    ready_us: int | None
    metrics: str
    failure: str | None
    trigger_event_id: str | None


_COLUMNS = (
    "delivery_id, seq, journey_id, campaign_id, action_id, person, kind, state, body, attempts, created_us, ready_us,"
    " metrics, failure, trigger_event_id"
)


def delivery_of(row: tuple[object, ...]) -> DeliveryRow:
    """A row selected with ``DELIVERY_COLUMNS``."""
    return DeliveryRow(**dict(zip(DeliveryRow.__dataclass_fields__, row, strict=True)))  # pyright: ignore[reportArgumentType]


DELIVERY_COLUMNS = _COLUMNS


class Ledger:
    """Reads and writes, inside the loop's transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def next_journey(self) -> int:
        row = self._db.execute("SELECT max(journey_id) FROM journey").fetchone()
        return (row[0] or 0) + 1

    def put_journey(
        self, journey_id: int, campaign_id: int, person: int, state: str, entered_us: int | None, wake_us: int | None, body: bytes
    ) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO journey VALUES (?, ?, ?, ?, ?, ?, ?)",
            (journey_id, campaign_id, person, state, entered_us, wake_us, body),
        )

    def entered_us(self, person: int, campaign_id: int, journey_id: int) -> list[int]:
        """When the person's other journeys in the campaign were let in."""
        rows = self._db.execute(
            "SELECT entered_us FROM journey WHERE person = ? AND campaign_id = ? AND journey_id != ?"
            " AND entered_us IS NOT NULL",
            (person, campaign_id, journey_id),
        )
        return [row[0] for row in rows]

    def due(self, now_us: int, limit: int) -> list[tuple[int, int, bytes]]:
        """(wake time, campaign id, body) of journeys to wake, earliest first."""
        return self._db.execute(
            "SELECT wake_us, campaign_id, body FROM journey WHERE wake_us <= ? ORDER BY wake_us, journey_id LIMIT ?",
            (now_us, limit),
        ).fetchall()

    def next_wake_us(self) -> int | None:
        return self._db.execute("SELECT min(wake_us) FROM journey WHERE wake_us IS NOT NULL").fetchone()[0]

    def filtering(self, person: int) -> list[tuple[int, bytes]]:
        """(campaign id, body) of a person's journeys that wait for their filter."""
        return self._db.execute(
            "SELECT campaign_id, body FROM journey WHERE person = ? AND state = 'filtering'", (person,)
        ).fetchall()

    def waiting(self, campaign_id: int) -> list[bytes]:
        """Bodies of the journeys of a campaign that are not over."""
        rows = self._db.execute(
            "SELECT body FROM journey WHERE campaign_id = ? AND state IN ('filtering', 'active')", (campaign_id,)
        )
        return [row[0] for row in rows]

    def end_journeys(self, person: int) -> None:
        """The person is gone: nothing of theirs goes on."""
        self._db.execute(
            "UPDATE journey SET state = 'exited', wake_us = NULL WHERE person = ? AND state IN ('filtering', 'active')",
            (person,),
        )
        self._db.execute(
            "UPDATE delivery SET state = 'dropped', ready_us = NULL, failure = 'the person was deleted'"
            " WHERE person = ? AND state = 'queued'",
            (person,),
        )

    def add_decision(
        self, seq: int, journey_id: int, action_id: int, kind: str, decision: str, reason: str, at_us: int
    ) -> None:
        self._db.execute(
            "INSERT INTO decision VALUES (?, ?, ?, ?, ?, ?, ?)",
            (seq, journey_id, action_id, kind, decision, reason, at_us),
        )

    def add_delivery(self, row: DeliveryRow) -> None:
        values = tuple(getattr(row, name) for name in DeliveryRow.__dataclass_fields__)
        self._db.execute(f"INSERT OR IGNORE INTO delivery ({_COLUMNS}) VALUES ({', '.join('?' * len(values))})", values)

    def delivery(self, delivery_id: str) -> DeliveryRow | None:
        row = self._db.execute(f"SELECT {_COLUMNS} FROM delivery WHERE delivery_id = ?", (delivery_id,)).fetchone()
        return None if row is None else delivery_of(row)

    def ready(self, now_us: int, limit: int) -> list[DeliveryRow]:
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM delivery WHERE ready_us <= ? ORDER BY ready_us, seq LIMIT ?", (now_us, limit)
        )
        return [delivery_of(row) for row in rows]

    def in_state(self, state: str) -> list[DeliveryRow]:
        return [delivery_of(row) for row in self._db.execute(f"SELECT {_COLUMNS} FROM delivery WHERE state = ?", (state,))]

    def next_ready_us(self) -> int | None:
        return self._db.execute("SELECT min(ready_us) FROM delivery WHERE ready_us IS NOT NULL").fetchone()[0]

    def set_delivery(
        self, delivery_id: str, *, state: str, ready_us: int | None, attempts: int, metrics: Mapping[str, int], failure: str | None
    ) -> None:
        self._db.execute(
            "UPDATE delivery SET state = ?, ready_us = ?, attempts = ?, metrics = ?, failure = ? WHERE delivery_id = ?",
            (state, ready_us, attempts, msgspec.json.encode(metrics).decode(), failure, delivery_id),
        )

    def drop_queued(self, campaign_id: int, reason: str) -> int:
        """A stopped campaign sends nothing more; returns how many were dropped."""
        return self._db.execute(
            "UPDATE delivery SET state = 'dropped', ready_us = NULL, failure = ? WHERE campaign_id = ? AND state = 'queued'",
            (reason, campaign_id),
        ).rowcount
