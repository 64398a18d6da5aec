"""Segments that refer to each other: an order in which to judge them, and circles, which must not be."""

from collections.abc import Mapping

from backstory.core.condition import Condition, segments_in

Conditions = Mapping[int, Condition | None]


def in_order(conditions: Conditions) -> list[int]:
    """The segments, each after those it refers to."""
    done: dict[int, None] = {}

    def visit(segment_id: int) -> None:
        if segment_id in done or segment_id not in conditions:
            return
        condition = conditions[segment_id]
        for other in sorted(segments_in(condition)) if condition else []:
            visit(other)
        done[segment_id] = None

    for segment_id in sorted(conditions):
        visit(segment_id)
    return list(done)


def refers_to(segment_id: int, condition: Condition, conditions: Conditions) -> bool:
    """Does a condition refer to a segment, over others or directly?"""
    ahead, seen = list(segments_in(condition)), set[int]()
    while ahead:
        other = ahead.pop()
        if other == segment_id:
            return True
        further = conditions.get(other)
        if other not in seen and further is not None:
            ahead.extend(segments_in(further))
        seen.add(other)
    return False
