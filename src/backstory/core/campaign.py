"""Campaigns: a trigger, a filter, how often a person may start, and the steps of a journey.

Holds the definition, read from its JSON and printed again; knows no person and no journey.
Sources: design section 11, semantics sections 6.2 to 6.4; the language is explained in ``docs/campaigns.md``.
"""

from collections.abc import Iterator
from typing import Literal, assert_never

from msgspec import Struct

from backstory.core import condition, limit, step
from backstory.core.condition import Condition
from backstory.core.field import FieldError, read_flag, read_object, read_text, read_whole, read_word, wrong
from backstory.core.operand import Json
from backstory.core.step import AttributeUpdateStep as AttributeUpdateStep
from backstory.core.step import ConditionStep as ConditionStep
from backstory.core.step import DelayStep as DelayStep
from backstory.core.step import EmailStep as EmailStep
from backstory.core.step import Step as Step
from backstory.core.step import WebhookStep as WebhookStep
from backstory.core.step import steps_of as steps_of
from backstory.core.trigger import EventTrigger, SegmentTrigger, Transition, Trigger

Mode = Literal["once", "every"]
State = Literal["draft", "running"]

MODES: tuple[Mode, ...] = ("once", "every")
STATES: tuple[State, ...] = ("draft", "running")
TRANSITIONS: tuple[Transition, ...] = ("entered", "left")


class Frequency(Struct, frozen=True, kw_only=True):
    """How often one person may start: once for ever, or every time, at least ``min_interval_s`` apart."""

    mode: Mode = "once"
    min_interval_s: int = 0


class Campaign(Struct, frozen=True, kw_only=True):
    """A whole definition. ``state`` is what its maker asked for; whether it runs now is kept beside it."""

    name: str
    trigger: Trigger
    steps: tuple[Step, ...]
    filter: Condition | None = None
    frequency: Frequency = Frequency()
    include_current: bool = False
    state: State = "draft"


def parse(value: Json, path: str = "$.campaign") -> Campaign:
    """Read a campaign from the JSON of ``POST /v1/campaigns``; raises ``RequestError`` with the path of the mistake."""
    keys = ("name", "trigger", "filter", "frequency", "include_current", "steps", "state")
    fields = read_object(value, path, keys, needed=("name", "trigger", "steps"))
    trigger = _trigger(fields["trigger"], f"{path}.trigger")
    include_current = read_flag(fields.get("include_current", False), f"{path}.include_current")
    if include_current and isinstance(trigger, EventTrigger):
        message = "include_current is for segment campaigns: an event campaign starts with the events still to come"
        raise FieldError(message, path=f"{path}.include_current")
    filter_ = fields.get("filter")
    return Campaign(
        name=read_text(fields, "name", path, limit.NAME_CHARACTERS).strip(),
        trigger=trigger,
        filter=None if filter_ is None else condition.parse(filter_, path=f"{path}.filter"),
        frequency=_frequency(fields.get("frequency"), f"{path}.frequency"),
        include_current=include_current,
        steps=step.read(fields["steps"], f"{path}.steps"),
        state=read_word(fields.get("state", "draft"), STATES, f"{path}.state"),
    )


def to_json(campaign: Campaign) -> Json:
    """The canonical JSON: ``parse(to_json(c)) == c``."""
    return {
        "name": campaign.name,
        "trigger": _trigger_json(campaign.trigger),
        "filter": None if campaign.filter is None else condition.to_json(campaign.filter),
        "frequency": {"mode": campaign.frequency.mode, "min_interval_s": campaign.frequency.min_interval_s},
        "include_current": campaign.include_current,
        "steps": [step.to_json(one) for one in campaign.steps],
        "state": campaign.state,
    }


def conditions_of(campaign: Campaign) -> Iterator[Condition]:
    """The filter and the conditions of the steps: what the engine must be able to answer for a person."""
    if campaign.filter is not None:
        yield campaign.filter
    yield from (one.condition for one in steps_of(campaign.steps) if isinstance(one, ConditionStep))


def segments_used(campaign: Campaign) -> frozenset[int]:
    """The segments that must not go away while the campaign is there."""
    used = {number for found in conditions_of(campaign) for number in condition.segments_in(found)}
    if isinstance(campaign.trigger, SegmentTrigger):
        used.add(campaign.trigger.segment_id)
    return frozenset(used)


# -- reading ---------------------------------------------------------------------------------------------------


def _trigger(value: Json, path: str) -> Trigger:
    fields = read_object(value, path, ("event", "segment"))
    if len(fields) != 1:
        raise wrong('exactly one of {"event": …} and {"segment": …}', value, path)
    kind, body = next(iter(fields.items()))
    here = f"{path}.{kind}"
    if kind == "event":
        event = read_object(body, here, ("name", "where"), needed=("name",))
        # Names of events are trimmed where they come in (semantics section 11).
        name = read_text(event, "name", here).strip()
        limit.EVENT_NAME_BYTES.check(len(name.encode()), path=f"{here}.name")
        where = event.get("where")
        return EventTrigger(
            name=name, where=None if where is None else condition.parse_where(where, path=f"{here}.where")
        )
    segment = read_object(body, here, ("id", "transition"), needed=("id",))
    transition: Transition = read_word(segment.get("transition", "entered"), TRANSITIONS, f"{here}.transition")
    segment_id = read_whole(segment["id"], f"{here}.id", "the number of a segment", least=1)
    return SegmentTrigger(segment_id=segment_id, transition=transition)


def _frequency(value: Json, path: str) -> Frequency:
    if value is None:
        return Frequency()
    fields = read_object(value, path, ("mode", "min_interval_s"), needed=("mode",))
    mode: Mode = read_word(fields["mode"], MODES, f"{path}.mode")
    here = f"{path}.min_interval_s"
    seconds = read_whole(fields.get("min_interval_s", 0), here, "a number of seconds", least=0)
    limit.CAMPAIGN_INTERVAL_S.check(seconds, path=here)
    if mode == "once" and seconds:
        raise FieldError('once is once for ever; an interval needs "mode": "every"', path=here)
    return Frequency(mode=mode, min_interval_s=seconds)


# -- printing --------------------------------------------------------------------------------------------------


def _trigger_json(trigger: Trigger) -> Json:
    match trigger:
        case EventTrigger(name=name, where=where):
            return {"event": {"name": name} if where is None else {"name": name, "where": condition.to_json(where)}}
        case SegmentTrigger(segment_id=segment_id, transition=transition):
            return {"segment": {"id": segment_id, "transition": transition}}
        case _:
            assert_never(trigger)
