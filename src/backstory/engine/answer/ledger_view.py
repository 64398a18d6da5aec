"""Journeys and deliveries as the edge shows them."""

import sqlite3

import msgspec

from backstory.core.error import NotFoundError
from backstory.core.journey import Journey
from backstory.core.message import Email, Webhook
from backstory.engine.answer.view import Identifiers, JourneyView, MessageView, StepView
from backstory.store.folder import Folder
from backstory.store.ledger import DELIVERY_COLUMNS, DeliveryRow, delivery_of
from backstory.store.people import cio_id_of

_decode = msgspec.json.Decoder().decode


def journeys(folder: Folder, campaign_id: int, start: int, limit: int) -> tuple[list[JourneyView], str]:
    """A page of a campaign's journeys, oldest first."""

    def read(db: sqlite3.Connection) -> tuple[list[JourneyView], str]:
        rows = db.execute(
            "SELECT journey_id, body FROM journey WHERE campaign_id = ? AND journey_id >= ? ORDER BY 1 LIMIT ?",
            (campaign_id, start, limit + 1),
        ).fetchall()
        found = [_journey(db, row[0], msgspec.msgpack.decode(row[1], type=Journey)) for row in rows[:limit]]
        return found, str(rows[limit][0]) if len(rows) > limit else ""

    return folder.state.read(read)


def _journey(db: sqlite3.Connection, journey_id: int, journey: Journey) -> JourneyView:
    state = db.execute("SELECT state FROM journey WHERE journey_id = ?", (journey_id,)).fetchone()[0]
    steps = db.execute(
        "SELECT type, decision, reason, at_us FROM decision WHERE journey_id = ? ORDER BY seq", (journey_id,)
    )
    # By the index of people.
    failed = db.execute(
        "SELECT failure FROM delivery WHERE person = ? AND journey_id = ? AND state IN ('failed', 'in_doubt')"
        " ORDER BY seq DESC LIMIT 1",
        (journey.person, journey_id),
    ).fetchone()
    return JourneyView(
        journey_id=journey_id,
        identifiers=identifiers(db, journey.person),
        state=state,
        started_us=journey.started_us,
        effective_us=journey.effective_us,
        steps=[StepView(type=row[0], decision=row[1], reason=row[2], at_us=row[3]) for row in steps],
        failure=(failed[0] or "") if failed else "",
    )


def identifiers(db: sqlite3.Connection, person: int) -> Identifiers:
    """A person's identifiers, also of one who was deleted."""
    row = db.execute(
        "SELECT id, email FROM person WHERE person = ?1 UNION ALL SELECT id, email FROM deleted WHERE person = ?1",
        (person,),
    ).fetchone()
    return {"id": row[0] if row else None, "email": row[1] if row else None, "cio_id": cio_id_of(person)}


def messages(
    folder: Folder,
    *,
    person: int | None,
    campaign_id: int | None,
    action_id: int | None,
    kind: str | None,
    metric: str | None,
    state: str | None,
    before: int | None,
    limit: int,
    start_us: int | None,
    end_us: int | None,
) -> tuple[list[MessageView], str]:
    """A page of deliveries, newest first."""
    wanted: list[tuple[str, object]] = [
        ("person = ?", person),
        ("campaign_id = ?", campaign_id),
        ("action_id = ?", action_id),
        ("kind = ?", kind),
        ("state = ?", state),
        ("seq <= ?", before),
        ("created_us >= ?", start_us),
        ("created_us <= ?", end_us),
        ("json_extract(metrics, '$.' || ?) IS NOT NULL", metric),
    ]
    used = [(clause, value) for clause, value in wanted if value is not None]
    where = " AND ".join(clause for clause, _ in used) or "1"
    sql = f"SELECT {DELIVERY_COLUMNS} FROM delivery WHERE {where} ORDER BY seq DESC LIMIT ?"

    def read(db: sqlite3.Connection) -> tuple[list[MessageView], str]:
        rows = [delivery_of(row) for row in db.execute(sql, (*(value for _, value in used), limit + 1))]
        return [_message(db, row) for row in rows[:limit]], str(rows[limit].seq) if len(rows) > limit else ""

    return folder.state.read(read)


def message(folder: Folder, delivery_id: str) -> MessageView:
    """One delivery; raises ``NotFoundError``."""

    def read(db: sqlite3.Connection) -> MessageView:
        row = db.execute(f"SELECT {DELIVERY_COLUMNS} FROM delivery WHERE delivery_id = ?", (delivery_id,)).fetchone()
        if row is None:
            raise NotFoundError(f"there is no message {delivery_id!r}")
        return _message(db, delivery_of(row))

    return folder.state.read(read)


def _message(db: sqlite3.Connection, row: DeliveryRow) -> MessageView:
    content: Email | Webhook | None = None
    if row.body != b"{}":
        content = msgspec.json.decode(row.body, type=Email | Webhook)
    recipient = subject = body = sender = ""
    match content:
        case Email():
            recipient, subject, sender = content.recipient.mail, content.subject, content.sender.mail
            body = content.html or content.text
        case Webhook():
            recipient, body = content.url, content.body
        case None:
            pass
    return MessageView(
        delivery_id=row.delivery_id,
        campaign_id=row.campaign_id,
        journey_id=row.journey_id,
        action_id=row.action_id,
        person=row.person,
        identifiers=identifiers(db, row.person),
        recipient=recipient,
        subject=subject,
        body=body,
        sender=sender,
        type="email" if row.kind == "email" else "webhook",
        state=row.state,  # pyright: ignore[reportArgumentType]
        metrics_us=_decode(row.metrics),
        created_us=row.created_us,
        failure=row.failure,
        trigger_event_id=row.trigger_event_id,
    )
