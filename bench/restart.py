"""How long a server that was killed hard takes to answer again, with everything counted right.

Each round loads the server with events that move people in and out of segments, waits until they are applied, notes
every segment's count, and then kills it in the middle of a light load of events of their own, one call at a time from
one new person each: the count of those who sent one must afterwards be the number of answers, or one more.
"""

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import process, single_call, stock
from bench.stock import Stock
from bench.workload import Figure, Place, Scale, Workload

SEGMENTS = 20
TICK = "restart_tick"
LOAD_S = 4.0
LOAD_RATE = 1000
LIGHT_S = 1.0
POLL_S = 0.01
TIMEOUT_S = 120
# Segments of `single_call.conditions` that people leave because time passes, by number from 1.
WINDOWS = frozenset(number + 1 for number in range(SEGMENTS) if number % 4 == 1)
# How many may do so between a count and the one after the restart: less than one in twenty seconds is to be expected.
LEFT_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    stock: Stock
    rounds: int


SIZES: dict[Scale, Size] = {
    "quick": Size(stock=Stock(people=30_000, segments=SEGMENTS, events=300_000), rounds=2),
    "full": Size(stock=Stock(people=1_000_000, segments=SEGMENTS, events=10_000_000), rounds=3),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Back:
    """One restart: seconds from the start of the process."""

    health_s: float
    exact_s: float
    answered: int


def run(scale: Scale, place: Place) -> Sequence[Figure]:
    size = SIZES[scale]
    folder = stock.copy(place, size.stock, "data")
    port = process.free_port()
    current = process.start_server(stock.serve_command(folder, port), env=stock.KEYS)
    backs: list[Back] = []
    try:
        process.wait_until_ready(current, port)
        ticks = _make_tick_segment(port)
        sent = 0
        for number in range(size.rounds):
            _load(port, size.stock.people, number)
            before = stock.counts(port)
            light = Light(port, sent)
            time.sleep(LIGHT_S)
            # SIGKILL, of the one process we started.
            current.kill()
            current.wait()
            light.join()
            current, back = _start_again(folder, port, before, ticks, light)
            sent = light.next_person
            backs.append(back)
            _compare_windows(port)
    finally:
        process.end(current)
    return [
        Figure(
            name="from the start until every count is exact, slowest",
            value=max(back.exact_s for back in backs),
            unit="s",
            most=5,
        ),
        Figure(
            name="from the start until /health answers 200, slowest",
            value=max(back.health_s for back in backs),
            unit="s",
        ),
        Figure(name="restarts", value=len(backs), unit=""),
        Figure(
            name="events answered before the kill came, all found", value=sum(back.answered for back in backs), unit=""
        ),
    ]


class Light(threading.Thread):
    """One call at a time, each about the next person, until the server is gone."""

    def __init__(self, port: int, first: int) -> None:
        super().__init__(name="light", daemon=True)
        self.port = port
        self.first = first
        self.next_person = first
        self.answered = 0
        self.refused = 0
        self.start()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {**single_call.BASIC, "Content-Type": "application/json"}
        body = json.dumps({"name": TICK, "data": {"price": 1}})
        try:
            while True:
                path = f"/api/v1/customers/p{self.next_person}/events"
                # Counted before it is sent: the one without an answer may be in or not.
                self.next_person += 1
                connection.request("POST", path, body=body, headers=headers)
                answer = connection.getresponse()
                answer.read()
                self.answered += answer.status == 200
                self.refused += answer.status != 200
        except (OSError, http.client.HTTPException):
            connection.close()


def _make_tick_segment(port: int) -> int:
    segment = {"name": "ticks", "type": "dynamic", "conditions": {"event": {"name": TICK}}}
    made = process.call(port, "POST", "/v1/segments", headers=single_call.APP, body={"segment": segment})
    return made["segment"]["id"]


def _load(port: int, people: int, number: int) -> None:
    options = ["--port", str(port), "--connections", "16", "--rate", str(LOAD_RATE), "--seconds", str(LOAD_S)]
    options += ["--people", str(people), "--credentials", f"{single_call.SITE}:{single_call.KEY}"]
    options += ["--first", str(number * 20_000)]
    answer = json.loads(process.run([sys.executable, "-m", "bench.client", *options], sample_s=1).output)
    if answer["errors"]:
        raise RuntimeError(f"not every answer was 200: {answer}")
    single_call.wait_until_applied(port)


def _start_again(
    folder: Path, port: int, before: dict[int, int], ticks: int, light: Light
) -> tuple["subprocess.Popen[bytes]", Back]:
    if light.refused:
        raise RuntimeError(f"{light.refused} calls of the light load were refused")
    started = time.perf_counter()
    server = process.start_server(stock.serve_command(folder, port), env=stock.KEYS)
    try:
        process.wait_until_ready(server, port, timeout_s=TIMEOUT_S, poll_s=POLL_S)
        health_s = time.perf_counter() - started
        while differing := wrong(stock.counts(port), before, ticks, light.answered):
            if time.perf_counter() - started > TIMEOUT_S:
                raise RuntimeError(f"counts are not what they were before the kill: {differing}")
            time.sleep(POLL_S)
    except BaseException:
        process.end(server)
        raise
    return server, Back(health_s=health_s, exact_s=time.perf_counter() - started, answered=light.answered)


def wrong(now: dict[int, int], before: dict[int, int], ticks: int, answered: int) -> dict[int, tuple[int, int]]:
    """Segments whose count is not right: the count before and the one now."""
    found_wrong: dict[int, tuple[int, int]] = {}
    for segment_id, count in before.items():
        found = now.get(segment_id, -1)
        if segment_id == ticks:
            right = found in (count + answered, count + answered + 1)
        else:
            right = 0 <= count - found <= (LEFT_MAX if segment_id in WINDOWS else 0)
        if not right:
            found_wrong[segment_id] = (count, found)
    return found_wrong


def _compare_windows(port: int) -> None:
    """What is kept of the segments that time changes, against a count over the whole of history for this moment."""
    for segment_id in WINDOWS:
        # Somebody may leave between the two: then once more.
        pairs = ((stock.count(port, segment_id), stock.count(port, segment_id, time.time())) for _ in range(5))
        if not any(kept == told for kept, told in pairs):
            raise RuntimeError(f"what segment {segment_id} holds is not what history says of this moment")


WORKLOAD = Workload(
    name="restart",
    expects=(
        "a killed server is back with exact counts within 5 seconds: it loads the leaves as they were stored, feeds "
        "them what came since from the newest events, and replays what was accepted and not yet applied; the millions "
        "of events in parts are not read"
    ),
    run=run,
)
