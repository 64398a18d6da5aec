"""Imports that go and come again, case by case: what is kept, what comes back, and what is refused."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
import pytest

from backstory.core.condition import Json
from backstory.core.error import ConflictError
from backstory.core.fact import DeletePerson, Identifier, Identify, SuppressPerson, Track, UnsuppressPerson
from backstory.core.limit import LOOP_PEOPLE, LOOP_ROWS
from backstory.core.time import SECOND_US
from backstory.engine.backfill import backfill
from backstory.engine.backfill.import_job import Chunking
from backstory.engine.file.options import BackfillOptions
from backstory.engine.undo import undo, undo_purge
from backstory.store.manifest import read_files
from tests.live import NOW_US, Live
from tests.model.imported import Row, bring_in, json_lines, written
from tests.model.test_backfill import start_campaign
from tests.unit.test_fact_import_effects import campaign, journeys

THEN_S = NOW_US // SECOND_US - 5
TWICE: Json = {"event": {"name": "buy", "count": {"at_least": 2}}}
WEEK: Json = {"last_s": 7 * 86_400}
BUY: Row = {"customer_id": "ann", "name": "buy", "timestamp": THEN_S}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Live]:
    live = Live(tmp_path / "world")
    yield live
    live.close()


def load(world: Live, kind: Literal["people", "events"], *rows: Row) -> int:
    path = written(world.path.parent, f"{len(list(world.path.parent.iterdir()))}.jsonl", json_lines(list(rows)))
    return bring_in(world, BackfillOptions(kind=kind, paths=(path,))).import_id


def out(world: Live, *numbers: int) -> None:
    for number in numbers:
        undo.undo(world.workspace, number)


def back(world: Live, *numbers: int) -> None:
    for number in numbers:
        undo.redo(world.workspace, number)


def people(world: Live) -> list[tuple[str | None, str | None]]:
    return world.workspace.folder.state.rows("SELECT id, email FROM person ORDER BY person")


def named(kind: Literal["id", "email"], value: str) -> Identifier:
    return Identifier(kind, value)


def test_a_repeat_stays_a_repeat_after_files_of_keys_changed_places(world: Live) -> None:
    """A run of keys that takes the number of another one is not taken for it."""
    segment = world.segment({"event": {"name": "x", "count": {"at_least": 2}}})
    first = load(
        world, "events", {"customer_id": "ann", "name": "y", "timestamp": THEN_S, "event_id": "e2"},
        {"customer_id": "zoe", "name": "y", "timestamp": THEN_S},
    )  # fmt: skip
    second = load(world, "events", {"customer_id": "cid", "name": "y", "timestamp": THEN_S})
    assert world.track("ann", "x", event_id="e2").result == "duplicate"
    out(world, first, second)
    assert world.track("ann", "x", event_id="e2").result == "duplicate"
    assert world.members(segment) == set()


def test_files_made_ready_in_vain_are_deleted(world: Live) -> None:
    """A call repeats the import's rows between the preparation of its undo and its commit; those files go."""
    number = load(world, "events", {**BUY, "event_id": "e1"})
    assert world.track("ann", "buy", event_id="e1").result == "duplicate"
    workspace, folder = world.workspace, world.workspace.folder
    prepared: list[str] = []

    def repeat() -> None:
        made = {path.name for path in folder.parts_path.iterdir()} - set(read_files(folder.state.db))
        if not prepared and any(name.startswith("out-") for name in made):
            prepared.extend(made)
            fact = Track(person=named("id", "ann"), name="buy", event_id="e1")
            assert workspace.applier.apply(fact, folder.state.now_us).result == "duplicate"

    workspace.context.before_commit.append(repeat)
    out(world, number)
    workspace.context.before_commit.remove(repeat)
    assert prepared
    workspace.compactor.delete_unread()
    assert {path.name for path in folder.parts_path.iterdir()} == set(folder.state.read(read_files))


def test_somebody_deleted_while_their_import_is_out_stays_deleted(world: Live) -> None:
    """Whether somebody had the identifier again in between or not."""
    number = load(world, "people", {"id": "ann", "email": "ann@x.org"}, {"id": "bob"}, {"id": "cid"})
    out(world, number)
    world.identify("ann", z=1)
    assert [world.send(DeletePerson(person=named("id", one)))[0].result for one in ("ann", "bob")] == ["applied"] * 2
    back(world, number)
    assert people(world) == [("cid", None)]


def test_an_identifier_deleted_while_its_import_is_out_does_not_come_back(world: Live) -> None:
    """Somebody is there without the import; the email that it gave them was deleted as somebody else's."""
    world.identify("ann", z=1)
    number = load(world, "people", {"id": "ann", "email": "ann@x.org"})
    out(world, number)
    world.send(Identify(person=named("email", "ann@x.org"), attributes=b"{}"))
    world.send(DeletePerson(person=named("email", "ann@x.org")))
    with pytest.raises(ConflictError, match="deleted"):
        back(world, number)
    assert people(world) == [("ann", None)]


def test_whoever_is_suppressed_while_their_import_is_out_is_forgotten(world: Live) -> None:
    """What the import said of them is purged, and all that named them is blocked."""
    number = load(world, "events", {**BUY, "data": {"card": "secret"}})
    out(world, number)
    assert world.send(SuppressPerson(person=named("id", "ann")))[0].result == "applied"
    world.workspace.purger.run()
    files = (world.path / "parts").glob("*.parquet")
    assert not any("secret" in str(pq.read_table(path).to_pylist()) for path in files)
    back(world, number)
    assert people(world) == []
    assert world.track("ann", "buy").result == "suppressed"


def test_whoever_is_deleted_while_their_import_is_out_stays_deleted_for_old_files(world: Live) -> None:
    """Facts that are older than the deletion are refused, and the log shows it."""
    number = load(world, "people", {"id": "ann", "email": "Ann@x.org", "_timestamp": THEN_S})
    out(world, number)
    assert world.send(DeletePerson(person=named("email", "ann@x.org")))[0].result == "applied"
    for person in (named("id", "ann"), named("email", "ann@x.org")):
        old = Identify(person=person, attributes=b"{}", time_us=THEN_S * SECOND_US)
        assert world.send(old)[0].result == "dropped"
    load(world, "people", {"id": "ann", "plan": "pro", "_timestamp": THEN_S})
    assert people(world) == []
    entries, _ = world.workspace.reader.activities(
        "id", "ann", types="profile_delete", name=None, deleted=True, before=None, limit=5, everything=True
    )
    assert [(entry.data["id"], entry.data["email"]) for entry in entries] == [("ann", "Ann@x.org")]  # pyright: ignore[reportIndexIssue, reportOptionalSubscript, reportCallIssue, reportArgumentType]
    assert world.identify("ann").result == "applied"
    assert people(world) == [("ann", None)]


@pytest.mark.parametrize("way", [DeletePerson, SuppressPerson])
def test_an_email_lost_with_an_import_goes_with_its_person(
    world: Live, way: type[DeletePerson] | type[SuppressPerson]
) -> None:
    """Deleted, older facts under it are refused; suppressed, it is blocked, too."""
    world.identify("ann", z=1)
    number = load(world, "people", {"id": "ann", "email": "ann@x.org"})
    out(world, number)
    assert people(world) == [("ann", None)]
    world.send(way(person=named("id", "ann")))
    email = named("email", "ann@x.org")
    old = Identify(person=email, attributes=b"{}", time_us=THEN_S * SECOND_US)
    assert world.send(old)[0].result in ("dropped", "suppressed")
    found = world.send(Identify(person=email, attributes=b"{}"))[0].result
    assert found == ("suppressed" if way is SuppressPerson else "applied")


def test_an_email_that_somebody_else_has_by_now_is_left_to_them(world: Live) -> None:
    """Whoever lost it with an import is suppressed without it."""
    world.identify("ann", z=1)
    out(world, load(world, "people", {"id": "ann", "email": "ann@x.org"}))
    world.send(Identify(person=named("id", "bob"), attributes=b"{}", body_email="ann@x.org"))
    world.send(SuppressPerson(person=named("id", "ann")))
    assert people(world) == [("bob", "ann@x.org")]
    assert world.send(Identify(person=named("email", "ann@x.org"), attributes=b"{}"))[0].result == "applied"


def test_suppressing_an_id_leaves_whoever_has_it_as_email(world: Live) -> None:
    """Identifiers of different kinds are different ones, however equal."""
    number = load(world, "people", {"email": "ann@x.org"})
    out(world, number)
    world.send(SuppressPerson(person=named("id", "ann@x.org")))
    back(world, number)
    assert people(world) == [(None, "ann@x.org")]
    assert world.send(UnsuppressPerson(person=named("id", "ann@x.org")))[0].result == "applied"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_people_are_there_since_the_first_fact_that_counts(world: Live, order: tuple[int, int]) -> None:
    """In whatever order the imports before it went."""
    numbers = [load(world, "people", {"id": "ann", "plan": "one"})]
    world.advance(10 * SECOND_US)
    numbers.append(load(world, "people", {"id": "ann", "age": 1}))
    world.advance(10 * SECOND_US)
    world.identify("ann", z=1)
    out(world, *(numbers[at] for at in order))
    found = f"SELECT (created_us - {NOW_US}) / {SECOND_US} FROM person"
    assert world.workspace.folder.state.rows(found) == [(20,)]
    back(world, *(numbers[at] for at in order))
    assert world.workspace.folder.state.rows(found) == [(0,)]


@pytest.mark.parametrize("order", ["212", "122", "121"])
def test_a_row_of_two_imports_counts_with_either(world: Live, order: str) -> None:
    """Take back two, and bring one in again: its row counts, though it was a repeat when it came."""
    segment = world.segment({"event": {"name": "buy"}})
    numbers = {"1": load(world, "events", BUY), "2": load(world, "events", BUY, {**BUY, "name": "other"})}
    out(world, numbers[order[0]], numbers[order[1]])
    assert world.members(segment) == set()
    back(world, numbers[order[2]])
    assert world.members(segment) == {"ann"}


def test_of_repeats_in_one_file_the_first_comes_to_count(world: Live) -> None:
    """Not the one that happened first: it is as if what both repeated had never been there."""
    row: Row = {**BUY, "event_id": "e1"}
    first = load(world, "events", row)
    load(world, "events", {**row, "timestamp": THEN_S - 1}, {**row, "timestamp": THEN_S - 9})
    out(world, first)
    (ann,) = world.workspace.folder.state.rows("SELECT person FROM person")
    events = world.workspace.folder.history.events_of(list(ann))
    assert [time_us // SECOND_US for _, _, _, time_us, _ in events] == [THEN_S - 1]


def test_the_first_repeat_comes_to_count_whichever_way_its_line_is_read(world: Live) -> None:
    """The quick readers leave what is escaped to the strict one, whose rows come behind theirs."""
    first = load(world, "events", BUY | {"event_id": "e1"})
    lines = [json_lines([BUY | {"event_id": "e1", "data": {"n": number}}]) for number in range(4)]
    body = lines[0].replace(b"buy", b"b\\u0075y") + b"".join(lines[1:])
    path = written(world.path.parent, "again.jsonl", body)
    options = BackfillOptions(kind="events", paths=(path,))
    assert bring_in(world, options, Chunking(fast_bytes_min=0)).duplicate == len(lines)
    out(world, first)
    (event,) = world.workspace.folder.history.events_of([0])
    assert '{"n":0}' in map(str, event)



def refused(world: Live, number: int, what: str) -> None:
    """Bringing it in again says what is in the way, and changes nothing."""
    before = [*people(world), world.workspace.folder.state.rows("SELECT * FROM withdrawn")]
    with pytest.raises(ConflictError, match=what):
        back(world, number)
    assert [*people(world), world.workspace.folder.state.rows("SELECT * FROM withdrawn")] == before
    assert world.workspace.reader.import_(number).state == "retracted"


def test_an_import_whose_people_were_made_again_is_not_brought_in(world: Live) -> None:
    """Their events would count twice; the file can be run again."""
    segment = world.segment(TWICE)
    row: Row = {**BUY, "event_id": "e1"}
    number = load(world, "events", row)
    out(world, number)
    world.track("ann", "buy", THEN_S * SECOND_US, event_id="e1")
    refused(world, number, "id ann is that of another person.*backfill")
    load(world, "events", row)
    assert world.members(segment) == set()


def test_nobody_vanishes_with_an_import_that_came_between(world: Live) -> None:
    """Somebody of two imports is there as long as one of them counts."""
    first = load(world, "people", {"id": "ann", "plan": "one"})
    out(world, first)
    second = load(world, "people", {"id": "ann", "age": 3})
    refused(world, first, "id ann")
    out(world, second)
    back(world, first)
    assert people(world) == [("ann", None)]


def test_half_of_the_identifiers_taken_is_taken(world: Live) -> None:
    """Somebody else has one of two identifiers of somebody who would come back."""
    number = load(world, "people", {"id": "ann", "email": "ann@x.org"})
    out(world, number)
    world.send(Identify(person=named("email", "ann@x.org"), attributes=b"{}"))
    refused(world, number, "email ann@x.org")


def test_an_identifier_set_meanwhile_is_not_overwritten(world: Live) -> None:
    """The newer one stays."""
    world.identify("ann", plan="x")
    number = load(world, "people", {"id": "ann", "email": "old@x.org"})
    out(world, number)
    world.send(Identify(person=named("id", "ann"), body_email="new@x.org"))
    refused(world, number, "email new@x.org")
    assert people(world) == [("ann", "new@x.org")]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("way", [(0, 1), (1, 0)])
def test_two_identifiers_come_back_in_any_order(
    world: Live, order: tuple[int, int], way: tuple[int, int]
) -> None:
    """One import made somebody, another one gave them an email."""
    numbers = [load(world, "people", {"id": "ann"}), load(world, "people", {"id": "ann", "email": "ann@x.org"})]
    out(world, *(numbers[at] for at in order))
    assert people(world) == []
    back(world, numbers[way[0]])
    assert people(world) == [("ann", None if way[0] == 0 else "ann@x.org")]
    back(world, numbers[way[1]])
    assert people(world) == [("ann", "ann@x.org")]


def give(world: Live, import_id: int, email: str) -> None:
    """As an import does whose rows name people by what cannot change."""
    folder = world.workspace.folder
    folder.namings.source = import_id
    folder.people.assign(0, (named("email", email),))
    folder.namings.flush()
    folder.namings.source = 0


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("way", [(0, 1), (1, 0)])
def test_an_email_replaced_by_an_import_returns_without_it(
    world: Live, order: tuple[int, int], way: tuple[int, int]
) -> None:
    """Each import leaves what it found and what it gave."""
    world.identify("ann", z=1)
    numbers = [load(world, "people", {"id": "ann", "n": n}) for n in (1, 2)]
    emails: list[Any] = ["one@x.org", "two@x.org"]
    for number, email in zip(numbers, emails, strict=True):
        world.workspace.call(lambda: give(world, number, email))  # noqa: B023
    assert people(world) == [("ann", "two@x.org")]
    out(world, numbers[order[0]])
    assert people(world) == [("ann", emails[order[1]])]
    out(world, numbers[order[1]])
    assert people(world) == [("ann", None)]
    back(world, numbers[way[0]])
    assert people(world) == [("ann", emails[way[0]])]
    back(world, numbers[way[1]])
    assert people(world) == [("ann", "two@x.org")]


def test_somebody_who_comes_while_an_import_returns_is_in_the_way(world: Live) -> None:
    """What was brought back by then goes again."""
    number = load(world, "people", {"id": "ann", "plan": "one"}, {"id": "bob"})
    out(world, number)

    def come(step: str) -> None:
        if step == "history":
            world.identify("ann", q=1)

    with pytest.raises(ConflictError):
        undo.redo(world.workspace, number, come)
    assert people(world) == [("ann", None)]
    assert world.workspace.reader.import_(number).state == "retracted"
    assert not world.workspace.folder.faults


def test_leaves_come_into_place_for_some_people_at_a_time(world: Live) -> None:
    """Live facts that come between two turns of the loop count, whoever they are about, and each once."""
    twice, never = world.segment(TWICE), world.segment({"event": {"name": "buy", "performed": False, "within": WEEK}})
    thrice = world.segment({"event": {"name": "buy", "count": {"exactly": 3}}})
    everybody = ["ann", "bob", "cem"]
    for at, person in enumerate(everybody):
        # So many people may be in one turn: each of these is in another.
        world.workspace.folder.state.next_person = at * LOOP_PEOPLE.value
        world.identify(person, NOW_US - 30 * 86_400 * SECOND_US)
    rows: list[Row] = [{"customer_id": person, "name": "buy", "timestamp": THEN_S} for person in everybody]
    number = load(world, "events", *rows)
    for person in everybody:
        world.track(person, "buy", NOW_US - 9 * SECOND_US)
    assert (world.members(twice), world.members(never)) == (set(everybody), set())
    turns: list[str] = []

    def between(step: str) -> None:
        if step == "segments":
            turns.append(step)
            if len(turns) in (2, 5):
                for person in everybody:
                    world.track(person, "buy", NOW_US - (2 + len(turns)) * SECOND_US)

    undo.undo(world.workspace, number, between)
    # The import's event is gone, two live ones came in between: with the one before three of each.
    assert world.members(thrice) == world.members(twice) == set(everybody)
    assert world.members(never) == set()
    # Since when people are known, and each of the three leaves, in three turns: with two looks in between each.
    assert len(turns) == 1 + 4 * 2


def test_the_log_of_memberships_tells_whom_an_import_moved(world: Live) -> None:
    """In by the import, since its event; out by its undo; in again by its redo; nothing of those it did not move."""
    world.track("bob", "seen", NOW_US - SECOND_US)
    segment_id = world.segment({"event": {"name": "seen"}})
    rows: list[Row] = [
        {"customer_id": name, "name": "seen", "timestamp": NOW_US // SECOND_US - 60} for name in ("ann", "bob")
    ]
    number = load(world, "events", *rows)
    out(world, number)
    world.crash()
    back(world, number)
    log, _ = world.workspace.reader.transitions(segment_id, start="", limit=10)
    told = [(one.entered, one.effective_us, one.import_id) for one in log if one.identifiers["id"] == "ann"]
    assert [(entered, import_id) for entered, _, import_id in told] == [(True, number), (False, number), (True, number)]
    assert {since_us for entered, since_us, _ in told if entered} == {NOW_US - 60 * SECOND_US}
    assert [one.by_build for one in log if one.identifiers["id"] == "bob"] == [True]


def test_what_an_import_began_ends_some_at_a_time(world: Live) -> None:
    """LOOP_ROWS at the limit and one past it: every journey ends, each with a decision of its own that says why."""
    start_campaign(world, {"event": {"name": "buy"}})
    count = LOOP_ROWS.value + 1
    load(world, "people", *({"id": f"p{at}"} for at in range(count)))
    rows: list[Row] = [{"customer_id": f"p{at}", "name": "buy", "timestamp": THEN_S} for at in range(count)]
    number = load(world, "events", *rows)
    assert undo.undo(world.workspace, number).journeys_ended == len(rows)
    state = world.workspace.folder.state
    assert state.rows("SELECT state, count(*) FROM journey GROUP BY 1") == [("exited", len(rows))]
    told = "SELECT count(DISTINCT seq), count(DISTINCT journey_id) FROM decision WHERE decision = 'exited'"
    assert state.rows(told) == [(len(rows), len(rows))]


def test_a_purge_that_was_interrupted_is_gone_on_with(world: Live) -> None:
    """Once begun there is no way back, and nobody who went with the import is remembered in the end."""
    number = load(world, "people", {"id": "ann", "email": "ann@x.org"}, {"id": "bob"})
    out(world, number)
    remembered = "SELECT count(*) FROM withdrawn"
    assert world.workspace.folder.state.rows(remembered) == [(2,)]

    def stop(step: str) -> None:
        raise ConflictError("the power is gone")

    with pytest.raises(ConflictError):
        undo_purge.purge(world.workspace, number, stop)
    world.crash()
    with pytest.raises(ConflictError, match="purged"):
        undo.redo(world.workspace, number)
    undo.resume(world.workspace)
    undo_purge.resume(world.workspace)
    assert world.workspace.folder.state.rows(remembered) == [(0,)]
    assert world.workspace.folder.state.rows("SELECT count(*) FROM part WHERE retracted") == [(0,)]
    undo_purge.purge(world.workspace, number)


def test_a_repeat_is_known_once_whatever_has_been_taken_back_since(world: Live) -> None:
    """Of two imports that say the same one counts at each moment; a purge leaves nothing to be known."""
    once, twice = (world.segment({"event": {"name": "buy", "count": {"at_least": n}}}) for n in (1, 2))
    world.identify("ann", NOW_US - SECOND_US * 60)
    first, second = (load(world, "events", {**BUY, "amount": 1}, BUY) for _ in range(2))
    world.advance(SECOND_US)
    both_us = world.workspace.folder.state.now_us
    world.advance(SECOND_US)
    out(world, first)
    world.advance(SECOND_US)
    one_us = world.workspace.folder.state.now_us
    out(world, second)

    def known(*moments_us: int) -> list[tuple[int, int]]:
        count = world.workspace.reader.member_count
        return [(count(once, None, one), count(twice, None, one)) for one in moments_us]

    assert known(both_us, one_us, world.workspace.folder.state.now_us) == [(1, 1), (1, 1), (0, 0)]
    undo_purge.purge(world.workspace, second)
    assert known(both_us, one_us) == [(1, 1), (0, 0)]


class Stop(Exception):
    """Somebody pulls the plug."""


@pytest.mark.parametrize("crash", [False, True])
def test_whom_an_undo_moves_an_unfinished_import_does_not_start(world: Live, tmp_path: Path, *, crash: bool) -> None:
    """Also when the undo is gone on with after a crash: the log names the import that goes, and no journey begins."""
    world.identify("ann", NOW_US - 365 * 86_400 * SECOND_US)
    segment_id = world.segment({"event": {"name": "buy"}})
    number = campaign(world, segment_id, transition="left")
    first = load(world, "events", {"id": "ann", "name": "buy", "timestamp": THEN_S})
    rows: list[Row] = [{"id": "ann", "name": "view", "timestamp": THEN_S - at} for at in range(4)]
    path = tmp_path / "views.jsonl"
    path.write_bytes(json_lines(rows))
    views = BackfillOptions(kind="events", paths=(str(path),), triggers="all")
    chunking = Chunking(bytes_max=100, tell_every_s=0)

    def unplug(told: object) -> None:
        raise Stop

    def unplug_late(step: str) -> None:
        if crash and step == "people":
            raise Stop

    with pytest.raises(Stop):
        backfill.run(world.workspace, views, unplug, chunking=chunking)
    with nullcontext() if not crash else pytest.raises(Stop):
        undo.undo(world.workspace, first, unplug_late)
    if crash:
        world.crash()
        undo.resume(world.workspace)
    assert world.members(segment_id) == set()
    backfill.run(world.workspace, views, lambda told: None, chunking=chunking)
    moves, _ = world.workspace.reader.transitions(segment_id, start="", limit=9)
    assert [(one.entered, one.import_id) for one in moves] == [(False, first), (True, first)]
    assert journeys(world, number) == set()
