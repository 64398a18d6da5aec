"""Which leaves a condition needs: each leaf under the test it answers, so that equal tests share one."""

from collections.abc import Iterator
from typing import assert_never

from backstory.core.condition import (
    And,
    AttributeTest,
    Between,
    Condition,
    DeviceTest,
    EventTest,
    InSegment,
    Last,
    Not,
    Or,
    RelationTest,
)
from backstory.core.known import KnownLeaf
from backstory.core.leaf import AttributeLeaf, CountLeaf, WindowLeaf
from backstory.core.record_leaf import RecordLeaf

AnyLeaf = CountLeaf | WindowLeaf | KnownLeaf | AttributeLeaf | RecordLeaf
# A guard (of a negative test, below) is named by its sort and its number.
LeafKey = EventTest | AttributeTest | DeviceTest | RelationTest | tuple[str, int]


def event_test(test: EventTest) -> EventTest:
    """The leaf behind an event condition: "not performed" shares the leaf of "performed"."""
    if test.performed:
        return test
    return EventTest(name=test.name, kind=test.kind, where=test.where, window=test.window)


def guard_of(test: EventTest) -> tuple[str, int] | None:
    """The "known for at least the window" guard of a negative test: semantics 5.4."""
    if test.performed or test.window is None:
        return None
    match test.window:
        case Last(last_us=last_us):
            return ("last", last_us)
        case Between(from_us=from_us):
            return None if from_us is None else ("before", from_us)
        case _:
            assert_never(test.window)


def leaf_keys(condition: Condition) -> Iterator[LeafKey]:
    """Every leaf a condition needs, guards included."""
    match condition:
        case And(children=children) | Or(children=children):
            for child in children:
                yield from leaf_keys(child)
        case Not(child=child):
            yield from leaf_keys(child)
        case EventTest():
            yield event_test(condition)
            guard = guard_of(condition)
            if guard is not None:
                yield guard
        case AttributeTest() | DeviceTest() | RelationTest():
            yield condition
        case InSegment():
            return
        case _:
            assert_never(condition)
