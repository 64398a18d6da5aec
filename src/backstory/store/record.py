"""How records lie in ``state.db``, and the history of what was written to them."""

import sqlite3
from typing import Literal

from backstory.core.person import decode_document, encode_document
from backstory.core.record import Record

RecordKind = Literal["device", "object", "relationship"]
Stored = tuple[int, int, bytes]


def stored(record: Record) -> Stored:
    """The columns ``seen_us, gone_us, document``."""
    return record.seen_us, record.gone_us, encode_document(record.document)


def record_of(seen_us: int, gone_us: int, document: bytes) -> Record:
    return Record(seen_us=seen_us, gone_us=gone_us, document=decode_document(document))


class RecordWrites:
    """What was written to records, losers too: the source of every answer about another moment than now."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def add(
        self,
        seq: int,
        kind: RecordKind,
        *,
        time_us: int,
        accept_us: int,
        attributes: str | None,
        person: int | None = None,
        object: int | None = None,
        token: str | None = None,
        anonymous_id: str | None = None,
    ) -> None:
        """``attributes`` None: it ended."""
        self._db.execute(
            "INSERT INTO record_write VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (seq, kind, person, object, token, anonymous_id, time_us, accept_us, attributes),
        )

    def move(self, kind: RecordKind, secondary: int, primary: int) -> None:
        """After a merge: what one person's records of a kind were is part of the other's."""
        self._db.execute(
            "UPDATE record_write SET person = ? WHERE person = ? AND kind = ?", (primary, secondary, kind)
        )

    def claim(self, anonymous_id: str, person: int) -> None:
        self._db.execute(
            "UPDATE record_write SET person = ?, anonymous_id = NULL WHERE anonymous_id = ?", (person, anonymous_id)
        )

    def forget_person(self, person: int) -> None:
        self._db.execute("DELETE FROM record_write WHERE person = ?", (person,))
