"""Proving: does anything in a data folder still speak of somebody, where, and until when?

It reads files only, beside a running server or without one, and looks twice: at what tables, parts and packed files
say, and at the bytes of every file, where deleted rows may still lie. What is known of a person (their number, names,
the texts of their attributes) is looked for together with the identifier given. It knows no loop and writes nothing.
Never inside the process that has the folder open: to close a file takes SQLite's locks on it from the whole process.
"""

import email
import email.policy
import gzip
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from backstory.core.error import RequestError, StorageError
from backstory.core.person import decode_document, values
from backstory.engine.verify.place import NOTHING, TABLES, place_of
from backstory.store.database import connect
from backstory.store.naming import kinds_of, texts_in
from backstory.store.people import cio_id_of, person_of
from backstory.store.tombstone import hashed_name, read_secret
from backstory.store.write_block import rows_about, table_of_writes

BLOCK_BYTES = 4 << 20
# Shorter texts of attributes are everybody's.
TEXT_CHARACTERS_MIN = 6
# Rows by number in these are no data of a person.
_NUMBERS_STAY = ("deleted", "purge", "delivery", "leaf_page", "suppressed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``count`` places in one file or table; ``gone_us`` is when they have to be gone, None: not by itself."""

    workspace: str | None
    place: str
    file: str
    count: int
    gone_us: int | None
    why: str


@dataclass(slots=True, kw_only=True)
class Subject:
    """What is known of somebody in one workspace."""

    numbers: set[int] = field(default_factory=set[int])
    alive: bool = False
    # Into whom they were merged, of those who are there.
    survivors: set[int] = field(default_factory=set[int])
    gone_us: int | None = None
    hashes: int = 0
    texts: set[str] = field(default_factory=set[str])


def prove(data: Path, identifier: str, *, keep_us: int, on_finding: Callable[[Finding], None]) -> int:
    """Search a data folder for somebody; each place looked at is told, with a count of 0 where there is nothing.

    Returns how many places hold something. Raises ``RequestError`` for a blank identifier, ``StorageError`` for a file
    that cannot be read.
    """
    if not identifier.strip():
        raise RequestError(f"an identifier is needed to search for somebody, not {identifier!r}: a blank names nobody")
    found = 0
    subjects: dict[str, Subject] = {}
    workspaces = sorted(path.parent for path in (data / "workspaces").glob("*/state.db"))
    for path in workspaces:
        with closing(connect(path / "state.db", synchronous="NORMAL", read_only=True)) as db:
            subjects[path.name] = subject_of(db, path, identifier)
    texts = {identifier, identifier.strip().lower()}
    for subject in subjects.values():
        texts |= subject.texts
    needles = _needles(texts)
    for path in workspaces:
        subject = subjects[path.name]
        for finding in _in_tables(path, subject, needles):
            found += finding.count > 0
            on_finding(_dated(finding, subject, keep_us))
    for path in sorted(one for one in data.rglob("*") if one.is_file()):
        relative = path.relative_to(data)
        workspace = relative.parts[1] if relative.parts[0] == "workspaces" else None
        subject = subjects.get(workspace or "default", Subject())
        count = _in_file(path, subject, needles)
        found += count > 0
        place = place_of(str(relative))
        finding = Finding(
            workspace=workspace, place=place.name, file=str(relative), count=count, gone_us=None, why=place.gone
        )
        on_finding(_dated(finding, subject, keep_us))
    return found


def _dated(finding: Finding, subject: Subject, keep_us: int) -> Finding:
    gone_us = None if subject.alive or subject.gone_us is None or finding.why == NOTHING else subject.gone_us + keep_us
    why = finding.why
    if subject.alive and finding.count:
        why = "the person is there: delete or suppress them first"
    elif subject.survivors and finding.count:
        names = " and ".join(cio_id_of(one) for one in sorted(subject.survivors))
        why = f"merged into cio_id {names}, who is there: it goes when they are deleted or suppressed"
    return replace(finding, gone_us=None if subject.survivors else gone_us, why=why)


# -- who is meant -----------------------------------------------------------------------------------------------------


def subject_of(db: sqlite3.Connection, folder: Path, identifier: str) -> Subject:
    """Whom an identifier of any kind names in a workspace, now or before, with the words that only they brought."""
    subject = Subject()
    lower = identifier.strip().lower()
    rows = db.execute(
        "SELECT person FROM person WHERE id = ?1 OR email_key = ?2 OR phone = ?1"
        " UNION SELECT person FROM claim WHERE anonymous_id = ?1",
        (identifier, lower),
    ).fetchall()
    number = person_of(identifier)
    living = {row[0] for row in rows}
    if number is not None and db.execute("SELECT 1 FROM person WHERE person = ?", (number,)).fetchone():
        living.add(number)
    subject.alive = bool(living)
    subject.numbers = living | _gone(db, subject, identifier, lower, number)
    merged = "SELECT person FROM deleted WHERE survivor = ?"
    subject.numbers |= {row[0] for one in list(subject.numbers) for row in db.execute(merged, (one,))}
    for one in subject.numbers:
        subject.texts |= _names(db, one)
    pending = [db.execute("SELECT gone_us FROM purge WHERE number = ?", (one,)).fetchone() for one in subject.numbers]
    told = [row[0] for row in pending if row is not None]
    subject.gone_us = max([*told, *([] if subject.gone_us is None else [subject.gone_us])], default=None)
    subject.texts |= _own_texts(db, folder, subject.numbers)
    return subject


def _gone(db: sqlite3.Connection, subject: Subject, identifier: str, lower: str, number: int | None) -> set[int]:
    """People who had the name and are gone; sets since when, who took them over, how many hashes of it there are."""
    found: set[int] = set()
    gone: list[int] = []
    tombstones = "SELECT person, survivor, deleted_us FROM tombstone WHERE value IN (?, ?)"
    for person, survivor, deleted_us in db.execute(tombstones, (identifier, lower)).fetchall():
        if survivor is None or db.execute("SELECT 1 FROM person WHERE person = ?", (survivor,)).fetchone() is None:
            found.add(person)
            gone.append(deleted_us)
        else:
            subject.survivors.add(survivor)
    secret = read_secret(db)
    if secret is not None:
        names = {(kind, lower if kind == "email" else identifier) for kind in [*kinds_of(identifier), "email"]}
        for kind, value in names:
            rows = db.execute(
                "SELECT number, at_us FROM suppressed WHERE hash = ?", (hashed_name(secret, kind, value),)
            ).fetchall()
            subject.hashes += len(rows)
            for one, at_us in rows:
                gone.append(at_us)
                if one >= 0:
                    found.add(one)
    if number is not None:
        row = db.execute("SELECT deleted_us FROM deleted WHERE person = ?", (number,)).fetchone()
        if row is not None:
            found.add(number)
            gone.append(row[0])
    subject.gone_us = max(gone, default=None)
    return found


def _names(db: sqlite3.Connection, person: int) -> set[str]:
    """All that names or named somebody, as far as it is kept."""
    queries = (
        "SELECT id, email, phone FROM person WHERE person = ?", "SELECT id, email, phone FROM deleted WHERE person = ?",
        "SELECT anonymous_id FROM claim WHERE person = ?",
    )  # fmt: skip
    found = {str(one) for query in queries for row in db.execute(query, (person,)) for one in row if one is not None}
    found |= {row[0] for row in db.execute("SELECT value FROM tombstone WHERE person = ?", (person,))}
    return found | {cio_id_of(person)}


def _own_texts(db: sqlite3.Connection, folder: Path, people: set[int]) -> set[str]:
    """Longer texts among the attributes of people, as far as nobody else who is there has them."""
    if not people:
        return set()
    marks = ", ".join("?" * len(people))
    numbers = tuple(people)
    table = table_of_writes(db, numbers)
    texts = [row[0] for row in db.execute(f"SELECT attributes FROM {table} WHERE person IN ({marks})", numbers)]
    for (path,) in db.execute("SELECT path FROM part WHERE kind = 'write'").fetchall():
        table = _read_part(folder / "parts" / path, ["person", "attributes"])
        if table is not None:
            mine = pc.is_in(table.column("person"), value_set=pa.array(numbers, pa.uint32()))  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType, reportAttributeAccessIssue]
            texts += table.filter(mine).column("attributes").to_pylist()
    found = {one for text in texts for one in texts_in(_json(text)) if len(one) >= TEXT_CHARACTERS_MIN}
    for (document,) in db.execute(f"SELECT document FROM person WHERE person IN ({marks})", numbers):
        found |= {one for one in texts_in(values(decode_document(document))) if len(one) >= TEXT_CHARACTERS_MIN}
    if not found:
        return found
    others = _pattern(_needles(found))
    shared: set[bytes] = set()
    for (document,) in db.execute(f"SELECT document FROM person WHERE person NOT IN ({marks})", numbers):
        shared.update(others.findall(document))
    names = {row[0] for row in db.execute("SELECT DISTINCT name FROM event")} | _attribute_names(db)
    return {one for one in found if one not in names and not any(form in shared for form in _needles({one}))}


def _attribute_names(db: sqlite3.Connection) -> set[str]:
    """Names of attributes are no texts of somebody."""
    found: set[str] = set()
    for (text,) in db.execute(f"SELECT attributes FROM {table_of_writes(db)} LIMIT 10000"):
        found.update(_json(text))
    for (document,) in db.execute("SELECT document FROM person LIMIT 10000"):
        found.update(values(decode_document(document)))
    return found


def _json(text: str) -> Any:
    return msgspec.json.decode(text)


# -- where it is said -------------------------------------------------------------------------------------------------


def _needles(texts: Iterable[str]) -> list[bytes]:
    """The forms in which texts lie in files: as they are, and as JSON writes them without other letters than ASCII.

    Short ones would be found in anything: of those only whole values of JSON and cells of tables are.
    """
    forms: set[bytes] = set()
    for text in texts:
        if 0 < len(text) < TEXT_CHARACTERS_MIN:
            forms.add(f'"{text}"'.encode())
        elif text:
            forms.add(text.encode())
            escaped = "".join(one if one.isascii() else f"\\u{ord(one):04x}" for one in text)
            forms.add(escaped.encode("ascii", "replace"))
    return sorted(forms, key=len, reverse=True)


def _pattern(needles: Sequence[bytes]) -> re.Pattern[bytes]:
    return re.compile(b"|".join(re.escape(one) for one in needles))


def _in_tables(folder: Path, subject: Subject, needles: list[bytes]) -> Iterator[Finding]:
    """Rows of every table, by what they say and by whose they are."""
    with closing(connect(folder / "state.db", synchronous="NORMAL", read_only=True)) as db:
        gone = {place.name: place.gone for place in TABLES}
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        for name in names:
            count = _rows_saying(db, name, subject, needles)
            yield Finding(
                workspace=folder.name, place=name, file=f"workspaces/{folder.name}/state.db", count=count, gone_us=None,
                why=gone.get(name, ""),
            )  # fmt: skip


def _rows_saying(db: sqlite3.Connection, table: str, subject: Subject, needles: list[bytes]) -> int:
    columns = [(row[1], row[2]) for row in db.execute(f"PRAGMA table_info({table})")]
    said = [name for name, kind in columns if kind != "INTEGER"]
    short = [one[1:-1].decode() for one in needles if one.startswith(b'"') and len(one) < TEXT_CHARACTERS_MIN + 2]
    tests = [f"instr(CAST({name} AS BLOB), ?{place + 1}) > 0" for name in said for place in range(len(needles))]
    quoted = ", ".join("'" + one.replace("'", "''") + "'" for one in short)
    tests += [f"{name} IN ({quoted})" for name in said if short]
    if subject.numbers and "person" in dict(columns) and table not in _NUMBERS_STAY:
        tests.append(f"person IN ({', '.join(map(str, sorted(subject.numbers)))})")
    if not tests:
        return 0
    query = f"SELECT count(*) FROM {table} WHERE {' OR '.join(tests)}"
    (found,) = db.execute(query, needles if said else ()).fetchone()
    # In blocks people's numbers are packed.
    return max(found, rows_about(db, subject.numbers)) if table == "write_block" else found


def _in_file(path: Path, subject: Subject, needles: list[bytes]) -> int:
    """How often a file speaks of somebody: in its bytes, and in what it holds packed or by number."""
    try:
        with path.open("rb") as file:
            head = file.read(4)
        if head == b"PAR1":
            return _in_part(path, subject, needles)
        if path.suffix == ".keys":
            return _in_run(path, subject)
        count = _in_bytes(path, needles)
        if head[:2] == b"\x1f\x8b":
            with gzip.open(path) as packed:
                count += _in_blocks(iter(lambda: packed.read(BLOCK_BYTES), b""), needles)
        elif head == b"\x28\xb5\x2f\xfd":
            count += _in_blocks(_unpacked(path), needles)
        elif path.suffix == ".eml" and not count:
            count += _in_mail(path, needles)
    except FileNotFoundError:
        # A server beside us has just replaced it.
        return 0
    except (OSError, EOFError, pa.ArrowException) as error:
        raise StorageError(f"{path} cannot be searched: {error}") from error
    return count


def _unpacked(path: Path) -> Iterator[bytes]:
    stream: Any = pa.CompressedInputStream(str(path), "zstd")
    try:
        while block := stream.read(BLOCK_BYTES):
            yield block
    finally:
        stream.close()


def _in_bytes(path: Path, needles: list[bytes]) -> int:
    with path.open("rb") as file:
        return _in_blocks(iter(lambda: file.read(BLOCK_BYTES), b""), needles)


def _in_blocks(blocks: Iterator[bytes], needles: list[bytes]) -> int:
    pattern, longest = _pattern(needles), max(map(len, needles))
    count, rest = 0, b""
    for block in blocks:
        text = rest + block
        keep = 0
        for found in pattern.finditer(text):
            count += 1
            keep = found.end()
        rest = text[max(keep, len(text) - longest + 1) :]
    return count


def _in_mail(path: Path, needles: list[bytes]) -> int:
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    texts = [str(value) for value in message.values()]
    for one in message.walk():
        payload = one.get_payload(decode=True)
        texts.append(payload.decode("utf-8", "replace") if isinstance(payload, bytes) else "")
    return len(_pattern(needles).findall("\n".join(texts).encode()))


def _read_part(path: Path, columns: list[str] | None = None) -> pa.Table | None:
    try:
        return pq.read_table(path, columns=columns)
    except FileNotFoundError:
        return None


def _in_part(path: Path, subject: Subject, needles: list[bytes]) -> int:
    """Rows of a Parquet file that are somebody's by number, or say a needle; group by group."""
    count = 0
    pattern = _pattern(needles)
    numbers = np.array(sorted(subject.numbers), np.int64)
    for batch in pq.ParquetFile(path).iter_batches():
        hit = np.zeros(batch.num_rows, np.bool_)
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if name == "person" and path.parent.name == "parts":
                hit |= np.isin(np.asarray(column.to_numpy(zero_copy_only=False)), numbers)
            elif str(column.type) in ("string", "large_string"):
                for at, text in enumerate(column.to_pylist()):
                    if text is not None and pattern.search(text.encode()):
                        hit[at] = True
        count += int(hit.sum())
    return count


def _in_run(path: Path, subject: Subject) -> int:
    body = np.fromfile(path, np.uint8)
    people = body[len(body) // 12 * 8 :].view(np.uint32)
    return int(np.isin(people, np.array(sorted(subject.numbers), np.uint32)).sum())
