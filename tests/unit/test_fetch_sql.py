"""Rows of a query as a file: streamed, gone on with behind a key, or begun again."""

import io
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backstory.edge import fetch_sql
from backstory.edge.fetch import Inputs, fetch_all
from backstory.engine.file.spool import Spool
from backstory.engine.file.unpack import SourceError
from backstory.engine.settings import load


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A table of 5,000 rows in which three rows each have the same day."""
    with sqlite3.connect(tmp_path / "shop.db") as db:
        db.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, day INTEGER, note TEXT)")
        rows = ((n, n // 3, f"n{n}" if n % 2 else None) for n in range(5000))
        db.executemany("INSERT INTO orders VALUES (?, ?, ?)", rows)
    db.close()
    return f"sqlite:///{tmp_path / 'shop.db'}"


def rows(path: Path) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def bring(
    url: str, path: Path, *, key: str | None = None, stop_at: int = 1 << 60, query: str = "SELECT * FROM orders"
) -> Path:
    """``stop_at``: the connection is lost when so many bytes have come."""

    def on_bytes(came: int, of: int) -> None:
        if came >= stop_at:
            raise SourceError("lost")

    with Spool(path, bytes_max=1 << 30) as spool:
        fetch_sql.fetch(url, query, spool, key=key, keep_nulls=False, on_bytes=on_bytes)
        return spool.finish()


@pytest.mark.parametrize("key", [None, "id", "day"])
def test_a_query_that_broke_off_is_gone_on_with(url: str, tmp_path: Path, key: str | None) -> None:
    """Every row comes once, also where keys are equal; without a key it begins again."""
    path = tmp_path / "orders.jsonl"
    with pytest.raises(SourceError, match="lost"):
        bring(url, path, key=key, stop_at=1)
    with sqlite3.connect(tmp_path / "shop.db") as db:
        # What came is not asked for again when a key says where to go on.
        db.execute("UPDATE orders SET note = 'changed' WHERE id < 1000")
    db.close()
    found = rows(bring(url, path, key=key))
    assert [row["id"] for row in found] == list(range(5000))
    assert found[1]["note"] == ("changed" if key is None else "n1")
    assert "note" not in found[2000]


@pytest.mark.parametrize(
    ("query", "key", "problem"),
    [
        ("SELECT * FROM nowhere", None, "the query failed: no such table: nowhere"),
        ("SELECT id, id FROM orders", None, "two columns named 'id'"),
        ("SELECT day FROM orders", "id", "no such column|no column 'id'"),
        ("SELECT id, note FROM orders", "note", "key column 'note' is null in some row"),
    ],
)
def test_what_is_wrong_with_a_query_is_said(
    url: str, tmp_path: Path, query: str, key: str | None, problem: str
) -> None:
    """With the database's own words where it has some."""
    with pytest.raises(SourceError, match=problem):
        bring(url, tmp_path / "orders.jsonl", query=query, key=key)


def test_wrong_addresses_are_refused_and_passwords_not_shown() -> None:
    """The name of the import shows where the rows came from."""
    with pytest.raises(SourceError, match="--sql takes an address such as"):
        fetch_sql.origin("shop.db")
    with pytest.raises(SourceError, match=r"--sql takes an address such as|driver"):
        fetch_sql.origin("oracle7://me@host/shop")
    assert fetch_sql.origin("postgresql://me:secret@host/shop") == "postgresql://me:***@host/shop"


@pytest.mark.parametrize(
    ("key", "stop_at", "left"), [(None, 0, 0), ("id", 0, 0), (None, 1, 0), ("id", 1, 1)]
)
def test_a_query_that_failed_leaves_what_can_be_gone_on_with(
    url: str, tmp_path: Path, key: str | None, stop_at: int, left: int
) -> None:
    """Rows behind a key; nothing otherwise, whether it failed at once or (``stop_at``) when bytes had come."""
    (tmp_path / "data" / "workspaces" / "default").mkdir(parents=True)
    settings = load({}, {"data": tmp_path / "data"})
    inputs = Inputs(names=(), sql=url, query="SELECT * FROM " + ("orders" if stop_at else "nowhere"), key=key)

    def on_bytes(came: int, of: int) -> None:
        raise SourceError("the query failed: lost")

    with pytest.raises(SourceError, match="the query failed"):
        fetch_all(settings, inputs, io.BytesIO(), keep_nulls=False, on_bytes=on_bytes)
    assert len(list((tmp_path / "data" / "workspaces" / "default" / "spool").iterdir())) == left
