"""The App API with arbitrary requests: never a failure of ours, always JSON."""

from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backstory.core.condition import Json
from tests.unit.fake_reader import FakeWorkspace, activity, app_client, message, person

WORDS = st.sampled_from(
    [
        "name",
        "type",
        "conditions",
        "description",
        "segment",
        "campaign",
        "trigger",
        "event",
        "steps",
        "state",
        "filter",
        "and",
        "or",
        "not",
        "attribute",
        "field",
        "operator",
        "value",
        "eq",
        "exists",
        "where",
        "count",
        "at_least",
        "within",
        "last_s",
        "id",
        "ids",
        "dynamic",
        "manual",
        "running",
        "import",
        "people",
    ]
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text() | WORDS
)
VALUES: st.SearchStrategy[Json] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(), inner, max_size=4),
    max_leaves=20,
)
BODIES = st.one_of(
    st.builds(
        lambda noun, inner: {noun: inner}, st.sampled_from(["segment", "campaign", "filter", "ids", "import"]), VALUES
    ),
    VALUES,
)
WRITES = [
    ("POST", "/v1/customers"),
    ("POST", "/v1/customers/attributes"),
    ("POST", "/v1/segments"),
    ("PUT", "/v1/segments/1"),
    ("POST", "/v1/campaigns"),
    ("PUT", "/v1/campaigns/1"),
    ("POST", "/v1/imports"),
]
READS = [
    "/v1/customers",
    "/v1/customers/{}/attributes",
    "/v1/customers/{}/segments",
    "/v1/customers/{}/activities",
    "/v1/customers/{}/messages",
    "/v1/activities",
    "/v1/segments/{}",
    "/v1/segments/{}/membership",
    "/v1/segments/{}/customer_count",
    "/v1/campaigns/{}/journeys",
    "/v1/campaigns/{}/actions/{}",
    "/v1/messages",
    "/v1/messages/{}",
    "/v1/imports/{}",
]
QUERY = [
    "email",
    "id_type",
    "limit",
    "start",
    "type",
    "name",
    "metric",
    "state",
    "all",
    "deleted",
    "drafts",
    "customer_id",
    "as_of",
    "start_ts",
    "end_ts",
]
CAMPAIGN: Json = {
    "name": "Welcome",
    "trigger": {"event": {"name": "purchased"}},
    "steps": [{"type": "delay", "seconds": 1}],
}
patient = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    workspace = FakeWorkspace()
    ada = person(1, id="1", email="ada@example.com")
    workspace.reader.people = [ada]
    workspace.reader.kept_activities = [activity(1, ada)]
    workspace.reader.kept_messages = [message("d1", ada)]
    with app_client(workspace) as client:
        assert client.post("/v1/segments", json={"segment": {"name": "One"}}).status_code == 200
        assert client.post("/v1/campaigns", json={"campaign": CAMPAIGN}).status_code == 200
        yield client


@patient
@given(write=st.sampled_from(WRITES), body=BODIES)
def test_any_body_is_answered(client: httpx.Client, write: tuple[str, str], body: Json) -> None:
    """Done, or refused with a reason in the published shape."""
    response = client.request(*write, json=body)
    assert response.status_code in (200, 400, 422)
    if response.status_code != 200:
        assert response.json()["errors"][0]["detail"]


@patient
@given(write=st.sampled_from(WRITES), body=st.binary(max_size=200))
def test_any_bytes_are_answered(client: httpx.Client, write: tuple[str, str], body: bytes) -> None:
    """What is no JSON is 400."""
    response = client.request(write[0], write[1], content=body)
    assert response.status_code in (200, 400, 422)


@patient
@given(
    path=st.sampled_from(READS),
    name=st.text(min_size=1) | st.integers().map(str),
    query=st.dictionaries(st.sampled_from(QUERY), st.text() | st.integers().map(str) | WORDS, max_size=4),
)
def test_any_read_is_answered(client: httpx.Client, path: str, name: str, query: dict[str, str]) -> None:
    """Found, not found, or refused."""
    response = client.get(path.replace("{}", quote(name, safe="")), params=query)
    assert response.status_code in (200, 400, 404)
    assert response.json()
