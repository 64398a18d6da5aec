"""Deliveries: what journeys decided to send, handed out to be attempted, and what came of each.

Runs on the loop's thread, inside its transaction. A delivery is *queued* with the moment from which it may be
attempted, *attempting* once it is handed out, then sent, failed, dropped or in doubt (design promises 3 and 6).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

import msgspec

from backstory.core.condition import Json
from backstory.core.fact import EffectOutcome, Receipt, RetryDelivery
from backstory.core.journey import Decision, Journey
from backstory.core.leaf import NEVER_US
from backstory.core.message import Delivery, Email, Webhook, subscribed
from backstory.core.trigger import EventCause
from backstory.engine.context import Context
from backstory.store.ledger import NO_CONTENT, DeliveryRow

IN_DOUBT = "the server stopped during the attempt; whether it was sent is not known"
RETRYABLE = ("failed", "in_doubt")
_decode = msgspec.json.Decoder().decode


class Deliveries:
    """``runs`` says whether a campaign runs, ``shown`` what a person is."""

    def __init__(
        self,
        context: Context,
        *,
        retry_in_doubt: bool,
        runs: Callable[[int], bool],
        shown: Callable[[int], Mapping[str, Json]],
    ) -> None:
        self._context = context
        self._folder = context.folder
        self._ledger = context.folder.ledger
        self._retry_in_doubt = retry_in_doubt
        self._runs = runs
        self._shown = shown
        self._telling = False
        # When the next one that has to wait for its moment (a further attempt) may be attempted.
        self.next_ready_us = NEVER_US
        # Told of the people whose messages reached a metric, or no longer have, and when that was.
        self.on_metric: Callable[[Sequence[int], int, int], None] = lambda people, time_us, now_us: None
        # Called after the commit, on the loop's thread, when there is something to attempt; only hands over.
        self.on_ready: Callable[[], None] = lambda: None

    def restore(self) -> None:
        self._find_next(self._folder.state.now_us)

    def add(self, journey: Journey, decision: Decision, content: Email | Webhook | None) -> None:
        """Record what a journey sends; without content it could not be composed, and the decision says why."""
        now_us = decision.at_us
        failed = content is None
        metrics = {"created": now_us, **({"failed": now_us} if failed else {})}
        row = DeliveryRow(
            delivery_id=decision.delivery_id,
            seq=self._folder.state.take_seq(),
            journey_id=journey.journey_id,
            campaign_id=journey.campaign_id,
            action_id=decision.action_id,
            person=journey.person,
            kind=decision.type,
            state="failed" if failed else "queued",
            body=NO_CONTENT if content is None else msgspec.json.encode(content),
            attempts=0,
            created_us=now_us,
            ready_us=None if failed else now_us,
            metrics=msgspec.json.encode(metrics).decode(),
            failure=decision.reason if failed else None,
            trigger_event_id=journey.cause.event_id if isinstance(journey.cause, EventCause) else None,
        )
        self._ledger.add_delivery(row)
        if failed:
            self._trace(row, "failed", now_us)
        else:
            self._tell()
        self.on_metric([row.person], now_us, now_us)

    def claim(self, count: int, now_us: int) -> list[Delivery]:
        """Deliveries to attempt, marked as being attempted; hand them over only after a synced commit."""
        claimed: list[Delivery] = []
        for row in self._ledger.ready(now_us, count):
            metrics: dict[str, int] = _decode(row.metrics)
            metrics.setdefault("attempted", now_us)
            self._ledger.set_delivery(
                row.delivery_id,
                state="attempting",
                ready_us=None,
                attempts=row.attempts + 1,
                metrics=metrics,
                failure=row.failure,
            )
            content = msgspec.json.decode(row.body, type=Email | Webhook)
            claimed.append(
                Delivery(
                    delivery_id=row.delivery_id,
                    kind="email" if isinstance(content, Email) else "webhook",
                    content=content,
                    created_us=row.created_us,
                    attempts=row.attempts,
                )
            )
            self.on_metric([row.person], now_us, now_us)
        return claimed

    def outcome(self, fact: EffectOutcome, now_us: int) -> Receipt:
        """What came of an attempt."""
        row = self._ledger.delivery(fact.delivery_id)
        if row is None or row.state != "attempting":
            return Receipt("dropped", reason="there is no such delivery under way")
        metrics: dict[str, int] = _decode(row.metrics)
        state, ready_us, reason = "failed", None, fact.reason
        match fact.outcome:
            case "sent" | "failed" | "dropped" | "in_doubt":
                state = fact.outcome
            case "attempted":
                state, reason = self._further(row, fact.reason)
                ready_us = fact.retry_at_us if state == "queued" else None
            case _:
                assert_never(fact.outcome)
        if state in ("sent", "failed", "dropped"):
            metrics[state] = now_us
        self._ledger.set_delivery(
            row.delivery_id,
            state=state,
            ready_us=ready_us,
            attempts=row.attempts,
            metrics=metrics,
            failure=reason or None,
        )
        if ready_us is not None:
            self.next_ready_us = min(self.next_ready_us, ready_us)
        self._trace(row, "attempted" if state in ("queued", "in_doubt") else state, now_us)
        self.on_metric([row.person], now_us, now_us)
        return Receipt("applied")

    def _further(self, row: DeliveryRow, reason: str) -> tuple[str, str]:
        """Whether a delivery that was not taken for the moment is attempted again: its state and the reason."""
        if row.person not in self._context.segments.alive:
            return "dropped", f"{reason}; the person was deleted"
        if not self._runs(row.campaign_id):
            return "failed", f"{reason}; not tried again by itself, as the campaign was stopped"
        return "queued", reason

    def retry(self, fact: RetryDelivery, now_us: int) -> Receipt:
        """A user wants it attempted again, with all the attempts a new one has."""
        row = self._ledger.delivery(fact.delivery_id)
        if row is None:
            return Receipt("dropped", reason=f"there is no delivery {fact.delivery_id}")
        refusal = self._refusal(row)
        if refusal:
            return Receipt("conflict", reason=refusal)
        metrics: dict[str, int] = _decode(row.metrics)
        metrics.pop("failed", None)
        self._ledger.set_delivery(
            row.delivery_id, state="queued", ready_us=now_us, attempts=0, metrics=metrics, failure=None
        )
        self._tell()
        self.on_metric([row.person], now_us, now_us)
        return Receipt("applied")

    def _refusal(self, row: DeliveryRow) -> str:
        if row.state not in RETRYABLE:
            return f"the delivery is {row.state}; only failed and in-doubt ones are retried"
        if row.body == NO_CONTENT:
            return f"the message could not be written, so there is nothing to send: {row.failure}"
        if row.person not in self._context.segments.alive:
            return "the person was deleted"
        if row.kind == "email" and not subscribed(self._shown(row.person)):
            return "the person has unsubscribed since"
        return ""

    def drop_of_campaign(self, campaign_id: int, now_us: int) -> None:
        """A stopped campaign sends nothing more."""
        people = self._ledger.people_queued(campaign_id)
        self._ledger.drop_queued("campaign_id", campaign_id, "the campaign was stopped", now_us)
        self.on_metric(people, now_us, now_us)

    def drop_of_person(self, person: int, now_us: int) -> None:
        """Somebody who was deleted gets nothing more."""
        self._ledger.drop_queued("person", person, "the person was deleted", now_us)

    def drop_of_import(self, import_id: int, now_us: int, most: int) -> int:
        """What journeys that an import began have not sent is not sent, so many at most; returns how many messages."""
        return self._ledger.drop_queued_of_import(import_id, "the import was taken back", now_us, most)

    def settle_doubt(self, now_us: int) -> int:
        """After a restart: attempts whose outcome nobody told are in doubt; returns how many."""
        rows = self._ledger.in_state("attempting")
        for row in rows:
            again = self._retry_in_doubt
            self._ledger.set_delivery(
                row.delivery_id,
                state="queued" if again else "in_doubt",
                ready_us=now_us if again else None,
                attempts=row.attempts,
                metrics=_decode(row.metrics),
                failure=IN_DOUBT,
            )
            self._trace(row, "attempted", now_us)
        return len(rows)

    def wake(self, now_us: int) -> None:
        """The moment of a further attempt has come."""
        if self.next_ready_us <= now_us:
            self._tell()
            self._find_next(now_us)

    def _find_next(self, now_us: int) -> None:
        found = self._ledger.next_ready_us(now_us)
        self.next_ready_us = NEVER_US if found is None else found

    def _tell(self) -> None:
        """Once for each commit, however many there are."""
        if not self._telling:
            self._telling = True
            self._context.after_commit.append(self._told)

    def _told(self) -> None:
        self._telling = False
        self.on_ready()

    def _trace(self, row: DeliveryRow, metric: str, now_us: int) -> None:
        data = {"delivery_id": row.delivery_id, "campaign_id": row.campaign_id}
        self._context.activity(row.person, f"{metric}_{row.kind}", now_us, now_us, data, row.delivery_id)
