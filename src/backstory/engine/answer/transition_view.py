"""The log of a segment's memberships, page by page: rows of single people and blocks of many as one list."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from backstory.core.error import RequestError
from backstory.engine.answer.view import TransitionView
from backstory.engine.segment.people_in_time import read_people
from backstory.store.people import cio_id_of
from backstory.store.transition import Block, blocks_of, rows_of

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

# What comes before all: seq, and how many of the people of the block with this seq were told already.
Cursor = tuple[int, int]
_NEWEST: Cursor = ((1 << 62) - 1, 0)
# (seq, place in the block, person, entered, effective, at, by a build, by which import)
_Move = tuple[int, int, int, bool, int | None, int, bool, int | None]


def read_cursor(text: str) -> Cursor:
    """The cursor that a page before has handed out."""
    if not text:
        return _NEWEST
    seq, _, place = text.partition("-")
    if not (seq.isdecimal() and place.isdecimal() and text.isascii()):
        raise RequestError(f"start is {text!r}; give the value of next of the page before", path="start")
    return int(seq), int(place)


def page(db: sqlite3.Connection, segment_id: int, before: Cursor, limit: int) -> tuple[list[TransitionView], str]:
    """Moves from a cursor on, newest first, and the cursor of the next page; people who are gone are left out."""
    seq, place = before
    single: Iterator[_Move] = (
        (row[0], 0, row[1], row[2], row[3], row[4], False, None) for row in rows_of(db, segment_id, seq, limit + 1)
    )
    blocks = blocks_of(db, segment_id, seq)
    built = (move for block in blocks for move in _moves(block, place if block.seq == seq else 0))
    moves: list[_Move] = []
    for move in heapq.merge(single, built, key=lambda one: (-one[0], one[1])):
        if len(moves) == limit:
            return _views(db, moves), f"{move[0]}-{move[1]}" if move[6] or move[7] else f"{move[0] + 1}-0"
        moves.append(move)
    return _views(db, moves), ""


def look_up(workspace: Workspace, segment_id: int, found: list[TransitionView]) -> None:
    """Tell since when those whom imports moved were where they were then, as it is known now; beside the loop."""
    kept = workspace.segments.segments.get(segment_id)
    moved = [one for one in found if one.import_id is not None]
    if not moved:
        return
    people = read_people(workspace.folder, workspace.segments, sorted({one.person for one in moved}))
    for one in moved:
        one.effective_us = one.at_us
        if kept is not None and kept.condition is not None and one.person in people:
            since_us, answer = people[one.person].since_us(kept.condition, one.at_us)
            # What is known by now may say otherwise: then they were moved at that moment.
            one.effective_us = since_us if answer == one.entered else one.at_us


def _moves(block: Block, start: int) -> Iterator[_Move]:
    for place in range(start, len(block.people)):
        effective_us = None if block.effective_us is None else int(block.effective_us[place])
        by_build = block.import_id is None
        person = block.people[place]
        yield block.seq, place, person, block.entered, effective_us, block.at_us, by_build, block.import_id


def _views(db: sqlite3.Connection, moves: list[_Move]) -> list[TransitionView]:
    people = sorted({move[2] for move in moves})
    named: dict[int, tuple[Any, ...]] = {}
    for low in range(0, len(people), 500):
        some = people[low : low + 500]
        marks = ", ".join("?" * len(some))
        rows = db.execute(f"SELECT person, id, email FROM person WHERE person IN ({marks})", some)
        named.update((row[0], row[1:]) for row in rows)
    return [
        TransitionView(
            person=person,
            identifiers={"id": named[person][0], "email": named[person][1], "cio_id": cio_id_of(person)},
            entered=entered,
            effective_us=effective_us,
            at_us=at_us,
            by_build=by_build,
            import_id=import_id,
        )
        for _, _, person, entered, effective_us, at_us, by_build, import_id in moves
        if person in named
    ]
