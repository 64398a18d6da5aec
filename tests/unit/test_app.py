"""The App API as a whole: credentials, paths, bodies, errors."""

import asyncio
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import msgspec
import pytest

from backstory.core.error import Busy, InvariantError, StorageError
from backstory.core.fact import Receipt
from backstory.core.limit import APP_BODY_BYTES, JSON_DEPTH
from backstory.edge.app import app_api
from tests.unit.fake_reader import FakeWorkspace, app_client, person

SEGMENT = {"segment": {"name": "Testers"}}


@pytest.fixture
def workspace() -> FakeWorkspace:
    workspace = FakeWorkspace()
    workspace.reader.people = [person(1, id="1", email="ada@example.com")]
    return workspace


@pytest.fixture
def client(workspace: FakeWorkspace) -> Iterator[httpx.Client]:
    with app_client(workspace) as client:
        yield client


def error_of(response: httpx.Response) -> dict[str, object]:
    assert response.headers["content-type"] == "application/json"
    (error,) = response.json()["errors"]
    assert error["status"] == str(response.status_code)
    return error


def is_ada(scope: object) -> bool:
    assert isinstance(scope, dict)
    return dict(scope["headers"]).get(b"authorization") == b"Bearer right"


@pytest.mark.parametrize("path", ["/v1/segments", "/v1/nothing", "/v1/customers/1/attributes"])
def test_requests_without_the_right_key_are_refused(workspace: FakeWorkspace, path: str) -> None:
    """A wrong key answers 401 in the original's words, whether the path exists or not."""
    with app_client(workspace, trusted=False, authorise=is_ada) as client:
        refused = client.get(path, headers={"Authorization": "Bearer wrong"})
        assert client.get("/v1/segments", headers={"Authorization": "Bearer right"}).status_code == 200
    assert refused.status_code == 401
    assert refused.json() == {"meta": {"error": "Unauthorized request"}}
    assert "www-authenticate" not in refused.headers


def test_local_endpoints_exist_for_trusted_callers_only(workspace: FakeWorkspace) -> None:
    """Without trust there is no /local, whatever the key."""
    with app_client(workspace, trusted=False) as client:
        assert client.post("/local/verify").status_code == 404


def test_an_unknown_path_is_json(client: httpx.Client) -> None:
    """404 is answered in the published shape, with the path."""
    response = client.get("/v1/unheard-of")
    assert response.status_code == 404
    assert "/v1/unheard-of" in str(error_of(response)["detail"])


def test_a_wrong_method_is_json_and_names_the_right_ones(client: httpx.Client) -> None:
    """405 lists every method of the path."""
    response = client.patch("/v1/segments/1", json={})
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, PUT, DELETE"
    assert error_of(response)["detail"]


def test_head_is_get(client: httpx.Client) -> None:
    """HEAD answers what GET would."""
    assert client.head("/v1/segments").status_code == 200


@pytest.mark.parametrize("name", ["a/b", "a?b#c", "ü ber", "a+b", "50%", "%2F", "ada@example.com"])
def test_ids_may_hold_any_character(workspace: FakeWorkspace, client: httpx.Client, name: str) -> None:
    """A percent-encoded id in the path is one segment of it and arrives decoded once."""
    workspace.reader.people.append(person(2, id=name))
    response = client.get(f"/v1/customers/{quote(name, safe='')}/attributes")
    assert response.json()["customer"]["id"] == name


def test_a_raw_at_sign_in_the_path_is_taken(workspace: FakeWorkspace, client: httpx.Client) -> None:
    """The old Node client leaves ids raw."""
    workspace.reader.people.append(person(2, id="ada@example.com"))
    assert client.get("/v1/customers/ada@example.com/attributes").status_code == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"text"', b"\xff\xfe", b'{"segment": 1}', b'{"segment": {}}', b'{"segments": {"name": "x"}}'],
)
def test_a_broken_body_changes_nothing(workspace: FakeWorkspace, client: httpx.Client, body: bytes) -> None:
    """What is no JSON object, or not the expected one, is 400."""
    response = client.post("/v1/segments", content=body)
    assert response.status_code == 400
    assert error_of(response)["detail"]
    assert not workspace.facts


def test_nesting_has_a_limit(workspace: FakeWorkspace, client: httpx.Client) -> None:
    """One level too many, and absurdly many, are refused without exhausting anything."""
    for depth in (JSON_DEPTH.value + 1, 400_000):
        response = client.post("/v1/segments", content=b"[" * depth + b"]" * depth)
        assert response.status_code == 400
        assert "nested" in str(error_of(response)["detail"])


def test_a_body_at_the_limit_is_read_and_one_past_it_is_not(client: httpx.Client) -> None:
    """The limit of bodies is judged on their bytes."""
    text = msgspec.json.encode(SEGMENT)
    room = APP_BODY_BYTES.value - len(text)
    assert client.post("/v1/segments", content=text + b" " * room).status_code == 200
    response = client.post("/v1/segments", content=text + b" " * (room + 1))
    assert response.status_code == 413
    assert str(APP_BODY_BYTES.value) in str(error_of(response)["detail"])


def test_a_long_body_is_not_read_to_its_end(workspace: FakeWorkspace) -> None:
    """A body without a length is refused as soon as it passes the limit."""
    read, sent = 0, []

    async def receive() -> dict[str, object]:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b" " * 300_000, "more_body": True}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/segments",
        "raw_path": b"/v1/segments",
        "query_string": b"",
        "headers": [],
    }
    asyncio.run(app_api(workspace, lambda scope: True)(scope, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 413
    assert read == 4


@pytest.mark.parametrize(
    ("error", "status"),
    [(Busy(retry_after_s=3), 429), (StorageError("the disk is full"), 503), (InvariantError("never"), 500)],
)
def test_failures_of_a_write_are_told(
    workspace: FakeWorkspace, client: httpx.Client, error: Exception, status: int
) -> None:
    """A full backlog, a failing disk and our own mistakes have their status, and ours show no details."""
    workspace.answers = [error]
    response = client.post("/v1/segments", json=SEGMENT)
    assert response.status_code == status
    assert "never" not in response.text
    assert response.headers.get("retry-after") == ("3" if status == 429 else None)
    assert error_of(response)["detail"]


def test_an_unforeseen_error_is_a_plain_500(workspace: FakeWorkspace, client: httpx.Client) -> None:
    """What nobody foresaw is answered as JSON too, and logged."""
    workspace.answers = [ValueError("secret detail")]
    response = client.post("/v1/segments", json=SEGMENT)
    assert response.status_code == 500
    assert "secret" not in response.text


def test_a_write_that_takes_too_long_is_pending(workspace: FakeWorkspace, client: httpx.Client) -> None:
    """Accepted but not applied in time is 202."""
    workspace.answers = [Receipt(result="pending")]
    response = client.post("/v1/segments", json=SEGMENT)
    assert response.status_code == 202
    assert response.json() == {"receipt": {"result": "pending"}}


def test_the_wait_header_adds_the_receipt(client: httpx.Client) -> None:
    """Without the header the body is the published one."""
    plain = client.post("/v1/segments", json=SEGMENT).json()
    waited = client.post("/v1/segments", json=SEGMENT, headers={"Backstory-Wait": "applied"}).json()
    assert set(plain) == {"segment"}
    assert waited["receipt"] == {"result": "applied", "position": 2, "skipped": [], "reason": ""}


@pytest.mark.parametrize("limit", ["0", "-1", "ten", "1.5", "1e2", "9" * 30])
def test_a_limit_that_is_no_number_is_refused(client: httpx.Client, limit: str) -> None:
    """Pages have at least one entry."""
    response = client.get("/v1/activities", params={"limit": limit})
    assert response.status_code == 400
    assert "limit" in str(error_of(response)["detail"])


@pytest.mark.parametrize("path", ["/v1/segments/abc", "/v1/segments/-1", "/v1/segments/1.0", f"/v1/segments/{9**40}"])
def test_a_number_that_is_none_names_nothing(client: httpx.Client, path: str) -> None:
    """A segment that cannot exist is not found."""
    assert client.get(path).status_code == 404
