"""Track v2: which operation becomes which facts, what a batch answers, and that its short way is the careful one's."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backstory.core.error import RequestError
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
from backstory.core.limit import BATCH_BODY_BYTES, BATCH_ITEM_BYTES, ENTITY_BODY_BYTES
from backstory.edge.track2_batch import careful_facts, plain_fact, plain_facts
from tests.unit.write_client import WriteClient, write_client

ANN = Identifier("id", "5")
ACME = ObjectKey(1, "acme")
SECOND = 1_000_000
ULID = "01HZX3V7M6Q8N5W2J4K9RTYBCD"
OF_ACME = {"object_type_id": "1", "object_id": "acme"}


@pytest.fixture(scope="module")
def client() -> Iterator[WriteClient]:
    with write_client() as client:
        yield client


def person(action: str, **fields: object) -> dict[str, Any]:
    return {"type": "person", "action": action, "identifiers": {"id": "5"}, **fields}


def thing(action: str, **fields: object) -> dict[str, Any]:
    return {"type": "object", "action": action, "identifiers": OF_ACME, **fields}


DEVICE = {"token": "t", "platform": "ios", "last_used": 7, "attributes": {"os": "17"}}
OPERATIONS: list[tuple[dict[str, Any], list[Any]]] = [
    (
        person(
            "identify",
            timestamp=5,
            cio_relationships=[{"identifiers": OF_ACME, "relationship_attributes": {"role": "x"}}],
            attributes={
                "email": "a@b.de",
                "phone": "+49301",
                "plan": "pro",
                "cio_id": "a1",
                "anonymous_id": "an",
                "_update": True,
            },
        ),
        [
            Identify(
                person=ANN,
                attributes=b'{"plan":"pro"}',
                body_email="a@b.de",
                body_phone="+49301",
                body_cio_id="a1",
                anonymous_id="an",
                time_us=5 * SECOND,
                update_only=True,
            ),
            Relate(object=ACME, person=ANN, attributes=b'{"role":"x"}', time_us=5 * SECOND),
        ],
    ),
    (person("identify", attributes={"phone": "030 1"}), [Identify(person=ANN, attributes=b'{"phone":"030 1"}')]),
    (person("delete"), [DeletePerson(person=ANN)]),
    (person("suppress"), [SuppressPerson(person=ANN)]),
    (person("unsuppress"), [UnsuppressPerson(person=ANN)]),
    (
        person("event", name=" bought ", attributes={"n": 1}, id=ULID, timestamp=5),
        [Track(person=ANN, name="bought", data=b'{"n":1}', event_id=ULID.lower(), time_us=5 * SECOND)],
    ),
    (
        person("page", name="/a", attributes={"url": "u"}),
        [Track(person=ANN, name="/a", kind="page", data=b'{"url":"u"}')],
    ),
    (person("screen", name="home"), [Track(person=ANN, name="home", kind="screen")]),
    (
        person("event", name="seen", identifiers={"anonymous_id": "an"}),
        [TrackAnonymous(anonymous_id="an", name="seen")],
    ),
    (
        person("viewed_content", identifiers={"anonymous_id": "an"}, attributes={"contentId": 1}),
        [TrackAnonymous(anonymous_id="an", name="viewed_content", data=b'{"contentId":1}')],
    ),
    (
        person("add_device", device=DEVICE, timestamp=5),
        [
            PutDevice(
                person=ANN,
                token="t",
                platform="ios",
                last_used_us=7 * SECOND,
                attributes=b'{"os":"17"}',
                time_us=5 * SECOND,
            )
        ],
    ),
    (person("delete_device", device={"token": "t"}), [DeleteDevice(person=ANN, token="t")]),
    (
        {"type": "person", "action": "merge", "primary": {"phone": "+49301"}, "secondary": {"cio_id": "cio_a1"}},
        [MergePeople(primary=Identifier("phone", "+49301"), secondary=Identifier("cio_id", "a1"))],
    ),
    (person("add_relationships", cio_relationships=[{"identifiers": OF_ACME}]), [Relate(object=ACME, person=ANN)]),
    (person("delete_relationships", cio_relationships=[{"identifiers": OF_ACME}]), [Unrelate(object=ACME, person=ANN)]),
    (
        thing(
            "identify",
            attributes={"name": "Acme"},
            timestamp=5,
            cio_relationships=[{"identifiers": {"email": "a@b.de"}}],
        ),
        [
            IdentifyObject(object=ACME, attributes=b'{"name":"Acme"}', time_us=5 * SECOND),
            Relate(object=ACME, person=Identifier("email", "a@b.de"), time_us=5 * SECOND),
        ],
    ),
    (
        thing("identify_anonymous", cio_relationships=[{"identifiers": {"anonymous_id": "an"}}]),
        [IdentifyObject(object=ACME), Relate(object=ACME, anonymous_id="an")],
    ),
    (thing("delete", identifiers={"cio_object_id": "ob1"}), [DeleteObject(object=ObjectKey(0, None, "ob1"))]),
    (thing("add_relationships", cio_relationships=[{"identifiers": {"id": "5"}}]), [Relate(object=ACME, person=ANN)]),
    (
        thing("delete_relationships", cio_relationships=[{"identifiers": {"id": "5"}}]),
        [Unrelate(object=ACME, person=ANN)],
    ),
    (
        {
            "type": "delivery",
            "action": "event",
            "identifiers": {"id": "dlv"},
            "name": "opened",
            "attributes": {"device_token": "t"},
        },
        [ReportMetric(delivery_id="dlv", metric="opened", device_token="t")],
    ),
]

WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "type"),
    ({"type": "thing"}, "type"),
    (person("nothing"), "action"),
    (person("delete", identifiers={}), "identifiers"),
    (person("delete", identifiers={"id": "5", "email": "a@b.de"}), "identifiers"),
    (person("delete", identifiers={"phone": "12"}), "identifiers.phone"),
    (person("delete", identifiers={"id": ""}), "identifiers.id"),
    (person("delete", identifiers={"anonymous_id": "an"}), "identifiers"),
    (person("event"), "name"),
    (person("event", name="x", id="42"), "id"),
    (person("event", name="x", timestamp="soon"), "timestamp"),
    (person("event", name="x", attributes=[]), "attributes"),
    (person("identify", attributes={"bio": "x" * 1001}), "bio"),
    (person("add_device", device={"token": "t"}), "device.platform"),
    (person("add_relationships"), "cio_relationships"),
    (thing("identify", identifiers={"object_id": "acme"}), "identifiers.object_type_id"),
    (thing("event", name="x"), "action"),
    ({"type": "delivery", "action": "event", "identifiers": {"id": "dlv"}, "name": "clicked"}, "name"),
]


@pytest.mark.parametrize(
    ("operation", "facts"), OPERATIONS, ids=lambda one: one["action"] if isinstance(one, dict) else ""
)
def test_operations(client: WriteClient, operation: dict[str, Any], facts: list[Any]) -> None:
    """Each operation becomes its facts, alone and as an item of a batch."""
    answer = client.call("POST", "/api/v2/entity", operation)
    assert (answer.status, answer.body, client.facts) == (200, b"{}", facts)
    answer = client.call("POST", "/api/v2/batch", {"batch": [operation, operation]})
    assert (answer.status, answer.body, client.facts) == (200, b"{}", facts + facts)


@pytest.mark.parametrize(("operation", "field"), WRONG)
def test_wrong_operations(client: WriteClient, operation: dict[str, Any], field: str) -> None:
    """Alone: 400 with reason, field and message. In a batch: 207 with the index, and the others are taken."""
    answer = client.call("POST", "/api/v2/entity", operation)
    assert (answer.status, client.facts) == (400, [])
    (error,) = answer.json["errors"]
    assert (error["reason"], error["field"]) == ("invalid", field)
    assert error["message"]
    answer = client.call("POST", "/api/v2/batch", {"batch": [person("delete"), operation, person("suppress")]})
    assert answer.status == 207
    assert answer.json["errors"] == [{"batch_index": 1, **error}]
    assert client.facts == [DeletePerson(person=ANN), SuppressPerson(person=ANN)]


def test_receipts_item_by_item(client: WriteClient) -> None:
    """With Backstory-Wait a batch answers a receipt for each item in order, the refused ones marked."""
    related = person("identify", cio_relationships=[{"identifiers": OF_ACME}])
    batch = [person("delete"), {}, related, person("add_relationships", cio_relationships=[])]
    answer = client.call("POST", "/api/v2/batch", {"batch": batch}, backstory_wait="applied")
    assert answer.status == 207
    assert [one["result"] for one in answer.json["receipts"]] == ["applied", "refused", "applied", "applied"]
    assert answer.json["receipts"][1]["field"] == "$.type"
    assert len(answer.json["receipts"][2]["parts"]) == 2
    entity = client.call("POST", "/api/v2/entity", person("delete"), backstory_wait="applied")
    assert entity.json == {"receipt": {"result": "applied", "position": 41, "skipped": [], "reason": ""}}


def test_receipts_that_wait_too_long_are_pending(client: WriteClient) -> None:
    """202 when it is accepted but not applied in time, for one operation and for each of a batch."""
    client.workspace.reaches = "accepted"
    try:
        answer = client.call("POST", "/api/v2/entity", person("delete"), backstory_wait="applied")
        assert (answer.status, answer.json["receipt"]["result"]) == (202, "pending")
        answer = client.call("POST", "/api/v2/batch", {"batch": [person("delete")] * 2}, backstory_wait="applied")
        assert answer.status == 202
        assert [one["result"] for one in answer.json["receipts"]] == ["pending"] * 2
    finally:
        client.workspace.reaches = "applied"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"{}",
        b'{"batch":{}}',
        b'{"batch":null}',
        b'{"batch":[],"batch":[]}',
        b'{"batch":[\xff]}',
        b'{"batch":["\xff"]}',
        b"null",
        b'{"batch":[}',
    ],
)
def test_a_wrong_batch_is_refused_whole(client: WriteClient, body: bytes) -> None:
    """What is no batch is 400 in the shape of v2, and nothing is taken."""
    answer = client.call("POST", "/api/v2/batch", body, content_type="application/json")
    assert (answer.status, client.facts) == (400, [])
    assert answer.json["errors"][0]["reason"] == "invalid"


def padded(body: dict[str, Any], size: int) -> bytes:
    """The body as JSON of so many bytes, by blanks at its end."""
    text = msgspec.json.encode(body)
    return text[:-1] + b" " * (size - len(text)) + b"}"


def test_limits_of_bytes(client: WriteClient) -> None:
    """An operation, an item and a batch at their limit are taken, one byte more is not; bytes, not characters."""
    event = person("event", name="x", attributes={"é": "é" * 100})
    for limit, path, body in (
        (ENTITY_BODY_BYTES.value, "/api/v2/entity", event),
        (BATCH_BODY_BYTES.value, "/api/v2/batch", {"batch": [event]}),
    ):
        assert client.call("POST", path, padded(body, limit)).status == 200
        answer = client.call("POST", path, padded(body, limit + 1))
        assert (answer.status, client.facts) == (400, [])
        assert str(limit) in answer.json["errors"][0]["message"]
    for size, status in ((BATCH_ITEM_BYTES.value, 200), (BATCH_ITEM_BYTES.value + 1, 207)):
        item = padded(event, size)
        assert client.call("POST", "/api/v2/batch", b'{"batch":[' + item + b"]}").status == status


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["person", "person", "object"]),
        "action": st.sampled_from(["event", "event", "identify"]),
        "identifiers": st.dictionaries(
            st.sampled_from(["id", "email", "phone", "cio_id", "anonymous_id"]),
            st.text(max_size=40) | st.integers(),
            min_size=1,
            max_size=1,
        ),
        "name": st.text(max_size=30) | st.none(),
    },
    optional={
        "attributes": JSON | st.dictionaries(st.text(max_size=5), JSON, max_size=4),
        "timestamp": st.none()
        | st.integers(-(10**12), 10**15)
        | st.floats(allow_nan=False)
        | st.just("2020-01-01T00:00:00Z"),
        "id": st.none() | st.just(ULID) | st.text(max_size=5),
        "more": JSON,
    },
)


@settings(deadline=None, max_examples=500)
@given(event=EVENTS, indent=st.sampled_from([0, 2]))
def test_the_short_way_says_what_the_careful_one_says(event: dict[str, Any], indent: int) -> None:
    """Whatever the short way takes, the careful way takes too, as the same fact."""
    text = msgspec.json.encode(event)
    text = msgspec.json.format(text, indent=indent) if indent else text
    # A batch that may hold a NUL goes the careful way as a whole.
    fact = None if b"\\u0000" in text else plain_fact(text)
    if fact is not None:
        assert careful_facts(text) == [fact]


@settings(deadline=None, max_examples=300)
@given(events=st.lists(EVENTS, min_size=1, max_size=4), odd=st.sampled_from([b"", b'"n":1,"n":2,', b'"x":1.50,']))
def test_many_at_once_say_what_the_careful_way_says(events: list[dict[str, Any]], odd: bytes) -> None:
    """Where a whole group is taken at once, each fact is the one that the careful way makes."""
    items = [msgspec.json.encode(event) for event in events]
    items[-1] = items[-1].replace(b'"attributes":{', b'"attributes":{' + odd).replace(b",}", b"}")
    facts = plain_facts(items)
    if facts is not None:
        assert [list(careful_facts(item)) for item in items] == [[fact] for fact in facts]


def test_plain_events_are_taken_at_once_unless_one_is_not() -> None:
    """What has a key twice, blanks, escapes or a number in another form is not kept as it came."""
    plain = b'{"type":"person","action":"event","identifiers":{"id":"a:b"},"name":"bo:ught","attributes":{"n":[1]}}'
    bare = b'{"type":"person","action":"event","identifiers":{"email":"a@b.de"},"name":" seen ","timestamp":1359389415}'
    assert plain_facts([plain, bare]) == [*careful_facts(plain), *careful_facts(bare)]
    for sent, other in (
        (b"[1]", b'[1],"n":[2]'), (b"[1]", b"1.50"), (b"[1]", b" 1"), (b"[1]", b"-0"), (b"[1]", b'"\\u0041"'),
        (b"[1]", b"[" * 65 + b"]" * 65), (b'"name"', b'"name":"other","name"'), (b'"id"', b'"phone"'),
        (b'"type"', b'"id":"42","type"'), (b'"type"', b'"more":1,"type"'), (b'"bo:ught"', b'" "'),
        (b'"a:b"}', b'"a:b","email":"a@b.de"}'), (b'"type"', b'"timestamp":100000000000,"type"'),
    ):  # fmt: skip
        assert plain_facts([plain, plain.replace(sent, other, 1)]) is None, other


def test_plain_events_take_the_short_way() -> None:
    """What clients send most is not left to the careful way; what could be refused is."""
    plain = person("event", name="bought", attributes={"price": 1.5, "tags": ["a"]}, timestamp=1359389415, id=ULID)
    assert plain_fact(msgspec.json.encode(plain)) is not None
    for strange in ({"name": ""}, {"id": "42"}, {"timestamp": "soon"}, {"name": "x" * 101}, {"type": "object"}):
        raw = msgspec.json.encode({**plain, **strange})
        assert plain_fact(raw) is None
        with pytest.raises(RequestError):
            careful_facts(raw)
