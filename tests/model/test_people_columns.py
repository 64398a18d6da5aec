"""People judged by columns against the same rows judged one at a time: the strict reading is the truth."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backstory.core.fact import DeletePerson, Fact, Identifier, Identify
from backstory.core.person import Register, encode_document
from backstory.core.time import SECOND_US
from backstory.engine.import_job import Chunking
from backstory.engine.options import BackfillOptions, Summary
from backstory.engine.person_table import restamped
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
     "\x7f", "\u2028")
)  # fmt: skip
times = st.sampled_from(
    ("", "", str(NOW_S), str(NOW_S - 60), f"{NOW_S - 60}.5", "2024-06-01T00:00:00Z", "0", "-5", "4000", "abc",
     str(NOW_S + 3600), str(NOW_S * 1000), "99999999999", "0123456789")
)  # fmt: skip
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
    rows = world.workspace.folder.state.rows(
        "SELECT coalesce(id, email_key), time_us, attributes, changes, created, attribute_write.import_id FROM"
        " attribute_write JOIN person USING (person) ORDER BY 1, 2, attribute_write.seq"
    )
    return [_readable(*row) for row in rows]


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
    first=files(), second=files(), before=facts(), rows_max=st.sampled_from((1, 3, 1000)),
    clear=st.booleans(), identifier=st.sampled_from((None, None, "id", "email")), as_csv=st.sampled_from((1, 1, 0)),
    wanted=st.sampled_from(("all", "all", "only_new", "only_existing")), own_time=st.booleans(),
)  # fmt: skip
def test_columns_say_what_rows_say(
    first: list[Row], second: list[Row], before: list[Fact], rows_max: int, clear: bool, identifier: Any,
    as_csv: int, wanted: Any, own_time: bool,
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
                rows=wanted, time="when" if own_time and any("when" in row for row in rows) else None,
            )  # fmt: skip
            found = [
                told(bring_in(world, options, Chunking(people_rows_max=rows_max, fast=fast)))
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
    changes = live.workspace.folder.state.rows("SELECT changes FROM attribute_write")
    assert changes == [(None,)] * 5
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


@pytest.mark.parametrize(
    ("known", "newer", "expected"),
    [
        ({"a": (5, b"1"), "b": (5, None)}, {"a": (6, b"1"), "b": (6, None)}, True),
        ({"a": (5, b"1")}, {"a": (5, b"1")}, False),
        ({"a": (6, b"1")}, {"a": (5, b"1")}, None),
        ({"a": (5, b"1"), "b": (4, b"2")}, {"a": (6, b"1"), "b": (6, b"2")}, None),
        ({"a": (5, b"1")}, {"a": (6, b"2")}, None),
        ({"a": (5, b"1"), "b": (5, b"2")}, {"a": (6, b"1")}, None),
        ({"n" * 40: (5, b"x" * 207)}, {"n" * 40: (6, b"x" * 207)}, True),
        ({f"a{n}": (5, b"1") for n in range(20)}, {f"a{n}": (6, b"1") for n in range(20)}, True),
        ({}, {}, None),
    ],
)
def test_a_document_that_only_gets_a_newer_time_is_known_by_its_bytes(
    known: dict[str, Any], newer: dict[str, Any], expected: bool | None
) -> None:
    """True: a newer time and nothing else; False: the same already; None: look closer."""


    def document(values: dict[str, Any]) -> bytes:
        return encode_document({name: Register(NOW_US + at, value) for name, (at, value) in values.items()})

    assert restamped(document(known), document(newer)) is expected
