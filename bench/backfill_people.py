"""People from a CSV file into a new folder: the whole command, against two plain SQLite tables.

Before it the preview of the same, behind it the same file once more.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench import data, stock
from bench.process import Cost
from bench.workload import Figure, Place, Scale, Workload

MEMORY_MB = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    people: int
    rounds: int
    # None where the file is so small that mostly the start of the program is measured.
    most: float | None


SIZES: dict[Scale, Size] = {
    "quick": Size(people=30_000, rounds=2, most=None),
    "full": Size(people=1_000_000, rounds=3, most=3),
}


def run(scale: Scale, place: Place) -> Sequence[Figure]:
    size = SIZES[scale]
    source = data.people(place.data, size.people)
    bare: list[Cost] = []
    ours: list[Cost] = []
    seconds: list[float] = []
    previews: list[Cost] = []
    again: list[Cost] = []
    for _ in range(size.rounds):
        bare.append(stock.baseline("bench.people_baseline", source, place.work / "baseline.db"))
        folder = place.work / "round"
        previews.append(stock.preview("people", source, folder))
        cost, summary = stock.backfill("people", source, folder)
        if summary["created"] != size.people:
            raise RuntimeError(f"{size.people} people were to be created: {summary}")
        ours.append(cost)
        seconds.append(summary["seconds"])
        cost, summary = stock.backfill("people", source, folder)
        if summary["unchanged"] != size.people:
            raise RuntimeError(f"{size.people} people were to be known already: {summary}")
        again.append(cost)
        shutil.rmtree(folder)
    least, real = median(cost.seconds for cost in bare), median(cost.seconds for cost in ours)
    return [
        Figure(name="seconds, ours / two SQLite tables", value=real / least, unit="x", most=size.most),
        Figure(
            name="seconds, the same file again / its import",
            value=median(cost.seconds for cost in again) / real,
            unit="x",
            most=None if size.most is None else 1,
        ),
        Figure(
            name="seconds, its preview / the import",
            value=median(cost.seconds for cost in previews) / real,
            unit="x",
            most=None if size.most is None else 1,
        ),
        Figure(name="processor seconds, the same file again", value=median(cost.cpu_s for cost in again), unit="s"),
        Figure(name="processor seconds, its preview", value=median(cost.cpu_s for cost in previews), unit="s"),
        Figure(name="seconds, two SQLite tables", value=least, unit="s"),
        Figure(name="seconds, ours, the whole command", value=real, unit="s"),
        Figure(name="rows a second, ours, by its own clock", value=size.people / median(seconds), unit="1/s"),
        Figure(name="processor seconds, ours", value=median(cost.cpu_s for cost in ours), unit="s"),
        Figure(
            name="peak memory, ours", value=max(cost.peak_bytes for cost in ours) / 2**20, unit="MB", most=MEMORY_MB
        ),
    ]


WORKLOAD = Workload(
    name="backfill_people",
    expects=(
        "people come in at no more than 3 times what a plain executemany into two SQLite tables takes: both write the "
        "same rows into SQLite, ours also judges every value by its time, finds people by id and by email, and keeps "
        "the history; a preview does the same on a replica, and a file that is read again writes newer times into the "
        "same rows: neither takes longer than the import; of a small file's time most is the start of the program, so "
        "quick has no budget"
    ),
    run=run,
)
