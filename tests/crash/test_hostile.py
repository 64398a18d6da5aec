"""A real server under hostile calls: what it logs says nothing of anybody, its memory stays flat, and it lives on."""

import base64
import contextlib
import http.client
import json
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.crash.serving import process_serving

KEYS = {
    "BACKSTORY_SITE_ID": "site", "BACKSTORY_TRACK_KEY": "secret-track", "BACKSTORY_APP_KEY": "secret-app",
    "BACKSTORY_CDP_KEY": "secret-cdp",
}  # fmt: skip
TRACK = "Basic " + base64.b64encode(b"site:secret-track").decode()
CDP = "Basic " + base64.b64encode(b"secret-cdp:").decode()
APP = "Bearer secret-app"
MEGABYTE = 1 << 20
# More than the interpreter and its libraries move by themselves, far less than one round of bodies kept.
GROWTH_MAX = 40 * MEGABYTE


@dataclass(frozen=True, kw_only=True)
class Server:
    """`backstory serve` as its own process, with what it said."""

    port: int
    process: "subprocess.Popen[bytes]"
    said: Path

    def call(self, method: str, path: str, key: str, body: bytes | None = None) -> int:
        """The status; 0 when the server hung up in the middle of it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"Authorization": key, "Content-Type": "application/json"}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except (ConnectionError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def resident_bytes(self) -> int:
        """What of its memory is in the machine's."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", text)
        assert found is not None
        return int(found.group(1)) * 1024


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    with process_serving(folder, KEYS) as (port, process, said):
        yield Server(port=port, process=process, said=said)


def test_the_log_says_nothing_of_anybody(tmp_path: Path) -> None:
    """Calls that are taken, refused, malformed, over every API: neither people nor keys are in what the server says."""
    person = {"email": "ann@hidden.example", "note": "hidden-note"}
    with serving(tmp_path) as server:
        calls: list[tuple[str, str, str, object]] = [
            ("PUT", "/api/v1/customers/hidden-id", TRACK, person),
            ("PUT", "/api/v1/customers/hidden-id", "Basic hidden-key", person),
            ("PUT", "/api/v1/customers/hidden-id", TRACK, {"email": "hidden" * 100}),
            ("POST", "/api/v1/customers/hidden-id/events", TRACK, {"name": 5, "data": {"a": "hidden-data"}}),
            ("POST", "/api/v2/batch", TRACK, {"batch": [{"type": "person", "action": "hidden-action", "x": "hidden"}]}),
            ("POST", "/v1/track", CDP, {"userId": "hidden-user", "event": "", "properties": {"a": "hidden"}}),
            ("POST", "/v1/track", CDP, {"userId": {"hidden-user": 1}, "event": "e", "timestamp": "hidden-time"}),
            ("POST", "/v1/batch", CDP, {"batch": [{"type": "hidden-type", "userId": "hidden-user"}]}),
            ("POST", "/v1/identify", CDP, {"userId": "u", "traits": {"email": "hidden@@"}}),
            ("GET", "/v1/customers/hidden-id/attributes?id_type=hidden-kind", APP, None),
            ("POST", "/v1/segments", APP, {"segment": {"name": "s", "conditions": {"hidden-word": "hidden"}}}),
            ("POST", "/api/v1/customers/hidden-id/suppress", TRACK, {}),
            ("DELETE", "/api/v1/customers/hidden-id", TRACK, None),
        ]
        statuses = {server.call(method, path, key, json.dumps(body).encode()) for method, path, key, body in calls}
        server.call("POST", "/v1/track", CDP, b'{"userId": "hidden-user", "event": broken}')
        assert 0 not in statuses
        assert not {status for status in statuses if status >= 500}
    text = server.said.read_text()
    assert "ready at" in text
    for word in ("hidden", "secret-"):
        assert word not in text, text


def _hostile(server: Server) -> list[socket.socket]:
    """One round: large bodies, deep ones, broken ones; returns connections left hanging in a head or a body."""
    ten = b'{"name":"e","data":{"a":"' + b"x" * (10 * MEGABYTE) + b'"}}'
    deep = b'{"name":"e","data":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001
    wide = b'{"batch":[' + b",".join([b'{"type":"nothing"}'] * 20_000) + b"]}"
    for path, key in (
        ("/api/v1/customers/5/events", TRACK), ("/api/v2/batch", TRACK), ("/api/v2/entity", TRACK), ("/v1/batch", CDP),
        ("/v1/track", CDP), ("/v1/segments", APP),
    ):  # fmt: skip
        for body in (ten, deep, wide, deep[:100_000], b"\xff" * MEGABYTE):
            status = server.call("POST", path, key, body)
            assert status < 500, (path, status)
    hanging: list[socket.socket] = []
    for number in range(60):
        one = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        head = f"POST /api/v1/customers/5/events HTTP/1.1\r\nHost: h\r\nAuthorization: {TRACK}\r\n".encode()
        one.sendall(head + (b"X-Slow: " if number % 2 else b"Content-Length: 90000\r\n\r\n" + b"{" * 60_000))
        hanging.append(one)
    return hanging


def test_memory_stays_flat(tmp_path: Path) -> None:
    """10 MB bodies, deep nesting, bodies and heads that never end: the process does not grow from round to round."""
    with serving(tmp_path) as server:
        sizes = [server.resident_bytes()]
        for _ in range(5):
            hanging = _hostile(server)
            for one in hanging:
                with contextlib.suppress(OSError):
                    one.close()
            assert server.call("GET", "/health", "") == 200
            sizes.append(server.resident_bytes())
        assert max(sizes[1:]) - sizes[0] < GROWTH_MAX, sizes
