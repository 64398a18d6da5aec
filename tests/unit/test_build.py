"""Builds of segments: their states, what they log, what facts and crashes do to them, how small their steps are."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pyroaring import BitMap

from backstory.core.column import PAGE_ROWS
from backstory.core.condition import Json
from backstory.core.fact import DeletePerson, Identifier, Track
from backstory.core.membership import page_members
from backstory.core.time import DAY_US, SECOND_US
from backstory.engine.answer.view import TransitionView
from backstory.engine.backfill.import_job import Chunking
from backstory.engine.file.options import BackfillOptions
from backstory.store.people import INSERT_PERSON
from backstory.store.transition import blocks_of, drop_from_blocks
from tests.live import NOW_US, Live
from tests.model.imported import bring_in, json_lines, written
from tests.model.test_backfill import start_campaign

SEEN: Json = {"event": {"name": "seen"}}
GOLD: Json = {"attribute": {"field": "plan", "operator": "eq", "value": "gold"}}
BOTH: Json = {"and": [SEEN, GOLD]}


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    live = Live(tmp_path / "default")
    yield live
    live.close()


def log(live: Live, segment_id: int) -> list[TransitionView]:
    return live.workspace.reader.transitions(segment_id, start="", limit=1000)[0]


def told(live: Live, segment_id: int) -> list[tuple[str, bool, int | None, bool]]:
    return [(one.identifiers["id"] or "", one.entered, one.effective_us, one.by_build) for one in log(live, segment_id)]


@pytest.mark.parametrize("name", ['o"dd', "back\\slash", "two\nlines", "st*r", "$", "ü x"])
def test_an_attribute_may_have_any_name(live: Live, name: str) -> None:
    """A segment over it is built, and asked about as of a day."""
    live.identify("ann", **{name: 1})
    live.identify("bob", **{name: 2})
    segment = live.segment({"attribute": {"field": name, "operator": "gt", "value": 1}})
    assert live.members(segment) == {"bob"}
    assert live.workspace.reader.member_count(segment, as_of_us=live.now_us + SECOND_US) == 1


class Held:
    """Pieces of work for the loop that wait until they are asked for."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.pieces: list[Callable[[], None]] = []
        live.workspace.builder.run_on_loop = self.pieces.append

    def run(self, count: int = 1_000_000) -> int:
        """Run so many, or all that there are and come of them; returns how many those were."""
        done = 0
        while done < count:
            self.live.workspace.builder.work_off()
            if not self.pieces:
                break
            self.live.workspace.call(self.pieces.pop(0))
            done += 1
        return done


def test_a_build_goes_through_the_published_states(live: Live) -> None:
    """Queued, events, then attributes and membership; percent grows and is never a hundred before the end."""
    live.identify("ann", plan="gold")
    live.track("ann", "seen")
    reader, builder = live.workspace.reader, live.workspace.builder
    segment_id = live.segment(BOTH, build=False)
    assert (reader.segment(segment_id).state, reader.segment(segment_id).progress) == ("events_queued", 0)
    seen: list[tuple[str, int | None]] = []

    def watched(piece: Callable[[], None]) -> None:
        seen.append((reader.segment(segment_id).state, reader.segment(segment_id).progress))
        live.workspace.call(piece)

    builder.run_on_loop = watched
    builder.work_off()
    during = [one for one in seen if one[0] != "finished"]
    assert list(dict.fromkeys(state for state, _ in during)) == ["events", "build"]
    percents = [progress or 0 for _, progress in during]
    assert percents == sorted(percents)
    assert 0 < percents[-1] < 100
    assert (reader.segment(segment_id).state, reader.segment(segment_id).progress) == ("finished", None)


def test_a_build_without_events_waits_for_its_second_phase(live: Live) -> None:
    """Where there are no events to read, the first phase is left out."""
    segment_id = live.segment(GOLD, build=False)
    assert live.workspace.reader.segment(segment_id).state == "build_queued"


def test_a_build_logs_whom_it_moved_and_since_when(live: Live) -> None:
    """Entries have the moment from which the condition has held, and say that a build noticed it."""
    live.identify("ann", NOW_US - 5 * DAY_US, plan="gold")
    live.track("ann", "seen", NOW_US - 9 * DAY_US)
    live.track("bob", "seen", NOW_US - 2 * DAY_US)
    both, seen = live.segment(BOTH), live.segment(SEEN)
    assert told(live, both) == [("ann", True, NOW_US - 5 * DAY_US, True)]
    assert told(live, seen) == [("ann", True, NOW_US - 9 * DAY_US, True), ("bob", True, NOW_US - 2 * DAY_US, True)]
    assert all(one.at_us == live.workspace.folder.state.now_us for one in log(live, seen))
    live.track("cem", "seen")
    assert told(live, seen)[0] == ("cem", True, live.workspace.folder.state.now_us, False)


def test_bursts_go_on_while_a_build_asks_for_other_events(live: Live) -> None:
    """Only events that a segment being built asks for, over another segment too, are applied one by one."""
    for number in range(60):
        live.identify(f"p{number}")
    bought, plan = live.segment({"event": {"name": "bought"}}), live.segment(GOLD)
    live.segment({"or": [SEEN, {"segment": {"id": bought}}]}, build=False)
    live.segment(SEEN, segment_id=plan, build=False)
    bursts, now_us = live.workspace.applier.bursts, live.workspace.folder.state.now_us

    def left(name: str) -> int:
        facts = [Track(person=Identifier("id", f"p{number}"), name=name, data=b"{}") for number in range(60)]
        return len(bursts.apply(facts, [now_us] * 60))

    assert (left("left"), left("bought"), left("seen")) == (0, 60, 60)
    live.workspace.builder.work_off()
    assert (left("left"), left("bought"), left("seen")) == (0, 0, 0)


def test_an_edit_keeps_the_old_members_and_then_applies_the_difference_once(live: Live) -> None:
    """Until everything is known nobody moves; then only those who are not where they were are logged."""
    for name, plan in (("ann", "gold"), ("bob", "gold"), ("cem", "free")):
        live.identify(name, plan=plan)
    live.track("bob", "seen")
    live.track("cem", "seen")
    segment_id = live.segment(GOLD)
    before = len(log(live, segment_id))
    held = Held(live)
    live.segment(SEEN, segment_id=segment_id, build=False)
    live.track("dan", "seen")
    while live.workspace.reader.segment(segment_id).state != "finished":
        assert live.members(segment_id) == {"ann", "bob"}
        assert held.run(1) == 1
    assert live.members(segment_id) == {"bob", "cem", "dan"}
    held.run()
    new = told(live, segment_id)[: len(log(live, segment_id)) - before]
    assert sorted((name, entered) for name, entered, _, _ in new) == [("ann", False), ("cem", True), ("dan", True)]


@pytest.mark.parametrize("pieces", range(8))
def test_a_crash_in_the_middle_of_an_edit_is_gone_on_from(live: Live, pieces: int) -> None:
    """After a restart the old members are there until the build is done again, and the difference is logged once."""
    live.identify("ann", plan="gold")
    live.identify("bob", plan="gold")
    live.track("bob", "seen")
    segment_id = live.segment(GOLD)
    held = Held(live)
    live.segment(SEEN, segment_id=segment_id, build=False)
    held.run(pieces)
    finished = live.workspace.reader.segment(segment_id).state == "finished"
    live.crash_and_wait()
    assert live.members(segment_id) == ({"bob"} if finished else {"ann", "bob"})
    live.workspace.builder.work_off()
    assert live.members(segment_id) == {"bob"}
    moved = [(name, entered) for name, entered, effective_us, _ in told(live, segment_id) if effective_us is not None]
    assert sorted(moved) == [("ann", False), ("ann", True), ("bob", True)]


def test_a_segment_over_an_edited_one_follows_when_that_is_complete(live: Live) -> None:
    """It is judged anew, over its own steps, and logs its own difference."""
    live.identify("ann", plan="gold")
    live.track("bob", "seen")
    first = live.segment(GOLD)
    second = live.segment({"not": {"segment": {"id": first}}})
    assert (live.members(first), live.members(second)) == ({"ann"}, {"bob"})
    live.segment(SEEN, segment_id=first)
    assert (live.members(first), live.members(second)) == ({"bob"}, {"ann"})
    assert {(name, entered) for name, entered, _, by_build in told(live, second) if by_build} == {
        ("bob", True), ("ann", True), ("bob", False),
    }  # fmt: skip


def test_people_removed_during_a_build_stay_out(live: Live) -> None:
    """Whether they were judged already or not."""
    for name in ("ann", "bob"):
        live.track(name, "seen")
    held = Held(live)
    segment_id = live.segment(SEEN, build=False)
    while live.workspace.segments.segments[segment_id].incoming != live.workspace.segments.alive:
        assert held.run(1) == 1
    live.send(DeletePerson(person=Identifier("id", "ann")))
    held.run()
    assert live.members(segment_id) == {"bob"}


def test_no_piece_of_a_build_is_about_more_people_than_a_page(live: Live) -> None:
    """However many people there are, the loop is held for a page of them at a time."""
    people = PAGE_ROWS + 9
    state = live.workspace.folder.state

    def populate() -> None:
        rows = [(number, f"p{number}", None, None, NOW_US, NOW_US, 0, b"\x80", None) for number in range(people)]
        state.db.executemany(INSERT_PERSON, rows)
        state.next_person = people
        live.workspace.segments.alive = BitMap(range(people))

    live.workspace.call(populate)
    live.reopen()
    held = Held(live)
    missing = live.segment({"attribute": {"field": "plan", "operator": "!exists"}}, build=False)
    live.workspace.builder.work_off()
    sizes: list[int] = []
    kept = live.workspace.segments.segments[missing]
    (leaf,) = live.workspace.segments.attribute_leaves()
    while kept.building:
        before = len(leaf.true) + len(kept.incoming or ())
        assert held.run(1) == 1
        sizes.append(len(leaf.true) + len(kept.incoming or ()) - before)
    assert sorted(size for size in sizes if size > 0) == [9, 9, PAGE_ROWS, PAGE_ROWS]
    assert len(kept.members) == people
    held.run()
    assert all(one.effective_us is not None for one in log(live, missing))


def test_the_log_is_read_page_by_page(live: Live) -> None:
    """Blocks of builds and single moves are one list, whatever the size of the pages."""
    for number in range(7):
        live.track(f"p{number}", "seen")
    segment_id = live.segment({"event": {"name": "seen", "within": {"last_s": 60}}})
    live.track("late", "seen")
    live.advance(61 * SECOND_US)
    whole = log(live, segment_id)
    assert len(whole) == 16
    for limit in (1, 3, 7, 16):
        found: list[TransitionView] = []
        start = ""
        while True:
            some, start = live.workspace.reader.transitions(segment_id, start=start, limit=limit)
            found += some
            if not start:
                break
        assert found == whole


def test_who_is_purged_is_in_no_block(live: Live) -> None:
    """Nothing of them stays in what builds have logged; of the others all does."""
    for number in range(4):
        live.track(f"p{number}", "seen", NOW_US - number * DAY_US)
    segment_id = live.segment(SEEN)
    before = told(live, segment_id)
    db = live.workspace.folder.state.db
    live.workspace.call(lambda: drop_from_blocks(db, BitMap([1])))
    (block,) = blocks_of(db, segment_id, 1 << 62)
    assert list(block.people) == [0, 2, 3]
    assert told(live, segment_id) == [one for one in before if one[0] != "p1"]


TWICE: Json = {"event": {"name": "seen", "count": {"at_least": 2}}}


@pytest.mark.parametrize("crash", [False, True], ids=["on", "crash"])
@pytest.mark.parametrize("pieces", range(7))
def test_a_fact_that_moves_somebody_while_a_segment_is_built_moves_them_as_ever(
    live: Live, pieces: int, crash: bool
) -> None:
    """Logged as a change, since the fact, and starting journeys; whom it does not move the build does. Over a crash."""
    for name, times in (("ann", 1), ("bob", 2), ("cem", 2)):
        for at in range(times):
            live.track(name, "seen", NOW_US - DAY_US + at)
    held = Held(live)
    segment_id = live.segment(TWICE, build=False)
    campaign_id = start_campaign(live, {"segment": {"id": segment_id, "transition": "entered"}})
    held.run(pieces)
    finished = live.workspace.reader.segment(segment_id).state == "finished"
    live.track("ann", "seen", NOW_US - SECOND_US)
    live.track("cem", "seen", NOW_US - SECOND_US)
    if crash:
        live.crash_and_wait()
        live.workspace.builder.work_off()
    else:
        held.run()
    assert live.members(segment_id) == {"ann", "bob", "cem"}
    assert sorted((name, by_build) for name, _, _, by_build in told(live, segment_id)) == [
        ("ann", False), ("bob", True), ("cem", True)
    ]  # fmt: skip
    (since_us,) = [effective_us for name, _, effective_us, _ in told(live, segment_id) if name == "ann"]
    assert since_us == NOW_US - SECOND_US
    rows = live.workspace.folder.state.rows("SELECT count(*) FROM journey WHERE campaign_id = ?", (campaign_id,))
    assert rows == [(1,)], finished


def test_a_crash_does_not_make_what_an_import_told_the_work_of_facts(live: Live, tmp_path: Path) -> None:
    """Whom an import told something meanwhile the build moves, also when it goes on after a crash."""
    live.track("ann", "seen", NOW_US - DAY_US)
    held = Held(live)
    segment_id = live.segment(TWICE, build=False)
    held.run(1)
    path = written(tmp_path, "seen.jsonl", json_lines([{"customer_id": "ann", "name": "seen", "timestamp": 1}]))
    bring_in(live, BackfillOptions(kind="events", paths=(path,), triggers="none"), Chunking())
    live.track("bob", "seen")
    live.track("bob", "seen")
    live.crash_and_wait()
    live.workspace.builder.work_off()
    assert sorted((name, by_build) for name, _, _, by_build in told(live, segment_id)) == [
        ("ann", True), ("bob", False)
    ]  # fmt: skip
    assert live.workspace.folder.state.rows("SELECT * FROM build_told") == []


@pytest.mark.parametrize("pieces", range(12))
def test_two_segments_are_built_at_once_one_over_the_other(live: Live, pieces: int) -> None:
    """Whom facts move is looked up beside the loop, so the one below may be complete when the other is nearly so."""
    live.track("ann", "other")
    live.identify("bob", plan="free")
    held = Held(live)
    first = live.segment(SEEN, build=False)
    second = live.segment({"or": [GOLD, {"segment": {"id": first}}]}, build=False)
    held.run(pieces)
    live.track("ann", "seen")
    live.identify("bob", plan="gold")
    held.run()
    assert (live.members(first), live.members(second)) == ({"ann"}, {"ann", "bob"})


def test_a_fact_takes_somebody_out_of_an_edited_segment_at_once_or_with_its_end(live: Live) -> None:
    """Who was in by both conditions and is moved out by a fact left by that fact, not by the edit."""
    live.identify("ann", plan="gold", level=1)
    live.identify("bob", plan="gold", level=2)
    segment_id = live.segment(GOLD)
    held = Held(live)
    level: Json = {"attribute": {"field": "level", "operator": "eq", "value": 1}}
    live.segment(level, segment_id=segment_id, build=False)
    live.identify("ann", level=3)
    held.run()
    assert live.members(segment_id) == set()
    left = {name: by_build for name, entered, _, by_build in told(live, segment_id) if not entered}
    assert left == {"ann": False, "bob": True}


@pytest.mark.parametrize("count", [0, 1, 4096, 4097, PAGE_ROWS])
def test_the_members_of_a_page_are_made_at_once(count: int) -> None:
    """Dense or sparse: the bitmap of those very people."""
    people = np.sort(np.random.default_rng(count).permutation(PAGE_ROWS)[:count])
    inside = np.zeros(PAGE_ROWS, bool)
    inside[people] = True
    assert page_members(3, inside) == BitMap((people + 3 * PAGE_ROWS).tolist())
