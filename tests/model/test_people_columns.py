"""People judged by columns against the same rows judged one at a time: the strict reading is the truth."""

import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from backstory.core.fact import DeletePerson, Fact, Identifier, Identify
from backstory.core.person import Register, decode_document, encode_document
from backstory.core.time import SECOND_US
from backstory.engine.backfill.import_job import Chunking
from backstory.engine.backfill.person_document import NEWER, OTHER, SAME, STAMP_FROM_US, Packed, compared, documents_of
from backstory.engine.file.options import BackfillOptions, Summary
from backstory.store.write_block import table_of_writes
from tests.hunt import examples
from tests.live import Live
from tests.model.imported import Row, bring_in, csv_text, json_lines, state, written
from tests.model.strategy import NOW_S, NOW_US, encoded

SEGMENTS: tuple[Any, ...] = (
    {"attribute": {"field": "plan", "operator": "eq", "value": "pro"}},
    {"attribute": {"field": "n", "operator": "ge", "value": 1}},
    {"attribute": {"field": "when", "operator": "timestamp_gt", "value": -20}},
    {"attribute": {"field": "email", "operator": "contains", "value": "ann"}},
    {"attribute": {"field": "plan", "operator": "exists"}},
)
ids = st.sampled_from(("ann", "bob", "cid", "7", "007", " ann", "", "", "é", "x" * 151))
emails = st.sampled_from(("ann@x.org", "Ann@X.org", " bob@x.org ", "", "", "c@x.org", "é@x.org"))
cells = st.sampled_from(
    ("", "", "pro", "free", "1", "0", "-2", "1.5", "1.10", "00001", "0.00001", "NaN", "true", "false", "null", " ",
     'say "x"', "two\nlines", "a,b", "\\", "\x01", "\0", "é日", "y" * 1000, "y" * 1001, "é" * 501, "123456789012345678",
     "\x7f", "\u2028", "1,5", "12,50", "-0,00", "1.234,5")
)  # fmt: skip
times = st.sampled_from(
    ("", "", str(NOW_S), str(NOW_S - 60), f"{NOW_S - 60}.5", "2024-06-01T00:00:00Z", "0", "-5", "4000", "abc",
     str(NOW_S + 3600), str(NOW_S * 1000), "99999999999", "0123456789", "01.06.2024", "31/12/2023 10:30", "12/31/2023")
)  # fmt: skip
# Documents of known people are read together, or the longer ones by themselves.
doc_bytes = st.sampled_from((1 << 26, 1 << 26, 60, 0))
# How numbers and dates are told to be written.
notations = st.sampled_from(
    ({}, {}, {"decimal": "comma"}, {"dates": "dmy", "zone": "Europe/Berlin"}, {"dates": "mdy", "decimal": "comma"})
)
ATTRIBUTES = ("plan", "n", "a.b", "phone", "when", "anonymous_id", "x" * 151)


@st.composite
def files(draw: st.DrawFn) -> list[Row]:
    """Rows with one set of columns, full of what needs a closer look; some with nothing of the kind."""
    names = draw(st.lists(st.sampled_from(ATTRIBUTES[: draw(st.sampled_from((3, 3, 5, 7)))]), max_size=4, unique=True))
    if draw(st.booleans()):
        names = [name for name in names if name != "a.b"]
    kinds = draw(st.sampled_from((("id",), ("email",), ("id", "email"), ("id", "email"), ("customer_id",))))
    plain = draw(st.booleans())
    timed = draw(st.integers(0, 2)) == 0
    some = draw(st.lists(cells, min_size=1, max_size=4))
    rows: list[Row] = []
    for number in range(draw(st.integers(0, 9))):
        row: Row = {}
        for kind in kinds:
            nobody = f"p{number}" if kind == "id" else f"P{number}@x.org"
            row[kind] = nobody if plain and draw(st.booleans()) else draw(emails if kind == "email" else ids)
        if timed:
            row["_timestamp"] = draw(times)
        for name in names:
            row[name] = draw(st.sampled_from(some))
        rows.append(row)
    return rows


@st.composite
def facts(draw: st.DrawFn) -> list[Fact]:
    """People who exist, and some who did."""
    found: list[Fact] = []
    for _ in range(draw(st.integers(0, 4))):
        who = Identifier("id", draw(st.sampled_from(("ann", "bob", "p0", "p1"))))
        if draw(st.integers(0, 3)) == 0:
            found.append(DeletePerson(person=who))
            continue
        values = {"plan": draw(st.sampled_from(("pro", "free"))), "n": draw(st.sampled_from((1, "a", None)))}
        time_us = draw(st.sampled_from((None, NOW_US - 60 * SECOND_US, NOW_US - 3600 * SECOND_US)))
        email = draw(st.sampled_from((None, None, "ann@x.org")))
        found.append(Identify(person=who, attributes=encoded(values), body_email=email, time_us=time_us))
    return found


@contextmanager
def worlds() -> Iterator[tuple[Live, Live, Path]]:
    folder = Path(tempfile.mkdtemp(prefix="backstory-columns-"))
    both = [Live(folder / name, now_us=NOW_US) for name in ("quick", "strict")]
    try:
        for world in both:
            for condition in SEGMENTS:
                world.segment(condition)
        yield both[0], both[1], folder
    finally:
        for world in both:
            world.close()
        shutil.rmtree(folder)


def told(summary: Summary) -> Any:
    """The summary and its reports; by which number somebody without an id is named is an inner matter."""
    said = msgspec.to_builtins(summary)
    reports = [said.pop("error_file"), said.pop("warning_file")]
    said["seconds"] = 0
    found = [Path(name).read_bytes() if name else b"" for name in reports]
    return said, [re.sub(rb"cio_id \w+", b"cio_id", text) for text in found]


def history(world: Live) -> list[Any]:
    """What is kept of every write, by names."""
    folder = world.workspace.folder
    columns = "person, time_us, attributes, changes, created, import_id, seq"
    rows = folder.state.read(lambda db: db.execute(f"SELECT {columns} FROM {table_of_writes(db)}").fetchall())
    files = folder.history.files(folder.history.parts, "write")
    rows += folder.history.rows(f"SELECT {columns} FROM read_parquet($1)", files) if files else []
    names = dict(folder.state.rows("SELECT person, coalesce(id, email_key) FROM person"))
    known = [(str(names[row[0]]), *row[1:]) for row in rows if row[0] in names]
    known.sort(key=lambda row: (*row[:2], row[-1]))
    return [_readable(*row[:-1]) for row in known]


def _readable(who: str, time_us: int, attributes: str, changes: str | None, *rest: int) -> Any:
    """Of a new person the changes are what was sent, whether they are written out or not; identifiers apart."""
    sent = msgspec.json.decode(attributes)
    if changes is None:
        shown: Any = {name: {"from": "", "to": value} for name, value in sent.items() if value not in (None, "")}
    else:
        shown = msgspec.json.decode(changes)
    if rest[0]:
        shown = {name: change for name, change in shown.items() if name not in ("id", "email")}
    return who, time_us, sent, shown, rest


@settings(max_examples=examples(40))
@given(
    first=files(), second=files(), before=facts(), rows_max=st.sampled_from((1, 3, 1000)), document_bytes=doc_bytes,
    clear=st.booleans(), identifier=st.sampled_from((None, None, "id", "email")), as_csv=st.sampled_from((1, 1, 0)),
    wanted=st.sampled_from(("all", "all", "only_new", "only_existing")), own_time=st.booleans(), notation=notations,
)  # fmt: skip
def test_columns_say_what_rows_say(
    first: list[Row], second: list[Row], before: list[Fact], rows_max: int, document_bytes: int, clear: bool,
    identifier: Any, as_csv: int, wanted: Any, own_time: bool, notation: Row,
) -> None:  # fmt: skip
    """The same people, values, times, memberships, history, counts and reports; also of files read a second time."""
    with worlds() as (quick, strict, folder):
        form = csv_text if as_csv else json_lines
        name = "csv" if as_csv else "jsonl"
        paths = [written(folder, f"{at}.{name}", form(rows)) for at, rows in enumerate((first, second))]
        for world in (quick, strict):
            for fact in before:
                world.send(fact)
        for path, rows in zip((*paths, paths[0]), (first, second, first), strict=True):
            options = BackfillOptions(
                kind="people", paths=(path,), on_empty="clear" if clear else "ignore", identifier=identifier,
                rows=wanted, time="when" if own_time and any("when" in row for row in rows) else None, **notation,
            )  # fmt: skip
            packing = Chunking(
                people_rows_max=rows_max, document_bytes=document_bytes, blocks_from=5, block_rows_min=2
            )
            found = [
                told(bring_in(world, options, replace(packing, fast=fast)))
                for world, fast in ((quick, True), (strict, False))
            ]
            assert found[0] == found[1]
            assert state(quick) == state(strict)
        assert history(quick) == history(strict)


def test_the_quick_path_is_taken(tmp_path: Path) -> None:
    """By the plain rows of a file with one that is not: this test would tell if it compared a thing with itself."""
    live = Live(tmp_path / "default", now_us=NOW_US)
    rows = [{"id": f"p{n}", "email": f"P{n}@x.org", "plan": "pro"} for n in range(5)] + [{"id": " ", "plan": "x"}]
    path = written(tmp_path, "a.csv", csv_text(rows))
    summary = bring_in(live, BackfillOptions(kind="people", paths=(path,)))
    assert (summary.created, summary.errors) == (5, 1)
    rows = live.workspace.folder.history.rows
    files = live.workspace.folder.history.files(live.workspace.folder.history.parts, "write")
    assert rows("SELECT changes FROM read_parquet($1)", files) == [(None,)] * 5
    live.close()


def test_three_hundred_attributes_are_taken_and_one_more_is_not(tmp_path: Path) -> None:
    """Each row that has more is refused; in a file with more columns, rows that have fewer are taken."""
    live = Live(tmp_path / "default", now_us=NOW_US)
    full = {"id": "full", **{f"a{n}": "1" for n in range(300)}}
    path = written(tmp_path, "a.csv", csv_text([full]))
    assert bring_in(live, BackfillOptions(kind="people", paths=(path,))).created == 1
    rows = [{"id": "much", **{f"a{n}": "1" for n in range(301)}}, {"id": "few", **{f"a{n}": "" for n in range(301)}}]
    rows[1]["a300"] = "1"
    summary = bring_in(live, BackfillOptions(kind="people", paths=(written(tmp_path, "b.csv", csv_text(rows)),)))
    assert (summary.created, summary.errors) == (1, 1)
    live.close()


def test_documents_are_read_together_up_to_a_limit(tmp_path: Path) -> None:
    """SQLite makes no value longer than its limit: a step's documents would be longer, were all of them the largest.

    Here its limit is low: without a limit of ours the step fails, with one the longer documents are merged one by one.
    """
    largest = {f"{at:0150}": Register(NOW_US, msgspec.json.encode("\x01" * 1000)) for at in range(300)}
    most = len(encode_document(largest))
    assert most < 1_900_000
    assert most * Chunking().people_rows_max > 1_000_000_000 > 4 * Chunking().document_bytes
    live = Live(tmp_path / "default", now_us=NOW_US)
    rows = [{"id": f"p{at}", "note": "x" * (900 if at % 2 else 9)} for at in range(300)]
    options = BackfillOptions(kind="people", paths=(written(tmp_path, "a.csv", csv_text(rows)),))
    assert bring_in(live, options).created == 300
    db = live.workspace.folder.state.db
    limit = db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
    live.clock.advance(SECOND_US)
    summary = bring_in(live, options, Chunking(document_bytes=50_000, people_rows_max=300))
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limit)
    assert summary.unchanged == 300
    documents = live.workspace.folder.people.read_many(range(300))
    assert all(document["note"].time_us > NOW_US + SECOND_US for _, document in documents.values())
    live.close()


Values = dict[str, bytes | None]
Pairs = tuple[list[bytes], list[str], list[Values], list[int]]


@st.composite
def pairs(draw: st.DrawFn) -> Pairs:
    """Known documents, and of newer rows the columns, the cells and the times."""
    names = draw(st.lists(st.sampled_from([*"abc", "n" * 40, *(f"a{n}" for n in range(20))]), max_size=18, unique=True))
    value = st.one_of(st.none(), st.sampled_from([b"1", b"2", b'"x"', b"x" * 207, b"x" * 300]))
    known: list[bytes] = []
    rows: list[Values] = []
    times_us: list[int] = []
    for _ in range(draw(st.integers(0, 6))):
        row: Values = {name: draw(value) for name in names}
        time_us = NOW_US + draw(st.integers(-1, 1))
        document = {name: Register(NOW_US, one) for name, one in row.items() if one is not None}
        match draw(st.integers(0, 5)):
            case 0 if document:
                # One value is of another time, or another value of the same length, or not there.
                name = draw(st.sampled_from(sorted(document)))
                document[name] = Register(document[name].time_us + draw(st.integers(-1, 1)), draw(value))
            case 1 if document:
                del document[draw(st.sampled_from(sorted(document)))]
            case 2:
                document["more"] = Register(time_us, b"1")
            case 3:
                document = {name: Register(5, one.value) for name, one in document.items()}
            case _:
                pass
        known.append(encode_document(document))
        rows.append(row)
        times_us.append(time_us)
    return known, names, rows, times_us


@given(pairs())
@settings(max_examples=examples(200), deadline=None)
def test_documents_are_made_and_compared_as_one_by_one(pair: Pairs) -> None:
    """Made of columns they are what the encoder writes; a newer time is told where it alone makes the difference."""
    known, names, rows, times_us = pair
    columns = {name: pa.array([row[name] for row in rows], pa.binary()) for name in names}
    made = documents_of(columns, np.array(times_us, np.int64), removes=False)
    assert made.each == [
        encode_document({name: Register(time_us, one) for name, one in row.items() if one is not None})
        for row, time_us in zip(rows, times_us, strict=True)
    ]
    expected = [_to_do(before, after) for before, after in zip(known, made.each, strict=True)]
    assert compared(Packed.of(known), made).tolist() == expected
    middle = len(known) // 2
    assert compared(Packed.of(known[middle:]), made.part(middle, len(known))).tolist() == expected[middle:]
    odd = list(range(1, len(known), 2))
    assert compared(Packed.of([known[at] for at in odd]), made.take(odd)).tolist() == [expected[at] for at in odd]


def _to_do(known: bytes, newer: bytes) -> int:
    before, after = decode_document(known), decode_document(newer)
    alike = {name: one.value for name, one in before.items()} == {name: one.value for name, one in after.items()}
    told = {one.time_us for one in before.values()}
    if not alike or len(told) != 1 or list(before) != list(after) or min(told) < STAMP_FROM_US:
        return OTHER
    now_us = min(one.time_us for one in after.values())
    return SAME if now_us == min(told) else NEWER if now_us > min(told) else OTHER


def test_an_attribute_that_is_taken_away_has_a_place_in_a_document_too() -> None:
    """Where cells with nothing in them remove."""
    columns = {"a": pa.array([b"1", None], pa.binary()), "b": pa.array([None, None], pa.binary())}
    times_us = np.array([NOW_US, NOW_US + 1])
    made = documents_of(columns, times_us, removes=True)
    values: list[Values] = [{"a": b"1", "b": None}, {"a": None, "b": None}]
    for row, time_us, one in zip(values, times_us.tolist(), made.each, strict=True):
        assert one == encode_document({name: Register(time_us, value) for name, value in row.items()})
    later = documents_of(columns, times_us + 1, removes=True)
    assert compared(Packed.of(made.each), later).tolist() == [NEWER, NEWER]
    assert compared(Packed.of(made.each), made).tolist() == [SAME, SAME]
    assert compared(Packed.of(later.each), made).tolist() == [OTHER, OTHER]
