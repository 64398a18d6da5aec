"""Items of JSON lines in three shapes: each says what the same call would say."""

from typing import Any

import msgspec
import pytest

from backstory.core.event import canonical
from backstory.core.fact import Identify, Track
from backstory.edge.pipeline_semantic import call_facts
from backstory.engine.file.event_row import read_event
from backstory.engine.file.person_row import read_person
from backstory.engine.file.row_shape import RowShape, shape_of
from backstory.engine.file.row_value import NotHere, RowError
from tests.model.imported import identify_of, track_of

LONG = "https://example.com/shop/" + "x" * 80
EVENTS: list[dict[str, Any]] = [
    {"type": "track", "userId": "ann", "event": "Bought", "properties": {"n": 1}, "timestamp": "2024-06-01T12:00:00Z"},
    {"type": "track", "userId": 7, "event": " Bought ", "timestamp": "2024-06-01T12:00:00", "messageId": "m1"},
    {"type": "track", "userId": "ann@x.org", "event": "Bought", "originalTimestamp": "2024-06-01"},
    {"type": "track", "userId": "ann", "event": "B", "messageId": "01890A5D-AC96-774B-BCCE-B302099A8057"},
    {"type": "page", "userId": "ann", "name": "Home", "properties": {"url": "https://x.org/?a=1#b"}, "category": "c"},
    {"type": "page", "userId": "ann", "name": "Home", "properties": {"url": LONG + "?q=1"}},
    {"type": "page", "userId": "ann", "properties": {"path": "/home"}},
    {"type": "screen", "userId": "ann", "name": "Start", "properties": {"category": "given"}, "category": "c"},
]
PEOPLE: list[dict[str, Any]] = [
    {"type": "identify", "userId": "ann", "traits": {"email": "ann@x.org", "plan": "pro", "createdAt": "2024-06-01"}},
    {"type": "identify", "traits": {"email": "bob@x.org", "seen": "2024-06-01T12:00:00+02:00"}, "userId": ""},
    {"type": "identify", "userId": "ann", "traits": {"a": {"at": "2024-06-01T12:00:00"}}, "timestamp": 1717243200},
]


@pytest.mark.parametrize("call", EVENTS)
def test_a_pipelines_item_is_the_event_that_the_call_is(call: dict[str, Any]) -> None:
    """Person, name, kind, time, id and data."""
    (fact,) = call_facts(call, call["type"])
    assert isinstance(fact, Track)
    found = track_of(read_event(call, 1, RowShape()))
    wanted = msgspec.structs.replace(fact, data=canonical(fact.data))
    assert (found.person, found.name, found.kind, found.data) == (wanted.person, wanted.name, wanted.kind, wanted.data)
    assert (found.time_us, found.event_id) == (wanted.time_us, wanted.event_id)


@pytest.mark.parametrize("call", PEOPLE)
def test_a_pipelines_item_sets_the_attributes_that_the_call_sets(call: dict[str, Any]) -> None:
    """And names the same person at the same time."""
    (fact,) = call_facts(call, "identify")
    assert isinstance(fact, Identify)
    found = identify_of(read_person(call, 1, RowShape(), clear=False))
    assert (found.person, found.time_us) == (fact.person, fact.time_us)
    # An email that names the person is not told a second time.
    assert {found.person.value, found.body_email} == {fact.person.value, fact.body_email} | {found.body_email}
    assert msgspec.json.decode(found.attributes) == msgspec.json.decode(fact.attributes)


def test_items_are_known_by_what_they_look_like() -> None:
    """Where they name a person by a field of ours they are flat, whatever else they hold."""
    assert shape_of({"identifiers": {"id": "1"}, "name": "x"}) == "track2"
    assert shape_of({"type": "track", "userId": "1"}) == "pipelines"
    assert shape_of({"type": "track", "userId": "1", "customer_id": "2"}) == "flat"
    assert shape_of({"type": "sale", "userId": "1"}) == "flat"
    assert shape_of({"identifiers": {"id": "1"}}, "flat") == "flat"


@pytest.mark.parametrize(
    ("item", "what"),
    [
        ({"type": "person", "action": "identify", "identifiers": {"id": "1"}, "attributes": {}}, "event"),
        ({"type": "identify", "userId": "1"}, "event"),
        ({"type": "person", "action": "event", "identifiers": {"id": "1"}, "name": "x"}, "person"),
        ({"type": "track", "userId": "1", "event": "x"}, "person"),
        ({"type": "group", "userId": "1", "groupId": "x"}, "person"),
    ],
)
def test_items_of_the_other_kind_are_passed_over(item: dict[str, Any], what: str) -> None:
    """So that a file that holds both is read once as people and once as events."""
    with pytest.raises(NotHere):  # noqa: PT012
        if what == "event":
            read_event(item, 1, RowShape())
        else:
            read_person(item, 1, RowShape(), clear=False)


@pytest.mark.parametrize(
    ("item", "shape", "problem"),
    [
        ({"type": "track", "anonymousId": "a", "event": "x"}, "auto", "names nobody known: send it as a call"),
        ({"type": "track", "userId": "1", "event": "User Deleted"}, "auto", "asks for something else than an event"),
        ({"type": "alias", "userId": "1", "previousId": "2"}, "auto", "must be track, page, screen or identify"),
        ({"type": "track", "userId": "1", "event": "x", "properties": []}, "auto", "must be an object"),
        ({"type": "track", "userId": 1.5, "event": "x"}, "auto", "must be text or a whole number"),
        ({"customer_id": "1", "name": "x"}, "track2", "must be an object that names the person"),
        ({"customer_id": "1", "name": "x"}, "pipelines", "names no person"),
        ({"identifiers": {"id": "1"}, "name": "x"}, "flat", "names no person"),
    ],
)
def test_what_is_wrong_with_an_item_is_said(item: dict[str, Any], shape: Any, problem: str) -> None:
    """A shape that was told is not guessed."""
    with pytest.raises(RowError, match=problem):
        read_event(item, 1, RowShape(items=shape))
