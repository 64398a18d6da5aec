"""Scans: the events a leaf has to be told about, read from history beside the loop, and how it is told."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pyroaring import BitMap

from backstory.core.column import PAGE_ROWS, People, member_many
from backstory.core.comparison import where_holds
from backstory.core.condition import EventTest, Where
from backstory.core.leaf import CountLeaf, WindowLeaf
from backstory.core.metric import MESSAGE
from backstory.engine.segment.mask import keys_of, values_in, where_mask
from backstory.store.duck import Choice
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
    timed: bool = True,
) -> Rows:
    """The events a leaf has to be told about, where-test applied.

    Not those up to ``since_seq`` or ``since_us``; with ``known`` only what was known then. Not ``timed``: whoever asks
    does not look at their times.
    """
    if test.kind == MESSAGE:
        return scan_messages(folder, test, since.until_us if known is None else min(since.until_us, known.at_us))
    return folder.history.events_named(
        test.kind,
        test.name,
        until_us=since.until_us,
        until_seq=since.seq,
        choice=_choice(test.where),
        since_seq=since_seq,
        since_us=since_us,
        known=known,
        timed=timed,
    )


def _choice(where: Where | None) -> Choice | None:
    if where is None:
        return None
    keys = keys_of(where)
    return Choice(keys, lambda columns, times_us: where_mask(where, values_in(keys, columns), times_us))


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
    return Rows(people=people, times_us=np.array([time_us for _, time_us in found], np.int64))


def feed_rows(leaf: CountLeaf | WindowLeaf, rows: Rows, alive: BitMap | None = None) -> People:
    """Feed sorted events to a leaf, leaving out people who are not ``alive`` if told; returns the people touched."""
    if alive is not None:
        rows = living_rows(rows, alive)
    first = runs(rows.people)
    people, ends = rows.people[first], np.append(first[1:], len(rows.people))
    for low in range(0, len(first), PAGE_ROWS):
        some = slice(low, low + PAGE_ROWS)
        start, stop = first[low], ends[some][-1]
        leaf.add_many(people[some], first[some] - start, rows.times_us[start:stop])
    return people


def living_rows(rows: Rows, alive: BitMap) -> Rows:
    """The rows of those who are there."""
    first = runs(rows.people)
    living = member_many(alive, rows.people[first])
    if living.all():
        return rows
    keep = np.repeat(living, np.diff(np.append(first, len(rows.people))))
    return Rows(people=rows.people[keep], times_us=rows.times_us[keep])


def pages_of(rows: Rows) -> Iterator[Rows]:
    """Sorted events cut into the rows of so many people at a time: a leaf is told of each in a moment."""
    first = runs(rows.people)
    for low in range(0, len(first), PAGE_ROWS):
        start = first[low]
        stop = first[low + PAGE_ROWS] if low + PAGE_ROWS < len(first) else len(rows.people)
        yield Rows(people=rows.people[start:stop], times_us=rows.times_us[start:stop])


def feed_page(leaf: CountLeaf | WindowLeaf, rows: Rows) -> None:
    """Feed the sorted events of people who are all there."""
    first = runs(rows.people)
    leaf.add_many(rows.people[first], first, rows.times_us)
