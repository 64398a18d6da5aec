"""Where facts and work wait for the loop: bounded, thread-safe, told apart by what they may delay."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from backstory.core.error import BackstoryError, Busy
from backstory.core.fact import Fact, Identify, IdentifyObject, PutDevice, Receipt, Relate, Track, TrackAnonymous
from backstory.core.limit import BACKLOG_BYTES, BACKLOG_FACTS

# What a fact takes beside its JSON.
FACT_BYTES = 400
# What a fact takes in a batch, about.
WIRE_BYTES = 200


@dataclass(slots=True)
class Ticket:
    """Facts on their way, and whom to tell. Callbacks run on the loop's thread and only hand over."""

    facts: list[Fact]
    on_accept: Callable[[], None] | None
    on_applied: Callable[[list[Receipt]], None] | None
    on_error: Callable[[BackstoryError], None]
    position: int = -1
    accept_us: int = 0
    size_bytes: int = 0


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
        # What facts weigh from when they are put in until they are applied.
        self._bytes = 0

    def put(self, ticket: Ticket) -> None:
        """Raises ``Busy`` when the backlog is full or the engine is closing."""
        # Events of people are many, and weighed without a call for each.
        ticket.size_bytes = sum(
            [FACT_BYTES + len(fact.data) if isinstance(fact, Track) else _weight(fact) for fact in ticket.facts]
        )
        with self._lock:
            if self.closed:
                raise Busy("the server is stopping", retry_after_s=5)
            if self._facts + self.backlog + len(ticket.facts) > BACKLOG_FACTS.value:
                raise Busy()
            if self._bytes + ticket.size_bytes > BACKLOG_BYTES.value:
                raise Busy()
            self._tickets.append(ticket)
            self._bytes += ticket.size_bytes
            self._facts += len(ticket.facts)
            if len(self._tickets) == 1:
                self._ready.notify()

    def check_room(self, wire_bytes: int) -> None:
        """Raises ``Busy`` when about so much JSON, still to be read, would be refused anyway: reading costs most."""
        facts = wire_bytes // WIRE_BYTES
        with self._lock:
            full = self._facts + self.backlog + facts > BACKLOG_FACTS.value
            if full or self._bytes + wire_bytes + facts * FACT_BYTES > BACKLOG_BYTES.value:
                raise Busy()

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

    def release(self, tickets: Sequence[Ticket]) -> None:
        """These are applied, or were refused: they weigh no more."""
        with self._lock:
            self._bytes -= sum(ticket.size_bytes for ticket in tickets)

    def close(self) -> None:
        """Take nothing more; what is there is finished."""
        with self._lock:
            self.closed = True
            self._ready.notify()


def _weight(fact: Fact) -> int:
    """About how many bytes a fact takes in memory; what is long in it is its JSON."""
    match fact:
        case Track() | TrackAnonymous():
            return FACT_BYTES + len(fact.data)
        case Identify() | IdentifyObject() | PutDevice() | Relate():
            return FACT_BYTES + len(fact.attributes)
        case _:
            return FACT_BYTES
