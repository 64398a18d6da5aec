"""A window that a million people are still to leave: what it costs facts and the clock until they do.

In this process, on a clock that is moved by hand; the same workspace without that window beside it.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from backstory.core.condition import parse
from backstory.core.fact import Fact, Identifier, PutSegment, Track
from backstory.core.leaf import WindowLeaf
from backstory.core.time import DAY_US, SECOND_US
from backstory.engine.clock import ManualClock
from backstory.engine.workspace import Workspace, open_workspace
from bench import stock
from bench.stock import Stock
from bench.workload import Figure, Place, Scale, Workload

STOCKS: dict[Scale, Stock] = {
    "quick": Stock(people=30_000, segments=20),
    "full": Stock(people=1_000_000, segments=20),
}
FACTS = 5_000
TURNS = 3_600
WINDOW: dict[str, Any] = {"event": {"name": "waited", "within": {"last_s": 86_400}}}


def run(scale: Scale, place: Place) -> Sequence[Figure]:
    held = STOCKS[scale]
    found: dict[str, tuple[float, float]] = {}
    for name in ("without", "pending"):
        folder = stock.copy(place, held, name) / "workspaces" / "default"
        found[name] = _measured(folder, pending=name == "pending")
    (fact_s, hour_s), (pending_fact_s, pending_hour_s) = found["without"], found["pending"]
    return [
        Figure(
            name=f"a fact with {held.people:,} pending / without", value=pending_fact_s / fact_s, unit="x", most=1.1
        ),
        Figure(name="a fact without, processor time", value=fact_s / FACTS * 1e6, unit="us"),
        Figure(
            name=f"an hour of the clock, second by second, with {held.people:,} pending", value=pending_hour_s, unit="s"
        ),
        Figure(name="the same without", value=hour_s, unit="s"),
    ]


def _measured(folder: Path, *, pending: bool) -> tuple[float, float]:
    """Processor seconds of some facts, and of an hour in which nothing but the clock moves."""
    clock = ManualClock(time.time_ns() // 1000)
    workspace = open_workspace(folder, clock=clock, threads=False)
    try:
        workspace.loop.turn()
        if pending:
            _fill(workspace)
        facts = [_facts(number) for number in range(FACTS // 100)]
        _settle(workspace)
        spent_s = _cost(lambda: [workspace.apply(some) for some in facts])
        return spent_s, _cost(lambda: [_second(workspace, clock) for _ in range(TURNS)])
    finally:
        workspace.folder.close()


def _fill(workspace: Workspace) -> None:
    """Everybody did it an hour ago."""
    condition = parse(WINDOW)
    workspace.apply([PutSegment(name="waited", conditions=msgspec.json.encode(WINDOW))])
    workspace.builder.work_off()
    leaf = workspace.segments.leaves[condition]  # pyright: ignore[reportArgumentType]
    assert isinstance(leaf, WindowLeaf)
    people = workspace.segments.everybody()
    times_us = np.full(len(people), workspace.folder.state.now_us - DAY_US // 24, np.int64)
    leaf.add_many(people, np.arange(len(people)), times_us)
    workspace.segments.expect_fed(people, workspace.folder.state.now_us, [leaf.test])


def _settle(workspace: Workspace) -> None:
    """What the opening left to do is done before anything is measured."""
    workspace.apply(_facts(0))
    workspace.loop.turn()


def _facts(number: int) -> list[Fact]:
    return [
        Track(person=Identifier("id", f"p{number * 100 + place}"), name="viewed", data=b"{}") for place in range(100)
    ]


def _second(workspace: Workspace, clock: ManualClock) -> None:
    clock.advance(SECOND_US)
    workspace.loop.turn()


def _cost(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


WORKLOAD = Workload(
    name="pending_expiries",
    expects=(
        "nobody is asked before their moment: the next is known, and every ten minutes a reading of the column (a "
        "millisecond for a million people) brings in those of the next stretch; a fact costs the same with a million "
        "pending as with none"
    ),
    run=run,
)
