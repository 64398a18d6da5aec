"""The loop: the one thread that writes. It accepts, applies, lets time pass, and commits.

Each turn: append what came to the journal (one synced commit), tell the senders, apply some of the backlog and the
work that waits, fire what time has brought, commit ``state.db``. ``now`` of a fact is its accept time, and timers due
before it fire first, so that a replay of the journal ends in the same state. ``now`` never decreases.
A commit of ``state.db`` that fails stops the engine: memory would be ahead of the disk. A restart recovers.
"""

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TypeVar, cast

from backstory.core.error import BackstoryError, StorageError
from backstory.core.fact import Fact, Receipt, Track
from backstory.core.time import SECOND_US
from backstory.engine.apply.applier import Applier
from backstory.engine.clock import Clock, ClockGuard
from backstory.engine.inbox import Inbox, Ticket
from backstory.store.folder import Folder

T = TypeVar("T")
ACCEPT_FACTS = 5_000
# A step applies about so many events, or half as many facts of other kinds, which take longer each.
APPLY_FACTS = 1_024
OTHERS_WEIGH = 2
# While nobody waits to see them applied, facts gather this long (or until there are APPLY_FACTS of them) before they
# are applied: the more share a commit of the state, the less each costs. Seen from outside: "within a moment".
GATHER_US = 50_000
IDLE_S = 1.0
LINGER_FROM, LINGER_TO, LINGER_S = 6, 200, 0.002
# So long after the last facts there is time for what can wait.
QUIET_US = SECOND_US
SYNC_EVERY_US = 5 * SECOND_US
LEAVES_PER_SYNC = 8
TRIM_EVERY_US = 30 * SECOND_US
# So many facts are let go of in a turn: a minute of many callers at once would hold the loop for half a second.
TRIM_FACTS = 10_000


class Loop:
    """Owns the stores while it runs."""

    def __init__(self, folder: Folder, applier: Applier, inbox: Inbox, clock: Clock) -> None:
        self._folder = folder
        self._applier = applier
        self._inbox = inbox
        self._clock = clock
        self.guard = ClockGuard(clock)
        self._backlog: deque[Ticket] = deque()
        # Applied in the transaction under way; told once it is committed.
        self._done: deque[tuple[Ticket, list[Receipt]]] = deque()
        self._thread = threading.Thread(target=self._run, name="loop", daemon=True)
        self._last_accept_us = folder.state.now_us
        # When the oldest fact of the backlog came, by the clock that never jumps.
        self._gathering_since_us = 0
        # When facts last came, by the same clock.
        self._accepted_us = 0
        # Somebody waits until a fact of the backlog is applied.
        self._awaited = False
        self._synced_us = 0
        self._trimmed_us = 0
        # The journal may go up to one position, and is gone up to the other.
        self._trim_to = self._trimmed = folder.state.position
        self._dirty = False
        # Leaves that may still be stored before the next look at the clock.
        self._to_store = 0
        self._untrimmed = True
        self._log_to_end = False
        self.failure: BackstoryError | None = None
        # Has what is committed made durable, and ``durable`` called; beside the loop, where somebody does it there.
        self.make_durable: Callable[[], None] = self._sync

    @property
    def backlog(self) -> int:
        """How many facts are accepted and not yet applied; exact on the loop's thread."""
        return self._inbox.backlog

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    @property
    def running(self) -> bool:
        """Is the loop's thread at work?"""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Finish what was accepted, then end."""
        self._inbox.close()
        if self._thread.is_alive():
            self._thread.join()

    def store_everything(self) -> None:
        """At a clean end: store all leaves and make the state durable, so that the next start is quick."""
        self.commit(self._applier.checkpoint_all)
        self._folder.state.sync()
        self._folder.journal.trim(self._folder.state.position)

    def durable(self, position: int) -> None:
        """All commits up to a position are on disk: the journal may go up to there. From any thread."""
        self._trim_to = max(self._trim_to, position)

    def end_log(self) -> None:
        """Have the little that is left of the state's log moved into its file, soon. From any thread."""
        self._log_to_end = True

    def _sync(self) -> None:
        self._folder.state.sync()
        self.durable(self._folder.state.position)

    def replay(self) -> int:
        """Apply what the journal holds past the position applied; returns how many facts."""
        count = 0
        for entry in self._folder.journal.read_from(self._folder.state.position):
            skip = max(self._folder.state.position - entry.position, 0)
            self._last_accept_us = max(self._last_accept_us, entry.accept_us + len(entry.facts) - 1)
            facts = entry.facts[skip:]
            nows_us = range(entry.accept_us + skip, entry.accept_us + len(entry.facts))
            self.commit(lambda: self._apply_facts(facts, nows_us, None))  # noqa: B023
            count += len(facts)
        return count

    def _run(self) -> None:
        try:
            while not (self._inbox.closed and not self._backlog and self._drained()):
                self.turn(self._wait_s(), gather=True)
        except BackstoryError:
            return  # Everybody was told.

    @contextmanager
    def _stopping_on_failure(self) -> Generator[None]:
        try:
            yield
        except BackstoryError as error:
            self._fail(error)
            raise
        except BaseException as error:
            self._fail(StorageError(f"the engine stopped on a mistake of its own: {error!r}"))
            raise

    def _drained(self) -> bool:
        with self._stopping_on_failure():
            tickets, work = self._inbox.take(0, ACCEPT_FACTS)
            self._turn(tickets, work)
        return not tickets and not work and not self._backlog

    def do(self, piece: Callable[[], None]) -> None:
        """Without a thread: a piece of work as the thread would do it."""
        with self._stopping_on_failure():
            self.commit(piece)

    def turn(self, wait_s: float = 0, *, gather: bool = False) -> None:
        """One turn; waits at most so long for something to do. A failure stops the engine, and is raised.

        ``gather``: facts that nobody waits for may stay in the backlog for a moment.
        """
        with self._stopping_on_failure():
            self._take_and_turn(wait_s, gather)

    def _take_and_turn(self, wait_s: float, gather: bool) -> None:
        if self._backlog:
            wait_s = min(wait_s, GATHER_US / SECOND_US) if gather and self._may_gather() else 0
        tickets, work = self._inbox.take(wait_s, ACCEPT_FACTS)
        if LINGER_FROM <= len(tickets) < LINGER_TO and not work and not self._backlog:
            # Many callers at once: a moment's patience lets more of them share one sync and one commit.
            self._clock.pause(LINGER_S)
            more, work = self._inbox.take(0, ACCEPT_FACTS)
            tickets += more
        # What nothing came after has gathered long enough.
        self._turn(tickets, work, gather=gather and bool(tickets))

    def _may_gather(self) -> bool:
        """Is there no reason yet to apply the backlog: few facts, not long, and nobody who waits?"""
        return (
            self._inbox.backlog < APPLY_FACTS
            and self._clock.monotonic_us() - self._gathering_since_us < GATHER_US
            and not self._awaited
            and not self._inbox.closed
        )

    def _turn(self, tickets: list[Ticket], work: list[Callable[[], None]], *, gather: bool = False) -> None:
        if tickets:
            self._accept(tickets)
        if self._time_has_come() or (self._backlog and not (gather and not work and self._may_gather())):
            self.commit(self._step)
        while self._done:
            ticket, receipts = self._done.popleft()
            if ticket.on_applied is not None:
                ticket.on_applied(receipts)
        for piece in work:
            self.commit(piece)
        if self._applier.waits(self._clock.now_us()):
            self.commit(self._applier.work_some)
        self._housekeeping()

    def _wait_s(self) -> float:
        if self._to_store or self._trimmed < self._trim_to or self._applier.waits(self._clock.now_us()):
            return 0
        if self.guard.jumped():
            return IDLE_S
        next_us = self._applier.next_moment_us()
        return min(max((next_us - self._clock.now_us()) / SECOND_US, 0.0), IDLE_S)

    # -- accepting ----------------------------------------------------------------------------------------------

    def _accept(self, tickets: list[Ticket]) -> None:
        facts: list[Fact] = []
        for ticket in tickets:
            facts.extend(ticket.facts)
        # Never before what is settled already, or a replay would see another moment than was seen at first.
        accept_us = max(self.guard.now_us(), self._last_accept_us + 1, self._folder.state.now_us)
        try:
            position = self._folder.journal.append(facts, accept_us)
        except Exception as error:
            refused = error if isinstance(error, StorageError) else StorageError(f"nothing was accepted: {error!r}")
            self._inbox.release(tickets)
            for ticket in tickets:
                ticket.on_error(refused)
            if refused is not error:
                raise  # A mistake of ours: nobody knows what the journal holds now.
            return
        self._last_accept_us = accept_us + len(facts) - 1
        self._accepted_us = self._clock.monotonic_us()
        if not self._backlog:
            self._gathering_since_us = self._accepted_us
            self._awaited = False
        for ticket in tickets:
            ticket.position, ticket.accept_us = position, accept_us
            position += len(ticket.facts)
            accept_us += len(ticket.facts)
            if ticket.on_accept is not None:
                ticket.on_accept()
            if ticket.on_applied is not None:
                self._awaited = True
        self._backlog.extend(tickets)
        self._inbox.backlog += len(facts)

    # -- applying -----------------------------------------------------------------------------------------------

    def _step(self) -> None:
        facts: list[Fact] = []
        nows_us: list[int] = []
        taken: list[Ticket] = []
        weight = 0
        while self._backlog and weight < APPLY_FACTS:
            ticket = self._backlog.popleft()
            taken.append(ticket)
            events = [fact.__class__ for fact in ticket.facts].count(Track)
            weight += events + OTHERS_WEIGH * (len(ticket.facts) - events)
            facts += ticket.facts
            nows_us += range(ticket.accept_us, ticket.accept_us + len(ticket.facts))
        receipts: list[Receipt] = []
        done: list[tuple[Ticket, list[Receipt]]] = [(ticket, []) for ticket in taken]
        self._done += done
        asked = any(ticket.on_applied is not None for ticket in taken)
        with self._folder.people.gathered():
            self._apply_facts(facts, nows_us, receipts if asked else None)
        at = 0
        for ticket, own in done if asked else ():
            own += receipts[at : at + len(ticket.facts)]
            at += len(ticket.facts)
        self._inbox.backlog -= len(facts)
        self._inbox.release(taken)
        if not self._backlog and not self.guard.jumped():
            self._advance(self._clock.now_us())

    def _apply_facts(self, facts: Sequence[Fact], nows_us: Sequence[int], receipts: list[Receipt] | None) -> None:
        """Apply facts in order, each as of its own moment; many events that follow each other as bursts.

        ``receipts`` None: nobody asks for them.
        """
        bursts = self._applier.bursts
        at = end = 0
        while at < len(facts):
            end = end if at < end else bursts.end(facts, at)
            if end - at >= bursts.at_least:
                self._advance(nows_us[at])
                until = bisect_left(nows_us, self._applier.next_moment_us(), at, end)
                if until - at >= bursts.at_least:
                    self._apply_burst(cast("Sequence[Track]", facts[at:until]), nows_us[at:until], receipts)
                    at = until
                    continue
            receipt = self._apply_fact(facts[at], nows_us[at])
            if receipts is not None:
                receipts.append(receipt)
            at += 1
        self._dirty = True

    def _apply_burst(
        self, facts: Sequence[Track], nows_us: Sequence[int], receipts: list[Receipt] | None
    ) -> None:
        state = self._folder.state
        position = state.position
        left = self._applier.bursts.apply(facts, nows_us)
        apart = {at: self._apply_fact(facts[at], nows_us[at]) for at in left}
        state.position = position + len(facts)
        self._advance(nows_us[-1])
        if receipts is not None:
            some = [apart.get(at) or Receipt("applied") for at in range(len(facts))]
            for at, receipt in enumerate(some, position):
                receipt.position = at
            receipts += some

    def _apply_fact(self, fact: Fact, now_us: int) -> Receipt:
        state = self._folder.state
        self._advance(now_us)
        receipt = self._applier.apply(fact, state.now_us)
        receipt.position = state.position
        state.position += 1
        return receipt

    def _advance(self, now_us: int) -> None:
        """Time passes up to ``now_us``; it never goes back."""
        state = self._folder.state
        if now_us > state.now_us:
            if self._applier.next_moment_us() <= now_us:
                self._applier.advance(now_us)
                self._dirty = True
            self._applier.time_passed(now_us)
            state.now_us = now_us

    def _time_has_come(self) -> bool:
        return self._applier.next_moment_us() <= self._clock.now_us() and not self.guard.jumped()

    def _store_leaf(self) -> None:
        if not self._applier.checkpoint_next():
            self._to_store = 0

    # -- committing ---------------------------------------------------------------------------------------------

    def commit(self, work: Callable[[], object]) -> None:
        """Run work in one transaction of ``state.db``, then what it asked to have done after the commit."""
        db = self._folder.state.db
        try:
            db.execute("BEGIN IMMEDIATE")
            work()
            for last in self._applier.context.before_commit:
                last()
            self._folder.tail.flush()
            self._folder.namings.write_confirmed()
            self._folder.state.write_counters()
            db.execute("COMMIT")
        except BackstoryError:
            raise
        except Exception as error:
            raise StorageError(f"the state could not be written: {error!r}") from error
        after, self._applier.context.after_commit = self._applier.context.after_commit, []
        for action in after:
            action()

    def _fail(self, error: BackstoryError) -> None:
        """Stop applying; tell everybody who waits. What was accepted is in the journal."""
        self.failure = self.failure or error
        self._folder.state.give_up()
        self._inbox.close()
        tickets, _ = self._inbox.take(0, 1 << 60)
        for ticket in [*(ticket for ticket, _ in self._done), *self._backlog, *tickets]:
            ticket.on_error(StorageError(f"the engine has stopped: {error}"))

    # -- housekeeping -------------------------------------------------------------------------------------------

    def _housekeeping(self) -> None:
        """Once in a while: checkpoint leaves, sync the state, let go of journal rows past a synced commit."""
        now_us = self._clock.monotonic_us()
        if self._log_to_end:
            self._log_to_end = False
            self._folder.state.end_log()
        if self._folder.tail.wants_index(idle=now_us - self._accepted_us > QUIET_US):
            self._folder.tail.index()
        if self._dirty and now_us - self._synced_us > SYNC_EVERY_US and not self._backlog:
            self._synced_us = now_us
            self._to_store = LEAVES_PER_SYNC
            self._dirty, self._untrimmed = False, True
        if self._to_store and not self._backlog:
            # One a turn: the pages of a leaf over a million people are megabytes.
            self._to_store -= 1
            self.commit(self._store_leaf)
        if self._trimmed < self._trim_to:
            self._trimmed = min(self._trimmed + TRIM_FACTS, self._trim_to)
            self._folder.journal.trim(self._trimmed)
        elif now_us - self._trimmed_us > TRIM_EVERY_US and (self._untrimmed or self._backlog):
            # When nothing comes after, too: what lies in the journal may be of somebody who is deleted. And when the
            # backlog never ends, or the journal would grow as long as that goes on.
            self._trimmed_us, self._untrimmed = now_us, False
            self.make_durable()
