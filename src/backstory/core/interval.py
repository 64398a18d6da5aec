"""When did a person come to be in a segment? Valid time, as now known.

The effective moment of a transition is the start of the longest interval up to now on which the condition holds
(or fails) in valid time (design section 8). It is found by walking back over the moments at which one person's
answer can change: few for one person, so the walk is plain.
"""

from collections.abc import Callable, Iterable
from typing import assert_never

from backstory.core.comparison import next_change_us, read_path
from backstory.core.condition import (
    And,
    AttributeTest,
    Between,
    Condition,
    DeviceTest,
    EventTest,
    InSegment,
    Json,
    Last,
    Not,
    Or,
    RelationTest,
)


def start_of_run(moments_us: Iterable[int], holds: Callable[[int], bool], now_us: int) -> int:
    """The earliest moment from which on ``holds`` gave the same answer up to ``now_us``.

    ``moments_us`` are all moments at which the answer can change; the answer is constant between two of them.
    """
    answer = holds(now_us)
    start_us = now_us
    for moment in sorted({moment for moment in moments_us if moment <= now_us}, reverse=True):
        if holds(moment) != answer:
            return start_us
        start_us = moment
    return start_us


def windows_us(condition: Condition) -> set[int]:
    """Every relative window of the condition: an event's coming and its leaving that much later both matter."""
    match condition:
        case And(children=children) | Or(children=children):
            return {window for child in children for window in windows_us(child)}
        case Not(child=child):
            return windows_us(child)
        case EventTest(window=Last(last_us=last_us)):
            return {last_us}
        case EventTest() | AttributeTest() | InSegment() | DeviceTest() | RelationTest():
            return set()
        case _:
            assert_never(condition)


def fixed_us(condition: Condition) -> set[int]:
    """Fixed moments the condition names: the guard of a negative test between two dates."""
    match condition:
        case And(children=children) | Or(children=children):
            return {moment for child in children for moment in fixed_us(child)}
        case Not(child=child):
            return fixed_us(child)
        case EventTest(window=Between(from_us=from_us, to_us=to_us)):
            return {moment for moment in (from_us, to_us) if moment is not None}
        case EventTest() | AttributeTest() | InSegment() | DeviceTest() | RelationTest():
            return set()
        case _:
            assert_never(condition)


def attribute_tests(condition: Condition) -> list[AttributeTest]:
    """Every attribute test in the condition."""
    match condition:
        case And(children=children) | Or(children=children):
            return [test for child in children for test in attribute_tests(child)]
        case Not(child=child):
            return attribute_tests(child)
        case AttributeTest():
            return [condition]
        case EventTest() | InSegment() | DeviceTest() | RelationTest():
            return []
        case _:
            assert_never(condition)


def moments_of_values(
    tests: Iterable[AttributeTest], documents: Iterable[tuple[int, dict[str, Json]]], now_us: int
) -> set[int]:
    """All moments up to now at which the answer of attribute tests can change.

    ``documents`` are the person's values from each moment a write became true.
    """
    moments: set[int] = set()
    for from_us, values in documents:
        moments.add(from_us)
        for test in tests:
            found = read_path(values, test.field)
            moment = next_change_us(test, found, from_us)
            while moment is not None and moment <= now_us:
                moments.add(moment)
                moment = next_change_us(test, found, moment)
    return moments
