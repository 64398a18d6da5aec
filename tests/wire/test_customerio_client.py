"""The official Python client, unmodified, over https, against the real server: the App API shows what it sent."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from customerio import CustomerIO, CustomerIOException

from tests.wire.conftest import SITE_ID, TRACK_KEY, Server, methods_not_called, serving, settings_of

pytestmark = pytest.mark.wire

ULID = "01HZX3V7M6Q8N5W2J4K9RTYBCD"
MOMENT = datetime(2013, 1, 28, 16, 10, 15, tzinfo=UTC)
UNIX = 1359389415


@pytest.fixture
def client(tls_server: Server) -> Iterator[CustomerIO]:
    with CustomerIO(
        tls_server.site_id, tls_server.track_key, host=tls_server.host, port=tls_server.port, retries=0
    ) as client:
        yield client


def test_identify(client: CustomerIO, tls_server: Server) -> None:
    """Attributes arrive with their time and are shown as text; datetimes as seconds, NaN as a removal."""
    client.identify(id="5", email="ann@example.com", gone=1, _timestamp=UNIX - 1)
    client.identify(
        id="5", plan="pro", score=1.5, vip=True, tags=["a"], address={"city": "Bonn"},
        created_at=MOMENT, gone=float("nan"), _timestamp=UNIX,
    )  # fmt: skip
    shown = tls_server.customer("5")
    assert shown is not None
    assert shown["identifiers"] == {"id": "5", "email": "ann@example.com", "cio_id": shown["attributes"]["cio_id"]}
    wanted = {
        "plan": "pro", "score": "1.5", "vip": "true", "tags": '["a"]', "address": '{"city":"Bonn"}',
        "created_at": str(UNIX),
    }  # fmt: skip
    for name, value in wanted.items():
        assert shown["attributes"][name] == value
        assert shown["timestamps"][name] == UNIX
    assert shown["attributes"].get("gone") is None
    assert tls_server.show("/v1/customers", email="ANN@example.com")["results"] == [shown["identifiers"]]


def test_a_stale_identify_changes_nothing(client: CustomerIO, tls_server: Server) -> None:
    """A late call with an older time leaves the newer value, and a trace in the log."""
    client.identify(id="5", plan="new", _timestamp=UNIX)
    client.identify(id="5", plan="old", _timestamp=UNIX - 1)
    shown = tls_server.customer("5")
    assert shown is not None
    assert shown["attributes"]["plan"] == "new"
    assert [entry["data"] for entry in tls_server.log(type="skipped_update")] == [
        {"plan": {"stored_at": UNIX, "sent_at": UNIX - 1}}
    ]


@pytest.mark.parametrize(
    ("given", "kind", "path"),
    [
        (5, "id", "5"),
        ("a/b?c#d e+f", "id", "a%2Fb%3Fc%23d%20e%2Bf"),
        ("ann+1@example.com", "email", "ann%2B1%40example.com"),
        ("été", "id", "%C3%A9t%C3%A9"),
        ("100%2F", "id", "100%252F"),
    ],
)
def test_identifiers(client: CustomerIO, tls_server: Server, given: object, kind: str, path: str) -> None:
    """Whatever an id holds, identify, track and delete mean the same person, and its shape says what it is."""
    client.identify(id=given)
    client.track(customer_id=given, name="seen")
    shown = tls_server.customer(path, kind)
    assert shown is not None
    assert shown["identifiers"][kind] == str(given)
    assert [entry["customer_identifiers"][kind] for entry in tls_server.log(type="event")] == [str(given)]
    client.identify(id=f"cio_{shown['attributes']['cio_id']}", plan="pro")
    shown = tls_server.customer(path, kind)
    assert shown is not None
    assert shown["attributes"]["plan"] == "pro"
    client.delete(customer_id=given)
    assert tls_server.customer(path, kind) is None


def test_track(client: CustomerIO, tls_server: Server) -> None:
    """Events arrive with data, time and id; the same id a second time is known."""
    for _ in range(2):
        client.track(customer_id="5", name="purchased", data={"price": 23.45, "at": MOMENT}, id=ULID, timestamp=MOMENT)
    (entry,) = tls_server.log(type="event")
    assert (entry["name"], entry["timestamp"], entry["customer_id"]) == ("purchased", UNIX, "5")
    assert entry["data"] == {"price": 23.45, "at": UNIX}


def test_pageview_and_backfill(client: CustomerIO, tls_server: Server) -> None:
    """Page views arrive as pages, backfilled events with their time; the log of 30 days hides what is older."""
    client.pageview(customer_id="5", page="https://example.com/a", referrer="b")
    client.backfill(customer_id="5", name="purchased", timestamp=str(UNIX), price=1)
    (page,) = tls_server.log(type="page")
    assert (page["url"], page["data"]) == ("https://example.com/a", {"referrer": "b"})
    (event,) = tls_server.log(type="event")
    assert (event["name"], event["timestamp"], event["data"]) == ("purchased", UNIX, {"price": 1})
    assert tls_server.show("/v1/activities", type="event")["activities"] == []


def test_track_anonymous(client: CustomerIO, tls_server: Server) -> None:
    """Anonymous events are kept with nobody's name on them, with an anonymous id and without."""
    client.track_anonymous(anonymous_id="anon-1", name="seen", data={"a": 1})
    client.track_anonymous(anonymous_id=None, name="invited", data={"recipient": "bob@example.com"})
    entries = tls_server.log(type="event")
    assert [(entry["name"], entry["data"]) for entry in entries] == [
        ("seen", {"a": 1}), ("invited", {"recipient": "bob@example.com"}),
    ]  # fmt: skip
    assert all(entry["customer_id"] is None and entry["processed_at"] is None for entry in entries)


def test_devices(client: CustomerIO, tls_server: Server) -> None:
    """A device comes with what stands beside its token, and goes by it."""
    client.add_device(customer_id="5", device_id="to:k/en", platform="ios", last_used=UNIX, color="red")
    shown = tls_server.customer("5")
    assert shown is not None
    (device,) = shown["devices"]
    assert (device["id"], device["platform"], device["last_used"]) == ("to:k/en", "ios", UNIX)
    assert device["attributes"]["color"] == "red"
    client.delete_device(customer_id="5", device_id="to:k/en")
    shown = tls_server.customer("5")
    assert shown is not None
    assert shown["devices"] == []
    put, gone = tls_server.log(type="device_change")
    assert put["customer_id"] == gone["customer_id"] == "5"


def test_batch(client: CustomerIO, tls_server: Server) -> None:
    """A batch is taken in order; a bad item of it does not stop the rest, nor the client."""
    client.batch(
        [
            {"type": "person", "action": "identify", "identifiers": {"id": "5"}, "attributes": {"plan": "pro"}},
            {"type": "person", "action": "nothing", "identifiers": {"id": "5"}},
            {"type": "person", "action": "event", "identifiers": {"id": "5"}, "name": "seen", "id": ULID},
            {"type": "person", "action": "event", "identifiers": {"id": "5"}, "name": "seen", "id": ULID},
        ]
    )
    shown = tls_server.customer("5")
    assert shown is not None
    assert shown["attributes"]["plan"] == "pro"
    assert [entry["name"] for entry in tls_server.log(type="event")] == ["seen"]


def test_merge(client: CustomerIO, tls_server: Server) -> None:
    """The survivor has what both had, the other is gone, and the log says so."""
    client.identify(id="5", plan="pro")
    client.identify(id="6", email="six@example.com", city="Bonn", plan="free")
    client.track(customer_id="6", name="seen")
    client.merge_customers("id", "5", "id", "6")
    shown = tls_server.customer("5")
    assert shown is not None
    assert (shown["attributes"]["plan"], shown["attributes"]["city"]) == ("pro", "Bonn")
    assert shown["identifiers"]["email"] == "six@example.com"
    assert tls_server.customer("6") is None
    assert [(entry["name"], entry["customer_id"]) for entry in tls_server.log(type="event")] == [("seen", "5")]
    assert [entry["customer_id"] for entry in tls_server.log(type="profile_merge")] == ["5"]


def test_suppress_and_unsuppress(client: CustomerIO, tls_server: Server) -> None:
    """Whoever is suppressed is gone and stays away; freed, the name is somebody new."""
    client.identify(id="7", plan="pro")
    client.suppress(customer_id="7")
    assert tls_server.customer("7") is None
    client.identify(id="7", plan="again")
    client.track(customer_id="7", name="seen")
    assert tls_server.customer("7") is None
    client.unsuppress(customer_id="7")
    assert tls_server.customer("7") is None
    client.identify(id="7", city="Bonn")
    shown = tls_server.customer("7")
    assert shown is not None
    assert shown["attributes"]["city"] == "Bonn"
    assert "plan" not in shown["attributes"]


def test_refusals_reach_the_caller(client: CustomerIO, tls_server: Server) -> None:
    """A refused call raises with the status and the reason, and stores nothing."""
    with pytest.raises(CustomerIOException, match=r"400: .*event id must be a ULID or a UUID"):
        client.track(customer_id="5", name="seen", id="42")
    with pytest.raises(CustomerIOException, match=r"400: .*cannot be longer than 1000 bytes"):
        client.identify(id="5", bio="x" * 1001)
    assert tls_server.log() == []
    assert tls_server.customer("5") is None


def test_wrong_credentials_reach_the_caller(tls_server: Server) -> None:
    """A wrong key raises with 401."""
    wrong = CustomerIO(tls_server.site_id, "wrong", host=tls_server.host, port=tls_server.port, retries=0)
    with wrong, pytest.raises(CustomerIOException, match=r"401: .*Unauthorized request"):
        wrong.identify(id="5")
    assert tls_server.customer("5") is None


def test_connections_are_kept(client: CustomerIO, tls_server: Server) -> None:
    """Many calls in a row over one kept connection, and over a new one each, all arrive in order."""
    for number in range(20):
        client.track(customer_id="5", name=f"seen {number}")
    single = CustomerIO(
        tls_server.site_id, tls_server.track_key, host=tls_server.host, port=tls_server.port,
        retries=0, use_connection_pooling=False,
    )  # fmt: skip
    with single:
        single.track(customer_id="5", name="seen 20")
    assert [entry["name"] for entry in tls_server.log(type="event")] == [f"seen {number}" for number in range(21)]


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    """What was answered with 200 is shown by the next server on the folder (worse ends are in ``tests/crash``)."""
    settings = settings_of(tmp_path)
    with serving(settings) as server:
        server.app.put("/api/v1/customers/5", json={"plan": "pro"}, auth=(SITE_ID, TRACK_KEY)).raise_for_status()
        before = server.customer("5")
    with serving(settings) as server:
        assert before is not None
        assert server.customer("5") == before


def test_no_method_is_left_out() -> None:
    """A method that a new version of the client brings needs a test here; what makes no call is listed."""
    missed = methods_not_called(CustomerIO, Path(__file__))
    assert missed == {
        "close", "get_customer_query_string", "get_device_query_string", "get_event_query_string",
        "get_events_query_string", "is_valid_id_type", "send_request", "setup_base_url",
    }  # fmt: skip
