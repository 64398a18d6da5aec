"""The local endpoints: long work line by line, and keys."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from backstory.core.condition import Json
from backstory.core.error import RequestError
from backstory.edge.app_local import LocalTools
from backstory.engine.file.options import BackfillOptions, Held, Progress, Stopped, Summary
from backstory.store.credential import CredentialStore
from tests.unit.fake_reader import NOW_US, SECOND, FakeWorkspace, app_client

PROGRESS = Progress(rows=5, rows_total_estimate=None, bytes=50, bytes_total=100, rows_per_s=5.0, phase="reading")
SUMMARY = Summary(
    import_id=3, state="imported", rows=10, created=9, updated=0, unchanged=0, stale=0, duplicate=1, skipped=0,
    errors=0, warnings=0, held_back=Held(event=9), people_created=2, error_file=None, warning_file=None, seconds=2.0,
)  # fmt: skip
OPTIONS: dict[str, Json] = {"kind": "events", "paths": ["/data/events.csv"]}

OnProgress = Callable[[Progress], None]
OnLine = Callable[[dict[str, object]], None]


def succeed(options: BackfillOptions, on_progress: OnProgress) -> Summary:
    on_progress(PROGRESS)
    return SUMMARY


def all_well(on_line: OnLine) -> None:
    on_line({"checked": {"segments": 3}})
    on_line({"result": {"ok": True, "checked": {"segments": 3}}})


@contextmanager
def local(
    folder: Path,
    backfill: Callable[[BackfillOptions, OnProgress], Summary] = succeed,
    verify: Callable[[OnLine], None] = all_well,
) -> Iterator[httpx.Client]:
    tools = LocalTools(backfill=backfill, verify=verify, credentials=CredentialStore(folder), now_us=lambda: NOW_US)
    with app_client(FakeWorkspace(), tools=tools) as client:
        yield client


def lines_of(response: httpx.Response) -> list[dict[str, Json]]:
    assert response.headers["content-type"] == "application/x-ndjson"
    return [msgspec.json.decode(line) for line in response.text.splitlines()]


def test_a_backfill_tells_its_progress_and_its_summary(tmp_path: Path) -> None:
    """One line each, the summary last."""
    seen: list[BackfillOptions] = []

    def backfill(options: BackfillOptions, on_progress: OnProgress) -> Summary:
        seen.append(options)
        return succeed(options, on_progress)

    with local(tmp_path, backfill) as client:
        lines = lines_of(client.post("/local/backfill", json={**OPTIONS, "map": {"user": "id"}}))
    assert lines == [{"progress": msgspec.to_builtins(PROGRESS)}, {"summary": msgspec.to_builtins(SUMMARY)}]
    assert seen == [BackfillOptions(kind="events", paths=("/data/events.csv",), map={"user": "id"})]


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "events"},
        {**OPTIONS, "kind": "companies"},
        {**OPTIONS, "row": "all"},
        {**OPTIONS, "rows": "only_new"},
        {**OPTIONS, "triggers": "some"},
    ],
)
def test_wrong_options_are_refused_before_anything_starts(tmp_path: Path, options: dict[str, Json]) -> None:
    """400, not a stream."""
    with local(tmp_path) as client:
        response = client.post("/local/backfill", json=options)
    assert response.status_code == 400
    assert response.json()["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("error", "shown"),
    [(RequestError("the file changed since"), "the file changed since"), (KeyError("id"), "something went wrong")],
)
def test_an_error_is_the_last_line(tmp_path: Path, error: Exception, shown: str) -> None:
    """The status was sent before; the line says what happened."""

    def fail(options: BackfillOptions, on_progress: OnProgress) -> Summary:
        on_progress(PROGRESS)
        raise error

    with local(tmp_path, fail) as client:
        progress, last = lines_of(client.post("/local/backfill", json=OPTIONS))
    assert "progress" in progress
    assert isinstance(last["error"], dict)
    assert shown in str(last["error"]["message"])


def test_work_stops_when_its_caller_leaves(tmp_path: Path) -> None:
    """The next line the work tells raises, and the caller's leaving waits for it."""
    ended = threading.Event()

    def endless(options: BackfillOptions, on_progress: OnProgress) -> Summary:
        try:
            while True:
                on_progress(PROGRESS)
        except Stopped:
            ended.set()
            raise

    with local(tmp_path, endless) as client:
        with client.stream("POST", "/local/backfill", json=OPTIONS) as response:
            assert "progress" in next(response.iter_lines())
        assert ended.is_set()


def test_work_stops_when_the_server_stops(tmp_path: Path) -> None:
    """The caller is told, in the last line, that nothing is lost."""
    tools = LocalTools(backfill=succeed, verify=all_well, credentials=CredentialStore(tmp_path), now_us=lambda: NOW_US)
    tools.stopping.set()
    with app_client(FakeWorkspace(), tools=tools) as client:
        (last,) = lines_of(client.post("/local/verify"))
    assert "goes on from here" in str(last["error"])


def test_many_lines_come_in_order(tmp_path: Path) -> None:
    """More lines than are buffered arrive all, however fast they are told."""

    def chatty(on_line: OnLine) -> None:
        for number in range(1000):
            on_line({"checked": number})

    with local(tmp_path, verify=chatty) as client:
        lines = lines_of(client.post("/local/verify"))
    assert [line["checked"] for line in lines] == list(range(1000))


def test_verify_tells_what_it_found(tmp_path: Path) -> None:
    """The lines of the engine are handed on as they are."""
    with local(tmp_path) as client:
        lines = lines_of(client.post("/local/verify"))
    assert lines == [{"checked": {"segments": 3}}, {"result": {"ok": True, "checked": {"segments": 3}}}]


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    """A key is shown when it is made and never again."""
    with local(tmp_path) as client:
        made = client.post("/local/keys", json={"kind": "app"}).json()["key"]
        (listed,) = client.get("/local/keys").json()["keys"]
        assert CredentialStore(tmp_path).list()[0].holds(made["key"])
        assert client.delete(f"/local/keys/{made['id']}").status_code == 204
        assert client.delete(f"/local/keys/{made['id']}").status_code == 404
        assert client.get("/local/keys").json() == {"keys": []}
        for wrong, named in (({"key": "app"}, "kind"), ({}, "track, app, cdp"), ({"kind": "cpd"}, "track, app, cdp")):
            refused = client.post("/local/keys", json=wrong)
            assert (refused.status_code, named in refused.text) == (400, True), refused.text
    assert listed == {
        "id": 1, "kind": "app", "site_id": None, "hint": made["key"][-4:], "preset": False,
        "created_at": NOW_US // SECOND,
    }  # fmt: skip
    assert "key" not in listed


def test_a_track_key_stands_beside_a_site_id(tmp_path: Path) -> None:
    """A new one at first, then the one in use, unless another is named."""
    with local(tmp_path) as client:
        first = client.post("/local/keys", json={"kind": "track"}).json()["key"]
        second = client.post("/local/keys", json={"kind": "track"}).json()["key"]
        other = client.post("/local/keys", json={"kind": "track", "site_id": "shop"}).json()["key"]
        assert client.post("/local/keys", json={"kind": "app", "site_id": "shop"}).status_code == 400
        assert client.post("/local/keys", json={"kind": "admin"}).status_code == 400
    assert first["site_id"] == second["site_id"] != other["site_id"] == "shop"


def test_the_clock_is_accepted(tmp_path: Path) -> None:
    """The answer says by how many seconds it had moved."""
    tools = LocalTools(
        backfill=succeed, verify=all_well, credentials=CredentialStore(tmp_path), now_us=lambda: NOW_US,
        accept_clock=lambda: -90 * SECOND,
    )  # fmt: skip
    with app_client(FakeWorkspace(), tools=tools) as client:
        assert client.post("/local/clock/accept").json() == {"clock": {"moved_s": -90}}
        assert client.get("/local/clock/accept").status_code == 405
    with app_client(FakeWorkspace(), tools=tools, trusted=False) as client:
        assert client.post("/local/clock/accept").status_code == 404
