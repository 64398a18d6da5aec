"""The outbox: hands deliveries to the world, at a rate, and reports what came of each.

It keeps nothing of its own that matters. ``claim`` hands over deliveries that are already durably marked as being
attempted; ``report`` turns an outcome into a fact. What a crash leaves between the two becomes *in doubt* (design
promise 3). So it claims no more than it can send at once.

An attempt that failed for the moment is reported with the time of the next one: 11 attempts, with pauses that
double, within about an hour (semantics section 6.8). Knows neither SMTP nor HTTP: a ``Sender`` does.
"""

import asyncio
import contextlib
import heapq
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, assert_never

from msgspec import Struct

from backstory.core.error import BackstoryError, Busy
from backstory.core.fact import EffectOutcome
from backstory.core.message import Delivery
from backstory.core.time import SECOND_US

ATTEMPTS = 11
FIRST_PAUSE_S = 3.5  # doubled ten times: an hour in all
CONCURRENCY = 20
# Deliveries are claimed for so long ahead, to make few transactions at a high rate.
BURST_S = 0.1
# A wake that got lost delays a message by no more than this.
POLL_S = 30.0
TROUBLE_PAUSE_S = 1.0


class Sent(Struct, frozen=True):
    """The other side took it."""


class Transient(Struct, frozen=True):
    """It was not taken, and may be later."""

    reason: str


class Permanent(Struct, frozen=True):
    """It was not taken and never will be."""

    reason: str


class Dropped(Struct, frozen=True):
    """It was not even tried, because sending is switched off."""

    reason: str


class Unknown(Struct, frozen=True):
    """It was handed over, and nobody knows whether it was taken: trying again may send it twice."""

    reason: str


Answer = Sent | Transient | Permanent | Dropped | Unknown


class Sender(Protocol):
    """Takes one delivery to the world. Bounded in time; trouble is an answer, never an exception."""

    async def send(self, delivery: Delivery) -> Answer: ...


def pause_us(attempts: int) -> int:
    """How long to wait after so many attempts."""
    return round(FIRST_PAUSE_S * 2 ** (attempts - 1) * SECOND_US)


class Outbox:
    """Runs on one asyncio loop; ``notify`` may be called from any thread."""

    def __init__(
        self,
        *,
        claim: Callable[[int], list[Delivery]],
        report: Callable[[EffectOutcome], None],
        senders: Mapping[str, Sender],
        per_s: float,
        now_us: Callable[[], int],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``claim(n)`` and ``report`` may block: they run in threads. ``senders`` by the kind of delivery."""
        if not per_s > 0:
            raise ValueError(f"the rate must be above 0 messages per second, not {per_s}")
        self.trouble = ""  # what last went wrong with claiming or reporting; empty when all is well
        self._claim = claim
        self._report = report
        self._senders = senders
        self._per_s = per_s
        self._now_us = now_us
        self._sleep = sleep
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._stopping = False
        self._sending: set[asyncio.Task[None]] = set()
        self._retries_us: list[int] = []
        self._next_claim_us = 0
        self._burst = max(1, math.floor(per_s * BURST_S))
        self._ended = asyncio.Event()

    def notify(self) -> None:
        """There may be something to send."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # The loop is closed: nothing is sent any more.
                loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        """Send until ``stop``; raises what a sender, ``claim`` or ``report`` raise by a mistake of ours."""
        self._loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as group:
                while not self._stopping:
                    self._wake.clear()
                    await self._turn(group)
        finally:
            self._ended.set()

    async def stop(self, grace_s: float = 30.0) -> None:
        """Claim nothing more, and wait for what was claimed; what takes longer than ``grace_s`` is left in doubt."""
        self._stopping = True
        self._wake.set()
        if self._loop is None:
            return
        patience = asyncio.ensure_future(self._sleep(grace_s))
        ended = asyncio.ensure_future(self._ended.wait())
        await asyncio.wait({patience, ended}, return_when=asyncio.FIRST_COMPLETED)
        patience.cancel()
        ended.cancel()
        for task in tuple(self._sending):
            task.cancel()

    async def _turn(self, group: asyncio.TaskGroup) -> None:
        free = CONCURRENCY - len(self._sending)
        due_us = self._next_claim_us - self._now_us()
        if free == 0:
            await self._pause(POLL_S)
        elif 0 < due_us <= self._gap_us(self._burst):  # More means that the clock was set back meanwhile.
            await self._pause(due_us / SECOND_US)
        else:
            await self._send_some(group, free)

    def _gap_us(self, count: int) -> int:
        """How far apart from what follows so many messages keep the rate."""
        return math.ceil(count * SECOND_US / self._per_s)

    async def _send_some(self, group: asyncio.TaskGroup, free: int) -> None:
        try:
            deliveries = await asyncio.to_thread(self._claim, min(free, self._burst))
        except BackstoryError as error:
            self.trouble = f"cannot read what is to be sent: {error}"
            await self._pause(TROUBLE_PAUSE_S)
            return
        self.trouble = ""
        for delivery in deliveries:
            task = group.create_task(self._deliver(delivery))
            self._sending.add(task)
            task.add_done_callback(self._sent)
        now_us = self._now_us()
        self._next_claim_us = now_us + self._gap_us(len(deliveries))
        if not deliveries:
            await self._pause(self._until_retry_s(now_us))

    def _sent(self, task: asyncio.Task[None]) -> None:
        if len(self._sending) == CONCURRENCY:
            self._wake.set()
        self._sending.discard(task)

    def _until_retry_s(self, now_us: int) -> float:
        """How long there is nothing to do, as far as we know."""
        while self._retries_us and self._retries_us[0] <= now_us:
            heapq.heappop(self._retries_us)
        next_us = self._retries_us[0] if self._retries_us else now_us + round(POLL_S * SECOND_US)
        return min(POLL_S, (next_us - now_us) / SECOND_US)

    async def _pause(self, seconds: float) -> None:
        """Until the time has passed or somebody wakes us."""
        wake = asyncio.ensure_future(self._wake.wait())
        slept = asyncio.ensure_future(self._sleep(seconds))
        try:
            await asyncio.wait({wake, slept}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wake.cancel()
            slept.cancel()

    async def _deliver(self, delivery: Delivery) -> None:
        sender = self._senders.get(delivery.kind)
        if sender is None:
            await self._tell(self._outcome(delivery, Permanent(f"nothing here sends by {delivery.kind}")))
            return
        try:
            answer = await sender.send(delivery)
        except Exception as error:  # a sender's mistake: it may have handed the message over before
            answer = Unknown(f"the sender failed: {type(error).__name__}")
        await self._tell(self._outcome(delivery, answer))

    def _outcome(self, delivery: Delivery, answer: Answer) -> EffectOutcome:
        name, attempts = delivery.delivery_id, delivery.attempts + 1
        match answer:
            case Sent():
                return EffectOutcome(delivery_id=name, outcome="sent")
            case Permanent(reason):
                return EffectOutcome(delivery_id=name, outcome="failed", reason=reason)
            case Dropped(reason):
                return EffectOutcome(delivery_id=name, outcome="dropped", reason=reason)
            case Unknown(reason):
                return EffectOutcome(delivery_id=name, outcome="in_doubt", reason=reason)
            case Transient(reason) if attempts >= ATTEMPTS:
                message = f"given up after {attempts} attempts: {reason}"
                return EffectOutcome(delivery_id=name, outcome="failed", reason=message)
            case Transient(reason):
                retry_at_us = self._now_us() + pause_us(attempts)
                heapq.heappush(self._retries_us, retry_at_us)
                self._wake.set()
                return EffectOutcome(delivery_id=name, outcome="attempted", reason=reason, retry_at_us=retry_at_us)
            case _:
                assert_never(answer)

    async def _tell(self, outcome: EffectOutcome) -> None:
        """Report an outcome, however long that takes: one that is lost leaves the delivery in doubt."""
        while True:
            try:
                await asyncio.to_thread(self._report, outcome)
                return
            except Busy as busy:
                await self._sleep(busy.retry_after_s)
            except BackstoryError as error:
                self.trouble = f"cannot record what was sent: {error}"
                await self._sleep(TROUBLE_PAUSE_S)
