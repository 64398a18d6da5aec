"""Baselines: who was in the segments that campaigns wait for when an import began, as bitmaps kept until it ends.

An import's segment triggers are judged at its end, on the difference to its baseline. What other imports (or an undo)
move meanwhile is theirs: it goes into the baselines of all others in the transaction that moves it, so that each move
is judged once, under the policy of the import that made it. Used by the loop's thread.
"""

import sqlite3
from collections.abc import Mapping

from pyroaring import BitMap


class Baselines:
    """Every write happens inside the loop's transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._of: dict[int, dict[int, BitMap]] = {}
        for import_id, segment_id, members in db.execute("SELECT import_id, segment_id, members FROM baseline"):
            self._of.setdefault(import_id, {})[segment_id] = BitMap.deserialize(members)

    def begin(self, import_id: int, members: Mapping[int, BitMap]) -> None:
        """An import begins: so the segments are now."""
        self.end(import_id)
        if members:
            self._of[import_id] = {segment_id: BitMap(people) for segment_id, people in members.items()}
        for segment_id in members:
            self._put(import_id, segment_id)

    def of(self, import_id: int) -> Mapping[int, BitMap]:
        """By segment, who was in it but for this import; nothing when all is judged, or nobody waits for it."""
        return self._of.get(import_id, {})

    def moved(self, source: int, segment_id: int, entered: BitMap, left: BitMap) -> None:
        """An import (0: no import) put people into a segment and took people out of it."""
        for import_id, baseline in self._of.items():
            members = baseline.get(segment_id)
            if import_id != source and members is not None and (entered or left):
                members |= entered
                members -= left
                self._put(import_id, segment_id)

    def end(self, import_id: int) -> None:
        """All that the import moved is judged."""
        if self._of.pop(import_id, None) is not None:
            self._db.execute("DELETE FROM baseline WHERE import_id = ?", (import_id,))

    def _put(self, import_id: int, segment_id: int) -> None:
        members = self._of[import_id][segment_id]
        members.run_optimize()
        self._db.execute(
            "INSERT OR REPLACE INTO baseline VALUES (?, ?, ?)", (import_id, segment_id, members.serialize())
        )
