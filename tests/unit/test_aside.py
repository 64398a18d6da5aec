"""Previews where no server runs: on a replica of a workspace that stays closed."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backstory.core.error import ConflictError
from backstory.core.fact import Identifier, Identify, PutCampaign, SetCampaignState
from backstory.core.time import SECOND_US
from backstory.engine.clock import ManualClock
from backstory.engine.file.options import BackfillOptions, Progress
from backstory.engine.house import House
from backstory.engine.preview import preview
from backstory.engine.preview.aside import Aside
from backstory.engine.preview.preview_view import Preview
from backstory.engine.preview.rehearsal import rehearse
from backstory.engine.settings import load
from backstory.store.folder import REPLICAS
from backstory.store.journal import SqliteJournal
from backstory.store.lock import FolderBusy
from tests.live import NOW_US, Live
from tests.model.imported import json_lines, written

MAIL = {"type": "email", "from": "a@x.org", "subject": "s", "body": "b"}
TWICE: Any = {"event": {"name": "bought", "count": {"at_least": 2}}}


def ignore(progress: Progress) -> None:
    pass


def files_of(folder: Path) -> dict[str, str]:
    """Every file of a folder, with what it holds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows_of(kind: str, now_us: int) -> bytes:
    now_s = now_us // SECOND_US
    if kind == "people":
        return json_lines({"id": f"p{at % 7}", "plan": "pro", "_timestamp": now_s - at} for at in range(20))
    return json_lines({"id": f"p{at % 7}", "name": "bought", "timestamp": now_s - 3600 * at} for at in range(20))


def aside(folder: Path, options: BackfillOptions, told: Callable[[Progress], None] = ignore) -> Preview:
    one = Aside(folder, load({}, {"data": folder}), ManualClock(NOW_US))
    try:
        return one.preview(options, told)
    finally:
        one.close()


@pytest.mark.parametrize("kind", ["people", "events"])
@pytest.mark.parametrize("waits", [False, True])
def test_it_says_what_a_server_would_and_changes_nothing(tmp_path: Path, kind: Any, waits: bool) -> None:
    """Segments, attributes, journeys under each policy; no file of the folder is another one afterwards."""
    folder = tmp_path / "w"
    live = Live(folder)
    live.identify("p1", live.now_us - SECOND_US, plan="free")
    live.track("p1", "bought", live.now_us - SECOND_US)
    segment = live.segment(TWICE)
    if waits:
        for trigger in ({"event": {"name": "bought"}}, {"segment": {"id": segment, "transition": "entered"}}):
            definition: Any = {"name": "c", "trigger": trigger, "frequency": {"mode": "every"}, "steps": [MAIL]}
            (receipt,) = live.send(PutCampaign(definition=msgspec.json.encode(definition)))
            assert receipt.subject is not None
            live.send(SetCampaignState(campaign_id=receipt.subject, state="running"))
    path = written(tmp_path, "r.jsonl", rows_of(kind, live.now_us))
    options = BackfillOptions(kind=kind, paths=(path,))
    said = preview.preview(live.workspace, options, ignore, rehearse=rehearse)
    live.close()
    before = files_of(folder)
    told: list[Progress] = []
    again = aside(folder, options, told.append)
    assert msgspec.structs.replace(again, seconds=0) == msgspec.structs.replace(said, seconds=0)
    assert said.created
    assert told
    assert files_of(folder) == before
    assert not list((folder / REPLICAS).iterdir())


def test_what_was_accepted_and_is_not_applied_yet_counts(tmp_path: Path) -> None:
    """Facts in the journal past the state, as a killed server leaves them: they are applied first."""
    folder = tmp_path / "w"
    live = Live(folder)
    live.identify("p1", live.now_us)
    live.close()
    journal = SqliteJournal(folder / "journal.db")
    journal.append([Identify(person=Identifier("id", "p2"), attributes=b"{}", time_us=None)], NOW_US)
    journal.close()
    path = written(tmp_path, "p.jsonl", json_lines({"id": f"p{at}"} for at in range(4)))
    said = aside(folder, BackfillOptions(kind="people", paths=(path,)))
    assert (said.created, said.unchanged) == (2, 2)


def test_the_folder_is_held_meanwhile_and_no_replica_is_left(tmp_path: Path) -> None:
    """Nobody else opens it; what a killed preview left goes; afterwards it opens as ever."""
    settings = load({}, {"data": tmp_path})
    house = House(settings)
    house.open("default").close()
    left = tmp_path / "workspaces" / "default" / REPLICAS / "left"
    left.mkdir(parents=True)
    one = house.aside("default")
    with pytest.raises(ConflictError):
        house.open("default")
    with pytest.raises(FolderBusy):
        House(settings).open("default")
    assert not left.exists()
    assert len(list(left.parent.iterdir())) == 1
    one.close()
    assert not list(left.parent.iterdir())
    house.open("default").close()
