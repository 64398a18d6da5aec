"""The ledger in ``state.db``: journeys, the decisions taken in them, and deliveries with what came of each."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from backstory.core.metric import Event, events_of_message

# The body of a delivery that could not be composed.
NO_CONTENT = b"{}"
_decode_metrics = msgspec.json.Decoder(dict[str, int]).decode
Column = Literal["campaign_id", "person", "import_id"]


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
# The person, then what ``message_events`` reads.
MESSAGES = "SELECT person, delivery_id, kind, campaign_id, action_id, metrics FROM delivery"


def message_events(row: tuple[Any, ...]) -> list[Event]:
    """What happened to the message of a row of ``MESSAGES``."""
    _, delivery_id, channel, campaign_id, action_id, metrics = row
    return events_of_message(delivery_id, channel, campaign_id, action_id, _decode_metrics(metrics))


_OPEN = "state IN ('filtering', 'active')"


class Ledger:
    """Reads and writes, inside the loop's transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def next_journey(self) -> int:
        row = self._db.execute("SELECT max(journey_id) FROM journey").fetchone()
        return (row[0] or 0) + 1

    def put_journey(
        self,
        journey_id: int,
        campaign_id: int,
        person: int,
        state: str,
        entered_us: int | None,
        wake_us: int | None,
        body: bytes,
        import_id: int,
    ) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO journey VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (journey_id, campaign_id, person, state, entered_us, wake_us, body, import_id),
        )

    def open_journey(self, journey_id: int) -> bytes | None:
        """The body of a journey; None when there is none or it is over."""
        row = self._db.execute(f"SELECT body FROM journey WHERE journey_id = ? AND {_OPEN}", (journey_id,)).fetchone()
        return None if row is None else row[0]

    def entered_us(self, person: int, campaign_id: int, journey_id: int) -> list[int]:
        """When the person's other journeys in the campaign were let in."""
        rows = self._db.execute(
            "SELECT entered_us FROM journey WHERE person = ? AND campaign_id = ? AND journey_id != ?"
            " AND entered_us IS NOT NULL",
            (person, campaign_id, journey_id),
        )
        return [row[0] for row in rows]

    def due(self, now_us: int, limit: int) -> list[int]:
        """Journeys to wake, earliest first."""
        rows = self._db.execute(
            "SELECT journey_id FROM journey WHERE wake_us <= ? ORDER BY wake_us, journey_id LIMIT ?", (now_us, limit)
        )
        return [row[0] for row in rows]

    def next_wake_us(self) -> int | None:
        return self._db.execute("SELECT min(wake_us) FROM journey WHERE wake_us IS NOT NULL").fetchone()[0]

    def bodies_of(self, person: int) -> list[tuple[int, str, bytes]]:
        """(campaign, state, body) of all journeys of a person, oldest first."""
        found = "SELECT campaign_id, state, body FROM journey WHERE person = ? ORDER BY journey_id"
        return self._db.execute(found, (person,)).fetchall()

    def campaigns_entered(self, person: int) -> set[int]:
        """The campaigns in which a person is or was."""
        found = "SELECT DISTINCT campaign_id FROM journey WHERE person = ? AND entered_us IS NOT NULL"
        return {row[0] for row in self._db.execute(found, (person,))}

    def move_journey(self, journey_id: int, person: int, body: bytes) -> None:
        """A journey is another person's now."""
        self._db.execute("UPDATE journey SET person = ?, body = ? WHERE journey_id = ?", (person, body, journey_id))

    def move_deliveries(self, person: int, to: int) -> None:
        """Deliveries are another person's now."""
        self._db.execute("UPDATE delivery SET person = ? WHERE person = ?", (to, person))

    def filtering(self, person: int) -> list[int]:
        """A person's journeys that wait for their filter, oldest first."""
        rows = self._db.execute(
            "SELECT journey_id FROM journey WHERE person = ? AND state = 'filtering' ORDER BY 1", (person,)
        )
        return [row[0] for row in rows]

    def people_filtering(self) -> set[int]:
        """Everybody with such a journey."""
        return {row[0] for row in self._db.execute("SELECT person FROM journey WHERE state = 'filtering'")}

    def count_open(self, column: Column, number: int) -> int:
        """How many journeys of a campaign or a person are not over."""
        return self._db.execute(f"SELECT count(*) FROM journey WHERE {column} = ? AND {_OPEN}", (number,)).fetchone()[0]

    def end_journeys(
        self, column: Column, number: int, reason: str, now_us: int, first_seq: int, most: int = -1
    ) -> None:
        """End those, each with a decision that says why; the decisions get sequence numbers from ``first_seq`` on.

        ``most`` of them, -1: all at once. What their bodies say of the state is not true any more.
        """
        some = f"SELECT journey_id FROM journey WHERE {column} = ? AND {_OPEN} ORDER BY journey_id LIMIT ?"
        self._db.execute(
            "INSERT INTO decision SELECT ? - 1 + row_number() OVER (ORDER BY journey_id), journey_id, 0, 'journey',"
            f" 'exited', ?, ? FROM journey WHERE journey_id IN ({some})",
            (first_seq, reason, now_us, number, most),
        )
        self._db.execute(
            f"UPDATE journey SET state = 'exited', wake_us = NULL WHERE journey_id IN ({some})", (number, most)
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

    def people_queued(self, campaign_id: int) -> list[int]:
        """Everybody a campaign has a delivery waiting for."""
        rows = self._db.execute(
            "SELECT DISTINCT person FROM delivery WHERE campaign_id = ? AND state = 'queued'", (campaign_id,)
        )
        return [row[0] for row in rows]

    def message_events(self, person: int) -> list[Event]:
        """What happened to a person's messages, as conditions see it."""
        rows = self._db.execute(f"{MESSAGES} WHERE person = ?", (person,))
        return [event for row in rows for event in message_events(row)]

    def ready(self, now_us: int, limit: int) -> list[DeliveryRow]:
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM delivery WHERE ready_us <= ? ORDER BY ready_us, seq LIMIT ?", (now_us, limit)
        )
        return [delivery_of(row) for row in rows]

    def in_state(self, state: str) -> list[DeliveryRow]:
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM delivery WHERE state = ?", (state,))
        return [delivery_of(row) for row in rows]

    def next_ready_us(self, now_us: int) -> int | None:
        """When the next delivery that is not ready yet will be."""
        return self._db.execute("SELECT min(ready_us) FROM delivery WHERE ready_us > ?", (now_us,)).fetchone()[0]

    def set_delivery(
        self,
        delivery_id: str,
        *,
        state: str,
        ready_us: int | None,
        attempts: int,
        metrics: Mapping[str, int],
        failure: str | None,
    ) -> None:
        self._db.execute(
            "UPDATE delivery SET state = ?, ready_us = ?, attempts = ?, metrics = ?, failure = ? WHERE delivery_id = ?",
            (state, ready_us, attempts, msgspec.json.encode(metrics).decode(), failure, delivery_id),
        )

    def drop_queued(self, column: Column, number: int, reason: str, now_us: int) -> None:
        """Deliveries of a campaign or a person that wait are not attempted any more."""
        self._db.execute(
            "UPDATE delivery SET state = 'dropped', ready_us = NULL, failure = ?,"
            f" metrics = json_set(metrics, '$.dropped', ?) WHERE {column} = ? AND state = 'queued'",
            (reason, now_us, number),
        )

    def drop_queued_of_import(self, import_id: int, reason: str, now_us: int, most: int) -> int:
        """The same of the journeys that an import began, so many at most; returns how many there were."""
        return self._db.execute(
            "UPDATE delivery SET state = 'dropped', ready_us = NULL, failure = ?,"
            " metrics = json_set(metrics, '$.dropped', ?) WHERE delivery_id IN (SELECT delivery_id FROM delivery"
            " JOIN journey USING (journey_id) WHERE delivery.state = 'queued' AND import_id = ? LIMIT ?)",
            (reason, now_us, import_id, most),
        ).rowcount
