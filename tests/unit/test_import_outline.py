"""What an import will read is told before it does: files, columns, types, examples; and pins, zones and same rows."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backstory.core.error import RequestError
from backstory.core.fact import ObjectKey
from backstory.engine.backfill import backfill
from backstory.engine.backfill.import_outline import outline
from backstory.engine.file.options import BackfillOptions, Summary
from tests.live import NOW_US, Live
from tests.model.imported import json_lines

NOW_S = NOW_US // 1_000_000
CELLS = '''id;zip;visits;ok;when;doc;mixed;long;none
ann;00123;3;true;2024-05-01;"{""a"": [1]}";1;12345678901234567890;NULL
bob;45678;10;false;2024-06-01;"[1, 2]";NaN;12345678901234567891;
'''  # fmt: skip


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    live = Live(tmp_path / "default")
    yield live
    live.close()


def bring_in(live: Live, path: Path, kind: Any = "people", **more: Any) -> Summary:
    options = BackfillOptions(kind=kind, paths=(str(path),), **more)
    return backfill.run(live.workspace, options, lambda progress: None)


def attributes(live: Live, person: str) -> dict[str, Any]:
    found = live.workspace.reader.person("id", person)
    assert found is not None
    return dict(found.attributes)


def test_each_column_is_told_with_its_type_and_examples(live: Live, tmp_path: Path) -> None:
    """As the run then reads it: nothing is rounded, nothing is guessed."""
    path = tmp_path / "people.csv.gz"
    path.write_bytes(gzip.compress(CELLS.encode("cp1252")))
    (found,) = outline(BackfillOptions(kind="people", paths=(str(path),), map={"mixed": "kind"}))
    assert (found.form, found.written, found.shape) == ("CSV, gz", 'utf-8, delimiter semicolon, quotes "', "flat")
    assert (found.person, found.time) == ("id", "")
    types = {column.name: column.type for column in found.columns}
    assert types == {
        "id": "text", "zip": "text", "visits": "number", "ok": "boolean", "when": "text", "doc": "json",
        "mixed": "text", "long": "text", "none": "text",
    }  # fmt: skip
    assert found.columns[1].examples == ["00123", "45678"]
    assert (found.columns[6].field, found.columns[8].examples) == ("kind", ["NULL"])
    bring_in(live, path)
    shown = attributes(live, "ann")
    assert {name: shown[name] for name in types if name != "id"} == {
        "zip": "00123", "visits": 3, "ok": True, "when": "2024-05-01", "doc": {"a": [1]}, "mixed": "1",
        "long": "12345678901234567890", "none": "NULL",
    }  # fmt: skip


def test_columns_are_what_they_were_told_to_be(live: Live, tmp_path: Path) -> None:
    """A cell that cannot be that is an error, in the input's own form."""
    path = tmp_path / "people.csv"
    path.write_text(CELLS)
    told: Any = {"visits": "string", "when": "time", "mixed": "number", "long": "number", "doc": "string"}
    (found,) = outline(BackfillOptions(kind="people", paths=(str(path),), types=told))
    assert {column.name: column.type for column in found.columns}["visits"] == "string, told"
    summary = bring_in(live, path, types=told, zone="Europe/Berlin")
    assert (summary.created, summary.errors) == (1, 1)
    assert summary.error_file is not None
    assert "mixed: is not a number (found \"\"NaN\"\")" in Path(summary.error_file).read_text()
    shown = attributes(live, "ann")
    assert (shown["visits"], shown["when"], shown["mixed"]) == ("3", 1714514400, 1)
    assert (shown["long"], shown["doc"]) == (12345678901234567890, '{"a": [1]}')


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_times_are_read_in_the_zone_and_unit_that_were_told(live: Live, tmp_path: Path, ending: str) -> None:
    """Of events and of people, in the column that was named."""
    rows: list[dict[str, Any]] = [{"customer_id": "ann", "name": "bought", "at": "2024-05-01", "n": 1}]
    people = [{"id": "bob", "changed": str(NOW_S * 1000 - 86_400_000)}]
    events, changes = tmp_path / f"events.{ending}", tmp_path / f"people.{ending}"
    if ending == "csv":
        events.write_text("customer_id,name,at,n\nann,bought,2024-05-01,1\n")
        changes.write_text(f"id,changed\nbob,{people[0]['changed']}\n")
    else:
        events.write_bytes(json_lines(rows))
        changes.write_bytes(json_lines(people))
    assert bring_in(live, events, "events", time="at").errors == 1
    assert bring_in(live, events, "events", time="at", zone="Europe/Berlin").created == 1
    told = bring_in(live, changes, time="changed", types={"changed": "milliseconds"})
    assert (told.created, told.warnings) == (1, 0)
    known = live.workspace.segments.known
    assert known.get_us(0) == 1_714_514_400_000_000
    assert known.get_us(1) == NOW_US - 86_400_000_000


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_events_have_numbers_and_dates_as_they_were_told_to_be_written(
    live: Live, tmp_path: Path, ending: str
) -> None:
    """In CSV files numbers are found; in JSON lines a text is a number only where its type was told."""
    path = tmp_path / f"events.{ending}"
    row = {"customer_id": "ann", "name": "bought", "timestamp": "12/31/2023 2:30 PM", "price": "1,50", "code": "1.5"}
    if ending == "csv":
        path.write_text(";".join(row) + "\n" + ";".join(row.values()) + "\n")
    else:
        path.write_bytes(json_lines([row]))
    (column,) = (one for one in outline(BackfillOptions(kind="events", paths=(str(path),)))[0].columns[3:4])
    assert (column.name, column.type, column.notations) == ("price", "text", ["comma"])
    types = {} if ending == "csv" else {"price": "number"}
    summary = bring_in(live, path, "events", dates="mdy", decimal="comma", zone="UTC", types=types)
    assert (summary.created, summary.errors) == (1, 0)
    views, _ = live.workspace.reader.activities(
        "id", "ann", types="event", name=None, deleted=False, before=None, limit=10, everything=True
    )
    assert [(view.time_us, view.data) for view in views] == [(1_704_033_000_000_000, {"code": "1.5", "price": 1.5})]


def test_a_file_of_items_is_read_once_as_people_and_once_as_events(live: Live, tmp_path: Path) -> None:
    """What the other reading is for is passed over, and counted."""
    path = tmp_path / "calls.jsonl"
    path.write_bytes(
        json_lines(
            [
                {"type": "identify", "userId": "ann", "traits": {"plan": "pro"}, "timestamp": NOW_S},
                {"type": "track", "userId": "ann", "event": "bought", "timestamp": NOW_S, "messageId": "1"},
                {"type": "page", "userId": "ann", "name": "Home", "timestamp": NOW_S, "messageId": "2"},
                {"type": "person", "action": "identify", "identifiers": {"id": "bob"}, "attributes": {"plan": "free"}},
                {"type": "person", "action": "event", "identifiers": {"id": "bob"}, "name": "seen", "timestamp": NOW_S},
            ]
        )
    )
    (found,) = outline(BackfillOptions(kind="events", paths=(str(path),)))
    assert (found.form, found.shape, found.person) == ("JSON lines", "pipelines and track2", "identifiers")
    people, events = bring_in(live, path), bring_in(live, path, "events")
    assert (people.created, people.skipped, people.errors) == (2, 3, 0)
    assert (events.created, events.skipped, events.errors) == (3, 2, 0)


def test_group_calls_are_read_once_as_objects_and_once_as_relationships(live: Live, tmp_path: Path) -> None:
    """Beside the calls that are people and events; the same file again says nothing new."""
    path = tmp_path / "calls.jsonl"
    traits = {"plan": "pro", "seats": 3, "relationshipAttributes": {"role": "owner"}}
    calls: list[dict[str, Any]] = [
        {"type": "identify", "userId": "ann", "traits": {"city": "Bern"}, "timestamp": NOW_S},
        {"type": "track", "userId": "ann", "event": "bought", "timestamp": NOW_S, "messageId": "1"},
        {"type": "group", "userId": "ann", "groupId": "acme", "traits": traits, "timestamp": NOW_S - 60},
        {"type": "group", "anonymousId": "x", "groupId": "acme", "timestamp": NOW_S},
    ]
    path.write_bytes(json_lines(calls))
    (found,) = outline(BackfillOptions(kind="objects", paths=(str(path),)))
    assert (found.shape, found.object, found.time) == ("pipelines", "groupId", "timestamp")
    summaries = [bring_in(live, path, kind) for kind in ("people", "events", "objects", "relationships")]
    assert [(one.created, one.skipped, one.errors) for one in summaries] == [
        (1, 3, 0), (1, 3, 0), (1, 2, 0), (1, 2, 1)
    ]  # fmt: skip
    assert (summaries[2].unchanged, summaries[2].hint) == (1, "")
    related = live.workspace.reader.relationships("id", "ann", start="", limit=10)
    assert related is not None
    ((relation,), _) = related
    assert (relation.object_id, relation.attributes) == ("acme", {"role": "owner"})
    made = live.workspace.reader.object(ObjectKey(1, "acme"))
    assert (made.attributes["plan"], made.times_us["plan"]) == ("pro", NOW_US - 60_000_000)
    assert [bring_in(live, path, kind).created for kind in ("objects", "relationships")] == [0, 0]


def test_the_same_rows_can_be_told_to_be_others(live: Live, tmp_path: Path) -> None:
    """All of them come in again; those with an id are known by it."""
    path = tmp_path / "events.jsonl"
    row = {"customer_id": "ann", "name": "bought", "timestamp": NOW_S}
    path.write_bytes(json_lines([row, row, {**row, "event_id": "1"}]))
    assert bring_in(live, path, "events").created == 3
    again = bring_in(live, path, "events", same_rows="all")
    assert (again.created, again.duplicate) == (2, 1)
    last = bring_in(live, path, "events")
    assert (last.created, last.duplicate) == (0, 3)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"zone": "Berlin"}, "there is no zone 'Berlin'"),
        ({"types": {"zipp": "string"}}, "did you mean 'zip'"),
        ({"same_rows": "all"}, "same_rows is for events"),
        ({"delimiter": "ab"}, "a delimiter is one character"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    live: Live, tmp_path: Path, options: dict[str, Any], problem: str
) -> None:
    """With what to say instead."""
    path = tmp_path / "people.csv"
    path.write_text(CELLS)
    with pytest.raises(RequestError, match=problem):
        bring_in(live, path, **options)
    assert live.workspace.reader.imports() == []
