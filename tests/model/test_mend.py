"""Retry of mended rows: as if the file had been right from the start, each row once, killed or taken back."""

import csv
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from backstory.core.error import BackstoryError, ConflictError, RequestError
from backstory.engine.backfill import mend
from backstory.engine.backfill.import_job import Chunking
from backstory.engine.file.options import BackfillOptions, Progress, Summary
from backstory.engine.undo import undo, undo_purge
from backstory.engine.verify import verify
from tests.hunt import examples
from tests.live import Live, live_worlds
from tests.model.imported import Row, bring_in, csv_text, json_lines, state, written
from tests.model.strategy import NOW_S, NOW_US
from tests.model.test_backfill import (
    CAMPAIGNS,
    SEGMENTS,
    chunkings,
    event_rows,
    start_campaign,
)

# What is done to a row so that it is refused.
WRONG: dict[str, Callable[[Row], Row]] = {
    "events": lambda row: {**row, "name": ""},
    "people": lambda row: {**row, "id": "x" * 200, "customer_id": ""},
}


@st.composite
def people_of_one_name(draw: st.DrawFn) -> list[Row]:
    """Rows of people with and without times, no two of which are equal."""
    rows: list[Row] = []
    for at in range(draw(st.integers(0, 10))):
        row: Row = {"id": draw(st.sampled_from(("ann", "bob", "cid")))}
        row |= {name: draw(st.sampled_from(("pro", "1", "01", 2))) for name in draw(st.sets(st.sampled_from("ab")))}
        row["_timestamp"] = NOW_S - 100 * draw(st.integers(0, 9)) - at - 1 if draw(st.booleans()) else ""
        rows.append(row)
    return rows


class Killed(Exception):
    """The process ends here."""


@contextmanager
def worlds(count: int) -> Generator[tuple[list[Live], Path]]:
    with live_worlds(*map(str, range(count)), now_us=NOW_US) as (some, folder):
        for world in some:
            for condition in SEGMENTS:
                world.segment(condition)
            for trigger in CAMPAIGNS:
                start_campaign(world, trigger)
        yield some, folder


def mended(world: Live, number: int, path: str, chunking: Chunking, crashes: list[int]) -> Summary:
    """A retry that is killed behind so many chunks, again and again, until it is done."""
    for chunks in [*crashes, 0]:
        left = iter(range(chunks - 1))

        def on_progress(progress: Progress, left: Iterator[int] = left, chunks: int = chunks) -> None:
            if chunks and next(left, None) is None and progress.phase == "importing":
                raise Killed

        try:
            summary = mend.retry(world.workspace, number, Path(path), on_progress, chunking=chunking)
        except Killed:
            world.crash()
            continue
        world.workspace.loop.turn()
        return summary
    raise AssertionError


def accounted(summary: Summary) -> int:
    return (
        summary.created + summary.updated + summary.unchanged + summary.stale + summary.duplicate + summary.skipped
        + summary.errors
    )  # fmt: skip


def rows_of(path: str) -> list[Row]:
    with open(path, newline="") as file:
        if path.endswith(".csv"):
            return list(csv.DictReader(file))
        return [msgspec.json.decode(line) for line in file]


def found(world: Live) -> list[dict[str, Any]]:
    lines: list[dict[str, object]] = []
    verify.run(world.workspace, lines.append)
    return [line for line in lines if "difference" in line]


@settings(max_examples=examples(25), phases=(Phase.reuse, Phase.generate))
@given(
    data=st.data(),
    kind=st.sampled_from(("events", "people")),
    form=st.sampled_from(("csv", "jsonl")),
    chunking=chunkings,
    crashes=st.lists(st.integers(1, 4), max_size=2),
)
def test_mended_rows_come_in_as_if_they_had_been_right_from_the_start(
    data: st.DataObject, kind: Any, form: str, chunking: Chunking, crashes: list[int]
) -> None:
    """People, values, events, memberships, journeys are equal; some rows need two retries; killed or not."""
    # Where rows share an event id, a time or a person of two names, the one that comes first decides, as of live calls.
    rows = data.draw(event_rows(ids=False, most=10) if kind == "events" else people_of_one_name())
    wrong = {at for at in range(len(rows)) if data.draw(st.booleans())}
    twice = {at for at in wrong if data.draw(st.booleans())}
    # The keys that a row is wrong by are columns of both files.
    names: dict[str, str] = {"name": "", "timestamp": ""} if kind == "events" else {"id": "", "customer_id": ""}
    rows = [{**names, **row} for row in rows]
    text = csv_text if form == "csv" else json_lines
    with worlds(2) as ((broken, whole), folder):
        good = written(folder, f"good.{form}", text(rows))
        bad = written(folder, f"bad.{form}", text([WRONG[kind](r) if at in wrong else r for at, r in enumerate(rows)]))
        expected = bring_in(whole, BackfillOptions(kind=kind, paths=(good,)))
        first = bring_in(broken, BackfillOptions(kind=kind, paths=(bad,)), chunking)
        if first.error_file is None:
            return
        before = 2 if form == "csv" else 1
        by_line = {at + before: row for at, row in enumerate(rows)}
        # Rows that are refused however often they come: a cell of a CSV file holds no object.
        refused = rows_of(expected.error_file) if expected.error_file else []
        never = {int(row["line"]) - before for row in refused}
        last = first
        for still in (twice, set[int]()):
            mending = [
                row if int(row["line"]) - before in still else {**row, **restored(row, by_line[int(row["line"])])}
                for row in rows_of(first.error_file)
            ]
            fixed = written(folder, f"fixed.{form}", text(mending))
            last = mended(broken, first.import_id, fixed, chunking, crashes)
            assert last.import_id == first.import_id
            assert last.state == "imported"
            assert last.rows == accounted(last) == len(rows)
            assert last.errors == len(never | still)
        assert last.mended == first.errors - expected.errors
        assert state(broken, now_us=NOW_US) == state(whole, now_us=NOW_US)
        assert found(broken) == []
        undo.undo(broken.workspace, first.import_id)
        broken.workspace.loop.turn()
        assert state(broken)["people"] == {}
        assert found(broken) == []


def restored(told: Row, right: Row) -> Row:
    """The row as it should have been, in the columns it has."""
    keys = [key for key in told if key not in ("line", "error")]
    return {key: right[key] for key in keys if key in right} | {key: told[key] for key in ("line", "error")}


def event_file(folder: Path, count: int, wrong: set[int]) -> str:
    rows = [
        {"customer_id": f"p{n % 3}", "name": "" if n in wrong else "bought", "timestamp": NOW_S - 60}
        for n in range(1, count + 1)
    ]
    return written(folder, "events.csv", csv_text(rows))


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    world = Live(tmp_path / "default", now_us=NOW_US)
    yield world
    world.close()


def told_error_file(summary: Summary) -> Path:
    assert summary.error_file is not None
    return Path(summary.error_file)


def test_the_same_file_again_changes_nothing(live: Live, tmp_path: Path) -> None:
    """Rows mended before are passed over; rows that fail again are told with their line in the input."""
    first = bring_in(live, BackfillOptions(kind="events", paths=(event_file(tmp_path, 6, {2, 5}),)))
    rows = rows_of(str(told_error_file(first)))
    assert [row["line"] for row in rows] == ["3", "6"]
    fixed = written(tmp_path, "fixed.csv", csv_text([{**rows[1], "name": "bought"}, rows[0]]))
    second = mended(live, 1, fixed, Chunking(event_rows_max=1, tell_every_s=0), [])
    assert (second.rows, second.created, second.errors, second.mended, second.skipped) == (6, 5, 1, 1, 0)
    assert (first.to_mend, second.to_mend) == (2, 1)
    assert [row["line"] for row in rows_of(str(told_error_file(second)))] == ["3", "6", "3"]
    third = mended(live, 1, fixed, Chunking(), [])
    assert (third.rows, third.created, third.errors, third.mended, third.skipped) == (6, 5, 1, 1, 0)
    # Of rows of the same line the last one counts.
    both = written(tmp_path, "both.csv", csv_text([{**rows[0], "name": "seen"}, {**rows[0], "name": "bought"}]))
    fourth = mended(live, 1, both, Chunking(), [])
    assert (fourth.rows, fourth.created, fourth.errors, fourth.mended, fourth.skipped) == (6, 6, 0, 2, 0)
    assert fourth.to_mend == 0
    # Two of these are equal to a good row each, and are rows of their own all the same.
    assert live.workspace.reader.import_(1).summary["mended"] == 2
    assert found(live) == []


@pytest.mark.parametrize("files", [1, 2])
@pytest.mark.parametrize("kind", ["events", "people"])
def test_keys_of_mended_rows_come_in_any_order(live: Live, tmp_path: Path, kind: Any, files: int) -> None:
    """Sorted, or turned round; what rows themselves call line, error or file stays theirs."""
    time = "_timestamp" if kind == "people" else "timestamp"
    rows = [
        {"customer_id": f"p{n}", "name": "bought", time: "never", "line": n, "error": "own", "file": "a", "a": 1}
        for n in (1, 2)
    ]
    paths = [written(tmp_path, f"rows{n}.jsonl", json_lines(rows)) for n in range(files)]
    done = bring_in(live, BackfillOptions(kind=kind, paths=tuple(paths)))
    report = told_error_file(done)
    report = report if files == 1 else min(report.iterdir())
    told = [msgspec.json.decode(line) for line in report.read_bytes().splitlines()]
    fixed = [{**row, time: NOW_S - 60} for row in told]
    turned = [dict(sorted(fixed[0].items())), dict(reversed(fixed[1].items()))]
    last = mended(live, 1, written(tmp_path, "fixed.jsonl", json_lines(turned)), Chunking(), [])
    assert (last.errors, last.mended) == (done.errors - 2, 2)
    if kind == "people":
        person = live.workspace.reader.person("id", "p2")
        assert person is not None
        assert {**person.attributes, "line": 2, "error": "own", "file": "a"} == person.attributes
        assert not {"line_", "error_", "file_"} & person.attributes.keys()


@pytest.mark.parametrize("kind", ["events", "people", "members"])
def test_a_broken_line_is_mended_in_its_text(live: Live, tmp_path: Path, kind: Any) -> None:
    """The report has the line as text: corrected there it is that line; still broken it says so again."""
    live.identify("a")
    live.segment(None)
    path = tmp_path / "broken.jsonl"
    path.write_bytes(b'{"id": "a", "name": "x"}\n{"id": "a", "name": "y"\n{"id": "a", "name": }\n')
    done = bring_in(live, BackfillOptions(kind=kind, paths=(str(path),), segment_id=1 if kind == "members" else None))
    assert done.errors == 2
    rows = [msgspec.json.decode(line) for line in told_error_file(done).read_bytes().splitlines()]
    rows[0]["text"] += "}"
    last = mended(live, 1, written(tmp_path, "fixed.jsonl", json_lines(rows)), Chunking(), [])
    assert (last.errors, last.mended) == (1, 1)
    again = msgspec.json.decode(told_error_file(last).read_bytes().splitlines()[-1])
    assert (again["line"], again["text"]) == (3, rows[1]["text"])
    assert "is not valid JSON" in again["error"]


def test_what_is_no_row_of_the_errors_is_refused_whole(live: Live, tmp_path: Path) -> None:
    """Other lines, no line, other columns, no CSV: the message says which, and nothing is changed."""
    first = bring_in(live, BackfillOptions(kind="events", paths=(event_file(tmp_path, 6, {2}),)))
    (row,) = rows_of(str(told_error_file(first)))
    good = {**row, "name": "bought"}
    for rows, why in (
        ([good, {**good, "line": "4"}], "line 3 .* line 4 of the input, which did not fail"),
        ([good, {**good, "line": ""}], "does not say by `line`"),
        ([{"customer_id": "a", "name": "bought", "line": "3", "error": ""}], "columns must be those"),
    ):
        path = written(tmp_path, "fixed.csv", csv_text(rows))
        with pytest.raises(RequestError, match=why):
            mend.retry(live.workspace, 1, Path(path), lambda progress: None)
    assert live.workspace.reader.import_(1).summary == msgspec.to_builtins(first)
    assert not list((tmp_path / "default" / "spool").iterdir())


def test_only_an_import_that_is_over_and_has_errors_can_be_mended(live: Live, tmp_path: Path) -> None:
    """One without errors, one taken back, one under way: each message says what to do."""
    path = event_file(tmp_path, 4, set())
    bring_in(live, BackfillOptions(kind="events", paths=(path,)))
    with pytest.raises(ConflictError, match="no rows with errors"):
        mend.retry(live.workspace, 1, Path(path), lambda progress: None)
    second = bring_in(live, BackfillOptions(kind="events", paths=(event_file(tmp_path, 4, {1, 2}),)))
    undo.undo(live.workspace, 2)
    with pytest.raises(ConflictError, match="imports redo 2"):
        mend.retry(live.workspace, 2, told_error_file(second), lambda progress: None)
    undo.redo(live.workspace, 2)
    third = bring_in(live, BackfillOptions(kind="events", paths=(event_file(tmp_path, 5, {1, 2}),)))
    undo.undo(live.workspace, 3)
    undo_purge.purge(live.workspace, 3)
    with pytest.raises(ConflictError, match="gone for good"):
        mend.retry(live.workspace, 3, told_error_file(third), lambda progress: None)

    def stop(progress: Progress) -> None:
        raise Killed

    rows = [{**row, "name": "bought"} for row in rows_of(str(told_error_file(second)))]
    fixed = Path(written(tmp_path, "fixed.csv", csv_text(rows)))
    with pytest.raises(Killed):
        mend.retry(live.workspace, 2, fixed, stop, chunking=Chunking(event_rows_max=1, tell_every_s=0))
    with pytest.raises(ConflictError, match="imports resume 2"):
        mend.retry(live.workspace, 2, told_error_file(second), lambda progress: None)
    with pytest.raises(BackstoryError, match="there is no import 7"):
        mend.retry(live.workspace, 7, fixed, lambda progress: None)
    assert mend.retry(live.workspace, 2, fixed, lambda progress: None).mended == 2


def test_cells_of_mended_rows_are_of_the_types_of_the_file(live: Live, tmp_path: Path) -> None:
    """A column of text stays one, though all its mended cells look like numbers."""
    rows = [{"id": "a", "zip": "01234", "_timestamp": ""}, {"id": "b", "zip": "81234", "_timestamp": "abc"}]
    first = bring_in(live, BackfillOptions(kind="people", paths=(written(tmp_path, "p.csv", csv_text(rows)),)))
    (row,) = rows_of(str(told_error_file(first)))
    fixed = written(tmp_path, "fixed.csv", csv_text([{**row, "_timestamp": ""}]))
    assert mended(live, 1, fixed, Chunking(), []).mended == 1
    zips = [document["zip"][1] for document in state(live)["people"].values()]
    assert sorted(zips) == [b'"01234"', b'"81234"']


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_row_without_a_time_stands_where_it_stood_in_the_input(live: Live, tmp_path: Path, form: str) -> None:
    """Its value is newer than that of the row before it, though it is the first of the mended ones."""
    text = csv_text if form == "csv" else json_lines
    plans = (("bob", ""), ("ann", ""), ("ann", "abc"), ("bob", ""))
    rows: list[Row] = [{"id": who, "at": f"{at}", "_timestamp": when} for at, (who, when) in enumerate(plans)]
    first = bring_in(live, BackfillOptions(kind="people", paths=(written(tmp_path, f"p.{form}", text(rows)),)))
    fixed = [{**row, "_timestamp": ""} for row in rows_of(str(told_error_file(first)))]
    assert mended(live, 1, written(tmp_path, f"fixed.{form}", text(fixed)), Chunking(), []).updated == 2
    held = [msgspec.json.decode(document["at"][1]) for document in state(live)["people"].values()]
    assert sorted(map(str, held)) == ["2", "3"]


@settings(max_examples=examples(8), phases=(Phase.reuse, Phase.generate))
@given(data=st.data(), kind=st.sampled_from(("events", "people")), chunking=chunkings, crash=st.booleans())
def test_the_files_of_an_import_are_mended_one_by_one(
    data: st.DataObject, kind: Any, chunking: Chunking, crash: bool
) -> None:
    """CSV and JSON lines together, each by its own report, in any order: as if all had been right from the start."""
    forms = ("csv", "jsonl", "csv")
    files: list[tuple[list[Row], set[int]]] = []
    for _ in forms:
        rows = data.draw(event_rows(ids=False, most=5) if kind == "events" else people_of_one_name())
        names: dict[str, str] = {"name": "", "timestamp": ""} if kind == "events" else {"id": "", "customer_id": ""}
        rows = [{**names, **row} for row in rows]
        files.append((rows, {at for at in range(len(rows)) if data.draw(st.booleans())}))
    with worlds(2) as ((broken, whole), folder):
        good: list[str] = []
        bad: list[str] = []
        for at, ((rows, wrong), form) in enumerate(zip(files, forms, strict=True)):
            text = csv_text if form == "csv" else json_lines
            good.append(written(folder, f"good{at}.{form}", text(rows)))
            spoilt = [WRONG[kind](row) if n in wrong else row for n, row in enumerate(rows)]
            bad.append(written(folder, f"bad{at}.{form}", text(spoilt)))
        expected = bring_in(whole, BackfillOptions(kind=kind, paths=tuple(good)))
        first = bring_in(broken, BackfillOptions(kind=kind, paths=tuple(bad)), chunking)
        if first.error_file is None:
            return
        reports = data.draw(st.permutations(sorted(Path(first.error_file).iterdir())))
        for report in reports:
            told = rows_of(str(report))
            number = {int(row["file"]) for row in told}
            (at,) = {int(report.name.partition("-")[0])} & number
            rows, form = files[at - 1][0], forms[at - 1]
            before = 2 if form == "csv" else 1
            mending: list[Row] = []
            for row in told:
                right = restored({key: row[key] for key in row if key != "file"}, rows[int(row["line"]) - before])
                mending.append({**row, **right, "file": row["file"]} if form == "csv" else {**right, "file": at})
            fixed = written(folder, f"fixed{at}.{form}", (csv_text if form == "csv" else json_lines)(mending))
            last = mended(broken, first.import_id, fixed, chunking, [1] if crash else [])
            assert last.error_file == first.error_file
            assert last.rows == accounted(last) == first.rows
        assert broken.workspace.reader.import_(1).summary["mended"] == first.errors - expected.errors
        assert state(broken, now_us=NOW_US) == state(whole, now_us=NOW_US)
        assert found(broken) == []
        undo.undo(broken.workspace, first.import_id)
        assert state(broken)["people"] == {}


def test_mended_rows_of_several_files_say_of_which(live: Live, tmp_path: Path) -> None:
    """Without it, with rows of two files, or of a file that had no errors, nothing is changed."""
    paths = [written(tmp_path, f"{at}.csv", b"id,_timestamp\na,x\nb,\n") for at in (1, 2)]
    paths.append(written(tmp_path, "3.csv", b"id,_timestamp\nc,\n"))
    first = bring_in(live, BackfillOptions(kind="people", paths=tuple(paths)))
    assert first.errors == 2
    reports = sorted(told_error_file(first).iterdir())
    (one,), (two,) = (rows_of(str(report)) for report in reports)
    assert (one["line"], one["file"], two["line"], two["file"]) == ("2", "1", "2", "2")
    right: Row = {"_timestamp": ""}
    for rows, why in (
        ([{**one, **right, "file": ""}], "do not say by `file`"),
        ([{**one, **right, "file": "9"}], "do not say by `file`"),
        ([{**one, **right}, {**two, **right}], "line 3 .* another file"),
        ([{"id": "a", "_timestamp": "", "line": "2", "error": ""}], "do not say by `file`"),
    ):
        fixed = Path(written(tmp_path, "fixed.csv", csv_text(rows)))
        with pytest.raises(RequestError, match=why):
            mend.retry(live.workspace, 1, fixed, lambda progress: None)
    fixed = Path(written(tmp_path, "fixed.csv", csv_text([{**one, **right, "file": "3"}])))
    with pytest.raises(ConflictError, match="file 3 of import 1 has no rows with errors"):
        mend.retry(live.workspace, 1, fixed, lambda progress: None)
    done = mend.retry(
        live.workspace, 1, Path(written(tmp_path, "f.csv", csv_text([{**two, **right}]))), lambda progress: None
    )
    assert (done.mended, done.errors, done.rows) == (1, 1, first.rows)
