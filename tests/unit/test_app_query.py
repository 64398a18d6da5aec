"""Query parameters of the App API: which are read, let be, refused."""

import json
import os
from pathlib import Path

import pytest

from backstory.core.error import RequestError
from backstory.edge.app_query import names_of, read_query
from tests.unit.fake_reader import FakeWorkspace, app_client

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = Path(os.environ.get("VENDOR_OPENAPI") or ROOT.parent / "shared" / "reference" / "openapi") / "app.json"


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/segments/1/customer_count?asof=1", "as_of"),
        ("/v1/segments/1/customer_count?asOf=1", "as_of"),
        ("/v1/segments/1/history?strat=1", "start"),
        ("/v1/segments/1/history?steps=60", "step"),
        ("/v1/activities?typ=event", "type"),
        ("/v1/activities?customer=7", "customer_id"),
        ("/v1/segments/1/membership?known=5", "known_at"),
        ("/v1/messages?campain_id=1", "campaign_id"),
    ],
)
def test_a_mistyped_name_is_refused(path: str, meant: str) -> None:
    """It would be answered as if it had not been given; the error names what was surely meant."""
    with app_client(FakeWorkspace()) as client:
        answer = client.get(path)
    assert answer.status_code == 400
    assert f"did you mean {meant}?" in answer.json()["errors"][0]["detail"]


@pytest.mark.parametrize("path", ["/v1/activities?as_of=1", "/v1/customers/7/attributes?known_at=1"])
def test_the_past_is_not_answered_with_the_present(path: str) -> None:
    """``as_of`` and ``known_at`` are words of ours: where the past is not told, they are refused."""
    with app_client(FakeWorkspace()) as client:
        assert client.get(path).status_code == 400


@pytest.mark.parametrize("name", ["_", "sort", "page", "per_page", "tags", "utm_source", "state", "offset", "version"])
@pytest.mark.parametrize(
    "path", ["/v1/segments", "/v1/activities", "/v1/messages", "/v1/segments/{segment_id}/membership"]
)
def test_other_names_are_let_be(name: str, path: str) -> None:
    """Clients may send what we have no use for, as to the original."""
    assert set(read_query({name: "1"}, "GET", path)) <= {"state"}


def test_what_is_published_is_never_refused() -> None:
    """Each name of the published description, at each path of it and of ours that the table knows."""
    if not PUBLISHED.is_file():
        pytest.skip("the published descriptions are not part of the project: VENDOR_OPENAPI names their folder")
    for path, methods in json.loads(PUBLISHED.read_text())["paths"].items():
        for method in {"get", "post", "put", "delete"} & set(methods):
            for parameter in methods[method].get("parameters", []):
                if parameter.get("in") == "query":
                    read_query({parameter["name"]: "1"}, method.upper(), path)


def test_a_handler_sees_what_the_table_names() -> None:
    """What it does not know is not handed on."""
    assert names_of("GET", "/v1/customers") == {"email"}
    assert read_query({"email": "a@b.c", "_": "7"}, "GET", "/v1/customers") == {"email": "a@b.c"}
    with pytest.raises(RequestError):
        read_query({"emial": "a@b.c"}, "GET", "/v1/customers")
