"""Purging: how everything of people who are gone leaves the folder by a set time, as a plan without any I/O.

Deletion takes a person out of all answers at once; what history, files and free pages still hold of them follows in
the background. A purge takes many people through its stages together, so that a part is rewritten once for all of
them; it begins early enough for the set time to be kept. Each stage can be repeated, and how far somebody is stands in
the table ``purge``: after a crash the stage under way is done again.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

# A purge begins when somebody's time is nearly over, and takes along whose time is over not much later: a part is
# rewritten some ten times in the time that is set, however often people are deleted.
BEGIN_AT, TAKE_FROM = 0.9, 0.8
# From here on nobody waits for a better moment.
OVERDUE_AT = 0.98
PEOPLE_MAX = 20_000


class Stage(IntEnum):
    """What is done next for somebody who is gone."""

    WAITING = 0
    # Their rows in the tables of the state.
    ROWS = 1
    # Their rows in parts and runs of keys.
    HISTORY = 2
    # Their names in tombstones: a keyed hash stays.
    NAMES = 3
    # Traces in which other calls named them.
    TRACES = 4
    # Rows of reports on imports, and archived mail.
    FILES = 5
    # What was deleted, in databases and their logs, in the journal, and files that somebody still reads.
    BYTES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Departed:
    """Somebody gone since ``gone_us``; below zero the number of a name which nobody had."""

    number: int
    gone_us: int
    stage: Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A stage for some people, all of whom are at it; ``overdue``: the set time of one of them is over."""

    stage: Stage
    numbers: tuple[int, ...]
    overdue: bool

    @property
    def people(self) -> list[int]:
        return [number for number in self.numbers if number >= 0]


def plan(departed: Sequence[Departed], now_us: int, keep_us: int) -> Task | None:
    """What to do next, None: nothing yet. ``WAITING`` means that these people's purge is to begin."""
    begun = [one for one in departed if one.stage > Stage.WAITING]
    if begun:
        stage = min(one.stage for one in begun)
        chosen = [one for one in begun if one.stage == stage]
    elif any(_is_past(one, now_us, keep_us, BEGIN_AT) for one in departed):
        stage = Stage.WAITING
        chosen = [one for one in departed if _is_past(one, now_us, keep_us, TAKE_FROM)]
        chosen = sorted(chosen, key=lambda one: (one.gone_us, one.number))[:PEOPLE_MAX]
    else:
        return None
    return Task(
        stage=stage,
        numbers=tuple(sorted(one.number for one in chosen)),
        overdue=any(_is_past(one, now_us, keep_us, OVERDUE_AT) for one in chosen),
    )


def _is_past(one: Departed, now_us: int, keep_us: int, share: float) -> bool:
    return one.gone_us + round(keep_us * share) <= now_us


def read_departed(db: sqlite3.Connection) -> list[Departed]:
    """Everybody under way, or, where nobody is, the first of those who wait."""
    begun = db.execute("SELECT number, gone_us, stage FROM purge WHERE stage > 0").fetchall()
    rows = begun or db.execute(
        "SELECT number, gone_us, stage FROM purge WHERE stage = 0 ORDER BY gone_us, number LIMIT ?", (PEOPLE_MAX,)
    )
    return [Departed(number=row[0], gone_us=row[1], stage=Stage(row[2])) for row in rows]


def advance(db: sqlite3.Connection, numbers: Iterable[int], stage: Stage) -> None:
    """Inside a transaction: so far they are now."""
    db.executemany("UPDATE purge SET stage = ? WHERE number = ?", [(int(stage), number) for number in numbers])


def finish(db: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """Inside a transaction: nothing of them is left, but of calls that named them meanwhile."""
    db.executemany(
        "UPDATE purge SET stage = 0, gone_us = again_us, again_us = NULL WHERE number = ? AND again_us IS NOT NULL",
        [(number,) for number in numbers],
    )
    db.executemany("DELETE FROM purge WHERE number = ? AND stage > 0", [(number,) for number in numbers])
