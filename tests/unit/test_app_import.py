"""Imports over the App API."""

from collections.abc import Iterator

import httpx
import pytest

from backstory.core.condition import Json
from tests.unit.fake_reader import NOW_US, SECOND, FakeWorkspace, an_import, app_client

WANTED: dict[str, Json] = {
    "name": "June",
    "data_file_url": "https://example.com/june.csv",
    "type": "people",
    "identifier": "id",
}


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    workspace = FakeWorkspace()
    workspace.reader.kept_imports = [an_import(1), an_import(2, type="people", state="importing", summary={})]
    with app_client(workspace) as client:
        yield client


def test_an_import_has_the_published_shape_and_its_summary(client: httpx.Client) -> None:
    """An import of events is called event, as in the original."""
    shown = client.get("/v1/imports/1").json()["import"]
    assert shown == {
        "id": 1,
        "created_at": NOW_US // SECOND,
        "updated_at": NOW_US // SECOND + 1,
        "name": "purchases.csv",
        "description": "",
        "rows_to_import": 10,
        "rows_imported": 9,
        "state": "imported",
        "type": "event",
        "identifier": "id",
        "data_to_process": "all",
        "people_to_process": "all",
        "error": "",
        "percent": 0,
        "running": False,
        "purged": False,
        "options": {
            "sources": ["/data/purchases.csv"],
            "rows": "all",
            "triggers": "none",
            "map": {"who": "id"},
            "on_empty": "ignore",
            "time": None,
            "same_rows": "once",
            "as_of": 5,
        },
        "summary": {"rows": 10, "errors": 1, "error_file": "/data/errors.csv"},
        "error_export_id": 2,
        "error_download_url": "/v1/imports/1/errors",
    }


def test_imports_are_listed(client: httpx.Client) -> None:
    """All of them, ascending; an unknown one is not found."""
    assert [entry["id"] for entry in client.get("/v1/imports").json()["imports"]] == [1, 2]
    assert client.get("/v1/imports/3").status_code == 404


def test_imports_come_in_pages_where_a_limit_is_given(client: httpx.Client) -> None:
    """As many as asked for, and where to go on; without a limit there is nothing to go on with."""
    first = client.get("/v1/imports?limit=1").json()
    assert [entry["id"] for entry in first["imports"]] == [1]
    second = client.get("/v1/imports", params={"limit": 1, "start": first["next"]}).json()
    assert [entry["id"] for entry in second["imports"]] == [2]
    assert second["next"] == client.get("/v1/imports").json()["next"] == ""
    assert client.get("/v1/imports?limit=0").status_code == 400
    assert client.get("/v1/imports?start=first").status_code == 400


def test_a_right_request_says_what_to_do_where_no_server_runs(client: httpx.Client) -> None:
    """422 with the command that does it."""
    response = client.post("/v1/imports", json={"import": WANTED})
    assert response.status_code == 422
    assert "backstory backfill" in response.json()["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"name": ""}, "name"),
        ({"type": "company"}, "type"),
        ({"identifier": "cio_id"}, "identifier"),
        ({"data_to_process": "some"}, "data_to_process"),
        ({"people_to_process": "some"}, "people_to_process"),
        ({"data_file_url": "/etc/passwd"}, "data_file_url"),
        ({"data_file_url": "file:///etc/passwd"}, "data_file_url"),
        ({"data_file_url": "http://["}, "data_file_url"),
        ({"data_file_url": None}, "data_file_url"),
        ({"as_of": "2024"}, "as_of"),
        ({"triggers": "some"}, "triggers"),
        ({"on_empty": "keep"}, "on_empty"),
        ({"shape": "segment"}, "shape"),
        ({"same_rows": True}, "same_rows"),
        ({"encoding": "ascii"}, "encoding"),
        ({"decimal": ","}, "decimal"),
        ({"dates": "iso"}, "dates"),
        ({"map": ["id"]}, "map"),
        ({"quote": "`"}, "quote"),
        ({"types": {"zip": "text"}}, "types.zip"),
    ],
)
def test_a_wrong_request_is_refused_with_its_place(client: httpx.Client, changes: dict[str, Json], key: str) -> None:
    """400 points at the key."""
    response = client.post("/v1/imports", json={"import": {**WANTED, **changes}})
    assert response.status_code == 400
    assert response.json()["errors"][0]["source"]["pointer"] == f"$.import.{key}"


def test_a_word_there_is_not_is_answered_with_those_there_are(client: httpx.Client) -> None:
    """What was sent and what may be sent stand in the error."""
    response = client.post("/v1/imports", json={"import": {**WANTED, "triggers": "some"}})
    detail = response.json()["errors"][0]["detail"]
    assert "'some'" in detail
    assert "recent, none, all" in detail


@pytest.mark.parametrize(
    ("key", "hint"), [("trigers", "'triggers'"), ("data_file", "'data_file_url'"), ("zzz", "there are as_of, ")]
)
def test_an_unknown_key_is_refused_with_a_suggestion(client: httpx.Client, key: str, hint: str) -> None:
    """422: an option that is misspelt would silently do something else."""
    response = client.post("/v1/imports", json={"import": {**WANTED, key: "none"}})
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["source"]["pointer"] == f"$.import.{key}"
    assert hint in error["detail"]


def test_exports_know_the_reports_that_imports_tell_of(client: httpx.Client) -> None:
    """By the id that the import shows; the download is where the import says it is."""
    told = client.get("/v1/imports/1").json()["import"]
    number = told["error_export_id"]
    shown = client.get(f"/v1/exports/{number}").json()["export"]
    assert (shown["id"], shown["status"], shown["failed"], shown["total"]) == (number, "done", False, 1)
    assert client.get("/v1/exports").json() == {"exports": [shown]}
    assert client.get(f"/v1/exports/{number}/download").json() == {"url": told["error_download_url"]}
    assert client.get(f"/v1/exports/{number + 1}").status_code == 404
    assert client.get("/v1/exports/x/download").status_code == 404
