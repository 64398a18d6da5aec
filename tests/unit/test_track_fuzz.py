"""Arbitrary requests to the Track API: never our fault, and never a fact together with a refusal."""

import asyncio
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backstory.core.fact import decode, encode
from backstory.edge.bridge import Bridge
from backstory.edge.track import TrackApi
from tests.unit.fake_workspace import AsgiClient, FakeWorkspace

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(
    ["name", "data", "timestamp", "id", "type", "anonymous_id", "email", "_timestamp", "_update", "cio_id", "ids"]
)
BODIES = st.one_of(
    st.binary(max_size=200),
    st.dictionaries(NAMES | st.text(max_size=10), JSON, max_size=8).map(msgspec.json.encode),
    JSON.map(msgspec.json.encode),
    st.lists(st.text(alphabet="abc[]=&%+0é", max_size=12)).map(lambda pieces: "&".join(pieces).encode()),
)
PATHS = st.one_of(
    st.text(alphabet="ab/%2F0@_ö.cio", max_size=30).map(lambda tail: f"/api/v1/customers/{tail}"),
    st.text(alphabet="ab/%2F0@_ö", max_size=30).map(lambda person: f"/api/v1/customers/{person}/events"),
    st.sampled_from(["/api/v1/events", "/api/v1/segments/7/add_customers", "/api/v1/segments/7/remove_customers"]),
    st.text(max_size=20).map(lambda tail: f"/api/v1/{tail}"),
)
TYPES = st.sampled_from(["application/json", "application/x-www-form-urlencoded", "text/plain", ""])


@pytest.fixture(scope="module")
def workspace() -> FakeWorkspace:
    return FakeWorkspace()


@pytest.fixture(scope="module")
def client(workspace: FakeWorkspace) -> Iterator[AsgiClient]:
    def make() -> TrackApi:
        return TrackApi({"default": workspace}, lambda header: "default", Bridge(asyncio.get_running_loop()))

    with AsgiClient(make_app=make) as client:
        yield client


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(method=st.sampled_from(["PUT", "POST", "DELETE", "GET"]), path=PATHS, kind=TYPES, body=BODIES, data=st.data())
def test_arbitrary_requests(
    workspace: FakeWorkspace,
    client: AsgiClient,
    method: str,
    path: str,
    kind: str,
    body: bytes,
    data: st.DataObject,
) -> None:
    """Any request is 200 with exactly one fact that survives the journal, or 4xx in JSON with none."""
    workspace.facts.clear()
    cut = data.draw(st.integers(0, len(body)))
    answer = client.call(method, path, [body[:cut], body[cut:]], content_type=kind)
    if answer.status == 200:
        assert path == "/api/v1/accounts/region" or decode(encode([workspace.fact])) == [workspace.fact]
    else:
        assert 400 <= answer.status < 500
        assert answer.error
        assert not workspace.facts
