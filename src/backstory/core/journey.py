"""Journeys: one person's way through a campaign, as a machine without a clock.

``start`` makes a journey, ``advance`` takes it as far as it can go at a moment and answers what was decided and what
is to be done in the world. Whoever drives it keeps the journey, records the decisions, hands on the effects, and calls
``advance`` again at ``wake_us``, and for a journey in state *filtering* whenever the person changed. A call that comes
too early or twice changes nothing.

The theory: the steps are numbered (``action_id``) and each has one successor, further down; a condition has two. The
cursor only ever moves along successors, so no step is passed twice, and as a step acts in passing, no action of a
journey sends twice. What an action sends has a name made of campaign, journey and action (``delivery_id``), so a
replay makes the same names.

Sources: design sections 9 and 11; semantics sections 6.2 to 6.4 and 7.2.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, assert_never, cast

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from backstory.core import address
from backstory.core.belonging import Belongings
from backstory.core.campaign import Campaign
from backstory.core.condition import Condition
from backstory.core.message import (
    Email,
    Refusal,
    Webhook,
    compose_attributes,
    compose_email,
    compose_webhook,
    delivery_id,
    subscribed,
)
from backstory.core.operand import Json
from backstory.core.step import AttributeUpdateStep, ConditionStep, DelayStep, EmailStep, Step, WebhookStep
from backstory.core.time import MINUTE_US, SECOND_US, to_iso, to_unix
from backstory.core.trigger import Cause, EventCause, SegmentCause

# How long an event campaign looks whether its filter comes true (semantics section 6.2).
FILTER_US = 30 * MINUTE_US
# Behind the last step.
END = 0

JourneyState = Literal["filtering", "active", "finished", "exited"]
DecisionKind = Literal["entered", "waiting", "send", "failed", "skipped", "branch", "updated", "exited", "finished"]


class Journey(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where one person stands in one campaign.

    ``started_us`` is when the trigger was accepted, ``effective_us`` when it became true, ``entered_us`` when the
    filter let the person in (what counts for the frequency), ``cursor`` the action to run next, ``arrived_us`` since
    when it stands at the delay under the cursor, ``wake_us`` when to advance it at the latest. ``import_id`` is the
    import it came of, 0: none.
    """

    journey_id: int
    campaign_id: int
    person: int
    state: JourneyState
    started_us: int
    effective_us: int
    cause: Cause
    cursor: int = 1
    entered_us: int | None = None
    arrived_us: int | None = None
    wake_us: int | None = None
    filter_until_us: int | None = None
    import_id: int = 0


class Decision(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the ledger: what was decided at an action, and why. ``action_id`` 0 is the journey itself.

    ``delivery_id`` names the message a ``send`` or ``failed`` is about.
    """

    action_id: int
    type: str
    decision: DecisionKind
    at_us: int
    reason: str = ""
    delivery_id: str = ""


class SendEmail(Struct, frozen=True, kw_only=True, tag="send_email"):
    action_id: int
    delivery_id: str
    email: Email


class CallWebhook(Struct, frozen=True, kw_only=True, tag="call_webhook"):
    action_id: int
    delivery_id: str
    webhook: Webhook


class UpdateAttributes(Struct, frozen=True, kw_only=True, tag="update_attributes"):
    """``attributes`` (a JSON object) became true at ``time_us``."""

    action_id: int
    attributes: bytes
    time_us: int


Effect = SendEmail | CallWebhook | UpdateAttributes


class Advance(Struct, frozen=True):
    """Where a journey stands now, what was decided on the way, and what is to be done."""

    journey: Journey
    decisions: tuple[Decision, ...] = ()
    effects: tuple[Effect, ...] = ()


def may_start(campaign: Campaign, *, previous_starts_us: Sequence[int], now_us: int) -> Refusal | None:
    """Why a person may not start now, by the frequency; None when they may.

    ``previous_starts_us`` are the ``entered_us`` of their other journeys in the campaign, in any order.
    """
    if not previous_starts_us:
        return None
    last_us = max(previous_starts_us)
    if campaign.frequency.mode == "once":
        return Refusal(f"once per person; they started at {to_iso(last_us)}")
    interval_s = campaign.frequency.min_interval_s
    if now_us - last_us < interval_s * SECOND_US:
        return Refusal(f"at least {interval_s} seconds apart; they started at {to_iso(last_us)}")
    return None


def start(
    campaign: Campaign,
    cause: Cause,
    *,
    journey_id: int,
    campaign_id: int,
    person: int,
    now_us: int,
    effective_us: int,
    import_id: int = 0,
) -> Journey:
    """A journey that has not moved yet; advance it at once. ``now_us`` is when its trigger was accepted."""
    filter_until_us = None
    if campaign.filter is not None:
        filter_until_us = now_us + FILTER_US if isinstance(cause, EventCause) else now_us
    return Journey(
        journey_id=journey_id,
        campaign_id=campaign_id,
        person=person,
        state="active" if campaign.filter is None else "filtering",
        started_us=now_us,
        effective_us=effective_us,
        cause=cause,
        entered_us=now_us if campaign.filter is None else None,
        wake_us=now_us,
        filter_until_us=filter_until_us,
        import_id=import_id,
    )


def advance(
    journey: Journey,
    campaign: Campaign,
    *,
    now_us: int,
    holds: Callable[[Condition], bool],
    customer: Mapping[str, Json],
    segment_name: str = "",
    previous_starts_us: Sequence[int] = (),
    belongings: Callable[[], Belongings] = Belongings,
) -> Advance:
    """Take a journey as far as it goes at ``now_us``.

    ``holds`` answers a condition for the person now; ``customer`` is what they are: their attributes with ``id``,
    ``email`` and ``cio_id``; ``previous_starts_us`` as in ``may_start``, looked at when a filter lets them in.
    ``belongings`` reads their devices and objects when a template is to be filled in.
    After an ``UpdateAttributes`` the journey stops with ``wake_us`` now: apply it, then advance again, so that the
    next steps see it.
    """
    walk = _Walk(journey, now_us, customer, segment_name, belongings)
    if journey.state == "filtering":
        walk.judge(campaign, holds, previous_starts_us)
    if walk.journey.state == "active":
        walk.run(campaign, holds)
    return Advance(walk.journey, tuple(walk.decisions), tuple(walk.effects))


def leave(journey: Journey, *, now_us: int, reason: str) -> Advance:
    """End a journey early: its campaign was stopped, its person deleted, its trigger taken back."""
    if journey.state not in ("filtering", "active"):
        return Advance(journey)
    walk = _Walk(journey, now_us, {}, "")
    walk.end("exited", reason)
    return Advance(walk.journey, tuple(walk.decisions))


def namespace(
    cause: Cause, customer: Mapping[str, Json], segment_name: str = "", belongings: Belongings | None = None
) -> dict[str, Json]:
    """What the templates of a journey see (described in ``template``)."""
    having = belongings or Belongings()
    devices, objects = list[Json](having.devices), dict[str, Json](having.objects)
    names: dict[str, Json] = {"customer": {**customer, "devices": devices}, "objects": objects}
    match cause:
        case EventCause():
            data = cast("Json", msgspec.json.decode(cause.data))
            names |= {"event": data, "trigger": data, "event_name": cause.name}
            # Few events have an id: a template may name it all the same.
            names |= {"event_id": cause.event_id, "event_timestamp": to_unix(cause.time_us)}
        case SegmentCause():
            segment: dict[str, Json] = {"id": cause.segment_id, "name": segment_name}
            names["trigger"] = {"segment": segment, "transition": cause.transition}
        case _:
            assert_never(cause)
    return names


class _Walk:
    """One call of ``advance``: the journey as it moves, and what comes of it."""

    def __init__(
        self,
        journey: Journey,
        now_us: int,
        customer: Mapping[str, Json],
        segment_name: str,
        belongings: Callable[[], Belongings] = Belongings,
    ) -> None:
        self.journey: Journey = journey
        self.decisions: list[Decision] = []
        self.effects: list[Effect] = []
        self._now_us = now_us
        self._customer = customer
        self._belongings = belongings
        self._segment_name = segment_name
        self._names: dict[str, Json] | None = None

    def judge(self, campaign: Campaign, holds: Callable[[Condition], bool], previous_starts_us: Sequence[int]) -> None:
        """Let the person in, wait, or send them away."""
        until_us = self.journey.filter_until_us
        by_event = isinstance(self.journey.cause, EventCause)
        # What holds later than the last moment says nothing about the last moment.
        in_time = until_us is None or not by_event or self._now_us <= until_us
        if in_time and (campaign.filter is None or holds(campaign.filter)):
            refusal = may_start(campaign, previous_starts_us=previous_starts_us, now_us=self._now_us)
            if refusal is not None:
                self.end("exited", refusal.reason)
                return
            self._decide(0, "filter", "entered", "the filter holds")
            self.journey = replace(
                self.journey, state="active", entered_us=self._now_us, wake_us=self._now_us, filter_until_us=None
            )
        elif until_us is None or self._now_us >= until_us:
            minutes = FILTER_US // MINUTE_US
            self.end("exited", f"the filter did not hold{f' within {minutes} minutes' if by_event else ''}")
        else:
            self.journey = replace(self.journey, wake_us=until_us)

    def run(self, campaign: Campaign, holds: Callable[[Condition], bool]) -> None:
        """Pass step after step until one holds the journey up."""
        plan: dict[int, tuple[Step, int]] = {}
        _lay_out(campaign.steps, END, plan)
        while self.journey.cursor != END:
            if self.journey.cursor not in plan:
                self.end("exited", "the step it stood at is no longer in the campaign")
                return
            step, following = plan[self.journey.cursor]
            updated = False
            match step:
                case DelayStep():
                    if not self._wait(step):
                        return
                case ConditionStep():
                    following = self._branch(step, following, holds)
                case EmailStep():
                    self._email(step)
                case WebhookStep():
                    self._webhook(step)
                case AttributeUpdateStep():
                    updated = self._update(step)
                case _:
                    assert_never(step)
            self.journey = replace(self.journey, cursor=following, arrived_us=None, wake_us=self._now_us)
            if updated and following != END:
                return
        self.end("finished", "")

    def end(self, kind: Literal["exited", "finished"], reason: str) -> None:
        self._decide(0, "journey", kind, reason)
        self.journey = replace(
            self.journey, state=kind, cursor=END, arrived_us=None, wake_us=None, filter_until_us=None
        )

    def _wait(self, step: DelayStep) -> bool:
        """Whether the delay is over. Its length is today's: a shortened delay releases who has waited long enough."""
        arrived_us = self.journey.arrived_us
        due_us = (self._now_us if arrived_us is None else arrived_us) + step.seconds * SECOND_US
        if arrived_us is not None and self._now_us >= due_us:
            return True
        if arrived_us is None or due_us != self.journey.wake_us:
            self._decide(step.action_id, "delay", "waiting", f"until {to_iso(due_us)}")
        self.journey = replace(self.journey, arrived_us=due_us - step.seconds * SECOND_US, wake_us=due_us)
        return False

    def _branch(self, step: ConditionStep, following: int, holds: Callable[[Condition], bool]) -> int:
        taken, way = (step.then, "then") if holds(step.condition) else (step.otherwise, "else")
        self._decide(step.action_id, "condition", "branch", way)
        return taken[0].action_id if taken else following

    def _email(self, step: EmailStep) -> None:
        if not subscribed(self._customer):
            self._decide(step.action_id, "email", "skipped", "unsubscribed")
            return
        cause = self.journey.cause
        data = self._context().get("event") if isinstance(cause, EventCause) else None
        email = compose_email(step, self._context(), data if isinstance(data, dict) else {}, now_us=self._now_us)
        name = self._delivery_id(step)
        if isinstance(email, Refusal):
            self._decide(step.action_id, "email", "failed", email.reason, name)
            return
        self._decide(step.action_id, "email", "send", f"to {email.recipient.mail}", name)
        self.effects.append(SendEmail(action_id=step.action_id, delivery_id=name, email=email))

    def _webhook(self, step: WebhookStep) -> None:
        # Not a message to the person: an opt-out does not stop it (semantics section 11, rule 25).
        webhook = compose_webhook(step, self._context(), now_us=self._now_us)
        name = self._delivery_id(step)
        if isinstance(webhook, Refusal):
            self._decide(step.action_id, "webhook", "failed", webhook.reason, name)
            return
        # Only the host: the rest of a URL often holds a key.
        self._decide(step.action_id, "webhook", "send", f"to {address.host_of(webhook.url)}", name)
        self.effects.append(CallWebhook(action_id=step.action_id, delivery_id=name, webhook=webhook))

    def _update(self, step: AttributeUpdateStep) -> bool:
        attributes = compose_attributes(step, self._context(), now_us=self._now_us)
        if isinstance(attributes, Refusal):
            self._decide(step.action_id, "attribute_update", "failed", attributes.reason)
            return False
        names = ", ".join(name for name, _ in step.attributes)
        self._decide(step.action_id, "attribute_update", "updated", names)
        self.effects.append(UpdateAttributes(action_id=step.action_id, attributes=attributes, time_us=self._now_us))
        return True

    def _decide(self, action_id: int, kind: str, decision: DecisionKind, reason: str, name: str = "") -> None:
        self.decisions.append(
            Decision(
                action_id=action_id, type=kind, decision=decision, at_us=self._now_us, reason=reason, delivery_id=name
            )
        )

    def _context(self) -> dict[str, Json]:
        if self._names is None:
            self._names = namespace(self.journey.cause, self._customer, self._segment_name, self._belongings())
        return self._names

    def _delivery_id(self, step: EmailStep | WebhookStep) -> str:
        return delivery_id(
            campaign_id=self.journey.campaign_id,
            journey_id=self.journey.journey_id,
            action_id=step.action_id,
            started_us=self.journey.started_us,
        )


def _lay_out(steps: tuple[Step, ...], after: int, plan: dict[int, tuple[Step, int]]) -> None:
    """Each step with the number of the one that follows it; a branch goes on behind its condition."""
    for i, step in enumerate(steps):
        following = steps[i + 1].action_id if i + 1 < len(steps) else after
        plan[step.action_id] = (step, following)
        if isinstance(step, ConditionStep):
            _lay_out(step.then, following, plan)
            _lay_out(step.otherwise, following, plan)
