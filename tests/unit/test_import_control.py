"""Imports held up, ended, taken back and brought in again, over the App API of a real workspace."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from backstory.core.error import BackstoryError
from backstory.core.limit import PROGRESS_STREAMS
from backstory.edge.app import app_api
from backstory.edge.app_import_control import progress_fields
from backstory.edge.transport import InProcess
from backstory.engine.backfill import backfill
from backstory.engine.backfill.import_job import Chunking
from backstory.engine.clock import ManualClock
from backstory.engine.file.options import BackfillOptions, Progress
from backstory.engine.workspace import Workspace, open_workspace
from tests.live import NOW_US
from tests.model.imported import json_lines, written

SMALL = Chunking(bytes_max=300, tell_every_s=0)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    opened = open_workspace(tmp_path / "default", clock=ManualClock(NOW_US))
    yield opened
    opened.close()


@pytest.fixture
def client(workspace: Workspace) -> Iterator[httpx.Client]:
    app = app_api(workspace, lambda scope: True, trusted=True)
    with httpx.Client(transport=InProcess(app), base_url="http://test", timeout=60) as client:
        yield client


def purchases(folder: Path, count: int = 40) -> BackfillOptions:
    rows = [{"customer_id": f"p{n}", "name": "bought", "timestamp": NOW_US // 1_000_000 - n} for n in range(count)]
    return BackfillOptions(kind="events", paths=(written(folder, "bought.jsonl", json_lines(rows)),))


def shown(client: httpx.Client, import_id: int = 1) -> Any:
    return client.get(f"/v1/imports/{import_id}").json()["import"]


def begin(workspace: Workspace, options: BackfillOptions) -> tuple[threading.Thread, list[object], threading.Event]:
    """A run that stands still behind its first chunk until it is let go."""
    reached, go = threading.Event(), threading.Event()
    ends: list[object] = []

    def on_progress(progress: Progress) -> None:
        reached.set()
        go.wait(30)

    def work() -> None:
        try:
            ends.append(backfill.run(workspace, options, on_progress, chunking=SMALL))
        except BackstoryError as error:
            ends.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert reached.wait(30)
    return thread, ends, go


def test_a_running_import_can_be_paused_and_resumed(tmp_path: Path, workspace: Workspace, client: httpx.Client) -> None:
    """It says so, waits, and goes on to the same end; asked again, nothing changes."""
    thread, ends, go = begin(workspace, purchases(tmp_path))
    for _ in range(2):
        assert client.post("/v1/imports/1/pause").json()["import"]["state"] == "paused"
    go.set()
    thread.join(1)
    assert thread.is_alive()
    assert (shown(client)["state"], shown(client)["running"]) == ("paused", True)
    assert 0 < shown(client)["progress"]["percent"] < 100
    for _ in range(2):
        assert client.post("/v1/imports/1/resume").json()["running"] is True
    thread.join(30)
    assert getattr(ends[0], "created", None) == 40
    assert shown(client)["state"] == "imported"
    assert client.post("/v1/imports/1/pause").status_code == 409


def test_a_running_import_can_be_canceled(tmp_path: Path, workspace: Workspace, client: httpx.Client) -> None:
    """It ends behind the rows at hand; what came in stays, and can be taken back."""
    thread, ends, go = begin(workspace, purchases(tmp_path))
    client.post("/v1/imports/1/pause")
    go.set()
    assert client.post("/v1/imports/1/cancel").json()["import"]["state"] == "canceled"
    thread.join(30)
    assert "canceled" in str(ends[0])
    rows = shown(client)["rows_imported"]
    assert 0 < rows < 40
    assert client.post("/v1/imports/1/resume").status_code == 409
    assert client.post("/v1/imports/1/undo").json()["undo"]["events"] == rows


def test_an_import_nobody_runs_any_more_is_run_by_the_server(
    tmp_path: Path, workspace: Workspace, client: httpx.Client
) -> None:
    """Its command went away; to resume it is enough."""

    def leave(progress: Progress) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        backfill.run(workspace, purchases(tmp_path), leave, chunking=SMALL)
    assert (shown(client)["state"], shown(client)["running"]) == ("importing", False)
    client.post("/v1/imports/1/resume")
    with client.stream("GET", "/v1/imports/1/events") as stream:
        told = [msgspec.json.decode(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]
    assert stream.headers["content-type"] == "text/event-stream"
    assert told[-1] == {"state": "imported", "rows": 40}
    assert shown(client)["summary"]["created"] == 40


def test_undo_redo_and_purge_say_what_they_do(tmp_path: Path, workspace: Workspace, client: httpx.Client) -> None:
    """A preview comes true; each can be asked for again; what is purged does not come back."""
    backfill.run(workspace, purchases(tmp_path, 5), lambda progress: None)
    assert client.post("/v1/imports/1/redo").status_code == 409
    assert client.post("/v1/imports/1/purge").status_code == 409
    seen = client.post("/v1/imports/1/undo", json={"preview": True}).json()["preview"]
    assert shown(client)["state"] == "imported"
    done = client.post("/v1/imports/1/undo").json()
    assert done["undo"] == seen["would"]
    assert (done["undo"]["events"], done["undo"]["people_gone"]) == (5, 5)
    assert [one["id"] for one in seen["gone"]] == [f"p{n}" for n in range(5)]
    assert client.post("/v1/imports/1/undo").json()["import"]["state"] == "retracted"
    assert client.get("/v1/customers/p1/attributes").status_code == 404
    again = client.post("/v1/imports/1/redo").json()
    assert (again["import"]["state"], again["redo"]["people_returned"]) == ("imported", 5)
    assert client.get("/v1/customers/p1/attributes").status_code == 200
    client.post("/v1/imports/1/undo")
    for _ in range(2):
        assert not shown(client)["purged"] or _ == 1
        assert client.post("/v1/imports/1/purge").json()["import"]["error"].startswith("it was purged")
    assert (shown(client)["state"], shown(client)["purged"]) == ("retracted", True)
    assert not list(workspace.folder.parts_path.iterdir())
    assert client.post("/v1/imports/1/redo").status_code == 409


@pytest.mark.parametrize("what", ["pause", "resume", "cancel", "undo", "redo", "purge"])
def test_an_unknown_import_is_not_found(client: httpx.Client, what: str) -> None:
    """404, whatever is asked for; as with a preview."""
    assert client.post(f"/v1/imports/9/{what}").status_code == 404
    assert client.post("/v1/imports/9/undo", json={"preview": True}).status_code == 404
    assert client.post("/v1/imports/9/undo", json={"preview": "yes"}).status_code == 400


def test_progress_tells_how_long_it_will_take() -> None:
    """By the rows there will be and how many come in a second; nothing is said that nobody knows."""
    now = Progress(rows=50, rows_total_estimate=200, bytes=25, bytes_total=100, rows_per_s=10.0, phase="importing")
    assert progress_fields(now)["seconds_left"] == 15
    assert progress_fields(now)["percent"] == 25.0
    assert progress_fields(msgspec.structs.replace(now, rows_total_estimate=None))["seconds_left"] is None


def test_streams_of_progress_are_limited(tmp_path: Path, workspace: Workspace, client: httpx.Client) -> None:
    """One too many is told to ask; when one ends, another has room."""
    thread, _, go = begin(workspace, purchases(tmp_path))
    with ExitStack() as streams:
        for _ in range(PROGRESS_STREAMS.value):
            stream = streams.enter_context(client.stream("GET", "/v1/imports/1/events"))
            assert stream.status_code == 200
        assert client.get("/v1/imports/1/events").status_code == 429
        go.set()
    thread.join(30)
    assert client.get("/v1/imports/1/events").status_code == 200
