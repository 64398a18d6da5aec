"""customerio-cdp-analytics, unmodified: every call of its client in batches, plain and packed, as the App API shows."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from customerio.analytics.client import Client
from customerio.analytics.request import APIError, post

from tests.wire.conftest import CDP_KEY, Server, methods_not_called, serving, settings_of

pytestmark = pytest.mark.wire

MOMENT = datetime(2013, 1, 28, 16, 10, 15, tzinfo=UTC)
UNIX = 1359389415


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(settings_of(tmp_path)) as server:
        yield server


@pytest.mark.parametrize("packed", [False, True])
def test_every_call(server: Server, packed: bool) -> None:
    """What the client queues arrives in batches, whichever way they are packed."""
    failed: list[Any] = []
    client = Client(
        CDP_KEY, host=server.url, gzip=packed, max_retries=0, on_error=lambda error, items: failed.append(error)
    )
    client.identify("c1", {"email": "c1@example.com", "plan": "pro", "createdAt": MOMENT}, timestamp=MOMENT)
    for _ in range(2):
        client.track("c1", "bought", {"price": 23.45}, timestamp=MOMENT, message_id="message one")
    client.track(anonymous_id="an1", event="seen")
    client.page("c1", "Docs", "Home", {"url": "https://example.com/a"})
    client.screen("c1", name="Start")
    client.group("c1", "acme", {"name": "Acme"})
    client.identify("c2", {"plan": "old"})
    client.alias("c2", "c1")
    client.shutdown()
    assert failed == []
    shown = server.customer("c1")
    assert shown is not None
    wanted = {"email": "c1@example.com", "plan": "pro", "created_at": str(UNIX)}
    assert {name: shown["attributes"][name] for name in wanted} == wanted
    assert shown["timestamps"]["plan"] == UNIX
    bought, seen = (
        [entry for entry in server.log(type="event") if entry["name"] == name] for name in ("bought", "seen")
    )
    assert [(entry["timestamp"], entry["data"]) for entry in bought] == [(UNIX, {"price": 23.45})]
    assert len(seen) == 1
    assert [entry["url"] for entry in server.log(type="page")] == ["https://example.com/a"]
    assert [entry["name"] for entry in server.log(type="screen")] == ["Start"]
    # The alias merged the other into the one, the group is an object related to them.
    assert server.customer("c2") is None
    assert [entry["customer_id"] for entry in server.log(type="profile_merge")] == ["c1"]
    (related,) = server.show("/v1/customers/c1/relationships")["cio_relationships"]
    assert related["identifiers"]["object_id"] == "acme"


@pytest.mark.parametrize("key", ["wrong", "sk_eu_wrong"])
def test_a_wrong_key_reaches_the_caller(server: Server, key: str) -> None:
    """The client reads code and message of a refusal, whichever way it sends its key."""
    with pytest.raises(APIError, match=r"unauthorized.*Unauthorized request"):
        post(key, host=server.url, batch=[{"type": "track", "userId": "c1", "event": "seen"}])
    assert server.log() == []


def test_no_method_is_left_out() -> None:
    """A method that a new version of the client brings needs a test here; what makes no call is listed."""
    assert methods_not_called(Client, Path(__file__)) == {"flush", "join"}
