"""Readings of parts: who is at it, so that a file that the manifest names no more stays until nobody reads it."""

import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager

from backstory.core.error import BackstoryError


class NotWritten(BackstoryError):
    """A part is asked for that a replica names and did not write: the preview has to be done once more, with it."""


class Readings:
    """Who reads parts, and since when: a file that the manifest names no more goes when nobody can be reading it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._next = 0
        self._under_way: set[int] = set()
        self._retired: list[tuple[int, str]] = []

    @contextmanager
    def one(self) -> Generator[None]:
        with self._guard:
            number = self._next
            self._next += 1
            self._under_way.add(number)
        try:
            yield
        finally:
            with self._guard:
                self._under_way.discard(number)

    def retire(self, names: Iterable[str]) -> None:
        """Files that a synced commit has taken out of the manifest."""
        with self._guard:
            self._retired += [(self._next, name) for name in names]

    @property
    def waiting(self) -> bool:
        """Are there retired files that were not given back yet?"""
        with self._guard:
            return bool(self._retired)

    def take_unread(self) -> list[str]:
        """The retired files that no reading under way began before; each is returned once."""
        with self._guard:
            oldest = min(self._under_way, default=self._next)
            unread = [name for since, name in self._retired if since <= oldest]
            self._retired = [(since, name) for since, name in self._retired if since > oldest]
        return unread
