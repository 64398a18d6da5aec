"""Items of JSON lines in three shapes: each says what the same call would say."""

from typing import Any

import msgspec
import pytest

from backstory.core.event import canonical
from backstory.core.fact import Identify, IdentifyObject, ObjectKey, Relate, Track
from backstory.edge.pipeline_semantic import call_facts
from backstory.engine.file.event_row import read_event
from backstory.engine.file.fact_row import FactRow, read_fact
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


GROUPS: list[dict[str, Any]] = [
    {"type": "group", "userId": "ann", "groupId": "acme", "traits": {"plan": "pro", "createdAt": "2024-06-01"}},
    {"type": "group", "userId": 7, "groupId": 12, "objectTypeId": 3, "timestamp": "2024-06-01T12:00:00"},
    {"type": "group", "userId": "ann@x.org", "groupId": "a", "traits": {"object_type_id": "2", "object_id": "n"},
     "originalTimestamp": "2024-06-01"},
    {"type": "group", "userId": "cio_a3000001", "groupId": "acme", "timestamp": 1717243200, "traits": {
        "objectTypeId": 4, "a": {"at": "2024-06-01T12:00:00"},
        "relationshipAttributes": {"role": "owner", "since": "2024-06-01T12:00:00Z"}}},
]  # fmt: skip


def read_group(call: dict[str, Any], kind: str, shape: RowShape | None = None) -> FactRow:
    fact, warning = read_fact(
        call, shape or RowShape(), kind=kind, type_id=1, segment_id=0, clear=False, untold_us=5
    )
    assert not warning
    return fact


@pytest.mark.parametrize("call", GROUPS)
def test_a_group_item_is_the_object_and_the_relationship_that_the_call_is(call: dict[str, Any]) -> None:
    """Each import takes its own of the two: names, time and attributes."""
    for fact, kind in zip(call_facts(call, "group"), ("objects", "relationships"), strict=True):
        assert isinstance(fact, IdentifyObject | Relate)
        wanted = msgspec.structs.replace(fact, time_us=5) if fact.time_us is None else fact
        assert read_group(call, kind) == wanted


def test_a_group_item_is_of_the_type_that_was_told_where_it_names_none() -> None:
    """What names an object as rows do is a row, whatever else it has."""
    fact, _ = read_fact(GROUPS[0], RowShape(), kind="objects", type_id=9, segment_id=0, clear=False, untold_us=5)
    assert isinstance(fact, IdentifyObject)
    assert fact.object == ObjectKey(9, "acme")
    row = {"object_id": "acme", "type": "group", "userId": "x"}
    assert read_group(row, "objects") == IdentifyObject(
        object=ObjectKey(1, "acme"), attributes=b'{"type":"group","userId":"x"}', time_us=5
    )
    assert read_group({**GROUPS[1], "at": 9}, "objects", RowShape(time_column="at")).time_us == 9_000_000  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["objects", "relationships"])
@pytest.mark.parametrize("name", ["track", "page", "screen", "identify"])
def test_calls_that_are_no_groups_are_passed_over(kind: str, name: str) -> None:
    """So that one file of calls is read once for each of what it says."""
    with pytest.raises(NotHere):
        read_group({"type": name, "userId": "ann", "event": "x"}, kind)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ({"type": "group", "userId": "ann"}, "groupId: names no object"),
        ({"type": "group", "anonymousId": "a", "groupId": "x"}, "names nobody known: send it as a call"),
        ({"type": "alias", "userId": "ann", "previousId": "b"}, "type: must be group"),
        ({"type": "group", "userId": "ann", "groupId": "x", "traits": []}, "traits: must be an object"),
    ],
)
def test_what_is_wrong_with_a_group_item_is_said(call: dict[str, Any], problem: str) -> None:
    """By the names it has in the file."""
    with pytest.raises(RowError, match=problem):
        read_group(call, "relationships")


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
        ({"customer_id": "1", "name": "x"}, "pipelines", "must be track, page, screen or identify"),
        ({"identifiers": {"id": "1"}, "name": "x"}, "flat", "names no person"),
    ],
)
def test_what_is_wrong_with_an_item_is_said(item: dict[str, Any], shape: Any, problem: str) -> None:
    """A shape that was told is not guessed."""
    with pytest.raises(RowError, match=problem):
        read_event(item, 1, RowShape(items=shape))
