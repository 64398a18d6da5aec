"""What an import starts of somebody whom facts move while it runs: the difference that is its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backstory.core.condition import Json
from backstory.core.time import SECOND_US
from backstory.engine.backfill import backfill, mend
from backstory.engine.backfill.import_job import Chunking
from tests.live import NOW_US, Live
from tests.model.imported import Row, json_lines
from tests.unit.test_fact_import_effects import NOW_S, campaign, foreseen, options

GOLD: Json = {"attribute": {"field": "plan", "operator": "eq", "value": "gold"}}


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    world = Live(tmp_path / "world")
    world.identify("bob")
    yield world
    world.close()


def begun(live: Live, campaign_id: int, *, by_import: bool) -> int:
    source = "import_id <> 0" if by_import else "import_id = 0"
    return live.workspace.folder.state.rows(
        f"SELECT count(*) FROM journey WHERE campaign_id = ? AND {source}", (campaign_id,)
    )[0][0]


@pytest.mark.parametrize(
    ("first", "meanwhile", "last", "started"),
    [
        # (entered, left) by the import at its end.
        ("free", ["gold", "free"], "gold", (1, 0)),
        ("gold", ["free"], "gold", (1, 0)),
        ("free", ["gold"], "free", (0, 1)),
        ("gold", ["free", "gold"], "free", (0, 1)),
        ("free", ["gold"], "gold", (0, 0)),
        ("gold", ["free"], "free", (0, 0)),
    ],
)
def test_facts_in_between_are_not_the_imports_and_what_it_makes_of_them_is(
    live: Live, first: str, meanwhile: list[str], last: str, started: tuple[int, int]
) -> None:
    """Whoever facts have moved is where they put them: what the import's later rows say moves them from there."""
    live.identify("ann", NOW_US - 10 * SECOND_US, plan=first)
    segment_id = live.segment(GOLD)
    entered, left = (
        campaign(live, segment_id, transition=transition, frequency="every") for transition in ("entered", "left")
    )
    live.advance(SECOND_US)
    told = False

    def between(progress: object) -> None:
        nonlocal told
        for plan in [] if told else meanwhile:
            live.advance(SECOND_US)
            live.identify("ann", plan=plan)
        told = True
        live.advance(10 * SECOND_US)

    rows: list[Row] = [{"id": "bob", "x": number, "_timestamp": NOW_S + number} for number in range(4)]
    rows.append({"id": "ann", "plan": last, "_timestamp": NOW_S + 9})
    chunking = Chunking(people_rows_max=2, bytes_max=100, tell_every_s=0, blocks_from=0, block_rows_min=1)
    backfill.run(live.workspace, options(live, "people", rows, triggers="all"), between, chunking=chunking)
    assert (begun(live, entered, by_import=True), begun(live, left, by_import=True)) == started
    moves = [*zip([first, *meanwhile], meanwhile, strict=False)]
    by_facts = [sum(after == plan for before, after in moves if before != after) for plan in ("gold", "free")]
    assert [begun(live, one, by_import=False) for one in (entered, left)] == by_facts


TIMED: Row = {"_timestamp": NOW_S - 60}


@pytest.mark.parametrize(
    ("row", "more", "starts"),
    [
        ({}, {}, False),
        (TIMED, {}, True),
        ({}, {"triggers": "all"}, True),
        ({}, {"as_of_us": NOW_US - 60 * SECOND_US}, True),
        ({}, {"as_of_us": NOW_US - 99 * 3600 * SECOND_US}, False),
        ({"_timestamp": NOW_S + 999}, {}, False),
    ],
)
@pytest.mark.parametrize("kind", ["people", "relationships", "events"])
def test_rows_without_any_time_start_nothing(
    live: Live, kind: str, row: Row, more: dict[str, Any], starts: bool
) -> None:
    """Nor do those of people whose time is still to come, for they are taken as of now; with --triggers all they do.

    The preview says the same, and what did not start is counted as held back.
    """
    question: dict[str, Json] = {
        "people": GOLD,
        "relationships": {"relationship": {"object_type_id": 1}},
        "events": {"event": {"name": "bought"}},
    }
    number = campaign(live, live.segment(question[kind]))
    live.advance(SECOND_US)
    time: Row = {"timestamp": row["_timestamp"]} if row else {}
    rows: dict[str, Row] = {
        "people": {"id": "bob", "plan": "gold", **row},
        "relationships": {"id": "bob", "object_id": "acme", **row},
        "events": {"id": "bob", "name": "bought", **time},
    }
    if kind == "events" and row.get("_timestamp", 0) > NOW_S:
        # That one waits for its moment.
        return
    asked = options(live, kind, [rows[kind]], **more)
    said = foreseen(live, asked)
    done = backfill.run(live.workspace, asked, lambda progress: None)
    assert begun(live, number, by_import=True) == done.journeys_started == starts
    assert done.held_back.segment == (not starts)
    (effect,) = [one for one in said.campaigns if one.policy == asked.triggers]
    assert (effect.journeys, said.held_back) == (starts, done.held_back)


@pytest.mark.parametrize("sure", [True, False])
def test_mended_rows_without_a_time_start_nothing(live: Live, tmp_path: Path, sure: bool) -> None:
    """They stand where they stood in the input, so that they are of no time after a retry, too."""
    number = campaign(live, live.segment(GOLD))
    live.advance(SECOND_US)
    rows: list[Row] = [{"id": f"x{at}", "plan": "free"} for at in range(5)]
    wrong: Row = {"id": "ann", "plan": "gold", "_timestamp": "never"}
    first = backfill.run(live.workspace, options(live, "people", [*rows, wrong]), lambda progress: None)
    assert (first.errors, begun(live, number, by_import=True)) == (1, 0)
    live.advance(SECOND_US)
    fixed = tmp_path / "fixed.jsonl"
    right = {**wrong, "line": 6, "error": "", "_timestamp": None if not sure else NOW_S}
    fixed.write_bytes(json_lines([right]))
    mend.retry(live.workspace, 1, fixed, lambda progress: None)
    assert begun(live, number, by_import=True) == sure
