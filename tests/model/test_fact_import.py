"""Objects, relationships and members from files against the same live calls; cut into steps anyhow, and killed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backstory.core.error import RequestError
from backstory.core.fact import ChangeMembers, Fact, Identifier, Identify, IdentifyObject, ObjectKey, Relate
from backstory.engine.backfill import backfill
from backstory.engine.backfill.fact_import import ROWS_PER_STEP
from backstory.engine.file.options import BackfillOptions, Stopped, Summary
from tests.hunt import examples
from tests.live import NOW_US, Live, live_worlds
from tests.model.imported import Row, csv_text, json_lines, names_of

NOW_S = NOW_US // 1_000_000
PRO = {"attribute": {"field": "plan", "operator": "eq", "value": "pro"}}
CONDITION: Any = {"relationship": {"object_type_id": 1, "where": PRO}}

object_ids = st.sampled_from(("acme", "7", "Acme"))
people = st.sampled_from(("ann", "bob", "new"))
plans = st.sampled_from(("pro", "free"))
times = st.sampled_from((NOW_S - 5, NOW_S - 100, NOW_S - 90 * 86_400))
object_rows = st.lists(
    st.fixed_dictionaries(
        {"object_id": object_ids, "_timestamp": times}, optional={"plan": plans, "seats": st.integers(0, 3)}
    ),
    max_size=8,
)
relation_rows = st.lists(
    st.fixed_dictionaries(
        {"object_id": object_ids, "customer_id": people, "_timestamp": times},
        optional={"role": plans, "object_type_id": st.just(2)},
    ),
    max_size=8,
)
member_rows = st.lists(st.fixed_dictionaries({"id": people}), max_size=6)


def call_of(kind: str, row: Row, segment_id: int) -> Fact:
    """The call that says the same."""
    if kind == "members":
        return ChangeMembers(segment_id=segment_id, people=(Identifier("id", row["id"]),), add=True)
    own = ("object_id", "object_type_id", "customer_id", "_timestamp")
    attributes = msgspec.json.encode({name: value for name, value in row.items() if name not in own})
    key = ObjectKey(row.get("object_type_id", 1), row["object_id"])
    time_us = row["_timestamp"] * 1_000_000
    if kind == "objects":
        return IdentifyObject(object=key, attributes=attributes, time_us=time_us)
    return Relate(object=key, person=Identifier("id", row["customer_id"]), attributes=attributes, time_us=time_us)


def state(live: Live) -> dict[str, Any]:
    """Objects, relationships and memberships by names."""
    folder = live.workspace.folder
    names = names_of(live.workspace)
    objects = {row[0]: row for row in folder.state.rows("SELECT object, type_id, object_id FROM object")}
    found: dict[str, Any] = {"people": sorted(names.values()), "objects": [], "relations": []}
    for number, type_id, object_id in sorted(objects.values(), key=lambda row: row[1:]):
        row = folder.objects.find(ObjectKey(type_id, object_id))
        assert row is not None
        found["objects"].append((type_id, object_id, msgspec.json.encode(row.record)))
        for person, name in sorted(names.items(), key=lambda item: item[1]):
            record = folder.relations.get(person, number)
            if record.there:
                found["relations"].append((name, type_id, object_id, msgspec.json.encode(record)))
    found["members"] = {
        number: sorted(names[person] for person in kept.members)
        for number, kept in live.workspace.segments.segments.items()
    }
    return found


@contextmanager
def two_worlds() -> Iterator[tuple[Live, Live, Path]]:
    with live_worlds("bulk", "live") as (worlds, folder):
        for world in worlds:
            world.send(*(Identify(person=Identifier("id", name)) for name in ("ann", "bob")))
            assert world.segment(None) == 1
            assert world.segment(CONDITION) == 2
        yield worlds[0], worlds[1], folder


def bring_in(live: Live, path: Path, kind: Any, **more: Any) -> Summary:
    options = BackfillOptions(kind=kind, paths=(str(path),), segment_id=1 if kind == "members" else None, **more)
    summary = backfill.run(live.workspace, options, lambda progress: None)
    accounted = (
        summary.created + summary.updated + summary.unchanged + summary.stale + summary.duplicate + summary.skipped
    )
    assert summary.rows == accounted + summary.errors, summary
    return summary


@settings(max_examples=examples(15))
@given(objects=object_rows, relations=relation_rows, members=member_rows, ending=st.sampled_from(("jsonl", "csv")))
def test_files_say_what_the_same_calls_would_say(
    objects: list[Row], relations: list[Row], members: list[Row], ending: str
) -> None:
    """And say nothing new the second time; after a crash too."""
    with two_worlds() as (bulk, live, folder):
        for kind, rows in (("objects", objects), ("relationships", relations), ("members", members)):
            path = folder / f"{kind}.{ending}"
            path.write_bytes(json_lines(rows) if ending == "jsonl" else csv_text(rows))
            summary = bring_in(bulk, path, kind)
            assert (summary.rows, summary.errors) == (len(rows), 0)
            live.send(*(call_of(kind, row, 1) for row in rows))
            assert state(bulk) == state(live)
            again = bring_in(bulk, path, kind)
            assert again.created == 0
            assert state(bulk) == state(live)
        bulk.crash()
        assert state(bulk) == state(live)


def test_an_import_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    """Each row counts once; wrong ones are told in the input's own form."""
    live = Live(tmp_path / "default")
    path = tmp_path / "objects.csv"
    count = 3 * ROWS_PER_STEP
    path.write_text("object_id,plan\n" + "".join(f"o{n},pro\n" if n % 50 else ",pro\n" for n in range(count)))
    options = BackfillOptions(kind="objects", paths=(str(path),), object_type_id=3)

    def stop(progress: Any) -> None:
        raise Stopped("broken off")

    with pytest.raises(Stopped):
        backfill.run(live.workspace, options, stop)
    live.crash()
    summary = backfill.run(live.workspace, options, lambda progress: None)
    assert (summary.import_id, summary.rows, summary.created, summary.errors) == (1, count, count - 6, 6)
    assert summary.error_file is not None
    report = Path(summary.error_file).read_text().splitlines()
    assert report[0] == "object_id,plan,line,error"
    assert report[1] == ",pro,2,object_id: names no object"
    assert len(report) == 7
    live.close()


def test_which_rows_are_taken_can_be_told(tmp_path: Path) -> None:
    """Only new ones, only those known; whom nobody knows is no member; there has to be a manual segment."""
    live = Live(tmp_path / "default")
    live.identify("ann")
    path = tmp_path / "objects.csv"
    path.write_text("object_id,plan\na,pro\n")
    assert bring_in(live, path, "objects", rows="only_existing").skipped == 1
    assert bring_in(live, path, "objects").created == 1
    path.write_text("object_id,plan\na,free\nb,\n")
    new = bring_in(live, path, "objects", rows="only_new")
    assert (new.created, new.skipped) == (1, 1)
    path.write_text("id\nann\nnobody\n")
    with pytest.raises(RequestError, match="there is no manual segment 1"):
        bring_in(live, path, "members")
    live.segment(None)
    members = bring_in(live, path, "members")
    assert (members.created, members.skipped) == (1, 1)
    assert live.members(1) == {"ann"}
    live.close()
