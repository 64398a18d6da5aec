"""Every source of an import, by one suite: the same rows out of each, and each can be gone on with."""

import codecs
import csv
import gzip
import io
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backstory.edge.fetch import Inputs, fetch_all
from backstory.engine.backfill import backfill
from backstory.engine.backfill.import_job import Chunking
from backstory.engine.file.options import BackfillOptions, Stopped, Summary
from backstory.engine.settings import Settings, load
from tests.contract.postgres import running_postgres
from tests.live import NOW_US, Live
from tests.model.imported import Row, json_lines, state

NOW_S = NOW_US // 1_000_000
PEOPLE: list[Row] = [
    {"id": "00001", "email": "ann@x.org", "city": 'Zürich, "old" town; |\ttab', "visits": 3, "balance": 12.5},
    {"id": "00002", "email": "bob@x.org", "note": "two\r\nlines\nand 'more'", "visits": 0, "balance": -0.25},
    {"id": "cid", "city": "NULL", "note": "NaN", "long": "12345678901234567890"},
    {"id": "dee", "email": "dee@x.org", "visits": 17},
]
EVENTS: list[Row] = [
    {"customer_id": f"p{number % 7}", "name": "bought" if number % 3 else "seen it", "timestamp": NOW_S - number * 3600,
     "event_id": f"e{number}", "data.item": f"item {number % 5}, ä", "data.n": number}
    for number in range(12)
]  # fmt: skip
Kind = Literal["people", "events"]
AS_OF_US: dict[Kind, int | None] = {"people": NOW_US, "events": None}


def columns_of(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def csv_text(rows: list[Row], delimiter: str = ",", quote: str = '"', end: str = "\n") -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns_of(rows), delimiter=delimiter, quotechar=quote, lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def zstd(body: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(body)
    return sink.getvalue().to_pybytes()


def parquet(rows: list[Row]) -> bytes:
    sink = pa.BufferOutputStream()
    columns = {name: [row.get(name) for row in rows] for name in columns_of(rows)}
    pq.write_table(pa.table(columns), sink, row_group_size=3)
    return sink.getvalue().to_pybytes()


# -- sources ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a source may put its files, and the database and the web server that it may use."""

    folder: Path
    postgres: str
    files: dict[str, bytes]
    address: str
    kind: Kind


@dataclass(frozen=True, kw_only=True)
class Given:
    inputs: Inputs
    standard: bytes = b""
    # What cannot be found, and is told.
    told: dict[str, Any] = field(default_factory=dict[str, Any])


Make = Callable[[Place, list[Row]], Given]


def file(name: str, write: Callable[[list[Row]], bytes], **told: Any) -> Make:
    def make(place: Place, rows: list[Row]) -> Given:
        path = place.folder / name
        path.write_bytes(write(rows))
        return Given(inputs=Inputs(names=(str(path),)), told=told)

    return make


def text(rows: list[Row], encoding: str = "utf-8", **form: Any) -> bytes:
    return csv_text(rows, **form).encode(encoding)


def many(place: Place, rows: list[Row]) -> Given:
    """Files of three forms, one after the other."""
    names = ("1.csv", "2.jsonl.gz", "3.parquet")
    writers = (text, lambda some: gzip.compress(json_lines(some)), parquet)
    cut = max(len(rows) // 3, 1)
    parts = (rows[:cut], rows[cut : 2 * cut], rows[2 * cut :])
    for name, write, part in zip(names, writers, parts, strict=True):
        (place.folder / name).write_bytes(write(part))
    return Given(inputs=Inputs(names=tuple(str(place.folder / name) for name in names)))


def folder(place: Place, rows: list[Row]) -> Given:
    many(place, rows)
    (place.folder / ".hidden").write_bytes(b"nothing")
    return Given(inputs=Inputs(names=(str(place.folder),)))


def stdin(place: Place, rows: list[Row]) -> Given:
    return Given(inputs=Inputs(names=("-",)), standard=gzip.compress(json_lines(rows)))


def url(place: Place, rows: list[Row]) -> Given:
    place.files["/moved/rows.csv.zst"] = zstd(text(rows))
    return Given(inputs=Inputs(names=(f"{place.address}/rows.csv.zst?token=secret",)))


def sqlite(place: Place, rows: list[Row]) -> Given:
    path = place.folder / "shop.db"
    names = columns_of(rows)
    with sqlite3.connect(path) as db:
        db.execute(f"CREATE TABLE rows ({', '.join(f'{chr(34)}{name}{chr(34)}' for name in names)}, nr INTEGER)")
        values = [(*(row.get(name) for name in names), number) for number, row in enumerate(rows)]
        db.executemany(f"INSERT INTO rows VALUES ({', '.join('?' * (len(names) + 1))})", values)
    db.close()
    wanted = ", ".join(f'"{name}"' for name in names)
    return Given(inputs=Inputs(names=(), sql=f"sqlite:///{path}", query=f"SELECT {wanted} FROM rows ORDER BY nr;"))


def postgres(place: Place, rows: list[Row]) -> Given:
    """With a key, a cast and a percent sign in the query."""
    import sqlalchemy

    names, table = columns_of(rows), f"rows_{place.kind}"
    engine = sqlalchemy.create_engine(place.postgres)
    kinds = {int: "BIGINT", float: "NUMERIC(20, 4)", str: "TEXT"}
    told = {name: kinds[type(next(row[name] for row in rows if row.get(name) is not None))] for name in names}
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")
        wanted = ", ".join(f'"{name}" {kind}' for name, kind in told.items())
        connection.exec_driver_sql(f"CREATE TABLE {table} (nr BIGINT, {wanted})")
        for number, row in enumerate(rows):
            values = (number, *(row.get(name) for name in names))
            connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(values))})", values)
    engine.dispose()
    wanted = ", ".join(f'"{name}"' for name in names)
    query = f"SELECT {wanted} FROM {table} WHERE nr::text NOT LIKE '%no:number%' -- all"
    key = "event_id" if place.kind == "events" else "id"
    return Given(inputs=Inputs(names=(), sql=place.postgres, query=query, key=key))


SOURCES: dict[str, Make] = {
    "csv": file("rows.csv", text),
    "csv with a byte order mark and carriage returns": file(
        "rows.csv", partial(text, encoding="utf-8-sig", end="\r\n")
    ),
    "csv.gz": file("rows.csv.gz", lambda rows: gzip.compress(text(rows))),
    "csv.zst": file("rows.csv.zst", lambda rows: zstd(text(rows))),
    "csv with semicolons in latin letters": file("rows.csv", partial(text, encoding="cp1252", delimiter=";")),
    "csv with tabs in UTF-16": file("rows.tsv", partial(text, encoding="utf-16", delimiter="\t")),
    "csv with single quotes": file("rows.csv", partial(text, quote="'"), quote="'"),
    "JSON lines": file("rows.jsonl", json_lines),
    "JSON lines without a name for it": file("rows", json_lines),
    "JSON lines in UTF-16": file(
        "rows.jsonl", lambda rows: codecs.BOM_UTF16_BE + json_lines(rows).decode().encode("utf-16-be")
    ),
    "jsonl.gz": file("rows.jsonl.gz", lambda rows: gzip.compress(json_lines(rows))),
    "jsonl.zst": file("rows.jsonl.zst", lambda rows: zstd(json_lines(rows))),
    "Parquet": file("rows.parquet", parquet),
    "Parquet, gz": file("rows.parquet.gz", lambda rows: gzip.compress(parquet(rows))),
    "many files": many,
    "a folder": folder,
    "standard input": stdin,
    "a URL": url,
    "SQLite": sqlite,
    "PostgreSQL": postgres,
}


# -- the world --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with running_postgres() as address:
        yield address


@pytest.fixture(scope="module")
def web() -> Iterator[tuple[str, dict[str, bytes]]]:
    """A server that redirects from ``/x`` to ``/moved/x``, and has files there."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            body = files.get(path)
            self.send_response(302 if body is None else 200)
            if body is None:
                self.send_header("Location", f"/moved{path}")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", files
    server.shutdown()
    thread.join()
    server.server_close()


class World:
    """A data folder with a workspace, and what is read into it."""

    def __init__(self, data: Path) -> None:
        self.settings: Settings = load({"BACKSTORY_PRIVATE_URLS": "1"}, {"data": data})
        self.live = Live(data / "workspaces" / "default")

    def bring_in(self, kind: Kind, given: Given, *, stops: bool = False, **more: Any) -> Summary:
        """As the command does it; ``stops``: the import is broken off after every chunk, and gone on with."""
        chunking = Chunking(bytes_max=700, event_rows_max=5, people_rows_max=2, tell_every_s=0)
        while True:
            paths = fetch_all(
                self.settings,
                given.inputs,
                io.BytesIO(given.standard),
                keep_nulls=more.get("on_empty") == "clear",
                on_bytes=lambda came, of: None,
            )
            options = BackfillOptions(kind=kind, paths=paths, **given.told, **more)
            try:
                return backfill.run(self.live.workspace, options, _stop if stops else _go_on, chunking=chunking)
            except Stopped:
                self.live.crash()


def _go_on(progress: object) -> None:
    pass


def _stop(progress: Any) -> None:
    if progress.phase == "importing":
        raise Stopped("broken off")


@pytest.fixture
def worlds(tmp_path: Path) -> Iterator[Callable[[str], World]]:
    opened: list[World] = []

    def make(name: str) -> World:
        opened.append(World(tmp_path / name))
        return opened[-1]

    yield make
    for world in opened:
        world.live.close()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, dict[str, Any]]:
    """What the rows say as plain JSON lines."""
    found: dict[Kind, dict[str, Any]] = {}
    kinds: dict[Kind, list[Row]] = {"people": PEOPLE, "events": EVENTS}
    for kind, rows in kinds.items():
        folder = tmp_path_factory.mktemp(kind)
        world = World(folder)
        (folder / "rows.jsonl").write_bytes(json_lines(rows))
        world.bring_in(kind, Given(inputs=Inputs(names=(str(folder / "rows.jsonl"),))), as_of_us=AS_OF_US[kind])
        found[kind] = state(world.live)
        world.live.close()
    return found


@pytest.mark.parametrize("kind", ["people", "events"])
@pytest.mark.parametrize("name", SOURCES)
def test_the_same_rows_come_out_of_every_source(
    name: str,
    kind: Kind,
    worlds: Callable[[str], World],
    expected: dict[Kind, dict[str, Any]],
    tmp_path: Path,
    database: str,
    web: tuple[str, dict[str, bytes]],
) -> None:
    """The same values of people, the same events; broken off after every chunk and gone on with, exactly once; and
    a second time nothing is new."""
    rows = PEOPLE if kind == "people" else EVENTS
    place = Place(folder=tmp_path / "in", postgres=database, files=web[1], address=web[0], kind=kind)
    place.folder.mkdir()
    given = SOURCES[name](place, rows)
    world = worlds("world")
    summary = world.bring_in(kind, given, stops=True, as_of_us=AS_OF_US[kind])
    assert (summary.rows, summary.created, summary.errors, summary.import_id) == (len(rows), len(rows), 0, 1)
    assert state(world.live) == expected[kind]
    assert list((world.settings.data / "workspaces" / "default" / "spool").glob("*")) == []
    again = world.bring_in(kind, given, as_of_us=AS_OF_US[kind])
    assert (again.import_id, again.created, again.updated) == (2, 0, 0)
    assert state(world.live) == expected[kind]


@pytest.mark.parametrize("name", ["csv", "Parquet", "SQLite", "PostgreSQL"])
@pytest.mark.parametrize("on_empty", ["ignore", "clear"])
def test_an_empty_cell_means_the_same_in_every_table(
    name: str, on_empty: Any, worlds: Callable[[str], World], tmp_path: Path, database: str
) -> None:
    """It leaves the value as it is, or removes it."""
    place = Place(folder=tmp_path / "in", postgres=database, files={}, address="", kind="people")
    place.folder.mkdir()
    world = worlds("world")
    for rows in ([{"id": "ann", "plan": "pro"}], [{"id": "ann", "plan": None}, {"id": "bob", "plan": "free"}]):
        world.live.advance(1_000_000)
        world.bring_in("people", SOURCES[name](place, rows), on_empty=on_empty)
        for path in place.folder.iterdir():
            path.unlink()
    person = world.live.workspace.reader.person("id", "ann")
    assert person is not None
    assert ("plan" in person.attributes) == (on_empty == "ignore")


def test_values_of_parquet_that_json_has_no_word_for(worlds: Callable[[str], World], tmp_path: Path) -> None:
    """Not a number, moments, decimals, bytes, lists and structures: each as text or JSON that says the same."""
    table = pa.table(
        {
            "id": ["ann"],
            "nan": [float("nan")],
            "infinite": [float("-inf")],
            "at": pa.array([1_717_243_200_123_456_789], pa.timestamp("ns", "UTC")),
            "local": pa.array([1_717_243_200_000_000], pa.timestamp("us")),
            "day": pa.array([19_875], pa.date32()),
            "price": pa.array(["12.50"]).cast(pa.decimal128(10, 2)),
            "exact": pa.array(["1234567890123456.78"]).cast(pa.decimal128(30, 2)),
            "raw": pa.array([b"\xff\x00"], pa.binary()),
            "nested": pa.array([{"a": 1, "b": [1.5, None]}]),
            "ok": [True],
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    world = worlds("world")
    world.bring_in("people", Given(inputs=Inputs(names=(str(tmp_path / "rows.parquet"),))))
    person = world.live.workspace.reader.person("id", "ann")
    assert person is not None
    shown = msgspec.json.decode(msgspec.json.encode(person.attributes))
    shown.pop("id", None)
    assert {name: shown[name] for name in table.column_names if name != "id"} == {
        "nan": "NaN",
        "infinite": "-Infinity",
        "at": "2024-06-01T12:00:00.123456Z",
        "local": "2024-06-01T12:00:00",
        "day": "2024-06-01",
        "price": 12.5,
        "exact": "1234567890123456.78",
        "raw": "\\xff00",
        "nested": {"a": 1, "b": [1.5, None]},
        "ok": True,
    }
