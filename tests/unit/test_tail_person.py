"""One person's events in the tail are the same wherever they are at the moment: in memory, written, or indexed."""

import sqlite3

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from backstory.core.event import Event
from backstory.store.schema import TABLES
from backstory.store.tail import Tail
from backstory.store.tail_index import Block

STEPS = ("add", "add", "add", "block", "block", "flush", "index", "restart", "let go", "take")


def made(seq: int) -> Event:
    """Every third of somebody's events is a duplicate."""
    return Event(
        seq=seq, person=seq % 2, name=f"name {seq}", kind="event", time_us=seq * 10, accept_us=seq,
        data=b'{"a":%d}' % seq, event_id=None, key=seq % 5, import_id=0, duplicate=seq % 3 == 0,
    )  # fmt: skip


def block_of(events: list[Event]) -> Block:
    keys = np.array([event.key for event in events], np.int64)
    order = np.argsort(keys, kind="stable")
    return Block(
        seqs=np.array([event.seq for event in events], np.int64),
        people=np.array([event.person for event in events], np.uint32),
        keys=keys[order],
        keyed=order,
    )


def columns_of(events: list[Event]) -> list[tuple[object, ...]]:
    """Their fields up to the key, data as text."""
    texts = [msgspec.structs.astuple(event) for event in events]
    return list(zip(*[(*fields[:6], fields[6].decode(), *fields[7:9]) for fields in texts], strict=True))


@given(steps=st.lists(st.sampled_from(STEPS), max_size=25))
def test_everything_of_a_person_is_found_once(steps: list[str]) -> None:
    """Whatever was written, indexed, moved into parts, taken out or read again after a restart."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(TABLES)
    tail, kept, seq = Tail(db), list[Event](), 0
    for step in steps:
        match step:
            case "add":
                seq += 1
                kept.append(made(seq))
                tail.add_event(made(seq))
            case "block":
                events = [msgspec.structs.replace(made(seq + number), duplicate=False) for number in (1, 2, 3)]
                seq += 3
                kept += events
                tail.add_block(columns_of(events), block_of(events))
            case "flush":
                tail.flush()
            case "index":
                tail.index()
            case "restart":
                tail.flush()
                tail = Tail(db)
            case "take":
                taken = [row[0] for row in tail.take_events(1)]
                assert taken == [event.seq for event in kept if event.person == 1]
                kept = [event for event in kept if event.person != 1]
            case _:
                tail.flush()
                tail.let_go("event", seq // 2)
                kept = [event for event in kept if event.seq > seq // 2]
        for person in (0, 1):
            expected = sorted(
                (person, event.kind, event.name, event.time_us, event.data.decode())
                for event in kept
                if event.person == person and not event.duplicate
            )
            assert sorted(tail.people_events([person])) == expected
            # Many are looked for in another way.
            assert sorted(tail.people_events([person, 7, 8, 9])) == expected
        for key in range(5):
            for person in (0, 1):
                found = sum(count for _, _, count in tail.key_counts(key, person))
                assert found == sum(event.key == key and event.person == person for event in kept)
