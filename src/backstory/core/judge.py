"""Conditions compiled to closures: one that judges a person, one that judges many at once.

A closure reads leaves and memberships as they are when it is called. What it must never know: who feeds them.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import assert_never

import numpy as np
from pyroaring import BitMap

from backstory.core.column import Moment, People, Truth, member_many
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
from backstory.core.leaf_key import AnyLeaf, LeafKey, event_test, guard_of

Judge = Callable[[int, int], bool]
JudgeMany = Callable[[People, Moment], Truth]
Pair = tuple[Judge, JudgeMany]


class Answers:
    """What leaves answer of the same people at the same moment, kept while many segments over them are judged."""

    def __init__(self) -> None:
        self._kept: dict[int, Truth] | None = None

    @contextmanager
    def sharing(self) -> Generator[None]:
        """Meanwhile only the same people are judged, at one moment, and nothing is told to any leaf."""
        self._kept = {}
        try:
            yield
        finally:
            self._kept = None

    def of(self, leaf: AnyLeaf) -> JudgeMany:
        """The leaf's answers; whoever gets them must not write into them."""

        def many(people: People, now_us: Moment) -> Truth:
            if self._kept is None:
                return leaf.holds_many(people, now_us)
            found = self._kept.get(id(leaf))
            if found is None:
                found = self._kept[id(leaf)] = leaf.holds_many(people, now_us)
            return found

        return many


@dataclass(frozen=True, slots=True)
class Compiler:
    """Turns conditions into closures over ``leaves``; ``members`` gives the present members of a segment."""

    leaves: Mapping[LeafKey, AnyLeaf]
    members: Callable[[int], BitMap]
    answers: Answers = field(default_factory=Answers)

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
                return leaf.holds, self.answers.of(leaf)
            case EventTest():
                return self._event(condition)
            case _:
                assert_never(condition)

    def _event(self, test: EventTest) -> Pair:
        leaf = self.leaves[event_test(test)]
        if test.performed:
            return leaf.holds, self.answers.of(leaf)
        never = _not((leaf.holds, self.answers.of(leaf)))
        guard = guard_of(test)
        if guard is None:
            return never
        known = self.leaves[guard]
        return _all([(known.holds, self.answers.of(known)), never])

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
