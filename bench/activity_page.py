"""One page of the activity log over a large history: a person's, and everybody's, before and after parts are merged."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import process, single_call, stock
from bench.stock import Stock
from bench.workload import Figure, Place, Scale, Workload

PEOPLE_ASKED = 40
REST_S = 12.0
TIMEOUT_S = 400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    stock: Stock


SIZES: dict[Scale, Size] = {
    "quick": Size(stock=Stock(people=30_000, segments=20, events=300_000)),
    "full": Size(stock=Stock(people=1_000_000, segments=20, events=10_000_000)),
}


def run(scale: Scale, place: Place) -> Sequence[Figure]:
    size = SIZES[scale]
    folder = stock.copy(place, size.stock, "data")
    with stock.serve(folder) as (pid, port):
        before = _pages(port, size.stock.people)
        started_cpu_s = process.cpu_s(pid)
        parts = _await_rest(folder)
        compaction_cpu_s = process.cpu_s(pid) - started_cpu_s
        after = _pages(port, size.stock.people)
    return [
        Figure(name="a person's page, median, before merging", value=median(before[0]) * 1000, unit="ms"),
        Figure(name="a person's page, slowest, before merging", value=max(before[0]) * 1000, unit="ms", most=200),
        Figure(name="everybody's page, median, before merging", value=median(before[1]) * 1000, unit="ms"),
        Figure(name="a person's page, median, after", value=median(after[0]) * 1000, unit="ms"),
        Figure(name="a person's page, slowest, after", value=max(after[0]) * 1000, unit="ms", most=200),
        Figure(name="everybody's page, median, after", value=median(after[1]) * 1000, unit="ms"),
        Figure(name="files of history after merging", value=parts, unit=""),
        Figure(name="processor time of merging", value=compaction_cpu_s, unit="s"),
    ]


def _pages(port: int, people: int) -> tuple[list[float], list[float]]:
    """Seconds for pages of people, and for pages of everybody's log."""
    step = people // PEOPLE_ASKED
    persons = [f"/v1/customers/p{number * step}/activities?all=true&limit=50" for number in range(PEOPLE_ASKED)]
    return [_ask(port, path) for path in persons], [_ask(port, "/v1/activities?all=true&limit=50") for _ in range(5)]


def _ask(port: int, path: str) -> float:
    started_s = time.perf_counter()
    process.call(port, "GET", path, headers=single_call.APP)
    return time.perf_counter() - started_s


def _await_rest(folder: Path) -> int:
    """Wait until no file of history has come or gone for a while; returns how many there are."""
    parts = folder / "workspaces" / "default" / "parts"
    deadline_s = time.monotonic() + TIMEOUT_S
    names, since_s = set[str](), time.monotonic()
    while time.monotonic() < deadline_s and time.monotonic() - since_s < REST_S:
        now = {path.name for path in parts.iterdir()}
        if now != names:
            names, since_s = now, time.monotonic()
        time.sleep(0.5)
    return len(names)


WORKLOAD = Workload(
    name="activity_page",
    expects=(
        "a person's page takes 200 ms at most behind ten million events: it reads the row groups that hold the person, "
        "some for each name in each part; everybody's page has to find the newest among all"
    ),
    run=run,
)
