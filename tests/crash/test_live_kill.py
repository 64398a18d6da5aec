"""The real server killed hard under load: nothing acknowledged is lost, nothing is applied twice."""

import base64
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

ROUNDS = 5
SENDERS = 4
KEYS = {"BACKSTORY_SITE_ID": "site", "BACKSTORY_TRACK_KEY": "track", "BACKSTORY_APP_KEY": "app"}
TRACK = {"Authorization": "Basic " + base64.b64encode(b"site:track").decode(), "Content-Type": "application/json"}
APP = {"Authorization": "Bearer app", "Content-Type": "application/json"}
ONCE = {"event": {"name": "came", "count": {"exactly": 1}}}
TWICE = {"event": {"name": "came", "count": {"at_least": 2}}}


class Server:
    """`backstory serve` as its own process."""

    def __init__(self, data: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        command = [sys.executable, "-m", "backstory", "serve", "--data", str(data), "--port", str(self.port)]
        self.process = subprocess.Popen(
            command, env={**os.environ, **KEYS}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if self.call("GET", "/health", {})[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError("the server did not come up")

    def call(self, method: str, path: str, headers: dict[str, str], body: object = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0


def send(server: Server, acknowledged: list[str], tried: list[str]) -> None:
    """One event each for new people, until the server is gone."""
    while True:
        name = uuid.uuid4().hex
        tried.append(name)
        body = {"name": "came", "id": str(uuid.uuid4()), "data": {"n": len(tried)}}
        try:
            status, _ = server.call("POST", f"/api/v1/customers/{name}/events", TRACK, body)
        except (OSError, http.client.HTTPException):
            return
        if status == 200:
            acknowledged.append(name)


def members(server: Server, segment_id: int) -> set[str]:
    found: set[str] = set()
    start = ""
    while True:
        _, body = server.call("GET", f"/v1/segments/{segment_id}/membership?limit=10000&start={start}", APP)
        page = json.loads(body)
        found.update(page["ids"])
        start = page["next"]
        if not start:
            return found


def test_kill_9_under_load(tmp_path: Path) -> None:
    """After each kill everybody whose event was acknowledged is there, once, and at the end verify agrees."""
    acknowledged: list[str] = []
    tried: list[str] = []
    moment = random.Random(7)
    server = Server(tmp_path)
    ids: list[int] = []
    for conditions in (ONCE, TWICE):
        _, body = server.call("POST", "/v1/segments", APP, {"segment": {"name": "s", "conditions": conditions}})
        ids.append(json.loads(body)["segment"]["id"])
    for _ in range(ROUNDS):
        senders = [threading.Thread(target=send, args=(server, acknowledged, tried)) for _ in range(SENDERS)]
        for sender in senders:
            sender.start()
        time.sleep(moment.uniform(0.2, 1.2))
        server.kill()
        for sender in senders:
            sender.join()
        server = Server(tmp_path)
        once = members(server, ids[0])
        assert set(acknowledged) <= once <= set(tried)
        assert members(server, ids[1]) == set()
    assert acknowledged
    server.stop()
    verify = [sys.executable, "-m", "backstory", "verify", "--data", str(tmp_path)]
    assert subprocess.run(verify, capture_output=True, check=False).returncode == 0
