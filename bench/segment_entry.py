"""How soon after its 200 an event shows in the segments of its person, under a steady load of live events.

Once quietly, and once while a large file of events is imported through the same server. Load, samples and import are
three processes beside the server; the load itself moves people in and out of most of the 200 segments.
"""

import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import entry_probe, process, single_call, stock
from bench.client import SECONDS_MAX, percentile
from bench.stock import Stock
from bench.workload import Figure, Place, Scale, Workload

SEGMENTS = 200
RATE = 3000
CONNECTIONS = 64
SAMPLES_PER_S = 20
BUDGET_MS = 250
REQUESTS = 60_000
# The load's client needs a moment to make its calls and to get going before anything is measured.
LEAD_S = 3.0
CREDENTIALS = f"{single_call.SITE}:{single_call.KEY}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    people: int
    # Of the file that is imported meanwhile.
    events: int
    quiet_s: float
    busy_max_s: float


SIZES: dict[Scale, Size] = {
    "quick": Size(people=30_000, events=300_000, quiet_s=6, busy_max_s=20),
    "full": Size(people=1_000_000, events=10_000_000, quiet_s=30, busy_max_s=SECONDS_MAX - 10),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What load and samples told; ``samples`` are those that were answered between the two moments."""

    load: dict[str, Any]
    probe: dict[str, Any]
    samples: list[dict[str, float]]


def run(scale: Scale, place: Place) -> Sequence[Figure]:
    size = SIZES[scale]
    source = stock.events(place, size.events, size.people)
    folder = stock.copy(place, Stock(people=size.people, segments=SEGMENTS), "data")
    with stock.serve(folder) as (pid, port):
        segment_id = _probe_segment(port)
        before = stock.counts(port)
        quiet = _quiet(port, size, segment_id)
        moved = sum(abs(count - before[one]) for one, count in stock.counts(port).items())
        fresh = len(quiet.probe["samples"]) + 100
        busy, imported_s, rows = _busy(port, size, segment_id, source, folder, first=fresh)
        memory = process.peak_bytes(pid)
    return [
        *_figures("quiet", quiet),
        Figure(name="quiet: net change of all counts by the load and the samples", value=moved, unit="people"),
        *_figures("during an import", busy),
        Figure(name="during an import: events it took in while measured", value=rows, unit=""),
        Figure(name="during an import: seconds measured", value=imported_s, unit="s"),
        Figure(name="peak memory of the server", value=memory / 2**20, unit="MB"),
    ]


def _figures(name: str, phase: Phase) -> list[Figure]:
    def of(key: str, share: float) -> float:
        return percentile(sorted(round(one[key] * 1e6) for one in phase.samples), share) / 1e6

    return [
        Figure(name=f"{name}: from the 200 until shown, p99", value=of("shown_ms", 0.99), unit="ms", most=BUDGET_MS),
        Figure(name=f"{name}: from the 200 until shown, p50", value=of("shown_ms", 0.5), unit="ms"),
        Figure(name=f"{name}: certainly not yet shown, p99", value=of("hidden_ms", 0.99), unit="ms"),
        Figure(name=f"{name}: the read that showed it (within the above), p50", value=of("read_ms", 0.5), unit="ms"),
        Figure(name=f"{name}: the read that showed it (within the above), p99", value=of("read_ms", 0.99), unit="ms"),
        Figure(name=f"{name}: samples", value=len(phase.samples), unit=""),
        Figure(
            name=f"{name}: share of the samples due that were taken",
            value=min(1.0, len(phase.probe["samples"]) / max(1, phase.probe["due"])),
            unit="",
        ),
        Figure(
            name=f"{name}: share of {RATE} events/s really sent", value=phase.load["share_sent"], unit="", least=0.99
        ),
        Figure(name=f"{name}: p99 of the load's own calls", value=phase.load["p99_ms"], unit="ms"),
        Figure(name=f"{name}: share of a core the load's client used", value=phase.load["client_busy"], unit="cores"),
    ]


def _quiet(port: int, size: Size, segment_id: int) -> Phase:
    with _loaded(port, size, first=0) as load, _probed(port, segment_id, first=0) as probe:
        time.sleep(LEAD_S)
        since = time.monotonic()
        time.sleep(size.quiet_s)
        return _phase(load, probe, since, time.monotonic())


def _busy(
    port: int, size: Size, segment_id: int, source: Path, folder: Path, *, first: int
) -> tuple[Phase, float, int]:
    """The phase with an import beside it; how long it was measured, and the rows taken in meanwhile."""
    with _loaded(port, size, first=100_000) as load, _probed(port, segment_id, first=first) as probe:
        time.sleep(LEAD_S)
        with process.helper(stock.backfill_command("events", source, folder)) as running:
            since = time.monotonic()
            ended = _wait(running, size.busy_max_s)
            until = time.monotonic()
            rows = size.events if ended else _rows(port)
            return _phase(load, probe, since, until), until - since, rows


def _wait(running: process.Helper, seconds: float) -> bool:
    """Whether the import ended within the time; raises if it ended badly."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if running.process.poll() is not None:
            running.result(1)
            return True
        time.sleep(0.02)
    return False


def _phase(load: process.Helper, probe: process.Helper, since: float, until: float) -> Phase:
    """End both processes and keep what was sampled between two moments of the monotonic clock."""
    told_probe = probe.result(60, stop=True)
    told_load = load.result(60, stop=True)
    if told_load["errors"]:
        raise RuntimeError(f"{told_load['errors']} answers to the load were not 200")
    samples = [one for one in told_probe["samples"] if since <= one["at_s"] <= until]
    return Phase(load=told_load, probe=told_probe, samples=samples)


@contextmanager
def _loaded(port: int, size: Size, *, first: int) -> Generator[process.Helper]:
    options = ["--port", str(port), "--connections", str(CONNECTIONS), "--rate", str(RATE), "--first", str(first)]
    options += ["--people", str(size.people), "--seconds", str(SECONDS_MAX), "--credentials", CREDENTIALS]
    options += ["--requests", str(REQUESTS)]
    with process.helper([sys.executable, "-m", "bench.client", *options]) as load:
        yield load


@contextmanager
def _probed(port: int, segment_id: int, *, first: int) -> Generator[process.Helper]:
    options = ["--port", str(port), "--segment", str(segment_id), "--first", str(first), "--rate", str(SAMPLES_PER_S)]
    options += ["--seconds", str(SECONDS_MAX), "--credentials", CREDENTIALS, "--app-key", single_call.APP_KEY]
    with process.helper([sys.executable, "-m", "bench.entry_probe", *options]) as probe:
        yield probe


def _probe_segment(port: int) -> int:
    """One more segment, which only the samples enter."""
    segment = {"name": "probe", "type": "dynamic", "conditions": {"event": {"name": entry_probe.EVENT}}}
    made = process.call(port, "POST", "/v1/segments", headers=single_call.APP, body={"segment": segment})
    return made["segment"]["id"]


def _rows(port: int) -> int:
    """How many rows the newest import has taken in so far."""
    listed = process.call(port, "GET", "/v1/imports", headers=single_call.APP)["imports"]
    return max(listed, key=lambda one: one["id"])["rows_imported"]


WORKLOAD = Workload(
    name="segment_entry",
    expects=(
        "99 of 100 entries are shown within 250 ms of the 200: facts are applied in the order and the batches in which "
        "they were made durable, and an import holds the loop for at most 50 ms at a time; while one runs on two cores "
        "there is less of everything, so the load may not be sent in full"
    ),
    run=run,
)
