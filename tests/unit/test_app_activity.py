"""The activity log over the App API."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.unit.fake_reader import NOW_US, SECOND, FakeWorkspace, activity, app_client, person

ADA = person(1, id="1", email="ada@example.com")
NOW = NOW_US // SECOND
ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = Path(os.environ.get("VENDOR_OPENAPI") or ROOT.parent / "shared" / "reference" / "openapi") / "app.json"


@pytest.fixture
def workspace() -> FakeWorkspace:
    workspace = FakeWorkspace()
    workspace.reader.people = [ADA]
    workspace.reader.kept_activities = [
        activity(1, ADA),
        activity(2, ADA, type="page", name="https://example.com/pricing", data={}),
        activity(3, None, name="visited", processed_us=None),
        activity(4, ADA, type="attribute_change", name=None, data={"plan": {"from": "free", "to": "pro"}}),
        activity(5, ADA, type="sent_email", name=None, delivery_id="d1", data={"delivery_id": "d1"}),
    ]
    return workspace


@pytest.fixture
def client(workspace: FakeWorkspace) -> Iterator[httpx.Client]:
    with app_client(workspace) as client:
        yield client


def test_the_log_is_newest_first_in_the_published_shape(client: httpx.Client) -> None:
    """An event has its name and data, its own time and the time it was processed."""
    entries = client.get("/v1/activities").json()["activities"]
    assert [entry["id"][-1] for entry in entries] == ["5", "4", "3", "2", "1"]
    assert entries[-1] == {
        "id": "01000000000000000000000001",
        "type": "event",
        "timestamp": NOW + 1,
        "processed_at": NOW + 1,
        "customer_id": "1",
        "customer_identifiers": {"email": "ada@example.com", "id": "1", "cio_id": "a3000001"},
        "data": {"price": 23.45},
        "name": "purchased",
    }


def test_kinds_have_keys_of_their_own(client: httpx.Client) -> None:
    """A page has a url, a delivery its id and type, an anonymous event no customer yet."""
    sent, change, anonymous, page, _ = client.get("/v1/activities").json()["activities"]
    assert (sent["delivery_id"], sent["delivery_type"]) == ("d1", "email")
    assert change["data"] == {"plan": {"from": "free", "to": "pro"}}
    assert "name" not in change
    assert anonymous["customer_id"] is None
    assert anonymous["processed_at"] is None
    assert page["url"] == "https://example.com/pricing"
    assert "name" not in page


def test_the_log_is_filtered_and_paged(client: httpx.Client) -> None:
    """type, name and limit narrow it; next leads on."""
    pages = client.get("/v1/activities", params={"type": "page"}).json()
    assert [entry["type"] for entry in pages["activities"]] == ["page"]
    assert len(client.get("/v1/activities", params={"name": "purchased"}).json()["activities"]) == 1
    first = client.get("/v1/activities", params={"limit": 3}).json()
    second = client.get("/v1/activities", params={"limit": 3, "start": first["next"]}).json()
    assert [len(first["activities"]), len(second["activities"]), second["next"]] == [3, 2, ""]


@pytest.mark.parametrize("path", ["/v1/activities", "/v1/customers/1/activities", "/v1/activities?customer_id=9"])
def test_a_type_there_is_none_of_is_refused(client: httpx.Client, path: str) -> None:
    """An empty page would look like the truth; the types there are stand in the error."""
    answer = client.get(path, params={"type": "profile_created", **httpx.URL(path).params})
    assert answer.status_code == 400
    said = answer.json()["errors"][0]["detail"]
    assert "did you mean profile_create?" in said
    assert "attribute_change" in said
    for wrong in ("foo", "_o:x:create", "_r:1:create", "Event"):
        assert client.get(path.partition("?")[0], params={"type": wrong}).status_code == 400, wrong


def test_types_of_ours_and_published_ones_are_taken(client: httpx.Client) -> None:
    """Also those of which there are never entries."""
    types = ["duplicate_event", "failed_metric", "human_opened_email", "_o:12:create", "_r:1:attribute_change", ""]
    if PUBLISHED.is_file():
        parameters = json.loads(PUBLISHED.read_text())["paths"]["/v1/activities"]["get"]["parameters"]
        (kinds,) = (one["schema"]["enum"] for one in parameters if one["name"] == "type")
        types += [kind.replace("<object_type_id>", "1") for kind in kinds]
    for kind in types:
        assert client.get("/v1/activities", params={"type": kind}).status_code == 200, kind


def test_limits_are_cut_to_the_greatest(workspace: FakeWorkspace, client: httpx.Client) -> None:
    """10 entries unless asked, 100 at most."""
    client.get("/v1/activities")
    assert workspace.reader.asked["activities"] == {"deleted": False, "everything": False, "limit": 10}
    client.get("/v1/activities", params={"limit": 5000, "all": "true", "deleted": "true"})
    assert workspace.reader.asked["activities"] == {"deleted": True, "everything": True, "limit": 100}


def test_a_person_has_a_log(client: httpx.Client) -> None:
    """Both ways to ask for one person's log give the same."""
    own = client.get("/v1/customers/1/activities").json()
    narrowed = client.get("/v1/activities", params={"customer_id": "ada@example.com", "id_type": "email"}).json()
    assert len(own["activities"]) == 4
    assert own == narrowed


def test_an_unknown_person_narrows_the_log_to_nothing(client: httpx.Client) -> None:
    """As a filter somebody unknown is no mistake."""
    found = client.get("/v1/activities", params={"customer_id": "nobody"})
    assert found.json() == {"activities": [], "next": ""}


def test_a_flag_that_is_none_is_refused(client: httpx.Client) -> None:
    """all takes true or false."""
    assert client.get("/v1/activities", params={"all": "maybe"}).status_code == 400
