"""The official Python client, unmodified, over https: what it sends arrives as it was meant."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from customerio import CustomerIO, CustomerIOException

from backstory.core.fact import DeletePerson, Identifier, Identify, Track, TrackAnonymous
from tests.wire.conftest import TlsServer

pytestmark = pytest.mark.wire

ULID = "01HZX3V7M6Q8N5W2J4K9RTYBCD"
PERSON = Identifier("id", "5")


@pytest.fixture
def client(tls_server: TlsServer) -> Iterator[CustomerIO]:
    with CustomerIO(
        tls_server.site_id, tls_server.track_key, host=tls_server.host, port=tls_server.port, retries=0
    ) as client:
        yield client


def test_identify(client: CustomerIO, tls_server: TlsServer) -> None:
    """Attributes arrive with their types; datetimes as seconds, NaN as a removal."""
    client.identify(
        id="5", email="ann@example.com", plan="pro", score=1.5, vip=True, tags=["a"], address={"city": "Bonn"},
        created_at=datetime(2013, 1, 28, 16, 10, 15, tzinfo=UTC), gone=float("nan"), _timestamp=1359389415,
    )  # fmt: skip
    assert tls_server.facts == [
        Identify(
            person=PERSON,
            attributes=b'{"plan":"pro","score":1.5,"vip":true,"tags":["a"],"address":{"city":"Bonn"},'
            b'"created_at":1359389415,"gone":null}',
            body_email="ann@example.com",
            time_us=1359389415_000_000,
        )
    ]


@pytest.mark.parametrize(
    ("given", "person"),
    [
        (5, PERSON),
        ("a/b?c#d e+f", Identifier("id", "a/b?c#d e+f")),
        ("ann+1@example.com", Identifier("email", "ann+1@example.com")),
        ("cio_a3000001", Identifier("cio_id", "a3000001")),
        ("été", Identifier("id", "été")),
        ("100%2F", Identifier("id", "100%2F")),
    ],
)
def test_identifiers(client: CustomerIO, tls_server: TlsServer, given: object, person: Identifier) -> None:
    """Whatever an id holds, it arrives whole, and its shape says what it is."""
    client.identify(id=given)
    client.track(customer_id=given, name="seen")
    client.delete(customer_id=given)
    assert tls_server.facts == [
        Identify(person=person), Track(person=person, name="seen"), DeletePerson(person=person),
    ]  # fmt: skip


def test_track(client: CustomerIO, tls_server: TlsServer) -> None:
    """Events arrive with data, time and id."""
    moment = datetime(2013, 1, 28, 16, 10, 15, tzinfo=UTC)
    client.track(customer_id="5", name="purchased", data={"price": 23.45, "at": moment}, id=ULID, timestamp=moment)
    assert tls_server.facts == [
        Track(
            person=PERSON,
            name="purchased",
            data=b'{"price":23.45,"at":1359389415}',
            event_id=ULID.lower(),
            time_us=1359389415_000_000,
        )
    ]


def test_pageview_and_backfill(client: CustomerIO, tls_server: TlsServer) -> None:
    """Page views arrive as pages, backfilled events with their time."""
    client.pageview(customer_id="5", page="https://example.com/a", referrer="b")
    client.backfill(customer_id="5", name="purchased", timestamp="1359389415", price=1)
    assert tls_server.facts == [
        Track(person=PERSON, name="https://example.com/a", kind="page", data=b'{"referrer":"b"}'),
        Track(person=PERSON, name="purchased", data=b'{"price":1}', time_us=1359389415_000_000),
    ]


def test_track_anonymous(client: CustomerIO, tls_server: TlsServer) -> None:
    """Anonymous events arrive with their anonymous_id, or without one as an invitation."""
    client.track_anonymous(anonymous_id="anon-1", name="seen", data={"a": 1})
    client.track_anonymous(anonymous_id=None, name="invited", data={"recipient": "bob@example.com"})
    assert tls_server.facts == [
        TrackAnonymous(anonymous_id="anon-1", name="seen", data=b'{"a":1}'),
        TrackAnonymous(anonymous_id=None, name="invited", data=b'{"recipient":"bob@example.com"}'),
    ]


def test_refusals_reach_the_caller(client: CustomerIO, tls_server: TlsServer) -> None:
    """A refused call raises with the status and the reason, and stores nothing."""
    with pytest.raises(CustomerIOException, match=r"400: .*event id must be a ULID or a UUID"):
        client.track(customer_id="5", name="seen", id="42")
    with pytest.raises(CustomerIOException, match=r"400: .*cannot be longer than 1000 bytes"):
        client.identify(id="5", bio="x" * 1001)
    assert not tls_server.facts


def test_wrong_credentials_reach_the_caller(tls_server: TlsServer) -> None:
    """A wrong key raises with 401."""
    wrong = CustomerIO(tls_server.site_id, "wrong", host=tls_server.host, port=tls_server.port, retries=0)
    with wrong, pytest.raises(CustomerIOException, match=r"401: .*Unauthorized request"):
        wrong.identify(id="5")
    assert not tls_server.facts


def test_connections_are_kept(client: CustomerIO, tls_server: TlsServer) -> None:
    """Many calls in a row over one kept connection, and over a new one each, all arrive."""
    for number in range(20):
        client.track(customer_id="5", name=f"seen {number}")
    single = CustomerIO(
        tls_server.site_id, tls_server.track_key, host=tls_server.host, port=tls_server.port,
        retries=0, use_connection_pooling=False,
    )  # fmt: skip
    with single:
        single.track(customer_id="5", name="seen 20")
    assert [fact.name for fact in tls_server.facts if isinstance(fact, Track)] == [f"seen {n}" for n in range(21)]
