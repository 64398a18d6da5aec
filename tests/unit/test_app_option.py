"""What calls about imports say beside their path: a preview wherever it is asked for, and nothing that is not known."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from backstory.edge.app import app_api
from backstory.edge.transport import InProcess
from backstory.engine.backfill import backfill
from backstory.engine.clock import ManualClock
from backstory.engine.file.options import BackfillOptions
from backstory.engine.workspace import open_workspace
from tests.live import NOW_US
from tests.model.imported import json_lines, written


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    """Of a workspace that has one import, which is over."""
    workspace = open_workspace(tmp_path / "default", clock=ManualClock(NOW_US))
    rows = [{"customer_id": "p", "name": "bought", "timestamp": NOW_US // 1_000_000 - 1}]
    options = BackfillOptions(kind="events", paths=(written(tmp_path, "b.jsonl", json_lines(rows)),))
    backfill.run(workspace, options, lambda progress: None)
    app = app_api(workspace, lambda scope: True, trusted=True)
    with httpx.Client(transport=InProcess(app), base_url="http://test", timeout=60) as client:
        yield client
    workspace.close()


def state(client: httpx.Client) -> Any:
    return client.get("/v1/imports/1").json()["import"]["state"]


@pytest.mark.parametrize("call", [{"json": {"preview": True}}, {"params": {"preview": "true"}}])
def test_a_preview_of_an_undo_may_be_asked_for_in_the_body_or_the_query(
    client: httpx.Client, call: dict[str, Any]
) -> None:
    """It tells what would be and changes nothing, and so does that of a redo."""
    assert "preview" in client.post("/v1/imports/1/undo", **call).json()
    assert state(client) == "imported"
    assert "undo" in client.post("/v1/imports/1/undo", json={"preview": False}).json()
    assert "preview" in client.post("/v1/imports/1/redo", **call).json()
    assert state(client) == "retracted"


WRONG: list[dict[str, Any]] = [
    {"json": {"prview": True}}, {"params": {"prview": "true"}}, {"params": {"preview": ""}},
    {"params": {"preview": "perhaps"}}, {"json": {"preview": "true"}}, {"json": [True]},
    {"json": {"preview": False}, "params": {"preview": "true"}},
]  # fmt: skip


@pytest.mark.parametrize("before", ["imported", "retracted"])
def test_what_is_not_known_beside_the_path_is_refused(client: httpx.Client, before: str) -> None:
    """Whatever is asked of an import: nothing happens."""
    if before == "retracted":
        client.post("/v1/imports/1/undo")
    for way in ("undo", "redo", "purge", "pause", "resume", "cancel", "retry"):
        for call in WRONG:
            response = client.post(f"/v1/imports/1/{way}", **call)
            # 422: no server runs here that would take mended rows.
            assert response.status_code in ((400, 422) if way == "retry" else (400,)), response.text
            assert state(client) == before


def test_a_misspelt_option_is_told_by_its_right_name(client: httpx.Client) -> None:
    """With the place where it stands."""
    response = client.post("/v1/imports/1/undo", json={"prview": True})
    assert "'preview'" in response.text
    assert "$.prview" in response.text


@pytest.mark.parametrize("call", [{"json": {"preview": True}}, {"params": {"preview": "true"}}])
def test_a_purge_cannot_be_previewed(client: httpx.Client, call: dict[str, Any]) -> None:
    """It is for good: whoever asks for a preview of it gets none, and keeps the rows."""
    client.post("/v1/imports/1/undo")
    assert client.post("/v1/imports/1/purge", **call).status_code == 400
    assert "redo" in client.post("/v1/imports/1/redo").json()
