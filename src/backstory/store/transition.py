"""Transitions as the state keeps them: a row each where a fact or the clock moved somebody, blocks where many moved.

A block names people as a roaring bitmap. Those of a build tell in their order since when they are in the segment, or
out of it; those of an import do not, as that is read from their history when somebody asks.
"""

import heapq
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from backstory.core.column import PAGE_BITS

BLOCK_COLUMNS = "seq, segment_id, entered, at_us, people, effective_us, import_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """People whom a build moved at once, ``effective_us`` None until it is looked up; or an import, coming or going."""

    seq: int
    segment_id: int
    entered: bool
    at_us: int
    people: BitMap
    effective_us: NDArray[np.int64] | None
    import_id: int | None = None


def pages_of(people: BitMap) -> list[BitMap]:
    """Cut into pieces that are written and looked up one at a time."""
    pages: list[BitMap] = []
    ahead = BitMap(people)
    while ahead:
        number = ahead.min() >> PAGE_BITS
        page = BitMap(ahead)
        page.remove_range((number + 1) << PAGE_BITS, 1 << 32)
        pages.append(page)
        ahead.remove_range(0, (number + 1) << PAGE_BITS)
    return pages


def put_block(
    db: sqlite3.Connection,
    seq: int,
    segment_id: int,
    entered: bool,
    at_us: int,
    people: BitMap,
    import_id: int | None = None,
) -> None:
    """Inside a transaction."""
    db.execute(
        "INSERT INTO transition_block VALUES (?, ?, ?, ?, ?, NULL, ?)",
        (seq, segment_id, entered, at_us, people.serialize(), import_id),
    )


def set_effective(db: sqlite3.Connection, seq: int, effective_us: NDArray[np.int64]) -> None:
    """Inside a transaction: since when the people of a block are where they are."""
    db.execute("UPDATE transition_block SET effective_us = ? WHERE seq = ?", (effective_us.tobytes(), seq))


def drop_from_blocks(db: sqlite3.Connection, people: BitMap) -> None:
    """Inside a transaction: none of these was moved by any build."""
    held = [
        seq
        for seq, moved in db.execute("SELECT seq, people FROM transition_block")
        if BitMap.deserialize(moved).intersect(people)
    ]
    for seq in held:
        query = f"SELECT {BLOCK_COLUMNS} FROM transition_block WHERE seq = ?"
        block = _block(db.execute(query, (seq,)).fetchone())
        effective_us = block.effective_us
        gone = block.people & people
        if effective_us is not None:
            effective_us = np.delete(effective_us, [block.people.rank(person) - 1 for person in gone])
        left = block.people - gone
        db.execute(
            "UPDATE transition_block SET people = ?, effective_us = ? WHERE seq = ?",
            (left.serialize(), None if effective_us is None else effective_us.tobytes(), seq),
        )


def open_blocks(db: sqlite3.Connection) -> list[Block]:
    """The blocks that are still to be looked up."""
    rows = db.execute(
        f"SELECT {BLOCK_COLUMNS} FROM transition_block WHERE effective_us IS NULL AND import_id IS NULL"
        " ORDER BY seq"
    )
    return [_block(row) for row in rows]


def blocks_of(db: sqlite3.Connection, segment_id: int, before_seq: int) -> Iterator[Block]:
    """A segment's blocks up to a seq, newest first, each read when it is asked for."""
    rows = db.execute(
        f"SELECT {BLOCK_COLUMNS} FROM transition_block WHERE segment_id = ? AND seq <= ? ORDER BY seq DESC",
        (segment_id, before_seq),
    )
    return map(_block, rows)


def rows_of(
    db: sqlite3.Connection, segment_id: int, before_seq: int, limit: int
) -> list[tuple[int, int, bool, int, int]]:
    """(seq, person, entered, effective, at) of a segment before a seq, newest first."""
    rows = db.execute(
        "SELECT seq, person, entered, effective_us, at_us FROM transition WHERE segment_id = ? AND seq < ?"
        " ORDER BY seq DESC LIMIT ?",
        (segment_id, before_seq, limit),
    )
    return [(row[0], row[1], bool(row[2]), row[3], row[4]) for row in rows]


def logged_members(db: sqlite3.Connection, segment_id: int) -> BitMap:
    """Who is in a segment by the log alone: all that was ever noted, one after the other."""
    rows = db.execute("SELECT seq, person, entered FROM transition WHERE segment_id = ? ORDER BY seq", (segment_id,))
    blocks = db.execute(
        "SELECT seq, people, entered FROM transition_block WHERE segment_id = ? ORDER BY seq", (segment_id,)
    )
    members = BitMap()
    for _, moved, entered in heapq.merge(rows, blocks, key=lambda row: row[0]):
        if isinstance(moved, int):
            (members.add if entered else members.discard)(moved)
        elif entered:
            members |= BitMap.deserialize(moved)
        else:
            members -= BitMap.deserialize(moved)
    return members


def _block(row: tuple[int, int, int, int, bytes, bytes | None, int | None]) -> Block:
    return Block(
        seq=row[0],
        segment_id=row[1],
        entered=bool(row[2]),
        at_us=row[3],
        people=BitMap.deserialize(row[4]),
        effective_us=None if row[5] is None else np.frombuffer(row[5], np.int64),
        import_id=row[6],
    )
