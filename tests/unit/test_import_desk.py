"""Imports asked for by API: by URL, upload, multipart or the file itself; previewed, interrupted, wrong."""

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from backstory.core.limit import IMPORTS_AT_ONCE, IMPORTS_WAITING, UPLOADS_UNFINISHED
from backstory.edge.app import app_api
from backstory.edge.app_local import LocalTools, local_tools
from backstory.edge.multipart import Multipart
from backstory.edge.transport import InProcess
from backstory.engine.clock import SystemClock
from backstory.engine.settings import load
from backstory.engine.workspace import Workspace, open_workspace
from backstory.store.credential import CredentialStore

CSV = b"id,plan,zip\n" + b"".join(b"p%d,pro,%05d\n" % (number, number) for number in range(200))
PEOPLE = {"name": "June", "type": "people", "identifier": "id"}
WAIT_S = 20


class Server:
    """A workspace and the App API over it, as a server has them."""

    def __init__(self, data: Path, **settings: str) -> None:
        self.data = data
        given = {f"BACKSTORY_{name.upper()}": value for name, value in {"private_urls": "1", **settings}.items()}
        self.settings = load(given, {"data": data})
        self.open()

    def open(self) -> None:
        self.workspace: Workspace = open_workspace(self.data / "workspaces" / "default", clock=SystemClock())
        store = CredentialStore(self.data / "workspaces" / "default")
        self.tools: LocalTools = local_tools(self.workspace, store, SystemClock().now_us, serving=self.settings)
        app = app_api(self.workspace, lambda scope: True, trusted=True, tools=self.tools, desk=self.tools.desk)
        self.client = httpx.Client(transport=InProcess(app), base_url="http://backstory", timeout=None)

    def close(self) -> None:
        self.client.close()
        self.tools.close()
        self.workspace.close()

    def ended(self, response: httpx.Response) -> dict[str, Any]:
        """The import that an answer tells of, once it has ended."""
        assert response.status_code == 200, response.text
        shown = response.json()["import"]
        deadline = time.monotonic() + WAIT_S
        while shown["state"] in ("preprocessing", "importing"):
            assert time.monotonic() < deadline, shown
            threading.Event().wait(0.01)
            shown = self.client.get(f"/v1/imports/{shown['id']}").json()["import"]
        return shown

    def keeps_nothing(self) -> bool:
        """Nothing is left of any file, a moment after its import has ended."""
        folder = self.data / "workspaces" / "default" / "spool"
        deadline = time.monotonic() + WAIT_S
        while any(folder.iterdir()) and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        return not any(folder.iterdir())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data", import_max_mb="1")
    yield server
    server.close()


@pytest.fixture
def site() -> Iterator[tuple[str, dict[str, bytes]]]:
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{http.server_address[1]}", files
    http.shutdown()
    thread.join()
    http.server_close()


def test_a_file_is_imported_by_its_url(server: Server, site: tuple[str, dict[str, bytes]]) -> None:
    """In the published shape; nothing of the file stays when the import has ended."""
    address, files = site
    files["/june.csv.gz"] = gzip.compress(CSV)
    wanted = {**PEOPLE, "data_file_url": f"{address}/june.csv.gz", "types": {"plan": "string"}}
    shown = server.ended(server.client.post("/v1/imports", json={"import": wanted}))
    assert (shown["state"], shown["percent"], shown["name"], shown["type"]) == ("imported", 100, "June", "people")
    assert (shown["rows_to_import"], shown["rows_imported"], shown["error"]) == (200, 200, "")
    assert server.keeps_nothing()
    found = server.client.get("/v1/customers/p7/attributes").json()["customer"]["attributes"]
    assert found["zip"] == "00007"


def test_a_file_that_cannot_be_fetched_makes_an_import_that_failed(
    server: Server, site: tuple[str, dict[str, bytes]]
) -> None:
    """It says why."""
    wanted = {**PEOPLE, "data_file_url": f"{site[0]}/nothing.csv"}
    shown = server.ended(server.client.post("/v1/imports", json={"import": wanted}))
    assert (shown["state"], shown["rows_imported"]) == ("failed", 0)
    assert "nothing.csv answered 404" in shown["error"]
    assert server.keeps_nothing()


def test_addresses_inside_the_house_are_not_fetched(tmp_path: Path, site: tuple[str, dict[str, bytes]]) -> None:
    """Unless the setting allows it."""
    server = Server(tmp_path / "data", private_urls="0")
    wanted = {**PEOPLE, "data_file_url": f"{site[0]}/june.csv"}
    shown = server.ended(server.client.post("/v1/imports", json={"import": wanted}))
    server.close()
    assert shown["state"] == "failed"
    assert "not a public address" in shown["error"]


def test_an_upload_is_gone_on_with(server: Server) -> None:
    """From where it broke off; then it is previewed, and imported."""
    client = server.client
    upload_id = client.post("/v1/uploads", json={"upload": {"name": "june.csv"}}).json()["upload"]["id"]
    path = f"/v1/uploads/{upload_id}"
    assert client.put(path, content=CSV[:1000]).json()["upload"]["offset"] == 1000
    assert client.put(path, content=CSV).status_code == 409
    assert client.get(path).json()["upload"] == {"id": upload_id, "offset": 1000}
    assert client.put(f"{path}?offset=1000", content=CSV[1000:]).status_code == 200
    wanted = {**PEOPLE, "upload": upload_id}
    seen = client.post("/v1/imports", json={"import": {**wanted, "preview": True}}).json()["preview"]
    assert (seen["state"], seen["rows"], seen["created"]) == ("previewed", 200, 200)
    asked = client.post("/v1/imports", params={"preview": "true"}, json={"import": wanted}).json()
    assert asked["preview"]["created"] == 200
    assert client.post("/v1/imports", json={"import": wanted, "preview": True}).status_code == 400
    assert client.post("/v1/imports", params={"prview": "1"}, json={"import": wanted}).status_code == 400
    assert [column["name"] for column in seen["files"][0]["columns"]] == ["id", "plan", "zip"]
    for preview in (True, False):
        wrong = client.post("/v1/imports", json={"import": {**wanted, "time": "day", "preview": preview}})
        assert wrong.status_code == 400
        assert wrong.json()["errors"][0]["source"]["pointer"] == "$.import.time"
    assert client.get("/v1/imports").json()["imports"] == []
    shown = server.ended(client.post("/v1/imports", json={"import": wanted}))
    assert (shown["state"], shown["rows_imported"]) == ("imported", 200)
    assert client.get(path).status_code == 404
    assert server.keeps_nothing()


def test_a_file_comes_with_its_request(server: Server) -> None:
    """As a part of a form or as the body itself; wrong rows can be downloaded."""
    rows = b'{"customer_id":"p1","name":"bought","timestamp":1}\n{"customer_id":"p1"}\n'
    form = {"type": "event", "identifier": "id", "map": '{"a": "b"}', "triggers": "none"}
    response = server.client.post("/v1/imports", data=form, files={"file": ("log.jsonl", rows)})
    shown = server.ended(response)
    assert (shown["state"], shown["name"], shown["rows_imported"]) == ("imported", "log.jsonl", 1)
    report = server.client.get(shown["error_download_url"])
    assert report.headers["content-type"].startswith("application/x-ndjson")
    assert msgspec.json.decode(report.content.splitlines()[0])["line"] == 2
    assert server.client.get(f"/v1/imports/{shown['id']}/warnings").status_code == 404
    headers = {"content-type": "text/csv"}
    response = server.client.post("/v1/imports?type=people&identifier=id&name=raw", content=CSV, headers=headers)
    shown = server.ended(response)
    assert (shown["state"], shown["name"], shown["rows_imported"]) == ("imported", "raw", 200)
    assert server.keeps_nothing()


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"type": "company"}, 400), ({"identifier": "phone"}, 400), ({"map": "x"}, 400), ({"zone": "Mars"}, 400),
        ({"triggers": "some"}, 400), ({"preview": "yes"}, 400), ({"types": {"id": "colour"}}, 400),
        ({"types": {"nobody": "string"}}, 400), ({"upload": "none"}, 404), ({"as_of": "soon"}, 400),
    ],
)  # fmt: skip
def test_a_wrong_request_is_told_and_makes_no_import(server: Server, changes: dict[str, Any], status: int) -> None:
    """The upload stays for the right one."""
    client = server.client
    upload_id = client.post("/v1/uploads").json()["upload"]["id"]
    client.put(f"/v1/uploads/{upload_id}", content=CSV)
    response = client.post("/v1/imports", json={"import": {**PEOPLE, "upload": upload_id, **changes}})
    assert response.status_code == status, response.text
    assert client.get("/v1/imports").json()["imports"] == []
    assert client.get(f"/v1/uploads/{upload_id}").json()["upload"]["offset"] == len(CSV)
    assert client.delete(f"/v1/uploads/{upload_id}").status_code == 204
    assert server.keeps_nothing()


def test_what_is_too_large_is_refused(server: Server) -> None:
    """While it comes: 413."""
    headers = {"content-type": "text/csv"}
    response = server.client.post("/v1/imports?type=people&identifier=id", content=b"x" * (2 << 20), headers=headers)
    assert response.status_code == 413
    assert server.keeps_nothing()


def test_what_a_stop_interrupts_is_taken_up_at_the_next_start(
    server: Server, site: tuple[str, dict[str, bytes]]
) -> None:
    """An import that was asked for, and not begun, is fetched and run then."""
    address, files = site
    files["/june.csv"] = CSV
    server.tools.close()
    wanted = {**PEOPLE, "data_file_url": f"{address}/june.csv"}
    shown = server.client.post("/v1/imports", json={"import": wanted}).json()["import"]
    assert shown["state"] == "preprocessing"
    server.close()
    server.open()
    assert server.ended(server.client.get(f"/v1/imports/{shown['id']}"))["state"] == "imported"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_form_is_read_however_it_comes(size: int) -> None:
    """Cut anywhere; what looks like a boundary in a file is none."""
    body = (
        b'--b\r\nContent-Disposition: form-data; name="type"\r\n\r\npeople\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="../a b.csv"\r\n\r\n'
        b"id\r\n-b\r\n--\r\n\r\n--b--\r\n"
    )
    got = bytearray()
    form = Multipart(b"b", got.extend)
    for at in range(0, len(body), size):
        form.feed(body[at : at + size])
    assert form.whole
    assert (form.fields, form.file_name, bytes(got)) == ({"type": "people"}, "ab.csv", b"id\r\n-b\r\n--\r\n")


@pytest.mark.parametrize("form", ["text/csv", "application/x-www-form-urlencoded", "", "multipart"])
def test_mended_rows_are_sent_to_their_import(server: Server, form: str) -> None:
    """The errors are downloaded, mended and sent back: they come in under the same number, and no file is left."""
    text = b"id,plan,_timestamp\na,pro,abc\nb,pro,\n"
    headers = {"Content-Type": form} if form != "multipart" else {"Content-Type": "text/csv"}
    first = server.ended(server.client.post("/v1/imports?type=people&identifier=id", content=text, headers=headers))
    path = f"/v1/imports/{first['id']}"
    fixed = server.client.get(f"{path}/errors").content.replace(b"abc", b"")
    if form != "multipart":
        sent = server.client.post(f"{path}/retry", content=fixed, headers=headers)
    else:
        sent = server.client.post(f"{path}/retry", files={"file": ("fixed.csv", fixed, "text/csv")})
    shown = server.ended(sent)
    assert (shown["id"], shown["state"], shown["name"]) == (first["id"], "imported", first["name"])
    assert (first["rows_to_import"], first["rows_imported"]) == (2, 1)
    assert (shown["rows_to_import"], shown["rows_imported"]) == (2, 2)
    summary = shown["summary"]
    assert (summary["rows"], summary["created"], summary["errors"], summary["mended"]) == (2, 2, 0, 1)
    assert server.keeps_nothing()
    for wrong, status in ((fixed.replace(b",2,", b",3,"), 400), (b"id\n", 400), (b"", 400)):
        assert server.client.post(f"{path}/retry", content=wrong, headers=headers).status_code == status
    assert server.client.post("/v1/imports/77/retry", content=fixed, headers=headers).status_code == 404
    assert server.client.post(f"{path}/retry", json={}).status_code == 400
    assert server.keeps_nothing()


def test_only_so_many_uploads_are_left_unfinished(server: Server) -> None:
    """UPLOADS_UNFINISHED: one more is made when one of them is let go of."""
    ids = [server.tools.desk.new_upload("a.csv") for _ in range(UPLOADS_UNFINISHED.value)]
    refused = server.client.post("/v1/uploads", json={"upload": {"name": "b.csv"}})
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
    assert server.client.delete(f"/v1/uploads/{ids[0]}").status_code in (200, 204)
    assert server.client.post("/v1/uploads", json={"upload": {"name": "b.csv"}}).status_code == 200


def test_only_so_many_imports_wait(server: Server, site: tuple[str, dict[str, bytes]]) -> None:
    """IMPORTS_WAITING: the next is asked to come again, and waits when there is room; an upload stays one."""
    url, files = site
    files["/people.csv"] = CSV
    wanted = {**PEOPLE, "data_file_url": f"{url}/people.csv"}
    with server.workspace.turns.alone():
        first = server.client.post("/v1/imports", json={"import": wanted}).json()["import"]["id"]
        waiting = 0
        while (answer := server.client.post("/v1/imports", json={"import": wanted})).status_code == 200:
            waiting += 1
        assert answer.status_code == 429
        # The first ones may be at work already.
        assert IMPORTS_WAITING.value - 1 <= waiting < IMPORTS_WAITING.value + IMPORTS_AT_ONCE.value
        for number in range(first + 1, first + 1 + waiting):
            server.client.post(f"/v1/imports/{number}/cancel")
    assert server.ended(server.client.get(f"/v1/imports/{first}"))["state"] == "imported"


def _send(server: Server, number: int) -> int:
    """A file of its own."""
    text = CSV.replace(b"pro", b"plan%d" % number)
    headers = {"Content-Type": "text/csv"}
    answer = server.client.post("/v1/imports?type=people&identifier=id", content=text, headers=headers)
    return answer.json()["import"]["id"]


def _until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def test_paused_imports_hold_up_no_other(server: Server) -> None:
    """As many as may run at once are paused; another comes in; they go on when they are resumed."""
    imports = server.workspace.imports
    with server.workspace.turns.chunk():
        paused = [_send(server, number) for number in range(IMPORTS_AT_ONCE.value)]
        _until(lambda: all(map(imports.runs, paused)))
        for number in paused:
            assert server.client.post(f"/v1/imports/{number}/pause").json()["import"]["state"] == "paused"
    other = _send(server, 9)
    assert server.ended(server.client.get(f"/v1/imports/{other}"))["state"] == "imported"
    for number in paused:
        assert server.client.get(f"/v1/imports/{number}").json()["import"]["state"] == "paused"
        server.client.post(f"/v1/imports/{number}/resume")
    for number in paused:
        shown = server.ended(server.client.get(f"/v1/imports/{number}"))
        assert (shown["state"], shown["rows_imported"]) == ("imported", 200)
    assert server.keeps_nothing()


def test_canceled_imports_leave_their_places_to_others(server: Server) -> None:
    """As many as may run at once are canceled; the next one comes in all the same."""
    with server.workspace.turns.chunk():
        canceled = [_send(server, number) for number in range(IMPORTS_AT_ONCE.value)]
        _until(lambda: all(map(server.workspace.imports.runs, canceled)))
        for number in canceled:
            server.client.post(f"/v1/imports/{number}/pause")
    for number in canceled:
        assert server.client.post(f"/v1/imports/{number}/cancel").json()["import"]["state"] == "canceled"
    other = _send(server, 9)
    assert server.ended(server.client.get(f"/v1/imports/{other}"))["state"] == "imported"


def test_an_import_tells_what_it_was_asked_to_do(server: Server, site: tuple[str, dict[str, bytes]]) -> None:
    """Also what nobody named; where it came from without what may be secret."""
    address, files = site
    files["/june.csv?key=secret"] = CSV
    wanted = {**PEOPLE, "data_file_url": f"{address}/june.csv?key=secret", "triggers": "none", "map": {"plan": "tier"}}
    asked = server.ended(server.client.post("/v1/imports", json={"import": wanted}))["options"]
    assert asked["sources"] == [f"{address}/june.csv"]
    assert (asked["triggers"], asked["map"], asked["rows"], asked["as_of"]) == ("none", {"plan": "tier"}, "all", None)
    text = b"id,plan,_timestamp\na,pro,abc\nb,pro,\n"
    headers = {"Content-Type": "text/csv"}
    query = "type=people&identifier=id&file_name=people.csv&rows=only_new&as_of=2024-01-01T00:00:00Z"
    first = server.ended(server.client.post(f"/v1/imports?{query}", content=text, headers=headers))
    asked = first["options"]
    assert (asked["sources"], asked["rows"], asked["as_of"]) == (["upload of people.csv"], "only_new", 1704067200)
    fixed = server.client.get(f"/v1/imports/{first['id']}/errors").content.replace(b"abc", b"")
    sent = server.client.post(f"/v1/imports/{first['id']}/retry", content=fixed, headers=headers)
    assert server.ended(sent)["options"]["sources"] == ["upload of people.csv"]
    form = {"type": "people", "identifier": "id"}
    sent = server.client.post("/v1/imports", data=form, files={"file": ("july.csv", text, "text/csv")})
    assert server.ended(sent)["options"]["sources"] == ["upload of july.csv"]
