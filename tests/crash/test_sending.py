"""Sending under kill -9: no message is sent twice, none is forgotten."""

import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.wire.conftest import SITE_ID, TRACK_KEY, Process, Server, eventually, process
from tests.wire.office import open_office

pytestmark = pytest.mark.crash

KILLS = 3
KEYS = (SITE_ID, TRACK_KEY)
CAMPAIGN = {
    "name": "Thanks", "trigger": {"event": {"name": "purchased"}}, "frequency": {"mode": "every"}, "state": "running",
    "steps": [{"type": "email", "from": "shop@example.com", "subject": "Thank you", "body": "Hello"}],
}  # fmt: skip


def test_no_message_is_sent_twice_and_none_is_forgotten(tmp_path: Path) -> None:
    """Killed at any moment of live load and sending: each event has one message, which was sent once or is in doubt."""
    chance, accepted = random.Random(7), 0
    with open_office() as office:
        settings = {"BACKSTORY_SMTP_URL": office.url, "BACKSTORY_SEND_PER_S": "1000"}
        for number in range(KILLS):
            with process(tmp_path, **settings) as server:
                if number == 0:
                    server.app.put(
                        "/api/v1/customers/ann", json={"email": "ann@example.com"}, auth=KEYS
                    ).raise_for_status()
                    server.app.post("/v1/campaigns", json={"campaign": CAMPAIGN}).raise_for_status()
                accepted += load_until_killed(server, chance.uniform(0.2, 0.8))
        with process(tmp_path, **settings) as server:
            eventually(lambda: not listed(server, "queued") and not listed(server, "attempting"))
            sent, doubtful = listed(server, "sent"), listed(server, "in_doubt")
        arrived = Counter(mail["X-Backstory-Delivery"] for mail in office.wait_for(0))
    assert accepted > 10
    assert set(arrived.values()) == {1}
    assert sent <= set(arrived) <= sent | doubtful
    # A call whose answer the kill cut off may have been accepted.
    assert accepted <= len(sent | doubtful) <= accepted + KILLS


def load_until_killed(server: Process, seconds: float) -> int:
    """Events as fast as they go, until the server is killed; returns how many were answered with 200."""
    answered = 0

    def load() -> None:
        nonlocal answered
        while True:
            try:
                server.app.post(
                    "/api/v1/customers/ann/events", json={"name": "purchased"}, auth=KEYS
                ).raise_for_status()
            except httpx.TransportError:
                return
            answered += 1

    thread = threading.Thread(target=load)
    thread.start()
    time.sleep(seconds)
    server.kill()
    thread.join()
    return answered


def listed(server: Server, state: str) -> set[str]:
    """The ids of all messages in a state."""
    found, start = set[str](), ""
    while True:
        page: dict[str, Any] = server.show("/v1/messages", state=state, limit="1000", start=start)
        found |= {message["id"] for message in page["messages"]}
        start = page["next"]
        if not start:
            return found
