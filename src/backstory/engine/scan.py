"""Scans: the events a leaf has to be told about, read from history beside the loop, and how it is told."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pyroaring import BitMap

from backstory.core.column import PAGE_ROWS, People
from backstory.core.comparison import where_holds
from backstory.core.condition import EventTest
from backstory.core.leaf import CountLeaf, WindowLeaf, member_many
from backstory.core.metric import MESSAGE
from backstory.engine.mask import where_mask
from backstory.store.folder import Folder
from backstory.store.history import Rows, runs
from backstory.store.knowledge import Knowledge
from backstory.store.ledger import MESSAGES, message_events


@dataclass(frozen=True, slots=True)
class Since:
    """What a leaf has not seen yet: facts up to this seq, with times up to ``until_us``."""

    seq: int
    until_us: int


def scan(
    folder: Folder,
    test: EventTest,
    since: Since,
    *,
    since_seq: int = 0,
    since_us: int | None = None,
    known: Knowledge | None = None,
) -> Rows:
    """The events a leaf has to be told about, where-test applied.

    Not those up to ``since_seq`` or ``since_us``; with ``known`` only what was known then.
    """
    if test.kind == MESSAGE:
        return scan_messages(folder, test, since.until_us if known is None else min(since.until_us, known.at_us))
    where = test.where
    return folder.history.events_named(
        test.kind,
        test.name,
        until_us=since.until_us,
        until_seq=since.seq,
        where=None
        if where is None
        else lambda data, times_us: where_mask(folder.duck.cursor(), where, data, times_us),
        since_seq=since_seq,
        since_us=since_us,
        known=known,
    )


def scan_messages(folder: Folder, test: EventTest, until_us: int) -> Rows:
    """What happened to messages, from the ledger, as far as it is committed."""
    found: list[tuple[int, int]] = []
    metric = f'$."{test.name}"'
    for row in folder.state.rows(f"{MESSAGES} WHERE json_extract(metrics, ?) <= ?", (metric, until_us)):
        for kind, name, time_us, data in message_events(row):
            if test.counts(kind, name) and (test.where is None or where_holds(test.where, data, time_us)):
                found.append((row[0], time_us))
    found.sort()
    people = np.array([person for person, _ in found], np.uint32)
    return Rows(people=people, times_us=np.array([time_us for _, time_us in found], np.int64), data=None)


def feed_rows(leaf: CountLeaf | WindowLeaf, rows: Rows, alive: BitMap) -> People:
    """Feed sorted events to a leaf, leaving out people who are gone; returns the people touched."""
    rows = living_rows(rows, alive)
    for page in pages_of(rows):
        feed_page(leaf, page)
    return rows.people[runs(rows.people)]


def living_rows(rows: Rows, alive: BitMap) -> Rows:
    """The rows of those who are there."""
    first = runs(rows.people)
    living = member_many(alive, rows.people[first])
    if living.all():
        return rows
    keep = np.repeat(living, np.diff(np.append(first, len(rows.people))))
    return Rows(people=rows.people[keep], times_us=rows.times_us[keep], data=None)


def pages_of(rows: Rows) -> Iterator[Rows]:
    """Sorted events cut into the rows of so many people at a time: a leaf is told of each in a moment."""
    first = runs(rows.people)
    for low in range(0, len(first), PAGE_ROWS):
        start = first[low]
        stop = first[low + PAGE_ROWS] if low + PAGE_ROWS < len(first) else len(rows.people)
        yield Rows(people=rows.people[start:stop], times_us=rows.times_us[start:stop], data=None)


def feed_page(leaf: CountLeaf | WindowLeaf, rows: Rows) -> None:
    """Feed the sorted events of people who are all there."""
    first = runs(rows.people)
    leaf.add_many(rows.people[first], first, rows.times_us)
