"""Sending: the outbox of a running server, with the senders its settings ask for.

``live`` mails by SMTP and calls webhooks, ``mailbox`` writes both into DIR/mailbox, so that nothing leaves the
machine, ``off`` drops both. Only a server sends: what a command queues without one waits for the next server.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Protocol, assert_never

from backstory.core.fact import EffectOutcome
from backstory.core.message import Delivery
from backstory.edge.smtp import MailboxSender, OffSender, SmtpSender
from backstory.edge.webhook import WebhookSender
from backstory.engine.outbox import Outbox, Sender
from backstory.engine.settings import Settings

MAILBOX = "mailbox"
# Less than requests under way get, so that outcomes are recorded before the workspace closes.
GRACE_S = 6.0

_log = logging.getLogger(__name__)


class SendingWorkspace(Protocol):
    """A workspace as the outbox sees it; ``claim`` and ``report`` may block."""

    def when_ready(self, tell: Callable[[], None]) -> None: ...

    def claim(self, count: int) -> list[Delivery]: ...

    def report(self, outcome: EffectOutcome) -> None: ...


class Sending:
    """Runs on one asyncio loop, from ``start`` to ``stop``."""

    def __init__(self, workspace: SendingWorkspace, settings: Settings, now_us: Callable[[], int]) -> None:
        self._exit = AsyncExitStack()
        self._outbox = Outbox(
            claim=workspace.claim,
            report=workspace.report,
            senders=self._senders(settings),
            per_s=settings.send_per_s,
            now_us=now_us,
        )
        self._task: asyncio.Task[None] | None = None
        self._failed = False
        workspace.when_ready(self._outbox.notify)

    def _senders(self, settings: Settings) -> dict[str, Sender]:
        match settings.send:
            case "live":
                assert settings.smtp_url is not None, "the settings were checked"
                mail, webhook = SmtpSender(settings.smtp_url), WebhookSender()
                self._exit.push_async_callback(mail.aclose)
                self._exit.push_async_callback(webhook.aclose)
                return {"email": mail, "webhook": webhook}
            case "mailbox":
                return dict.fromkeys(("email", "webhook"), MailboxSender(settings.data / MAILBOX))
            case "off":
                return dict.fromkeys(("email", "webhook"), OffSender())
            case _:
                assert_never(settings.send)

    def start(self) -> None:
        """Send what there is, and whatever comes."""
        self._task = asyncio.get_running_loop().create_task(self._outbox.run())
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Finish and report what is under way; what takes too long is in doubt after the next start."""
        if self._task is not None:
            await self._outbox.stop(GRACE_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._exit.aclose()

    @property
    def faults(self) -> list[str]:
        """What is wrong with sending, in words."""
        if self._failed:
            return ["nothing is sent until a restart, by a mistake of our own; the server's log says which"]
        return [self._outbox.trouble] if self._outbox.trouble else []

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and task.exception() is not None:
            self._failed = True
            _log.error("sending stopped on a mistake of our own", exc_info=task.exception())
