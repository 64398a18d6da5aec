"""What is odd in a file is told, not guessed at in silence."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backstory.core.error import RequestError
from backstory.engine.backfill import backfill
from backstory.engine.backfill.import_job import Chunking
from backstory.engine.backfill.import_outline import outline
from backstory.engine.file.csv_dialect import Dialect, find_dialect
from backstory.engine.file.options import BackfillOptions, Summary
from backstory.engine.file.report import first_rows
from backstory.engine.preview.preview import preview
from backstory.engine.preview.rehearsal import rehearse
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


NOTHINGS = ("NaN", "NULL", "null", "nan", "None", "undefined")


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(
    ("kind", "name", "head", "row"),
    [
        ("people", "people.csv", "id,plan", "{},pro"),
        ("people", "people.csv", "email,plan", "{},pro"),
        ("people", "people.jsonl", "", '{{"id":"{}","plan":"pro"}}'),
        ("events", "events.csv", "customer_id,name,timestamp", "{},bought,5"),
        ("events", "events.jsonl", "", '{{"customer_id":"{}","name":"bought","timestamp":5}}'),
        ("events", "events.jsonl", "", '{{"customer_id":"ann","name":"bought","event_id":"{}"}}'),
        ("objects", "objects.csv", "object_id,plan", "{},pro"),
        ("relationships", "seats.csv", "object_id,id", "acme,{}"),
    ],
)
def test_identifiers_that_read_like_nothing_come_in_as_texts_and_are_told_of(
    live: Live, kind: Any, name: str, head: str, row: str, fast: bool
) -> None:
    """Whether the text is somebody's name or an empty cell of another program, nobody can say: a warning for each."""
    lines = ([head] if head else []) + [row.format(word) for word in (*NOTHINGS, "Nancy", "nul", "nobody", "unordered")]
    done = load(live, kind, name, "\n".join(lines).encode() + b"\n", fast=fast)
    told = first_rows(done.warning_file, 20)
    first = 2 if head else 1
    assert [line for _, line, _ in told] == list(range(first, first + len(NOTHINGS)))
    assert all(repr(word) in why for word, (_, _, why) in zip(NOTHINGS, told, strict=True))
    assert (done.warnings, done.errors, done.skipped) == (len(NOTHINGS), 0, 0)
    assert done.rows == len(lines) - bool(head)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(
    ("kind", "name", "head", "row"),
    [
        ("people", "people.csv", "id,plan", '"{}",pro'),
        ("people", "people.jsonl", "", '{{"id":"{}","plan":"pro"}}'),
        ("events", "events.csv", "customer_id,name,timestamp", '"{}",bought,5'),
        ("events", "events.jsonl", "", '{{"customer_id":"{}","name":"bought","timestamp":5}}'),
        ("objects", "objects.csv", "object_id,plan", '"{}",pro'),
    ],
)
def test_identifiers_with_blanks_at_their_ends_are_told_of(
    live: Live, kind: Any, name: str, head: str, row: str, fast: bool
) -> None:
    """They are part of it, and make somebody else of whom they look like: a warning for each."""
    words = ("ann ", " bob", " carl ", "d e", "eve")
    lines = ([head] if head else []) + [row.format(word) for word in words]
    done = load(live, kind, name, "\n".join(lines).encode() + b"\n", fast=fast)
    told = first_rows(done.warning_file, 20)
    first = 2 if head else 1
    assert [line for _, line, _ in told] == [first, first + 1, first + 2]
    assert all("blanks" in why for _, _, why in told)
    assert (done.warnings, done.errors, done.skipped) == (3, 0, 0)


def test_members_that_read_like_nothing_are_told_of(live: Live) -> None:
    """Somebody may be called so, and is put in."""
    live.identify("null")
    live.segment(None)
    done = load(live, "members", "members.csv", b"id\nnull\n", segment_id=1)
    assert (done.created, done.warnings) == (1, 1)


@pytest.mark.parametrize(
    ("kind", "name", "body", "says"),
    [
        ("people", "people.csv", b"user,plan\na,pro\n", "there are user, plan: .*--map user=id"),
        ("people", "people.csv", b"E-Mail,plan\na@b.c,pro\n", "--map E-Mail=email"),
        ("people", "people.csv", b"plan\npro\n", "--map COLUMN=id"),
        ("events", "events.jsonl", b'{"CustomerNo":"a","name":"x"}\n', "there are CustomerNo, name: .*CustomerNo=id"),
        ("objects", "objects.csv", b"sku,plan\na,pro\n", "names an object; there are sku, plan"),
        ("relationships", "seats.csv", b"id,account\na,b\n", "names an object; there are id, account"),
        ("people", "people.jsonl", b"id,plan\na,pro\n", "can be read as JSON lines"),
        ("people", "people.json", b'[{"id":"a"},\n{"id":"b"}]\n', r"one list: .* jq -c '\.\[\]'"),
        ("people", "people.json", b'{\n  "id": "a"\n}\n', "over several lines: .* jq -c"),
        ("people", "people.csv", b"id,plan\n,pro\n", ""),
        ("events", "e.csv", b"id,name,timestamp\na,x,2024-05-01 10:00\n", "timestamp .*05-01 10:00: .*--zone"),
        ("events", "e.jsonl", b'{"id":"a","name":"x","timestamp":"2024-05-01T10:00"}\n', "times in timestamp .*--zone"),
        ("people", "p.csv", b"id,_timestamp\na,2024-05-01 10:00\n", "times in _timestamp .*--zone"),
        ("events", "e.csv", b"id,name,timestamp\na,,2024-05-01T10:00Z\n", ""),
        ("people", "people.csv", b"user,plan\n", ""),
    ],
)
def test_files_that_name_nobody_come_with_a_hint(live: Live, kind: Any, name: str, body: bytes, says: str) -> None:
    """Every row is an error of its own; beside them stands once which columns there are and how to say who is meant."""
    path = live.path.parent / name
    path.write_bytes(body)
    options = BackfillOptions(kind=kind, paths=(str(path),))
    seen = preview(live.workspace, options, lambda progress: None, rehearse=rehearse)
    done = load(live, kind, name, body)
    assert done.errors == done.rows
    assert seen.hint == done.hint
    assert re.search(says, done.hint)
    assert bool(done.hint) == bool(says)


@pytest.mark.parametrize("kind", ["people", "relationships"])
def test_two_columns_that_are_one_field_come_with_a_hint(live: Live, kind: Any) -> None:
    """No row can be taken; which two it is stands once beside the errors."""
    done = load(live, kind, "both.csv", b"number,mail,object_id\na,a@b.c,x\n", map={"number": "id", "mail": "id"})
    assert done.errors == done.rows == 1
    assert "number and mail are both read as id" in done.hint


UNREADABLE = {
    "garbage.jsonl": b"garbage\nmore garbage\n",
    "list.json": b'[{"id":"a"},\n{"id":"b"}]\n',
    "null.jsonl": b"null\nnull\n",
    "empty.jsonl": b"{}\n{}\n",
    "zero.csv": b"id,name\n\x00\x00\n\x00,\x00\n",
    "quote.csv": b'id,name\n"a,b\nfoo\n',
    "narrow.csv": b"id,name\nfoo\nbar\n",
    "cut.jsonl": b'{"id":"a"\n{"id":\n',
    "latin.jsonl": b'{"id":"\xe9"}\n{"id":"\xe9"}\n',
}


@pytest.mark.parametrize("kind", ["people", "events", "objects", "relationships"])
@pytest.mark.parametrize("name", UNREADABLE)
def test_lines_that_cannot_be_read_are_rows_all_the_same(live: Live, kind: Any, name: str) -> None:
    """What is read, told before, previewed and run counts each of them."""
    path = live.path.parent / name
    path.write_bytes(UNREADABLE[name])
    options = BackfillOptions(kind=kind, paths=(str(path),))
    (told,) = outline(options)
    assert told.rows_seen == 2
    seen = preview(live.workspace, options, lambda progress: None, rehearse=rehearse)
    assert (seen.rows, seen.errors) == (2, 2)
    assert len(seen.error_samples) == 2
    done = backfill.run(live.workspace, options, lambda progress: None)
    assert (done.rows, done.errors, done.hint) == (2, 2, seen.hint)
    assert len(first_rows(done.error_file, 5)) == 2
