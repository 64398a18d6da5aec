"""Campaigns over the App API."""

from collections.abc import Iterator

import httpx
import pytest

from backstory.core.condition import Json
from backstory.core.fact import PutCampaign, Receipt, SetCampaignState
from backstory.engine.answer.view import JourneyView, StepView
from tests.unit.fake_reader import NOW_US, SECOND, FakeWorkspace, app_client, message, person

NOW = NOW_US // SECOND
EMAIL: dict[str, Json] = {
    "type": "email",
    "from": "shop@example.com",
    "to": "{{ customer.email }}",
    "subject": "Thank you",
    "body": "Hello {{ customer.first_name }}",
}
STEPS: list[Json] = [
    {"type": "delay", "seconds": 60},
    {"type": "condition", "if": {"segment": {"id": 1}}, "then": [EMAIL], "else": []},
    {"type": "webhook", "url": "https://example.com/hook", "body": "{}"},
]
CAMPAIGN: dict[str, Json] = {
    "name": "Welcome",
    "trigger": {"event": {"name": "purchased"}},
    "filter": {"and": [{"segment": {"id": 1}}, {"attribute": {"field": "plan", "operator": "eq", "value": "pro"}}]},
    "frequency": {"mode": "every", "min_interval_s": 60},
    "steps": STEPS,
}


@pytest.fixture
def workspace() -> FakeWorkspace:
    return FakeWorkspace()


@pytest.fixture
def client(workspace: FakeWorkspace) -> Iterator[httpx.Client]:
    with app_client(workspace) as client:
        assert client.post("/v1/segments", json={"segment": {"name": "One"}}).status_code == 200
        workspace.facts.clear()
        yield client


def make(client: httpx.Client, **changes: Json) -> httpx.Response:
    return client.post("/v1/campaigns", json={"campaign": {**CAMPAIGN, **changes}})


def test_an_event_campaign_has_the_published_shape_and_its_definition(client: httpx.Client) -> None:
    """The published keys come beside the definition as it was given."""
    made = make(client).json()["campaign"]
    assert made == {
        "id": 1,
        "deduplicate_id": f"1:{NOW + 1}",
        "name": "Welcome",
        "type": "event",
        "created": NOW,
        "updated": NOW + 1,
        "active": False,
        "state": "draft",
        "actions": [{"type": "email", "id": 3}, {"type": "webhook", "id": 4}],
        "tags": [],
        "filter_segment_ids": [1],
        "event_name": "purchased",
        "trigger": {"event": {"name": "purchased"}},
        "filter": CAMPAIGN["filter"],
        "frequency": {"mode": "every", "min_interval_s": 60},
        "include_current": False,
        "steps": STEPS,
    }
    assert client.get("/v1/campaigns/1").json() == {"campaign": made}
    assert client.get("/v1/campaigns").json() == {"campaigns": [made]}


def test_a_segment_campaign_names_its_segment(client: httpx.Client) -> None:
    """trigger_segment_ids and msg_templates as published."""
    trigger: Json = {"segment": {"id": 1, "transition": "entered"}}
    made = make(client, trigger=trigger, filter=None, include_current=True).json()["campaign"]
    assert made["type"] == "segment"
    assert made["trigger_segment_ids"] == [1]
    assert made["msg_templates"] == made["actions"]
    assert "event_name" not in made
    assert made["include_current"] is True
    assert made["filter_segment_ids"] == []


def test_a_campaign_can_run_from_the_start(workspace: FakeWorkspace, client: httpx.Client) -> None:
    """One fact defines and starts it."""
    made = make(client, state="running").json()["campaign"]
    assert (made["state"], made["active"], made["first_started"]) == ("running", True, NOW)
    assert [type(fact) for fact in workspace.facts] == [PutCampaign]


def test_a_campaign_is_started_and_stopped(client: httpx.Client) -> None:
    """Both answer the campaign as it then is."""
    make(client)
    assert client.post("/v1/campaigns/1/start").json()["campaign"]["state"] == "running"
    assert client.post("/v1/campaigns/1/stop").json()["campaign"]["state"] == "stopped"
    assert client.post("/v1/campaigns/9/start").status_code == 404


def test_what_the_loop_refuses_is_told(workspace: FakeWorkspace, client: httpx.Client) -> None:
    """A start refused when it was applied answers 409 with the reason."""
    make(client)
    workspace.answers = [Receipt(result="dropped", reason="it has no steps")]
    response = client.post("/v1/campaigns/1/start")
    assert response.status_code == 409
    assert response.json()["errors"][0]["detail"] == "it has no steps"


@pytest.mark.parametrize(
    ("changes", "status", "pointer"),
    [
        ({"name": ""}, 400, "$.campaign.name"),
        ({"state": "paused"}, 400, "$.campaign.state"),
        ({"stepz": []}, 400, "$.campaign.stepz"),
        ({"trigger": {"event": {}}}, 422, "$.campaign.trigger.event"),
        ({"trigger": {"segment": {"id": 99, "transition": "entered"}}}, 422, "$.campaign.trigger.segment.id"),
        ({"filter": {"segment": {"id": 98}}}, 422, "$.campaign.filter.segment.id"),
        ({"steps": [{"type": "dance"}]}, 422, "$.campaign.steps[0].type"),
    ],
)
def test_a_wrong_campaign_is_refused_with_its_place(
    workspace: FakeWorkspace, client: httpx.Client, changes: dict[str, Json], status: int, pointer: str
) -> None:
    """Nothing is stored, and the error points into the request."""
    response = make(client, **changes)
    (error,) = response.json()["errors"]
    assert response.status_code == status
    assert error["source"]["pointer"].startswith(pointer)
    assert not workspace.facts


def test_a_campaign_is_changed_in_part_and_written_back(client: httpx.Client) -> None:
    """What PUT leaves out stays; what was read can be written back; the state follows what is asked."""
    make(client, state="running")
    changed = client.put("/v1/campaigns/1", json={"campaign": {"name": "Thanks"}}).json()["campaign"]
    assert (changed["name"], changed["steps"], changed["state"]) == ("Thanks", STEPS, "running")
    back = client.put("/v1/campaigns/1", json={"campaign": {**changed, "state": "stopped"}}).json()["campaign"]
    assert (back["name"], back["state"]) == ("Thanks", "stopped")
    assert client.put("/v1/campaigns/1", json={"campaign": {"state": "draft"}}).status_code == 400


def test_actions_are_the_steps_that_send(client: httpx.Client) -> None:
    """Their numbers count all steps, depth first."""
    make(client)
    email, webhook = client.get("/v1/campaigns/1/actions").json()["actions"]
    assert (email["id"], email["recipient"], email["from"]) == (3, "{{ customer.email }}", "shop@example.com")
    assert (webhook["id"], webhook["url"], webhook["type"]) == (4, "https://example.com/hook", "webhook")
    assert client.get("/v1/campaigns/1/actions/3").json() == {"action": email}
    assert client.get("/v1/campaigns/1/actions/1").status_code == 404


def test_journeys_tell_each_decision(workspace: FakeWorkspace, client: httpx.Client) -> None:
    """Who went which way, when it became true, and why."""
    make(client)
    ada = person(1, id="1")
    step = StepView(type="email", decision="sent", reason="", at_us=NOW_US + 2 * SECOND)
    workspace.reader.kept_journeys = [
        JourneyView(
            journey_id=7,
            identifiers={"id": "1", "email": None, "cio_id": ada.cio_id},
            state="finished",
            started_us=NOW_US + SECOND,
            effective_us=NOW_US,
            steps=[step],
            failure="no such variable",
        )
    ]
    assert client.get("/v1/campaigns/1/journeys").json() == {
        "journeys": [
            {
                "id": 7,
                "customer_identifiers": {"email": None, "id": "1", "cio_id": "a3000001"},
                "state": "finished",
                "started_at": NOW + 1,
                "effective_at": NOW,
                "steps": [{"type": "email", "decision": "sent", "reason": "", "at": NOW + 2}],
                "failure": "no such variable",
            }
        ],
        "next": "",
    }


def test_a_campaign_has_messages(workspace: FakeWorkspace, client: httpx.Client) -> None:
    """Only its own; an unknown campaign is not found."""
    make(client)
    ada = person(1, id="1", email="ada@example.com")
    workspace.reader.kept_messages = [message("d1", ada), message("d2", ada, campaign_id=2)]
    found = client.get("/v1/campaigns/1/messages").json()["messages"]
    assert [entry["id"] for entry in found] == ["d1"]
    assert client.get("/v1/campaigns/9/messages").status_code == 404


def test_the_steps_of_a_running_campaign_are_refused(workspace: FakeWorkspace, client: httpx.Client) -> None:
    """What the engine calls a conflict is 409 with its words; what it drops is 422."""
    make(client)
    for result, status in (("conflict", 409), ("dropped", 422)):
        workspace.answers = [Receipt(result=result, reason="stop it first")]  # type: ignore[arg-type]
        refused = client.put("/v1/campaigns/1", json={"campaign": {"steps": [EMAIL]}})
        assert refused.status_code == status
        assert refused.json()["errors"][0]["detail"] == "stop it first"


def test_one_call_may_stop_a_campaign_and_change_its_steps(workspace: FakeWorkspace, client: httpx.Client) -> None:
    """It is stopped first; started again by a call, the change comes first."""
    make(client, state="running")
    workspace.facts.clear()
    stopped = client.put("/v1/campaigns/1", json={"campaign": {"steps": [EMAIL], "state": "stopped"}})
    assert stopped.json()["campaign"]["state"] == "stopped"
    assert [type(fact) for fact in workspace.facts] == [SetCampaignState, PutCampaign]
    workspace.facts.clear()
    client.put("/v1/campaigns/1", json={"campaign": {"steps": STEPS, "state": "running"}})
    assert [type(fact) for fact in workspace.facts] == [PutCampaign, SetCampaignState]
