"""Imports, and their way out and back, while a segment is built: they start nothing there as facts would."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backstory.core.condition import Json
from backstory.engine.undo import undo
from tests.live import NOW_US, Live
from tests.model.imported import Row
from tests.unit.test_fact_import_effects import NOW_S, PRO, campaign, journeys, load

DAY_US = 86_400_000_000
SECOND_US = 1_000_000
PLAN: Json = {"attribute": {"field": "plan", "operator": "eq", "value": "gold"}}
TWICE: Json = {"event": {"name": "buy", "count": {"at_least": 2}}}
BOUGHT: Row = {"id": "ann", "name": "buy", "timestamp": NOW_S - 60}
SEAT: Row = {"object_id": "acme", "customer_id": "ann", "plan": "pro", "_timestamp": NOW_S - 60}


# What an import may bring, with what a segment then asks.
BROUGHT = pytest.mark.parametrize(
    ("condition", "kind", "row"),
    [
        ({"segment": {"id": 1}}, "members", {"id": "ann"}),
        (PRO, "relationships", SEAT),
        (TWICE, "events", BOUGHT),
        (PLAN, "people", {"id": "ann", "plan": "gold", "_timestamp": NOW_S - 60}),
    ],
)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    world = Live(tmp_path / "world")
    for name in ("ann", "bob"):
        world.identify(name, NOW_US - 365 * DAY_US, plan="free")
        world.track(name, "buy", NOW_US - 300 * DAY_US)
    assert world.segment(None) == 1
    yield world
    world.close()


@BROUGHT
def test_an_import_that_is_to_start_nothing_starts_nothing_while_a_segment_is_built(
    live: Live, condition: Json, kind: Any, row: Row
) -> None:
    """Also of somebody of whom a fact tells something that does not move them; whom facts move, they start."""
    segment_id = live.segment({"event": {"name": "never"}})
    number = campaign(live, segment_id)
    live.advance(SECOND_US)
    live.segment({"or": [condition, {"event": {"name": "seen"}}]}, segment_id=segment_id, build=False)
    live.advance(SECOND_US)
    live.identify("ann", NOW_US - 100 * SECOND_US, plan="silver")
    live.track("bob", "seen")
    live.advance(SECOND_US)
    load(live, kind, [row], triggers="none")
    live.workspace.builder.work_off()
    assert live.members(segment_id) == {"ann", "bob"}
    assert journeys(live, number) == {"bob"}


@pytest.mark.parametrize("returning", [False, True])
@BROUGHT
def test_an_undo_or_redo_starts_nothing_while_a_segment_is_built(
    live: Live, condition: Json, kind: Any, row: Row, *, returning: bool
) -> None:
    """Whoever leaves or enters by it does so with the build."""
    segment_id = live.segment({"event": {"name": "never" if returning else "buy"}})
    number = campaign(live, segment_id, transition="entered" if returning else "left")
    live.advance(SECOND_US)
    done = load(live, kind, [row], triggers="none")
    if returning:
        undo.undo(live.workspace, done.import_id)
    live.advance(SECOND_US)
    live.segment(condition, segment_id=segment_id, build=False)
    live.advance(SECOND_US)
    live.identify("ann", NOW_US - 100 * SECOND_US, plan="silver")
    live.track("ann", "buy", NOW_US - 400 * DAY_US) if kind != "events" else None
    live.advance(SECOND_US)
    (undo.redo if returning else undo.undo)(live.workspace, done.import_id)
    live.workspace.builder.work_off()
    assert live.members(segment_id) == ({"ann"} if returning else set())
    assert "ann" not in journeys(live, number)
