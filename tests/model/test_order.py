"""Promise 1: timed facts in any order, in any batches and however often they are repeated end in equal state."""

import shutil
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from backstory.core.condition import Json
from backstory.core.fact import (
    DeletePerson,
    Fact,
    Identifier,
    Identify,
    MergePeople,
    SuppressPerson,
    Track,
    TrackAnonymous,
    UnsuppressPerson,
)
from backstory.core.time import HOUR_US, SECOND_US
from tests.hunt import examples
from tests.live import Live
from tests.model.strategy import KINDS, NAMES, NOW_US, attributes, encoded, event_data, past_us

PEOPLE = (Identifier("id", "ann"), Identifier("id", "bob"), Identifier("email", "Cleo@X.org"))
# What was sent is true at the latest an hour after the first batch was accepted; then everything is compared.
END_US = NOW_US + HOUR_US
BATCH_TAKES_US = 7 * SECOND_US

SEGMENTS: tuple[Json, ...] = (
    {"event": {"name": "bought"}},
    {
        "event": {
            "name": "bought",
            "count": {"between": [2, 3]},
            "where": {"attribute": {"field": "n", "operator": "ge", "value": 1}},
        }
    },
    {"event": {"name": "bought", "within": {"last_s": 3700}, "count": {"at_least": 2}}},
    {"event": {"name": "seen", "within": {"last_s": 3620}, "count": {"at_most": 1}}},
    {"event": {"name": "seen", "within": {"from": NOW_US // SECOND_US - 60, "to": NOW_US // SECOND_US + 5}}},
    {"event": {"name": "seen", "performed": False, "within": {"last_s": 3900}}},
    {"event": {"name": "seen", "kind": "page", "performed": False}},
    {"event": {"name": "seen", "where": {"attribute": {"field": "when", "operator": "timestamp_gt", "value": -5}}}},
    {"attribute": {"field": "p", "operator": "eq", "value": 1}},
    {"attribute": {"field": "q.x", "operator": "!exists"}},
    {"attribute": {"field": "q[]", "operator": "eq", "value": "a"}},
    {"attribute": {"field": "when", "operator": "timestamp_gt", "value": -3700}},
    {"attribute": {"field": "email", "operator": "contains", "value": "cleo"}},
    {"and": [{"segment": {"id": 3}}, {"not": {"segment": {"id": 6}}}]},
)


@st.composite
def events(draw: st.DrawFn, *, event_id: str | None) -> Track:
    """An event of some person with an explicit time, up to a minute ahead."""
    ahead_us = draw(st.one_of(past_us.map(lambda age_us: -age_us), st.sampled_from((1, SECOND_US, 60 * SECOND_US))))
    return Track(
        person=draw(st.sampled_from(PEOPLE)),
        name=draw(st.sampled_from(NAMES)),
        kind=draw(st.sampled_from(KINDS)),  # pyright: ignore[reportArgumentType]
        data=encoded(draw(event_data)),
        time_us=NOW_US + ahead_us,
        event_id=event_id,
    )


@st.composite
def writes(draw: st.DrawFn) -> Identify:
    """Attributes of some person with an explicit time, not ahead."""
    return Identify(
        person=draw(st.sampled_from(PEOPLE)),
        attributes=encoded(draw(attributes)),
        time_us=NOW_US - draw(past_us),
    )


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Fact], list[Fact]]:
    """Facts, and some of those that may be repeated: events with an id, and attributes."""
    known: list[Fact] = [Identify(person=person, time_us=NOW_US - HOUR_US) for person in PEOPLE]
    numbered = [draw(events(event_id=f"e{number}")) for number in range(draw(st.integers(0, 6)))]
    unnumbered = draw(st.lists(events(event_id=None), max_size=6))
    written = draw(st.lists(writes(), max_size=6))
    repeatable: list[Fact] = [*numbered, *written]
    again = draw(st.lists(st.sampled_from(repeatable), max_size=6)) if repeatable else []
    return [*known, *repeatable, *unnumbered], again


@st.composite
def ways(draw: st.DrawFn, facts: list[Fact]) -> list[list[Fact]]:
    """The facts in some order, cut into batches."""
    shuffled = draw(st.permutations(facts))
    cuts = sorted(draw(st.lists(st.integers(0, len(facts)), max_size=4)))
    edges = [0, *cuts, len(facts)]
    return [shuffled[low:high] for low, high in pairwise(edges) if low < high]


def outcome(batches: list[list[Fact]], *, segments_first: bool) -> dict[str, Any]:
    """Live through the batches and say what is true at the end, without what promise 1 leaves out."""
    folder = Path(tempfile.mkdtemp(prefix="backstory-order-"))
    live = Live(folder / "default", now_us=NOW_US)
    try:
        ids = [live.segment(condition) for condition in SEGMENTS] if segments_first else []
        for batch in batches:
            live.send(*batch)
            live.advance(BATCH_TAKES_US)
        ids = ids or [live.segment(condition) for condition in SEGMENTS]
        live.advance(END_US - live.now_us)
        return state(live, ids)
    finally:
        live.close()
        shutil.rmtree(folder)


def state(live: Live, segment_ids: list[int]) -> dict[str, Any]:
    """Identifiers, values with their times, events and memberships, by names instead of numbers."""
    reader = live.workspace.reader
    views = {str(person): reader.person(person.kind, person.value) for person in PEOPLE}
    assert all(view is not None for view in views.values())
    name_of = {view.person: name for name, view in views.items() if view is not None}
    rows = live.workspace.folder.state.rows(
        "SELECT person, kind, name, time_us, data, event_id FROM event WHERE NOT duplicate"
    )
    return {
        "people": {
            name: (view.id, view.email, view.attributes, view.times_us) for name, view in views.items() if view
        },
        "events": sorted(((name_of[row[0]], *row[1:]) for row in rows), key=repr),
        "members": [
            {name_of[number] for number in live.workspace.segments.segments[segment_id].members}
            for segment_id in segment_ids
        ],
    }


@settings(max_examples=examples(60))
@given(history=histories(), data=st.data(), segments_first=st.booleans())
def test_order_batches_and_repetition_do_not_matter(
    history: tuple[list[Fact], list[Fact]], data: st.DataObject, segments_first: bool
) -> None:
    """Two ways to send the same facts, one of them with repetitions, end in equal people, events and segments."""
    facts, again = history
    one = outcome(data.draw(ways(facts)), segments_first=True)
    other = outcome(data.draw(ways([*facts, *again])), segments_first=segments_first)
    assert one == other


ANN, BOB, CLEO = PEOPLE
BROWSER = "b1"
# Facts that act where they stand in the journal.
PLACED: tuple[Fact, ...] = (
    MergePeople(primary=ANN, secondary=BOB),
    MergePeople(primary=BOB, secondary=CLEO),
    MergePeople(primary=CLEO, secondary=ANN),
    DeletePerson(person=BOB),
    SuppressPerson(person=ANN),
    UnsuppressPerson(person=ANN),
    Identify(person=BOB, anonymous_id=BROWSER),
    Identify(person=ANN, body_email="Cleo@X.org"),
)


@st.composite
def stages(draw: st.DrawFn) -> list[tuple[Fact, list[Fact]]]:
    """Placed facts, each with the timed facts that come between it and the next."""
    numbers = iter(range(100))
    found: list[tuple[Fact, list[Fact]]] = []
    for placed in draw(st.lists(st.sampled_from(PLACED), min_size=1, max_size=4)):
        timed: list[Fact] = []
        for _ in range(draw(st.integers(0, 4))):
            event = draw(events(event_id=f"e{next(numbers)}"))
            anonymous = TrackAnonymous(anonymous_id=BROWSER, name=event.name, data=event.data, time_us=event.time_us)
            timed.append(draw(st.sampled_from((event, event, anonymous, draw(writes())))))
        found.append((placed, timed))
    return found


def lived_through(story: list[tuple[Fact, list[Fact]]]) -> dict[str, Any]:
    """What is true in the end, by what people are called."""
    folder = Path(tempfile.mkdtemp(prefix="backstory-order-"))
    live = Live(folder / "default", now_us=NOW_US)
    try:
        ids = [live.segment(condition) for condition in SEGMENTS]
        for person in PEOPLE:
            live.send(Identify(person=person, time_us=NOW_US - HOUR_US))
        for placed, timed in story:
            live.send(placed)
            live.send(*timed)
            live.advance(BATCH_TAKES_US)
        live.advance(END_US - live.now_us)
        return who_is_left(live, ids)
    finally:
        live.close()
        shutil.rmtree(folder)


def who_is_left(live: Live, segment_ids: list[int]) -> dict[str, Any]:
    folder = live.workspace.folder
    rows = folder.state.rows("SELECT person, id, email_key FROM person")
    names = {row[0]: f"{row[1]} {row[2]}" for row in rows}
    events = folder.state.rows("SELECT person, kind, name, time_us, data, event_id FROM event WHERE NOT duplicate")
    unclaimed = folder.state.rows("SELECT name, time_us, data FROM anonymous_event")
    return {
        "people": {name: folder.people.document(person) for person, name in names.items()},
        "events": sorted(((names[row[0]], *row[1:]) for row in events if row[0] in names), key=repr),
        "unclaimed": sorted(unclaimed),
        "members": [
            {names[number] for number in live.workspace.segments.segments[segment_id].members}
            for segment_id in segment_ids
        ],
    }


@settings(max_examples=examples(40))
@given(story=stages(), data=st.data())
def test_between_two_placed_facts_the_order_does_not_matter(
    story: list[tuple[Fact, list[Fact]]], data: st.DataObject
) -> None:
    """Merges, claims, deletions and suppressions act where they stand; timed facts between them in any order."""
    other = [(placed, data.draw(st.permutations(timed))) for placed, timed in story]
    assert lived_through(story) == lived_through(other)


def test_the_segments_are_not_all_empty(tmp_path: Path) -> None:
    """The fixed segments do tell people apart: otherwise equality would say nothing."""
    live = Live(tmp_path / "default", now_us=NOW_US)
    ids = [live.segment(condition) for condition in SEGMENTS]
    live.identify("ann", p=1, q=["a"], when=NOW_US // SECOND_US)
    for _ in range(2):
        live.track("ann", "bought", n=1)
    live.track("ann", "seen", when=NOW_US // SECOND_US)
    live.identify("bob", NOW_US - HOUR_US, q={"x": 1})
    members = [live.members(segment_id) for segment_id in ids]
    live.close()
    assert {"ann"} in members
    assert sum(bool(found) for found in members) >= len(SEGMENTS) - 2
    assert all(found != {"ann", "bob"} for found in members[:3])
