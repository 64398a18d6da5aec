"""Journeys at work: begun by a trigger, advanced when they wake or their person changes, kept with every decision.

Runs on the loop's thread, inside its transaction. What a step does may move other journeys of the same person, so a
stored journey is read again right before it is advanced.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, assert_never

import msgspec
from pyroaring import BitMap

from backstory.core.belonging import Belongings, belongings_of
from backstory.core.campaign import Campaign
from backstory.core.condition import (
    And,
    AttributeTest,
    Condition,
    DeviceTest,
    EventTest,
    InSegment,
    Json,
    Not,
    Or,
    RelationTest,
)
from backstory.core.device import shown_device
from backstory.core.journey import Advance, Journey, SendEmail, UpdateAttributes, advance, leave, may_start, start
from backstory.core.leaf import NEVER_US
from backstory.core.object import shown_object
from backstory.core.trigger import Cause, SegmentCause
from backstory.engine.apply.delivery import Deliveries
from backstory.engine.context import Context
from backstory.engine.segment.effective import stored_person
from backstory.engine.segment.past import Stored
from backstory.store.ledger import Column
from backstory.store.object import cio_object_id_of

if TYPE_CHECKING:
    from backstory.engine.apply.profile import Profiles

WAKES_PER_TURN = 1000
# Campaigns whose steps make each other begin would go round for ever.
DEPTH_MAX = 20
CIRCLE = "steps of campaigns called each other in a circle"
_ALWAYS, _NEVER = And(()), Or(())
_decode = msgspec.json.Decoder().decode


class Journeys:
    """``campaigns`` are all definitions by number, ``runs`` says whether one runs."""

    def __init__(
        self,
        context: Context,
        deliveries: Deliveries,
        *,
        campaigns: Mapping[int, Campaign],
        runs: Callable[[int], bool],
    ) -> None:
        self._context = context
        self._folder = context.folder
        self._ledger = context.folder.ledger
        self._deliveries = deliveries
        self._campaigns = campaigns
        self._runs = runs
        self._profiles: Profiles | None = None
        # People some journey of whom waits for its filter.
        self.filtering: set[int] = set()
        self._depth = 0
        self.next_wake_us = NEVER_US

    def use(self, profiles: "Profiles") -> None:
        """Steps that write attributes go through the same door as identify."""
        self._profiles = profiles

    def restore(self) -> None:
        """At the start: waiting filters, the next wake."""
        self.filtering = self._ledger.people_filtering()
        self._find_next_wake()

    # -- what makes them move -----------------------------------------------------------------------------------------

    def begin(self, campaign_id: int, person: int, cause: Cause, *, effective_us: int, now_us: int) -> None:
        """Somebody's trigger came; nothing begins for one who is gone, or whom the frequency keeps out."""
        if person not in self._context.segments.alive:
            return
        campaign = self._campaigns[campaign_id]
        journey_id = self._ledger.next_journey()
        if campaign.filter is None or campaign.frequency.mode == "once":
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
            import_id=self._folder.namings.source,
        )
        self._advance(journey, now_us)

    def on_person(self, person: int, now_us: int) -> None:
        """A filter that waits for this person may hold now."""
        if person in self.filtering and person in self._context.segments.alive:
            for journey_id in self._ledger.filtering(person):
                journey = self._read(journey_id)
                if journey is not None and journey.state == "filtering":
                    self._advance(journey, now_us)

    def on_people(self, people: BitMap, now_us: int) -> None:
        """The same of many people."""
        for person in [person for person in self.filtering if person in people]:
            self.on_person(person, now_us)

    def wake(self, now_us: int) -> None:
        """Advance the journeys whose moment has come."""
        if self.next_wake_us > now_us:
            return
        for journey_id in self._ledger.due(now_us, WAKES_PER_TURN):
            journey = self._read(journey_id)
            if journey is None or journey.wake_us is None or journey.wake_us > now_us:
                continue
            if self._runs(journey.campaign_id):
                self._advance(journey, now_us)
            else:
                self._keep(leave(journey, now_us=now_us, reason="the campaign was stopped"))
        self._find_next_wake()

    def end_of_campaign(self, campaign_id: int, now_us: int) -> None:
        """Everybody inside a stopped campaign leaves."""
        self._end("campaign_id", campaign_id, "the campaign was stopped", now_us)
        self.filtering = self._ledger.people_filtering()

    def end_of_person(self, person: int, now_us: int) -> None:
        """Nothing of somebody who was deleted goes on."""
        self._end("person", person, "the person was deleted", now_us)
        self.filtering.discard(person)

    def end_of_import(self, import_id: int, now_us: int, most: int) -> int:
        """What an import that was taken back began does not go on, so many at most; returns how many that were."""
        ended = self._end("import_id", import_id, "the import was taken back", now_us, most)
        if ended < most:
            self.filtering = self._ledger.people_filtering()
        return ended

    def inherit(self, survivor: int, other: int, now_us: int) -> None:
        """A merged person's journeys go on as the survivor's, unless that one is or was in the campaign; all count."""
        entered = self._ledger.campaigns_entered(survivor)
        for campaign_id, state, body in self._ledger.bodies_of(other):
            journey = msgspec.structs.replace(msgspec.msgpack.decode(body, type=Journey), person=survivor)
            self._ledger.move_journey(journey.journey_id, survivor, msgspec.msgpack.encode(journey))
            if state in ("filtering", "active") and campaign_id in entered:
                self._keep(leave(journey, now_us=now_us, reason="merged into somebody who is or was in the campaign"))
        self.filtering.discard(other)
        if self._ledger.filtering(survivor):
            self.filtering.add(survivor)

    def _end(self, column: Column, number: int, reason: str, now_us: int, most: int = -1) -> int:
        count = self._ledger.count_open(column, number)
        count = count if most < 0 else min(count, most)
        if count:
            first_seq = self._folder.state.take_seq(count)
            self._ledger.end_journeys(column, number, reason, now_us, first_seq, most)
            self._find_next_wake()
        return count

    def _find_next_wake(self) -> None:
        found = self._ledger.next_wake_us()
        self.next_wake_us = NEVER_US if found is None else found

    # -- moving -------------------------------------------------------------------------------------------------------

    def _read(self, journey_id: int) -> Journey | None:
        """A journey as it is stored, None when it is over."""
        body = self._ledger.open_journey(journey_id)
        return None if body is None else msgspec.msgpack.decode(body, type=Journey)

    def _advance(self, journey: Journey, now_us: int) -> None:
        assert self._profiles is not None
        if self._depth >= DEPTH_MAX:
            self._keep(leave(journey, now_us=now_us, reason=CIRCLE))
            return
        self._depth += 1
        try:
            moving = True
            while moving:
                step = self._step(journey, now_us)
                journey = step.journey
                self._keep(step)
                updates = [effect for effect in step.effects if isinstance(effect, UpdateAttributes)]
                for update in updates:
                    self._profiles.update(journey.person, _decode(update.attributes), now_us)
                moving = bool(updates) and journey.state == "active"
        finally:
            self._depth -= 1

    def _step(self, journey: Journey, now_us: int) -> Advance:
        assert self._profiles is not None
        _, shown = self._profiles.shown(journey.person)
        name = ""
        if isinstance(journey.cause, SegmentCause):
            name = self._folder.definitions.segment_name(journey.cause.segment_id)
        before: list[int] = []
        if journey.state == "filtering":
            before = self._ledger.entered_us(journey.person, journey.campaign_id, journey.journey_id)
        return advance(
            journey,
            self._campaigns[journey.campaign_id],
            now_us=now_us,
            holds=lambda condition: self._holds(journey.person, condition, shown, now_us),
            customer=shown,
            segment_name=name,
            previous_starts_us=before,
            belongings=lambda: self._belongings(journey.person),
        )

    def _belongings(self, person: int) -> Belongings:
        """Devices and objects, read when a template is to be filled in."""
        devices = [shown_device(token, record) for token, record in self._folder.devices.of_person(person)]
        related = [
            (
                row.type_id,
                record.seen_us,
                shown_object(row.type_id, row.object_id, cio_object_id_of(row.number), row.record, record),
            )
            for row, record in self._folder.relations.of_person(person)
        ]
        return belongings_of(devices, related)

    def _holds(self, person: int, condition: Condition, shown: dict[str, Json], now_us: int) -> bool:
        """Does a condition hold for a person now? What they did is read only when it is asked for."""
        segments = self._context.segments
        asked = stored_person(self._folder, segments, Stored(self._folder, [person]), person)
        asked.show(shown)
        return asked.holds(self._placed(condition, person), now_us)

    def _placed(self, condition: Condition, person: int) -> Condition:
        """The condition with each segment answered by its membership, which is exact and costs nothing."""
        match condition:
            case And(children=children):
                return And(tuple(self._placed(child, person) for child in children))
            case Or(children=children):
                return Or(tuple(self._placed(child, person) for child in children))
            case Not(child=child):
                return Not(self._placed(child, person))
            case InSegment(segment_id=segment_id):
                kept = self._context.segments.segments.get(segment_id)
                return _ALWAYS if kept is not None and person in kept.members else _NEVER
            case AttributeTest() | EventTest() | DeviceTest() | RelationTest():
                return condition
            case _:
                assert_never(condition)

    def _keep(self, step: Advance) -> None:
        journey = step.journey
        self._ledger.put_journey(
            journey.journey_id,
            journey.campaign_id,
            journey.person,
            journey.state,
            journey.entered_us,
            journey.wake_us,
            msgspec.msgpack.encode(journey),
            journey.import_id,
        )
        if journey.state == "filtering":
            self.filtering.add(journey.person)
        elif journey.person in self.filtering and not self._ledger.filtering(journey.person):
            self.filtering.discard(journey.person)
        if journey.wake_us is not None:
            self.next_wake_us = min(self.next_wake_us, journey.wake_us)
        self._record(step)

    def _record(self, step: Advance) -> None:
        """Each decision into the ledger, with the delivery it is about."""
        contents = {
            effect.action_id: effect.email if isinstance(effect, SendEmail) else effect.webhook
            for effect in step.effects
            if not isinstance(effect, UpdateAttributes)
        }
        for decision in step.decisions:
            self._ledger.add_decision(
                self._folder.state.take_seq(),
                step.journey.journey_id,
                decision.action_id,
                decision.type,
                decision.decision,
                decision.reason,
                decision.at_us,
            )
            if decision.delivery_id:
                self._deliveries.add(step.journey, decision, contents.get(decision.action_id))
