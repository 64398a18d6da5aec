"""Segments over the App API."""

from collections.abc import Iterator

import httpx
import msgspec
import pytest

from backstory.core.condition import Json
from backstory.core.fact import PutSegment, Receipt
from tests.unit.fake_reader import NOW_US, SECOND, FakeWorkspace, app_client, person

BUYERS: Json = {"event": {"name": "purchased", "count": {"at_least": 2}}}


@pytest.fixture
def workspace() -> FakeWorkspace:
    return FakeWorkspace()


@pytest.fixture
def client(workspace: FakeWorkspace) -> Iterator[httpx.Client]:
    with app_client(workspace) as client:
        yield client


def make(client: httpx.Client, **segment: Json) -> httpx.Response:
    return client.post("/v1/segments", json={"segment": {"name": "Buyers", **segment}})


def test_a_segment_without_conditions_is_manual(client: httpx.Client) -> None:
    """As the original's clients create it."""
    made = make(client, description="by hand").json()["segment"]
    now = NOW_US // SECOND
    assert made == {
        "id": 1,
        "deduplicate_id": f"1:{now + 1}",
        "name": "Buyers",
        "description": "by hand",
        "state": "finished",
        "progress": None,
        "type": "manual",
        "conditions": None,
        "tags": None,
        "created_at": now,
        "updated_at": now + 1,
    }
    assert client.get("/v1/segments/1").json() == {"segment": made}
    assert client.get("/v1/segments").json() == {"segments": [made]}


@pytest.mark.parametrize("extra", [{}, {"type": "dynamic"}])
def test_a_segment_with_conditions_is_dynamic(
    workspace: FakeWorkspace, client: httpx.Client, extra: dict[str, Json]
) -> None:
    """The type need not be said; the fact carries the canonical condition."""
    made = make(client, conditions=BUYERS, **extra).json()["segment"]
    assert made["type"] == "dynamic"
    assert made["conditions"] == BUYERS
    (fact,) = workspace.facts
    assert isinstance(fact, PutSegment)
    assert msgspec.json.decode(fact.conditions or b"") == BUYERS


def test_a_new_segment_is_answered_when_it_is_built(client: httpx.Client) -> None:
    """Its counts are right from the answer on."""
    assert make(client, conditions=BUYERS).json()["segment"]["state"] == "finished"


@pytest.mark.parametrize(
    ("segment", "status", "pointer"),
    [
        ({"name": " "}, 400, "$.segment.name"),
        ({"name": None}, 400, "$.segment.name"),
        ({"name": "x" * 251}, 400, "$.segment.name"),
        ({"description": 5}, 400, "$.segment.description"),
        ({"type": "magic"}, 400, "$.segment.type"),
        ({"condition": BUYERS}, 400, "$.segment.condition"),
        ({"type": "dynamic"}, 422, "$.segment.conditions"),
        ({"type": "manual", "conditions": BUYERS}, 422, "$.segment.conditions"),
        (
            {"conditions": {"and": [BUYERS, {"attribute": {"operator": "eq"}}]}},
            422,
            "$.segment.conditions.and[1].attribute.field",
        ),
        ({"conditions": {"not": {"segment": {"id": 99}}}}, 422, "$.segment.conditions.not.segment.id"),
    ],
)
def test_a_wrong_segment_is_refused_with_its_place(
    workspace: FakeWorkspace, client: httpx.Client, segment: dict[str, Json], status: int, pointer: str
) -> None:
    """Nothing is stored, and the error points into the request."""
    response = make(client, **segment)
    (error,) = response.json()["errors"]
    assert (response.status_code, error["status"]) == (status, str(status))
    assert error["source"]["pointer"] == pointer
    assert error["detail"]
    assert not workspace.facts


def test_what_the_loop_refuses_is_told(workspace: FakeWorkspace, client: httpx.Client) -> None:
    """A definition dropped when it was applied answers 422 with the reason."""
    workspace.answers = [Receipt(result="dropped", reason="segments would contain each other")]
    response = make(client, conditions=BUYERS)
    assert response.status_code == 422
    assert response.json()["errors"][0]["detail"] == "segments would contain each other"


def test_a_segment_is_changed_in_part(client: httpx.Client) -> None:
    """What PUT leaves out stays as it is."""
    make(client, conditions=BUYERS, description="old")
    changed = client.put("/v1/segments/1", json={"segment": {"name": "Shoppers"}}).json()["segment"]
    assert (changed["name"], changed["description"], changed["conditions"]) == ("Shoppers", "old", BUYERS)


def test_a_segment_can_be_written_back_as_it_was_read(client: httpx.Client) -> None:
    """The keys only the server sets are not in the way."""
    made = make(client, conditions=BUYERS).json()
    back = client.put("/v1/segments/1", json=made).json()["segment"]
    assert back["conditions"] == BUYERS


def test_a_segment_keeps_its_type(client: httpx.Client) -> None:
    """A manual segment cannot become dynamic."""
    make(client)
    for segment in ({"type": "dynamic", "conditions": BUYERS}, {"conditions": BUYERS}):
        assert client.put("/v1/segments/1", json={"segment": segment}).status_code == 422


def test_a_segment_is_deleted(client: httpx.Client) -> None:
    """204 without a body; afterwards it is not found."""
    make(client)
    response = client.delete("/v1/segments/1")
    assert (response.status_code, response.content) == (204, b"")
    assert client.delete("/v1/segments/1").status_code == 404


def test_a_receipt_of_a_deletion_needs_a_body(client: httpx.Client) -> None:
    """With the wait header a deletion answers 200 and the receipt."""
    make(client)
    response = client.delete("/v1/segments/1", headers={"Backstory-Wait": "applied"})
    assert response.status_code == 200
    assert response.json()["receipt"]["result"] == "applied"


def test_a_used_segment_is_not_deleted(workspace: FakeWorkspace, client: httpx.Client) -> None:
    """409 names the campaigns; so does what the loop refuses."""
    make(client)
    workspace.answers = [Receipt(result="dropped", reason="segment 2 uses it")]
    assert client.delete("/v1/segments/1").status_code == 409
    workspace.reader.users = {1: [4, 5]}
    response = client.delete("/v1/segments/1")
    assert response.status_code == 409
    assert "4, 5" in response.json()["errors"][0]["detail"]
    assert client.get("/v1/segments/1/used_by").json() == {
        "segment_id": 1,
        "used_by": {"campaigns": [4, 5], "sent_newsletters": [], "draft_newsletters": []},
    }


def test_members_are_listed_and_counted(workspace: FakeWorkspace, client: httpx.Client) -> None:
    """Ids and identifiers in pages, and how many there are."""
    make(client)
    workspace.reader.manual = {1: [person(1, id="1"), person(2, email="b@example.com")]}
    first = client.get("/v1/segments/1/membership", params={"limit": 1}).json()
    second = client.get("/v1/segments/1/membership", params={"limit": 1, "start": first["next"]}).json()
    assert first["ids"] == ["1"]
    assert second == {
        "segment_id": 1,
        "ids": [""],
        "identifiers": [{"email": "b@example.com", "id": None, "cio_id": "a3000002"}],
        "next": "",
    }
    assert client.get("/v1/segments/1/customer_count").json() == {"segment_id": 1, "count": 2}


@pytest.mark.parametrize("path", ["membership", "customer_count"])
@pytest.mark.parametrize(
    ("text", "as_of_us"),
    [
        ("883612800", 883_612_800 * SECOND),
        ("883612800.5", 883_612_800 * SECOND + 500_000),
        ("1998-01-01T00:00:00Z", 883_612_800 * SECOND),
        ("1998-01-01T00:00:00+01:00", 883_609_200 * SECOND),
    ],
)
def test_past_moments_are_asked_for(
    workspace: FakeWorkspace, client: httpx.Client, path: str, text: str, as_of_us: int
) -> None:
    """as_of takes unix seconds, with fractions, and dates; a plus sign may have arrived as a blank."""
    make(client)
    assert client.get(f"/v1/segments/1/{path}", params={"as_of": text}).status_code == 200
    assert client.get(f"/v1/segments/1/{path}?as_of={text}").status_code == 200
    assert workspace.reader.asked["as_of_us"] == as_of_us
    assert client.get(f"/v1/segments/1/{path}", params={"as_of": "yesterday"}).status_code == 400
    # A year is no moment of the first hour of 1970.
    assert "1997-01-01T00:00:00Z" in client.get(f"/v1/segments/1/{path}?as_of=1997").text
    assert client.get(f"/v1/segments/1/{path}?as_of=1997.0").status_code == 200


@pytest.mark.parametrize("path", ["", "/membership", "/customer_count", "/used_by"])
def test_an_unknown_segment_is_not_found(client: httpx.Client, path: str) -> None:
    """404 for each view of it."""
    assert client.get(f"/v1/segments/9{path}").status_code == 404
