"""Conditions over devices and relationships: how they are read, what they mean, and that leaves and clock agree."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from backstory.core.condition import ConditionError, Json, parse, to_json
from backstory.core.fact import (
    DeleteDevice,
    DeleteObject,
    DeletePerson,
    Identifier,
    IdentifyObject,
    ObjectKey,
    PutDevice,
    Relate,
    Unrelate,
)
from backstory.core.time import SECOND_US as S
from backstory.engine.verify import verify
from tests.live import NOW_US, Live

IOS: Json = {"device": {"platform": "ios"}}
ADMIN: Json = {
    "relationship": {
        "object_type_id": 1,
        "where": {
            "and": [
                {"attribute": {"field": "plan", "operator": "eq", "value": "pro"}},
                {"attribute": {"field": "relationship.role", "operator": "eq", "value": "admin"}},
            ]
        },
    }
}
ACME = ObjectKey(1, "acme")
A = Identifier("id", "a")


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    world = Live(tmp_path / "w")
    yield world
    world.close()


def device(
    token: str = "t", platform: str = "ios", time_us: int | None = None, person: str = "a", **more: Json
) -> PutDevice:
    who, body = Identifier("id", person), msgspec.json.encode(more)
    return PutDevice(person=who, token=token, platform=platform, attributes=body, time_us=time_us)


def company(time_us: int | None = None, **more: Json) -> IdentifyObject:
    return IdentifyObject(object=ACME, attributes=msgspec.json.encode(more), time_us=time_us)


def member(time_us: int | None = None, person: str = "a", **more: Json) -> Relate:
    return Relate(
        object=ACME, person=Identifier("id", person), attributes=msgspec.json.encode(more), time_us=time_us
    )


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        ({"device": {}}, {"device": {}}),
        (IOS, {"device": {"where": {"attribute": {"field": "platform", "operator": "eq", "value": "ios"}}}}),
        ({"device": {"count": {"at_most": 0}}}, {"device": {"count": {"exactly": 0}}}),
        ({"relationship": {"object_type_id": "2"}}, {"relationship": {"object_type_id": 2}}),
        (
            {"relationship": {"object_type_id": 1, "object_id": 7, "inverse": True}},
            {"not": {"relationship": {"object_type_id": 1, "object_id": "7"}}},
        ),
        (ADMIN, ADMIN),
    ],
)
def test_conditions_are_read_and_printed_in_one_form(given: Json, printed: Json) -> None:
    """What is printed is read as the same condition."""
    condition = parse(given)
    assert to_json(condition) == printed
    assert parse(printed) == condition


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"device": {"platform": "windows"}}, "$.conditions.device.platform"),
        ({"device": {"where": {"attribute": {"field": "a.b", "operator": "exists"}}}}, "$.conditions.device.where"),
        ({"device": {"token": "x"}}, "$.conditions.device"),
        ({"relationship": {}}, "$.conditions.relationship.object_type_id"),
        ({"relationship": {"object_type_id": 0}}, "$.conditions.relationship.object_type_id"),
        ({"relationship": {"object_type_id": 1, "object_id": ""}}, "$.conditions.relationship.object_id"),
        (
            {"relationship": {"object_type_id": 1, "count": {"at_least": -1}}},
            "$.conditions.relationship.count.at_least",
        ),
        (
            {"relationship": {"object_type_id": 1, "where": {"event": {"name": "x"}}}},
            "$.conditions.relationship.where.event",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(given: Json, path: str) -> None:
    """A wrong condition is refused with the path of the mistake."""
    with pytest.raises(ConditionError) as raised:
        parse(given)
    assert raised.value.path == path


def test_members_by_devices_follow_every_change(live: Live) -> None:
    """Gaining, changing and losing devices moves people in and out; those without any count too."""
    live.identify("b")
    ios, none = live.segment(IOS), live.segment({"device": {"count": {"at_most": 0}}})
    pushes: Json = {"attribute": {"field": "push_enabled", "operator": "eq", "value": True}}
    two_on = live.segment({"device": {"where": pushes, "count": {"at_least": 2}}})
    assert live.members(none) == {"b"}
    live.send(device("t", push_enabled=True), device("u", "android", push_enabled=True))
    assert (live.members(ios), live.members(none), live.members(two_on)) == ({"a"}, {"b"}, {"a"})
    live.send(device("t", person="b"))
    assert (live.members(ios), live.members(none), live.members(two_on)) == ({"b"}, set(), set())
    live.send(DeleteDevice(person=Identifier("id", "b"), token="t"), DeletePerson(person=A))
    assert (live.members(ios), live.members(none)) == (set(), {"b"})


def test_members_by_relationships_follow_both_sides(live: Live) -> None:
    """A change of the object, of the relationship, or the end of either moves everybody it concerns."""
    segment = live.segment(ADMIN)
    named = live.segment({"relationship": {"object_type_id": 1, "object_id": "acme"}})
    live.send(member(role="admin"), member(person="b", role="guest"))
    assert (live.members(segment), live.members(named)) == (set(), {"a", "b"})
    live.send(company(plan="pro"))
    assert live.members(segment) == {"a"}
    live.send(member(person="b", role="admin"))
    assert live.members(segment) == {"a", "b"}
    live.send(Unrelate(object=ACME, person=A))
    assert (live.members(segment), live.members(named)) == ({"b"}, {"b"})
    live.send(DeleteObject(object=ACME))
    assert (live.members(segment), live.members(named)) == (set(), set())


def test_a_new_segment_is_built_from_what_is_there_and_survives_a_restart(live: Live) -> None:
    """Building, a clean restart and a crash all give the members that living through it gives."""
    live.send(device(), company(plan="pro"), member(role="admin"), member(person="b"))
    ios, segment = live.segment(IOS), live.segment(ADMIN)
    nobody = live.segment({"not": {"relationship": {"object_type_id": 1, "count": {"at_least": 1}}}})
    live.identify("c")
    for again in (lambda: None, live.reopen, live.crash):
        again()
        assert (live.members(ios), live.members(segment), live.members(nobody)) == ({"a"}, {"a"}, {"c"})


def test_time_alone_moves_people(live: Live) -> None:
    """A device not used for an hour is found at that moment, without any fact."""
    long_ago: Json = {"attribute": {"field": "last_used", "operator": "timestamp_lt", "value": -3600}}
    stale = live.segment({"device": {"where": long_ago}})
    live.send(device())
    assert live.members(stale) == set()
    live.advance(3600 * S)
    assert live.members(stale) == set()
    live.advance(1)
    assert live.members(stale) == {"a"}
    live.send(device())
    assert live.members(stale) == set()


def test_a_late_fact_enters_at_its_own_moment(live: Live) -> None:
    """The effective moment of an entry is when it became true, found again in history."""
    live.segment({"device": {}})
    live.identify("a", NOW_US - 100 * S, x=1)
    segment = live.segment(ADMIN)
    live.send(member(NOW_US - 50 * S, role="admin"), company(NOW_US - 20 * S, plan="pro"))
    assert [move[:3] for move in live.transitions(segment)] == [(0, True, NOW_US - 20 * S)]


def test_as_of_another_day(live: Live) -> None:
    """Devices, relationships and objects are asked as they were, as now known."""
    live.send(member(NOW_US - 50 * S, role="admin"), company(NOW_US - 40 * S, plan="pro"))
    live.send(Unrelate(object=ACME, person=A, time_us=NOW_US - 20 * S), device(time_us=NOW_US - 30 * S))
    segment, ios = live.segment(ADMIN), live.segment(IOS)
    assert live.members(segment) == set()

    def count(number: int, ago_s: int) -> int:
        return live.workspace.reader.member_count(number, NOW_US - ago_s * S)

    assert [count(segment, ago_s) for ago_s in (45, 40, 21, 20, 0)] == [0, 1, 1, 0, 0]
    assert [count(ios, ago_s) for ago_s in (31, 30, 0)] == [0, 1, 1]


def test_verify_holds_records_against_their_history(live: Live) -> None:
    """A sound workspace has no findings."""
    live.segment(IOS)
    live.segment(ADMIN)
    live.send(device(), company(plan="pro"), member(role="admin"), device(person="b"))
    assert verify.run(live.workspace, lambda line: None).ok


PLANTED = {
    "device": "UPDATE device SET gone_us = seen_us + 1",
    "relationship": "UPDATE relationship SET document = (SELECT document FROM object)",
    "object": "UPDATE object SET gone_us = seen_us + 1",
}


@pytest.mark.parametrize("kind", PLANTED)
def test_verify_finds_a_planted_fault(live: Live, kind: str) -> None:
    """A record that is not what was written to it is told."""
    live.send(device(), company(plan="pro"), member(role="admin"))
    live.workspace.call(lambda: live.workspace.folder.state.db.execute(PLANTED[kind]))
    assert not verify.run(live.workspace, lambda line: None).ok
