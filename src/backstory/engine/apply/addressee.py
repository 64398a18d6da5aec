"""Whom a fact is about: identifiers looked up as of the fact's own time, past those who are gone.

Untimed facts, and facts later than any deletion, are about whoever has the identifier now. Source: design section 6.
"""

from backstory.core.fact import Identifier
from backstory.store.folder import Folder
from backstory.store.tombstone import Gone

SUPPRESSED = "the person is suppressed"
# Said instead of the name, of which only a hash is kept.
FORGOTTEN = "older than the deletion of a person whose name is not kept"
# Why a fact is refused, where its trace must not say whom it named.
NAMELESS = (SUPPRESSED, FORGOTTEN)


class Addressees:
    """Used on the loop's thread."""

    def __init__(self, folder: Folder) -> None:
        self._people = folder.people
        self._tombstones = folder.tombstones

    def find(self, identifier: Identifier, time_us: int | None) -> int | Gone | None:
        """Who was meant by a (normal) identifier: a person, nobody, or somebody who is gone for good."""
        if time_us is None or time_us >= self._tombstones.latest_us:
            return self._people.find(identifier)
        fate = self._tombstones.fate(identifier.kind, identifier.value, time_us)
        if fate is None:
            return self._people.find(identifier)
        if isinstance(fate, Gone) or self._people.exists(fate):
            return fate
        return Gone(time_us, hidden=self._tombstones.hidden_among(identifier.kind, (identifier.value,)))

    @property
    def latest_us(self) -> int:
        """Facts with a time from here on are about whoever has the identifier now."""
        return self._tombstones.latest_us

    def blocked(self, identifier: Identifier) -> bool:
        """Is a (normal) identifier, which nobody has, suppressed?"""
        return self._tombstones.blocking and self._tombstones.blocked(identifier.kind, identifier.value)
