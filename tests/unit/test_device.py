"""Devices: upsert by token, order, deletion, limits, a token that turns up at somebody else."""

from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import msgspec
import pytest

from backstory.core.condition import Json
from backstory.core.device import shown_device
from backstory.core.fact import DeleteDevice, DeletePerson, Identifier, PutDevice, Receipt
from backstory.core.limit import DEVICE_ATTRIBUTES, DEVICES_PER_PERSON
from tests.live import NOW_US, Live

S = 1_000_000
T = NOW_US - 1000 * S


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    world = Live(tmp_path / "w")
    yield world
    world.close()


def fact(person: str, token: str = "tok", time_us: int | None = None, **attributes: Json) -> PutDevice:
    body = msgspec.json.encode(attributes)
    return PutDevice(
        person=Identifier("id", person), token=token, platform="ios", attributes=body, time_us=time_us
    )


def put(live: Live, person: str, token: str = "tok", time_us: int | None = None, **attributes: Json) -> Receipt:
    return live.send(fact(person, token, time_us, **attributes))[0]


def devices(live: Live, person: str) -> list[dict[str, Json]]:
    number = live.workspace.folder.people.find(Identifier("id", person))
    assert number is not None
    return [shown_device(token, record) for token, record in live.workspace.folder.devices.of_person(number)]


def traces(live: Live, kind: str) -> list[dict[str, Json]]:
    rows = live.workspace.folder.state.rows("SELECT data FROM activity WHERE type = ? ORDER BY seq", (kind,))
    return [msgspec.json.decode(row[0]) for row in rows]


def test_a_device_is_made_with_its_person_and_changed_by_its_token(live: Live) -> None:
    """The first put makes person and device, the next changes it; scalars become text, null removes."""
    assert put(live, "a", push_enabled=True, app_version="1").result == "applied"
    put(live, "a", app_version=None, level=3)
    (device,) = devices(live, "a")
    assert device["attributes"] == {"push_enabled": "true", "level": "3"}
    assert device["platform"] == "ios"
    assert len(traces(live, "device_change")) == 2


def test_last_used_is_the_time_of_the_call_unless_it_is_told(live: Live) -> None:
    """Without last_used the time of the fact is taken."""
    live.send(fact("a", "x"), msgspec.structs.replace(fact("a", "y"), last_used_us=5 * S))
    assert [device["last_used"] for device in devices(live, "a")] == [NOW_US // S, 5]


def test_puts_in_any_order_make_one_device(tmp_path: Path) -> None:
    """Of each attribute the newest write counts, whenever it comes."""
    facts = [
        fact("a", time_us=T, v="1", w="1"),
        fact("a", time_us=T + 1, v="2"),
        fact("a", time_us=T + 2, w=""),
    ]
    seen: list[list[dict[str, Json]]] = []
    for number, order in enumerate(permutations(facts)):
        live = Live(tmp_path / str(number))
        live.send(*order)
        seen.append(devices(live, "a"))
        live.close()
    assert seen[0][0]["attributes"] == {"v": "2"}
    assert all(each == seen[0] for each in seen)


def test_a_token_belongs_to_whoever_had_it_last_in_any_order(tmp_path: Path) -> None:
    """A device that changed hands is its last owner's, without what it was before in other hands."""
    facts = [fact("a", time_us=T, v="1"), fact("b", time_us=T + 1, w="2"), fact("a", time_us=T + 2, x="3")]
    for number, order in enumerate(permutations(facts)):
        live = Live(tmp_path / str(number))
        live.send(*order)
        assert [device["attributes"] for device in devices(live, "a")] == [{"x": "3"}], order
        assert devices(live, "b") == [], order
        live.close()


def test_a_deleted_device_comes_back_by_a_later_call_only(live: Live) -> None:
    """A put dated before the removal is refused with a trace; a later one makes the device anew."""
    put(live, "a", v="1")
    assert live.send(DeleteDevice(person=Identifier("id", "a"), token="tok"))[0].result == "applied"
    assert devices(live, "a") == []
    assert put(live, "a", time_us=T, v="2").result == "dropped"
    assert len(traces(live, "failed_device_change")) == 1
    live.advance(S)
    put(live, "a", w="3")
    assert [device["attributes"] for device in devices(live, "a")] == [{"w": "3"}]


def test_deleting_what_is_not_there_is_skipped(live: Live) -> None:
    """Neither an unknown person nor an unknown device is an error."""
    assert live.send(DeleteDevice(person=Identifier("id", "a"), token="tok"))[0].result == "skipped"
    live.identify("a")
    assert live.send(DeleteDevice(person=Identifier("id", "a"), token="tok"))[0].result == "skipped"


def test_devices_go_with_their_person(live: Live) -> None:
    """Deleting a person leaves nothing of their devices."""
    put(live, "a")
    live.send(DeletePerson(person=Identifier("id", "a")))
    for table in ("device", "record_write"):
        assert live.workspace.folder.state.rows(f"SELECT * FROM {table}") == []


def test_the_number_of_devices_is_limited(live: Live) -> None:
    """As many devices as the limit says, and not one more; known ones can still change."""
    for number in range(DEVICES_PER_PERSON.value):
        assert put(live, "a", f"t{number}").result == "applied"
    assert put(live, "a", "one more").result == "conflict"
    assert put(live, "a", "t0", v="1").result == "applied"
    assert len(devices(live, "a")) == DEVICES_PER_PERSON.value


def test_the_attributes_of_a_device_are_limited(live: Live) -> None:
    """As many attributes as the limit says, and not one more."""
    many = {f"a{number}": "x" for number in range(DEVICE_ATTRIBUTES.value)}
    assert put(live, "a", **many).result == "applied"
    assert put(live, "a", one_more="x").result == "conflict"
    assert len(devices(live, "a")[0]["attributes"]) == DEVICE_ATTRIBUTES.value  # pyright: ignore[reportArgumentType]
