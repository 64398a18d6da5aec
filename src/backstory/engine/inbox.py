"""Where facts and work wait for the loop: bounded, thread-safe, told apart by what they may delay."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from backstory.core.error import BackstoryError, Busy
from backstory.core.fact import Fact, Receipt
from backstory.core.limit import BACKLOG_FACTS


@dataclass(slots=True)
class Ticket:
    """Facts on their way, and whom to tell. Callbacks run on the loop's thread and only hand over."""

    facts: list[Fact]
    on_accept: Callable[[], None] | None
    on_applied: Callable[[list[Receipt]], None] | None
    on_error: Callable[[BackstoryError], None]
    position: int = -1
    accept_us: int = 0


class Inbox:
    """Tickets not yet accepted, and pieces of work for the loop's thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ready = threading.Condition(self._lock)
        self._tickets: deque[Ticket] = deque()
        self._work: deque[Callable[[], None]] = deque()
        self._facts = 0
        self.closed = False
        # Accepted and not yet applied; kept by the loop, read here to refuse in time.
        self.backlog = 0

    def put(self, ticket: Ticket) -> None:
        """Raises ``Busy`` when the backlog is full or the engine is closing."""
        with self._lock:
            if self.closed:
                raise Busy("the server is stopping", retry_after_s=5)
            if self._facts + self.backlog + len(ticket.facts) > BACKLOG_FACTS.value:
                raise Busy()
            self._tickets.append(ticket)
            self._facts += len(ticket.facts)
            if len(self._tickets) == 1:
                self._ready.notify()

    def put_work(self, work: Callable[[], None]) -> None:
        """Have something run on the loop's thread, in a transaction of its own."""
        with self._lock:
            self._work.append(work)
            self._ready.notify()

    def wake(self) -> None:
        with self._lock:
            self._ready.notify()

    def take(self, timeout_s: float, facts_max: int) -> tuple[list[Ticket], list[Callable[[], None]]]:
        """What has come, waiting at most so long for it: at most about ``facts_max`` facts."""
        with self._lock:
            if not self._tickets and not self._work and timeout_s > 0 and not self.closed:
                self._ready.wait(timeout_s)
            tickets: list[Ticket] = []
            count = 0
            while self._tickets and count < facts_max:
                ticket = self._tickets.popleft()
                tickets.append(ticket)
                count += len(ticket.facts)
            self._facts -= count
            work = list(self._work)
            self._work.clear()
            return tickets, work

    def close(self) -> None:
        """Take nothing more; what is there is finished."""
        with self._lock:
            self.closed = True
            self._ready.notify()
