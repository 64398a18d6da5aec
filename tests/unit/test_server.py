"""The server as a whole: two listeners, keys, health, an orderly end. The workspace is a fake, the sockets are real."""

import asyncio
import base64
import os
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import httpx
import msgspec
import pytest

from backstory.core.error import BackstoryError, StorageError
from backstory.core.fact import Identifier, Identify, Receipt
from backstory.edge import track_answer
from backstory.edge.app_local import LocalTools
from backstory.edge.dispatch import build_app
from backstory.edge.listener import bind_local
from backstory.edge.server import Running, serve
from backstory.engine.settings import load
from backstory.store.credential import CredentialStore
from tests.unit.fake_workspace import AsgiClient, FakeWorkspace

READY_S = 20


@contextmanager
def running(
    data: Path,
    workspace: FakeWorkspace,
    open_workspace: Callable[[str], FakeWorkspace] | None = None,
    names: Sequence[str] = ("default",),
) -> Iterator[Running]:
    """A server in a thread, ready; stopped at the end, with exit code 0."""
    ready, found, codes = threading.Event(), list[Running](), list[int]()

    def tell(one: Running) -> None:
        found.append(one)
        ready.set()

    def run() -> None:
        opened = open_workspace or (lambda name: workspace)
        preset = {"site_id": "site", "track_key": "track", "app_key": "app"}
        codes.append(serve(load({}, {"data": data, "port": 0, **preset}), opened, on_ready=tell, names=names))
        ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(READY_S)
    assert not codes, "the server ended before it was ready"
    try:
        yield found[0]
    finally:
        found[0].stop()
        thread.join(READY_S)
    assert codes == [0]


def local_client(data: Path) -> httpx.Client:
    path = (data / "backstory.sock").resolve()
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://backstory")


def test_both_listeners_serve(tmp_path: Path) -> None:
    """TCP asks for keys, the local socket for none; both lead to the same workspace, which is closed at the end."""
    workspace = FakeWorkspace()
    with running(tmp_path, workspace) as server:
        path = "/api/v1/customers/a%2Fb"
        with httpx.Client(base_url=server.url) as client:
            assert client.get("/health").status_code == 200
            assert client.put(path, json={"n": 1}).status_code == 401
            assert client.put(path, json={"n": 1}, auth=("site", "track")).json() == {}
            assert client.get("/v1/nothing").status_code == 401
            assert client.get("/v1/nothing", headers={"authorization": "Bearer app"}).status_code == 404
            assert client.get("/local/keys", headers={"authorization": "Bearer app"}).status_code == 404
            assert client.get("/else").status_code == 404
            assert client.get("/else").json()["meta"]["errors"]
        with local_client(tmp_path) as client:
            assert client.put(path, json={"n": 2}).json() == {}
            assert client.get("/v1/nothing").status_code == 404
    assert [fact.person for fact in workspace.facts if isinstance(fact, Identify)] == [Identifier("id", "a/b")] * 2
    assert workspace.closed
    assert not (tmp_path / "backstory.sock").exists()


def test_the_local_socket_is_its_owners(tmp_path: Path) -> None:
    """The socket has mode 0600, also where a stale one was left behind."""
    (tmp_path / "backstory.sock").write_text("stale")
    with running(tmp_path, FakeWorkspace()):
        assert stat.S_IMODE((tmp_path / "backstory.sock").stat().st_mode) == 0o600


def test_a_long_path_has_a_socket_too(tmp_path: Path) -> None:
    """Where the kernel's limit for addresses is passed, a link leads to the socket."""
    data = tmp_path / ("long" * 30)
    with running(data, FakeWorkspace()), local_client(data) as client:
        assert (data / "backstory.sock").is_socket()
        assert client.get("/health").status_code == 200
        target = (data / "backstory.sock").resolve()
    assert not os.path.lexists(data / "backstory.sock")
    assert not target.parent.exists()


def test_nothing_is_served_before_it_is_ready(tmp_path: Path) -> None:
    """While the workspace opens, health and every call answer 503 in JSON."""
    answers: list[httpx.Response] = []
    workspace = FakeWorkspace()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    def slow(name: str) -> FakeWorkspace:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            answers.append(client.get("/health"))
            answers.append(client.put("/api/v1/customers/5", json={}, auth=("site", "track")))
        return workspace

    ready: list[Running] = []

    def tell(one: Running) -> None:
        ready.append(one)
        one.stop()

    assert serve(load({}, {"data": tmp_path, "port": port}), slow, on_ready=tell) == 0
    assert ready
    assert [answer.status_code for answer in answers] == [503, 503]
    assert answers[0].json() == {"status": "starting"}
    assert answers[1].json()["meta"]["error"]
    assert not workspace.facts


@pytest.mark.parametrize("error", [StorageError("the folder is in use"), OSError("the disk is gone")])
def test_what_cannot_start_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str], error: Exception) -> None:
    """A workspace that does not open ends the server with 1 and the reason; another server's socket is left alone."""
    (tmp_path / "backstory.sock").write_text("another server's")

    def fail(name: str) -> FakeWorkspace:
        raise error

    assert serve(load({}, {"data": tmp_path, "port": 0}), fail) == 1
    assert str(error) in capsys.readouterr().err
    assert (tmp_path / "backstory.sock").exists()


def test_a_taken_port_is_said_to_be_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the address and the flags to change it, and nothing is opened."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        workspace = FakeWorkspace()
        assert serve(load({}, {"data": tmp_path, "port": port}), lambda name: workspace) == 1
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err
    assert not workspace.closed


def test_the_first_start_leaves_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal, made keys are in DIR/keys.json and open both APIs."""
    codes: list[int] = []

    def try_keys(server: Running) -> None:
        keys = msgspec.json.decode((tmp_path / "keys.json").read_bytes())

        def calls() -> None:
            with httpx.Client(base_url=server.url) as client:
                region = client.get("/api/v1/accounts/region", auth=(keys["site_id"], keys["track_key"]))
                nothing = client.get("/v1/nothing", headers={"authorization": f"Bearer {keys['app_key']}"})
                codes.extend([region.status_code, nothing.status_code])
            server.stop()

        threading.Thread(target=calls).start()

    assert serve(load({}, {"data": tmp_path, "port": 0}), lambda name: FakeWorkspace(), on_ready=try_keys) == 0
    assert codes == [200, 404]
    assert "Backstory is ready at http://127.0.0.1:" in capsys.readouterr().out


def test_revoked_keys_close_while_serving(tmp_path: Path) -> None:
    """A key revoked by another process stops working without a restart."""
    with running(tmp_path, FakeWorkspace()) as server, httpx.Client(base_url=server.url) as client:
        call = ("/api/v1/accounts/region",)
        assert client.get(*call, auth=("site", "track")).status_code == 200
        CredentialStore(tmp_path / "workspaces" / "default").revoke(1)
        deadline = time.monotonic() + READY_S
        while client.get(*call, auth=("site", "track")).status_code != 401:
            assert time.monotonic() < deadline


def test_stopping_finishes_what_was_accepted(tmp_path: Path) -> None:
    """A request that is under way when the stop comes is still answered, and the workspace is closed after it."""

    class Slow(FakeWorkspace):
        """Accepts when told to."""

        def submit(self, facts: list, *, on_accept, on_applied, on_error) -> None:  # type: ignore[no-untyped-def]
            self.facts += facts
            self.accept = on_accept
            submitted.set()

        def close(self) -> None:
            assert answered
            super().close()

    submitted, workspace, answered = threading.Event(), Slow(), list[int]()

    def call(url: str) -> None:
        answered.append(httpx.put(f"{url}/api/v1/customers/5", json={}, auth=("site", "track")).status_code)

    with running(tmp_path, workspace) as server:
        thread = threading.Thread(target=call, args=[server.url])
        thread.start()
        assert submitted.wait(READY_S)
        server.stop()
        workspace.accept()
        thread.join()
    assert answered == [200]
    assert workspace.closed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_an_orderly_end(tmp_path: Path, number: signal.Signals) -> None:
    """SIGTERM and SIGINT close the workspace and leave with 0."""
    workspace = FakeWorkspace()

    def interrupt(server: Running) -> None:
        os.kill(os.getpid(), number)

    assert serve(load({}, {"data": tmp_path, "port": 0}), lambda name: workspace, on_ready=interrupt) == 0
    assert workspace.closed


def test_stopping_tells_long_work_to_end(tmp_path: Path) -> None:
    """Imports and verify hear of the stop before requests are waited for."""

    def nothing(*_: object, **__: object) -> NoReturn:
        raise AssertionError("not called")

    tools = LocalTools(
        backfill=nothing, verify=nothing, credentials=CredentialStore(tmp_path / "keys"), now_us=lambda: 0
    )
    code = serve(
        load({}, {"data": tmp_path, "port": 0}),
        lambda name: FakeWorkspace(),
        make_tools=lambda workspace, credentials: tools,
        on_ready=lambda server: server.stop(),
    )
    assert code == 0
    assert tools.stopping.is_set()


def test_pipelined_requests_all_get_their_answer(tmp_path: Path) -> None:
    """Several requests sent at once over one connection are answered one after the other."""
    key = base64.b64encode(b"site:track").decode()
    request = (
        f"PUT /api/v1/customers/5 HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {key}\r\nContent-Length: 2\r\n\r\n{{}}"
    )
    workspace = FakeWorkspace()
    with running(tmp_path, workspace) as server, socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(request.encode() * 3)
        received = b""
        while received.count(b"HTTP/1.1 200 OK") < 3 or not received.endswith(b"{}"):
            received += connection.recv(65_536)
    assert len(workspace.facts) == 3


def test_a_ten_megabyte_body_is_refused(tmp_path: Path) -> None:
    """A body far past the limit is refused in JSON and stores nothing."""
    workspace = FakeWorkspace()
    with running(tmp_path, workspace) as server:
        answer = httpx.put(
            f"{server.url}/api/v1/customers/5", content=b"x" * 10_000_000, auth=("site", "track"), timeout=READY_S
        )
    assert answer.status_code == 413
    assert answer.json()["meta"]["errors"]
    assert not workspace.facts


def test_receipts_over_the_wire(tmp_path: Path) -> None:
    """Backstory-Wait works on both listeners."""
    workspace = FakeWorkspace()
    workspace.receipt = Receipt(result="duplicate", position=9, reason="known")
    with running(tmp_path, workspace), local_client(tmp_path) as client:
        answer = client.post(
            "/api/v1/customers/5/events", json={"name": "seen"}, headers={"backstory-wait": "applied"}
        )
    assert answer.json() == {"receipt": {"result": "duplicate", "position": 9, "skipped": [], "reason": "known"}}


def test_a_stopped_engine_is_not_healthy(tmp_path: Path) -> None:
    """When a workspace accepts nothing any more, health says so."""
    workspace = FakeWorkspace()
    with running(tmp_path, workspace) as server:
        assert httpx.get(f"{server.url}/health").status_code == 200
        workspace.healthy = False
        assert httpx.get(f"{server.url}/health").status_code == 503


def test_faults_are_told_and_named_to_the_owner(tmp_path: Path) -> None:
    """A server that misses a file still answers 200; the words are for the local socket, the public gets a number."""
    workspace = FakeWorkspace()
    workspace.faults = ["the part 1.parquet is missing"]
    with running(tmp_path, workspace) as server, local_client(tmp_path) as client:
        public = httpx.get(f"{server.url}/health")
        assert (public.status_code, public.json()) == (200, {"status": "degraded", "faults": 1})
        assert client.get("/health").json() == {"status": "degraded", "faults": workspace.faults}


def test_each_key_opens_its_workspace(tmp_path: Path) -> None:
    """With several workspaces the key says which one a call is for."""
    CredentialStore(tmp_path / "workspaces" / "shop").create(
        "track", "shop-key", salt="00" * 16, created_us=1, site_id="shop"
    )
    opened: dict[str, FakeWorkspace] = {}

    def make(name: str) -> FakeWorkspace:
        return opened.setdefault(name, FakeWorkspace())

    names = ("default", "shop")
    with running(tmp_path, FakeWorkspace(), make, names) as server, httpx.Client(base_url=server.url) as client:
        assert client.delete("/api/v1/customers/5", auth=("shop", "shop-key")).status_code == 200
        assert client.get("/v1/nothing", headers={"authorization": "Bearer app"}).status_code == 404
        assert client.get("/v1/nothing", headers={"authorization": "Bearer shop-key"}).status_code == 401
    assert (len(opened["shop"].facts), len(opened["default"].facts)) == (1, 0)
    assert opened["shop"].closed
    assert opened["default"].closed


def test_the_application_under_another_server() -> None:
    """The dispatcher answers the lifespan of any ASGI server and refuses what is no HTTP."""

    async def nothing(scope: object, receive: object, send: object) -> None:
        raise AssertionError("not called")

    with AsgiClient(make_app=lambda: build_app(nothing, nothing, nothing, lambda: track_answer.READY)) as client:
        sent: list[str] = []

        async def receive() -> dict[str, str]:
            return {"type": "lifespan"}

        async def send(message: dict[str, str]) -> None:
            sent.append(message["type"])

        asyncio.run(client.app({"type": "lifespan"}, receive, send))
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        with pytest.raises(RuntimeError, match="HTTP only"):
            asyncio.run(client.app({"type": "websocket"}, receive, send))


def test_a_socket_that_cannot_be_bound_is_an_error(tmp_path: Path) -> None:
    """A folder that is missing is not made by the socket."""
    with pytest.raises((OSError, BackstoryError)):
        bind_local(tmp_path / "nothing")
