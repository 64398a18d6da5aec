"""Events that repeat another: kept whole, counted nowhere, and shown to whoever asks for them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backstory.core.time import SECOND_US
from backstory.engine.answer.view import ActivityView
from backstory.engine.backfill import backfill
from backstory.engine.file.options import BackfillOptions, Progress
from backstory.engine.undo.undo import undo
from tests.live import Live
from tests.model.imported import json_lines, written

HOUR_S = 3600


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    live = Live(tmp_path / "w")
    yield live
    live.close()


def ignore(progress: Progress) -> None:
    pass


def load(live: Live, folder: Path, *rows: dict[str, Any]) -> int:
    path = written(folder, f"e{live.now_us}.jsonl", json_lines(list(rows)))
    done = backfill.run(live.workspace, BackfillOptions(kind="events", paths=(path,)), ignore)
    assert done.import_id is not None
    live.advance(SECOND_US)
    return done.import_id


def page(live: Live, person: str | None = None, **asked: Any) -> tuple[list[ActivityView], str]:
    wanted = {"types": "duplicate_event", "name": None, "deleted": False, "before": None, "limit": 100}
    wanted |= {"everything": True} | asked
    return live.workspace.reader.activities(None if person is None else "id", person, **wanted)


def told(live: Live, person: str | None = None, **asked: Any) -> list[tuple[str | None, object, object]]:
    return [(one.name, one.data["data"], one.data.get("differs")) for one in page(live, person, **asked)[0]]  # pyright: ignore[reportIndexIssue, reportAttributeAccessIssue, reportOptionalSubscript, reportOptionalMemberAccess, reportArgumentType, reportCallIssue]


def test_a_repeat_is_told_and_whether_it_says_something_else(live: Live) -> None:
    """Of an id the first counts; a call without a time says the same when it is sent again."""
    for name, n in (("bought", 1), ("bought", 1), ("bought", 2), ("sold", 1)):
        live.track("ann", name, event_id="one", n=n)
        live.advance(SECOND_US)
    assert told(live, "ann") == [("sold", {"n": 1}, True), ("bought", {"n": 2}, True), ("bought", {"n": 1}, False)]
    assert len(told(live)) == 3
    assert told(live, "ann", name="sold") == [("sold", {"n": 1}, True)]


def test_a_repeat_of_what_is_too_old_to_be_shown_is_held_against_it(live: Live, tmp_path: Path) -> None:
    """The event that counts lies in a part of which the page shows nothing."""
    old_s = live.now_us // SECOND_US - 60 * 24 * HOUR_S
    old = {"customer_id": "ann", "name": "bought", "timestamp": old_s, "event_id": "one", "data": {"n": 1}}
    load(live, tmp_path, old)
    live.track("ann", "bought", event_id="one", n=2)
    assert told(live, "ann", everything=False) == [("bought", {"n": 2}, True)]


def test_the_log_as_the_original_shows_it_has_no_repeats(live: Live) -> None:
    """Not asked for, or asked for events: only what counts."""
    for _ in range(2):
        live.track("ann", "bought", event_id="one")
    for types in (None, "event"):
        assert [one.type for one in page(live, "ann", types=types)[0]].count("event") == 1
        assert "duplicate_event" not in {one.type for one in page(live, "ann", types=types)[0]}


def test_repeats_that_imports_brought_are_told_until_they_count(live: Live, tmp_path: Path) -> None:
    """They name their import; once the first is taken back, the second is an event as any other."""
    at = live.now_us // SECOND_US - HOUR_S
    row = {"customer_id": "ann", "name": "bought", "timestamp": at, "event_id": "one", "data": {"n": 1}}
    first = load(live, tmp_path, row)
    second = load(live, tmp_path, {**row, "data": {"n": 2}})
    live.track("ann", "bought", at * SECOND_US, event_id="one", n=1)
    shown, _ = page(live, "ann")
    assert [one.import_id for one in shown] == [0, second]
    assert sorted(told(live, "ann"), key=str) == [("bought", {"n": 1}, False), ("bought", {"n": 2}, True)]
    undo(live.workspace, first)
    assert told(live, "ann") == [("bought", {"n": 1}, True)]


def test_repeats_come_page_by_page(live: Live, tmp_path: Path) -> None:
    """Each once, newest first, from the newest events and from files."""
    at = live.now_us // SECOND_US - HOUR_S
    rows = [
        {"customer_id": "ann", "name": "bought", "timestamp": at - n, "event_id": f"i{n}", "data": {"n": n}}
        for n in range(5)
    ]
    load(live, tmp_path, *rows)
    load(live, tmp_path, *rows[::2])
    for n in (1, 3):
        live.track("ann", "bought", (at - n) * SECOND_US, event_id=f"i{n}", n=n)
    found: list[object] = []
    start: str | None = None
    while start != "":
        views, start = page(live, limit=2, before=start)
        found += [one.data["data"]["n"] for one in views]  # pyright: ignore[reportIndexIssue, reportOptionalSubscript, reportArgumentType, reportCallIssue]
    assert found == [0, 1, 2, 3, 4]
