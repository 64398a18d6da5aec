"""Taking names out of what is kept as text: traces in the log, rows of reports on imports, archived mail.

A row of a report is overwritten where it stands, in its own length: an import that goes on finds the report as long as
it left it, and to do it again changes nothing.
"""

import csv
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from backstory.core.trace import ATTRIBUTE_CHANGE, DEVICE_CHANGE, PROFILE_CREATE, SKIPPED_UPDATE
from backstory.engine.file.report import OLDER_ROW, file_told, line_told
from backstory.store.naming import Naming

FORGOTTEN_TRACE = '{"forgotten":true}'
_REPORT = re.compile(r"import-(\d+)-(errors|warnings)(\.|\Z)")
# Entries about the person whose they are: no other call's names are in them.
_OWN = (ATTRIBUTE_CHANGE, DEVICE_CHANGE, PROFILE_CREATE, SKIPPED_UPDATE)
_TRACES = (
    "SELECT seq, accept_us, data FROM activity WHERE seq > ? AND (person IS NULL OR type NOT IN "
    f"({', '.join(repr(one) for one in _OWN)})) AND data <> ? ORDER BY seq LIMIT ?"
)
_TAKEN = "SELECT 1 FROM person WHERE id = ?1 OR email_key = lower(trim(?1)) OR phone = ?1"


def traces_naming(
    db: sqlite3.Connection, naming: Naming, after_seq: int, rows_max: int
) -> tuple[list[int], int | None]:
    """Entries of the log after a seq that name somebody gone, and the seq to go on from (None: these were the last)."""
    rows = db.execute(_TRACES, (after_seq, FORGOTTEN_TRACE, rows_max)).fetchall()
    found = [row[0] for row in rows if _is_theirs(db, naming, row[2], row[1])]
    return found, rows[-1][0] if len(rows) == rows_max else None


def _is_theirs(db: sqlite3.Connection, naming: Naming, text: str, accept_us: int) -> bool:
    """Does an entry speak of somebody gone? Later ones may be about whoever has the name now."""
    until_us = naming.in_json(text)
    if until_us is None:
        return False
    if accept_us <= until_us:
        return True
    words = set(re.findall(r'[^\s"\',;(){}\[\]]+', text))
    return not any(db.execute(_TAKEN, (word,)).fetchone() for word in words if naming.latest_us(word) is not None)


def redact_reports(folder: Path, accepted_us: Callable[[int], int | None], naming: Naming) -> Iterator[int]:
    """Overwrite rows that name somebody gone, file by file; yields how many rows each file lost.

    ``accepted_us`` says when an import began: a name whose bearer was gone by then meant somebody else.
    """
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        found = _REPORT.match(path.name) or _REPORT.match(path.parent.name)
        began_us = None if found is None else accepted_us(int(found.group(1)))
        yield redact_report(path, naming, -(1 << 62) if began_us is None else began_us)


def redact_report(path: Path, naming: Naming, began_us: int) -> int:
    """One report; returns how many rows were overwritten."""
    count = 0
    # Read by one hand and written by another, behind it: a report may be larger than memory.
    with open(path, "rb") as lines, open(path, "r+b") as file:
        header: list[str] | None = None
        delimiter = ","
        for start, record in _records(lines):
            text = record.decode("utf-8", "replace")
            if start == 0 and not text.startswith("{"):
                delimiter = re.split(r"line_*", text.rstrip())[-1][:1] or ","
                header = next(csv.reader([text], delimiter=delimiter))
                continue
            until_us = _named(text, header, delimiter, naming)
            if until_us is not None and (began_us <= until_us or OLDER_ROW in text):
                file.seek(start)
                file.write(_blank(text, header, delimiter, len(record)))
                count += 1
        if count:
            file.flush()
            os.fsync(file.fileno())
    return count


def _records(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """(where it begins, a row): a quoted cell may go over several lines."""
    start, pieces, quotes = 0, list[bytes](), 0
    for line in lines:
        pieces.append(line)
        quotes += line.count(b'"')
        if quotes % 2 == 0 or pieces[0].startswith(b"{"):
            record = b"".join(pieces)
            yield start, record
            start, pieces, quotes = start + len(record), [], 0
    if pieces:
        yield start, b"".join(pieces)


def _named(text: str, header: list[str] | None, delimiter: str, naming: Naming) -> int | None:
    if header is None:
        return naming.in_json(text)
    rows = list(csv.reader(text.splitlines(keepends=True), delimiter=delimiter))
    return naming.in_values(cell for row in rows for cell in row)


def _blank(text: str, header: list[str] | None, delimiter: str, length: int) -> bytes:
    """What stands in place of a row: its number and why, as long as it was."""
    if header is None:
        try:
            told: dict[str, object] = msgspec.json.decode(text, type=dict[str, object])
        except msgspec.MsgspecError:
            told = {}
        file = file_told(told)
        which = {} if file is None else {"file": file}
        row = msgspec.json.encode({"line": line_told(told) or 0, "error": "forgotten", **which})
    else:
        cells = next(csv.reader(text.splitlines(keepends=True), delimiter=delimiter))
        row_told = dict(zip(header, cells, strict=False))
        line, which = line_told(row_told) or "", [one for one in (file_told(row_told),) if one is not None]
        kept = delimiter.join([line if line.isdigit() else "0", "forgotten", *which])
        row = (delimiter * (len(header) - 2 - len(which)) + kept).encode()
    # Every report says more of a row than this; one that somebody edited may not.
    return row[: length - 1].ljust(length - 1) + b"\n"


def delete_mail(folders: Iterable[Path], delivery_ids: Iterable[str]) -> int:
    """Archived messages go; returns how many there were."""
    present = [folder for folder in folders if folder.is_dir()]
    count = 0
    for delivery_id in delivery_ids:
        for folder in present:
            for suffix in (".eml", ".json", ".part"):
                path = folder / f"{delivery_id}{suffix}"
                if path.exists():
                    path.unlink(missing_ok=True)
                    count += 1
    return count
