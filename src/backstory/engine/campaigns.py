"""Campaigns at work: triggers start journeys, journeys are advanced, what they decide goes into the ledger.

Runs on the loop's thread, inside its transaction. Only what is accepted after a campaign's start counts, and only
what is fresh enough: accept time - effective time within the age limit (design section 9).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import msgspec

from backstory.core.campaign import Campaign, parse
from backstory.core.comparison import where_holds
from backstory.core.condition import Condition, EventTest, Json
from backstory.core.fact import EffectOutcome, PutCampaign, Receipt, RetryDelivery, SetCampaignState
from backstory.core.journey import Advance, Decision, Journey, SendEmail, UpdateAttributes, advance, leave, may_start, start
from backstory.core.leaf import NEVER_US
from backstory.core.message import Delivery, Email, Webhook
from backstory.core.segment import Transition, leaf_keys
from backstory.core.trigger import Cause, EventCause, EventTrigger, SegmentCause, SegmentTrigger, triggers
from backstory.engine.context import Context, Happened
from backstory.engine.effective import PersonInTime, read_person
from backstory.store.definition import CampaignRow, read_campaigns, read_segments
from backstory.store.ledger import DeliveryRow

if TYPE_CHECKING:
    from backstory.engine.apply_profile import Profiles

_decode = msgspec.json.Decoder().decode
WAKES_PER_TURN = 1000
# A campaign whose step makes the person match again would go round for ever.
DEPTH_MAX = 20


class Campaigns:
    """The running campaigns of a workspace."""

    def __init__(self, context: Context, *, retry_in_doubt: bool) -> None:
        self._context = context
        self._folder = context.folder
        self._ledger = context.folder.ledger
        self._retry_in_doubt = retry_in_doubt
        self._profiles: Profiles | None = None
        self._rows: dict[int, CampaignRow] = {}
        self._campaigns: dict[int, Campaign] = {}
        self._filtering: set[int] = set()
        self._depth = 0
        self.next_wake_us = NEVER_US
        self.on_ready = lambda: None

    def use(self, profiles: Profiles) -> None:
        """Steps that write attributes go through the same door as identify."""
        self._profiles = profiles

    def restore(self) -> None:
        """At the start: definitions, waiting filters, the next wake."""
        self._rows = {row.campaign_id: row for row in read_campaigns(self._folder.state.db)}
        self._campaigns = {number: parse(_decode(row.definition)) for number, row in self._rows.items()}
        rows = self._folder.state.db.execute("SELECT DISTINCT person FROM journey WHERE state = 'filtering'")
        self._filtering = {row[0] for row in rows}
        self._find_next_wake()

    # -- definitions ------------------------------------------------------------------------------------------------

    def put(self, fact: PutCampaign, now_us: int) -> Receipt:
        campaign = parse(_decode(fact.definition))
        old = self._rows.get(fact.campaign_id) if fact.campaign_id is not None else None
        if fact.campaign_id is not None and old is None:
            return Receipt("dropped", reason=f"there is no campaign {fact.campaign_id}")
        if old is not None and type(self._campaigns[old.campaign_id].trigger) is not type(campaign.trigger):
            return Receipt("dropped", reason="the kind of trigger of a campaign cannot be changed: make a new campaign")
        trigger = campaign.trigger
        if isinstance(trigger, SegmentTrigger) and trigger.segment_id not in self._context.segments.segments:
            return Receipt("dropped", reason=f"there is no segment {trigger.segment_id}")
        campaign_id = old.campaign_id if old else self._folder.definitions.next_id("campaign")
        row = CampaignRow(
            campaign_id=campaign_id,
            definition=fact.definition.decode(),
            state=old.state if old else "draft",
            created_us=old.created_us if old else now_us,
            updated_us=now_us,
            first_started_us=old.first_started_us if old else None,
            started_us=old.started_us if old else None,
        )
        self._keep(row, campaign)
        if campaign.state == "running" and row.state != "running":
            self._start(campaign_id, now_us)
        return Receipt("applied", subject=campaign_id)

    def _keep(self, row: CampaignRow, campaign: Campaign) -> None:
        self._rows[row.campaign_id] = row
        self._campaigns[row.campaign_id] = campaign
        self._folder.definitions.put_campaign(row)

    def set_state(self, fact: SetCampaignState, now_us: int) -> Receipt:
        row = self._rows.get(fact.campaign_id)
        if row is None:
            return Receipt("dropped", reason=f"there is no campaign {fact.campaign_id}")
        if fact.state == "running" and row.state != "running":
            self._start(fact.campaign_id, now_us)
        elif fact.state == "stopped" and row.state == "running":
            self._stop(fact.campaign_id, now_us)
        return Receipt("applied", subject=fact.campaign_id)

    def _start(self, campaign_id: int, now_us: int) -> None:
        row, campaign = self._rows[campaign_id], self._campaigns[campaign_id]
        self._keep(
            CampaignRow(
                campaign_id=campaign_id,
                definition=row.definition,
                state="running",
                created_us=row.created_us,
                updated_us=now_us,
                first_started_us=row.first_started_us or now_us,
                started_us=now_us,
            ),
            campaign,
        )
        trigger = campaign.trigger
        if campaign.include_current and isinstance(trigger, SegmentTrigger):
            inside = self._context.segments.segments[trigger.segment_id].members
            people = inside if trigger.transition == "entered" else self._context.segments.alive - inside
            cause = SegmentCause(segment_id=trigger.segment_id, transition=trigger.transition)
            for person in list(people):
                self._begin(campaign_id, person, cause, effective_us=now_us, now_us=now_us)

    def _stop(self, campaign_id: int, now_us: int) -> None:
        """Nobody enters, those inside leave, what was not sent is dropped."""
        row = self._rows[campaign_id]
        stopped = CampaignRow(
            campaign_id=campaign_id,
            definition=row.definition,
            state="stopped",
            created_us=row.created_us,
            updated_us=now_us,
            first_started_us=row.first_started_us,
            started_us=row.started_us,
        )
        self._keep(stopped, self._campaigns[campaign_id])
        for body in self._ledger.waiting(campaign_id):
            journey = msgspec.msgpack.decode(body, type=Journey)
            self._keep_journey(leave(journey, now_us=now_us, reason="the campaign was stopped"))
        self._ledger.drop_queued(campaign_id, "the campaign was stopped")
        self._find_next_wake()

    def names(self) -> dict[str, list[int]]:
        """The event names that running campaigns wait for."""
        names: dict[str, list[int]] = {}
        for campaign_id, row in self._rows.items():
            trigger = self._campaigns[campaign_id].trigger
            if row.state == "running" and isinstance(trigger, EventTrigger):
                names.setdefault(trigger.name, []).append(campaign_id)
        return names

    def segment_triggers(self) -> set[int]:
        """The segments whose transitions running campaigns wait for."""
        found: set[int] = set()
        for campaign_id, row in self._rows.items():
            trigger = self._campaigns[campaign_id].trigger
            if row.state == "running" and isinstance(trigger, SegmentTrigger):
                found.add(trigger.segment_id)
        return found

    def transitions_of(self, segment_id: int) -> set[str]:
        """Which transitions of a segment running campaigns wait for."""
        return {
            trigger.transition
            for campaign_id, row in self._rows.items()
            if row.state == "running"
            and isinstance(trigger := self._campaigns[campaign_id].trigger, SegmentTrigger)
            and trigger.segment_id == segment_id
        }

    def trigger_of(self, campaign_id: int) -> EventTrigger | SegmentTrigger:
        return self._campaigns[campaign_id].trigger

    # -- triggers -----------------------------------------------------------------------------------------------------

    def on_event(self, person: int, event: Happened, now_us: int, *, any_age: bool = False) -> None:
        """Start the journeys of campaigns that wait for this event, if it is fresh enough."""
        if event.kind != "event" or not (any_age or self._fresh(event.time_us, event.accept_us)):
            return
        for campaign_id in self.names().get(event.name, ()) if self._rows else ():
            trigger = self._campaigns[campaign_id].trigger
            assert isinstance(trigger, EventTrigger)
            if trigger.where is not None and not where_holds(trigger.where, _decode(event.data), event.time_us):
                continue
            cause = EventCause(name=event.name, time_us=event.time_us, event_id=event.event_id, data=event.data)
            self._begin(campaign_id, person, cause, effective_us=event.time_us, now_us=now_us)

    def _fresh(self, effective_us: int, accept_us: int) -> bool:
        return triggers(effective_us, accept_us, self._context.trigger_age_us)

    def on_transition(self, transition: Transition, effective_us: int, now_us: int, *, accept_us: int | None = None) -> None:
        """Start the journeys of campaigns that wait for this entry or exit, if it is fresh enough."""
        if self._fresh(effective_us, now_us if accept_us is None else accept_us):
            self.begin_transition(transition, effective_us, now_us)

    def begin_transition(self, transition: Transition, effective_us: int, now_us: int) -> int:
        """The same whatever its age; returns how many journeys began."""
        kind = "entered" if transition.entered else "left"
        begun = 0
        for campaign_id, row in self._rows.items():
            trigger = self._campaigns[campaign_id].trigger
            if row.state != "running" or not isinstance(trigger, SegmentTrigger):
                continue
            if trigger.segment_id == transition.segment_id and trigger.transition == kind:
                cause = SegmentCause(segment_id=trigger.segment_id, transition=kind)
                self._begin(campaign_id, transition.person, cause, effective_us=effective_us, now_us=now_us)
                begun += 1
        return begun

    def on_person(self, person: int, now_us: int) -> None:
        """A filter that waits for this person may hold now."""
        if person in self._filtering:
            for _, body in self._ledger.filtering(person):
                self._advance(msgspec.msgpack.decode(body, type=Journey), now_us)

    def on_delete(self, person: int, now_us: int) -> None:
        self._ledger.end_journeys(person)
        self._filtering.discard(person)

    # -- journeys -----------------------------------------------------------------------------------------------------

    def _begin(self, campaign_id: int, person: int, cause: Cause, *, effective_us: int, now_us: int) -> None:
        campaign = self._campaigns[campaign_id]
        journey_id = self._ledger.next_journey()
        if campaign.filter is None:
            before = self._ledger.entered_us(person, campaign_id, journey_id)
            if may_start(campaign, previous_starts_us=before, now_us=now_us) is not None:
                return
        journey = start(
            campaign,
            cause,
            journey_id=journey_id,
            campaign_id=campaign_id,
            person=person,
            now_us=now_us,
            effective_us=effective_us,
        )
        self._advance(journey, now_us)

    def _advance(self, journey: Journey, now_us: int) -> None:
        assert self._profiles is not None
        if self._depth >= DEPTH_MAX or journey.person not in self._context.segments.alive:
            self._keep_journey(leave(journey, now_us=now_us, reason="steps of campaigns called each other in a circle"))
            return
        self._depth += 1
        try:
            while True:
                step = self._step(journey, now_us)
                journey = step.journey
                self._keep_journey(step)
                updates = [effect for effect in step.effects if isinstance(effect, UpdateAttributes)]
                for update in updates:
                    self._profiles.update(journey.person, _decode(update.attributes), now_us)
                if not updates or journey.state != "active":
                    return
        finally:
            self._depth -= 1

    def _step(self, journey: Journey, now_us: int) -> Advance:
        assert self._profiles is not None
        campaign = self._campaigns[journey.campaign_id]
        _, shown = self._profiles.shown(journey.person)
        name = ""
        if isinstance(journey.cause, SegmentCause):
            number = journey.cause.segment_id
            name = next((r.name for r in read_segments(self._folder.state.db) if r.segment_id == number), "")
        return advance(
            journey,
            campaign,
            now_us=now_us,
            holds=lambda condition: self._holds(journey.person, condition, shown, now_us),
            customer=shown,
            segment_name=name,
            previous_starts_us=self._ledger.entered_us(journey.person, journey.campaign_id, journey.journey_id),
        )

    def _holds(self, person: int, condition: Condition, shown: dict[str, Json], now_us: int) -> bool:
        """Does a condition hold for a person now? Segments by their membership, the rest by the person's history."""
        segments = self._context.segments
        if any(isinstance(key, EventTest) for key in leaf_keys(condition)):
            asked = read_person(self._folder, segments, person, {})
            asked.documents = [(asked.known_us, shown)]
            return asked.holds(condition, now_us)
        return PersonInTime(person, shown, [], [], segments).holds(condition, now_us)

    def _keep_journey(self, step: Advance) -> None:
        journey = step.journey
        self._ledger.put_journey(
            journey.journey_id,
            journey.campaign_id,
            journey.person,
            journey.state,
            journey.entered_us,
            journey.wake_us,
            msgspec.msgpack.encode(journey),
        )
        if journey.state == "filtering":
            self._filtering.add(journey.person)
        elif journey.person in self._filtering and not self._ledger.filtering(journey.person):
            self._filtering.discard(journey.person)
        if journey.wake_us is not None:
            self.next_wake_us = min(self.next_wake_us, journey.wake_us)
        sends = {effect.action_id: effect for effect in step.effects if not isinstance(effect, UpdateAttributes)}
        for decision in step.decisions:
            seq = self._folder.state.take_seq()
            self._ledger.add_decision(
                seq,
                journey.journey_id,
                decision.action_id,
                decision.type,
                decision.decision,
                decision.reason,
                decision.at_us,
            )
            if decision.delivery_id:
                effect = sends.get(decision.action_id)
                content = None if effect is None else (effect.email if isinstance(effect, SendEmail) else effect.webhook)
                self._add_delivery(journey, decision, content)

    def _add_delivery(self, journey: Journey, decision: Decision, content: Email | Webhook | None) -> None:
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
            body=b"{}" if content is None else msgspec.json.encode(content),
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
            self._context.after_commit.append(self.on_ready)

    def wake(self, now_us: int) -> None:
        """Advance the journeys whose moment has come."""
        for wake_us, campaign_id, body in self._ledger.due(now_us, WAKES_PER_TURN):
            journey = msgspec.msgpack.decode(body, type=Journey)
            if self._rows[campaign_id].state != "running":
                self._keep_journey(leave(journey, now_us=now_us, reason="the campaign was stopped"))
            else:
                self._advance(journey, max(now_us, wake_us))
        self._find_next_wake()

    def _find_next_wake(self) -> None:
        found = self._ledger.next_wake_us()
        self.next_wake_us = NEVER_US if found is None else found

    # -- deliveries ---------------------------------------------------------------------------------------------------

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
        return claimed

    def outcome(self, fact: EffectOutcome, now_us: int) -> Receipt:
        row = self._ledger.delivery(fact.delivery_id)
        if row is None or row.state in ("sent", "dropped"):
            return Receipt("dropped", reason="there is no such delivery under way")
        metrics: dict[str, int] = _decode(row.metrics)
        state, ready_us = "failed", None
        match fact.outcome:
            case "sent" | "failed" | "dropped" | "in_doubt":
                state = fact.outcome
                if state != "in_doubt":
                    metrics[state] = now_us
            case "attempted":
                state, ready_us = "queued", fact.retry_at_us
            case _:
                assert_never(fact.outcome)
        self._ledger.set_delivery(
            row.delivery_id,
            state=state,
            ready_us=ready_us,
            attempts=row.attempts,
            metrics=metrics,
            failure=fact.reason or None,
        )
        self._trace(row, "attempted" if fact.outcome in ("attempted", "in_doubt") else fact.outcome, now_us)
        return Receipt("applied")

    def _trace(self, row: DeliveryRow, metric: str, now_us: int) -> None:
        data = {"delivery_id": row.delivery_id, "campaign_id": row.campaign_id}
        self._context.activity(row.person, f"{metric}_{row.kind}", now_us, now_us, data, row.delivery_id)

    def retry(self, fact: RetryDelivery, now_us: int) -> Receipt:
        row = self._ledger.delivery(fact.delivery_id)
        if row is None:
            return Receipt("dropped", reason=f"there is no delivery {fact.delivery_id}")
        if row.state not in ("failed", "in_doubt", "dropped") or row.body == b"{}":
            return Receipt("conflict", reason=f"the delivery is {row.state}; only failed and in-doubt ones are retried")
        self._ledger.set_delivery(
            row.delivery_id,
            state="queued",
            ready_us=now_us,
            attempts=row.attempts,
            metrics=_decode(row.metrics),
            failure=None,
        )
        self._context.after_commit.append(self.on_ready)
        return Receipt("applied")

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
                failure="the server stopped during the attempt; whether it was sent is not known",
            )
        return len(rows)
