"""What rows of an import that are dated in the future may start when their moment comes: counted for previews.

How often is not known before: a filter, the frequency, or whatever happens until then may keep somebody out. Told is
the most there can be: an event starts its campaigns once, and moves its person once in each segment that asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from backstory.core.comparison import where_holds
from backstory.core.condition import Json
from backstory.core.trigger import EventTrigger
from backstory.engine.apply.event import Waiting

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace


def most_later(workspace: Workspace, import_id: int, campaigns: Iterable[tuple[int, bool]]) -> dict[int, int]:
    """By campaign, how many journeys at most. ``campaigns``: those that run, with whether a person starts only once."""
    bodies = workspace.folder.state.rows("SELECT body FROM future WHERE import_id = ?", (import_id,))
    waiting = [msgspec.msgpack.decode(body, type=Waiting) for (body,) in bodies]
    coming = [event for event in waiting if event.fires]
    moved = {named: _segments(workspace, named) for named in {(event.kind, event.name) for event in coming}}
    found: dict[int, int] = {}
    for number, once in campaigns:
        trigger = workspace.campaigns.trigger_of(number)
        if isinstance(trigger, EventTrigger):
            people = [event.person for event in coming if _matches(trigger, event)]
        else:
            wanted = trigger.segment_id
            people = [event.person for event in coming if wanted in moved[event.kind, event.name]]
        found[number] = len(set(people)) if once else len(people)
    return found


def _segments(workspace: Workspace, named: tuple[str, str]) -> set[int]:
    """The segments into and out of which such an event may move somebody."""
    segments = workspace.segments
    return set(segments.closure(segments.segments_over([leaf.test for leaf in segments.event_leaves([named])])))


def _matches(trigger: EventTrigger, event: Waiting) -> bool:
    if (event.kind, event.name) != ("event", trigger.name):
        return False
    data: dict[str, Json] = msgspec.json.decode(event.data)
    return trigger.where is None or where_holds(trigger.where, data, event.time_us)
