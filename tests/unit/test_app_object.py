"""Devices, objects and relationships over the App API, and in templates, against a real workspace."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import httpx
import msgspec
import pytest

from backstory.core.belonging import OBJECTS_MAX, belongings_of
from backstory.core.condition import Json
from backstory.core.fact import DeleteObject, Identifier, IdentifyObject, ObjectKey, PutDevice, Relate
from backstory.core.journey import namespace
from backstory.core.template import TemplateError, render
from backstory.core.trigger import EventCause
from backstory.edge.app import app_api
from backstory.edge.transport import InProcess
from backstory.engine import port
from tests.live import NOW_US, Live

S = 1_000_000
NOW_S = NOW_US // S


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    world = Live(tmp_path / "w")
    yield world
    world.close()


@pytest.fixture
def api(live: Live) -> Iterator[httpx.Client]:
    workspace = cast("port.Workspace", live.workspace)
    with httpx.Client(transport=InProcess(app_api(workspace, lambda scope: True)), base_url="http://app") as client:
        yield client


def company(live: Live, object_id: str, type_id: int = 1, **attributes: Json) -> None:
    body = msgspec.json.encode(attributes)
    live.send(IdentifyObject(object=ObjectKey(type_id, object_id), attributes=body, time_us=NOW_US))


def relate(live: Live, person: str, object_id: str, **attributes: Json) -> None:
    key, who = ObjectKey(1, object_id), Identifier("id", person)
    live.send(Relate(object=key, person=who, attributes=msgspec.json.encode(attributes), time_us=NOW_US))


def test_types_are_listed_once_used(live: Live, api: httpx.Client) -> None:
    """A type is there from its first use on."""
    assert api.get("/v1/object_types").json() == {"types": []}
    company(live, "acme")
    company(live, "maths", 7)
    types = api.get("/v1/object_types").json()["types"]
    assert [(one["id"], one["enabled"]) for one in types] == [("1", True), ("7", True)]


def test_attributes_of_an_object(live: Live, api: httpx.Client) -> None:
    """Under either identifier, with the time of each; 404 once the object is gone."""
    company(live, "acme/1", name="Acme", size=3)
    shown = api.get("/v1/objects/1/acme%2F1/attributes").json()["object"]
    assert shown == {
        "object_type_id": "1",
        "identifiers": {"object_id": "acme/1", "cio_object_id": "ob020002"},
        "attributes": {"name": "Acme", "size": 3},
        "timestamps": {"name": NOW_S, "size": NOW_S},
    }
    again = api.get("/v1/objects/1/ob020002/attributes", params={"id_type": "cio_object_id"}).json()
    assert again["object"] == shown
    assert api.get("/v1/objects/1/acme%2F1/attributes", params={"id_type": "x"}).status_code == 400
    live.advance(S)
    live.send(DeleteObject(object=ObjectKey(1, "acme/1")))
    assert api.get("/v1/objects/1/acme%2F1/attributes").status_code == 404


def test_relationships_from_both_sides_in_pages(live: Live, api: httpx.Client) -> None:
    """People of an object, and objects of a person."""
    for person in "abc":
        relate(live, person, "acme", role=person)
    relate(live, "a", "globex")
    page = api.get("/v1/objects/1/acme/relationships", params={"limit": 2}).json()
    assert [one["identifiers"]["id"] for one in page["cio_relationships"]] == ["a", "b"]
    rest = api.get("/v1/objects/1/acme/relationships", params={"start": page["next"]}).json()
    assert [one["identifiers"]["id"] for one in rest["cio_relationships"]] == ["c"]
    assert rest["next"] == ""
    mine = api.get("/v1/customers/a/relationships", params={"limit": 1}).json()
    assert mine["cio_relationships"] == [
        {
            "object_type_id": 1,
            "identifiers": {"object_id": "acme", "cio_object_id": "ob020002"},
            "attributes": {"role": "a"},
            "timestamps": {"role": NOW_S},
        }
    ]
    mine = api.get("/v1/customers/a/relationships", params={"start": mine["next"]}).json()
    assert [one["identifiers"]["object_id"] for one in mine["cio_relationships"]] == ["globex"]
    assert api.get("/v1/customers/nobody/relationships").status_code == 404
    assert api.get("/v1/objects/1/nothing/relationships").status_code == 404


def test_objects_are_found_by_a_filter(live: Live, api: httpx.Client) -> None:
    """The published filter, in pages; a mistake is told with its place."""
    for number in range(5):
        company(live, f"c{number}", plan="pro" if number % 2 else "free", city="Rome" if number < 4 else None)
    pro = {"object_attribute": {"field": "plan", "operator": "eq", "value": "pro", "type_id": "1"}}
    rome = {"object_attribute": {"field": "city", "operator": "exists", "type_id": 1}}

    def find(body: object, **query: object) -> httpx.Response:
        return api.post("/v1/objects", json=body, params=query)  # pyright: ignore[reportArgumentType]

    assert find({"object_type_id": "1", "filter": {"and": [pro, rome]}}).json()["ids"] == ["c1", "c3"]
    assert find({"object_type_id": "1", "filter": {"not": rome}}).json()["ids"] == ["c4"]
    first = find({"object_type_id": "1", "filter": rome}, limit=3).json()
    assert first["ids"] == ["c0", "c1", "c2"]
    assert first["identifiers"][0] == {"object_id": "c0", "cio_object_id": "ob020002"}
    assert find({"object_type_id": "1", "filter": rome}, limit=3, start=first["next"]).json()["ids"] == ["c3"]
    nothing = {"not": {"object_attribute": {"field": "x", "operator": "exists"}}}
    found = find({"object_type_id": "2", "filter": nothing}).json()
    assert found == {"identifiers": [], "ids": [], "next": ""}
    wrong: list[dict[str, object]] = [
        {},
        {"object_type_id": "1"},
        {"object_type_id": "2", "filter": pro},
        {"object_type_id": "1", "filter": {}},
    ]
    for body in wrong:
        assert find(body).status_code in (400, 422), body


def test_devices_are_shown_with_their_person(live: Live, api: httpx.Client) -> None:
    """In the published shape, attributes as text."""
    body = b'{"push_enabled":true,"nested":{"a":1}}'
    who = Identifier("id", "a")
    live.send(PutDevice(person=who, token="tok", platform="ios", last_used_us=5 * S, attributes=body))
    customer = api.get("/v1/customers/a/attributes").json()["customer"]
    attributes = {"push_enabled": "true", "nested": '{"a":1}'}
    assert customer["devices"] == [{"id": "tok", "platform": "ios", "last_used": 5, "attributes": attributes}]


def test_templates_see_devices_and_objects() -> None:
    """The ten objects related to last, newest first; one too many is not there, and a missing one fails."""
    devices: list[dict[str, Json]] = [{"id": "old", "last_used": 1}, {"id": "new", "last_used": 2}]
    many: list[tuple[int, int, dict[str, Json]]] = [
        (1, number, {"object_id": f"o{number:02}", "name": "Acme", "relationship": {"role": "admin"}})
        for number in range(OBJECTS_MAX + 1)
    ]
    names = namespace(EventCause(name="x", time_us=0), {"id": "a"}, "", belongings_of(devices, many))
    text = "{{ customer.devices[0].id }} {{ objects.type_1[0].object_id }} {{ objects['1'][9].object_id }}"
    assert render(text, names) == "new o10 o01"
    assert render("{{ objects.type_1[0].relationship.role }}", names) == "admin"
    for missing in ("objects.type_1[10].object_id", "objects.type_2[0].object_id", "customer.devices[2].id"):
        with pytest.raises(TemplateError):
            render(f"{{{{ {missing} }}}}", names)
