"""The oracle's own parts, each small enough to be checked by hand."""

import itertools

import pytest

from backstory.core.condition import (
    And,
    AttributeTest,
    Between,
    Condition,
    EventTest,
    InSegment,
    Json,
    Last,
    Not,
)
from backstory.core.oracle import PersonHistory, member, members, next_change, values_at


def history(
    *writes: tuple[int, dict[str, Json]], events: tuple[int, ...] = (), since_us: int = 0, person: int = 1
) -> PersonHistory:
    """A person with these writes, who performed ``e`` at these times."""
    return PersonHistory(
        person=person,
        identifiers={"id": "ann"},
        events=[("event", "e", time_us, {}) for time_us in events],
        writes=list(writes),
        exists_since_us=since_us,
    )


@pytest.mark.parametrize(
    ("writes", "values"),
    [
        # The newest wins, whatever the order.
        ([(1, {"a": 1}), (2, {"a": 2})], {"a": 2}),
        # Equal times: a value beats a removal, then the larger canonical JSON.
        ([(1, {"a": 1}), (1, {"a": None})], {"a": 1}),
        ([(1, {"a": "b"}), (1, {"a": "c"})], {"a": "c"}),
        ([(1, {"a": 5}), (1, {"a": "5"})], {"a": 5}),
        ([(1, {"a": {"x": 1, "b": 2}}), (1, {"a": {"b": 3, "x": 0}})], {"a": {"b": 3, "x": 0}}),
        # Null and "" remove at their time; zero and false are values.
        ([(1, {"a": 1}), (2, {"a": ""})], {}),
        ([(1, {"a": None}), (2, {"a": 0}), (3, {"b": False})], {"a": 0, "b": False}),
        # Paths are laid over the newest whole when they are later than it.
        ([(1, {"a": {"x": 1}}), (2, {"a.y": 2})], {"a": {"x": 1, "y": 2}}),
        ([(2, {"a": {"x": 1}}), (1, {"a.y": 2})], {"a": {"x": 1}}),
        ([(1, {"a": {"x": 1}}), (1, {"a.y": 2})], {"a": {"x": 1}}),
        ([(1, {"a.x": 1}), (2, {"a.y": 2})], {"a": {"x": 1, "y": 2}}),
        ([(1, {"a": {"x": 1}}), (2, {"a.x": None})], {"a": {}}),
        ([(1, {"a.x": None})], {}),
        ([(1, {"a": 5}), (2, {"a.x": 1})], {"a": {"x": 1}}),
        ([(1, {"a": 5}), (2, {"a.x": None})], {"a": 5}),
        ([(1, {"a": {"x": 1}}), (2, {"a": None}), (3, {"a.y": 1})], {"a": {"y": 1}}),
        ([(1, {"a.b.c": 1}), (2, {"a.b": {"d": 2}})], {"a": {"b": {"d": 2}}}),
        ([(2, {"a.b.c": 1}), (1, {"a.b": {"d": 2}})], {"a": {"b": {"c": 1, "d": 2}}}),
        ([(1, {"a.b.c": 1}), (3, {"a.b.c": None})], {}),
    ],
)
def test_values_do_not_depend_on_the_order_of_writes(
    writes: list[tuple[int, dict[str, Json]]], values: dict[str, Json]
) -> None:
    """Each name is a register decided by time and then by value, in any order of arrival."""
    for order in itertools.permutations(writes):
        assert values_at(history(*order, *order), 10) == values


def test_writes_of_the_future_are_not_seen_yet() -> None:
    """As of T sees what became true up to and including T."""
    ann = history((5, {"a": 1}), (7, {"a": 2}))
    assert [values_at(ann, at_us).get("a") for at_us in (4, 5, 6, 7)] == [None, 1, 1, 2]


def test_identifiers_are_todays() -> None:
    """Identifiers are read as they are now, at whatever moment is asked."""
    ann = history((5, {"id": "forged"}))
    assert member(AttributeTest("id", "eq", b'"ANN"'), ann, 10, {})
    assert not member(AttributeTest("id", "eq", b'"forged"'), ann, 10, {})


def test_members_are_people_who_exist() -> None:
    """A negation holds for those who exist, not for those yet to come."""
    people = [history(since_us=5, person=1), history(since_us=7, person=2)]
    assert members(Not(EventTest("e")), people, 6, {}) == {1}


@pytest.mark.parametrize(
    ("condition", "changes_us"),
    [
        (EventTest("e", window=Last(10)), [100, 110, 115, 128]),
        (EventTest("e", at_least=2, window=Last(10)), [118, 125]),
        (EventTest("e", at_least=1, at_most=1, window=Last(10)), [100, 110, 115, 118, 125, 128]),
        (EventTest("e", window=Between(110, 116)), [115]),
        (EventTest("e", performed=False, window=Last(30)), [80, 100, 148]),
        (EventTest("e", performed=False, window=Between(50, 110)), [50, 100]),
        (EventTest("e", performed=False), [50, 100]),
        (AttributeTest("t", "timestamp_gt", b"-0.00001"), [60, 80]),
        (AttributeTest("t", "timestamp_lt", b"-0.00001"), [81]),
        (AttributeTest("t", "exists"), [60]),
        (InSegment(7), [100, 110, 115, 128]),
        (And((InSegment(7), Not(InSegment(8)))), []),
        (And((InSegment(8), EventTest("e", at_least=2))), [115]),
    ],
)
def test_every_change_by_time_is_foretold(condition: Condition, changes_us: list[int]) -> None:
    """Walking from change to change finds each; from one to the next the answer stays."""
    ann = history((60, {"t": 0.00007}), events=(100, 115, 118), since_us=50)
    segments = {7: EventTest("e", window=Last(10)), 8: frozenset({1})}
    truth = [member(condition, ann, at_us, segments) for at_us in range(300)]
    assert [at_us for at_us in range(1, 300) if truth[at_us] != truth[at_us - 1]] == changes_us
    for at_us in range(300):
        following = [change_us for change_us in changes_us if change_us > at_us]
        assert next_change(condition, ann, at_us, segments) == (following[0] if following else None)
