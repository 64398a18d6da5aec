"""Real servers for the official clients and real mail: everything as ``backstory serve`` starts it."""

import inspect
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

import backstory
from backstory.edge.server import Running, serve_folder
from backstory.engine.settings import Settings, load

SITE_ID = "wire-site"
TRACK_KEY = "wire-key"
APP_KEY = "wire-app"
CDP_KEY = "wire-cdp"
READY_S = 30
SOURCE = Path(backstory.__file__).parents[1]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that is ready, and what its App API shows of what it took in."""

    url: str
    host: str
    port: int
    site_id: str
    track_key: str
    app: httpx.Client

    def settle(self) -> None:
        """Until all reads show what was accepted so far: facts are applied in order, and this one changes nothing."""
        self.app.delete(
            "/api/v1/customers/nobody", auth=(self.site_id, self.track_key), headers={"Backstory-Wait": "applied"}
        ).raise_for_status()

    def show(self, path: str, **query: str) -> Any:
        """What the App API answers, after everything so far."""
        self.settle()
        return self.app.get(path, params=query).raise_for_status().json()

    def customer(self, name: str, id_type: str = "id") -> dict[str, Any] | None:
        """A person's attributes, with the identifiers; None when there is no such person."""
        self.settle()
        answer = self.app.get(f"/v1/customers/{name}/attributes", params={"id_type": id_type})
        return None if answer.status_code == 404 else answer.raise_for_status().json()["customer"]

    def log(self, **query: str) -> list[dict[str, Any]]:
        """The activity log of all people, oldest first."""
        return self.show("/v1/activities", limit="100", all="true", **query)["activities"][::-1]


def settings_of(data: Path, **changes: Any) -> Settings:
    """Settings with known keys and a free port."""
    keys = {"site_id": SITE_ID, "track_key": TRACK_KEY, "app_key": APP_KEY, "cdp_key": CDP_KEY}
    return load({}, {"data": data, "port": 0, **keys, **changes})


@contextmanager
def serving(settings: Settings) -> Iterator[Server]:
    """A server in a thread; it ends in order, with exit code 0."""
    ready, found, codes = threading.Event(), list[Running](), list[int]()

    def tell(server: Running) -> None:
        found.append(server)
        ready.set()

    def run() -> None:
        codes.append(serve_folder(settings, on_ready=tell))
        ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(READY_S)
    assert not codes, "the server ended before it was ready"
    secure = found[0].certificate
    trusted = True if secure is None else ssl.create_default_context(cafile=secure.authority)
    try:
        with client(found[0].url, trusted) as app:
            yield Server(
                url=found[0].url, host="127.0.0.1", port=found[0].port, site_id=SITE_ID, track_key=TRACK_KEY, app=app
            )
    finally:
        found[0].stop()
        thread.join(READY_S)
    assert codes == [0]


@dataclass(frozen=True, kw_only=True)
class Process(Server):
    """A server that is a process of its own, which can be killed."""

    process: "subprocess.Popen[str]"

    def kill(self) -> None:
        """Gone at once: nothing is finished, nothing is written."""
        self.process.kill()
        self.process.wait(READY_S)

    def stop(self) -> int:
        """An orderly end; returns the exit code."""
        self.process.terminate()
        return self.process.wait(READY_S)


@contextmanager
def process(data: Path, **environment: str) -> Iterator[Process]:
    """``backstory serve`` as a user starts it; killed at the end if it still runs."""
    started = subprocess.Popen(
        command("serve", "--data", str(data), "--port", "0"),
        env=environment_of(**environment),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert started.stdout is not None
        url = next(line.split()[4].rstrip(",") for line in started.stdout if line.startswith("Backstory is ready"))
        with client(url) as app:
            yield Process(
                url=url, host="127.0.0.1", port=int(url.rpartition(":")[2]), site_id=SITE_ID, track_key=TRACK_KEY,
                app=app, process=started,
            )  # fmt: skip
    finally:
        if started.poll() is None:
            started.kill()
        started.communicate(timeout=READY_S)


def command(*words: str) -> list[str]:
    """``backstory WORDS…`` with the Python that runs the tests."""
    return [sys.executable, "-m", "backstory", *words]


def environment_of(**changes: str) -> dict[str, str]:
    """The environment of a process: ours without settings, with known keys."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BACKSTORY_")}
    keys = {"BACKSTORY_SITE_ID": SITE_ID, "BACKSTORY_TRACK_KEY": TRACK_KEY, "BACKSTORY_APP_KEY": APP_KEY}
    return {**kept, "PYTHONPATH": str(SOURCE), **keys, **changes}


def eventually(look: Callable[[], T | None]) -> T:
    """What ``look`` finds, as soon as it finds something."""
    deadline = time.monotonic() + READY_S
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def client(url: str, trusted: ssl.SSLContext | bool = True) -> httpx.Client:
    """A client of the App API."""
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {APP_KEY}"}, verify=trusted, timeout=READY_S)


@pytest.fixture
def tls_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server as ``backstory serve --tls-dev`` starts it; the clients of this process trust its authority."""
    authority = tmp_path / "tls" / "ca.pem"
    with serving(settings_of(tmp_path, tls_dev=True)) as server:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        yield server


def methods_not_called(client: type, test: Path) -> set[str]:
    """Public methods of a client that a test file calls nowhere, by their names."""
    text = test.read_text()
    names = {name for name, _ in inspect.getmembers(client, inspect.isfunction) if not name.startswith("_")}
    return {name for name in names if f".{name}(" not in text}
