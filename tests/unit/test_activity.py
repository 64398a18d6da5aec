"""Who reads somebody's history or log while others write, or while there is much of others'."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from backstory.core.error import RequestError
from backstory.core.fact import Fact, Identifier, MergePeople, SuppressPerson, Track
from backstory.engine.answer.life import read_life
from backstory.store.write_block import table_of_writes, writes
from tests.live import Live


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Live]:
    live = Live(tmp_path / "world")
    yield live
    live.close()


def number_of(world: Live, who: str) -> int:
    return world.workspace.folder.state.rows("SELECT person FROM person WHERE id = ?", (who,))[0][0]


def test_a_page_of_somebody_costs_the_same_however_much_there_is_of_others(world: Live) -> None:
    """By the steps that SQLite takes: traces stay in the tail for good, so that there may be millions."""
    world.identify("ann", plan="basic")
    world.track("ann", "bought")

    def steps() -> int:
        taken: list[None] = []

        def count() -> None:
            taken.append(None)

        state = world.workspace.folder.state
        state.read(lambda db: db.set_progress_handler(count, 10))
        page, _ = world.workspace.reader.activities(
            "id", "ann", types=None, name=None, deleted=False, before=None, limit=10, everything=True
        )
        state.read(lambda db: db.set_progress_handler(None, 0))
        assert len(page) == 3
        return len(taken)

    before = steps()
    for number in range(300):
        world.identify(f"other {number % 30}", plan=number)
        world.track(f"other {number % 30}", "bought")
    for number in range(300):
        names = [Identifier("id", f"{one} {number}") for one in ("merged", "stays")]
        for one in names:
            world.track(one.value, "bought")
        world.send(MergePeople(primary=names[1], secondary=names[0]))
    assert steps() < before + 20


@pytest.mark.parametrize(
    "fact",
    [
        MergePeople(primary=Identifier("id", "ann"), secondary=Identifier("id", "bob")),
        SuppressPerson(person=Identifier("id", "bob")),
    ],
)
def test_whoever_reads_while_somebody_goes_sees_all_of_them(world: Live, fact: Fact) -> None:
    """Before the commit of it the events of who goes are still theirs."""
    for who in ("ann", "bob"):
        world.track(who, "bought")
    workspace, bob = world.workspace, number_of(world, "bob")
    seen: list[int | None] = []

    def look() -> None:
        life = read_life(workspace.folder, bob, present_us=None)
        seen.append(None if life is None else len(life.occurrences))

    workspace.context.before_commit.append(look)
    assert world.send(fact)[0].result == "applied"
    workspace.context.before_commit.remove(look)
    assert set(seen) == {1}
    look()
    assert seen[-1] is None


def test_somebody_is_found_by_phone(world: Live) -> None:
    """Their attributes and their log."""
    phone = Identifier("phone", "+491701234567")
    world.send(Track(person=phone, name="called"))
    found = world.workspace.reader.person("phone", phone.value)
    page, _ = world.workspace.reader.activities(
        "phone", phone.value, types="event", name=None, deleted=False, before=None, limit=10, everything=True
    )
    assert found is not None
    assert [(entry.person, entry.name) for entry in page] == [(found.person, "called")]


def test_blocks_that_were_unpacked_take_no_memory_afterwards(world: Live) -> None:
    """What a reader's connection held of an import's writes goes with the question."""
    folder = world.workspace.folder
    people = np.arange(500, dtype=np.uint32)
    body = writes(people, people.astype(np.int64), pa.array(['{"plan":"pro"}'] * 500), None, created=True)
    world.workspace.call(lambda: folder.tail.add_body(body, seq=2, accept_us=1, import_id=1, packed=True))

    def rows(db: sqlite3.Connection) -> int:
        return db.execute(f"SELECT count(*) FROM {table_of_writes(db)}").fetchone()[0]

    assert [folder.state.read(rows) for _ in range(2)] == [500, 500]
    assert folder.state.rows("PRAGMA temp.page_count") == [(0,)]


@pytest.mark.parametrize("start", ["abc", "1", "1-x", "1-" + "9" * 19, "9" * 30 + "-1", "--1-2", "1- 2"])
def test_a_page_begins_where_one_before_ended(world: Live, start: str) -> None:
    """Anything else is refused, numbers that no page ends at among it."""
    for number in range(3):
        world.track("ann", f"event {number}")

    def page(before: str | None) -> tuple[list[str | None], str]:
        found, after = world.workspace.reader.activities(
            None, None, types="event", name=None, deleted=False, before=before, limit=2, everything=True
        )
        return [one.name for one in found], after

    first, after = page(None)
    assert (first, page(after)) == (["event 2", "event 1"], (["event 0"], ""))
    with pytest.raises(RequestError):
        page(start)
