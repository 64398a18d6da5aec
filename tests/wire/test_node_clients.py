"""The official Node clients, unmodified, against the real server: every method called, and shown by the App API."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.wire.conftest import CDP_KEY, SITE_ID, TRACK_KEY, Server, serving, settings_of
from tests.wire.node_client import HERE, call_node

pytestmark = [pytest.mark.wire, pytest.mark.xdist_group("node")]

UNIX = 1359389415


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(settings_of(tmp_path)) as server:
        yield server


def attributes(server: Server, name: str, id_type: str = "id") -> dict[str, Any]:
    shown = server.customer(name, id_type)
    assert shown is not None, name
    return shown["attributes"]


def test_the_lock_names_no_registry() -> None:
    """Packages come from whichever registry the machine is set to, checked by their hashes."""
    text = (HERE / "package-lock.json").read_text()
    assert '"resolved"' not in text
    assert text.count('"integrity": "sha512-') > 10


def test_customerio_node_track(server: Server) -> None:
    """Every method of its TrackClient: accepted, and shown by the App API."""
    made = server.app.post("/v1/segments", json={"segment": {"name": "people"}}).json()["segment"]["id"]
    told = call_node("track.mjs", server.url, SITE_ID, TRACK_KEY, str(made))
    assert told["missed"] == []
    assert all(answer == {} for name, answer in told["said"].items() if name != "getAccountRegion"), told["said"]
    assert told["said"]["getAccountRegion"]["region"] == "us"
    assert "event id must be a ULID or a UUID" in told["refused"]
    ann = attributes(server, "n1")
    assert (ann["email"], ann["plan"]) == ("n1@example.com", "pro")
    assert attributes(server, "a%2Fb%3Fc")["plan"] == "odd"
    assert attributes(server, "n4")["plan"] == "batch"
    assert attributes(server, "n5")["plan"] == "entity"
    assert attributes(server, "form@example.com", "email")["color"] == "blue"
    assert server.customer("n2") is None
    events = {entry["name"]: entry for entry in server.log(type="event")}
    assert events["bought"]["data"] == {"price": 23.45}
    assert events["bought"]["timestamp"] == UNIX
    assert {"seen", "batched", "form_submit"} <= set(events)
    assert [entry["url"] for entry in server.log(type="page")] == ["/pricing"]
    members = server.show(f"/v1/segments/{made}/membership")["ids"]
    assert "n1" in members
    assert "n2" not in members
    # Suppressed (and freed again) while a member; merged.
    assert "n3" not in members
    assert server.customer("n3") is None
    assert server.customer("n6") is None
    assert [entry["customer_id"] for entry in server.log(type="profile_merge")] == ["n1"]
    assert len(server.log(type="device_change")) == 3
    shown = server.customer("n1")
    assert shown is not None
    assert [device["id"] for device in shown["devices"]] == ["token:1"]


def test_customerio_node_pipelines(server: Server) -> None:
    """Every method of its PipelinesClient, in strict mode."""
    told = call_node("pipelines.mjs", server.url, CDP_KEY)
    assert told["missed"] == []
    assert all(answer == {} for answer in told["said"].values()), told["said"]
    assert "timestamp must be a time" in told["refused"]
    ann = attributes(server, "p1")
    assert (ann["email"], ann["plan"], ann["created_at"]) == ("p1@example.com", "pro", str(UNIX))
    assert attributes(server, "p3")["plan"] == "batch"
    bought = [entry for entry in server.log(type="event") if entry["name"] == "bought"]
    assert [(entry["timestamp"], entry["data"]) for entry in bought] == [(UNIX, {"price": 23.45})]
    assert [entry["url"] for entry in server.log(type="page")] == ["https://example.com/a"]
    assert [entry["name"] for entry in server.log(type="screen")] == ["Start"]
    _grouped_and_aliased(server, "p1", "p2")


def _grouped_and_aliased(server: Server, survivor: str, other: str) -> None:
    """A group is an object related to somebody, an alias merges."""
    (related,) = server.show(f"/v1/customers/{survivor}/relationships")["cio_relationships"]
    assert related["identifiers"]["object_id"] == "acme"
    assert server.customer(other) is None
    assert [entry["customer_id"] for entry in server.log(type="profile_merge")] == [survivor]


def test_cdp_analytics_node(server: Server) -> None:
    """Every method that sends, in batches: none fails, and the App API shows what was sent."""
    told = call_node("analytics.mjs", server.url, CDP_KEY)
    assert told["failed"] == []
    assert told["missed"] == []
    assert {"identify", "track", "page", "screen", "group", "alias", "closeAndFlush"} <= set(told["methods"])
    ann = attributes(server, "a1")
    assert (ann["email"], ann["plan"], ann["created_at"]) == ("a1@example.com", "pro", str(UNIX))
    events = {entry["name"]: entry for entry in server.log(type="event")}
    assert (events["bought"]["timestamp"], events["bought"]["data"]) == (UNIX, {"price": 23.45})
    assert "seen" in events
    assert events["enriched"]["data"] == {"enriched": True}
    assert [entry["url"] for entry in server.log(type="page")] == ["https://example.com/a"]
    assert [entry["name"] for entry in server.log(type="screen")] == ["Start"]
    _grouped_and_aliased(server, "a1", "a2")


def test_a_wrong_key_reaches_the_caller(server: Server) -> None:
    """The analytics client is told that its key is wrong."""
    told = call_node("analytics.mjs", server.url, "wrong")
    assert told["failed"]
    assert "401" in told["failed"][0]
