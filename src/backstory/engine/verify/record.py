"""Verifying records: each device, object and relationship against all that was ever written to it."""

import sqlite3
from typing import TYPE_CHECKING, Any

import msgspec

from backstory.core.condition import Json
from backstory.core.record import Record
from backstory.core.record_time import fold
from backstory.engine.verify.finding import Findings
from backstory.store.object import cio_object_id_of
from backstory.store.people import cio_id_of
from backstory.store.record import record_of

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

END_US = 1 << 62
_decode = msgspec.json.Decoder(dict[str, Any]).decode
Writes = list[tuple[int, dict[str, Json] | None]]
# Each with its key, and the key of the writes that made it.
_STORED = {
    "device": "SELECT person, token, seen_us, gone_us, document FROM device",
    "object": "SELECT object, '', seen_us, gone_us, document FROM object WHERE seen_us >= gone_us",
    "relationship": "SELECT person, object, seen_us, gone_us, document FROM relationship",
}
_WRITTEN = {
    "device": "SELECT person, token, time_us, attributes FROM record_write WHERE kind = 'device'",
    "object": "SELECT object, '', time_us, attributes FROM record_write WHERE kind = 'object'",
    "relationship": "SELECT person, object, time_us, attributes FROM record_write"
    " WHERE kind = 'relationship' AND person IS NOT NULL",
}


def verify_records(workspace: "Workspace", findings: Findings) -> None:
    """Those that are there, with their attributes and times. State and history are read as of one commit."""
    for kind in _STORED:
        stored, written = workspace.folder.state.read(lambda db: _read(db, kind))  # noqa: B023
        for key in sorted(stored.keys() | written.keys(), key=str):
            record, told = stored.get(key, Record()), fold(written.get(key, []), END_US)
            if record.there != told.there:
                problem = "is there and must not be" if record.there else "is not there and must be"
                findings.difference(kind, problem, **_named(kind, key))
            elif record.there and record.document != told.document:
                findings.difference(kind, "its attributes are not what was written to it", **_named(kind, key))
        findings.checked(kind, len(stored))


def _read(db: sqlite3.Connection, kind: str) -> tuple[dict[tuple[Any, Any], Record], dict[tuple[Any, Any], Writes]]:
    stored = {(row[0], row[1]): record_of(*row[2:]) for row in db.execute(_STORED[kind])}
    written: dict[tuple[Any, Any], Writes] = {}
    for one, other, time_us, text in db.execute(_WRITTEN[kind]):
        written.setdefault((one, other), []).append((time_us, None if text is None else _decode(text)))
    if kind == "relationship":
        _end_with_objects(db, written)
    return stored, written


def _end_with_objects(db: sqlite3.Connection, written: dict[tuple[Any, Any], Writes]) -> None:
    """What an object's deletion ended."""
    ends = "SELECT object, time_us FROM record_write WHERE kind = 'object' AND attributes IS NULL"
    ended: dict[int, list[int]] = {}
    for number, time_us in db.execute(ends):
        ended.setdefault(number, []).append(time_us)
    for (_, number), writes in written.items():
        writes += [(time_us, None) for time_us in ended.get(number, ())]


def _named(kind: str, key: tuple[Any, Any]) -> dict[str, Json]:
    match kind:
        case "device":
            return {"person": cio_id_of(key[0]), "device": key[1]}
        case "object":
            return {"object": cio_object_id_of(key[0])}
        case _:
            return {"person": cio_id_of(key[0]), "object": cio_object_id_of(key[1])}
