"""Campaigns at work: their definitions, and the triggers that start journeys.

Runs on the loop's thread, inside its transaction. Only what is accepted after a campaign's start counts, and only
what is fresh enough: accept time - effective time within the age limit (design section 9).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
from pyroaring import BitMap

from backstory.core.campaign import Campaign, parse, segments_used
from backstory.core.comparison import where_holds
from backstory.core.condition import Json
from backstory.core.fact import EffectOutcome, PutCampaign, Receipt, RetryDelivery, SetCampaignState
from backstory.core.message import Delivery
from backstory.core.segment import Transition
from backstory.core.trigger import EventCause, EventTrigger, SegmentCause, SegmentTrigger, triggers
from backstory.engine.apply.delivery import Deliveries
from backstory.engine.apply.journey import Journeys
from backstory.engine.context import Context, Happened
from backstory.store.definition import CampaignRow, read_campaigns

if TYPE_CHECKING:
    from backstory.engine.apply.profile import Profiles

# How many journeys begin in one transaction when a campaign takes in everybody who is there.
BEGIN_AT_ONCE = 500
_decode = msgspec.json.Decoder().decode


class Campaigns:
    """The campaigns of a workspace, with their journeys and deliveries."""

    def __init__(self, context: Context, *, retry_in_doubt: bool) -> None:
        self._context = context
        self._folder = context.folder
        self._rows: dict[int, CampaignRow] = {}
        self._campaigns: dict[int, Campaign] = {}
        # What running campaigns wait for, kept with the definitions: events are many.
        self._by_event: dict[str, list[int]] = {}
        self._by_segment: dict[tuple[int, str], list[int]] = {}
        # Somebody who was in a segment when a campaign began is still to begin their journey.
        self.begins = False
        self._profiles: Profiles | None = None
        self.deliveries = Deliveries(context, retry_in_doubt=retry_in_doubt, runs=self.runs, shown=self._shown)
        self.journeys = Journeys(context, self.deliveries, campaigns=self._campaigns, runs=self.runs)

    def use(self, profiles: "Profiles") -> None:
        """People as they are, and where steps write attributes."""
        self._profiles = profiles
        self.journeys.use(profiles)

    def restore(self) -> None:
        """At the start: definitions, waiting journeys, further attempts."""
        for row in read_campaigns(self._folder.state.db):
            self._rows[row.campaign_id] = row
            self._campaigns[row.campaign_id] = parse(_decode(row.definition))
        self._index()
        self.begins = self._folder.definitions.next_start() is not None
        self.journeys.restore()
        self.deliveries.restore()

    def _shown(self, person: int) -> Mapping[str, Json]:
        assert self._profiles is not None
        return self._profiles.shown(person)[1]

    # -- definitions ------------------------------------------------------------------------------------------------

    def put(self, fact: PutCampaign, now_us: int) -> Receipt:
        campaign = parse(_decode(fact.definition))
        old = self._rows.get(fact.campaign_id) if fact.campaign_id is not None else None
        if fact.campaign_id is not None and old is None:
            return Receipt("dropped", reason=f"there is no campaign {fact.campaign_id}")
        refusal = self._refusal(campaign, old)
        if refusal is not None:
            return refusal
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

    def _refusal(self, campaign: Campaign, old: CampaignRow | None) -> Receipt | None:
        for segment_id in sorted(segments_used(campaign)):
            if segment_id not in self._context.segments.segments:
                return Receipt("dropped", reason=f"there is no segment {segment_id}")
        if old is None:
            return None
        before = self._campaigns[old.campaign_id]
        if type(before.trigger) is not type(campaign.trigger):
            return Receipt("dropped", reason="the kind of trigger of a campaign cannot be changed: make a new campaign")
        if old.state == "running" and before.steps != campaign.steps:
            # Journeys stand at numbered steps, and a change numbers them anew.
            return Receipt("conflict", reason="the steps of a running campaign cannot be changed: stop it first")
        return None

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
        self._keep(_in_state(row, "running", now_us), campaign)
        trigger = campaign.trigger
        if campaign.include_current and isinstance(trigger, SegmentTrigger):
            inside = self._context.segments.segments[trigger.segment_id].members
            people = inside if trigger.transition == "entered" else self._context.segments.alive - inside
            self._folder.definitions.put_start(campaign_id, now_us, people.serialize())
            self.begins = True
            self.begin_some(now_us)

    def begin_some(self, now_us: int) -> None:
        """Begin the journeys of some who were there when their campaign began, and note who is still to come."""
        found = self._folder.definitions.next_start()
        self.begins = found is not None
        if found is None:
            return
        campaign_id, at_us, body = found
        people, trigger = BitMap.deserialize(body), self._campaigns[campaign_id].trigger
        some = BitMap(people[:BEGIN_AT_ONCE])
        self._folder.definitions.put_start(campaign_id, at_us, (people - some).serialize() if people - some else None)
        assert isinstance(trigger, SegmentTrigger), "the kind of a trigger does not change"
        cause = SegmentCause(segment_id=trigger.segment_id, transition=trigger.transition)
        for person in list(some):
            self.journeys.begin(campaign_id, person, cause, effective_us=at_us, now_us=now_us)

    def _stop(self, campaign_id: int, now_us: int) -> None:
        """Nobody enters, those inside leave, what was not sent is dropped."""
        self._keep(_in_state(self._rows[campaign_id], "stopped", now_us), self._campaigns[campaign_id])
        self._folder.definitions.put_start(campaign_id, now_us, None)
        self.journeys.end_of_campaign(campaign_id, now_us)
        self.deliveries.drop_of_campaign(campaign_id, now_us)

    def _keep(self, row: CampaignRow, campaign: Campaign) -> None:
        self._rows[row.campaign_id] = row
        self._campaigns[row.campaign_id] = campaign
        self._folder.definitions.put_campaign(row)
        self._index()

    def _index(self) -> None:
        self._by_event.clear()
        self._by_segment.clear()
        for campaign_id in filter(self.runs, self._rows):
            match self._campaigns[campaign_id].trigger:
                case EventTrigger(name=name):
                    self._by_event.setdefault(name, []).append(campaign_id)
                case SegmentTrigger(segment_id=segment_id, transition=transition):
                    self._by_segment.setdefault((segment_id, transition), []).append(campaign_id)

    # -- what they wait for -------------------------------------------------------------------------------------------

    def runs(self, campaign_id: int) -> bool:
        return self._rows[campaign_id].state == "running"

    def names(self) -> Mapping[str, list[int]]:
        """The event names that running campaigns wait for, with the numbers of the campaigns."""
        return self._by_event

    def segment_triggers(self) -> set[int]:
        """The segments whose transitions running campaigns wait for."""
        return {segment_id for segment_id, _ in self._by_segment}

    def transitions_of(self, segment_id: int) -> set[str]:
        """Which transitions of a segment running campaigns wait for."""
        return {transition for number, transition in self._by_segment if number == segment_id}

    def trigger_of(self, campaign_id: int) -> EventTrigger | SegmentTrigger:
        return self._campaigns[campaign_id].trigger

    # -- triggers -----------------------------------------------------------------------------------------------------

    def waits_for(self, kind: str, name: str) -> bool:
        """Does a running campaign wait for such events?"""
        return name in self._by_event and kind == "event"

    def on_event(self, person: int, event: Happened, now_us: int, *, any_age: bool = False) -> str:
        """Start the journeys of campaigns that wait for this event, if it is fresh enough; returns why not, if not."""
        waiting = self._by_event.get(event.name)
        if not waiting or event.kind != "event":
            return ""
        if not (any_age or self._fresh(event.time_us, event.accept_us)):
            return "the event is too old to start campaigns; segments count it"
        data: dict[str, Json] = _decode(event.data)
        for campaign_id in tuple(waiting):
            trigger, started_us = self._campaigns[campaign_id].trigger, self._rows[campaign_id].started_us
            assert isinstance(trigger, EventTrigger)
            assert started_us is not None
            if event.accept_us < started_us:
                continue
            if trigger.where is None or where_holds(trigger.where, data, event.time_us):
                cause = EventCause(name=event.name, time_us=event.time_us, event_id=event.event_id, data=event.data)
                self.journeys.begin(campaign_id, person, cause, effective_us=event.time_us, now_us=now_us)
        return ""

    def _fresh(self, effective_us: int, accept_us: int) -> bool:
        return triggers(effective_us, accept_us, self._context.trigger_age_us)

    def on_transition(
        self, transition: Transition, effective_us: int, now_us: int, *, accept_us: int | None = None
    ) -> None:
        """Start the journeys of campaigns that wait for this entry or exit, if it is fresh enough."""
        # Filters ask for membership too.
        self.on_person(transition.person, now_us)
        if self._fresh(effective_us, now_us if accept_us is None else accept_us):
            self.begin_transition(transition, effective_us, now_us)

    def begin_transition(
        self, transition: Transition, effective_us: int, now_us: int, *, accept_us: int | None = None
    ) -> int:
        """The same whatever its age, where the campaign ran at ``accept_us``; returns how many waited for it."""
        kind = "entered" if transition.entered else "left"
        waiting = [
            campaign_id
            for campaign_id in self._by_segment.get((transition.segment_id, kind), ())
            if accept_us is None or (self._rows[campaign_id].started_us or 0) <= accept_us
        ]
        for campaign_id in waiting:
            cause = SegmentCause(segment_id=transition.segment_id, transition=kind)
            self.journeys.begin(
                campaign_id, transition.person, cause, effective_us=effective_us, now_us=now_us
            )
        return len(waiting)

    def on_person(self, person: int, now_us: int) -> None:
        """A filter that waits for this person may hold now."""
        self.journeys.on_person(person, now_us)

    def people_waiting(self) -> set[int]:
        """Those for whom some journey waits for its filter."""
        return self.journeys.filtering

    def on_people(self, people: BitMap, now_us: int) -> None:
        """The same of many: an import changed something about them."""
        self.journeys.on_people(people, now_us)

    def on_delete(self, person: int, now_us: int) -> None:
        self.journeys.end_of_person(person, now_us)
        self.deliveries.drop_of_person(person, now_us)

    def on_merge(self, survivor: int, other: int, now_us: int) -> None:
        """The survivor takes over the journeys and deliveries of the other."""
        self.journeys.inherit(survivor, other, now_us)
        self._folder.ledger.move_deliveries(other, survivor)

    # -- time and deliveries ------------------------------------------------------------------------------------------

    def next_wake_us(self) -> int:
        """When a journey, or a delivery that waits for its next attempt, has something to do."""
        return min(self.journeys.next_wake_us, self.deliveries.next_ready_us)

    def wake(self, now_us: int) -> None:
        """Do what is due."""
        self.journeys.wake(now_us)
        self.deliveries.wake(now_us)

    def claim(self, count: int, now_us: int) -> list[Delivery]:
        return self.deliveries.claim(count, now_us)

    def outcome(self, fact: EffectOutcome, now_us: int) -> Receipt:
        return self.deliveries.outcome(fact, now_us)

    def retry(self, fact: RetryDelivery, now_us: int) -> Receipt:
        return self.deliveries.retry(fact, now_us)

    def settle_doubt(self, now_us: int) -> int:
        return self.deliveries.settle_doubt(now_us)


def _in_state(row: CampaignRow, state: str, now_us: int) -> CampaignRow:
    starts = state == "running"
    return CampaignRow(
        campaign_id=row.campaign_id,
        definition=row.definition,
        state=state,
        created_us=row.created_us,
        updated_us=now_us,
        first_started_us=(row.first_started_us or now_us) if starts else row.first_started_us,
        started_us=now_us if starts else row.started_us,
    )
