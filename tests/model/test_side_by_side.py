"""Two imports at a time, in turn chunk by chunk: they end as one after the other does, killed in between or not."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backstory.core.condition import Json
from backstory.core.error import BackstoryError
from backstory.core.limit import IMPORTS_AT_ONCE
from backstory.core.time import SECOND_US
from backstory.engine.backfill import backfill
from backstory.engine.backfill.import_job import Chunking
from backstory.engine.backfill.import_turn import Turns
from backstory.engine.file.options import BackfillOptions, Progress, Summary
from tests.hunt import examples
from tests.live import Live
from tests.model.imported import Row, bring_in, json_lines, state, written
from tests.model.strategy import NOW_S, NOW_US
from tests.model.test_backfill import chunkings, start_campaign
from tests.model.test_undo import events, people, worlds

WAIT_S = 30.0


class Killed(BackstoryError):
    """The process is gone."""


class Baton:
    """Lets one of some imports go on at a time, from chunk to chunk, in an order that is given; then in turn."""

    def __init__(self, order: list[int], count: int, *, kill_at: int | None = None) -> None:
        self._order = iter(order)
        self._running = set(range(count))
        self._changed = threading.Condition()
        self._kill_at = kill_at
        self._chunks = 0
        self._holder = self._next(count - 1)

    def _next(self, last: int) -> int:
        wanted = next(self._order, last + 1)
        running = sorted(self._running)
        return running[wanted % len(running)] if running else -1

    def wait(self, own: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._holder == own, WAIT_S), "nobody lets this import go on"

    def chunk(self, own: int) -> None:
        """A chunk of it is in."""
        with self._changed:
            self._chunks += 1
            if self._kill_at is not None and self._chunks >= self._kill_at:
                raise Killed("killed")
            self._holder = self._next(own)
            self._changed.notify_all()
        self.wait(own)

    def end(self, own: int) -> None:
        with self._changed:
            self._running.discard(own)
            self._holder = self._next(own)
            self._changed.notify_all()


def side_by_side(
    live: Live, asked: list[tuple[BackfillOptions, Chunking]], baton: Baton
) -> list[Summary | BaseException]:
    """Run imports at once; what became of each."""
    ends: dict[int, Summary | BaseException] = {}

    def one(number: int, options: BackfillOptions, chunking: Chunking) -> None:
        def on_progress(progress: Progress) -> None:
            baton.chunk(number)

        try:
            baton.wait(number)
            ends[number] = backfill.run(live.workspace, options, on_progress, chunking=chunking)
        except BaseException as error:
            ends[number] = error
        finally:
            baton.end(number)

    threads = [threading.Thread(target=one, args=(number, *what)) for number, what in enumerate(asked)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [ends[number] for number in range(len(asked))]


@st.composite
def files(draw: st.DrawFn) -> tuple[str, list[Row], Chunking]:
    kind = draw(st.sampled_from(("events", "people")))
    rows = draw(events() if kind == "events" else people())
    # Which of two events with one id counts is decided by who is first: that is another question.
    return kind, [{name: value for name, value in row.items() if name != "event_id"} for row in rows], draw(chunkings)


@settings(max_examples=examples(25), deadline=None)
@given(st.lists(files(), min_size=2, max_size=2), st.lists(st.integers(0, 1), max_size=12), st.integers(1, 12))
def test_imports_side_by_side_are_imports_one_after_the_other(
    sources: list[tuple[Any, list[Row], Chunking]], order: list[int], kill_at: int
) -> None:
    """People, values, events, memberships, journeys and counts, whatever the order of chunks; and killed in between."""
    with worlds(3, []) as ((serial, woven, killed), folder):
        asked = [
            (BackfillOptions(kind=kind, paths=(written(folder, f"{at}.jsonl", json_lines(rows)),)), chunking)
            for at, (kind, rows, chunking) in enumerate(sources)
        ]
        expected = [bring_in(serial, *one) for one in asked]
        found = side_by_side(woven, asked, Baton(order, 2))
        woven.workspace.loop.turn()
        assert state(woven, now_us=NOW_US) == state(serial, now_us=NOW_US)
        assert same_counts(found, expected)
        ends = side_by_side(killed, asked, Baton(order, 2, kill_at=kill_at))
        assert all(isinstance(end, Summary | Killed) for end in ends), ends
        killed.crash()
        rest = [one for one, end in zip(asked, ends, strict=True) if isinstance(end, Killed)]
        assert all(isinstance(end, Summary) for end in side_by_side(killed, rest, Baton(order[::-1], len(rest))))
        killed.workspace.loop.turn()
        assert state(killed, now_us=NOW_US) == state(serial, now_us=NOW_US)


def same_counts(found: list[Any], expected: list[Any]) -> bool:
    """Did the same come of the rows of both? Whether a row about somebody makes them depends on who was first."""
    both = [*found, *expected]
    assert all(isinstance(one, Summary) for one in both), both
    names = ("rows", "errors", "people_created")
    if not any(one.updated or one.unchanged or one.stale for one in both):
        names = (*names, "created", "updated", "unchanged", "duplicate", "skipped")
    return all(
        sum(getattr(one, name) for one in found) == sum(getattr(one, name) for one in expected) for name in names
    )


# -- what segments start ----------------------------------------------------------------------------------------------


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    live = Live(tmp_path / "w", now_us=NOW_US)
    yield live
    live.close()


SMALL = Chunking(bytes_max=1, people_rows_max=1, tell_every_s=0.0, blocks_from=0, block_rows_min=1, part_rows=2)
BOUGHT: Json = {"event": {"name": "bought"}}


def bought(live: Live, name: str, *who: str, seen: str = "", **options: Any) -> tuple[BackfillOptions, Chunking]:
    rows: list[Row] = [{"id": one, "name": "bought", "timestamp": NOW_S - 60} for one in who]
    # Somebody whom the import names, and does not move.
    rows += [{"id": seen, "name": "seen", "timestamp": NOW_S - 60}] if seen else []
    path = written(live.path.parent, name, json_lines(rows))
    return BackfillOptions(kind="events", paths=(path,), **options), SMALL


def journeys(live: Live) -> list[tuple[str, int]]:
    return live.workspace.folder.state.rows(
        "SELECT person.id, journey.import_id FROM journey JOIN person USING (person) ORDER BY 1, 2"
    )


@pytest.mark.parametrize("kill_at", [None, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("order", [[0, 1, 0, 1, 0, 1], [1, 0, 0, 0, 0, 1], [0, 1, 1, 1, 1, 0]])
def test_each_import_starts_what_it_moved_under_its_own_policy(
    live: Live, order: list[int], kill_at: int | None
) -> None:
    """Whom one import put into a segment is not told by another that ends later or earlier, and starts once."""
    segment = live.segment(BOUGHT)
    start_campaign(live, {"segment": {"id": segment, "transition": "entered"}})
    live.track("old", "bought", NOW_US - SECOND_US)
    before = journeys(live)
    asked = [
        bought(live, "a", "ann", "bob", "old", seen="cem"),
        bought(live, "b", "cem", "dan", "old", seen="ann", triggers="none"),
    ]
    ends = side_by_side(live, asked, Baton(order, 2, kill_at=kill_at))
    if kill_at is not None:
        live.crash()
        rest = [one for one, end in zip(asked, ends, strict=True) if isinstance(end, Killed)]
        side_by_side(live, rest, Baton(order, len(rest)))
    live.workspace.loop.turn()
    assert live.members(segment) == {"ann", "bob", "cem", "dan", "old"}
    started = [person for person, _ in journeys(live) if (person, 0) not in before]
    assert started == ["ann", "bob"]
    rows = live.workspace.folder.state.rows("SELECT progress FROM import")
    assert sorted(json.loads(row[0])["counts"]["held_segments"] for row in rows) == [0, 2]


# -- who may run ------------------------------------------------------------------------------------------------------


def test_so_many_imports_run_at_once_and_others_wait_in_order() -> None:
    """One past the limit waits; who has to be alone is told after its patience that somebody is at work."""
    still = threading.Lock()
    turns = Turns(still)
    begun: list[str] = []
    go = {name: threading.Event() for name in "abcd"}

    def one(name: str) -> None:
        with turns.importing(name):
            begun.append(name)
            heard.release()
            assert go[name].wait(WAIT_S)

    heard = threading.Semaphore(0)
    threads = {name: threading.Thread(target=one, args=(name,)) for name in "abcd"}
    for at, name in enumerate("abcd"):
        threads[name].start()
        if at < IMPORTS_AT_ONCE.value:
            assert heard.acquire(timeout=WAIT_S)
    assert begun == ["a", "b"]
    assert turns.busy
    assert still.locked()
    with turns.alone(0) as found:
        assert not found
    for name in "abcd":
        go[name].set()
    for thread in threads.values():
        thread.join()
    assert sorted(begun) == ["a", "b", "c", "d"]
    assert not turns.busy
    assert not still.locked()
    with turns.alone(0) as found:
        assert found
        assert still.locked()


def test_the_same_import_asked_for_twice_runs_once_at_a_time(live: Live) -> None:
    """The second waits for the first, and finds all of its rows known."""
    asked = bought(live, "a", "ann", "bob")
    with live.workspace.turns.importing("another"):
        first = bring_in(live, *asked)
    second = bring_in(live, *asked)
    assert (first.created, second.created, second.duplicate) == (2, 0, 2)
