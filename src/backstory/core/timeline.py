"""Truth over time: when a condition holds for one person, from the first moment of their history to the last known.

A ``Line`` is a truth with the moments at which it turns. Leaves draw theirs from the person's events and values, groups
from the lines of their children, so that a whole history costs no more than sorting it. Membership intervals, the next
change and explanations are read off lines; ``oracle`` says the same moment by moment.
Knows one person and no storage. Times are microseconds. Source: design section 8.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping
from typing import assert_never

from msgspec import Struct, field

from backstory.core.comparison import holds, next_change_us, read_path, where_holds
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
    RecordTest,
    RelationTest,
)
from backstory.core.leaf_key import guard_of
from backstory.core.person import Document, values, write
from backstory.core.record_leaf import RecordLeaf, passing
from backstory.core.record_time import RecordsInTime

Segments = Mapping[int, Condition | frozenset[int]]


class Occurrence(Struct, frozen=True, kw_only=True):
    """An event, or a metric of a message, with where it came from; ``import_id`` 0 is a live call."""

    kind: str
    name: str
    time_us: int
    data: dict[str, Json]
    event_id: str | None = None
    import_id: int = 0


class Writing(Struct, frozen=True, kw_only=True):
    """One write of attributes; it shows from ``shown_us`` on, which is its time unless that lies a little ahead."""

    time_us: int
    shown_us: int
    attributes: dict[str, Json]
    import_id: int = 0


class Life(Struct, frozen=True, kw_only=True):
    """All that is known of one person; ``known_us`` is the earliest time of any fact."""

    person: int
    identifiers: dict[str, Json]
    known_us: int
    occurrences: list[Occurrence]
    writings: list[Writing]
    records: RecordsInTime = field(default_factory=RecordsInTime)
    # In manual segments: (segment, moment, in or out), in order.
    placements: list[tuple[int, int, bool]] = []


class Line(Struct, frozen=True):
    """``first`` before the first of ``turns_us`` (ascending), then the other, and so on."""

    first: bool
    turns_us: tuple[int, ...] = ()

    def at(self, moment_us: int) -> bool:
        return self.first ^ (bisect_right(self.turns_us, moment_us) % 2 == 1)

    def next_us(self, moment_us: int) -> int | None:
        """The first turn after a moment."""
        at = bisect_right(self.turns_us, moment_us)
        return self.turns_us[at] if at < len(self.turns_us) else None

    def intervals(self) -> list[tuple[int, int | None]]:
        """[from, to) of each stretch of truth; None where it goes on. Only of lines that are false at first."""
        turns: list[int | None] = [*self.turns_us, None]
        return [(begin, turns[at + 1]) for at, begin in enumerate(self.turns_us) if at % 2 == 0]


class Timeline:
    """Draws lines of one person; each part of a condition is drawn once."""

    def __init__(self, life: Life, segments: Segments) -> None:
        self.life = life
        self._segments = segments
        self._lines: dict[Condition, Line] = {}
        self._documents: dict[str, list[tuple[int, dict[str, Json]]]] = {}

    def membership(self, condition: Condition) -> Line:
        """When the person is a member: nobody is of anything before they are known."""
        known = Line(False, (self.life.known_us,))
        return _together([known, self.line(condition)], all)

    def line(self, condition: Condition) -> Line:
        """When the condition holds, existence aside."""
        found = self._lines.get(condition)
        if found is None:
            found = self._lines[condition] = self._drawn(condition)
        return found

    def _drawn(self, condition: Condition) -> Line:
        match condition:
            case And(children=children):
                return _together([self.line(child) for child in children], all)
            case Or(children=children):
                return _together([self.line(child) for child in children], any)
            case Not(child=child):
                line = self.line(child)
                return Line(not line.first, line.turns_us)
            case InSegment(segment_id=segment_id):
                segment = self._segments.get(segment_id, frozenset())
                return self._manual(segment_id, segment) if isinstance(segment, frozenset) else self.line(segment)
            case AttributeTest():
                return self._attribute(condition)
            case EventTest():
                return self._event(condition)
            case DeviceTest() | RelationTest():
                moments = self.life.records.moments_us(condition, -_EVER_US)
                return _line(moments, lambda at_us: RecordLeaf.judge(condition, self._rows(condition, at_us), at_us))
            case _:
                assert_never(condition)

    def _manual(self, segment_id: int, people: frozenset[int]) -> Line:
        told = [(at_us, entered) for number, at_us, entered in self.life.placements if number == segment_id]
        if not told:
            return Line(self.life.person in people)
        return _line(
            {at_us for at_us, _ in told},
            lambda at_us: next((entered for moment, entered in reversed(told) if moment <= at_us), False),
        )

    # -- devices and relationships --------------------------------------------------------------------------------

    def _rows(self, test: RecordTest, moment_us: int) -> list[dict[str, Json]]:
        return self.life.records.rows(test, moment_us)

    def passing(self, test: RecordTest, moment_us: int) -> list[dict[str, Json]]:
        """The devices or objects that passed a test at a moment."""
        return passing(test, self._rows(test, moment_us), moment_us)

    # -- events ---------------------------------------------------------------------------------------------------

    def matching(self, test: EventTest) -> list[Occurrence]:
        """The occurrences a test is about, its window aside, in order of time."""
        return sorted(
            (
                one
                for one in self.life.occurrences
                if test.counts(one.kind, one.name)
                and (test.where is None or where_holds(test.where, one.data, one.time_us))
            ),
            key=lambda one: one.time_us,
        )

    def inside(self, test: EventTest, moment_us: int) -> list[Occurrence]:
        """Those of them that lie in the window at a moment."""
        found = self.matching(test)
        low, high = _span([one.time_us for one in found], test, moment_us)
        return found[low:high]

    def known_long_enough(self, test: EventTest, moment_us: int) -> bool:
        """The guard of "has not"; true for all other tests."""
        match guard_of(test):
            case None:
                return True
            case ("last", last_us):
                return self.life.known_us <= moment_us - last_us
            case (_, before_us):
                return self.life.known_us <= before_us

    def _event(self, test: EventTest) -> Line:
        times = [one.time_us for one in self.matching(test)]
        moments = set(times)
        match test.window:
            case Last(last_us=last_us):
                moments.update(time_us + last_us for time_us in times)
                moments.add(self.life.known_us + last_us)
            case Between(from_us=from_us, to_us=to_us):
                moments.update(moment_us for moment_us in (from_us, to_us) if moment_us is not None)
            case None:
                pass
            case _:
                assert_never(test.window)

        def truth(moment_us: int) -> bool:
            low, high = _span(times, test, moment_us)
            if not test.performed:
                return low == high and self.known_long_enough(test, moment_us)
            return high - low >= test.at_least and (test.at_most is None or high - low <= test.at_most)

        return _line(moments, truth)

    # -- attributes -----------------------------------------------------------------------------------------------

    def documents(self, root: str) -> list[tuple[int, dict[str, Json]]]:
        """What a field shows from each moment on; before the first only identifiers do."""
        if root not in self._documents:
            shown: list[tuple[int, dict[str, Json]]] = []
            document: Document = {}
            for one in sorted(self.life.writings, key=lambda one: one.shown_us):
                attributes = {name: value for name, value in one.attributes.items() if root_of(name) == root}
                if attributes:
                    write(document, attributes, one.time_us)
                    shown.append((one.shown_us, {**values(document), **self.life.identifiers}))
            self._documents[root] = shown
        return self._documents[root]

    def shown(self, root: str, moment_us: int) -> dict[str, Json]:
        """The values of a field at a moment, and the identifiers."""
        documents = self.documents(root)
        at = bisect_right(documents, moment_us, key=lambda item: item[0])
        return documents[at - 1][1] if at else self.life.identifiers

    def _attribute(self, test: AttributeTest) -> Line:
        documents = self.documents(root_of(test.field))
        moments = {moment_us for moment_us, _ in documents}
        for shown_us, document in [(_EVER_US, self.life.identifiers), *documents]:
            found = read_path(document, test.field)
            moment = next_change_us(test, found, shown_us)
            while moment is not None:
                moments.add(moment)
                moment = next_change_us(test, found, moment)

        def truth(moment_us: int) -> bool:
            return holds(test, read_path(self.shown(root_of(test.field), moment_us), test.field), moment_us)

        return _line(moments, truth)


_EVER_US = -(1 << 62)


def root_of(field: str) -> str:
    """The attribute a field or a path begins with."""
    return field.partition(".")[0].partition("[")[0]


def _span(times_us: list[int], test: EventTest, moment_us: int) -> tuple[int, int]:
    """Where the window begins and ends in sorted times, at a moment."""
    low, high = 0, bisect_right(times_us, moment_us)
    match test.window:
        case None:
            pass
        case Last(last_us=last_us):
            low = bisect_right(times_us, moment_us - last_us)
        case Between(from_us=from_us, to_us=to_us):
            low = 0 if from_us is None else bisect_left(times_us, from_us)
            high = high if to_us is None else min(high, bisect_left(times_us, to_us))
        case _:
            assert_never(test.window)
    return low, max(low, high)


def _line(moments_us: Iterable[int], truth: Callable[[int], bool]) -> Line:
    """The line of a truth that can turn at these moments only."""
    first = now = truth(_EVER_US)
    turns: list[int] = []
    for moment_us in sorted(moments_us):
        if truth(moment_us) != now:
            now = not now
            turns.append(moment_us)
    return Line(first, tuple(turns))


def _together(lines: list[Line], rule: Callable[[Iterable[bool]], bool]) -> Line:
    moments = {moment_us for line in lines for moment_us in line.turns_us}
    return _line(moments, lambda moment_us: rule(line.at(moment_us) for line in lines))
