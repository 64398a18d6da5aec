"""Messages over the App API."""

from collections.abc import Iterator

import httpx
import pytest

from backstory.core.fact import RetryDelivery
from tests.unit.fake_reader import NOW_US, SECOND, FakeWorkspace, app_client, message, person

ADA = person(1, id="1", email="ada@example.com")
BOB = person(2, email="bob@example.com")
NOW = NOW_US // SECOND


@pytest.fixture
def workspace() -> FakeWorkspace:
    workspace = FakeWorkspace()
    workspace.reader.people = [ADA, BOB]
    workspace.reader.kept_messages = [
        message("d1+/=", ADA),
        message("d2", BOB, state="in_doubt", metrics_us={}),
        message(
            "d3", ADA, type="webhook", recipient="https://example.com/hook", sender="", state="failed", failure="x"
        ),
    ]
    return workspace


@pytest.fixture
def client(workspace: FakeWorkspace) -> Iterator[httpx.Client]:
    with app_client(workspace) as client:
        yield client


def test_a_message_has_the_published_shape(client: httpx.Client) -> None:
    """Metrics are the times of what was reached; links to what does not exist are null."""
    assert client.get("/v1/messages/d1%2B%2F%3D").json()["message"] == {
        "id": "d1+/=",
        "deduplicate_id": f"d1+/=:{NOW + 5}",
        "message_template_id": 2,
        "msg_template_id": 2,
        "action_id": 2,
        "parent_action_id": None,
        "customer_id": "1",
        "customer_identifiers": {"email": "ada@example.com", "id": "1", "cio_id": "a3000001"},
        "recipient": "ada@example.com",
        "subject": "Thank you",
        "metrics": {"created": NOW, "sent": NOW + 5},
        "created": NOW,
        "failure_message": None,
        "newsletter_id": None,
        "content_id": None,
        "campaign_id": 1,
        "broadcast_id": None,
        "trigger_event_id": "01HV0M3S3VJ4Y1S3W7Q0B9E6ZK",
        "type": "email",
        "forgotten": False,
        "state": "sent",
        "journey_id": 7,
    }


def test_messages_are_listed_newest_first(client: httpx.Client) -> None:
    """Filters narrow the list."""

    def found(**query: str) -> list[str]:
        return [entry["id"] for entry in client.get("/v1/messages", params=query).json()["messages"]]

    assert found() == ["d3", "d2", "d1+/="]
    assert found(type="webhook") == ["d3"]
    assert found(state="in_doubt") == ["d2"]
    assert found(metric="sent") == ["d3", "d1+/="]
    assert found(campaign_id="2") == found(drafts="true") == found(newsletter_id="1") == []


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/customers/bob@example.com/messages?id_type=email"])
def test_a_state_that_is_none_is_refused(client: httpx.Client, path: str) -> None:
    """Nothing found would say that there are none; the answer says which states there are."""
    response = client.get(f"{path}{'&' if '?' in path else '?'}state=foo")
    assert response.status_code == 400
    assert "in_doubt" in response.text


def test_a_person_has_messages(client: httpx.Client) -> None:
    """By any identifier."""
    found = client.get("/v1/customers/bob@example.com/messages", params={"id_type": "email"}).json()["messages"]
    assert [entry["id"] for entry in found] == ["d2"]
    assert found[0]["customer_id"] is None


def test_a_range_is_at_most_six_months(workspace: FakeWorkspace, client: httpx.Client) -> None:
    """start_ts and end_ts bound the time of creation."""
    assert client.get("/v1/messages", params={"start_ts": NOW, "end_ts": NOW + 184 * 86_400}).status_code == 200
    asked = workspace.reader.asked["messages"]
    assert asked == {
        "start_us": NOW_US,
        "end_us": NOW_US + 184 * 86_400 * SECOND,
        "action_id": None,
        "limit": 50,
    }
    for end in (NOW + 184 * 86_400 + 1, NOW - 1):
        assert client.get("/v1/messages", params={"start_ts": NOW, "end_ts": end}).status_code == 400


def test_the_archive_shows_what_was_sent(client: httpx.Client) -> None:
    """An email with its sender and text, a webhook with its address."""
    email = client.get("/v1/messages/d1%2B%2F%3D/archived_message").json()["archived_message"]
    assert (email["body"], email["from"], email["url"]) == ("<p>Hello</p>", "shop@example.com", "")
    webhook = client.get("/v1/messages/d3/archived_message").json()["archived_message"]
    assert (webhook["url"], webhook["request_method"]) == ("https://example.com/hook", "POST")


@pytest.mark.parametrize("name", ["d2", "d3"])
def test_a_failed_or_doubtful_message_is_retried(workspace: FakeWorkspace, client: httpx.Client, name: str) -> None:
    """It is queued again."""
    assert client.post(f"/v1/messages/{name}/retry").json()["message"]["state"] == "queued"
    assert workspace.facts == [RetryDelivery(delivery_id=name)]


def test_a_sent_message_is_not_retried(workspace: FakeWorkspace, client: httpx.Client) -> None:
    """409, and nothing happens; an unknown one is not found."""
    assert client.post("/v1/messages/d1%2B%2F%3D/retry").status_code == 409
    assert client.post("/v1/messages/nothing/retry").status_code == 404
    assert client.get("/v1/messages/nothing").status_code == 404
    assert not workspace.facts
