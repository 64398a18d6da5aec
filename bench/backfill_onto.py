"""A file of events into a folder that holds five times as many: against the same file into one that holds none.

What is there already is one other file, imported five times with every row counted (`--same-rows all`): to the import
that is measured it is what five files would be, rows and keys in parts and runs of their own.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import data, stock
from bench.process import Cost
from bench.stock import Stock
from bench.workload import Figure, Place, Scale, Workload

SEGMENTS = 20
TIMES = 5
MEMORY_MB = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    people: int
    events: int
    # None where the file is so small that mostly the start of the program is measured.
    most: float | None


SIZES: dict[Scale, Size] = {
    "quick": Size(people=30_000, events=100_000, most=None),
    "full": Size(people=1_000_000, events=10_000_000, most=1.5),
}


def run(scale: Scale, place: Place) -> Sequence[Figure]:
    size = SIZES[scale]
    there = stock.events(place, size.events, size.people)
    source = data.events(place.cache, size.events, size.people, seed=3, end_s=stock.this_morning_s())
    base = Stock(people=size.people, segments=SEGMENTS)
    empty = stock.copy(place, base, "empty")
    onto_none = _import(source, empty, size)
    shutil.rmtree(empty)
    full = stock.copy(place, base, "full")
    before: list[Cost] = []
    for _ in range(TIMES):
        cost, summary = stock.backfill("events", there, full, "--same-rows", "all")
        if summary["created"] != size.events:
            raise RuntimeError(f"every row should count again: {summary}")
        before.append(cost)
    onto = _import(source, full, size)
    return [
        Figure(
            name="seconds, onto five times as many / onto none",
            value=onto.seconds / onto_none.seconds, unit="x", most=size.most,
        ),
        Figure(name="processor seconds, onto / onto none", value=onto.cpu_s / onto_none.cpu_s, unit="x"),
        Figure(name="seconds, onto none", value=onto_none.seconds, unit="s"),
        Figure(name="seconds, onto", value=onto.seconds, unit="s"),
        Figure(name="seconds, the last of the five before", value=before[-1].seconds, unit="s"),
        Figure(name="peak memory, onto", value=onto.peak_bytes / 2**20, unit="MB", most=MEMORY_MB),
    ]  # fmt: skip


def _import(source: Path, folder: Path, size: Size) -> Cost:
    cost, summary = stock.backfill("events", source, folder)
    created: int = summary["created"]
    if not 0.999 * size.events < created or created + summary["duplicate"] != size.events:
        raise RuntimeError(f"nearly all rows should be new: {summary}")
    return cost


WORKLOAD = Workload(
    name="backfill_onto",
    expects=(
        "ten million events come in at most 1.5 times as slowly where there are fifty million already: what is there "
        "is asked one question for each chunk, whether its keys are known, and a sieve in memory answers it for nearly "
        "every key; segments keep what they know of people and read nothing again"
    ),
    run=run,
)
