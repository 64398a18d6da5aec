"""Files made of random rows, brought into a workspace in bulk and told to another one call by call, to be compared."""

import csv
import gzip
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from backstory.core.condition import Json
from backstory.core.event import canonical
from backstory.core.fact import Fact, Identifier, Identify, Track
from backstory.core.person import Document
from backstory.engine.backfill import backfill
from backstory.engine.backfill.import_job import Chunking
from backstory.engine.file.event_row import EventRow, RowError, RowShape, read_event
from backstory.engine.file.options import BackfillOptions, Summary
from backstory.engine.file.person_row import PersonRow, read_person
from backstory.engine.workspace import Workspace
from tests.live import Live

Row = dict[str, Any]


# So small an import that it has blocks of writes and parts of its own all the same.
IN_BLOCKS = Chunking(blocks_from=0, block_rows_min=1, part_rows=5)


def json_lines(rows: Iterable[Row]) -> bytes:
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


def csv_text(rows: list[Row]) -> bytes:
    """The rows as CSV; a column for each key."""
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["id"]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def written(folder: Path, name: str, body: bytes) -> str:
    """A file; packed when its name says so."""
    path = folder / name
    path.write_bytes(gzip.compress(body) if name.endswith(".gz") else body)
    return str(path)


def bring_in(live: Live, options: BackfillOptions, chunking: Chunking | None = None) -> Summary:
    """Run an import, and check that every row is accounted for."""
    summary = backfill.run(live.workspace, options, lambda progress: None, chunking=chunking or IN_BLOCKS)
    assert summary.state == "imported"
    accounted = (
        summary.created + summary.updated + summary.unchanged + summary.stale + summary.duplicate + summary.skipped
    )
    assert summary.rows == accounted + summary.errors, summary
    assert (summary.error_file is not None) == (summary.errors > 0)
    live.workspace.loop.turn()
    return summary


def events_of(rows: Iterable[Row], shape: RowShape | None = None) -> list[EventRow]:
    """The good ones among rows of events."""
    return [good for line, row in enumerate(rows, 1) if (good := _good(row, line, shape, read_event)) is not None]


def people_of(rows: Iterable[Row], shape: RowShape | None = None, *, clear: bool = False) -> list[PersonRow]:
    """The good ones among rows of people."""

    def read(row: Row, line: int, shape: RowShape) -> PersonRow:
        return read_person(row, line, shape, clear=clear)

    return [good for line, row in enumerate(rows, 1) if (good := _good(row, line, shape, read)) is not None]


def _good(row: Row, line: int, shape: RowShape | None, read: Any) -> Any:
    try:
        return read(row, line, shape or RowShape())
    except RowError:
        return None


def track_of(row: EventRow, *, time_us: int | None = None) -> Track:
    """The call that says the same."""
    return Track(
        person=Identifier(row.person_kind, row.person),
        name=row.name,
        kind=row.kind,
        data=row.data,
        time_us=row.time_us if row.time_us is not None else time_us,
        event_id=row.event_id,
    )


def identify_of(row: PersonRow, *, time_us: int | None = None) -> Identify:
    """The call that says the same."""
    body = {identifier.kind: identifier.value for identifier in row.body}
    values: dict[str, Json] = {
        name: None if value is None else msgspec.json.decode(value) for name, value in row.attributes.items()
    }
    return Identify(
        person=row.path,
        attributes=msgspec.json.encode(values),
        body_id=body.get("id"),
        body_email=body.get("email"),
        time_us=row.time_us if row.time_us is not None else time_us,
    )


def tell(live: Live, facts: Iterable[Fact]) -> None:
    for fact in facts:
        live.send(fact)


# -- what is true -----------------------------------------------------------------------------------------------------


def state(live: Live, *, now_us: int | None = None) -> dict[str, Any]:
    """Identifiers, values with their times, events, memberships, journeys: by names instead of numbers.

    Times within a second of ``now_us`` count as that moment: calls come one by one, rows of a file all at once.
    """
    workspace = live.workspace
    names = names_of(workspace)
    journeys = workspace.folder.state.rows("SELECT campaign_id, person FROM journey")

    def moment(time_us: int) -> int:
        return now_us if now_us is not None and abs(time_us - now_us) < 1_000_000 else time_us

    return {
        "people": {names[person]: _values(workspace.folder.people.document(person), moment) for person in names},
        "known": {names[person]: moment(workspace.segments.known.get_us(person)) for person in names},
        "events": sorted(
            (names[row[0]], row[1], row[2], moment(row[3]), row[4], row[5] or "")
            for row in _events(workspace)
            if row[0] in names
        ),
        "members": {
            segment_id: sorted(names[person] for person in kept.members)
            for segment_id, kept in workspace.segments.segments.items()
        },
        "journeys": sorted((campaign_id, names.get(person, "")) for campaign_id, person in journeys),
    }


def names_of(workspace: Workspace) -> dict[int, str]:
    """Everybody's identifiers in one text, by their number."""
    rows = workspace.folder.state.rows("SELECT person, id, email_key FROM person")
    return {row[0]: f"{row[1]} {row[2]}" for row in rows}


def _values(document: Document, moment: Any) -> dict[str, tuple[int, bytes | None]]:
    return {name: (moment(one.time_us), one.value) for name, one in document.items()}


def _events(workspace: Workspace) -> list[Any]:
    columns = "person, kind, name, time_us, data, event_id"
    live = workspace.folder.state.rows(f"SELECT {columns} FROM event WHERE NOT duplicate")
    rows = [(*row[:4], _canonical(row[4]), row[5]) for row in live]
    history = workspace.folder.history
    files = history.files(history.parts, "event")
    if files:
        rows += history.rows(f"SELECT {columns} FROM read_parquet($1) WHERE NOT duplicate", files)
    return rows


def _canonical(data: str) -> str:
    return canonical(data.encode()).decode()
