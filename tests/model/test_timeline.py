"""One person's lines and explanations against the oracle, asked moment by moment."""

from hypothesis import given, settings
from hypothesis import strategies as st

from backstory.core import oracle
from backstory.core.condition import Condition, InSegment, Json, parse
from backstory.core.explain import Node, explain
from backstory.core.oracle import PersonHistory
from backstory.core.time import SECOND_US
from backstory.core.timeline import Life, Line, Occurrence, Timeline, Writing
from tests.hunt import examples
from tests.model.strategy import KINDS, NAMES, NOW_US, attributes, conditions, event_data, past_us

times_us = st.builds(lambda age_us, sign: NOW_US + sign * age_us, past_us, st.sampled_from((-1, -1, 1)))
events_of = st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(NAMES), times_us, event_data), max_size=6)
writes_of = st.lists(st.tuples(times_us, attributes), max_size=4)
Writes = list[tuple[int, dict[str, Json]]]
Events = list[tuple[str, str, int, dict[str, Json]]]


@settings(max_examples=examples(300), deadline=None)
@given(
    condition=conditions((7, 8)),
    other=conditions(),
    events=events_of,
    writes=writes_of,
    moments=st.lists(times_us, min_size=1, max_size=4),
)
def test_lines_and_explanations_say_what_the_oracle_says(
    condition: Condition, other: Condition, events: Events, writes: Writes, moments: list[int]
) -> None:
    """Membership and its turns, the value and next change of every part of a condition, at moments past and to come."""
    segments = {7: other, 8: frozenset({5})}
    known_us = min([NOW_US, *(event[2] for event in events), *(time_us for time_us, _ in writes)])
    history = PersonHistory(
        person=5, identifiers={"id": "ann"}, events=events, writes=writes, exists_since_us=known_us
    )
    timeline = Timeline(life_of(history), segments)
    line = timeline.membership(condition)
    for at_us in [*moments, known_us - 1, known_us, *(turn + by for turn in line.turns_us for by in (-1, 0))]:
        found = explain(condition, timeline, segments, at_us)
        assert found.member == line.at(at_us) == oracle.member(condition, history, at_us, segments)
        assert found.next_change_us == oracle.next_change(condition, history, at_us, segments)
        if at_us >= known_us:
            check_parts(found.tree, history, at_us, segments)
    assert intervals_hold(line, moments)


def life_of(history: PersonHistory) -> Life:
    return Life(
        person=history.person,
        identifiers=dict(history.identifiers),
        known_us=history.exists_since_us,
        occurrences=[
            Occurrence(kind=kind, name=name, time_us=time_us, data=data) for kind, name, time_us, data in history.events
        ],
        writings=[Writing(time_us=time_us, shown_us=time_us, attributes=body) for time_us, body in history.writes],
    )


def check_parts(node: Node, history: PersonHistory, at_us: int, segments: oracle.Segments) -> None:
    """Every node, at a moment at which the person exists."""
    assert node.value == oracle.member(node.condition, history, at_us, segments)
    assert node.next_change_us == oracle.next_change(node.condition, history, at_us, segments)
    assert len(node.children) == 1 or not isinstance(node.condition, InSegment) or node.condition.segment_id == 8
    for child in node.children:
        check_parts(child, history, at_us, segments)


def intervals_hold(line: Line, moments: list[int]) -> bool:
    """The intervals of a membership hold its moments of truth and no other."""
    found = line.intervals()
    inside = [any(begin <= at_us and (end is None or at_us < end) for begin, end in found) for at_us in moments]
    return inside == [line.at(at_us) for at_us in moments]


def test_reasons_are_the_events_in_the_window_and_the_newest_write() -> None:
    """A count names its events, newest first, an attribute the write its value came of."""
    life = Life(
        person=1,
        identifiers={"id": "ann"},
        known_us=NOW_US - 100 * SECOND_US,
        occurrences=[
            Occurrence(
                kind="event", name="bought", time_us=NOW_US - age_s * SECOND_US, data={}, event_id=f"e{age_s}",
                import_id=3,
            )
            for age_s in (90, 5, 2)
        ],
        writings=[
            Writing(time_us=NOW_US - 50, shown_us=NOW_US - 50, attributes={"plan": "pro"}, import_id=4),
            Writing(time_us=NOW_US - 70, shown_us=NOW_US - 70, attributes={"plan": "free", "age": 3}),
        ],
    )
    condition = parse({"and": [
        {"event": {"name": "bought", "within": {"last_s": 10}}},
        {"event": {"name": "bought", "performed": False, "within": {"last_s": 200}}},
        {"attribute": {"field": "plan", "operator": "eq", "value": "pro"}},
        {"attribute": {"field": "id", "operator": "exists"}},
    ]})  # fmt: skip
    tree = explain(condition, Timeline(life, {}), {}, NOW_US).tree
    bought, never, plan, own_id = (node.because for node in tree.children)
    assert [(one.event_id, one.import_id) for one in bought] == [("e2", 3), ("e5", 3)]  # type: ignore[union-attr]
    assert (never[-1].at_us, never[-1].long_enough) == (life.known_us, False)  # type: ignore[union-attr]
    assert (plan[0].found, plan[0].at_us, plan[0].import_id) == (["pro"], NOW_US - 50, 4)  # type: ignore[union-attr]
    assert (own_id[0].found, own_id[0].at_us) == (["ann"], None)  # type: ignore[union-attr]
