"""What is odd in a file is told, not guessed at in silence."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backstory.core.error import RequestError
from backstory.engine import backfill
from backstory.engine.csv_dialect import Dialect, find_dialect
from backstory.engine.import_job import Chunking
from backstory.engine.options import BackfillOptions, Summary
from backstory.engine.report import first_rows
from tests.live import Live
from tests.model.imported import names_of


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    world = Live(tmp_path / "default")
    yield world
    world.close()


def load(live: Live, kind: Any, name: str, body: bytes, *, fast: bool = True, **more: Any) -> Summary:
    path = live.path.parent / name
    path.write_bytes(body)
    options = BackfillOptions(kind=kind, paths=(str(path),), **more)
    chunking = Chunking(fast=fast, fast_bytes_min=0 if fast else 1 << 60)
    return backfill.run(live.workspace, options, lambda progress: None, chunking=chunking)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(
    ("kind", "line", "key"),
    [
        ("people", b'{"id":"a","plan":"pro","id":"b"}', "id"),
        ("people", b'{"id":"a","plan":"pro" , "plan" : "free"}', "plan"),
        ("people", b'{"id":"a","deep":{"x":1,"x":2}}', "x"),
        ("events", b'{"customer_id":"a","name":"x","timestamp":5,"customer_id":"b"}', "customer_id"),
        ("events", b'{"customer_id":"a","name":"x","timestamp":5,"data":{"n":1,"n":2}}', "n"),
        ("objects", b'{"object_id":"a","plan":"pro","object_id":"b"}', "object_id"),
    ],
)
def test_a_key_that_is_there_twice_is_an_error(live: Live, kind: Any, line: bytes, key: str, fast: bool) -> None:
    """Nobody could say which of the two is meant; the rows beside it come in, colons in texts notwithstanding."""
    good = {
        "people": b'{"id":"c","note":"a\\":b :c","plan":"pro"}',
        "events": b'{"customer_id":"c","name":"x:\\": y","timestamp":5}',
        "objects": b'{"object_id":"c","plan":": \\":"}',
    }[kind]
    done = load(live, kind, "rows.jsonl", good + b"\n" + line + b"\n", fast=fast)
    assert (done.created, done.errors) == (1, 1)
    assert first_rows(done.error_file, 5) == [(0, 2, f"{key}: the key is there twice in one object")]


def test_members_nobody_knows_are_told_of(live: Live) -> None:
    """They are left out, as in the original, and the file of warnings says who and why."""
    live.identify("ann")
    live.segment(None)
    done = load(live, "members", "members.csv", b"id\nann\nnobody\n", segment_id=1)
    assert (done.created, done.skipped, done.warnings) == (1, 1, 1)
    ((_, line, why),) = first_rows(done.warning_file, 5)
    assert line == 3
    assert "'nobody': nobody has it" in why


@pytest.mark.parametrize(
    ("field", "right"), [("tags[", False), ("tags]", False), ("a[x]", False), ("tags[]", True), ("a[0].b", True)]
)
def test_a_field_with_an_open_bracket_is_refused(live: Live, field: str, right: bool) -> None:
    """Brackets stand for items of a list."""
    if right:
        assert load(live, "people", "people.csv", b"id,x\na,1\n", map={"x": field}).created == 1
        return
    with pytest.raises(RequestError, match="bracket"):
        load(live, "people", "people.csv", b"id,x\na,1\n", map={"x": field})
    assert names_of(live.workspace) == {}


@pytest.mark.parametrize(
    ("body", "quote"),
    [
        (b"'id','name'\n'a','O, k'\n", "'"),
        (b"id,name\n'a','O, k'\n'b','it is'\n", "'"),
        (b"id,name\n'a','O, k'\nb,it's\n", '"'),
        (b"id,name\n'tis,\"yes\"\n", '"'),
        (b"id,name\nO'Hara,x\n", '"'),
        (b"id,name\n", '"'),
    ],
)
def test_single_quotes_are_found_in_the_header_or_in_all_rows(tmp_path: Path, body: bytes, quote: str) -> None:
    """An apostrophe is none."""
    path = tmp_path / "a.csv"
    path.write_bytes(body)
    assert find_dialect(path, Dialect()).quote == quote
