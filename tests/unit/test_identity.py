"""Who is who: merging, claiming, deleting and suppressing people, by what the workspace shows afterwards."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backstory.core.fact import (
    DeletePerson,
    Identifier,
    IdentifierKind,
    Identify,
    MergePeople,
    Receipt,
    SuppressPerson,
    Track,
    TrackAnonymous,
    UnsuppressPerson,
)
from backstory.core.identity import Rules
from backstory.core.time import DAY_US, HOUR_US, SECOND_US
from backstory.engine.answer.view import PersonView
from tests.unit.campaign_world import NOW_US, World, eq

BOUGHT: Any = {"event": {"name": "purchased"}}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def identify(world: World, kind: IdentifierKind, value: str, **fields: Any) -> Receipt:
    attributes = msgspec.json.encode(fields.pop("attributes", {}))
    fact = Identify(person=Identifier(kind, value), attributes=attributes, **fields)
    return world.apply(fact)[0]


def merge(world: World, primary: str, secondary: str) -> Receipt:
    return world.apply(MergePeople(primary=Identifier("id", primary), secondary=Identifier("id", secondary)))[0]


def found(world: World, kind: IdentifierKind, value: str) -> PersonView | None:
    return world.workspace.reader.person(kind, value)


def log(world: World, kind: IdentifierKind | None = None, value: str | None = None, **asked: Any) -> list[Any]:
    asked = {"types": None, "name": None, "deleted": False, "before": None, "limit": 100, "everything": True} | asked
    return world.workspace.reader.activities(kind, value, **asked)[0]


def members(world: World, segment_id: int) -> set[str | None]:
    return {one["id"] for one in world.workspace.reader.members(segment_id, start="", limit=100)[0]}


def test_a_cio_id_in_the_body_says_whom_the_call_means(world: World) -> None:
    """Somebody else's is a conflict with a trace; their own, or nobody's, changes nothing; it leads to who is named."""
    for name in ("ann", "bob"):
        identify(world, "id", name)
    ann, bob = found(world, "id", "ann"), found(world, "id", "bob")
    assert ann is not None
    assert bob is not None
    refused = identify(world, "id", "ann", body_cio_id=bob.cio_id, attributes={"plan": "pro"})
    assert refused.result == "conflict"
    (trace,) = log(world, "id", "ann", types="failed_attribute_change")
    assert trace.data["cio_id"]["value"] == bob.cio_id
    assert identify(world, "cio_id", ann.cio_id, body_cio_id=bob.cio_id).result == "conflict"
    for theirs in (ann.cio_id, "a3ffffff"):
        assert identify(world, "id", "ann", body_cio_id=theirs, attributes={"city": "Bern"}).result == "applied"
    assert identify(world, "email", "bob@x.org", body_cio_id=bob.cio_id).result == "applied"
    same = found(world, "email", "bob@x.org")
    assert same is not None
    assert (same.id, same.cio_id) == ("bob", bob.cio_id)
    assert identify(world, "id", "cid", body_cio_id=bob.cio_id).result == "conflict"
    assert found(world, "id", "cid") is None


# -- automatic merges -------------------------------------------------------------------------------------------------


def test_halves_of_a_person_are_merged_into_the_older(world: World) -> None:
    """An identify names one by id and one by email, and each lacks what the other has."""
    identify(world, "email", "ann@x.org", attributes={"plan": "pro"})
    identify(world, "id", "ann", attributes={"plan": "free", "city": "Bern"})
    receipt = identify(world, "id", "ann", body_email="Ann@X.org", attributes={"age": 3})
    assert receipt.result == "applied"
    view = found(world, "id", "ann")
    assert view is not None
    assert view == found(world, "email", "ann@x.org")
    assert view.attributes == {"plan": "pro", "city": "Bern", "age": 3}
    assert view.cio_id == "a3000001"
    (entry,) = log(world, "id", "ann", types="profile_merge")
    assert entry.data == {"from": {"id": "ann", "email": None, "cio_id": "a3000002"}}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"kind": "id", "value": "ann", "body_email": "a@x.org"}, {"kind": "email", "value": "ann@x.org"}),
        ({"kind": "id", "value": "ann"}, {"kind": "email", "value": "ann@x.org", "body_id": "bob"}),
    ],
)
def test_whoever_has_both_is_a_conflict(world: World, one: Any, other: Any) -> None:
    """The one found by id has an email, or the one found by email an id: nothing changes, and the log says why."""
    for fields in (one, other):
        fields = dict(fields)
        identify(world, fields.pop("kind"), fields.pop("value"), **fields)
    receipt = identify(world, "id", "ann", body_email="ann@x.org", attributes={"plan": "pro"})
    assert receipt.result == "conflict"
    view = found(world, "id", "ann")
    assert view is not None
    assert view.attributes == {}
    entries = log(world, "id", "ann", types="failed_attribute_change")
    assert [entry.data["email"]["value"] for entry in entries] == ["ann@x.org"]


def test_automatic_merging_can_be_turned_off(world: World) -> None:
    """Then two halves are a conflict, as any two people are."""
    world.workspace.context.rules = Rules(auto_merge=False)
    identify(world, "email", "ann@x.org")
    identify(world, "id", "ann")
    assert identify(world, "id", "ann", body_email="ann@x.org").result == "conflict"


# -- merges by call ---------------------------------------------------------------------------------------------------


def test_a_merge_fills_in_what_the_primary_lacks(world: World) -> None:
    """Values, events, manual segments and identifiers come over; what the primary has stays, however old."""
    manual, buyers = world.segment(), world.segment(BOUGHT)
    world.identify("ann", ago_s=500, plan="pro", note="x")
    world.identify("ann", note=None)
    identify(world, "id", "bob", body_phone="+15550001", attributes={"plan": "free", "note": "y", "city": "Bern"})
    world.track("bob")
    world.put_into(manual, "bob")
    assert merge(world, "ann", "bob").result == "applied"
    view = found(world, "id", "ann")
    assert view is not None
    assert view.attributes == {"plan": "pro", "note": "y", "city": "Bern"}
    assert view.phone == "+15550001"
    assert found(world, "id", "bob") is None
    assert members(world, manual) == members(world, buyers) == {"ann"}
    assert [entry.type for entry in log(world, "id", "ann", types="event")] == ["event"]
    assert {entry.person for entry in log(world, types="event")} == {view.person}


def test_nothing_is_merged_into_nobody(world: World) -> None:
    """The primary does not exist: nothing happens, and the secondary's log says so."""
    world.identify("bob")
    receipt = merge(world, "ann", "bob")
    assert (receipt.result, found(world, "id", "ann")) == ("skipped", None)
    (entry,) = log(world, "id", "bob", types="failed_attribute_change")
    assert entry.data["id"]["value"] == "ann"


def test_equal_ids_count_once_after_a_merge(world: World) -> None:
    """Two people sent the same event id; merged, it is one event, and a third one is a duplicate."""
    event_id = "01890a5d-ac96-774b-bcce-b302099a8057"
    twice = world.segment({"event": {"name": "purchased", "count": {"at_least": 2}}})
    for person in ("ann", "bob"):
        world.apply(Track(person=Identifier("id", person), name="purchased", event_id=event_id))
    merge(world, "ann", "bob")
    (receipt,) = world.apply(Track(person=Identifier("id", "ann"), name="purchased", event_id=event_id.upper()))
    assert receipt.result == "duplicate"
    assert members(world, twice) == set()


def test_a_late_fact_goes_to_the_survivor_and_a_later_one_makes_a_new_person(world: World) -> None:
    """Timed before the merge it is the survivor's, also by the other's cio_id; untimed it acts as ever."""
    world.identify("ann")
    world.identify("bob")
    other = found(world, "id", "bob")
    assert other is not None
    merge(world, "ann", "bob")
    world.identify("bob", ago_s=60, late="yes")
    world.track("bob", ago_s=60)
    past = NOW_US - 60 * SECOND_US
    world.apply(Track(person=Identifier("cio_id", other.cio_id), name="seen", time_us=past))
    assert found(world, "id", "bob") is None
    view = found(world, "id", "ann")
    assert view is not None
    assert view.attributes == {"late": "yes"}
    assert {entry.name for entry in log(world, "id", "ann", types="event")} == {"purchased", "seen"}
    assert world.apply(Track(person=Identifier("cio_id", other.cio_id), name="seen"))[0].result == "dropped"
    world.identify("bob", new=1)
    fresh = found(world, "id", "bob")
    assert fresh is not None
    assert fresh.attributes == {"new": 1}


def test_merges_of_merged_people_lead_to_the_last(world: World) -> None:
    """A fact from before goes the whole way, also after a crash."""
    for person in ("ann", "bob", "cid"):
        world.identify(person)
    merge(world, "bob", "cid")
    merge(world, "ann", "bob")
    world.crash()
    world.track("cid", ago_s=60)
    assert found(world, "id", "cid") is None
    assert len(log(world, "id", "ann", types="event")) == 1
    world.delete("ann")
    (receipt,) = world.apply(
        Track(person=Identifier("id", "cid"), name="purchased", time_us=NOW_US - 60 * SECOND_US)
    )
    assert receipt.result == "dropped"


# -- merges and campaigns ---------------------------------------------------------------------------------------------


def test_merged_events_start_nothing_but_segments_may(world: World) -> None:
    """An event campaign hears nothing of them; the survivor's entry into a segment starts a journey."""
    world.identify("ann")
    world.identify("bob")
    world.track("bob", ago_s=60)
    buyers = world.segment(BOUGHT)
    by_event = world.campaign(BOUGHT, frequency={"mode": "every"})
    by_segment = world.campaign({"segment": {"id": buyers, "transition": "entered"}})
    merge(world, "ann", "bob")
    assert world.journeys(by_event) == []
    (journey,) = world.journeys(by_segment)
    assert journey.identifiers["id"] == "ann"


def test_journeys_go_on_unless_the_survivor_was_there(world: World) -> None:
    """One continues under the survivor; in a campaign both are in, the other's ends."""
    plan, buyers = world.segment(eq("plan", "pro")), world.segment(BOUGHT)
    delay: Any = {"type": "delay", "seconds": 3600}
    for_plan = world.campaign({"segment": {"id": plan, "transition": "entered"}}, delay)
    for_buyers = world.campaign({"segment": {"id": buyers, "transition": "entered"}}, delay)
    world.identify("ann", plan="pro")
    world.identify("bob", plan="pro")
    world.track("bob")
    merge(world, "ann", "bob")
    assert sorted(journey.state for journey in world.journeys(for_plan)) == ["active", "exited"]
    assert [journey.state for journey in world.journeys(for_buyers)] == ["active"]
    assert {one.identifiers["id"] for one in [*world.journeys(for_plan), *world.journeys(for_buyers)]} == {"ann"}
    world.elapse(3601)
    assert [journey.state for journey in world.journeys(for_buyers)] == ["finished"]


# -- claims -----------------------------------------------------------------------------------------------------------


def anonymous(world: World, name: str = "purchased", ago_us: int | None = None) -> Receipt:
    time_us = None if ago_us is None else world.clock.now_us() - ago_us
    return world.apply(TrackAnonymous(anonymous_id="b1", name=name, time_us=time_us))[0]


def test_a_claim_attaches_what_came_before_and_what_comes_after(world: World) -> None:
    """The events have no processed time until then; the anonymous id is an attribute of the claimant."""
    buyers = world.segment({"event": {"name": "purchased", "count": {"at_least": 2}}})
    anonymous(world)
    assert [entry.processed_us for entry in log(world)] == [None]
    identify(world, "id", "ann", anonymous_id="b1")
    world.elapse(3600)
    anonymous(world)
    assert members(world, buyers) == {"ann"}
    view = found(world, "id", "ann")
    assert view is not None
    assert view.attributes == {"anonymous_id": "b1"}
    assert all(entry.processed_us is not None for entry in log(world, "id", "ann", types="event"))
    (entry,) = log(world, "id", "ann", types="anon_merge")
    assert entry.data == {"anonymous_id": "b1", "events": 1}


def test_a_second_claimant_loses_only_the_claim(world: World) -> None:
    """The receipt says conflict, the log says why, the other attributes are written."""
    identify(world, "id", "ann", anonymous_id="b1")
    receipt = identify(world, "id", "bob", anonymous_id="b1", attributes={"plan": "pro"})
    assert receipt.result == "conflict"
    view = found(world, "id", "bob")
    assert view is not None
    assert view.attributes == {"plan": "pro"}
    (entry,) = log(world, "id", "bob", types="failed_attribute_change")
    assert entry.data["anonymous_id"]["value"] == "b1"
    anonymous(world)
    assert len(log(world, "id", "ann", types="event")) == 1


@pytest.mark.parametrize(("age_us", "started"), [(71 * HOUR_US, 1), (73 * HOUR_US, 0)])
def test_claimed_events_may_start_campaigns_for_72_hours(world: World, age_us: int, started: int) -> None:
    """Their age is measured at the claim."""
    anonymous(world, ago_us=HOUR_US)
    world.campaign(BOUGHT)
    world.elapse((age_us - HOUR_US) / SECOND_US)
    identify(world, "id", "ann", anonymous_id="b1")
    assert len(world.journeys()) == started


# -- going, and staying out -------------------------------------------------------------------------------------------


def test_suppressing_blocks_all_that_named_a_person(world: World) -> None:
    """Calls by id, email, phone, anonymous id, or with one of them in the body, do nothing."""
    identify(world, "id", "ann", body_email="ann@x.org", body_phone="+15550001", anonymous_id="b1")
    assert world.apply(SuppressPerson(person=Identifier("email", "ANN@x.org")))[0].result == "applied"
    kinds: list[tuple[IdentifierKind, str]] = [("id", "ann"), ("email", "Ann@x.org"), ("phone", "+15550001")]
    for kind, value in kinds:
        assert identify(world, kind, value).result == "suppressed"
        assert world.apply(Track(person=Identifier(kind, value), name="x"))[0].result == "suppressed"
    assert identify(world, "id", "new", body_email="ann@x.org").result == "suppressed"
    assert anonymous(world).result == "suppressed"
    assert world.workspace.segments.alive.to_array().tolist() == []


def test_what_is_suppressed_can_be_read_nowhere_in_the_state(world: World) -> None:
    """The past is redacted, the names are hashes; later calls leave a trace that says nothing of them."""
    world.identify("other-name")
    identify(world, "id", "secret-id", body_email="secret@x.org", attributes={"note": "secret-note"})
    world.track("secret-id", note="secret-data")
    merge(world, "secret-id", "other-name")
    world.campaign(BOUGHT, {"type": "delay", "seconds": 60})
    world.track("secret-id", note="secret-data")
    world.apply(SuppressPerson(person=Identifier("id", "secret-id")))
    world.track("secret-id", note="secret-data")
    identify(world, "id", "secret-id", attributes={"note": "secret-note"})
    db = world.workspace.folder.state.db
    tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    kept = {table: repr(db.execute(f"SELECT * FROM {table}").fetchall()) for table in tables}
    assert {table for table, rows in kept.items() if "secret" in rows or "other-name" in rows} == set()
    entries = log(world, types="event")
    assert [entry.data for entry in entries] == [{"forgotten": True}] * 2
    assert {entry.person for entry in log(world)} == {None}


def test_unsuppressing_frees_and_restores_nothing(world: World) -> None:
    """Each name by itself; old facts stay out."""
    identify(world, "id", "ann", body_email="ann@x.org", attributes={"unsubscribed": True})
    world.apply(SuppressPerson(person=Identifier("id", "ann")))
    world.elapse(1)
    assert world.apply(UnsuppressPerson(person=Identifier("id", "ann")))[0].result == "applied"
    assert world.apply(UnsuppressPerson(person=Identifier("id", "ann")))[0].result == "skipped"
    assert world.identify("ann", ago_s=60, note="old").result == "dropped"
    assert identify(world, "id", "ann", body_email="ann@x.org").result == "suppressed"
    assert identify(world, "id", "ann").result == "applied"
    view = found(world, "id", "ann")
    assert view is not None
    assert view.attributes == {}
    assert world.apply(UnsuppressPerson(person=Identifier("email", "ann@x.org")))[0].result == "applied"
    assert identify(world, "id", "ann", body_email="ann@x.org").result == "applied"


def test_somebody_deleted_can_be_suppressed_afterwards(world: World) -> None:
    """What was kept to refuse old facts, and of the log, becomes unreadable too."""
    world.identify("secret-id", note="secret")
    world.delete("secret-id")
    assert world.apply(SuppressPerson(person=Identifier("id", "secret-id")))[0].result == "applied"
    assert world.identify("secret-id").result == "suppressed"
    db = world.workspace.folder.state.db
    for table in ("tombstone", "deleted", "activity", "attribute_write"):
        assert "secret" not in repr(db.execute(f"SELECT * FROM {table}").fetchall()), table


def test_a_deleted_person_comes_back_blank_and_old_facts_stay_out(world: World) -> None:
    """Named in the path or in the body."""
    identify(world, "id", "ann", body_email="ann@x.org", attributes={"unsubscribed": True})
    world.apply(DeletePerson(person=Identifier("email", "ann@x.org")))
    assert world.identify("ann", ago_s=60).result == "dropped"
    old = NOW_US - DAY_US
    assert identify(world, "id", "new", body_email="ann@x.org", time_us=old).result == "dropped"
    assert identify(world, "id", "ann").result == "applied"
    view = found(world, "id", "ann")
    assert view is not None
    assert (view.attributes, view.email) == ({}, None)


def test_an_identifier_changes_only_by_cio_id(world: World) -> None:
    """And the log says from what to what."""
    identify(world, "id", "ann", body_phone="+15550001")
    view = found(world, "phone", "+15550001")
    assert view is not None
    assert identify(world, "id", "ann", body_phone="+15550002").result == "conflict"
    identify(world, "cio_id", view.cio_id, body_phone="+15550002")
    entries = log(world, "id", "ann", types="attribute_change")
    assert entries[0].data == {"phone": {"from": "+15550001", "to": "+15550002"}}
