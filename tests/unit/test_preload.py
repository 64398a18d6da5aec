"""What is made ready for a large import while its workspace opens changes nothing of what comes in."""

import itertools
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pytest

from backstory.core.error import RequestError
from backstory.core.fact import DeletePerson, Fact, Identifier, Identify
from backstory.core.time import SECOND_US
from backstory.engine.backfill import backfill
from backstory.engine.backfill.identifier_table import UNKNOWN
from backstory.engine.backfill.preload import Preload
from backstory.engine.clock import ManualClock
from backstory.engine.file.options import BackfillOptions
from backstory.engine.file.source import FAST_BYTES_MIN
from backstory.engine.workspace import Workspace, open_workspace
from tests.live import NOW_US, Live

PEOPLE = ["ada", "bob", "cy"]
ROWS = 1200
# So much that the file is read by what is loaded for it.
PADDING = "x" * (FAST_BYTES_MIN // ROWS)


def folder_with_people(path: Path) -> Path:
    live = Live(path)
    for person in PEOPLE:
        live.send(Identify(person=Identifier("id", person), attributes=b'{"email":"%s@x.org"}' % person.encode()))
    live.close()
    return path


def events_by(path: Path, kind: str) -> BackfillOptions:
    """Of three people who are there and one who is not."""
    who = [name if kind == "id" else f"{name}@x.org" for name in [*PEOPLE, "dora"]]
    with path.open("wb") as file:
        for at in range(ROWS):
            row = {kind: who[at % 4], "name": "bought", "timestamp": NOW_US // SECOND_US - at, "padding": PADDING}
            file.write(msgspec.json.encode(row) + b"\n")
    return BackfillOptions(kind="events", paths=(str(path),))


def opened(path: Path, preload: Preload | None) -> Workspace:
    workspace = open_workspace(path, clock=ManualClock(NOW_US), threads=False, preload=preload)
    workspace.loop.turn()
    return workspace


def brought_in(workspace: Workspace, options: BackfillOptions) -> dict[str, int]:
    """How many events each of those who are there has then, by their number and names, and what came of the rows."""
    summary = backfill.run(workspace, options, lambda progress: None)
    assert summary.rows == ROWS
    found = {"created": summary.created, "errors": summary.errors} | {
        f"{person} {id_} {email}": len(workspace.folder.history.people_events([person], ["bought"]))
        for person, id_, email in workspace.folder.state.rows("SELECT person, id, email FROM person")
    }
    workspace.close()
    return found


@pytest.mark.parametrize("kind", ["id", "email"])
@pytest.mark.parametrize(
    "between",
    [
        (),
        # Their names are others' by the time they are looked for.
        (DeletePerson(person=Identifier("id", "ada")), Identify(person=Identifier("id", "ada"), attributes=b"{}")),
        (
            Identify(person=Identifier("id", "ada"), attributes=b'{"email":"ada@home.org"}'),
            Identify(person=Identifier("id", "new"), attributes=b'{"email":"ada@x.org"}'),
        ),
        (Identify(person=Identifier("id", "new"), attributes=b'{"email":"dora@x.org"}'),),
    ],
)
def test_who_is_read_beforehand_is_found_as_without(tmp_path: Path, kind: str, between: tuple[Fact, ...]) -> None:
    """Known people, a new one, and people of whom something changed between the opening and the import."""
    options = events_by(tmp_path / "events.jsonl", kind)
    found: list[dict[str, int]] = []
    for name, preload in (("with", Preload(options)), ("without", None)):
        workspace = opened(folder_with_people(tmp_path / name), preload)
        workspace.apply(list(between))
        found.append(brought_in(workspace, options))
    assert found[0] == found[1]


def test_everybody_is_read_by_what_the_first_row_says(tmp_path: Path) -> None:
    """Once; nobody, where names have changed hands since, or another kind is asked for."""
    options = events_by(tmp_path / "events.jsonl", "id")
    kinds: tuple[Literal["id", "email"], ...] = ("id", "email")
    for kind, renamed in itertools.product(kinds, (0, 1)):
        preload = Preload(options)
        workspace = opened(folder_with_people(tmp_path / f"{kind}{renamed}"), preload)
        table = preload.everybody(kind, renamed)
        assert (table is not None) == (kind == "id" and renamed == 0)
        if table is not None:
            found = table.find(b"bobdora", np.array([0, 3], np.int32), np.array([3, 4], np.int32))
            assert [int(number) for number in found] == [1, UNKNOWN]
        assert preload.everybody("id", 0) is None
        workspace.close()


def test_the_first_chunk_is_for_one_import(tmp_path: Path) -> None:
    """Which reads this very file with these very options; the source goes on behind the chunk."""
    options = events_by(tmp_path / "events.jsonl", "id")
    other = msgspec.structs.replace(options, time="when")
    preload = Preload(options)
    path = Path(options.paths[0])
    assert preload.first(path, other) is None
    assert preload.first(tmp_path / "other.jsonl", options) is None
    first = preload.first(path, options)
    assert first is not None
    assert len(first.found) == ROWS
    assert list(first.chunks) == []
    assert preload.first(path, options) is None
    first.source.close()


def test_of_a_file_that_cannot_be_read_nothing_is_made_ready(tmp_path: Path) -> None:
    """Who reads it tells what is the matter; a folder that is closed without an import waits for nothing."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"{" * FAST_BYTES_MIN)
    for number, paths in enumerate(((str(path),), (str(tmp_path / "none.jsonl"),))):
        preload = Preload(BackfillOptions(kind="events", paths=paths))
        workspace = opened(folder_with_people(tmp_path / str(number)), preload)
        assert preload.everybody("id", 0) is None
        workspace.close()


def test_an_option_that_cannot_be_is_told_by_the_import_alone(tmp_path: Path) -> None:
    """What is made ready stumbles over it, too; the folder is closed all the same."""
    options = msgspec.structs.replace(events_by(tmp_path / "events.jsonl", "id"), zone="Nowhere/Bad")
    workspace = opened(folder_with_people(tmp_path / "folder"), Preload(options))
    with pytest.raises(RequestError, match="Nowhere/Bad"):
        backfill.run(workspace, options, lambda progress: None)
    workspace.close()
    opened(tmp_path / "folder", None).close()
