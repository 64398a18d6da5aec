"""Many segments over few leaves: what a server with a million people in them takes, and how long an import keeps them.

The segments are defined first, in this process, and people and events come in as imports, which keep them.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from backstory.core.condition import parse
from backstory.core.fact import Fact, PutSegment
from backstory.core.leaf_key import leaf_keys
from backstory.engine.clock import SystemClock
from backstory.engine.workspace import open_workspace
from bench import data, process, stock
from bench.workload import Figure, Place, Scale, Workload

SEGMENTS, LEAVES = 1000, 300
PEOPLE: dict[Scale, int] = {"quick": 10_000, "full": 1_000_000}
EVENTS: dict[Scale, int] = {"quick": 20_000, "full": 2_000_000}
SETTLE_S = 2.0
AT_ONCE = 100


def leaf(number: int) -> dict[str, Any]:
    """One of the distinct questions: windows, counts over a filter, attributes, a third each."""
    name, step = data.EVENT_NAMES[number // 3 % 5], number // 3
    sorts: tuple[dict[str, Any], ...] = (
        {"event": {"name": name, "within": {"last_s": 86_400 * (7 + 7 * step)}}},
        {
            "event": {
                "name": name,
                "where": {"attribute": {"field": "price", "operator": "gt", "value": step}},
                "count": {"at_least": 1 + step % 3},
            }
        },
        {"attribute": {"field": ("visits", "age", "score")[step % 3], "operator": "gt", "value": step}},
    )
    return sorts[number % 3]


def conditions(number: int) -> dict[str, Any]:
    """The condition of a segment: three leaves, in every way they can be put together."""
    first, second, third = (leaf((number * factor + offset) % LEAVES) for factor, offset in ((1, 0), (7, 1), (13, 5)))
    sorts: tuple[dict[str, Any], ...] = (
        first,
        {"and": [first, second]},
        {"or": [first, {"and": [second, third]}]},
        {"and": [first, {"not": second}, third]},
    )
    return sorts[number % 4]


def distinct() -> int:
    """How many leaves all segments need together."""
    return len({key for number in range(SEGMENTS) for key in leaf_keys(parse(conditions(number)))})


def define(folder: Path) -> None:
    """Make the segments in an empty workspace."""
    workspace = open_workspace(folder, clock=SystemClock(), threads=False)
    try:
        for low in range(0, SEGMENTS, AT_ONCE):
            facts: list[Fact] = [
                PutSegment(name=f"segment {number}", conditions=msgspec.json.encode(conditions(number)))
                for number in range(low, low + AT_ONCE)
            ]
            workspace.apply(facts)
            workspace.builder.work_off()
    finally:
        workspace.close()


def run(scale: Scale, place: Place) -> Sequence[Figure]:
    folder = place.work / "folder"
    define(folder / "workspaces" / "default")
    people, events = PEOPLE[scale], EVENTS[scale]
    written, _ = stock.backfill("people", data.people(place.data, people), folder)
    happened, _ = stock.backfill("events", stock.events(place, events, people), folder)
    started = time.perf_counter()
    with stock.serve(folder) as (pid, port):
        ready_s = time.perf_counter() - started
        time.sleep(SETTLE_S)
        held, peak = process.memory_bytes(pid), process.peak_bytes(pid)
        inside = sum(stock.counts(port).values())
    what = f"{SEGMENTS:,} segments over {distinct()} leaves, {people:,} people"
    return [
        Figure(name=f"server with {what}", value=held / 2**20, unit="MB"),
        Figure(name="the same, peak", value=peak / 2**20, unit="MB", most=2048),
        Figure(name="import of the people, peak", value=written.peak_bytes / 2**20, unit="MB", most=2048),
        Figure(name=f"import of {events:,} events, peak", value=happened.peak_bytes / 2**20, unit="MB", most=2048),
        Figure(name="import of the people", value=written.seconds, unit="s"),
        Figure(name=f"import of {events:,} events", value=happened.seconds, unit="s"),
        Figure(name="start of the server", value=ready_s, unit="s"),
        Figure(name="memberships held", value=inside, unit=""),
    ]


WORKLOAD = Workload(
    name="segment_memory",
    expects=(
        "a segment costs a bitmap, at most 125 KB for a million people; a leaf over a window 8 bytes a person who did "
        "it, over a count 2 bytes, over an attribute a bit: a hundred of each are about 1.1 GB, and a thousand "
        "segments 125 MB at most, so that all of it stays within 2 GB"
    ),
    run=run,
)

if __name__ == "__main__":
    define(Path(sys.argv[1]))
