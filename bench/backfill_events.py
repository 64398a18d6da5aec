"""Events from JSON lines into a folder with people and segments: the whole command, against bare DuckDB.

Without event ids and with them; then the same file once more, which must add nothing, and before the last round its
preview. Rounds alternate, and who goes first does too, so that a slow moment of the machine or a cold file hits both.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench import stock
from bench.process import Cost
from bench.stock import Stock
from bench.workload import Figure, Place, Scale, Workload

SEGMENTS = 20
MEMORY_MB = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    people: int
    events: int
    rounds: int
    # None where the file is so small that mostly the start of the program is measured.
    most: float | None


SIZES: dict[Scale, Size] = {
    "quick": Size(people=30_000, events=300_000, rounds=2, most=None),
    "full": Size(people=1_000_000, events=10_000_000, rounds=3, most=1.3),
}


def run(scale: Scale, place: Place) -> Sequence[Figure]:
    size = SIZES[scale]
    return [*_figures(size, place, ids=False), *_figures(size, place, ids=True)]


def _figures(size: Size, place: Place, *, ids: bool) -> list[Figure]:
    source = stock.events(place, size.events, size.people, ids=ids)
    base = Stock(people=size.people, segments=SEGMENTS)
    bare: list[Cost] = []
    ours: list[Cost] = []
    own_s: list[float] = []
    again: Cost | None = None
    seen: Cost | None = None
    for number in range(size.rounds):
        folder = stock.copy(place, base, "round")
        if number == size.rounds - 1:
            seen = stock.preview("events", source, folder)
        if number % 2:
            bare.append(_bare(source, place))
        cost, summary = stock.backfill("events", source, folder)
        if not number % 2:
            bare.append(_bare(source, place))
        _check(summary, size.events)
        ours.append(cost)
        own_s.append(summary["seconds"])
        if number < size.rounds - 1 and not ids:
            stock.offer(place, Stock(people=size.people, segments=SEGMENTS, events=size.events), folder)
            continue
        if number == size.rounds - 1:
            again, summary = stock.backfill("events", source, folder)
            _check(summary, size.events, again=True)
        shutil.rmtree(folder)
    assert again is not None
    assert seen is not None
    least, real = median(cost.seconds for cost in bare), median(cost.seconds for cost in ours)
    peak = max(cost.peak_bytes for cost in [*ours, again])
    kind = "with ids" if ids else "no ids"
    return [
        Figure(name=f"{kind}: seconds, ours / bare DuckDB", value=real / least, unit="x", most=size.most),
        Figure(name=f"{kind}: seconds, the same file again / its import", value=again.seconds / real, unit="x", most=1),
        Figure(name=f"{kind}: seconds, its preview / the import", value=seen.seconds / real, unit="x", most=1),
        Figure(name=f"{kind}: processor seconds, its preview", value=seen.cpu_s, unit="s"),
        Figure(name=f"{kind}: seconds, bare DuckDB", value=least, unit="s"),
        Figure(name=f"{kind}: seconds, ours, the whole command", value=real, unit="s"),
        Figure(name=f"{kind}: seconds, ours, by its own clock", value=median(own_s), unit="s"),
        Figure(name=f"{kind}: processor seconds, bare DuckDB", value=median(cost.cpu_s for cost in bare), unit="s"),
        Figure(name=f"{kind}: processor seconds, ours", value=median(cost.cpu_s for cost in ours), unit="s"),
        Figure(name=f"{kind}: peak memory, ours", value=peak / 2**20, unit="MB", most=MEMORY_MB),
        Figure(
            name=f"{kind}: peak memory, bare DuckDB", value=max(cost.peak_bytes for cost in bare) / 2**20, unit="MB"
        ),
    ]


def _bare(source: Path, place: Place) -> Cost:
    return stock.baseline("bench.event_baseline", source, place.work / "baseline.duckdb")


def _check(summary: dict[str, Any], rows: int, *, again: bool = False) -> None:
    """Every row is new, but for the odd one that equals one of the few events before; again, none is."""
    created: int = summary["created"]
    right = created == 0 if again else 0.999 * rows < created
    if not right or created + summary["duplicate"] != rows:
        raise RuntimeError(f"of {rows} rows {'none' if again else 'all'} should be new: {summary}")


WORKLOAD = Workload(
    name="backfill_events",
    expects=(
        "millions of events with 20 segments kept take at most 1.3 times what bare DuckDB needs to read the same lines "
        "into a table: reading the text is most of the work of both, done once in each, and what ours adds (who, known "
        "already or not, sorted parts, segments) works on columns; the same file again is no slower, as nothing is "
        "written; of a small file's time most is the start of the program, so quick has no budget"
    ),
    run=run,
)
