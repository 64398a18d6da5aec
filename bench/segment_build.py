"""A new segment over history that is there: built, asked as of a day, drawn over time; plain SQL beside it.

In this process, on a copy of a stock, without a server: what is measured is the reading, not the waiting.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from backstory.core.condition import Condition, parse
from backstory.core.fact import PutSegment
from backstory.core.time import DAY_US, SECOND_US
from backstory.engine.answer import inquiry
from backstory.engine.clock import SystemClock
from backstory.engine.workspace import Workspace, open_workspace
from bench import stock
from bench.stock import Stock
from bench.workload import Figure, Place, Scale, Workload

STOCKS: dict[Scale, Stock] = {
    "quick": Stock(people=30_000, segments=20, events=300_000),
    "full": Stock(people=1_000_000, segments=20, events=10_000_000),
}
ROUNDS = 3
FILTERED: dict[str, Any] = {
    "event": {
        "name": "purchased",
        "where": {"attribute": {"field": "price", "operator": "gt", "value": 20}},
        "count": {"at_least": 2},
    }
}
ATTRIBUTE: dict[str, Any] = {"attribute": {"field": "plan", "operator": "eq", "value": "gold"}}
SQL = (
    "SELECT person FROM read_parquet($1) WHERE name = 'purchased' AND kind = 'event' AND NOT duplicate"
    " AND time_us <= $2 AND TRY_CAST(json_extract_string(data, '$.price') AS DOUBLE) > 20"
    " GROUP BY person HAVING count(*) >= 2"
)


def run(scale: Scale, place: Place) -> Sequence[Figure]:
    held = STOCKS[scale]
    folder = stock.copy(place, held, "folder") / "workspaces" / "default"
    return measure(folder)


def measure(folder: Path) -> Sequence[Figure]:
    """All figures over one workspace's folder, which is changed."""
    workspace = open_workspace(folder, clock=SystemClock(), threads=False)
    try:
        return [*_builds(workspace), *_questions(workspace)]
    finally:
        workspace.close()


def _builds(workspace: Workspace) -> Sequence[Figure]:
    files = workspace.folder.history.files(workspace.folder.history.parts, "event")
    now_us = workspace.folder.state.now_us
    ours: list[tuple[float, float]] = []
    plain: list[tuple[float, float]] = []
    # Of each round the longest piece of work for the loop, in seconds by the clock.
    pieces: list[float] = []
    for number in range(ROUNDS):
        # Every round asks something else, so that no leaf is there already.
        FILTERED["event"]["where"]["attribute"]["value"] = 20 + number / 100
        plain.append(_cost(lambda: workspace.folder.history.rows(SQL, files, (now_us,)))[0])
        each: list[float] = []
        ours.append(_cost(partial(_build, workspace, FILTERED, each))[0])
        pieces.append(max(each))
    return [
        Figure(
            name="new segment by filter and count, processor time / SQL",
            value=_least(ours, 1) / _least(plain, 1),
            unit="x",
        ),
        Figure(name="new segment by filter and count, with transitions", value=_least(ours, 0), unit="s", most=1.0),
        Figure(name="longest piece of it on the loop", value=min(pieces) * 1000, unit="ms", most=50),
        Figure(name="the same, processor time", value=_least(ours, 1), unit="s"),
        Figure(name="SQL, processor time", value=_least(plain, 1), unit="s"),
    ]


def _build(workspace: Workspace, conditions: dict[str, Any], pieces: list[float]) -> None:
    def timed(piece: Callable[[], None]) -> None:
        started = time.perf_counter()
        workspace.call(piece)
        pieces.append(time.perf_counter() - started)

    workspace.builder.run_on_loop = timed
    (receipt,) = workspace.apply([PutSegment(name="new", conditions=msgspec.json.encode(conditions))])
    assert receipt.subject is not None, receipt
    workspace.builder.work_off()
    assert not workspace.segments.segments[receipt.subject].building
    moved, _ = workspace.reader.transitions(receipt.subject, start="", limit=1)
    assert all(one.effective_us is not None for one in moved)


def _questions(workspace: Workspace) -> Sequence[Figure]:
    day_us = workspace.folder.state.now_us // DAY_US * DAY_US - 10 * DAY_US
    weeks = [day_us - number * 7 * DAY_US for number in range(20)][::-1]
    asked: list[tuple[str, Callable[[], object], float | None]] = []

    def as_of(condition: Condition) -> Callable[[], object]:
        return partial(inquiry.preview, workspace, condition, day_us, None)

    asked.append(("as-of count by filter and count", as_of(parse(FILTERED)), 0.5))
    recent = parse({"event": {"name": "purchased", "within": {"last_s": 30 * DAY_US // SECOND_US}}})
    asked.append(("as-of count by window", as_of(recent), 0.5))
    asked.append(("history of 20 weeks by window", lambda: inquiry.counts(workspace, recent, weeks, None), None))
    figures = [figure for question in asked for figure in _asked(*question)]
    # The people came in just now, without times of their own: ten days ago nothing was known of them.
    now_us = workspace.folder.state.now_us
    just = partial(inquiry.preview, workspace, parse(ATTRIBUTE), now_us, None)
    figures += _asked("as-of count by attribute, before parts are merged", just, None)
    workspace.compactor.work_off()
    return [*figures, *_asked("as-of count by attribute", just, 0.5)]


def _asked(name: str, ask: Callable[[], object], most: float | None) -> Sequence[Figure]:
    costs = [_cost(ask)[0] for _ in range(ROUNDS)]
    return [
        Figure(name=name, value=_least(costs, 0), unit="s", most=most),
        Figure(name=f"{name}, processor time", value=_least(costs, 1), unit="s"),
    ]


def _cost(work: Callable[[], object]) -> tuple[tuple[float, float], object]:
    """(wall, processor) seconds, and what came of it."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return (time.perf_counter() - wall, time.process_time() - cpu), found


def _least(costs: list[tuple[float, float]], place: int) -> float:
    return min(cost[place] for cost in costs)


WORKLOAD = Workload(
    name="segment_build",
    expects=(
        "a new segment is one scan of its event, read by DuckDB as plain SQL reads it, then sorted, fed to a leaf and "
        "judged with NumPy: at most one second over 10 M events and 1 M people; as of a day the same scan without what "
        "came later, at most half a second; an attribute as of a day reads one column of the writes"
    ),
    run=run,
)
