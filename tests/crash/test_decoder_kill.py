"""The process that reads batches, killed again and again under a real server: every batch is taken, once and whole."""

import base64
import http.client
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.crash.serving import process_serving

KEYS = {"BACKSTORY_SITE_ID": "site", "BACKSTORY_TRACK_KEY": "track", "BACKSTORY_APP_KEY": "app"}
TRACK = "Basic " + base64.b64encode(b"site:track").decode()
ITEMS, BATCHES = 1000, 30


def call(
    port: int,
    method: str,
    path: str,
    key: str,
    body: object = None,
    *,
    sent: Callable[[], None] = lambda: None,
    **headers: str,
) -> tuple[int, Any]:
    """The status and what is said; ``sent`` is called while the server is at it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        said = {"Authorization": key, "Content-Type": "application/json", **headers}
        connection.request(method, path, None if body is None else json.dumps(body), said)
        sent()
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    finally:
        connection.close()


def readers(server: int) -> list[int]:
    """The processes that read batches for a server."""
    found: list[int] = []
    for task in Path(f"/proc/{server}/task").iterdir():
        for pid in (task / "children").read_text().split():
            if b"backstory.edge.decoder" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found


def batch(number: int) -> list[dict[str, Any]]:
    """One event each of people nobody else names, and one item that is refused."""
    events = [
        {
            "type": "person", "action": "event", "identifiers": {"id": f"{number}-{item}"}, "name": "buy",
            "attributes": {"note": "n" * 60}, "id": f"{number:08x}-0000-4000-8000-{item:012x}",
        }
        for item in range(ITEMS)
    ]  # fmt: skip
    return [*events, {"type": "person", "action": "nothing"}]


def test_every_batch_is_taken_once_and_whole(tmp_path: Path) -> None:
    """Whatever the process was at when it was killed; with the server its processes end."""
    with process_serving(tmp_path, KEYS) as (port, process, _):
        condition = {"event": {"name": "buy", "count": {"exactly": 1}}}
        segment = {"segment": {"name": "buyers", "type": "dynamic", "conditions": condition}}
        assert call(port, "POST", "/v1/segments", "Bearer app", segment)[0] == 200
        killed: set[int] = set()

        def kill() -> None:
            for pid in readers(process.pid):
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)

        for number in range(BATCHES):
            sent = kill if number % 3 == 2 else lambda: None
            status, said = call(port, "POST", "/api/v2/batch", TRACK, {"batch": batch(number)}, sent=sent)
            assert (status, [one["batch_index"] for one in said["errors"]]) == (207, [ITEMS])
        wait = {"Backstory-Wait": "applied"}
        status, _ = call(port, "POST", "/api/v2/batch", TRACK, {"batch": batch(0)[:1]}, **wait)
        assert status == 200
        counted = call(port, "GET", "/v1/segments/1/customer_count", "Bearer app")
        assert counted == (200, {"segment_id": 1, "count": ITEMS * BATCHES})
        left = readers(process.pid)
    assert killed
    assert not [pid for pid in left if Path(f"/proc/{pid}").exists()]
