"""One person's events and writes in the tail are the same wherever they are: in memory, written, indexed, packed."""

import sqlite3

import msgspec
import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from backstory.core.event import Event
from backstory.store.schema import TABLES
from backstory.store.tail import Tail
from backstory.store.tail_index import Block
from backstory.store.write_block import SEQ_STEP, table_of_writes, writes

WRITE_STEPS = ("add", "add", "add", "pack", "flush", "index", "restart", "let go", "drop", "drop some")
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
                tail.forget_taken(1)
                assert taken == [event.seq for event in kept if event.person == 1]
                kept = [event for event in kept if event.person != 1]
            case _:
                tail.flush()
                tail.let_go("event", seq // 2)
                tail.forget_left("event", seq // 2)
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
        assert tail.sizes["event"] == len(kept)


@given(steps=st.lists(st.sampled_from(WRITE_STEPS), max_size=25))
def test_every_write_of_a_person_is_found_once(steps: list[str]) -> None:
    """Those that came one by one and those that an import packed, by the loop and by another reader of the table."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(TABLES)
    tail, seq = Tail(db), 0
    # (seq, person), those of blocks apart.
    rows, packed = list[tuple[int, int]](), list[tuple[int, int]]()
    for step in steps:
        match step:
            case "add":
                seq += SEQ_STEP
                rows.append((seq, seq // SEQ_STEP % 2))
                tail.add_write(seq, seq // SEQ_STEP % 2, seq, seq, "{}")
            case "pack":
                people = np.array([0, 1, 2], np.uint32)
                first, seq = seq + SEQ_STEP, seq + 3 * SEQ_STEP
                times_us = first + SEQ_STEP * np.arange(3, dtype=np.int64)
                body = writes(people, times_us, pa.array(["{}"] * 3), None, created=False)
                tail.add_body(body, seq=first, accept_us=first, import_id=1, packed=True)
                packed += zip(times_us.tolist(), people.tolist(), strict=True)
            case "flush":
                tail.flush()
            case "index":
                tail.index()
            case "restart":
                tail.flush()
                tail = Tail(db)
            case "let go":
                tail.flush()
                tail.let_go("write", seq // 2)
                tail.forget_left("write", seq // 2)
                rows = [row for row in rows if row[0] > seq // 2]
            case _:
                some = 2 if step == "drop some" else None
                # Blocks that tell of somebody who goes become rows.
                if any(person == 1 for _, person in packed):
                    rows, packed = rows + packed, []
                mine = [row for row in rows if row[1] == 1]
                assert tail.drop_writes(1, some) == len(mine[:some])
                left = {row[0] for row in tail.write_rows(1)}
                assert len(left) == len(mine) - len(mine[:some])
                rows = [row for row in rows if row[1] != 1 or row[0] in left]
        for person in (0, 1, 2):
            expected = sorted(row[0] for row in rows + packed if row[1] == person)
            assert sorted(row[0] for row in tail.write_rows(person)) == expected
            assert sorted(row[1] for row in tail.people_writes([person])) == expected
            assert sorted(row[1] for row in tail.people_writes([person, 7, 8, 9])) == expected
            table = table_of_writes(db, (person,), tail.write_seqs(person))
            seen = db.execute(f"SELECT seq FROM {table} WHERE person = ?", (person,)).fetchall()
            assert sorted(row[0] for row in seen) == expected
        assert tail.sizes["write"] == len(rows)
