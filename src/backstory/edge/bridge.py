"""From the engine's threads to the event loop: one wake-up for many waiting requests.

The engine calls back on its own thread, once per fact and hundreds of times per group commit. Waking the event loop
costs a system call and a fight for the interpreter lock, so callbacks only put their outcome into a queue; the first
one asks the loop to flush it, and the flush settles all futures that have gathered. Knows nothing of HTTP.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from backstory.core.error import BackstoryError
from backstory.core.fact import Fact, Receipt


class Intake(Protocol):
    """The part of a workspace that takes facts."""

    def submit(
        self,
        facts: list[Fact],
        *,
        on_accept: Callable[[], None] | None,
        on_applied: Callable[[list[Receipt]], None] | None,
        on_error: Callable[[BackstoryError], None],
    ) -> None:
        """Queue facts; raises ``Busy``. ``on_accept`` once they are durable, ``on_applied`` once reads show them."""
        ...

    def check_room(self, wire_bytes: int) -> None:
        """Raises ``Busy`` when facts of so many bytes would be refused; asked before they are read."""
        ...


class Bridge:
    """Settles futures of one event loop from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._settled: deque[tuple[Callable[[object], None], object]] = deque()
        self._due = False

    def settle(self, future: "asyncio.Future[object]", outcome: object) -> None:
        """Give ``future`` its result at the next flush; callable from any thread."""
        self.hand_over(partial(_settle, future), outcome)

    def hand_over(self, call: Callable[[object], None], outcome: object) -> None:
        """Have ``call`` called with ``outcome`` on the event loop, at the next flush; callable from any thread.

        No lock is needed: the outcome is queued before the flag is read, and the flush lowers the flag before it
        empties the queue, so a raised flag always has a flush to come that will see the outcome. Two threads that
        both see it lowered ask for one flush too many, which finds nothing.
        """
        self._settled.append((call, outcome))
        if not self._due:
            self._due = True
            try:
                self.loop.call_soon_threadsafe(self._flush)
            except RuntimeError:  # The loop is closed: nobody waits any more.
                self._settled.clear()
                self._due = False

    def _flush(self) -> None:
        self._due = False
        settled = self._settled
        try:
            while settled:
                call, outcome = settled.popleft()
                call(outcome)
        finally:
            if settled:  # One call failed; the others still wait.
                self.loop.call_soon(self._flush)


def _settle(future: "asyncio.Future[object]", outcome: object) -> None:
    if not future.done():  # Cancelled, or settled by an error already.
        future.set_result(outcome)


class Waiter:
    """One request that waits: its methods are the callbacks of ``Intake.submit``.

    ``accepted`` results in None once the facts are durable, or in the error that refused them; ``applied``, there
    only when asked for, in the receipts or that error.
    """

    __slots__ = ("_bridge", "accepted", "applied")

    def __init__(self, bridge: Bridge, *, until_applied: bool = False) -> None:
        self._bridge = bridge
        self.accepted: asyncio.Future[object] = bridge.loop.create_future()
        self.applied: asyncio.Future[object] | None = bridge.loop.create_future() if until_applied else None

    def on_accept(self) -> None:
        self._bridge.settle(self.accepted, None)

    def on_applied(self, receipts: list[Receipt]) -> None:
        assert self.applied is not None
        self._bridge.settle(self.accepted, None)
        self._bridge.settle(self.applied, receipts)

    def on_error(self, error: BackstoryError) -> None:
        self._bridge.settle(self.accepted, error)
        if self.applied is not None:
            self._bridge.settle(self.applied, error)
