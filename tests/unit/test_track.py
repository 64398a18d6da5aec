"""The Track API as its clients see it: which request becomes which fact, and what is answered when."""

import asyncio
import base64
import itertools
from collections.abc import Iterator

import msgspec
import pytest

from backstory.core.error import Busy, InvariantError, StorageError
from backstory.core.fact import (
    ChangeMembers,
    DeletePerson,
    Identifier,
    Identify,
    Receipt,
    SkippedValue,
    Track,
    TrackAnonymous,
    decode,
    encode,
)
from backstory.core.limit import TRACK_BODY_BYTES
from backstory.edge.bridge import Bridge
from backstory.edge.track import TrackApi
from tests.unit.fake_workspace import AsgiClient, FakeWorkspace

KEY = "Basic " + base64.b64encode(b"site:key").decode()
ULID = "01HZX3V7M6Q8N5W2J4K9RTYBCD"


@pytest.fixture
def workspace() -> FakeWorkspace:
    return FakeWorkspace()


@pytest.fixture
def client(workspace: FakeWorkspace) -> Iterator[AsgiClient]:
    def make() -> TrackApi:
        def authorise(header: bytes) -> str | None:
            return "default" if header == KEY.encode() else None

        bridge = Bridge(asyncio.get_running_loop())
        return TrackApi({"default": workspace}, authorise, bridge, wait_s=0)

    with AsgiClient(make_app=make, headers={"authorization": KEY}) as client:
        yield client


# --- identify ---


def test_identify_becomes_a_fact(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """An identify is answered 200 {} and carries its attributes as compact JSON."""
    answer = client.call("PUT", "/api/v1/customers/5", {"plan": "pro", "score": 1.5, "tags": ["a", {"b": None}]})
    assert (answer.status, answer.body) == (200, b"{}")
    assert answer.headers["content-type"] == "application/json"
    assert workspace.fact == Identify(
        person=Identifier("id", "5"), attributes=b'{"plan":"pro","score":1.5,"tags":["a",{"b":null}]}'
    )


def test_identify_takes_out_what_is_no_attribute(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """Control keys and identifiers in the body are read and never become attributes."""
    client.call(
        "PUT",
        "/api/v1/customers/5",
        {
            "id": 5,
            "email": "Ann@Example.com",
            "cio_id": "a3000001",
            "anonymous_id": "anon-1",
            "_timestamp": 1359389415,
            "_update": True,
            "cio_relationships": {"action": "add_relationships", "relationships": []},
            "created_at": 1359389415,
        },
    )
    assert workspace.fact == Identify(
        person=Identifier("id", "5"),
        attributes=b'{"created_at":1359389415}',
        body_id="5",
        body_email="Ann@Example.com",
        body_cio_id="a3000001",
        anonymous_id="anon-1",
        time_us=1359389415_000_000,
        update_only=True,
    )


def test_removals_stay_in_the_attributes(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """Null and the empty string are removals and reach the engine as they came."""
    client.call("PUT", "/api/v1/customers/5", {"plan": None, "city": ""})
    assert workspace.fact == Identify(person=Identifier("id", "5"), attributes=b'{"plan":null,"city":""}')


def test_an_empty_body_identifies(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """Identify without a body, whatever the content type says, creates the person."""
    assert client.call("PUT", "/api/v1/customers/5", b"", content_type="application/json").status == 200
    assert workspace.fact == Identify(person=Identifier("id", "5"))


@pytest.mark.parametrize(
    ("path", "identifier"),
    [
        ("5", Identifier("id", "5")),
        ("ann@example.com", Identifier("email", "ann@example.com")),
        ("ann%40example.com", Identifier("email", "ann@example.com")),
        ("cio_a3000001", Identifier("cio_id", "a3000001")),
        ("a%2Fb%3Fc%23d+e%20f", Identifier("id", "a/b?c#d+e f")),
        ("a%2Fevents", Identifier("id", "a/events")),
        ("a/b", Identifier("id", "a/b")),
        ("%C3%A9t%C3%A9", Identifier("id", "été")),
        ("events", Identifier("id", "events")),
        ("100%", Identifier("id", "100%")),
        ("%2B4912345", Identifier("id", "+4912345")),
    ],
)
def test_the_path_names_the_person_by_its_shape(
    client: AsgiClient, workspace: FakeWorkspace, path: str, identifier: Identifier
) -> None:
    """Percent-encoded bytes are decoded after the path is split, and the shape says which identifier it is."""
    assert client.call("PUT", f"/api/v1/customers/{path}", b"{}").status == 200
    assert workspace.fact == Identify(person=identifier)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("", "id attribute cannot be an empty string"),
        ("cio_", "cio_id attribute cannot be an empty string"),
        ("x" * 151, "id cannot be longer than 150 bytes"),
        ("%C3%A9" * 76, "id cannot be longer than 150 bytes"),
        ("a@" + "x" * 253, "email cannot be longer than 254 bytes"),
        ("%FF", "the identifier in the path is not UTF-8 text: percent-encode its UTF-8 bytes"),
        ("%00", "the id holds a NUL character, which no text can: leave it out"),
    ],
)
def test_a_wrong_identifier_is_refused(client: AsgiClient, workspace: FakeWorkspace, path: str, error: str) -> None:
    """An identifier that nobody can have is 400 with the reason, and nothing is submitted."""
    answer = client.call("PUT", f"/api/v1/customers/{path}", b"{}")
    assert (answer.status, answer.error) == (400, error)
    assert not workspace.facts


def test_the_longest_identifiers_are_taken(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """An id of 150 bytes and an email of 254 are within the limits."""
    for path in ("x" * 150, "%C3%A9" * 75, "a@" + "x" * 252):
        assert client.call("PUT", f"/api/v1/customers/{path}", b"{}").status == 200
    assert len(workspace.facts) == 3


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"id": ""}, "id attribute cannot be an empty string"),
        ({"id": 1.5}, "id attribute must be a string value"),
        ({"id": True}, "id attribute must be a string value"),
        ({"id": ["5"]}, "id attribute must be a string value"),
        ({"email": 5}, "email attribute must be a string value"),
        ({"anonymous_id": {}}, "anonymous_id must be a string value"),
        ({"_update": "perhaps"}, '_update must be true or false, not "perhaps"'),
        ({"a" * 151: 1}, "attribute name cannot be longer than 150 bytes"),
        ({"": 1}, "attribute name cannot be blank"),
        ({"bio": "x" * 1001}, "value for attribute 'bio' cannot be longer than 1000 bytes"),
        ({"bio": "é" * 501}, "value for attribute 'bio' cannot be longer than 1000 bytes"),
        ({"list": ["x" * 997]}, "value for attribute 'list' cannot be longer than 1000 bytes"),
        ({f"a{n}": n for n in range(301)}, "cannot identify more than 300 attributes in one request"),
    ],
)
def test_a_wrong_identify_is_refused(
    client: AsgiClient, workspace: FakeWorkspace, body: dict[str, object], error: str
) -> None:
    """What is wrong with an identify is said in the original's words, and nothing is submitted."""
    answer = client.call("PUT", "/api/v1/customers/5", body)
    assert (answer.status, answer.error) == (400, error)
    assert not workspace.facts


@pytest.mark.parametrize(
    "body",
    [
        {"a" * 150: 1},
        {"bio": "x" * 1000},
        {"bio": '"' * 1000},
        {"list": ["x" * 996]},
        {**{f"a{n}": n for n in range(300)}, "id": "5", "_update": False},
        {"id": None, "email": None, "anonymous_id": None, "_timestamp": None, "_update": None},
        {"email": "", "anonymous_id": ""},
    ],
)
def test_an_identify_at_its_limits_is_taken(
    client: AsgiClient, workspace: FakeWorkspace, body: dict[str, object]
) -> None:
    """At a limit, or with nulls for what is absent, an identify is taken."""
    assert client.call("PUT", "/api/v1/customers/5", body).status == 200
    assert isinstance(workspace.fact, Identify)


@pytest.mark.parametrize(
    ("value", "time_us"),
    [
        (1359389415, 1359389415_000_000),
        (1359389415.5, 1359389415_500_000),
        ("1359389415", 1359389415_000_000),
        ("2013-01-28T16:10:15Z", 1359389415_000_000),
        ("2013-01-28T18:10:15+02:00", 1359389415_000_000),
    ],
)
def test_times_are_read_in_their_forms(
    client: AsgiClient, workspace: FakeWorkspace, value: object, time_us: int
) -> None:
    """Unix seconds as number or text and ISO 8601 with a zone are the same moment, for people and for events."""
    client.call("PUT", "/api/v1/customers/5", {"_timestamp": value})
    client.call("POST", "/api/v1/customers/5/events", {"name": "seen", "timestamp": value})
    assert [getattr(fact, "time_us", None) for fact in workspace.facts] == [time_us, time_us]


def test_smaller_units_are_recognised(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """A time in milliseconds is understood and marked as such."""
    client.call("POST", "/api/v1/customers/5/events", {"name": "seen", "timestamp": 1359389415123})
    assert workspace.fact == Track(
        person=Identifier("id", "5"), name="seen", time_us=1359389415_123_000, rescaled=True
    )


@pytest.mark.parametrize(
    "value", ["", "abc", "yesterday", "2013-01-28T16:10:15", "2013-13-28T16:10:15Z", True, [], {}, 1e300, 10**400]
)
@pytest.mark.parametrize("what", ["_timestamp", "timestamp"])
def test_an_unreadable_time_is_never_now(
    client: AsgiClient, workspace: FakeWorkspace, what: str, value: object
) -> None:
    """A time that is there but cannot be read is 400."""
    if what == "_timestamp":
        answer = client.call("PUT", "/api/v1/customers/5", {what: value})
    else:
        answer = client.call("POST", "/api/v1/customers/5/events", {"name": "seen", what: value})
    assert answer.status == 400
    assert answer.error.startswith(f"{what} must be a time")
    assert not workspace.facts


# --- events ---


def test_an_event_becomes_a_fact(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """An event carries its trimmed name, kind, data, time and id."""
    answer = client.call(
        "POST",
        "/api/v1/customers/a%2Fb/events",
        {"name": " purchased ", "data": {"price": 23.45}, "timestamp": 1359389415, "id": ULID, "type": "page"},
    )
    assert (answer.status, answer.body) == (200, b"{}")
    assert workspace.fact == Track(
        person=Identifier("id", "a/b"),
        name="purchased",
        kind="page",
        data=b'{"price":23.45}',
        time_us=1359389415_000_000,
        event_id=ULID.lower(),
    )


@pytest.mark.parametrize("kind", ["purchase", "", 5, None, ["page"]])
def test_an_unknown_type_is_an_event(client: AsgiClient, workspace: FakeWorkspace, kind: object) -> None:
    """Whatever is no page and no screen is an event."""
    client.call("POST", "/api/v1/customers/5/events", {"name": "seen", "type": kind})
    assert workspace.fact == Track(person=Identifier("id", "5"), name="seen")


def test_event_ids_are_the_same_in_any_case(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """ULIDs and UUIDs in capitals and in small letters are one id."""
    uuid = "0190C2E4-7B3A-7C11-9D20-3F5A6B7C8D9E"
    for text in (ULID, ULID.lower(), uuid, uuid.lower()):
        client.call("POST", "/api/v1/customers/5/events", {"name": "seen", "id": text})
    assert [fact.event_id for fact in workspace.facts if isinstance(fact, Track)] == [
        ULID.lower(), ULID.lower(), uuid.lower(), uuid.lower(),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, "event name must not be blank"),
        ({"name": None}, "event name must not be blank"),
        ({"name": "  "}, "event name must not be blank"),
        ({"name": 5}, "event name must be a string, not 5"),
        ({"name": "x" * 101}, "event name cannot be longer than 100 bytes"),
        ({"name": "é" * 51}, "event name cannot be longer than 100 bytes"),
        ({"name": "seen", "data": []}, "event data must be a hash"),
        ({"name": "seen", "data": "x"}, "event data must be a hash"),
        ({"name": "seen", "data": {"x": "y" * 99_993}}, "event data cannot be longer than 100000 bytes"),
        ({"name": "seen", "id": "42"}, 'event id must be a ULID or a UUID, not "42"'),
        ({"name": "seen", "id": ""}, 'event id must be a ULID or a UUID, not ""'),
        ({"name": "seen", "id": 42}, "event id must be a ULID or a UUID, not 42"),
        ({"name": "seen", "id": "\u212a" * 26}, f'event id must be a ULID or a UUID, not "{chr(0x212A) * 26}"'),
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/customers/5/events", "/api/v1/events"])
def test_a_wrong_event_is_refused(
    client: AsgiClient, workspace: FakeWorkspace, path: str, body: dict[str, object], error: str
) -> None:
    """What is wrong with an event is said in the original's words, and nothing is submitted."""
    answer = client.call("POST", path, body)
    assert (answer.status, answer.error) == (400, error)
    assert not workspace.facts


def test_an_event_at_its_limits_is_taken(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """A name of 100 bytes and data of 100,000 are within the limits; blanks around the name do not count."""
    name = "x" * 100
    body = {"name": f"  {name}  ", "data": {"x": "y" * 99_992}}
    assert client.call("POST", "/api/v1/customers/5/events", body).status == 200
    assert isinstance(workspace.fact, Track)
    assert (workspace.fact.name, len(workspace.fact.data)) == (name, 100_000)


@pytest.mark.parametrize("data", [b"null", b"{}"])
def test_null_data_is_no_data(client: AsgiClient, workspace: FakeWorkspace, data: bytes) -> None:
    """Null data and an empty object are an event without data."""
    client.call("POST", "/api/v1/customers/5/events", b'{"name":"seen","data":%s}' % data)
    assert workspace.fact == Track(person=Identifier("id", "5"), name="seen")


def test_the_example_of_the_documentation(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """curl -d name=purchased -d data[price]=23.45 -d timestamp=1359389415 becomes nested data of strings."""
    answer = client.call(
        "POST",
        "/api/v1/customers/5/events",
        b"name=purchased&data[price]=23.45&timestamp=1359389415",
        content_type="application/x-www-form-urlencoded; charset=utf-8",
    )
    assert answer.status == 200
    assert workspace.fact == Track(
        person=Identifier("id", "5"), name="purchased", data=b'{"price":"23.45"}', time_us=1359389415_000_000
    )


def test_json_sent_as_a_form_is_understood(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """curl -d '{…}' says form unless told otherwise, and means JSON."""
    client.call(
        "POST",
        "/api/v1/customers/5/events",
        b' {"name":"seen"}',
        content_type="application/x-www-form-urlencoded",
    )
    assert workspace.fact == Track(person=Identifier("id", "5"), name="seen")


def test_a_form_identifies(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """An identify may be a form too: control keys are understood as text."""
    client.call(
        "PUT",
        "/api/v1/customers/5",
        b"email=ann%40example.com&plan=pro&_update=true&_timestamp=1359389415&address[city]=Bonn&gone=",
        content_type="application/x-www-form-urlencoded",
    )
    assert workspace.fact == Identify(
        person=Identifier("id", "5"),
        attributes=b'{"plan":"pro","address":{"city":"Bonn"},"gone":""}',
        body_email="ann@example.com",
        time_us=1359389415_000_000,
        update_only=True,
    )


def test_an_anonymous_event_becomes_a_fact(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """An anonymous event names no person, only its anonymous_id."""
    client.call("POST", "/api/v1/events", {"name": "seen", "anonymous_id": 17, "data": {"a": 1}, "timestamp": 1})
    assert workspace.fact == TrackAnonymous(anonymous_id="17", name="seen", data=b'{"a":1}', time_us=1_000_000)


def test_an_invite_event_keeps_its_recipient(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """Without anonymous_id an event is taken, and a recipient beside the data is put into it."""
    client.call("POST", "/api/v1/events", {"name": "invited", "recipient": "bob@example.com"})
    assert workspace.fact == TrackAnonymous(
        anonymous_id=None, name="invited", data=b'{"recipient":"bob@example.com"}'
    )


# --- delete, members, region ---


@pytest.mark.parametrize("body", [b"", b"{}", b"not json"])
def test_delete_becomes_a_fact(client: AsgiClient, workspace: FakeWorkspace, body: bytes) -> None:
    """A delete is taken whatever its body says."""
    answer = client.call("DELETE", "/api/v1/customers/ann%40example.com", body)
    assert (answer.status, answer.body) == (200, b"{}")
    assert workspace.fact == DeletePerson(person=Identifier("email", "ann@example.com"))


def test_members_of_a_manual_segment_change(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """Ids may be numbers; entries of another shape are ignored; id_type says which identifier is meant."""
    client.call("POST", "/api/v1/segments/7/add_customers", {"ids": ["a", 5, None, "", True, {}]})
    client.call("POST", "/api/v1/segments/7/remove_customers?id_type=email", {"ids": ["a@b.c", "nobody"]})
    client.call("POST", "/api/v1/segments/7/add_customers?id_type=cio_id", {"ids": ["cio_a3", "a4", "cio_"]})
    assert workspace.facts == [
        ChangeMembers(segment_id=7, people=(Identifier("id", "a"), Identifier("id", "5")), add=True),
        ChangeMembers(segment_id=7, people=(Identifier("email", "a@b.c"),), add=False),
        ChangeMembers(segment_id=7, people=(Identifier("cio_id", "a3"), Identifier("cio_id", "a4")), add=True),
    ]


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("7/add_customers", {}, 400, "ids must be a list of identifiers, with at least one"),
        ("7/add_customers", {"ids": []}, 400, "ids must be a list of identifiers, with at least one"),
        ("7/add_customers", {"ids": ["a"] * 1001}, 400, "cannot change more than 1000 people in one request"),
        ("7/add_customers?id_type=phone", {"ids": ["a"]}, 400, 'id_type must be id, email or cio_id, not "phone"'),
        ("9/add_customers", {"ids": ["a"]}, 404, "there is no segment 9"),
        ("x/add_customers", {"ids": ["a"]}, 404, "there is no segment 'x'"),
        (
            "8/remove_customers", {"ids": ["a"]}, 400,
            "segment 8 is dynamic: its conditions alone say who is in it; only manual segments can be changed",
        ),
    ],
)  # fmt: skip
def test_wrong_member_changes_are_refused(
    client: AsgiClient, workspace: FakeWorkspace, path: str, body: dict[str, object], status: int, error: str
) -> None:
    """A change of members that cannot be is refused with the reason, and nothing is submitted."""
    answer = client.call("POST", f"/api/v1/segments/{path}", body)
    assert (answer.status, answer.error) == (status, error)
    assert not workspace.facts


def test_region_checks_the_credentials(client: AsgiClient) -> None:
    """The region answers the address the caller used, and 401 for a wrong key."""
    answer = client.call("GET", "/api/v1/accounts/region", host="track.test:8443")
    assert answer.status == 200
    assert answer.json == {"url": "http://track.test:8443", "region": "us", "environment_id": 1}
    assert client.call("GET", "/api/v1/accounts/region", authorization="Basic x").status == 401


# --- refusals ---


def test_wrong_credentials_are_refused_in_the_published_shape(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """401 says so in JSON and asks for Basic credentials; nothing is submitted."""
    answer = client.call("PUT", "/api/v1/customers/5", {"a": 1}, authorization="")
    assert answer.status == 401
    assert answer.json == {"meta": {"error": "Unauthorized request"}}
    assert answer.headers["www-authenticate"].startswith('Basic realm="')
    assert not workspace.facts


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/api/v1/customers/5", 405, "PUT, DELETE"),
        ("POST", "/api/v1/customers/5", 405, "PUT, DELETE"),
        ("PUT", "/api/v1/customers/5/events", 405, "POST"),
        ("DELETE", "/api/v1/customers/5/events", 405, "POST"),
        ("GET", "/api/v1/events", 405, "POST"),
        ("POST", "/api/v1/accounts/region", 405, "GET"),
        ("GET", "/api/v1/segments/7/add_customers", 405, "POST"),
        ("POST", "/api/v1/nothing", 404, None),
        ("POST", "/api/v1/customers/5/devices", 405, "PUT"),
        ("PUT", "/api/v1/customers/5/devices/token", 405, "DELETE"),
        ("PUT", "/api/v1/customers/5/suppress", 405, "POST"),
        ("GET", "/api/v2/batch", 405, "POST"),
        ("GET", "/push/events", 405, "POST"),
        ("POST", "/api/v2/nothing", 404, None),
        ("POST", "/api/v1/customers/5/nothing", 404, None),
        ("PUT", "/api/v1/customers/5/", 404, None),
        ("POST", "/api/v1/segments/7/nothing", 404, None),
    ],
)
def test_unknown_paths_and_methods_are_json_too(
    client: AsgiClient, workspace: FakeWorkspace, method: str, path: str, status: int, allow: str | None
) -> None:
    """404 and 405 are JSON; 405 names what is allowed; nothing is submitted."""
    answer = client.call(method, path, b'{"name":"seen"}')
    assert (answer.status, answer.headers.get("allow")) == (status, allow)
    assert answer.error
    assert not workspace.facts


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"null",
        b"5",
        b'"name=x"',
        b"[]",
        b"name=seen",
        b'{"name":NaN}',
        b'{"name":"seen","data":{"x":Infinity}}',
        b'{"name":"seen","data":{"x":1e999}}',
        b'{"name":"seen","data":{"x":"\\ud800"}}',
        b'{"name":"seen","data":{"x":"\\udc00"}}',
        b'{"name":"seen","data":{"x":"\xff"}}',
        b'{"name":"seen","data":{"x":"\\u0000"}}',
        b'{"name":"seen","data":{"\\u0000":1}}',
        b'{"name":"seen","data":{"x":"\x00"}}',
        b'{"name":"seen"} trailing',
        b"\xef\xbb\xbf{}",
        b'{"name":"seen","data":' + b'{"a":' * 64 + b"{}" + b"}" * 64 + b"}",
        b'{"name":"seen","data":{"a":' + b"[" * 64 + b"]" * 64 + b"}}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"name":"seen","data":{"n":' + b"1" * 5000 + b"}}",
    ],
)
def test_broken_bodies_are_refused(client: AsgiClient, workspace: FakeWorkspace, body: bytes) -> None:
    """Broken JSON, text that is none, and data nested too deeply are 400 in JSON; nothing is submitted."""
    answer = client.call("POST", "/api/v1/customers/5/events", body, content_type="application/json")
    assert answer.status == 400
    assert answer.error
    assert not workspace.facts


def test_backslashes_before_u0000_are_no_nul(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """A text that merely spells \\u0000 is a text like any other."""
    client.call("POST", "/api/v1/customers/5/events", b'{"name":"seen","data":{"x":"\\\\u0000"}}')
    assert workspace.fact == Track(person=Identifier("id", "5"), name="seen", data=b'{"x":"\\\\u0000"}')


def test_data_as_deep_as_allowed_is_taken(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """Sixty-four levels of data are within the limit."""
    data = b'{"a":' * 63 + b"{}" + b"}" * 63
    assert client.call("POST", "/api/v1/customers/5/events", b'{"name":"seen","data":%s}' % data).status == 200
    assert workspace.fact == Track(person=Identifier("id", "5"), name="seen", data=data)


def test_a_long_body_is_refused_while_it_is_read(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """Of a body past the limit no more is read than shows that it is too long."""
    piece = b" " * 65_536
    answer = client.call("POST", "/api/v1/customers/5/events", itertools.repeat(piece, 160))
    assert answer.status == 413
    assert answer.error == f"the body cannot be longer than {TRACK_BODY_BYTES.value} bytes"
    assert client.read == TRACK_BODY_BYTES.value // len(piece) + 1
    assert not workspace.facts


def test_a_body_at_the_limit_is_read(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """A body of exactly the limit is taken, one byte more is not, in one piece as in many."""
    body = b'{"name":"seen"}'.ljust(TRACK_BODY_BYTES.value)
    assert client.call("POST", "/api/v1/customers/5/events", body).status == 200
    assert client.call("POST", "/api/v1/customers/5/events", [body[:9], body[9:], b""]).status == 200
    assert client.call("POST", "/api/v1/customers/5/events", body + b" ").status == 413
    assert len(workspace.facts) == 2


def test_a_full_backlog_is_429(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """Busy is an answer: try again after so many seconds."""
    workspace.busy = Busy(retry_after_s=3)
    answer = client.call("PUT", "/api/v1/customers/5", {"a": 1})
    assert (answer.status, answer.headers["retry-after"]) == (429, "3")
    assert answer.error == "the backlog is full"


def test_a_refusing_disk_is_503(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """When the disk refuses, nothing was accepted and the answer says so."""
    workspace.reaches, workspace.error = "nothing", StorageError("the disk is full")
    answer = client.call("PUT", "/api/v1/customers/5", {"a": 1})
    assert (answer.status, answer.error) == (503, "nothing was accepted: the disk is full")


def test_our_own_mistakes_are_500_without_details(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """An error of ours is JSON too, and shows nothing of the inside."""
    for error in (InvariantError("secret"), RuntimeError("secret")):
        workspace.busy = error  # type: ignore[assignment]
        answer = client.call("PUT", "/api/v1/customers/5", {"a": 1})
        assert answer.status == 500
        assert b"secret" not in answer.body


# --- receipts ---


def test_a_receipt_when_asked_for(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """Backstory-Wait: applied answers with what became of the fact."""
    workspace.receipt = Receipt(
        result="skipped", position=7, skipped=[SkippedValue("plan", 20.5, 10.0)], reason="older than what is stored"
    )
    answer = client.call("PUT", "/api/v1/customers/5", {"plan": "pro"}, backstory_wait="applied")
    assert answer.status == 200
    assert answer.json == {
        "receipt": {
            "result": "skipped",
            "position": 7,
            "skipped": [{"attribute": "plan", "stored_at": 20.5, "sent_at": 10.0}],
            "reason": "older than what is stored",
        }
    }


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/api/v1/customers/5", {}),
        ("DELETE", "/api/v1/customers/5", {}),
        ("POST", "/api/v1/customers/5/events", {"name": "seen"}),
        ("POST", "/api/v1/events", {"name": "seen"}),
        ("POST", "/api/v1/segments/7/add_customers", {"ids": ["5"]}),
    ],
)
def test_every_write_has_receipts(client: AsgiClient, method: str, path: str, body: dict[str, object]) -> None:
    """Each write of this API can be waited for."""
    answer = client.call(method, path, body, backstory_wait=" Applied ")
    assert answer.status == 200
    assert answer.json == {"receipt": {"result": "applied", "position": 41, "skipped": [], "reason": ""}}


def test_a_fact_not_applied_in_time_is_pending(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """Accepted but not applied within the time: 202 and pending."""
    workspace.reaches = "accepted"
    answer = client.call("PUT", "/api/v1/customers/5", {"plan": "pro"}, backstory_wait="applied")
    assert (answer.status, answer.json["receipt"]["result"]) == (202, "pending")


def test_after_the_acceptance_nothing_speaks_of_failure(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """An error after the fact became durable leaves it pending: it will be applied."""
    workspace.reaches, workspace.error = "accepted", StorageError("the disk is full")
    answer = client.call("PUT", "/api/v1/customers/5", {"plan": "pro"}, backstory_wait="applied")
    assert (answer.status, answer.json["receipt"]["result"]) == (202, "pending")


def test_a_refused_fact_has_no_receipt(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """A waiting request is refused like any other when nothing was accepted."""
    workspace.reaches, workspace.error = "nothing", StorageError("the disk is full")
    assert client.call("PUT", "/api/v1/customers/5", {}, backstory_wait="applied").status == 503


def test_an_unknown_wait_is_refused(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """Backstory-Wait knows one word."""
    answer = client.call("PUT", "/api/v1/customers/5", {}, backstory_wait="forever")
    assert (answer.status, answer.error) == (400, "Backstory-Wait must be applied, not 'forever'")
    assert not workspace.facts


def test_facts_survive_the_journal(client: AsgiClient, workspace: FakeWorkspace) -> None:
    """What the edge makes can be written and read again unchanged."""
    client.call("PUT", "/api/v1/customers/5", {"a": 10**30, "b": [1.10, None], "_timestamp": 0})
    client.call("POST", "/api/v1/events", {"name": "seen", "id": ULID, "data": {"ä": "ß"}})
    assert decode(encode(workspace.facts)) == workspace.facts
    first = workspace.facts[0]
    assert isinstance(first, Identify)
    assert msgspec.json.decode(first.attributes) == {"a": 10**30, "b": [1.1, None]}
