"""async-customerio, unmodified, over https: every method of both Track APIs called, the App API shows what it sent."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from async_customerio import AsyncCustomerIO
from async_customerio.errors import AsyncCustomerIOError
from async_customerio.track.v2 import Actions

from tests.wire.conftest import Server

pytestmark = pytest.mark.wire

MOMENT = datetime(2013, 1, 28, 16, 10, 15, tzinfo=UTC)
UNIX = 1359389415
ACME = {"object_type_id": "1", "object_id": "acme"}
NO_CALLS = {"setup_base_url", "send_request", "close"}


class Caller:
    """Calls methods of the client and remembers which."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.called: set[str] = set()

    async def __call__(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        self.called.add(name)
        return await getattr(self.client, name)(*args, **kwargs)

    @property
    def missed(self) -> set[str]:
        """Public coroutine methods that were not called."""
        return {
            name
            for name, found in inspect.getmembers(type(self.client), inspect.iscoroutinefunction)
            if not name.startswith("_") and name not in NO_CALLS
        } - self.called


def run(server: Server, work: Callable[[AsyncCustomerIO], Awaitable[None]]) -> None:
    async def inside() -> None:
        client = AsyncCustomerIO(server.site_id, server.track_key, host=server.host, port=server.port, retries=0)
        async with client:
            await work(client)

    asyncio.run(inside())


def test_track_v1(tls_server: Server) -> None:
    """Every method of v1 is accepted, and what it asked for is shown."""
    segment = tls_server.app.post("/v1/segments", json={"segment": {"name": "people"}}).json()["segment"]["id"]

    async def work(client: AsyncCustomerIO) -> None:
        call = Caller(client)
        await call("identify", "s1", email="s1@example.com", plan="pro", _timestamp=UNIX)
        await call("identify", "s2", plan="free")
        await call("identify", "s3", plan="blocked")
        await call("track", "s1", "bought", price=23.45)
        await call("track_anonymous", "an1", "seen", a=1)
        await call("pageview", "s1", "/pricing", referrer="b")
        await call("backfill", "s1", "old", MOMENT, price=1)
        await call("add_device", "s1", "to:k/en", "ios", last_used=UNIX, color="red")
        await call("delete_device", "s1", "to:k/en")
        await call("add_to_segment", segment, ["s1", "s2"])
        await call("add_to_segment", segment, ["s1@example.com"], id_type="email")
        await call("remove_from_segment", segment, ["s2"], id_type="id")
        await call("suppress", "s3")
        await call("unsuppress", "s3")
        await call("merge_customers", "id", "s1", "id", "s2")
        await call("unsubscribe", "unknown")
        await call("report_metric", "unknown", "opened", timestamp=UNIX)
        await call("report_push_metric", "unknown", "token", "opened", timestamp=UNIX)
        assert (await call("get_region"))["region"] == "us"
        await call("submit_form", "form1", email="form@example.com", color="blue")
        await call("send_entity", {"id": "s5"}, "person", Actions.identify, plan="entity")
        await call("send_batch", [{"type": "person", "action": "delete", "identifiers": {"id": "s4"}}])
        await call("delete", "s4")
        assert call.missed == set()

    run(tls_server, work)
    ann = tls_server.customer("s1")
    assert ann is not None
    assert (ann["attributes"]["email"], ann["attributes"]["plan"]) == ("s1@example.com", "pro")
    events = {entry["name"]: entry for entry in tls_server.log(type="event")}
    assert events["bought"]["data"] == {"price": 23.45}
    assert (events["old"]["timestamp"], events["old"]["data"]) == (UNIX, {"price": 1})
    assert {"seen", "form_submit"} <= set(events)
    assert [entry["url"] for entry in tls_server.log(type="page")] == ["/pricing"]
    assert len(tls_server.log(type="device_change")) == 2
    assert tls_server.show(f"/v1/segments/{segment}/membership")["ids"] == ["s1"]
    form, entity = tls_server.customer("form@example.com", "email"), tls_server.customer("s5")
    assert form is not None
    assert form["attributes"]["color"] == "blue"
    assert entity is not None
    assert entity["attributes"]["plan"] == "entity"


def test_track_v2(tls_server: Server) -> None:
    """Every method of v2 is accepted but an event of an object, which there is not; and shown."""

    async def work(client: AsyncCustomerIO) -> None:
        call = Caller(client.v2)
        ann = {"id": "v1"}
        await call("identify_person", ann, plan="pro", email="v1@example.com")
        await call("identify_person", {"id": "v2"}, plan="free")
        await call("track_person_event", ann, "bought", price=23.45)
        await call("person_pageview", ann, "/pricing", referrer="b")
        await call("person_screen", ann, "home")
        await call("add_person_device", ann, "token", "android")
        await call("delete_person_device", ann, "token")
        await call("suppress_person", {"id": "v3"})
        await call("unsuppress_person", {"id": "v3"})
        await call("merge_persons", ann, {"id": "v2"})
        await call("identify_object", ACME, name="Acme")
        await call("add_person_relationships", ann, [{"identifiers": ACME}])
        await call("delete_person_relationships", ann, [{"identifiers": ACME}])
        await call("add_object_relationships", ACME, [{"identifiers": ann}])
        await call("delete_object_relationships", ACME, [{"identifiers": ann}])
        with pytest.raises(AsyncCustomerIOError, match="400"):
            await call("track_object_event", ACME, "opened")
        await call("delete_object", ACME)
        await call("send_entity", {"type": "person", "action": "delete", "identifiers": {"id": "v9"}})
        found = await call("send_batch", [{"type": "person", "action": "delete", "identifiers": {"id": "v9"}}, {}])
        assert [error["batch_index"] for error in found["errors"]] == [1]
        await call("delete_person", {"id": "v9"})
        assert call.missed == set()

    run(tls_server, work)
    ann = tls_server.customer("v1")
    assert ann is not None
    assert (ann["attributes"]["email"], ann["attributes"]["plan"]) == ("v1@example.com", "pro")
    (bought,) = tls_server.log(type="event")
    assert (bought["name"], bought["data"]) == ("bought", {"price": 23.45})
    assert [entry["url"] for entry in tls_server.log(type="page")] == ["/pricing"]
    assert [entry["name"] for entry in tls_server.log(type="screen")] == ["home"]
    assert len(tls_server.log(type="device_change")) == 2
