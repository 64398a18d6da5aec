"""Track v1 beyond identify and events: devices, suppression, merge, relationships, metrics, forms."""

from collections.abc import Iterator
from typing import Any

import pytest

from backstory.core.fact import (
    DeleteDevice,
    Identifier,
    Identify,
    MergePeople,
    ObjectKey,
    PutDevice,
    Relate,
    ReportMetric,
    SuppressPerson,
    Track,
    Unrelate,
    UnsuppressPerson,
)
from backstory.core.limit import DEVICE_TOKEN_BYTES, OBJECT_ATTRIBUTES, OBJECT_ID_BYTES
from tests.unit.write_client import WriteClient, write_client

ANN = Identifier("id", "5")
SECOND = 1_000_000
DEVICES = "/api/v1/customers/5/devices"
ADD = "add_relationships"
TOO_MANY = dict.fromkeys(map(str, range(OBJECT_ATTRIBUTES.value + 1)), 1)


@pytest.fixture(scope="module")
def client() -> Iterator[WriteClient]:
    with write_client() as client:
        yield client


# --- devices ---


@pytest.mark.parametrize(
    ("device", "fact"),
    [
        ({"id": "t", "platform": "ios"}, PutDevice(person=ANN, token="t", platform="ios")),
        # Go: last_used as text, attributes null.
        (
            {"id": "t", "platform": "android", "last_used": "1359389415", "attributes": None},
            PutDevice(person=ANN, token="t", platform="android", last_used_us=1359389415 * SECOND),
        ),
        # Python and Ruby: further keys beside the token.
        (
            {"id": "t", "platform": "iOS", "last_used": 1359389415, "color": "blue", "attributes": {"os": "17"}},
            PutDevice(
                person=ANN, token="t", platform="ios", last_used_us=1359389415 * SECOND,
                attributes=b'{"color":"blue","os":"17"}',
            ),
        ),
        ({"id": 7, "platform": "ios", "last_used": ""}, PutDevice(person=ANN, token="7", platform="ios")),
    ],
)  # fmt: skip
def test_devices_as_clients_send_them(client: WriteClient, device: dict[str, Any], fact: PutDevice) -> None:
    """A device is its token and platform; every client's way of writing the rest is understood."""
    answer = client.call("PUT", DEVICES, {"device": device})
    assert (answer.status, answer.body) == (200, b"{}")
    assert client.fact == fact


@pytest.mark.parametrize(
    "device",
    [
        None, [], "t", {}, {"id": "t"}, {"platform": "ios"}, {"id": "", "platform": "ios"},
        {"id": None, "platform": "ios"}, {"id": "t", "platform": "windows"}, {"id": "t", "platform": None},
        {"id": "t", "platform": "ios", "last_used": "soon"},
        {"id": "t", "platform": "ios", "attributes": []}, {"id": "t\0", "platform": "ios"},
    ],
)  # fmt: skip
def test_wrong_devices_are_refused(client: WriteClient, device: object) -> None:
    """A device without token or platform, or with nonsense in it, is 400 and nothing happens."""
    answer = client.call("PUT", DEVICES, {"device": device})
    assert answer.status == 400
    assert answer.error
    assert client.facts == []


def test_a_token_has_a_limit(client: WriteClient) -> None:
    """A token at the limit is taken, one byte more is not."""
    for size, status in ((DEVICE_TOKEN_BYTES.value, 200), (DEVICE_TOKEN_BYTES.value + 1, 400)):
        assert client.call("PUT", DEVICES, {"device": {"id": "t" * size, "platform": "ios"}}).status == status


@pytest.mark.parametrize(
    ("path", "token"),
    [
        ("/api/v1/customers/5/devices/abc", "abc"),
        ("/api/v1/customers/5/devices/a%3Ab%2Fc", "a:b/c"),
        # async-customerio encodes a token twice.
        ("/api/v1/customers/5/devices/a%253Ab", "a:b"),
        ("/api/v1/customers/5/devices/a/devices/b", "a/devices/b"),
    ],
)
def test_a_device_goes_by_its_token(client: WriteClient, path: str, token: str) -> None:
    """The token in the path is the one that was put, however a client encodes it; the body says nothing."""
    for body in (b"", b"{}"):
        assert client.call("DELETE", path, body, content_type="application/json").status == 200
        assert client.fact == DeleteDevice(person=ANN, token=token)


# --- people ---


def test_suppress_and_unsuppress_take_no_body(client: WriteClient) -> None:
    """With an empty body under a JSON content type, with braces, or with neither."""
    for body, kind in ((b"", "application/json"), (b"{}", "application/json"), (b"", "")):
        assert client.call("POST", "/api/v1/customers/a%40b.de/suppress", body, content_type=kind).body == b"{}"
        assert client.fact == SuppressPerson(person=Identifier("email", "a@b.de"))
        assert client.call("POST", "/api/v1/customers/cio_a1/unsuppress", body, content_type=kind).status == 200
        assert client.fact == UnsuppressPerson(person=Identifier("cio_id", "a1"))


def test_merge_names_two_people(client: WriteClient) -> None:
    """Each side is named by exactly one identifier; a cio_id comes with its prefix or without."""
    body = {"primary": {"email": "a@b.de"}, "secondary": {"cio_id": "cio_a1"}}
    assert client.call("POST", "/api/v1/merge_customers", body).status == 200
    assert client.fact == MergePeople(primary=Identifier("email", "a@b.de"), secondary=Identifier("cio_id", "a1"))


@pytest.mark.parametrize(
    "body",
    [
        {}, {"primary": {"id": "1"}}, {"primary": {"id": "1"}, "secondary": {}},
        {"primary": {"id": "1", "email": "a@b.de"}, "secondary": {"id": "2"}},
        {"primary": {"name": "1"}, "secondary": {"id": "2"}}, {"primary": "1", "secondary": "2"},
        {"primary": {"id": ""}, "secondary": {"id": "2"}},
    ],
)  # fmt: skip
def test_a_wrong_merge_says_one_error(client: WriteClient, body: dict[str, Any]) -> None:
    """400 with ``meta.error``, not with a list."""
    answer = client.call("POST", "/api/v1/merge_customers", body)
    assert (answer.status, client.facts) == (400, [])
    assert isinstance(answer.json["meta"]["error"], str)


# --- relationships ---


def relate(*relationships: object, action: object = ADD) -> dict[str, Any]:
    return {
        "plan": "pro",
        "_timestamp": 5,
        "cio_relationships": {"action": action, "relationships": list(relationships)},
    }


def test_an_identify_brings_its_relationships(client: WriteClient) -> None:
    """The person first, then each relationship, with the time of the call, accepted together; one receipt."""
    one = {"identifiers": {"object_type_id": "1", "object_id": "acme"}, "relationship_attributes": {"role": "boss"}}
    two = {"identifiers": {"cio_object_id": "ob1"}}
    answer = client.call("PUT", "/api/v1/customers/5", relate(one, two), backstory_wait="applied")
    assert client.facts == [
        Identify(person=ANN, attributes=b'{"plan":"pro"}', time_us=5 * SECOND),
        Relate(object=ObjectKey(1, "acme"), person=ANN, attributes=b'{"role":"boss"}', time_us=5 * SECOND),
        Relate(object=ObjectKey(0, None, "ob1"), person=ANN, time_us=5 * SECOND),
    ]
    assert len(answer.json["receipt"]["parts"]) == 3
    client.call("PUT", "/api/v1/customers/5", relate(one, action="delete_relationships"))
    assert client.facts[1] == Unrelate(object=ObjectKey(1, "acme"), person=ANN, time_us=5 * SECOND)


@pytest.mark.parametrize(
    "body",
    [
        relate({}, action="add"), relate("x"), relate({}), relate({"identifiers": {"object_id": "acme"}}),
        relate({"identifiers": {"object_type_id": "0", "object_id": "acme"}}),
        relate({"identifiers": {"object_type_id": "x", "object_id": "acme"}}),
        relate({"identifiers": {"object_type_id": "1", "object_id": "acme", "cio_object_id": "ob1"}}),
        relate({"identifiers": {"object_type_id": "1", "object_id": ""}}),
        relate({"identifiers": {"object_type_id": "1", "object_id": "x" * (OBJECT_ID_BYTES.value + 1)}}),
        relate({"identifiers": {"cio_object_id": "ob1"}, "relationship_attributes": []}),
        relate({"identifiers": {"cio_object_id": "o"}, "relationship_attributes": TOO_MANY}),
        {"cio_relationships": []}, {"cio_relationships": {"action": ADD, "relationships": {}}},
    ],
)  # fmt: skip
def test_a_wrong_relationship_takes_the_whole_identify_with_it(client: WriteClient, body: dict[str, Any]) -> None:
    """Never a partial effect: the attributes beside it are not taken either."""
    answer = client.call("PUT", "/api/v1/customers/5", body)
    assert (answer.status, client.facts) == (400, [])


# --- deliveries ---


def test_metrics(client: WriteClient) -> None:
    """A metric names its delivery; a push event its device too, under both spellings."""
    body = {"delivery_id": "dlv", "metric": "clicked", "timestamp": 5, "href": "https://a.b", "recipient": "a@b.de"}
    assert client.call("POST", "/api/v1/metrics", body).body == b"{}"
    assert client.fact == ReportMetric(
        delivery_id="dlv", metric="clicked", time_us=5 * SECOND, href="https://a.b", recipient="a@b.de"
    )
    for path in ("/api/v1/push/events", "/push/events"):
        push = {"delivery_id": "dlv", "device_id": "t", "event": "opened", "timestamp": 5}
        assert client.call("POST", path, push).status == 200
        assert client.fact == ReportMetric(delivery_id="dlv", metric="opened", time_us=5 * SECOND, device_token="t")


def test_what_is_told_of_deliveries_needs_no_credentials(client: WriteClient) -> None:
    """A delivery that exists is believed; an unknown one is 200 and nothing; wrong credentials are still wrong."""
    known, unknown = ({"delivery_id": name, "metric": "opened"} for name in ("dlv", "other"))
    assert client.call("POST", "/api/v1/metrics", known, authorization="").status == 200
    assert client.fact == ReportMetric(delivery_id="dlv", metric="opened")
    answer = client.call("POST", "/api/v1/metrics", unknown, authorization="", backstory_wait="applied")
    assert (answer.status, answer.json["receipt"]["result"], client.facts) == (200, "dropped", [])
    assert client.call("POST", "/api/v1/metrics", known, authorization="Basic eDp5").status == 401
    assert client.facts == []


@pytest.mark.parametrize(
    ("body", "kind", "unsubscribes"),
    [
        (b'{"unsubscribe":true}', "application/json", True),
        (b'{"unsubscribe":"true"}', "application/json", True),
        (b"List-Unsubscribe=One-Click", "application/x-www-form-urlencoded", True),
        (b'{"unsubscribe":false}', "application/json", False),
    ],
)
def test_the_public_unsubscribe(client: WriteClient, body: bytes, kind: str, unsubscribes: bool) -> None:
    """JSON or the one-click form unsubscribes the delivery's person, without credentials."""
    assert client.call("POST", "/unsubscribe/dlv", body, content_type=kind, authorization="").status == 200
    wanted = [ReportMetric(delivery_id="dlv", metric="unsubscribed", unsubscribe=True)]
    assert client.facts == (wanted if unsubscribes else [])


@pytest.mark.parametrize("body", [b"", b"{}", b'{"unsubscribe":2}', b"[]", b"{"])
def test_a_wrong_unsubscribe_is_refused(client: WriteClient, body: bytes) -> None:
    """What does not say whether to unsubscribe is 400."""
    answer = client.call("POST", "/unsubscribe/dlv", body, content_type="application/json", authorization="")
    assert (answer.status, client.facts) == (400, [])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/metrics", {}), ("/api/v1/metrics", {"delivery_id": "dlv"}),
        ("/api/v1/metrics", {"delivery_id": "dlv", "metric": "nothing"}),
        ("/api/v1/metrics", {"delivery_id": 7, "metric": "opened"}),
        ("/api/v1/metrics", {"delivery_id": "dlv", "metric": ["opened"]}),
        ("/api/v1/metrics", {"delivery_id": "dlv", "metric": "opened", "href": {}}),
        ("/push/events", {"delivery_id": "dlv", "event": "bounced"}),
    ],
)  # fmt: skip
def test_wrong_metrics_are_refused(client: WriteClient, path: str, body: dict[str, Any]) -> None:
    """A metric without a delivery, or one that does not exist, is 400."""
    assert (client.call("POST", path, body).status, client.facts) == (400, [])


# --- forms ---


def test_a_form_becomes_attributes_and_an_event(client: WriteClient) -> None:
    """204; the fields become attributes, the submission an event; reserved keys are ignored."""
    data = {"email": "a@b.de", "plan": "pro", "form_url": "https://a.b", "form_id": "x"}
    answer = client.call("POST", "/api/v1/forms/my%20form/submit", {"data": data})
    assert (answer.status, answer.body) == (204, b"")
    person = Identifier("email", "a@b.de")
    assert client.facts == [
        Identify(person=person, attributes=b'{"plan":"pro"}'),
        Track(person=person, name="form_submit", data=b'{"plan":"pro","form_id":"my form"}'),
    ]


@pytest.mark.parametrize("data", [None, [], {}, {"plan": "pro"}, {"id": "5", "email": "a@b.de"}, {"id": ""}])
def test_a_form_names_exactly_one_person(client: WriteClient, data: object) -> None:
    """Neither or both of id and email is 400."""
    answer = client.call("POST", "/api/v1/forms/f/submit", {"data": data})
    assert (answer.status, client.facts) == (400, [])
    assert answer.error


# --- bodies ---


@pytest.mark.parametrize(
    "body",
    [
        b'{"plan":1,"plan":2}', b'{"a":{"b":1,"b":1}}', b'{"a" : 1,"a":2}', b'{"a":[{"b":1},{"b":1,"\\u0062":2}]}',
        b'{"a"\n:1,"a":":"}',
    ],
)  # fmt: skip
def test_repeated_keys_are_refused(client: WriteClient, body: bytes) -> None:
    """Nobody could say which of two equal keys was meant: 400 that names the key."""
    answer = client.call("PUT", "/api/v1/customers/5", body, content_type="application/json")
    assert (answer.status, client.facts) == (400, [])
    assert "twice" in answer.error


@pytest.mark.parametrize(
    "body",
    [b'{"at":"12:30:00","url":"http://a"}', b'{"\\":":1,"a":"x\\":y"}', b'{ "a" : {"b" :1}, "c":[{"b":2},{"b":3}] }'],
)
def test_colons_in_texts_are_no_repeated_keys(client: WriteClient, body: bytes) -> None:
    """Colons and blanks in texts do not count as keys."""
    assert client.call("PUT", "/api/v1/customers/5", body, content_type="application/json").status == 200


# --- bodies ---


@pytest.mark.parametrize("encoding", ["gzip", "br", "Deflate", "identity, zstd"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/api/v1/customers/5"), ("POST", "/api/v1/customers/5/events"), ("POST", "/api/v2/batch"),
        ("POST", "/api/v2/entity"), ("POST", "/api/v1/merge_customers"), ("POST", "/api/v1/metrics"),
    ],
)  # fmt: skip
def test_packed_bodies_are_not_taken(client: WriteClient, method: str, path: str, encoding: str) -> None:
    """Said as such, not as JSON with a wrong first letter."""
    answer = client.call(method, path, b"\x1f\x8b\x08", **{"content-encoding": encoding})
    assert answer.status == 400
    assert "Content-Encoding" in str(answer.json)


@pytest.mark.parametrize("encoding", ["", "identity", "utf-8"])
def test_what_packs_nothing_is_let_be(client: WriteClient, encoding: str) -> None:
    """Some clients name the character set there."""
    answer = client.call("PUT", "/api/v1/customers/5", {"plan": "pro"}, **{"content-encoding": encoding})
    assert answer.status == 200


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"primary": {"id": "m1"}}, "secondary is missing"),
        ({}, "primary is missing"),
        ({"primary": {"id": "m1"}, "secondary": {}}, "$.secondary"),
    ],
)
def test_a_refused_merge_says_which_of_both(client: WriteClient, body: dict[str, Any], place: str) -> None:
    """Its one error has no place of its own: the words hold it."""
    assert place in client.call("POST", "/api/v1/merge_customers", body).json["meta"]["error"]
