"""Conditions compiled to closures: one that judges a person, one that judges many at once.

A closure reads leaves and memberships as they are when it is called. What it must never know: who feeds them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from pyroaring import BitMap

from backstory.core.column import Moment, People, Truth
from backstory.core.condition import (
    And,
    AttributeTest,
    Condition,
    DeviceTest,
    EventTest,
    InSegment,
    Not,
    Or,
    RelationTest,
)
from backstory.core.leaf import member_many
from backstory.core.leaf_key import AnyLeaf, LeafKey, event_test, guard_of

Judge = Callable[[int, int], bool]
JudgeMany = Callable[[People, Moment], Truth]
Pair = tuple[Judge, JudgeMany]


@dataclass(frozen=True, slots=True)
class Compiler:
    """Turns conditions into closures over ``leaves``; ``members`` gives the present members of a segment."""

    leaves: Mapping[LeafKey, AnyLeaf]
    members: Callable[[int], BitMap]

    def compile(self, condition: Condition) -> Pair:
        """The judges of a condition whose leaves are all attached; each takes people and now, in microseconds."""
        match condition:
            case And(children=children):
                return _all([self.compile(child) for child in children])
            case Or(children=children):
                return _any([self.compile(child) for child in children])
            case Not(child=child):
                return _not(self.compile(child))
            case InSegment(segment_id=segment_id):
                return self._in_segment(segment_id)
            case AttributeTest() | DeviceTest() | RelationTest():
                leaf = self.leaves[condition]
                return leaf.holds, leaf.holds_many
            case EventTest():
                return self._event(condition)
            case _:
                assert_never(condition)

    def _event(self, test: EventTest) -> Pair:
        leaf = self.leaves[event_test(test)]
        if test.performed:
            return leaf.holds, leaf.holds_many
        never = _not((leaf.holds, leaf.holds_many))
        guard = guard_of(test)
        if guard is None:
            return never
        known = self.leaves[guard]
        return _all([(known.holds, known.holds_many), never])

    def _in_segment(self, segment_id: int) -> Pair:
        members = self.members

        def judge(person: int, now_us: int) -> bool:
            return person in members(segment_id)

        def judge_many(people: People, now_us: Moment) -> Truth:
            return member_many(members(segment_id), people)

        return judge, judge_many


def _all(parts: list[Pair]) -> Pair:
    ones, manys = [part[0] for part in parts], [part[1] for part in parts]

    def judge(person: int, now_us: int) -> bool:
        return all(one(person, now_us) for one in ones)

    def judge_many(people: People, now_us: Moment) -> Truth:
        truth = np.ones(len(people), dtype=bool)
        for many in manys:
            truth &= many(people, now_us)
        return truth

    return judge, judge_many


def _any(parts: list[Pair]) -> Pair:
    ones, manys = [part[0] for part in parts], [part[1] for part in parts]

    def judge(person: int, now_us: int) -> bool:
        return any(one(person, now_us) for one in ones)

    def judge_many(people: People, now_us: Moment) -> Truth:
        truth = np.zeros(len(people), dtype=bool)
        for many in manys:
            truth |= many(people, now_us)
        return truth

    return judge, judge_many


def _not(part: Pair) -> Pair:
    one, many = part
    return (lambda person, now_us: not one(person, now_us)), (lambda people, now_us: ~many(people, now_us))
