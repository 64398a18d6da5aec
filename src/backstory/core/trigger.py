"""Triggers: what starts a journey, and how old it may be.

A *trigger* is the part of a campaign's definition that says what to wait for; a *cause* is what then happened to
one person. Source: design sections 9 and 11.
"""

from typing import Literal

from msgspec import Struct

from backstory.core.condition import Where
from backstory.core.time import HOUR_US

Transition = Literal["entered", "left"]

# Of a workspace that has set nothing else.
AGE_LIMIT_US = 72 * HOUR_US


class EventTrigger(Struct, frozen=True, tag="event", kw_only=True):
    """An event (of kind event, never page or screen) of this name whose data satisfies ``where``."""

    name: str
    where: Where | None = None


class SegmentTrigger(Struct, frozen=True, tag="segment", kw_only=True):
    """A person entered or left the segment."""

    segment_id: int
    transition: Transition


Trigger = EventTrigger | SegmentTrigger


class EventCause(Struct, frozen=True, tag="event", kw_only=True, omit_defaults=True):
    """The event that started a journey. ``data`` is a JSON object; ``time_us`` when it happened."""

    name: str
    time_us: int
    event_id: str | None = None
    data: bytes = b"{}"


class SegmentCause(Struct, frozen=True, tag="segment", kw_only=True):
    """The segment that was entered or left."""

    segment_id: int
    transition: Transition


Cause = EventCause | SegmentCause


def triggers(effective_us: int, accept_us: int, age_limit_us: int = AGE_LIMIT_US) -> bool:
    """Whether something that became true at ``effective_us`` may still start journeys (design section 9).

    ``accept_us`` is when we took it in: for an import its start, for an anonymous event its claim.
    """
    return accept_us - effective_us <= age_limit_us
