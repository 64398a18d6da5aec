"""Arbitrary requests to every write API: never our fault, JSON always, and no fact together with a refusal."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backstory.edge.endpoint import ENDPOINTS
from tests.unit.write_client import WriteClient, write_client

NAMES = st.sampled_from(
    [
        "type",
        "action",
        "identifiers",
        "id",
        "email",
        "phone",
        "cio_id",
        "anonymous_id",
        "name",
        "attributes",
        "timestamp",
        "device",
        "token",
        "platform",
        "last_used",
        "cio_relationships",
        "relationships",
        "object_type_id",
        "object_id",
        "cio_object_id",
        "primary",
        "secondary",
        "delivery_id",
        "metric",
        "event",
        "data",
        "userId",
        "anonymousId",
        "traits",
        "properties",
        "messageId",
        "context",
        "groupId",
        "previousId",
        "batch",
        "unsubscribe",
        "createdAt",
        "relationshipAttributes",
        "originalTimestamp",
    ]
)
WORDS = st.sampled_from(
    [
        "person",
        "object",
        "delivery",
        "identify",
        "event",
        "merge",
        "add_device",
        "add_relationships",
        "track",
        "group",
        "opened",
        "ios",
        "1",
        "5",
        "dlv",
        "User Deleted",
        "Object Deleted",
        "Device Deleted",
        "2020-01-01T00:00:00Z",
    ]
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=5),
    max_leaves=15,
)
HOSTILE = [
    b"{",
    b"nul",
    b'{"a":}',
    b'{"a":1,}',
    b"NaN",
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":1e999}',
    b'{"a":-1e999}',
    b'{"a":' + b"9" * 5000 + b"}",
    b'{"a":"\\ud800"}',
    b'{"a":"\\u0000"}',
    b'{"\\u0000":1}',
    b'{"a":"\x00"}',
    b"\xff\xfe{}",
    b'{"a":1,"a":2}',
    b"[" * 100_000,
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
    b'{"batch":' + b"[" * 50_000,
    b"\xef\xbb\xbf{}",
    b'{"data":' + b'{"a":' * 70 + b"1" + b"}" * 71,
    b'"text"',
    b"7",
    b"null",
    b"[]",
    b"true",
    b" " * 1000,
    b"{} {}",
    b'{"batch":[null,1,"x",[],{}]}',
    b'{"batch":{"a":1}}',
    b'{"identifiers":[]}',
    b'{"name":"\xc3\x28"}',
]
BODIES = st.one_of(
    JSON.map(msgspec.json.encode),
    st.lists(JSON, max_size=4).map(lambda items: msgspec.json.encode({"batch": items})),
    st.dictionaries(NAMES, JSON, max_size=8).map(msgspec.json.encode),
    st.sampled_from(HOSTILE),
    st.binary(max_size=60),
)
PLACES = {
    "identifier": "5",
    "device_id": "t",
    "segment_id": "7",
    "form_id": "f",
    "delivery_id": "dlv",
    "write_key": "write",
}
TARGETS = [(one.method, one.path.format(**PLACES), one.statuses) for one in ENDPOINTS]


@pytest.fixture(scope="module")
def client() -> Iterator[WriteClient]:
    with write_client() as client:
        yield client


def check(client: WriteClient, target: tuple[str, str, tuple[int, ...]], body: bytes, **headers: str) -> None:
    """The answer is one of those the endpoint may give, in JSON, and a refusal leaves nothing behind."""
    method, path, statuses = target
    answer = client.call(method, path, body, **headers)
    assert answer.status in statuses, (answer.status, answer.body)
    if answer.status != 204:
        assert isinstance(answer.json, dict)
    if answer.status >= 400:
        assert client.facts == []
        assert answer.json


@settings(deadline=None, max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    target=st.sampled_from(TARGETS),
    body=BODIES,
    kind=st.sampled_from(["application/json", "text/plain", "application/x-www-form-urlencoded", ""]),
    strict=st.sampled_from(["", "1"]),
    waits=st.sampled_from(["", "applied"]),
)
def test_arbitrary_bodies(
    client: WriteClient, target: tuple[str, str, tuple[int, ...]], body: bytes, kind: str, strict: str, waits: str
) -> None:
    """Every endpoint answers every body with one of its statuses."""
    check(client, target, body, content_type=kind, x_strict_mode=strict, backstory_wait=waits)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: f"{target[0]} {target[1]}")
def test_hostile_bodies(client: WriteClient, target: tuple[str, str, tuple[int, ...]]) -> None:
    """Broken JSON, deep nesting, huge numbers, NaN, surrogates, NUL, repeated keys, ten megabytes: all survived."""
    for body in [*HOSTILE, b"x" * 10_000_000, b'{"name":"' + b"x" * 10_000_000 + b'"}']:
        check(client, target, body, content_type="application/json")
        check(client, target, body, content_type="application/json", x_strict_mode="1")


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES, cut=st.integers(0, 40), strict=st.sampled_from(["", "1"]))
def test_arbitrary_gzip(client: WriteClient, body: bytes, cut: int, strict: str) -> None:
    """Packed bodies, whole and cut off."""
    packed = gzip.compress(body, 1, mtime=0)
    target = ("POST", "/v1/batch", (200, 400))
    check(client, target, packed[: len(packed) - cut], content_encoding="gzip", x_strict_mode=strict)


def recorded(method: str, path: str, body: object) -> tuple[str, str, bytes]:
    return method, path, b"" if body is None else json.dumps(body).encode()


DEVICES = "/api/v1/customers/5/devices"
# Requests as go-customerio 3.8.0 and customerio-ruby 6.2.0 send them (api-surface sections 1 and 9).
RECORDED: list[tuple[str, str, bytes]] = [
    recorded("PUT", "/api/v1/customers/5", {"id": "5", "cio_id": "a1", "email": "a@b.de", "created_at": 1}),
    recorded("PUT", "/api/v1/customers/cio_a1", {"cio_id": "a1", "plan": "pro"}),
    recorded("POST", "/api/v1/customers/5/events", {"name": "bought", "data": {"price": "13.99"}, "timestamp": 1}),
    recorded("POST", "/api/v1/customers/5/events", {"name": "/a", "type": "page", "data": None}),
    recorded("POST", "/api/v1/events", {"name": "seen", "anonymous_id": "an", "data": {}}),
    recorded("POST", "/api/v1/events", {"name": "invited", "data": {"recipient": "a@b.de"}}),
    recorded(
        "PUT",
        DEVICES := "/api/v1/customers/5/devices",
        {"device": {"id": "t", "platform": "ios", "last_used": "1", "attributes": None}},
    ),
    recorded("PUT", DEVICES, {"device": {"id": "t", "platform": "ios", "last_used": 1, "tier": "gold"}}),
    recorded("DELETE", f"{DEVICES}/t", None),
    recorded("POST", "/api/v1/customers/5/suppress", None),
    recorded("POST", "/api/v1/customers/5/unsuppress", None),
    recorded("POST", "/api/v1/merge_customers", {"primary": {"id": "5"}, "secondary": {"email": "a@b.de"}}),
    recorded("POST", "/api/v1/segments/7/add_customers?id_type=email", {"ids": ["a@b.de"]}),
    recorded("POST", "/api/v1/segments/7/remove_customers?id_type=id", {"ids": ["5"]}),
    recorded("POST", "/push/events", {"delivery_id": "dlv", "event": "opened", "device_id": "t", "timestamp": 1}),
    recorded("POST", "/api/v1/metrics", {"delivery_id": "dlv", "metric": "converted", "timestamp": 1}),
    recorded("POST", "/api/v2/batch", {"batch": [{"type": "person", "identifiers": {"id": "5"}, "action": "delete"}]}),
    recorded("DELETE", "/api/v1/customers/5", None),
]


@pytest.mark.parametrize(("method", "path", "body"), RECORDED)
def test_recorded_requests_of_ruby_and_go(client: WriteClient, method: str, path: str, body: bytes) -> None:
    """Exactly 200 and an empty object, which is all that the Go client takes; with either alphabet of base64."""
    headers: dict[str, Any] = {"content_type": "application/json"} if body else {}
    answer = client.call(method, path, body, **headers)
    assert (answer.status, answer.body) == (200, b"{}")
    assert len(client.facts) == 1
