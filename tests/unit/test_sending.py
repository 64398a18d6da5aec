"""The outbox of a server: which senders it has, and what it says when it breaks."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from backstory.core.address import Address
from backstory.core.fact import EffectOutcome
from backstory.core.message import Delivery, Email, Webhook
from backstory.edge.sending import Sending
from backstory.engine.settings import load

ADDRESS = Address(mail="ann@example.com")
MAIL = Email(sender=ADDRESS, recipient=ADDRESS, subject="Hello", text="Hello")
HOOK = Webhook(url="https://example.com/hook", body="{}", content_type="application/json")


class FakeWorkspace:
    """Hands out what it is given, and keeps the outcomes; ``error`` is raised by the next claim."""

    def __init__(self) -> None:
        self.queue = [
            Delivery(delivery_id="1", kind="email", content=MAIL, created_us=0),
            Delivery(delivery_id="2", kind="webhook", content=HOOK, created_us=0),
        ]
        self.outcomes: dict[str, str] = {}
        self.reported = asyncio.Event()
        self.error: Exception | None = None
        self.tell: Callable[[], None] = lambda: None

    def when_ready(self, tell: Callable[[], None]) -> None:
        self.tell = tell

    def claim(self, count: int) -> list[Delivery]:
        if self.error is not None:
            raise self.error
        taken, self.queue = self.queue[:count], self.queue[count:]
        return taken

    def report(self, outcome: EffectOutcome) -> None:
        self.outcomes[outcome.delivery_id] = outcome.outcome


@pytest.mark.parametrize(
    ("send", "outcomes", "files"), [("mailbox", "sent", ["1.eml", "2.json"]), ("off", "dropped", [])]
)
def test_mail_and_webhooks_go_the_same_way(tmp_path: Path, send: str, outcomes: str, files: list[str]) -> None:
    """Into the mailbox folder both, or nowhere both."""

    async def run() -> None:
        workspace = FakeWorkspace()
        sending = Sending(workspace, load({}, {"data": tmp_path, "send": send}), lambda: 0)
        sending.start()
        while len(workspace.outcomes) < 2:
            await asyncio.to_thread(lambda: None)
        assert sending.faults == []
        await sending.stop()
        assert workspace.outcomes == {"1": outcomes, "2": outcomes}

    asyncio.run(run())
    folder = tmp_path / "mailbox"
    assert sorted(path.name for path in folder.glob("*")) == files


def test_live_sending_closes_its_connections(tmp_path: Path) -> None:
    """Also when it was never started."""

    async def run() -> None:
        settings = load({}, {"data": tmp_path, "smtp_url": "smtp://localhost:25"})
        await Sending(FakeWorkspace(), settings, lambda: 0).stop()

    asyncio.run(run())


def test_a_mistake_of_ours_is_logged_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The server goes on taking calls; its health says that nothing is sent."""

    async def run() -> None:
        workspace = FakeWorkspace()
        workspace.error = KeyError("bug")
        sending = Sending(workspace, load({}, {"data": tmp_path}), lambda: 0)
        sending.start()
        while not sending.faults:
            await asyncio.to_thread(lambda: None)
        assert "nothing is sent until a restart" in sending.faults[0]
        await sending.stop()

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert "sending stopped on a mistake of our own" in caplog.text
