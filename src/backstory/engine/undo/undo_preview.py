"""What taking an import back (or bringing it in again) would do: done on a replica, by the very code that would do it.

``python -m backstory.engine.undo.undo_preview`` reads one ``Trial`` (JSON) and prints its ``Outcome``. See ``preview``.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
from pyroaring import BitMap

from backstory.core.condition import Json
from backstory.core.error import BackstoryError, ConflictError, NotFoundError
from backstory.core.person import decode_document, values
from backstory.core.time import to_unix
from backstory.engine.preview.preview_view import SegmentEffect
from backstory.engine.undo import undo
from backstory.engine.undo.standing import Decision, standing_decisions
from backstory.store.people import cio_id_of
from backstory.store.replica import make_replica

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

Way = Literal["undo", "redo"]
LISTED_MAX = 20
CHANGES_MAX = 5
_ERRORS: dict[str, type[BackstoryError]] = {
    "NotFoundError": NotFoundError, "ConflictError": ConflictError, "InTheWay": ConflictError,
}  # fmt: skip


class Changed(msgspec.Struct, frozen=True, kw_only=True, rename={"before": "from", "after": "to"}):
    """People whose value would change in the same way; "" is none."""

    before: object
    after: object
    people: int


class AttributeChange(msgspec.Struct, frozen=True, kw_only=True):
    """An attribute (or identifier): how many people would have another value, and the most frequent changes."""

    name: str
    people: int
    changes: list[Changed]


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was sent because of the import. ``at`` is in unix seconds."""

    delivery_id: str
    campaign_id: int
    person: str
    at: int


class UndoPreview(msgspec.Struct, frozen=True, kw_only=True):
    """What would happen. ``gone`` names some of the people who would go; lists hold ``LISTED_MAX`` at most."""

    would: undo.Undone
    segments: list[SegmentEffect]
    attributes: list[AttributeChange]
    gone: list[dict[str, str | None]]
    sent: list[Sent]
    decisions: list[Decision]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What to try on a replica, as the process that does it is told."""

    path: str
    import_id: int
    way: Way
    now_us: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    preview: UndoPreview | None = None
    error: str = ""
    kind: str = ""


def preview(workspace: Workspace, import_id: int, way: Way) -> UndoPreview:
    """What ``undo`` or ``redo`` of an import would do now. Changes nothing; raises what they would raise."""
    replica = make_replica(workspace.folder)
    now_us = max(workspace.clock.now_us(), workspace.folder.state.now_us)
    trial = Trial(path=str(replica), import_id=import_id, way=way, now_us=now_us)
    try:
        command = [sys.executable, "-m", "backstory.engine.undo.undo_preview"]
        done = subprocess.run(command, input=msgspec.json.encode(trial), stdout=subprocess.PIPE, check=False)
    finally:
        shutil.rmtree(replica, ignore_errors=True)
    if not done.stdout:
        raise BackstoryError("the preview ended without an answer: nothing was changed; try again")
    said = msgspec.json.decode(done.stdout, type=Outcome)
    if said.preview is None:
        raise _ERRORS.get(said.kind, BackstoryError)(said.error)
    return said.preview


# -- in the process of the replica ------------------------------------------------------------------------------------


def rehearse(trial: Trial) -> UndoPreview:
    """Do it on the replica, and look at what is different then."""
    from backstory.engine.preview.rehearsal import opened, segment_effects

    path = Path(trial.path)
    shutil.copyfile(path / "state.db", path / "before.db")
    with opened(path, trial.now_us, trigger_hours=72.0) as workspace:
        before = {number: BitMap(kept.members) for number, kept in workspace.segments.segments.items()}
        work = undo.undo if trial.way == "undo" else undo.redo
        would = work(workspace, trial.import_id)
        return UndoPreview(
            would=would,
            segments=list(segment_effects(workspace, before)),
            attributes=_attributes(workspace, path / "before.db"),
            gone=_gone(path / "before.db", path / "state.db"),
            sent=_sent(workspace, trial.import_id),
            decisions=standing_decisions(workspace, trial.import_id)[:LISTED_MAX],
        )


def _attributes(workspace: Workspace, before: Path) -> list[AttributeChange]:
    """Of people who are there before and after."""
    found: dict[str, Counter[tuple[str, str]]] = {}
    db = sqlite3.connect(workspace.folder.state.path)
    try:
        db.execute("ATTACH ? AS before", (str(before),))
        rows = db.execute(
            "SELECT a.document, b.document, a.id, b.id, a.email, b.email, a.phone, b.phone FROM before.person a"
            " JOIN main.person b USING (person) WHERE a.document <> b.document OR a.id IS NOT b.id"
            " OR a.email IS NOT b.email OR a.phone IS NOT b.phone"
        )
        for row in rows:
            old, new = _shown(row[0], row[2:8:2]), _shown(row[1], row[3:8:2])
            for name in old.keys() | new.keys():
                if old.get(name, "") != new.get(name, ""):
                    change = (_text(old.get(name, "")), _text(new.get(name, "")))
                    found.setdefault(name, Counter())[change] += 1
    finally:
        db.close()
    return [
        AttributeChange(
            name=name,
            people=changes.total(),
            changes=[
                Changed(before=msgspec.json.decode(old), after=msgspec.json.decode(new), people=count)
                for (old, new), count in changes.most_common(CHANGES_MAX)
            ],
        )
        for name, changes in sorted(found.items())
    ]


def _shown(document: bytes, names: tuple[str | None, ...]) -> dict[str, Json]:
    named = {kind: name for kind, name in zip(("id", "email", "phone"), names, strict=True) if name is not None}
    return {**values(decode_document(document)), **named}


def _text(value: Json) -> str:
    return msgspec.json.encode(value).decode()


def _gone(before: Path, after: Path) -> list[dict[str, str | None]]:
    db = sqlite3.connect(after)
    try:
        db.execute("ATTACH ? AS before", (str(before),))
        rows = db.execute(
            "SELECT id, email, person FROM before.person WHERE person NOT IN (SELECT person FROM main.person)"
            f" ORDER BY person LIMIT {LISTED_MAX}"
        ).fetchall()
    finally:
        db.close()
    return [{"id": row[0], "email": row[1], "cio_id": cio_id_of(row[2])} for row in rows]


def _sent(workspace: Workspace, import_id: int) -> list[Sent]:
    rows = workspace.folder.state.rows(
        "SELECT delivery_id, delivery.campaign_id, delivery.person, created_us FROM delivery JOIN journey"
        " USING (journey_id) WHERE import_id = ? AND delivery.state IN ('sent', 'in_doubt', 'attempting')"
        f" ORDER BY seq DESC LIMIT {LISTED_MAX}",
        (import_id,),
    )
    return [
        Sent(delivery_id=row[0], campaign_id=row[1], person=cio_id_of(row[2]), at=to_unix(row[3])) for row in rows
    ]


def main() -> int:
    """Do the one trial that standard input asks for."""
    trial = msgspec.json.decode(sys.stdin.buffer.read(), type=Trial)
    try:
        said = Outcome(preview=rehearse(trial))
    except BackstoryError as error:
        said = Outcome(error=str(error), kind=type(error).__name__)
    sys.stdout.buffer.write(msgspec.json.encode(said))
    return 0


if __name__ == "__main__":
    sys.exit(main())
