"""Notes of builds under way, kept until they are complete: when it was asked for, of whom was told what since.

Whom facts have moved meanwhile is told apart from whom the build moves by these notes. They are written with what they
are about, in the transaction of the loop, so that a crash loses neither. Used by the loop's thread.
"""

import sqlite3
from dataclasses import dataclass, field

from pyroaring import BitMap


@dataclass(slots=True, kw_only=True)
class BuildNote:
    """Of the people in ``touched`` a fact told something, of those in ``imported`` an import."""

    asked_us: int
    touched: BitMap = field(default_factory=BitMap)
    imported: BitMap = field(default_factory=BitMap)


class BuildNotes:
    """By segment; every write happens inside the loop's transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        found = db.execute("SELECT segment_id, asked_us FROM build")
        self.notes = {segment_id: BuildNote(asked_us=asked_us) for segment_id, asked_us in found}
        for segment_id, imported, people in db.execute("SELECT segment_id, imported, people FROM build_told"):
            note = self.notes[segment_id]
            known = note.imported if imported else note.touched
            known |= BitMap.deserialize(people)

    def begin(self, segment_id: int, asked_us: int) -> None:
        """A build is asked for; of nobody was anything told yet."""
        self.end(segment_id)
        self.notes[segment_id] = BuildNote(asked_us=asked_us)
        self._db.execute("INSERT INTO build VALUES (?, ?)", (segment_id, asked_us))

    def told(self, segment_id: int, touched: BitMap, imported: BitMap) -> None:
        """Of these something was told up to now: who is new among them is noted."""
        note = self.notes[segment_id]
        for known, people, by_import in ((note.touched, touched, 0), (note.imported, imported, 1)):
            if len(people) == len(known):
                continue
            new = people - known
            known |= new
            self._db.execute("INSERT INTO build_told VALUES (NULL, ?, ?, ?)", (segment_id, by_import, new.serialize()))

    def end(self, segment_id: int) -> None:
        """The segment is complete, or gone."""
        if self.notes.pop(segment_id, None) is not None:
            self._db.execute("DELETE FROM build WHERE segment_id = ?", (segment_id,))
            self._db.execute("DELETE FROM build_told WHERE segment_id = ?", (segment_id,))
