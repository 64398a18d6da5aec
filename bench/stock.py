"""Data folders with people, events and segments in them, made once per run and copied for each use.

First the segments, because an import that keeps them costs less than building each over people who are there; then
people, and a few events so that every segment has members; then, over a copy of that, the large file of events. Events
reach up to this morning, so that windows of days hold some of them.
"""

import functools
import json
import os
import shutil
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import data, process, single_call
from bench.process import Cost
from bench.workload import Place

DAY_S = 86_400
# The few events: one for so many people.
FEW = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """What a folder holds; ``events`` come from the large file, beside the few."""

    people: int
    segments: int
    events: int = 0

    @property
    def name(self) -> str:
        return f"{self.people}-people-{self.segments}-segments-{self.events}-events"


def folder(place: Place, stock: Stock) -> Path:
    """The folder of a stock, to be read or copied, never changed; made if this run has none yet."""
    path = place.cache / stock.name
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        _make(place, stock, unfinished)
        os.replace(unfinished, path)
    return path


def copy(place: Place, stock: Stock, name: str) -> Path:
    """A copy of a stock in the work folder, on disk: nothing of the copying is left to be written later."""
    target = place.work / name
    shutil.copytree(folder(place, stock), target, copy_function=_copy_and_sync)
    return target


def offer(place: Place, stock: Stock, made: Path) -> None:
    """Hand over a folder that holds just this stock, so that it need not be made again."""
    path = place.cache / stock.name
    if path.exists():
        shutil.rmtree(made)
    else:
        os.replace(made, path)


def events(place: Place, rows: int, people: int, *, ids: bool = False) -> Path:
    """The large file of events up to this morning; those of other mornings go."""
    today = this_morning_s()
    for old in place.data.glob("events-*-until-*.jsonl"):
        if not old.stem.endswith(f"-{today}"):
            old.unlink()
    return data.events(place.data, rows, people, ids=ids, end_s=today)


@functools.cache
def this_morning_s() -> int:
    """The last midnight, UTC; asked once, so that a run over midnight keeps its files."""
    return int(time.time()) // DAY_S * DAY_S


def backfill(kind: str, source: Path, folder: Path, *options: str) -> tuple[Cost, dict[str, Any]]:
    """Run the whole command without a server: what it cost, and its summary; raises if a row did not come in."""
    cost = process.run([*backfill_command(kind, source, folder), *options])
    summary: dict[str, Any] = json.loads(cost.output)
    if summary["errors"] or summary["state"] != "imported":
        raise RuntimeError(f"the import did not take every row: {summary}")
    return cost, summary


def preview(kind: str, source: Path, folder: Path) -> Cost:
    """Run the whole command of its preview without a server; raises if a row would not come in."""
    cost = process.run([*backfill_command(kind, source, folder), "--preview"])
    seen: dict[str, Any] = json.loads(cost.output)
    if seen["errors"]:
        raise RuntimeError(f"the import would not take every row: {seen}")
    return cost


def backfill_command(kind: str, source: Path, folder: Path) -> list[str]:
    return [*process.BACKSTORY, "backfill", kind, str(source), "--data", str(folder), "--yes", "--json"]


def baseline(module: str, source: Path, database: Path) -> Cost:
    """Run a baseline in a process of its own, and remove what it made."""
    try:
        return process.run([sys.executable, "-m", module, str(source), str(database)])
    finally:
        for path in database.parent.glob(database.name + "*"):
            path.unlink()


def serve_command(folder: Path, port: int) -> list[str]:
    return [*process.BACKSTORY, "serve", "--data", str(folder), "--host", "127.0.0.1", "--port", str(port)]


# The keys of `bench.single_call`, which the clients use.
KEYS = {
    "BACKSTORY_SITE_ID": single_call.SITE,
    "BACKSTORY_TRACK_KEY": single_call.KEY,
    "BACKSTORY_APP_KEY": single_call.APP_KEY,
}


@contextmanager
def serve(folder: Path) -> Generator[tuple[int, int]]:
    """Our server on a folder until the block ends: its process id and its port."""
    port = process.free_port()
    with process.server(serve_command(folder, port), port, env=KEYS) as pid:
        yield pid, port


def counts(port: int) -> dict[int, int]:
    """How many people are in each segment now."""
    listed = process.call(port, "GET", "/v1/segments", headers=single_call.APP)["segments"]
    return {one["id"]: count(port, one["id"]) for one in listed}


def count(port: int, segment_id: int, as_of_s: float | None = None) -> int:
    path = f"/v1/segments/{segment_id}/customer_count" + ("" if as_of_s is None else f"?as_of={as_of_s:.6f}")
    return process.call(port, "GET", path, headers=single_call.APP)["count"]


def _make(place: Place, stock: Stock, target: Path) -> None:
    if stock.events:
        shutil.copytree(folder(place, replace(stock, events=0)), target, copy_function=_copy_and_sync)
        backfill("events", events(place, stock.events, stock.people), target)
    else:
        with serve(target) as (_, port):
            single_call.make_segments(port, stock.segments)
        backfill("people", data.people(place.data, stock.people), target)
        few = data.events(place.cache, stock.people // FEW, stock.people, seed=2, end_s=this_morning_s())
        backfill("events", few, target)


def _copy_and_sync(source: str, target: str) -> None:
    shutil.copyfile(source, target)
    shutil.copymode(source, target)
    with open(target, "rb") as file:
        os.fsync(file.fileno())
