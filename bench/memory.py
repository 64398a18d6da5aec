"""Resident memory of a server: of an empty one, and what a person adds."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench import process, single_call, stock
from bench.stock import Stock
from bench.workload import Figure, Place, Scale, Workload

SEGMENTS = 20
# What a server still does by itself after it said that it is ready.
SETTLE_S = 2.0
LOAD_S = 5.0

STOCKS: dict[Scale, Stock] = {
    "quick": Stock(people=30_000, segments=SEGMENTS),
    "full": Stock(people=1_000_000, segments=SEGMENTS),
}


def run(scale: Scale, place: Place) -> Sequence[Figure]:
    held = STOCKS[scale]
    with stock.serve(place.work / "empty") as (pid, _):
        time.sleep(SETTLE_S)
        empty, empty_peak = process.memory_bytes(pid), process.peak_bytes(pid)
    full, loaded, peak = _with_people(stock.copy(place, held, "people"), held)
    people = f"{held.people:,} people and {held.segments} segments"
    return [
        Figure(name="empty server, peak", value=empty_peak / 2**20, unit="MB", most=200),
        Figure(name="empty server", value=empty / 2**20, unit="MB"),
        Figure(name=f"server with {people}", value=full / 2**20, unit="MB"),
        Figure(name=f"server with {people}, peak, with a load of live events", value=peak / 2**20, unit="MB"),
        Figure(name="bytes for each person", value=(full - empty) / held.people, unit="B"),
        Figure(name="bytes for each person, after the load", value=(loaded - empty) / held.people, unit="B"),
    ]


def _with_people(folder: Path, held: Stock) -> tuple[int, int, int]:
    """Bytes after the start, after a load of live events, and at most."""
    with stock.serve(folder) as (pid, port):
        time.sleep(SETTLE_S)
        full = process.memory_bytes(pid)
        options = ["--port", str(port), "--connections", "16", "--seconds", str(LOAD_S), "--people", str(held.people)]
        options += ["--credentials", f"{single_call.SITE}:{single_call.KEY}", "--requests", "50000"]
        cost = process.run([sys.executable, "-m", "bench.client", *options], sample_s=1)
        if json.loads(cost.output)["errors"]:
            raise RuntimeError(f"not every answer was 200: {cost.output}")
        single_call.wait_until_applied(port)
        return full, process.memory_bytes(pid), process.peak_bytes(pid)


WORKLOAD = Workload(
    name="memory",
    expects=(
        "an empty server stays under 200 MB: an interpreter, NumPy, PyArrow, DuckDB and the web server, which is why "
        "what calls do not need is loaded late; a person adds a hundred bytes or two, as values stay in SQLite and a "
        "leaf keeps a few bytes for each of those it holds for; with few people the caches, which have a fixed size, "
        "look like theirs"
    ),
    run=run,
)
