"""Pipelines: which call becomes which facts, how forgiving it is, and what browsers need."""

import gzip
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backstory.core.fact import (
    DeleteDevice,
    DeleteObject,
    DeletePerson,
    Identifier,
    Identify,
    IdentifyObject,
    MergePeople,
    ObjectKey,
    PutDevice,
    Relate,
    ReportMetric,
    SuppressPerson,
    Track,
    TrackAnonymous,
    Unrelate,
    UnsuppressPerson,
)
from backstory.core.limit import BATCH_ITEM_BYTES, EVENT_ID_BYTES, PIPELINES_BATCH_BYTES, PIPELINES_CALL_BYTES
from backstory.edge.pipeline import PATHS
from backstory.edge.pipeline_batch import careful_call, plain_moment, plain_moments, plain_track, plain_tracks
from backstory.edge.pipeline_call import read_moment
from backstory.edge.plain_batch import ITEMS_AT_ONCE
from tests.unit.write_client import WriteClient, write_client

ANN = Identifier("id", "5")
SECOND = 1_000_000
WHEN = "2013-01-28T16:10:15.250Z"
WHEN_US = 1359389415_250_000


@pytest.fixture(scope="module")
def client() -> Iterator[WriteClient]:
    with write_client() as client:
        yield client


def track(event: object, **fields: object) -> dict[str, Any]:
    return {"type": "track", "userId": "5", "event": event, **fields}


DEVICE = {"token": "t", "type": "iOS", "model": "X"}
CALLS: list[tuple[str, dict[str, Any], list[Any]]] = [
    (
        "identify",
        {
            "userId": "5",
            "anonymousId": "an",
            "timestamp": WHEN,
            "traits": {
                "email": "a@b.de",
                "createdAt": "2013-01-28T16:10:15Z",
                "born": "2013-01-28",
                "seen": "2013-01-28T16:10:15+00:00",
                "plan": "pro",
                "phone": "+49301",
            },
        },
        [
            Identify(
                person=ANN,
                body_email="a@b.de",
                anonymous_id="an",
                time_us=WHEN_US,
                attributes=b'{"born":"2013-01-28","seen":1359389415,"plan":"pro","phone":"+49301","created_at":1359389415}',
            )
        ],
    ),
    (
        "identify",
        {"userId": "", "anonymousId": None, "traits": {"email": "a@b.de"}},
        [Identify(person=Identifier("email", "a@b.de"), body_email="a@b.de")],
    ),
    (
        "track",
        track("bought", properties={"n": 1}, messageId="any text", timestamp=WHEN),
        [Track(person=ANN, name="bought", data=b'{"n":1}', event_id="any text", time_us=WHEN_US)],
    ),
    ("track", track("seen", userId=None, anonymousId="an"), [TrackAnonymous(anonymous_id="an", name="seen")]),
    ("track", track("seen", userId="a@b.de"), [Track(person=Identifier("email", "a@b.de"), name="seen")]),
    (
        "page",
        {"userId": "5", "name": "Home", "properties": {"url": "https://a.b/c"}},
        [Track(person=ANN, name="https://a.b/c", kind="page", data=b'{"url":"https://a.b/c","name":"Home"}')],
    ),
    (
        "page",
        {"userId": "5", "name": "Home", "category": "Docs"},
        [Track(person=ANN, name="Home", kind="page", data=b'{"category":"Docs"}')],
    ),
    ("screen", {"userId": "5", "name": "Home"}, [Track(person=ANN, name="Home", kind="screen")]),
    (
        "group",
        {"userId": "5", "groupId": "acme", "traits": {"name": "Acme", "relationshipAttributes": {"role": "x"}}},
        [
            IdentifyObject(object=ObjectKey(1, "acme"), attributes=b'{"name":"Acme"}'),
            Relate(object=ObjectKey(1, "acme"), person=ANN, attributes=b'{"role":"x"}'),
        ],
    ),
    (
        "group",
        {"anonymousId": "an", "groupId": "acme", "traits": {"object_type_id": "2"}},
        [IdentifyObject(object=ObjectKey(2, "acme")), Relate(object=ObjectKey(2, "acme"), anonymous_id="an")],
    ),
    (
        "alias",
        {"userId": "5", "previousId": "a@b.de"},
        [MergePeople(primary=ANN, secondary=Identifier("email", "a@b.de"))],
    ),
    (
        "track",
        track("Device Created or Updated", context={"device": DEVICE}, timestamp=WHEN),
        [PutDevice(person=ANN, token="t", platform="ios", attributes=b'{"device_model":"X"}', time_us=WHEN_US)],
    ),
    (
        "track",
        track("Device Created or Updated", properties={"device": {"token": "t", "type": "android"}}),
        [PutDevice(person=ANN, token="t", platform="android")],
    ),
    ("track", track("Device Deleted", context={"device": {"token": "t"}}), [DeleteDevice(person=ANN, token="t")]),
    (
        "track",
        track("Application Opened", context={"device": {"token": "t", "type": "ios"}}),
        [Track(person=ANN, name="Application Opened"), PutDevice(person=ANN, token="t", platform="ios")],
    ),
    ("track", track("Application Opened"), [Track(person=ANN, name="Application Opened")]),
    (
        "track",
        track("Application Uninstalled", context={"device": {"token": "t"}}),
        [Track(person=ANN, name="Application Uninstalled"), DeleteDevice(person=ANN, token="t")],
    ),
    ("track", track("User Deleted"), [DeletePerson(person=ANN)]),
    ("track", track("User Suppressed"), [SuppressPerson(person=ANN)]),
    ("track", track("User Unsuppressed"), [UnsuppressPerson(person=ANN)]),
    (
        "track",
        track("Relationship Deleted", properties={"objectId": "acme"}),
        [Unrelate(object=ObjectKey(1, "acme"), person=ANN)],
    ),
    (
        "track",
        track("Object Deleted", properties={"objectId": "acme", "objectTypeId": 2}),
        [DeleteObject(object=ObjectKey(2, "acme"))],
    ),
    (
        "track",
        track("Report Delivery Event", properties={"deliveryId": "dlv", "metric": "opened"}, userId=None),
        [ReportMetric(delivery_id="dlv", metric="opened")],
    ),
    (
        "track",
        track("Report Content Event", properties={"actionType": "viewed_content"}),
        [Track(person=ANN, name="viewed_content", data=b'{"actionType":"viewed_content"}')],
    ),
]

WRONG: list[tuple[str, dict[str, Any]]] = [
    ("identify", {"anonymousId": "an"}),
    ("identify", {"userId": "5", "traits": []}),
    ("track", track(None)),
    ("track", track("seen", userId=None)),
    ("track", track("seen", userId={})),
    ("track", track("seen", timestamp="soon")),
    ("track", track("seen", messageId="x" * (EVENT_ID_BYTES.value + 1))),
    ("track", track("seen", messageId=7)),
    ("track", track("User Deleted", userId=None, anonymousId="an")),
    ("track", track("Device Created or Updated")),
    ("track", track("Device Created or Updated", context={"device": {"token": "t", "type": "web"}})),
    ("track", track("Object Deleted", properties={})),
    ("track", track("Report Content Event", properties={"actionType": "x"})),
    ("page", {"userId": "5"}),
    ("screen", {"userId": "5", "name": ""}),
    ("group", {"userId": "5"}),
    ("alias", {"userId": "5"}),
]


@pytest.mark.parametrize(("name", "call", "facts"), CALLS)
def test_calls(client: WriteClient, name: str, call: dict[str, Any], facts: list[Any]) -> None:
    """Each call becomes its facts: under its path, under its letter, and in a batch."""
    for path in (f"/v1/{name}", f"/v1/{name[0]}"):
        answer = client.call("POST", path, call, x_strict_mode="1")
        assert (answer.status, answer.body, client.facts) == (200, b"{}", facts)
    answer = client.call("POST", "/v1/batch", {"batch": [{**call, "type": name}]}, x_strict_mode="1")
    assert (answer.status, answer.body, client.facts) == (200, b"{}", facts)


@pytest.mark.parametrize(("name", "call"), WRONG)
def test_wrong_calls(client: WriteClient, name: str, call: dict[str, Any]) -> None:
    """Permissive: 200, nothing taken, a header says why. Strict: 400 with code, message and errors."""
    answer = client.call("POST", f"/v1/{name}", call)
    assert (answer.status, answer.body, client.facts) == (200, b"{}", [])
    assert answer.headers["backstory-refused"].startswith("1; first at 0: ")
    answer = client.call("POST", f"/v1/{name}", call, x_strict_mode="1")
    assert (answer.status, client.facts, answer.json["code"]) == (400, [], "invalid_request")
    assert answer.json["meta"]["errors"] == [answer.json["message"]]
    answer = client.call("POST", f"/v1/{name}", call, backstory_wait="applied")
    assert (answer.status, answer.json["receipt"]["result"]) == (200, "refused")


def test_a_bad_call_does_not_stop_the_rest_of_a_batch(client: WriteClient) -> None:
    """Permissive: the good ones are taken, with receipts for all. Strict: all of it or nothing."""
    batch = {"batch": [track("a"), {"type": "nothing"}, track("b", messageId="m")]}
    answer = client.call("POST", "/v1/batch", batch)
    assert (answer.status, answer.body) == (200, b"{}")
    assert [fact.name for fact in client.facts] == ["a", "b"]
    assert answer.headers["backstory-refused"].startswith("1; first at 1: type must be")
    answer = client.call("POST", "/v1/batch", batch, backstory_wait="applied")
    assert [one["result"] for one in answer.json["receipts"]] == ["applied", "refused", "applied"]
    answer = client.call("POST", "/v1/batch", batch, x_strict_mode="1")
    assert (answer.status, client.facts) == (400, [])
    assert answer.json["message"].startswith("batch[1]: ")


def test_what_stands_beside_the_calls_is_for_all(client: WriteClient) -> None:
    """The context of a batch is that of its calls, and other clients' fields do no harm."""
    batch = {
        "batch": [track("Device Deleted"), track("a", context={"ip": "::1"}, channel="x", _metadata={"n": [1]})],
        "context": {"device": {"token": "t"}}, "integrations": {"All": True}, "sentAt": WHEN, "writeKey": "w",
    }  # fmt: skip
    assert client.call("POST", "/v1/b", batch).status == 200
    assert client.facts == [DeleteDevice(person=ANN, token="t"), Track(person=ANN, name="a")]


# --- credentials and bodies ---


@pytest.mark.parametrize(
    ("header", "key", "status"),
    [
        ("Bearer sk_eu_1", None, 200),
        ("Bearer write", None, 200),
        ("", "write", 200),
        ("", "wrong", 401),
        ("", None, 401),
        ("Bearer wrong", "write", 401),
        ("Basic eDp5", None, 401),
    ],
)
def test_the_write_key_comes_in_three_ways(client: WriteClient, header: str, key: str | None, status: int) -> None:
    """Basic, Bearer, or in the body; a wrong key is 401 in both modes."""
    body = track("seen") if key is None else track("seen", writeKey=key)
    for strict in ("0", "1"):
        answer = client.call("POST", "/v1/track", body, authorization=header, x_strict_mode=strict)
        assert answer.status == status
        assert len(client.facts) == (status == 200)
        assert status == 200 or answer.json["code"] == "unauthorized"


def test_packed_bodies_and_text(client: WriteClient) -> None:
    """gzip in one member or several; JSON as text/plain, as browsers send it."""
    text = msgspec.json.encode({"batch": [track("seen")]})
    several = gzip.compress(text[:9]) + gzip.compress(text[9:])
    for body in (gzip.compress(text), several):
        assert client.call("POST", "/v1/batch", body, content_encoding="gzip").status == 200
        assert client.fact.name == "seen"
    assert client.call("POST", "/v1/b", text, content_type="text/plain").status == 200
    assert client.fact.name == "seen"


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"no gzip", "gzip"),
        (gzip.compress(b'{"batch":[]}', mtime=0)[:-9], "gzip"),
        (b"{}", "br"),
        # Packed small, unpacked far too large: never unpacked whole.
        (gzip.compress(b" " * 100_000_000, 1, mtime=0), "gzip"),
        (b"{", ""),
        (b"\xff", ""),
        (b'{"batch":[],"batch":[]}', ""),
    ],
)
def test_bodies_that_cannot_be_read(client: WriteClient, body: bytes, encoding: str) -> None:
    """Permissive 200 and a header, strict 400; nothing is taken."""
    for strict, status in (("0", 200), ("1", 400)):
        answer = client.call("POST", "/v1/batch", body, content_encoding=encoding, x_strict_mode=strict)
        assert (answer.status, client.facts) == (status, [])


def padded(body: dict[str, Any], size: int) -> bytes:
    text = msgspec.json.encode(body)
    return text[:-1] + b" " * (size - len(text)) + b"}"


def test_limits_of_bytes(client: WriteClient) -> None:
    """A call, an item and a batch at their limit are taken; one byte more is dropped, or 400 in strict mode."""
    call = track("seen", properties={"é": "é" * 50})
    for limit, path, body in (
        (PIPELINES_CALL_BYTES.value, "/v1/track", call),
        (PIPELINES_BATCH_BYTES.value, "/v1/batch", {"batch": [call]}),
    ):
        for size in (limit, limit + 1):
            fits = size == limit
            assert client.call("POST", path, padded(body, size)).status == 200
            assert bool(client.facts) == fits
            answer = client.call("POST", path, padded(body, size), x_strict_mode="1")
            assert answer.status == (200 if fits else 400)
    for size in (BATCH_ITEM_BYTES.value, BATCH_ITEM_BYTES.value + 1):
        client.call("POST", "/v1/batch", b'{"batch":[' + padded(call, size) + b"]}")
        assert bool(client.facts) == (size == BATCH_ITEM_BYTES.value)


# --- browsers ---


def test_browsers_may_call(client: WriteClient) -> None:
    """OPTIONS is answered on every path, and every answer may be read by any page."""
    for path in [*(one.decode() for one in PATHS), "/v1/projects/write/settings"]:
        answer = client.call("OPTIONS", path, authorization="")
        assert answer.status == 204
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert "content-type" in answer.headers["access-control-allow-headers"]
    for strict in ("0", "1"):
        answer = client.call("POST", "/v1/t", {}, x_strict_mode=strict)
        assert answer.headers["access-control-allow-origin"] == "*"


def test_the_browser_client_finds_its_settings(client: WriteClient) -> None:
    """The settings of a write key start the browser client; another key has none; both can be read by a page."""
    answer = client.call("GET", "/v1/projects/write/settings", authorization="")
    assert answer.status == 200
    assert "Customer.io Data Pipelines" in answer.json["integrations"]
    assert client.call("GET", "/v1/projects/wrong/settings", authorization="").status == 404
    assert client.call("GET", "/v1/track").status == 405


# --- times, and the short way of batches ---


@pytest.mark.parametrize(
    ("body", "time_us"),
    [
        ({"timestamp": WHEN}, WHEN_US),
        ({"timestamp": "2013-01-28T17:10:15.250+01:00"}, WHEN_US),
        ({"timestamp": "2013-01-28T16:10:15.250"}, WHEN_US),
        ({"timestamp": "2013-01-28"}, 1359331200 * SECOND),
        ({"timestamp": 1359389415}, 1359389415 * SECOND),
        ({"originalTimestamp": WHEN, "sentAt": "2013-01-28T18:00:00Z"}, WHEN_US),
        ({"sentAt": WHEN}, None),
        ({"timestamp": None}, None),
    ],
)
def test_times(body: dict[str, Any], time_us: int | None) -> None:
    """``timestamp`` counts as it was sent, else ``originalTimestamp``; ``sentAt`` moves nothing."""
    assert read_moment(body)[0] == time_us


TEXTS = st.sampled_from(
    [
        WHEN,
        "2013-01-28T16:10:15Z",
        "2013-01-28T16:10:15.123456+00:00",
        "2013-01-28T16:10:15.1Z",
        "2013-01-28T16:10:15,123Z",
        "2013-W05-1T16:10:15Z",
        "2013-01-28T16:10:15.1234567Z",
        "20130128T161015Z",
        "2013-02-30T00:00:00Z",
        "2013-01-28T24:00:00Z",
        "2013-01-28T16:10:15.123+0100",
        "2013-01-28T16:10:15",
        "2013-01-28T16:10:15+01",
        "2013-01-28T16:10:15-00:00:01",
    ]
)


MOMENT = r"(19|20)[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{3}|\.[0-9]{6})?Z"


@given(text=TEXTS | st.text(alphabet="0123456789T:-.Z+ ,W", min_size=15, max_size=34))
def test_plain_times_are_read_alike(text: str) -> None:
    """What the short way reads as a time, the careful way reads as the same time."""
    time_us = plain_moment(text)
    if time_us is not None:
        assert read_moment({"timestamp": text}) == (time_us, False)


@given(texts=st.lists(st.none() | TEXTS | st.from_regex(MOMENT, fullmatch=True), max_size=4))
def test_plain_times_are_read_alike_all_at_once(texts: list[str | None]) -> None:
    """Where a group of times is read at once, each is what it is by itself."""
    found = plain_moments(texts)
    if found is not None:
        assert found == [None if text is None else plain_moment(text) for text in texts]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=5), JSON, max_size=3)
MAYBE_TEXT = st.none() | st.text(max_size=40)
TRACKS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["track", "track", "page"]),
        "userId": st.text(max_size=40) | st.sampled_from(["cio_a1", "cio_", "a@b.de"]),
        "event": st.text(max_size=30) | st.sampled_from(["User Deleted", "Application Opened"]),
    },
    optional={
        "properties": OBJECTS | JSON,
        "timestamp": TEXTS | MAYBE_TEXT | st.integers(),
        "messageId": MAYBE_TEXT | st.just("01HZX3V7M6Q8N5W2J4K9RTYBCD"),
        "anonymousId": MAYBE_TEXT,
        "context": OBJECTS | JSON,
        "integrations": OBJECTS,
        "originalTimestamp": TEXTS | st.none(),
        "sentAt": TEXTS,
        "more": JSON,
    },
)


@settings(deadline=None, max_examples=500)
@given(call=TRACKS, indent=st.sampled_from([0, 2]))
def test_the_short_way_says_what_the_careful_one_says(call: dict[str, Any], indent: int) -> None:
    """Whatever the short way takes, the careful way takes too, as the same fact."""
    text = msgspec.json.encode(call)
    text = msgspec.json.format(text, indent=indent) if indent else text
    # A batch that may hold a NUL goes the careful way as a whole.
    fact = None if b"\\u0000" in text else plain_track(text)
    if fact is not None:
        assert careful_call(text, None) == [fact]


@settings(deadline=None, max_examples=300)
@given(calls=st.lists(TRACKS, min_size=1, max_size=4))
def test_many_at_once_say_what_the_careful_way_says(calls: list[dict[str, Any]]) -> None:
    """Where a whole group is taken at once, each fact is the one that the careful way makes."""
    items = [msgspec.json.encode(call) for call in calls]
    facts = plain_tracks(items)
    if facts is not None:
        assert [list(careful_call(item, None)) for item in items] == [[fact] for fact in facts]


def test_the_calls_of_clients_take_the_short_way() -> None:
    """What the official clients send most is not left to the careful way."""
    library = {"library": {"name": "analytics-python", "version": "1.1.0"}}
    call = track(
        "seen",
        properties={"n": 1, "url": "https://a.b"},
        timestamp=WHEN,
        messageId="m-1",
        context=library,
        integrations={},
    )
    for body in (call, {**call, "anonymousId": None}):
        fact = plain_track(msgspec.json.encode(body))
        assert fact is not None
        # As many as are taken at once, each with objects inside objects.
        assert plain_tracks([msgspec.json.encode(body)] * ITEMS_AT_ONCE) == [fact] * ITEMS_AT_ONCE


@pytest.mark.parametrize(
    "item",
    [
        b'{"type":"track","userId":"5","event":"a","userId":"6","timestamp":"2013-01-28T16:10:15Z"}',
        b'{"type":"track","userId":"5","event":"a","properties":{"n":1,"n":2},"timestamp":"2013-01-28T16:10:15Z"}',
        b'{"type":"track","userId":"5","event":"a","userId":"6","timestamp":"2013-01-28T16\\u003a10\\u003a15Z"}',
        b'{"type":"track","userId":"5","event":"a","context":{"a":{"b":1,"b":1}},"sentAt":"2013-01-28T16:10:15Z"}',
    ],
)
def test_repeated_keys_are_found_beside_times(client: WriteClient, item: bytes) -> None:
    """The colons of a time hide no key that is there twice, escaped or not."""
    assert plain_track(item) is None
    assert plain_tracks([item]) is None
    answer = client.call("POST", "/v1/batch", b'{"batch":[' + item + b"]}", x_strict_mode="1")
    assert (answer.status, client.facts) == (400, [])
    assert "twice" in answer.json["message"]
