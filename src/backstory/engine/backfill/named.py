"""Whom the rows of an import name, by which kind of identifier: told to the namings once for each person."""

import numpy as np

from backstory.core.column import People, Truth, distinct
from backstory.core.fact import IdentifierKind
from backstory.engine.backfill.event_chunk import NAMED_BY, Rows


class Named:
    """Whom the rows of an import have named so far, by each kind of identifier that they use."""

    def __init__(self) -> None:
        self._marks: dict[IdentifierKind, Truth] = {}

    def new(self, rows: Rows) -> dict[IdentifierKind, People]:
        """Whom these rows name whom no others have named yet, each once and sorted."""
        kinds = np.bincount(rows.named, minlength=len(NAMED_BY))
        every = int(kinds.max(initial=0)) == len(rows)
        found: dict[IdentifierKind, People] = {}
        for at, kind in enumerate(NAMED_BY):
            if kinds[at]:
                people = rows.people if every else rows.people[rows.named == at]
                people = people[~self._of(kind, int(people.max()))[people]]
                if len(people):
                    found[kind] = distinct(people)
        return found

    def add(self, named: dict[IdentifierKind, People]) -> None:
        """Once it is committed."""
        for kind, people in named.items():
            self._of(kind, int(people[-1]))[people] = True

    def _of(self, kind: IdentifierKind, person: int) -> Truth:
        marks = self._marks.get(kind, np.zeros(0, bool))
        if len(marks) <= person:
            marks = self._marks[kind] = np.concatenate([marks, np.zeros(person + 1 + len(marks), bool)])
        return marks
