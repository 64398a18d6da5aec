"""Why is a person in a segment, or not? The condition as a tree with what decided each part, and when it turns next.

Read off the lines of ``timeline``. Knows one person; how it is shown to users is the edge's business.
"""

from typing import assert_never

from msgspec import Struct

from backstory.core.comparison import read_path
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
from backstory.core.leaf_key import guard_of
from backstory.core.timeline import Line, Segments, Timeline, root_of

# Of many events the newest are shown; the count tells of all.
REASONS_MAX = 10


class ByEvent(Struct, frozen=True, kw_only=True):
    """An event in the window."""

    name: str
    event_id: str | None
    at_us: int
    import_id: int


class ByAttribute(Struct, frozen=True, kw_only=True):
    """The writes the value at a field is made of; no value where it is missing."""

    field: str
    found: list[Json]
    at_us: int | None
    import_id: int


class ByKnown(Struct, frozen=True, kw_only=True):
    """Since when the person is known, which "has not" asks about; ``long_enough`` or not."""

    at_us: int
    long_enough: bool


class ByHand(Struct, frozen=True, kw_only=True):
    """When the person was last put into a manual segment (``entered``), or taken out of it."""

    at_us: int
    entered: bool


Reason = ByEvent | ByAttribute | ByKnown | ByHand


class Node(Struct, frozen=True, kw_only=True):
    """A part of a condition at a moment; ``count`` is the number of events in the window, where events are counted,
    or of the devices or objects that pass.
    """

    condition: Condition
    value: bool
    next_change_us: int | None
    because: list[Reason]
    children: "list[Node]"
    count: int | None = None


class Explanation(Struct, frozen=True, kw_only=True):
    """``member`` is the value of the tree for somebody who exists at the moment."""

    member: bool
    exists: bool
    at_us: int
    next_change_us: int | None
    tree: Node


def explain(condition: Condition, timeline: Timeline, segments: Segments, at_us: int) -> Explanation:
    """Explain membership at a moment. Segments must not lead back to themselves."""
    line = timeline.membership(condition)
    return Explanation(
        member=line.at(at_us),
        exists=timeline.life.known_us <= at_us,
        at_us=at_us,
        next_change_us=line.next_us(at_us),
        tree=_node(condition, timeline, segments, at_us),
    )


def _node(condition: Condition, timeline: Timeline, segments: Segments, at_us: int) -> Node:
    because: list[Reason] = []
    children: list[Condition] = []
    count: int | None = None
    match condition:
        case And() | Or():
            children = list(condition.children)
        case Not():
            children = [condition.child]
        case InSegment():
            segment = segments.get(condition.segment_id, frozenset())
            if isinstance(segment, frozenset):
                because = _of_placements(condition, timeline, at_us)
            else:
                children = [segment]
        case AttributeTest():
            because = [_of_attribute(condition, timeline, at_us)]
        case EventTest():
            because, count = _of_events(condition, timeline, at_us)
        case DeviceTest() | RelationTest():
            count = len(timeline.passing(condition, at_us))
        case _:
            assert_never(condition)
    line: Line = timeline.line(condition)
    return Node(
        condition=condition,
        value=line.at(at_us),
        next_change_us=line.next_us(at_us),
        because=because,
        children=[_node(child, timeline, segments, at_us) for child in children],
        count=count,
    )


def _of_events(test: EventTest, timeline: Timeline, at_us: int) -> tuple[list[Reason], int]:
    inside = timeline.inside(test, at_us)
    because: list[Reason] = [
        ByEvent(name=one.name, event_id=one.event_id, at_us=one.time_us, import_id=one.import_id)
        for one in inside[::-1][:REASONS_MAX]
    ]
    if guard_of(test) is not None:
        because.append(ByKnown(at_us=timeline.life.known_us, long_enough=timeline.known_long_enough(test, at_us)))
    return because, len(inside)


def _of_placements(condition: InSegment, timeline: Timeline, at_us: int) -> list[Reason]:
    placed = [
        ByHand(at_us=moment_us, entered=entered)
        for number, moment_us, entered in timeline.life.placements
        if number == condition.segment_id and moment_us <= at_us
    ]
    return [*placed[-1:]]


def _of_attribute(test: AttributeTest, timeline: Timeline, at_us: int) -> ByAttribute:
    """The newest write of the attribute is what the value, or its absence, came of."""
    root = root_of(test.field)
    found = read_path(timeline.shown(root, at_us), test.field)
    if root in timeline.life.identifiers:
        return ByAttribute(field=test.field, found=found, at_us=None, import_id=0)
    writings = [
        one
        for one in timeline.life.writings
        if one.shown_us <= at_us and any(root_of(name) == root for name in one.attributes)
    ]
    newest = max(writings, key=lambda one: one.time_us, default=None)
    return ByAttribute(
        field=test.field,
        found=found,
        at_us=None if newest is None else newest.time_us,
        import_id=0 if newest is None else newest.import_id,
    )
