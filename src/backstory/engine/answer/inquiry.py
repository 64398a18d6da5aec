"""Inquiries about segments: why somebody is in one, what one would hold, how many it held, where somebody was when.

From any thread; reads what is committed. Nothing here is kept.
"""

from typing import TYPE_CHECKING

from pyroaring import BitMap

from backstory.core.condition import Condition, InSegment
from backstory.core.error import NotFoundError
from backstory.core.explain import Explanation, explain
from backstory.core.timeline import Timeline
from backstory.engine.answer.life import read_life
from backstory.engine.segment.asof import members_as_of, members_over
from backstory.store.folder import Folder
from backstory.store.knowledge import Knowledge, knowledge_at

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

Interval = tuple[int, int | None]


def explanation(
    workspace: "Workspace", person: int, segment_id: int, as_of_us: int | None, known_at_us: int | None
) -> Explanation:
    """Raises ``NotFoundError`` for a segment that is not there, and for somebody of whom nothing was known then."""
    segments = _segments_for(workspace, person)
    if segment_id not in segments:
        raise NotFoundError(f"there is no segment {segment_id}")
    now_us = workspace.folder.state.now_us
    at_us = now_us if as_of_us is None else as_of_us
    life = read_life(
        workspace.folder,
        person,
        present_us=now_us if at_us >= now_us else None,
        known=_knowledge(workspace.folder, known_at_us),
    )
    if life is None:
        raise NotFoundError("nothing was known of this person then")
    segment = segments[segment_id]
    if isinstance(segment, frozenset):
        # It has no condition: that somebody was put into it is all there is.
        segment = InSegment(segment_id)
    return explain(segment, Timeline(life, segments), segments, at_us)


def past_of(workspace: "Workspace", person: int) -> dict[int, list[Interval]]:
    """When a person was in which segment, in valid time as now known, up to now; None is until now."""
    segments = _segments_for(workspace, person)
    now_us = workspace.folder.state.now_us
    life = read_life(workspace.folder, person, present_us=now_us)
    if life is None:
        raise NotFoundError("there is no such person")
    timeline = Timeline(life, segments)
    found: dict[int, list[Interval]] = {}
    for segment_id in sorted(segments):
        intervals = timeline.membership(InSegment(segment_id)).intervals()
        past: list[Interval] = [
            (begin, None if end is None or end > now_us else end) for begin, end in intervals if begin <= now_us
        ]
        if past:
            found[segment_id] = past
    return found


def preview(workspace: "Workspace", condition: Condition, as_of_us: int | None, known_at_us: int | None) -> BitMap:
    """Whom a segment with this condition would hold."""
    folder = workspace.folder
    at_us = folder.state.now_us if as_of_us is None else as_of_us
    return members_as_of(folder, workspace.segments, condition, at_us, _knowledge(folder, known_at_us))


def counts(workspace: "Workspace", condition: Condition, points_us: list[int], known_at_us: int | None) -> list[int]:
    """How many it held at each of some ascending moments."""
    known = _knowledge(workspace.folder, known_at_us)
    found = members_over(workspace.folder, workspace.segments, condition, points_us, known)
    return [len(members) for members in found]


def _knowledge(folder: Folder, known_at_us: int | None) -> Knowledge | None:
    return None if known_at_us is None else folder.state.read(lambda db: knowledge_at(db, known_at_us))


def _segments_for(workspace: "Workspace", person: int) -> dict[int, Condition | frozenset[int]]:
    """The conditions there are, and of manual segments whether the person is in."""
    return {
        number: frozenset({person} if person in kept.members else ()) if kept.condition is None else kept.condition
        for number, kept in list(workspace.segments.segments.items())
    }
