"""Real listeners for the official clients."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from backstory.core.fact import Fact
from backstory.edge.server import Running, serve
from backstory.engine.settings import load
from tests.unit.fake_workspace import FakeWorkspace

SITE_ID = "wire-site"
TRACK_KEY = "wire-key"
READY_S = 30


@dataclass(frozen=True, kw_only=True)
class TlsServer:
    """A server that speaks https on a free port, and what it took in."""

    host: str
    port: int
    site_id: str
    track_key: str
    workspace: FakeWorkspace

    @property
    def facts(self) -> list[Fact]:
        return self.workspace.facts


@pytest.fixture
def tls_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TlsServer]:
    """A server as ``backstory serve --tls-dev`` starts it; the clients of this process trust its authority."""
    found, ready, workspace = list[Running](), threading.Event(), FakeWorkspace()

    def tell(server: Running) -> None:
        found.append(server)
        ready.set()

    settings = load({}, {"data": tmp_path, "port": 0, "tls_dev": True, "site_id": SITE_ID, "track_key": TRACK_KEY})
    thread = threading.Thread(target=lambda: serve(settings, lambda name: workspace, on_ready=tell))
    thread.start()
    assert ready.wait(READY_S)
    server = found[0]
    assert server.certificate is not None
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.certificate.authority))
    monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate.authority))
    yield TlsServer(
        host="127.0.0.1", port=server.port, site_id=SITE_ID, track_key=TRACK_KEY, workspace=workspace
    )
    server.stop()
    thread.join(READY_S)
    assert not thread.is_alive()
