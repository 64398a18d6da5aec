"""Turns: imports of a workspace side by side, a chunk of one after a chunk of the other; and work that is done alone.

Each import has its own place, reports and spool. Only making a chunk ready against the state and committing it needs
that no other import commits in between. Whoever waits longest has the next turn.
"""

import threading
from collections import deque
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager

from backstory.core.limit import IMPORTS_AT_ONCE


class Place:
    """The place of a run among those that run at once."""

    def __init__(self, turns: "Turns", key: str) -> None:
        self._turns = turns
        self._key = key

    def left(self) -> AbstractContextManager[None]:
        """The place is another's meanwhile, as of a run that is paused; behind it the run waits for one again.

        Not so when something was raised: the run is over then.
        """
        return self._turns.left(self._key)


class Turns:
    """Safe to use from any thread but the loop's."""

    def __init__(self, still: threading.Lock) -> None:
        """``still`` is held while anybody is at work: rows of the tail stay where they are."""
        self._still = still
        self._changed = threading.Condition()
        self._running: list[str] = []
        # Runs that are paused: each is still the one run of its import, and holds up no other.
        self._paused: set[str] = set()
        # Who wants a place: the import, and whether it had one before it was paused.
        self._wanting: deque[tuple[object, str, bool]] = deque()
        self._waiting: deque[object] = deque()
        self._alone = False
        self._alone_wanted = 0

    @property
    def busy(self) -> bool:
        """Does an import run, or something that has to be alone?"""
        return self._alone or bool(self._running)

    @contextmanager
    def importing(self, key: str) -> Generator[Place]:
        """An import runs. At most so many do, the same one (by ``key``) not twice; the oldest that may is next."""
        with self._changed:
            self._take_place(key, returns=False)
        try:
            yield Place(self, key)
        finally:
            with self._changed:
                self._paused.discard(key)
                if key in self._running:
                    self._running.remove(key)
                    self._end()
                self._changed.notify_all()

    @contextmanager
    def left(self, key: str) -> Generator[None]:
        """See ``Place.left``."""
        with self._changed:
            self._running.remove(key)
            self._paused.add(key)
            self._end()
        yield
        with self._changed:
            self._take_place(key, returns=True)
            self._paused.discard(key)

    def _take_place(self, key: str, *, returns: bool) -> None:
        ticket = (object(), key, returns)
        self._wanting.append(ticket)
        try:
            self._changed.wait_for(lambda: self._may_begin(ticket))
            self._begin()
            self._running.append(key)
        finally:
            self._wanting.remove(ticket)
            self._changed.notify_all()

    def _may_begin(self, ticket: tuple[object, str, bool]) -> bool:
        if len(self._running) >= IMPORTS_AT_ONCE.value or self._alone or self._alone_wanted:
            return False
        # Whoever waits for the end of the same import holds up nobody else.
        return next((one for one in self._wanting if self._is_free(one)), None) is ticket

    def _is_free(self, ticket: tuple[object, str, bool]) -> bool:
        _, key, returns = ticket
        return key not in self._running and (returns or key not in self._paused)

    @contextmanager
    def chunk(self) -> Generator[None]:
        """One chunk is made ready and committed."""
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            self._changed.wait_for(lambda: self._waiting[0] is ticket)
        try:
            yield
        finally:
            with self._changed:
                self._waiting.popleft()
                self._changed.notify_all()

    @contextmanager
    def alone(self, timeout_s: float | None = None) -> Generator[bool]:
        """No import runs meanwhile, and none begins; False when one still does after so long."""
        with self._changed:
            self._alone_wanted += 1
            try:
                found = self._changed.wait_for(lambda: not self.busy, timeout_s)
                if found:
                    self._begin()
                    self._alone = True
            finally:
                self._alone_wanted -= 1
                self._changed.notify_all()
        try:
            yield found
        finally:
            if found:
                with self._changed:
                    self._alone = False
                    self._end()

    def _begin(self) -> None:
        if not self.busy:
            self._still.acquire()

    def _end(self) -> None:
        if not self.busy:
            self._still.release()
        self._changed.notify_all()
