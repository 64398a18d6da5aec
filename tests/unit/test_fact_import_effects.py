"""What imports of objects, relationships and members start, promise and leave to be seen."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backstory.core.condition import Json
from backstory.core.fact import ChangeMembers, DeleteObject, Identifier, IdentifyObject, ObjectKey, PutCampaign, Relate
from backstory.engine.backfill import backfill
from backstory.engine.file.options import BackfillOptions, Policy
from backstory.engine.preview import preview
from backstory.engine.preview.preview_view import Preview
from backstory.engine.preview.rehearsal import rehearse
from backstory.engine.undo import undo, undo_purge
from tests.live import NOW_US, Live
from tests.model.imported import Row, json_lines

NOW_S = NOW_US // 1_000_000
DAY_S = 86_400
OF_PRO: Json = {"attribute": {"field": "relationship.plan", "operator": "eq", "value": "pro"}}
PRO: Json = {"relationship": {"object_type_id": 1, "where": OF_PRO}}
SEATS: list[Row] = [
    {"object_id": "acme", "customer_id": "ann", "plan": "pro", "_timestamp": NOW_S - 60},
    {"object_id": "acme", "customer_id": "bob", "plan": "pro", "_timestamp": NOW_S - 90 * DAY_S},
    {"object_id": "acme", "customer_id": "cid", "plan": "free", "_timestamp": NOW_S - 60},
]
MEMBERS: list[Row] = [{"id": "ann"}, {"id": "bob"}]


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    world = Live(tmp_path / "world")
    world.identify("ann", NOW_US - 365 * DAY_S * 1_000_000)
    world.identify("bob", NOW_US - 365 * DAY_S * 1_000_000)
    world.identify("cid", NOW_US - 365 * DAY_S * 1_000_000)
    assert world.segment(None) == 1
    assert world.segment(PRO) == 2
    assert world.segment({"segment": {"id": 1}}) == 3
    yield world
    world.close()


def campaign(
    live: Live,
    segment_id: int,
    steps: list[Json] | None = None,
    *,
    transition: str = "entered",
    frequency: str = "once",
) -> int:
    definition = {
        "name": "some",
        "trigger": {"segment": {"id": segment_id, "transition": transition}},
        "frequency": {"mode": frequency},
        "steps": steps or [{"type": "delay", "seconds": DAY_S}],
        "state": "running",
    }
    (receipt,) = live.send(PutCampaign(definition=msgspec.json.encode(definition)))
    assert receipt.subject is not None, receipt
    return receipt.subject


def options(live: Live, kind: Any, rows: list[Row], **more: Any) -> BackfillOptions:
    path = live.path.parent / f"rows-{len(list(live.path.parent.iterdir()))}.jsonl"
    path.write_bytes(json_lines(rows))
    return BackfillOptions(kind=kind, paths=(str(path),), segment_id=1 if kind == "members" else None, **more)


def load(live: Live, kind: Any, rows: list[Row], **more: Any) -> Any:
    return backfill.run(live.workspace, options(live, kind, rows, **more), lambda progress: None)


def journeys(live: Live, campaign_id: int) -> set[str]:
    rows = live.workspace.folder.state.rows(
        "SELECT id FROM journey JOIN person USING (person) WHERE campaign_id = ?", (campaign_id,)
    )
    return {row[0] for row in rows}


def foreseen(live: Live, asked: BackfillOptions) -> Preview:
    return preview.preview(live.workspace, asked, lambda progress: None, rehearse=rehearse)


@pytest.mark.parametrize(
    ("policy", "started", "held"),
    [("recent", {"ann"}, 1), ("none", set[str](), 2), ("all", {"ann", "bob"}, 0)],
)
def test_relationships_start_what_the_policy_lets_them_start(
    live: Live, policy: Policy, started: set[str], held: int
) -> None:
    """By the age of each, judged once at the end; what is held back is counted, and the preview says all of it."""
    number = campaign(live, 2)
    asked = options(live, "relationships", SEATS, triggers=policy)
    said = foreseen(live, asked)
    assert journeys(live, number) == set()
    done = backfill.run(live.workspace, asked, lambda progress: None)
    assert journeys(live, number) == started
    assert done.held_back.segment == held == said.held_back.segment
    assert live.members(2) == {"ann", "bob"}
    assert {(one.policy, one.journeys) for one in said.campaigns} == {("recent", 1), ("none", 0), ("all", 2)}
    assert [(one.id, one.enter) for one in said.segments if one.enter] == [(2, 2)]


def test_a_row_that_a_later_row_takes_back_starts_nothing(live: Live) -> None:
    """Entered and left within one file is no difference."""
    number = campaign(live, 2)
    load(live, "relationships", [SEATS[0], {**SEATS[0], "plan": "free", "_timestamp": NOW_S - 30}])
    assert journeys(live, number) == set()
    assert live.members(2) == set()


@pytest.mark.parametrize(
    ("policy", "started"), [("recent", set[str]()), ("none", set[str]()), ("all", {"ann", "bob"})]
)
def test_members_start_what_waits_for_their_segment(live: Live, policy: Policy, started: set[str]) -> None:
    """They enter the manual segment, and those that follow from it; their rows have no time, as "recent" wants it."""
    numbers = [campaign(live, 1), campaign(live, 3)]
    asked = options(live, "members", MEMBERS, triggers=policy)
    said = foreseen(live, asked)
    assert [(one.id, one.enter) for one in said.segments if one.enter] == [(1, 2), (3, 2)]
    done = backfill.run(live.workspace, asked, lambda progress: None)
    assert [journeys(live, number) for number in numbers] == [started, started]
    assert done.held_back.segment + done.journeys_started == 4
    assert {(one.policy, one.journeys) for one in said.campaigns} == {("recent", 0), ("none", 0), ("all", 2)}
    assert live.members(1) == live.members(3) == {"ann", "bob"}


def test_taking_back_ends_the_journeys_and_says_what_went(live: Live) -> None:
    """The counts name writes and entries; what calls said beside the import stays."""
    number = campaign(live, 1)
    load(live, "members", MEMBERS, triggers="all")
    live.send(ChangeMembers(segment_id=1, people=(Identifier("id", "bob"),), add=True))
    done = undo.undo(live.workspace, 1)
    assert (done.members, done.records, done.journeys_ended) == (2, 0, 2)
    assert live.members(1) == live.members(3) == {"bob"}
    assert journeys(live, number) == {"ann", "bob"}
    assert undo.redo(live.workspace, 1).members == 2
    assert live.members(1) == live.members(3) == {"ann", "bob"}


def test_who_is_taken_out_meanwhile_stays_out(live: Live) -> None:
    """A call that took somebody out who was not there counts when the import comes back."""
    load(live, "members", MEMBERS)
    undo.undo(live.workspace, 1)
    live.send(ChangeMembers(segment_id=1, people=(Identifier("id", "ann"),), add=False))
    undo.redo(live.workspace, 1)
    assert live.members(1) == {"bob"}


def test_which_import_brought_what_is_shown(live: Live) -> None:
    """At the object, each of its values, the relationship and in the log; not where a call said it too."""
    load(live, "objects", [{"object_id": "acme", "plan": "pro", "seats": 3, "_timestamp": NOW_S - 5}])
    load(live, "relationships", SEATS)
    live.send(IdentifyObject(object=ObjectKey(1, "acme"), attributes=b'{"plan":"free"}', time_us=NOW_US))
    reader = live.workspace.reader
    thing = reader.object(ObjectKey(1, "acme"))
    assert (thing.import_id, thing.imports) == (0, {"seats": 1})
    found = reader.relationships("id", "ann", start="", limit=5)
    assert found is not None
    ((relation,), _) = found
    assert (relation.import_id, relation.imports) == (2, {"plan": 2})
    live.send(Relate(object=ObjectKey(1, "acme"), person=Identifier("id", "ann"), attributes=b"{}", time_us=NOW_US))
    found = reader.relationships("id", "ann", start="", limit=5)
    assert found is not None
    assert (found[0][0].import_id, found[0][0].imports) == (0, {"plan": 2})
    assert log(live, "ann") == [("add_relationship", 2)]


def log(live: Live, name: str | None) -> list[tuple[str, int]]:
    entries, _ = live.workspace.reader.activities(
        None if name is None else "id", name, types=None, name=None, deleted=False, before="", limit=50, everything=True
    )
    return [(one.type, one.import_id) for one in entries if "relationship" in one.type or "object" in one.type]


def test_the_log_does_not_show_what_was_taken_back(live: Live) -> None:
    """It shows it again when the import comes back, and never more once it is purged."""
    load(live, "relationships", SEATS)
    shown = log(live, None)
    assert shown
    undo.undo(live.workspace, 1)
    assert log(live, None) == []
    undo.redo(live.workspace, 1)
    assert log(live, None) == shown
    undo.undo(live.workspace, 1)
    undo_purge.purge(live.workspace, 1)
    tables = ("object", "object_type", "record_write", "retracted_write", "relationship")
    assert [live.workspace.folder.state.rows(f"SELECT count(*) FROM {name}") for name in tables] == [[(0,)]] * 5
    assert live.workspace.folder.state.rows("SELECT count(*) FROM activity WHERE import_id > 0") == [(0,)]


def test_an_object_deleted_meanwhile_does_not_come_back(live: Live) -> None:
    """A deletion holds, though the object had gone with the import."""
    load(live, "relationships", SEATS)
    undo.undo(live.workspace, 1)
    (receipt,) = live.send(DeleteObject(object=ObjectKey(1, "acme")))
    assert receipt.result == "applied"
    undo.redo(live.workspace, 1)
    assert live.workspace.reader.object_types() == []
    assert live.members(2) == set()


def test_only_the_rows_sent_again_are_mended_and_go_with_the_rest(live: Live, tmp_path: Path) -> None:
    """Mended rows are of the same import: its undo takes them back."""
    from backstory.engine.backfill import mend

    done = load(live, "relationships", [SEATS[0], {**SEATS[1], "object_id": ""}])
    assert (done.created, done.errors) == (1, 1)
    fixed = tmp_path / "fixed.jsonl"
    fixed.write_bytes(json_lines([{**SEATS[1], "line": 2}]))
    again = mend.retry(live.workspace, done.import_id, fixed, lambda progress: None)
    assert (again.created, again.mended) == (2, 1)
    assert live.members(2) == {"ann", "bob"}
    assert undo.undo(live.workspace, 1).records > 2
    assert live.members(2) == set()


def known(live: Live, segment_id: int, known_at_us: int) -> int:
    """How many were in at the present moment, by what was known at another one."""
    return live.workspace.reader.member_count(segment_id, NOW_US + 30_000_000, known_at_us)


@pytest.mark.parametrize(("kind", "rows", "segment_id"), [("relationships", SEATS, 2), ("members", MEMBERS, 1)])
def test_what_an_import_said_is_known_at_the_moments_at_which_it_counted(
    live: Live, kind: Any, rows: list[Row], segment_id: int
) -> None:
    """From its rows' acceptance until it is taken back, and again from when it is brought in again."""
    moments_us: list[int] = []
    number = 0
    for step in ("before", "counting", "taken back", "counting again"):
        live.advance(1_000_000)
        match step:
            case "counting":
                number = load(live, kind, rows).import_id
            case "taken back":
                undo.undo(live.workspace, number)
            case "counting again":
                undo.redo(live.workspace, number)
            case _:
                pass
        moments_us.append(live.workspace.folder.state.now_us)
        expected = [0, 2, 0, 2][: len(moments_us)]
        assert [known(live, segment_id, one_us) for one_us in moments_us] == expected
        if kind == "members":
            assert [known(live, 3, one_us) for one_us in moments_us] == expected
