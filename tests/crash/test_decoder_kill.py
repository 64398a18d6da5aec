"""The process that reads batches, killed again and again under a real server: every batch is taken, once and whole."""

import base64
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

KEYS = {"BACKSTORY_SITE_ID": "site", "BACKSTORY_TRACK_KEY": "track", "BACKSTORY_APP_KEY": "app"}
TRACK = "Basic " + base64.b64encode(b"site:track").decode()
ITEMS, BATCHES = 1000, 30


@contextmanager
def serving(folder: Path) -> "Iterator[tuple[int, subprocess.Popen[bytes]]]":
    """`backstory serve` as a process of its own; the port and the process."""
    said = folder / "said"
    command = [sys.executable, "-m", "backstory", "serve", "--data", str(folder / "data"), "--port", "0"]
    with said.open("wb") as out:
        process = subprocess.Popen(command, env={**os.environ, **KEYS}, stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 60
        while (found := re.search(rb"ready at http://[^:]+:(\d+)", said.read_bytes())) is None:
            assert time.monotonic() < deadline, said.read_text()
            assert process.poll() is None, said.read_text()
            time.sleep(0.05)
        yield int(found.group(1)), process
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


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
    with serving(tmp_path) as (port, process):
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
