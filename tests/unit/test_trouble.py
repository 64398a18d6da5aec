"""Imports in trouble: a clear message, nothing half-done, and the import can be gone on with."""

from pathlib import Path
from typing import Any

import pytest

from backstory.core.fact import Identifier, SuppressPerson
from backstory.core.time import HOUR_US
from backstory.engine.backfill import backfill
from backstory.engine.backfill.import_job import Chunking
from backstory.engine.file.options import BackfillOptions, Stopped, Summary
from backstory.engine.file.unpack import SourceError
from tests.live import NOW_US, Live
from tests.model.imported import json_lines, state

NOW_S = NOW_US // 1_000_000
SMALL = Chunking(bytes_max=1000, event_rows_max=10, people_rows_max=10, fast=False, tell_every_s=0)


@pytest.fixture
def live(tmp_path: Path) -> Any:
    live = Live(tmp_path / "default")
    yield live
    live.close()


def event(number: int, **more: Any) -> dict[str, Any]:
    return {"customer_id": f"p{number % 5}", "name": "bought", "timestamp": NOW_S - number, "n": number} | more


def bring_in(live: Live, path: Path, kind: Any = "events", chunking: Chunking = SMALL) -> Summary:
    options = BackfillOptions(kind=kind, paths=(str(path),))
    return backfill.run(live.workspace, options, lambda progress: None, chunking=chunking)


def break_off(live: Live, path: Path, kind: Any = "events") -> None:
    def stop(progress: Any) -> None:
        raise Stopped("broken off")

    with pytest.raises(Stopped):
        backfill.run(live.workspace, BackfillOptions(kind=kind, paths=(str(path),)), stop, chunking=SMALL)


def test_a_source_that_vanishes_is_gone_on_with_when_it_is_back(live: Live, tmp_path: Path) -> None:
    """What came in stays, and counts once."""
    path = tmp_path / "events.jsonl"
    body = json_lines(event(number) for number in range(100))
    path.write_bytes(body)
    break_off(live, path)
    path.unlink()
    with pytest.raises(SourceError, match=r"cannot read .*events\.jsonl: No such file"):
        bring_in(live, path)
    path.write_bytes(body)
    summary = bring_in(live, path)
    assert (summary.import_id, summary.rows, summary.created) == (1, 100, 100)


def test_rows_that_are_all_wrong_change_nothing(live: Live, tmp_path: Path) -> None:
    """Each is told with its reason; the import ends."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(json_lines({"customer_id": "ann", "timestamp": "abc"} for _ in range(50)))
    before = state(live)
    summary = bring_in(live, path)
    assert (summary.state, summary.rows, summary.errors, summary.created) == ("imported", 50, 50, 0)
    assert state(live) == before
    assert summary.error_file is not None
    assert Path(summary.error_file).read_text().count("\n") == 50


def test_five_thousand_columns_are_read(live: Live, tmp_path: Path) -> None:
    """As data of events; of people each column is an attribute, and a person has no room for so many."""
    names = ",".join(f"c{number}" for number in range(4997))
    cells = ",".join(str(number) for number in range(4997))
    events, people = tmp_path / "events.csv", tmp_path / "people.csv"
    events.write_text(f"customer_id,name,timestamp,{names}\nann,bought,{NOW_S},{cells}\n")
    people.write_text(f"id,email,plan,{names}\nann,,pro,{cells}\nbob,,free,{',' * 4996}\n")
    assert bring_in(live, events).created == 1
    summary = bring_in(live, people, "people")
    assert (summary.errors, summary.created) == (1, 1)
    assert summary.error_file is not None
    assert "more than 300 attributes" in Path(summary.error_file).read_text()


def test_ten_thousand_names_of_events_are_as_good_as_one(live: Live, tmp_path: Path) -> None:
    """By the compiled lane, too."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(json_lines(event(number, name=f"event {number}") for number in range(10_000)))
    summary = bring_in(live, path, chunking=Chunking(fast_bytes_min=0))
    assert (summary.created, summary.errors) == (10_000, 0)
    segment = live.segment({"event": {"name": "event 7777"}})
    assert live.members(segment) == {"p2"}


def test_rows_of_people_who_are_suppressed_are_not_kept(live: Live, tmp_path: Path) -> None:
    """They are counted and told of, without what they say."""
    live.send(SuppressPerson(person=Identifier("id", "p1")))
    live.advance(HOUR_US)
    events, people = tmp_path / "events.jsonl", tmp_path / "people.csv"
    events.write_bytes(json_lines(event(number, secret="of p1", timestamp=NOW_S + 9) for number in range(10)))
    people.write_text("id,secret\np0,x\np1,of p1\n")
    found = [bring_in(live, events), bring_in(live, people, "people")]
    assert [(one.errors, one.created + one.updated) for one in found] == [(2, 8), (1, 1)]
    for one in found:
        assert one.error_file is not None
        assert "of p1" not in Path(one.error_file).read_text()


@pytest.mark.parametrize("by_us", [-30 * HOUR_US, 30 * HOUR_US])
def test_a_step_of_the_clock_does_not_change_what_an_import_says(live: Live, tmp_path: Path, by_us: int) -> None:
    """Nor make rows count twice: the accept time of all rows is that of its start."""
    path = tmp_path / "people.csv"
    path.write_text("id,n\n" + "".join(f"p{number},{number}\n" for number in range(40)))
    break_off(live, path, "people")
    live.clock.jump(by_us)
    summary = bring_in(live, path, "people")
    assert (summary.import_id, summary.rows, summary.created) == (1, 40, 40)
    times = {
        change.time_us for person in range(40) for change in live.workspace.folder.people.document(person).values()
    }
    assert max(times) - min(times) < 1000
    assert bring_in(live, path, "people").created == 0
