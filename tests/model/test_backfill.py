"""Imports against live calls: a file of rows, however it is cut up and repeated, says what the same calls would say."""

import csv
import gzip
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backstory.core.condition import Json, to_json
from backstory.core.error import BackstoryError
from backstory.core.fact import (
    DeletePerson,
    Fact,
    Identifier,
    Identify,
    MergePeople,
    PutCampaign,
    Receipt,
    SuppressPerson,
    Track,
    UnsuppressPerson,
)
from backstory.core.identity import Apply, Join, Rules, decide
from backstory.core.oracle import PersonHistory, members
from backstory.core.time import HOUR_US, SECOND_US
from backstory.engine.backfill import backfill
from backstory.engine.backfill.import_job import Chunking
from backstory.engine.file.csv_type import cell_value, column_types
from backstory.engine.file.event_row import RowShape
from backstory.engine.file.options import BackfillOptions, Progress, Summary
from backstory.engine.file.person_row import PersonRow
from backstory.store.manifest import read_imports
from backstory.store.people import cio_id_of
from tests.hunt import examples
from tests.live import Live
from tests.model.imported import (
    Row,
    bring_in,
    csv_text,
    events_of,
    identify_of,
    json_lines,
    names_of,
    people_of,
    state,
    tell,
    track_of,
    written,
)
from tests.model.strategy import NAMES, NOW_S, NOW_US, conditions, encoded

IDS = ("ann", "bob", "cid", "7")
EMAILS = ("ann@x.org", "Ann@X.org", "bob@x.org")
AGES_S = (0, 1, 5, 19, 20, 60, 299, 301, 86_400, 71 * 3600, 72 * 3600, 72 * 3600 + 1, 90 * 86_400, -1, -20, -300)
PEOPLE = [*(Identifier("id", one) for one in IDS), *(Identifier("email", one) for one in EMAILS)]
UUID = "01890a5d-ac96-774b-bcce-b302099a8057"

SEGMENTS: tuple[Json, ...] = (
    {"event": {"name": "bought"}},
    {
        "event": {
            "name": "bought",
            "count": {"between": [2, 3]},
            "where": {"attribute": {"field": "n", "operator": "ge", "value": 1}},
        }
    },
    {"event": {"name": "bought", "within": {"last_s": 300}, "count": {"at_least": 2}}},
    {"event": {"name": "seen", "performed": False, "within": {"last_s": 86_400}}},
    {"event": {"name": "seen", "within": {"from": NOW_S - 86_400, "to": NOW_S + 10}}},
    {"attribute": {"field": "plan", "operator": "eq", "value": "pro"}},
    {"attribute": {"field": "when", "operator": "timestamp_gt", "value": -20}},
    {"attribute": {"field": "email", "operator": "exists"}},
    {"and": [{"segment": {"id": 1}}, {"not": {"segment": {"id": 6}}}]},
)
CAMPAIGNS: tuple[Json, ...] = (
    {"event": {"name": "bought"}},
    {"event": {"name": "seen", "where": {"attribute": {"field": "n", "operator": "eq", "value": 1}}}},
)

ages_s = st.sampled_from(AGES_S)
chunkings = st.builds(
    Chunking,
    bytes_max=st.sampled_from((1, 200, 1 << 20)),
    event_rows_max=st.sampled_from((1, 3, 1000)),
    people_rows_max=st.sampled_from((1, 2, 1000)),
    fast_bytes_min=st.sampled_from((0, 1 << 60)),
    tell_every_s=st.just(0.0),
)
values = st.sampled_from((0, 1, 2, 1.5, "1", "a", True, None))


@st.composite
def event_rows(draw: st.DrawFn, *, ids: bool = True, timed: bool = True, most: int = 14) -> list[Row]:
    """Rows of events, many of them alike."""
    rows: list[Row] = []
    for _ in range(draw(st.integers(0, most))):
        row: Row = {"customer_id": draw(st.sampled_from((*IDS, *EMAILS))), "name": draw(st.sampled_from(NAMES))}
        if timed or draw(st.booleans()):
            row["timestamp"] = NOW_S - draw(ages_s)
        if ids and draw(st.integers(0, 3)) == 0:
            row["event_id"] = draw(st.sampled_from(("e1", UUID, UUID.upper())))
        if draw(st.booleans()):
            row["data"] = {"n": draw(st.sampled_from((0, 1, 2)))}
        rows.append(row)
    return rows


@st.composite
def people_rows(draw: st.DrawFn, most: int = 12) -> list[Row]:
    """Rows of people that meet, contradict and repeat each other."""
    rows: list[Row] = []
    for _ in range(draw(st.integers(0, most))):
        row: Row = {}
        named = draw(st.sampled_from(("id", "id", "email", "both", "customer_id")))
        if named in ("id", "both"):
            row["id"] = draw(st.sampled_from(IDS))
        if named in ("email", "both"):
            row["email"] = draw(st.sampled_from(EMAILS))
        if named == "customer_id":
            row["customer_id"] = draw(st.sampled_from((*IDS, *EMAILS)))
        for name in draw(st.lists(st.sampled_from(("plan", "n", "a.b", "a")), max_size=2, unique=True)):
            row[name] = draw(st.one_of(values, st.just("pro"), st.just("")))
        if draw(st.integers(0, 3)) == 0:
            row["when"] = NOW_S - draw(ages_s)
        if draw(st.booleans()):
            row["_timestamp"] = NOW_S - draw(st.sampled_from((0, 1, 5, 60, 86_400)))
        rows.append(row)
    return rows


@st.composite
def live_facts(draw: st.DrawFn) -> list[Fact]:
    """What came before the file, or beside it."""
    facts: list[Fact] = []
    for _ in range(draw(st.integers(0, 5))):
        who = draw(st.sampled_from(PEOPLE))
        match draw(st.sampled_from(("track", "track", "identify", "identify", "delete", "merge", "merge", "block"))):
            case "track":
                facts.append(
                    Track(
                        person=who,
                        name=draw(st.sampled_from(NAMES)),
                        data=draw(st.sampled_from((b"{}", b'{"n":0}', b'{"n":1}'))),
                        time_us=(NOW_S - draw(ages_s)) * SECOND_US,
                        event_id=draw(st.sampled_from((None, None, "e1", UUID))),
                    )
                )
            case "identify":
                attributes = {"plan": draw(st.sampled_from(("pro", "free", None)))}
                time_us = draw(st.sampled_from((None, NOW_US - SECOND_US, NOW_US - 86_400 * SECOND_US)))
                facts.append(Identify(person=who, attributes=encoded(attributes), time_us=time_us))
            case "merge":
                facts.append(MergePeople(primary=who, secondary=draw(st.sampled_from(PEOPLE))))
            case "block":
                facts.append(SuppressPerson(person=who))
                if draw(st.booleans()):
                    facts.append(UnsuppressPerson(person=who))
            case _:
                facts.append(DeletePerson(person=who))
    return facts


@contextmanager
def two_worlds(extra: list[Json] | None = None) -> Iterator[tuple[Live, Live, Path]]:
    """Two equal workspaces with segments and campaigns: one for the file, one for the calls."""
    folder = Path(tempfile.mkdtemp(prefix="backstory-import-"))
    worlds = [Live(folder / name, now_us=NOW_US) for name in ("bulk", "live")]
    try:
        for world in worlds:
            for condition in (*SEGMENTS, *(extra or [])):
                world.segment(condition)
            for trigger in CAMPAIGNS:
                start_campaign(world, trigger)
        yield worlds[0], worlds[1], folder
    finally:
        for world in worlds:
            world.close()
        shutil.rmtree(folder)


def start_campaign(world: Live, trigger: Json) -> int:
    definition = {
        "name": "some",
        "trigger": trigger,
        "frequency": {"mode": "every"},
        "steps": [{"type": "delay", "seconds": 86_400}],
        "state": "running",
    }
    (receipt,) = world.send(PutCampaign(definition=msgspec.json.encode(definition)))
    assert receipt.subject is not None, receipt
    return receipt.subject


def both(bulk: Live, live: Live, facts: list[Fact]) -> None:
    tell(bulk, facts)
    tell(live, facts)


def agree(bulk: Live, live: Live) -> None:
    assert state(bulk, now_us=NOW_US) == state(live, now_us=NOW_US)


def agree_for_ever(bulk: Live, live: Live) -> None:
    """Now, as time passes, and after a crash."""
    agree(bulk, live)
    for by_us in (SECOND_US, 20 * SECOND_US, 280 * SECOND_US):
        bulk.advance(by_us)
        live.advance(by_us)
        agree(bulk, live)
    bulk.crash()
    agree(bulk, live)
    bulk.advance(HOUR_US)
    live.advance(HOUR_US)
    agree(bulk, live)


conditions_json = st.lists(conditions((1, 6)), max_size=2).map(
    lambda found: [msgspec.json.decode(encoded(to_json(one))) for one in found]
)


@settings(max_examples=examples(40))
@given(
    rows=event_rows(), before=live_facts(), chunking=chunkings, extra=conditions_json,
    name=st.sampled_from(("events.jsonl", "events.jsonl.gz", "events.csv")),
)  # fmt: skip
def test_a_file_of_events_says_what_the_same_calls_would_say(
    rows: list[Row], before: list[Fact], chunking: Chunking, extra: list[Json], name: str
) -> None:
    """The same people, events, memberships and journeys, at once and at every later moment, after a crash too."""
    with two_worlds(extra) as (bulk, live, folder):
        both(bulk, live, before)
        if name.endswith("csv"):
            rows = [{**row, "data": row.get("data", {}).get("n", "")} for row in rows]
            rows = [{("data.n" if key == "data" else key): value for key, value in row.items()} for row in rows]
        body = csv_text(rows) if name.endswith("csv") else json_lines(rows)
        bring_in(bulk, BackfillOptions(kind="events", paths=(written(folder, name, body),)), chunking)
        kept = [{key: value for key, value in row.items() if value != ""} for row in rows]
        tell(live, [track_of(row) for row in events_of(kept)])
        agree_for_ever(bulk, live)


def event_count(world: Live) -> int:
    return len(state(world)["events"])


@settings(max_examples=examples(25))
@given(
    rows=event_rows(), more=event_rows(most=5), before=live_facts(), chunking=chunkings, other=chunkings,
    at=st.integers(0, 14),
)  # fmt: skip
def test_reading_a_file_again_or_a_longer_one_adds_only_what_is_new(
    rows: list[Row], more: list[Row], before: list[Fact], chunking: Chunking, other: Chunking, at: int
) -> None:
    """Twice is once; a file with rows added anywhere says as much as if it had been read alone."""
    longer = [*rows[:at], *more, *rows[at:]]
    with two_worlds() as (bulk, live, folder):
        both(bulk, live, before)
        options = BackfillOptions(kind="events", paths=(written(folder, "a.jsonl", json_lines(rows)),))
        first = bring_in(bulk, options, chunking)
        after = state(bulk)
        again = bring_in(bulk, options, other)
        assert (again.created, again.duplicate) == (0, first.created + first.duplicate)
        assert state(bulk) == after
        whole = BackfillOptions(kind="events", paths=(written(folder, "b.jsonl", json_lines(longer)),), triggers="none")
        bring_in(bulk, whole, other)
        tell(live, [track_of(row) for row in events_of(longer)])
        # An id counts once, and which of its rows came first differs: those are left out.
        if not any("event_id" in row for row in longer) and not any(isinstance(fact, Track) for fact in before):
            mine, theirs = state(bulk, now_us=NOW_US), state(live, now_us=NOW_US)
            del mine["journeys"], theirs["journeys"]
            assert mine == theirs
        else:
            assert event_count(bulk) == event_count(live)


@settings(max_examples=examples(25))
@given(rows=event_rows(), facts=event_rows(most=8), chunking=chunkings, after=st.booleans())
def test_a_file_that_overlaps_live_calls_adds_only_what_they_did_not_say(
    rows: list[Row], facts: list[Row], chunking: Chunking, after: bool
) -> None:
    """Of equal events without an id as many are kept as the fuller source has; of an id, the first."""
    with two_worlds() as (bulk, _, folder):
        calls = [track_of(row) for row in events_of(facts)]
        options = BackfillOptions(kind="events", paths=(written(folder, "a.jsonl", json_lines(rows)),))
        if not after:
            tell(bulk, calls)
        bring_in(bulk, options, chunking)
        if after:
            tell(bulk, calls)
        sources = [[track_of(row) for row in events_of(rows)], calls]
        assert event_count(bulk) == expected_count(sources)
        again = bring_in(bulk, options, chunking)
        assert again.created == 0
        assert event_count(bulk) == expected_count(sources)


def expected_count(sources: list[list[Track]]) -> int:
    """How many events there are: ids once for each person, all others as often as the fuller source has them."""
    ids: set[tuple[str, str]] = set()
    without: list[dict[Any, int]] = []
    for source in sources:
        counts: dict[Any, int] = {}
        for fact in source:
            person = fact.person.value.lower()
            if fact.event_id is not None:
                ids.add((person, fact.event_id.lower()))
            else:
                key = (person, fact.kind, fact.name, fact.time_us, fact.data)
                counts[key] = counts.get(key, 0) + 1
        without.append(counts)
    keys = {key for counts in without for key in counts}
    return len(ids) + sum(max(counts.get(key, 0) for counts in without) for key in keys)


def test_events_without_a_time_never_match(tmp_path: Path) -> None:
    """Neither each other nor themselves, unless the import gives them one."""
    rows: list[Row] = [{"customer_id": "ann", "name": "bought"}] * 2
    path = written(tmp_path, "a.jsonl", json_lines(rows))
    live = Live(tmp_path / "default")
    for _ in range(2):
        assert bring_in(live, BackfillOptions(kind="events", paths=(path,))).created == 2
    timed = BackfillOptions(kind="events", paths=(path,), as_of_us=NOW_US - HOUR_US)
    assert bring_in(live, timed).created == 2
    assert bring_in(live, timed).duplicate == 2
    live.close()


@settings(max_examples=examples(20))
@given(rows=event_rows(), names=st.lists(st.sampled_from(("a.jsonl", "b.csv", "c.jsonl.gz")), min_size=1, max_size=3))
def test_files_of_one_import_are_one_source(rows: list[Row], names: list[str]) -> None:
    """Equal rows in several files stay several."""
    plain = [{key: value for key, value in row.items() if key != "data"} for row in rows]
    with two_worlds() as (bulk, live, folder):
        paths: list[str] = []
        for number, name in enumerate(names):
            part = plain[number :: len(names)]
            body = csv_text(part) if name.endswith("csv") else json_lines(part)
            paths.append(written(folder, f"{number}{name}", body))
        bring_in(bulk, BackfillOptions(kind="events", paths=tuple(paths)))
        ordered = [row for number in range(len(names)) for row in plain[number :: len(names)]]
        tell(live, [track_of(row) for row in events_of(ordered)])
        agree(bulk, live)


# -- people -----------------------------------------------------------------------------------------------------------


@settings(max_examples=examples(50))
@given(
    rows=people_rows(), before=live_facts(), chunking=chunkings, extra=conditions_json, clear=st.booleans(),
    identifier=st.sampled_from((None, None, "id", "email")), form=st.sampled_from(("people.jsonl", "people.csv.gz")),
)  # fmt: skip
def test_a_file_of_people_says_what_the_same_calls_would_say(
    rows: list[Row],
    before: list[Fact],
    chunking: Chunking,
    extra: list[Json],
    clear: bool,
    identifier: Any,
    form: str,
) -> None:
    """Row for row: values with their times, identifiers given and refused, memberships; for ever."""
    with two_worlds(extra) as (bulk, live, folder):
        both(bulk, live, before)
        if "csv" in form:
            # Every column is text in both: types are another test's.
            rows = [{**{key: str(value) for key, value in row.items()}, "plan": row.get("plan", "x")} for row in rows]
            rows = [{**row, "plan": "pro" if row["plan"] not in ("", "x") else row["plan"]} for row in rows]
            rows = [{**row, "t": "00"} for row in rows]
        body = csv_text(rows) if "csv" in form else json_lines(rows)
        options = BackfillOptions(
            kind="people",
            paths=(written(folder, form, body),),
            on_empty="clear" if clear else "ignore",
            identifier=identifier,
        )
        summary = bring_in(bulk, options, chunking)
        told = as_read(rows) if "csv" in form else rows
        good = people_of(told, RowShape(identifier=identifier), clear=clear)
        receipts = [live.send(identify_of(row))[0] for row in good]
        assert summary.errors == len(rows) - sum(receipt.result in ("applied", "skipped") for receipt in receipts)
        agree_for_ever(bulk, live)


def as_read(rows: list[Row]) -> list[Row]:
    """The rows as their file has them: every column in every row, numbers where the whole column is numbers."""
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["id"]
    with tempfile.TemporaryDirectory() as folder:
        types = dict(zip(names, column_types(Path(written(Path(folder), "x.csv", csv_text(rows)))), strict=True))
    fixed = ("id", "email", "customer_id", "_timestamp")
    kinds = {name: "text" if name in fixed else types[name] for name in names}
    return [{name: cell_value(row.get(name, ""), kinds[name]) for name in names} for row in rows]


@settings(max_examples=examples(25))
@given(people_rows(), live_facts(), chunkings, st.sampled_from(("only_new", "only_existing")))
def test_only_the_rows_wanted_are_taken(rows: list[Row], before: list[Fact], chunking: Chunking, which: Any) -> None:
    """``only_new``: those of people nobody knew; ``only_existing``: those of people known before the row."""
    with two_worlds() as (bulk, live, folder):
        both(bulk, live, before)
        path = written(folder, "people.jsonl", json_lines(rows))
        summary = bring_in(bulk, BackfillOptions(kind="people", paths=(path,), rows=which), chunking)
        skipped = 0
        for row in people_of(rows):
            decision = decided(live, row)
            known = isinstance(decision, Join) or (isinstance(decision, Apply) and decision.person is not None)
            if isinstance(decision, Apply | Join) and known == (which == "only_new"):
                skipped += 1
            else:
                live.send(identify_of(row))
        assert summary.skipped == skipped
        assert summary.people_created == summary.created
        agree(bulk, live)


def decided(live: Live, row: PersonRow) -> Any:
    """What would become of a row; None when it is older than a deletion."""
    path, *body = row.identifiers()
    found = live.workspace.applier.profiles.owners(path, tuple(body), row.time_us)
    return None if isinstance(found, Receipt) else decide(path, tuple(body), *found, update_only=False, rules=Rules())


# -- people, row by row -----------------------------------------------------------------------------------------------


def people(live: Live, folder: Path, rows: list[Row], **options: Any) -> Summary:
    path = written(folder, "people.jsonl", json_lines(rows))
    return bring_in(live, BackfillOptions(kind="people", paths=(path,), **options))


def values_of(live: Live, person: str) -> dict[str, tuple[Json, int]]:
    view = live.workspace.reader.person("id", person)
    assert view is not None
    return {name: (value, view.times_us[name]) for name, value in view.attributes.items() if name in view.times_us}


def errors_in(summary: Summary) -> list[tuple[int, str]]:
    if summary.error_file is None:
        return []
    found = [msgspec.json.decode(line) for line in Path(summary.error_file).read_bytes().splitlines()]
    return [(row["line"], row["error"]) for row in found]


def test_every_row_is_counted_once(tmp_path: Path) -> None:
    """Created, updated, unchanged, stale, skipped and wrong rows add up, and their file says why they are wrong."""
    live = Live(tmp_path / "default")
    live.identify("ann", NOW_US - HOUR_US, plan="pro")
    live.send(Identify(person=Identifier("id", "ann"), body_email="ann@x.org"))
    live.send(Identify(person=Identifier("email", "bob@x.org"), attributes=b"{}"))
    bob = live.workspace.reader.person("email", "bob@x.org")
    assert bob is not None
    summary = people(
        live,
        tmp_path,
        [
            {"id": "new", "plan": "free"},
            {"id": "ann", "plan": "free"},
            {"id": "ann", "plan": "free", "_timestamp": NOW_S - 7200},
            {"id": "new", "plan": "free"},
            {"id": "new"},
            {"id": "ann", "email": "bob@x.org"},
            {"plan": "free"},
            {"id": "ann", "plan": "x", "_timestamp": "abc"},
            {"id": "bob", "email": "BOB@x.org"},
        ],
    )
    assert (summary.rows, summary.created, summary.updated, summary.unchanged) == (9, 1, 2, 2)
    assert (summary.stale, summary.skipped, summary.duplicate, summary.errors) == (1, 0, 0, 3)
    assert summary.people_created == 1
    assert errors_in(summary) == [
        (6, f"email: 'bob@x.org' belongs to somebody else (cio_id {cio_id_of(bob.person)})"),
        (7, "id: names no person: give one of id, customer_id, email"),
        (8, "_timestamp: cannot be read: it is neither unix seconds nor ISO 8601 with a zone (found \"abc\")"),
    ]
    live.close()


def test_the_time_of_a_row_decides_against_live_values(tmp_path: Path) -> None:
    """Its own, that of a column, that of the import, or now; newer values stay whoever sent them."""
    live = Live(tmp_path / "default")
    for number in range(5):
        live.identify(f"p{number}", NOW_US - HOUR_US, plan="live")
    old, new = NOW_S - 7200, NOW_S - 60
    timed = [{"id": "p0", "plan": "file", "_timestamp": old}, {"id": "p1", "plan": "file", "_timestamp": new}]
    people(live, tmp_path, timed)
    assert values_of(live, "p0") == {"plan": ("live", NOW_US - HOUR_US)}
    assert values_of(live, "p1") == {"plan": ("file", new * SECOND_US)}
    people(live, tmp_path, [{"id": "p2", "plan": "file"}], as_of_us=old * SECOND_US)
    assert values_of(live, "p2") == {"plan": ("live", NOW_US - HOUR_US)}
    people(live, tmp_path, [{"id": "p3", "plan": "file", "changed": new}], time="changed")
    assert values_of(live, "p3")["plan"] == ("file", new * SECOND_US)
    people(live, tmp_path, [{"id": "p4", "plan": "file"}, {"id": "p4", "plan": "last"}])
    value, time_us = values_of(live, "p4")["plan"]
    assert value == "last"
    assert NOW_US <= time_us < NOW_US + SECOND_US
    live.close()


def test_later_files_are_newer_than_earlier_ones(tmp_path: Path) -> None:
    """Rows that name no time are true in the order of the files and of the rows in them."""
    live = Live(tmp_path / "default")
    first = written(tmp_path, "a.jsonl", json_lines([{"id": "x"}] * 9 + [{"id": "ann", "plan": "z"}]))
    second = written(tmp_path, "b.csv", b"id,plan\nann,a\n")
    bring_in(live, BackfillOptions(kind="people", paths=(first, second)))
    assert values_of(live, "ann")["plan"][0] == "a"
    live.close()


def test_a_time_in_the_future_is_taken_as_that_of_the_import(tmp_path: Path) -> None:
    """With a warning, as a live call leaves a trace."""
    live = Live(tmp_path / "default")
    summary = people(live, tmp_path, [{"id": "ann", "plan": "pro", "_timestamp": NOW_S + 3600}])
    assert NOW_US <= values_of(live, "ann")["plan"][1] < NOW_US + SECOND_US
    assert summary.warnings == 1
    assert summary.warning_file is not None
    assert "lies in the future" in Path(summary.warning_file).read_text()
    live.close()


def test_what_happened_to_people_is_in_the_activity_log(tmp_path: Path) -> None:
    """Created, changed, and what lost against a newer value."""
    live = Live(tmp_path / "default")
    live.identify("ann", NOW_US - HOUR_US, plan="live", city="Ulm")
    people(live, tmp_path, [{"id": "new", "plan": "a"}, {"id": "ann", "plan": "b", "n": 1, "_timestamp": NOW_S - 7200}])

    def log(person: str) -> list[tuple[str, Json]]:
        found, _ = live.workspace.reader.activities(
            "id", person, types=None, name=None, deleted=False, before=None, limit=50, everything=True
        )
        return [(entry.type, entry.data) for entry in found]

    assert log("new") == [
        ("attribute_change", {"plan": {"from": "", "to": "a"}}),
        ("profile_create", {}),
    ]
    assert log("ann")[-2:] == [
        ("attribute_change", {"n": {"from": "", "to": 1}}),
        ("skipped_update", {"plan": {"stored_at": NOW_S - 3600, "sent_at": NOW_S - 7200}}),
    ]
    live.close()


# -- triggers ---------------------------------------------------------------------------------------------------------

OLD: list[Row] = [{"customer_id": f"p{n}", "name": "bought", "timestamp": NOW_S - 72 * 3600 - 1 - n} for n in range(5)]
FRESH: list[Row] = [{"customer_id": "f1", "name": "bought", "timestamp": NOW_S - 71 * 3600}]
EDGE: list[Row] = [{"customer_id": "f2", "name": "bought", "timestamp": NOW_S - 72 * 3600}]
TIMELESS: list[Row] = [{"customer_id": "f3", "name": "bought"}]
COMING: list[Row] = [{"customer_id": "f4", "name": "bought", "timestamp": NOW_S + 60}]


def a_second_later(rows: list[Row]) -> list[Row]:
    return [{**row, "timestamp": row["timestamp"] + 1} for row in rows]


def journeys(live: Live, campaign_id: int) -> list[str]:
    found, _ = live.workspace.reader.journeys(campaign_id, start="", limit=100)
    return sorted(journey.identifiers["id"] or "" for journey in found)


@pytest.mark.parametrize(
    ("policy", "started", "later", "held"),
    [
        ("recent", "f1 f2", "f1 f2 f4", 6),
        ("none", "", "", 9),
        ("all", "f1 f2 f3 p0 p1 p2 p3 p4", "f1 f2 f3 f4 p0 p1 p2 p3 p4", 0),
    ],
)
def test_the_age_of_an_event_decides_what_it_starts(
    tmp_path: Path, policy: Any, started: str, later: str, held: int
) -> None:
    """At most 72 hours at the import's start, unless told otherwise; one of the future starts at its moment."""
    live = Live(tmp_path / "default")
    campaign_id = start_campaign(live, {"event": {"name": "bought"}})
    unasked = start_campaign(live, {"event": {"name": "seen"}})
    live.advance(SECOND_US)
    rows = [*a_second_later([*OLD, *FRESH, *EDGE, *COMING]), *TIMELESS]
    path = written(tmp_path, "a.jsonl", json_lines(rows))
    summary = bring_in(live, BackfillOptions(kind="events", paths=(path,), triggers=policy))
    assert journeys(live, campaign_id) == started.split()
    assert (summary.held_back.event, summary.held_back.segment) == (held, 0)
    assert summary.journeys_started == len(started.split())
    assert live.workspace.reader.import_(summary.import_id).summary["journeys_started"] == len(started.split())
    live.advance(120 * SECOND_US)
    assert journeys(live, campaign_id) == later.split()
    assert journeys(live, unasked) == []
    again = bring_in(live, BackfillOptions(kind="events", paths=(path,), triggers=policy))
    assert again.created == 1
    live.close()


@pytest.mark.parametrize(
    ("policy", "started", "held"),
    [("recent", ["f1", "f2"], 5), ("none", [], 7), ("all", ["f1", "f2", "p0", "p1", "p2", "p3", "p4"], 0)],
)
def test_segment_campaigns_judge_the_difference_an_import_made(
    tmp_path: Path, policy: Any, started: list[str], held: int
) -> None:
    """Once, at its end, by the moment since which the person has been in the segment."""
    live = Live(tmp_path / "default")
    segment_id = live.segment({"event": {"name": "bought"}})
    campaign_id = start_campaign(live, {"segment": {"id": segment_id, "transition": "entered"}})
    leaving = start_campaign(live, {"segment": {"id": segment_id, "transition": "left"}})
    live.track("p9", "bought")
    assert journeys(live, campaign_id) == ["p9"]
    live.advance(SECOND_US)
    rows = a_second_later([*OLD, *FRESH, *EDGE])
    more = [{"customer_id": "p9", "name": "bought", "timestamp": NOW_S - 5}]
    path = written(tmp_path, "a.jsonl", json_lines([*rows, *more]))
    summary = bring_in(live, BackfillOptions(kind="events", paths=(path,), triggers=policy))
    assert live.members(segment_id) == {*(f"p{n}" for n in range(5)), "p9", "f1", "f2"}
    assert journeys(live, campaign_id) == sorted([*started, "p9"])
    assert journeys(live, leaving) == []
    assert (summary.held_back.event, summary.held_back.segment) == (0, held)
    live.close()


def test_people_files_trigger_segment_campaigns_too(tmp_path: Path) -> None:
    """Entering and leaving; values of long ago start nothing, nor do those that have no time."""
    live = Live(tmp_path / "default")
    for name in ("ann", "bob"):
        live.identify(name, NOW_US - 100 * HOUR_US, plan="pro")
    segment_id = live.segment({"attribute": {"field": "plan", "operator": "eq", "value": "pro"}})
    entering = start_campaign(live, {"segment": {"id": segment_id, "transition": "entered"}})
    leaving = start_campaign(live, {"segment": {"id": segment_id, "transition": "left"}})
    live.advance(SECOND_US)
    old, recent = NOW_S - 80 * 3600, NOW_S - 3600
    summary = people(
        live,
        tmp_path,
        [
            {"id": "ann", "plan": "free", "_timestamp": recent},
            {"id": "bob", "plan": "free", "_timestamp": old},
            {"id": "new", "plan": "pro", "_timestamp": recent},
            {"id": "untold", "plan": "pro"},
            {"id": "once", "plan": "pro", "_timestamp": old},
            {"id": "never", "plan": "free"},
        ],
    )
    assert journeys(live, entering) == ["new"]
    assert journeys(live, leaving) == ["ann"]
    assert summary.held_back.segment == 3
    live.close()


def test_a_filter_that_waits_hears_of_an_import(tmp_path: Path) -> None:
    """As it would of a call that says the same."""
    live = Live(tmp_path / "default")
    definition = {
        "name": "some",
        "trigger": {"event": {"name": "bought"}},
        "filter": {"attribute": {"field": "plan", "operator": "eq", "value": "pro"}},
        "steps": [{"type": "delay", "seconds": 86_400}],
        "state": "running",
    }
    (receipt,) = live.send(PutCampaign(definition=msgspec.json.encode(definition)))
    for name in ("ann", "bob"):
        live.track(name, "bought")
    people(live, tmp_path, [{"id": "ann", "plan": "pro"}])
    assert receipt.subject is not None
    found, _ = live.workspace.reader.journeys(receipt.subject, start="", limit=10)
    assert {journey.identifiers["id"]: journey.state for journey in found} == {"ann": "active", "bob": "filtering"}
    live.close()


# -- going on ---------------------------------------------------------------------------------------------------------


class Killed(Exception):
    """The process ends here."""


wrong_rows: list[Row] = [
    {"customer_id": "ann"},
    {"customer_id": "ann", "name": "bought", "timestamp": "abc"},
    {"id": "ann", "plan": ["x" * 1001]},
    {"name": "bought"},
]
kinds = st.sampled_from(("events", "people"))


@settings(max_examples=examples(40))
@given(data=st.data(), before=live_facts(), kind=kinds, chunking=chunkings, other=chunkings)
def test_an_import_that_was_killed_goes_on_where_it_was(
    data: st.DataObject, before: list[Fact], kind: Any, chunking: Chunking, other: Chunking
) -> None:
    """However often it is killed and however it is cut up: the same counts, reports and state as without."""
    some = event_rows() if kind == "events" else people_rows()
    one = some.map(lambda rows: rows[0] if rows else {})
    files = [data.draw(st.lists(st.one_of(st.sampled_from(wrong_rows), one), max_size=12)), data.draw(some)]
    with two_worlds() as (broken, whole, folder):
        both(broken, whole, before)
        paths = tuple(written(folder, f"{number}.jsonl", json_lines(rows)) for number, rows in enumerate(files))
        options = BackfillOptions(kind=kind, paths=paths)
        expected = bring_in(whole, options)
        for chunks in data.draw(st.lists(st.integers(1, 5), max_size=3), label="killed behind chunk"):
            if not killed(broken, options, chunking, chunks):
                break
        summary = bring_in(broken, options, other)
        if summary.import_id == expected.import_id:
            assert told(summary) == told(expected)
        agree(broken, whole)


def killed(live: Live, options: BackfillOptions, chunking: Chunking, chunks: int) -> bool:
    """Run an import and end it behind so many chunks; False when it was done before."""
    left = iter(range(chunks - 1))

    def on_progress(progress: Progress) -> None:
        if next(left, None) is None and progress.phase == "importing":
            raise Killed

    try:
        backfill.run(live.workspace, options, on_progress, chunking=chunking)
    except Killed:
        live.crash()
        return True
    return False


def told(summary: Summary) -> Any:
    """Everything an import says, but how long it took, where its files are, and inner numbers."""
    said = msgspec.to_builtins(summary)
    reports = [said.pop("error_file"), said.pop("warning_file")]
    said["seconds"] = 0
    files = [sorted(Path(name).iterdir()) if name else [] for name in reports]
    return said, [[re.sub(rb"cio_id \w+", b"cio_id", path.read_bytes()) for path in some] for some in files]


def test_a_file_that_changed_since_is_refused(tmp_path: Path) -> None:
    """With the command that lets go of the import; put back as it was, it goes on."""
    live = Live(tmp_path / "default")
    rows = event_file(40)
    path = Path(written(tmp_path, "a.jsonl", rows))
    options = BackfillOptions(kind="events", paths=(str(path),))
    assert killed(live, options, Chunking(bytes_max=500, tell_every_s=0), 2)
    for other in (rows + rows, rows.replace(b"bought", b"BOUGHT", 1)):
        path.write_bytes(other)
        with pytest.raises(BackstoryError, match=r"changed since .* began"):
            bring_in(live, options)
    path.write_bytes(rows)
    assert bring_in(live, options).created == 40
    live.close()


def test_an_unfinished_import_can_be_canceled(tmp_path: Path) -> None:
    """What came in stays, and counts as known for the next one."""
    live = Live(tmp_path / "default")
    path = written(tmp_path, "a.jsonl", event_file(40))
    options = BackfillOptions(kind="events", paths=(path,))
    assert killed(live, options, Chunking(bytes_max=500, tell_every_s=0), 2)
    backfill.cancel(live.workspace, 1)
    assert live.workspace.reader.import_(1).state == "canceled"
    with pytest.raises(BackstoryError, match="already canceled"):
        backfill.cancel(live.workspace, 1)
    summary = bring_in(live, options)
    assert (summary.import_id, summary.rows) == (2, 40)
    assert summary.duplicate > 0
    assert event_count(live) == 40
    live.close()


def event_file(count: int) -> bytes:
    return json_lines({"customer_id": f"p{n}", "name": "bought", "timestamp": NOW_S - n} for n in range(count))


@pytest.mark.parametrize("name", ["errors.jsonl", "errors.csv"])
def test_a_corrected_report_can_be_read_in(tmp_path: Path, name: str) -> None:
    """Its columns ``line`` and ``error`` are left out; a report on a report says only the newest."""
    live = Live(tmp_path / "default")
    rows: list[Row] = [{"id": "ann", "n": "1", "_timestamp": "abc"}, {"id": "bob", "n": "2", "_timestamp": "def"}]
    body = csv_text(rows) if "csv" in name else json_lines(rows)
    first = bring_in(live, BackfillOptions(kind="people", paths=(written(tmp_path, name, body),)))
    assert first.error_file is not None
    report = Path(first.error_file)
    report.write_bytes(report.read_bytes().replace(b"abc", b"", 1))
    second = bring_in(live, BackfillOptions(kind="people", paths=(str(report),)))
    assert (second.created, second.errors) == (1, 1)
    assert set(values_of(live, "ann")) == {"n"}
    assert second.error_file is not None
    assert Path(second.error_file).read_bytes().count(b"cannot be read") == 1
    assert b"error_" not in Path(second.error_file).read_bytes()
    live.close()


# -- segments and days ------------------------------------------------------------------------------------------------


@settings(max_examples=examples(25))
@given(rows=event_rows(), extra=conditions_json, chunking=chunkings)
def test_segments_made_before_and_after_an_import_are_equal(
    rows: list[Row], extra: list[Json], chunking: Chunking
) -> None:
    """Told of it row by row in bulk, or built over it; and so are their counts as of any day."""
    with two_worlds(extra) as (bulk, _, folder):
        bring_in(bulk, BackfillOptions(kind="events", paths=(written(folder, "a.jsonl", json_lines(rows)),)), chunking)
        segments = bulk.workspace.segments.segments
        made = {segment_id: set(kept.members) for segment_id, kept in segments.items()}
        histories = oracle_histories(rows, bulk.workspace.folder.state.now_us)
        named = {name: person for person, name in names_of(bulk.workspace).items()}
        defined = {segment_id: kept.condition for segment_id, kept in segments.items() if kept.condition is not None}
        for segment_id, condition in defined.items():
            again = bulk.segment(to_json(condition))
            assert set(segments[again].members) == made[segment_id]
            for age_s in (0, 20, 300, 86_400, 73 * 3600):
                at_us = NOW_US - age_s * SECOND_US
                expected = members(condition, histories, at_us, defined)  # pyright: ignore[reportArgumentType]
                found, _ = bulk.workspace.reader.members(segment_id, start="", limit=100, as_of_us=at_us)
                who = {named[f"{one['id']} {one['email'].lower() if one['email'] else None}"] for one in found}
                assert who == {named[history_name(history)] for history in histories if history.person in expected}


def oracle_histories(rows: list[Row], now_us: int) -> list[PersonHistory]:
    """The rows as the oracle reads them: one history for each person, nothing repeated."""
    people: dict[str, PersonHistory] = {}
    seen: set[tuple[str, str]] = set()
    for row in events_of(rows):
        value = row.person.lower() if row.person_kind == "email" else row.person
        assert row.time_us is not None
        history = people.setdefault(
            value,
            PersonHistory(
                person=len(people),
                identifiers={row.person_kind: value, "cio_id": cio_id_of(len(people))},
                events=[],
                writes=[],
                exists_since_us=now_us,
            ),
        )
        if row.event_id is not None and (value, row.event_id.lower()) in seen:
            continue
        seen.add((value, (row.event_id or "").lower()))
        history.events.append((row.kind, row.name, row.time_us, msgspec.json.decode(row.data)))
        history.exists_since_us = min(history.exists_since_us, row.time_us)
    return list(people.values())


def history_name(history: PersonHistory) -> str:
    return f"{history.identifiers.get('id')} {history.identifiers.get('email')}"


# -- real data --------------------------------------------------------------------------------------------------------

CDNOW = Path(__file__).parents[2] / "examples" / "cdnow_purchases.csv.gz"


def test_the_cdnow_log_is_counted_as_a_program_of_ten_lines_counts_it(tmp_path: Path) -> None:
    """Every purchase once, also when it is read twice; counts and counts of the past are exact."""
    with gzip.open(CDNOW, "rt") as file:
        purchases = [(row["customer_id"], int(row["timestamp"]), row) for row in csv.DictReader(file)]
    counts = Counter(customer for customer, _, _ in purchases)
    live = Live(tmp_path / "default", now_us=NOW_US)
    three = live.segment({"event": {"name": "purchased", "count": {"at_least": 3}}})
    costs = {"attribute": {"field": "dollars", "operator": "ge", "value": 200}}
    big = live.segment({"event": {"name": "purchased", "where": costs}})
    summary = bring_in(live, BackfillOptions(kind="events", paths=(str(CDNOW),)))
    assert (summary.rows, summary.created, summary.people_created) == (len(purchases), len(purchases), len(counts))
    again = bring_in(live, BackfillOptions(kind="events", paths=(str(CDNOW),)))
    assert (again.created, again.duplicate) == (0, len(purchases))
    reader = live.workspace.reader
    assert reader.member_count(three) == sum(count >= 3 for count in counts.values())
    spenders = {customer for customer, _, row in purchases if float(row["data.dollars"]) >= 200}
    assert reader.member_count(big) == len(spenders)
    day_s = 870_000_000
    early = Counter(customer for customer, at_s, _ in purchases if at_s <= day_s)
    assert reader.member_count(three, as_of_us=day_s * SECOND_US) == sum(count >= 3 for count in early.values())
    assert reader.person("id", "00001") is not None
    live.close()


class Cut:
    """A workspace that is killed when the loop is asked for something for the n-th time."""

    def __init__(self, workspace: Any, calls: int) -> None:
        self._workspace = workspace
        self._left = calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._workspace, name)

    def call(self, work: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise Killed
        return self._workspace.call(work)


@pytest.mark.parametrize("policy", ["recent", "all"])
def test_what_a_chunk_starts_is_started_in_steps_each_once(tmp_path: Path, policy: Any) -> None:
    """Killed before any transaction, also between two steps of one chunk, each event starts its journey once."""
    seconds = [NOW_S - 60 * at for at in range(7)] + [NOW_S - 100 * 3600, NOW_S + 50]
    rows = [
        {"customer_id": f"p{at % 4}", "name": "bought", "timestamp": at_s, "n": at} for at, at_s in enumerate(seconds)
    ]
    path = written(tmp_path, "a.jsonl", json_lines(rows))
    options = BackfillOptions(kind="events", paths=(path,), triggers=policy)
    chunking = Chunking(bytes_max=400, starts_max=2, tell_every_s=0)
    calls, done = 0, False
    while not done:
        live = Live(tmp_path / f"world-{calls}")
        start_campaign(live, {"event": {"name": "bought"}})
        live.advance(SECOND_US)
        cut: Any = Cut(live.workspace, calls)
        try:
            backfill.run(cut, options, lambda progress: None, chunking=chunking)
            done = True
        except Killed:
            live.crash()
            backfill.run(live.workspace, options, lambda progress: None, chunking=chunking)
        count = 7 if policy == "recent" else 8
        assert live.workspace.folder.state.rows("SELECT count(*) FROM journey") == [(count,)], calls
        assert live.workspace.reader.import_(1).summary["journeys_started"] == count
        calls += 1
        live.close()
    assert calls > 10


def test_what_came_in_before_a_cancel_starts_what_it_was_to_start(tmp_path: Path) -> None:
    """Also where a crash came between a chunk and what it starts, and nobody went on with the import."""
    rows = [{"customer_id": f"p{at % 4}", "name": "bought", "timestamp": NOW_S - 60 * at, "n": at} for at in range(7)]
    path = written(tmp_path, "a.jsonl", json_lines(rows))
    options = BackfillOptions(kind="events", paths=(path,))
    chunking = Chunking(bytes_max=200, starts_max=1, tell_every_s=0)
    left_over = 0
    for calls in range(60):
        live = Live(tmp_path / f"world-{calls}")
        start_campaign(live, {"event": {"name": "bought"}})
        live.advance(SECOND_US)
        cut: Any = Cut(live.workspace, calls)
        try:
            backfill.run(cut, options, lambda progress: None, chunking=chunking)
            break
        except Killed:
            live.crash()
        history = live.workspace.folder.history
        files = history.files(history.parts, "event")
        came_in = history.rows("SELECT count(*) FROM read_parquet($1)", files)[0][0] if files else 0
        if live.workspace.folder.state.read(read_imports):
            left_over += live.workspace.folder.state.rows("SELECT count(*) FROM journey") != [(came_in,)]
            backfill.cancel(live.workspace, 1)
            assert live.workspace.folder.state.rows("SELECT count(*) FROM journey") == [(came_in,)], calls
        live.close()
    assert left_over > 3
