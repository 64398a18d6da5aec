"""People over the App API."""

from collections.abc import Iterator

import httpx
import pytest

from backstory.core.condition import Json
from backstory.edge.app_shape import attribute_text, is_unsubscribed
from tests.unit.fake_reader import NOW_US, SECOND, FakeWorkspace, app_client, person

ADA = person(1, id="1", email="ada@example.com", plan="pro", age=36, tags=["a", "b"], address={"city": "London"})
BOB = person(2, email="bob@example.com", plan="free")
CAY = person(3, id="3", plan="pro", unsubscribed=True)
NOW = NOW_US // SECOND


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    workspace = FakeWorkspace()
    workspace.reader.people = [ADA, BOB, CAY]
    workspace.reader.manual = {7: [ADA, CAY]}
    with app_client(workspace) as client:
        assert client.post("/v1/segments", json={"segment": {"name": "One"}}).status_code == 200
        workspace.reader.kept_segments[7] = workspace.reader.kept_segments[1]
        workspace.reader.kept_segments[7].segment_id = 7
        yield client


def test_people_are_found_by_email_without_case(client: httpx.Client) -> None:
    """GET /v1/customers gives the identifiers of everybody with the email."""
    found = client.get("/v1/customers", params={"email": "ADA@example.com"})
    assert found.json() == {"results": [{"email": "ada@example.com", "id": "1", "cio_id": "a3000001"}]}
    assert client.get("/v1/customers", params={"email": "no@example.com"}).json() == {"results": []}
    assert client.get("/v1/customers").status_code == 400


def test_a_customer_has_the_published_shape(client: httpx.Client) -> None:
    """Every attribute is a text, with the time since when it holds."""
    assert client.get("/v1/customers/1/attributes").json() == {
        "customer": {
            "id": "1",
            "identifiers": {"email": "ada@example.com", "id": "1", "cio_id": "a3000001"},
            "attributes": {
                "plan": "pro",
                "age": "36",
                "tags": '["a","b"]',
                "address": '{"city":"London"}',
                "id": "1",
                "email": "ada@example.com",
                "cio_id": "a3000001",
            },
            "timestamps": dict.fromkeys(("plan", "age", "tags", "address"), NOW + 1)
            | dict.fromkeys(("id", "email", "cio_id"), NOW),
            "unsubscribed": False,
            "devices": [],
        }
    }


@pytest.mark.parametrize(
    ("value", "id_type"),
    [("bob@example.com", "email"), ("a3000002", "cio_id"), ("cio_a3000002", "cio_id")],
)
def test_a_customer_is_named_by_any_identifier(client: httpx.Client, value: str, id_type: str) -> None:
    """id_type says what the path holds; a person without id has an empty one."""
    found = client.get(f"/v1/customers/{value}/attributes", params={"id_type": id_type}).json()["customer"]
    assert found["id"] == ""
    assert found["identifiers"] == {"email": "bob@example.com", "id": None, "cio_id": "a3000002"}
    assert found["attributes"]["id"] is None


def test_a_customer_may_be_looked_for_by_phone(client: httpx.Client) -> None:
    """Nobody has this one, which is another answer than that of a question nobody understands."""
    assert client.get("/v1/customers/+491701234567/attributes", params={"id_type": "phone"}).status_code == 404


def test_an_unknown_id_type_is_refused(client: httpx.Client) -> None:
    """A misspelt id_type is not taken for id."""
    assert client.get("/v1/customers/1/attributes", params={"id_type": "mail"}).status_code == 400


@pytest.mark.parametrize("noun", ["attributes", "segments", "activities", "messages"])
def test_an_unknown_customer_is_not_found(client: httpx.Client, noun: str) -> None:
    """404 for each view of somebody who does not exist."""
    assert client.get(f"/v1/customers/nobody/{noun}").status_code == 404


def test_many_customers_come_at_once(client: httpx.Client) -> None:
    """Unknown ids are left out; a number is the same id as its text."""
    found = client.post("/v1/customers/attributes", json={"ids": [3, "nobody", "1"]}).json()["customers"]
    assert [entry["customer"]["id"] for entry in found] == ["3", "1"]
    assert found[0]["customer"]["unsubscribed"] is True


@pytest.mark.parametrize("ids", [[], ["x"] * 101, "1", None, [True], [{"id": "1"}], [1.5]])
def test_wrong_lists_of_ids_are_refused(client: httpx.Client, ids: Json) -> None:
    """1 to 100 ids, each a text."""
    assert client.post("/v1/customers/attributes", json={"ids": ids}).status_code == 400


def test_the_segments_of_a_person_are_listed(client: httpx.Client) -> None:
    """Number, name and description of each."""
    found = client.get("/v1/customers/1/segments").json()
    assert found == {"segments": [{"id": 7, "name": "One", "description": ""}]}


def attribute(field: str, operator: str, value: str | None = None) -> Json:
    return {"attribute": {"field": field, "operator": operator, **({} if value is None else {"value": value})}}


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (attribute("plan", "eq", "pro"), ["1", "3"]),
        (attribute("age", "exists"), ["1"]),
        ({"and": [attribute("plan", "eq", "pro"), {"not": attribute("age", "exists")}]}, ["3"]),
        ({"or": [attribute("age", "exists"), attribute("plan", "eq", "free")]}, ["1", ""]),
        ({"segment": {"id": 7}}, ["1", "3"]),
    ],
)
def test_people_are_searched_by_a_filter(client: httpx.Client, wanted: Json, ids: list[str]) -> None:
    """A filter of attributes and segments gives identifiers, and ids with an empty one where there is none."""
    found = client.post("/v1/customers", json={"filter": wanted}).json()
    assert found["ids"] == ids
    assert [entry["id"] or "" for entry in found["identifiers"]] == ids
    assert found["next"] == ""


def test_a_search_comes_in_pages(client: httpx.Client) -> None:
    """next is the start of the page that follows."""
    wanted = {"filter": attribute("plan", "exists")}
    first = client.post("/v1/customers", json=wanted, params={"limit": 2}).json()
    second = client.post("/v1/customers", json=wanted, params={"limit": 2, "start": first["next"]}).json()
    assert [first["ids"], second["ids"], second["next"]] == [["1", ""], ["3"], ""]
    assert client.post("/v1/customers", json=wanted, params={"start": "made up"}).status_code == 400


@pytest.mark.parametrize(
    ("wanted", "pointer"),
    [
        ({"attribute": {"field": "plan", "operator": "is"}}, "$.filter.attribute.operator"),
        ({"and": [{"segment": {"id": 99}}]}, "$.filter.and[0].segment.id"),
        ({"event": {"name": "purchased"}}, "$.filter"),
    ],
)
def test_a_wrong_filter_is_refused_with_its_place(client: httpx.Client, wanted: Json, pointer: str) -> None:
    """400 says where the mistake is."""
    response = client.post("/v1/customers", json={"filter": wanted})
    assert response.status_code == 400
    assert response.json()["errors"][0]["source"]["pointer"] == pointer


def test_a_search_needs_a_filter(client: httpx.Client) -> None:
    """A body without filter is refused."""
    assert client.post("/v1/customers", json={}).status_code == 400


@pytest.mark.parametrize(
    ("value", "text"),
    [("x", "x"), ("", ""), (True, "true"), (False, "false"), (1, "1"), (1.5, "1.5"), (None, "null"), ([1], "[1]")],
)
def test_attributes_are_shown_as_text(value: Json, text: str) -> None:
    """A text stays as it is, everything else is its JSON."""
    assert attribute_text(value) == text


@pytest.mark.parametrize(
    ("value", "yes"),
    [(True, True), ("TRUE", True), (1, True), ("1", True), (False, False), (None, False), ("yes", False), (0, False)],
)
def test_unsubscribed_is_read_as_the_original_does(value: Json, yes: bool) -> None:
    """true in any case and 1 mean yes."""
    assert is_unsubscribed(value) is yes
