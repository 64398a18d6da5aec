"""Single calls over HTTP: what one costs the server, against the least any server does.

Two servers, one after the other under the same load from a third process: a bare ASGI application that answers 200,
and ours with people and segments. Rounds alternate, so that a slow moment of the machine hits both.
"""

import base64
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median

from bench import data, process
from bench.workload import Figure, Place, Scale, Workload

CONNECTIONS = 64
ATTRIBUTES = 30
SITE, KEY, APP_KEY = "bench-site", "bench-track-key", "bench-app-key"
APP = {"Authorization": f"Bearer {APP_KEY}"}
BASIC = {"Authorization": "Basic " + base64.b64encode(f"{SITE}:{KEY}".encode()).decode()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    people: int
    rounds: int
    seconds: float


SIZES: dict[Scale, Size] = {
    "quick": Size(people=10_000, rounds=2, seconds=3),
    "full": Size(people=100_000, rounds=5, seconds=10),
}


@dataclass(slots=True)
class Tally:
    """What the rounds of one server add up to."""

    calls: int = 0
    errors: int = 0
    cpu_s: float = 0.0
    seconds: float = 0.0
    p50_ms: list[float] = field(default_factory=list[float])
    p99_ms: list[float] = field(default_factory=list[float])
    client_busy: list[float] = field(default_factory=list[float])

    @property
    def us_per_call(self) -> float:
        return self.cpu_s / self.calls * 1e6


def run(scale: Scale, place: Place) -> Sequence[Figure]:
    size = SIZES[scale]
    folder = place.work / "data"
    source = data.people(place.data, size.people)
    process.run([*process.BACKSTORY, "backfill", "people", str(source), "--data", str(folder), "--yes", "--json"])
    keys = {"BACKSTORY_SITE_ID": SITE, "BACKSTORY_TRACK_KEY": KEY, "BACKSTORY_APP_KEY": APP_KEY}
    bare_port, our_port = process.free_port(), process.free_port()
    serve = [*process.BACKSTORY, "serve", "--data", str(folder), "--host", "127.0.0.1", "--port", str(our_port)]
    with ExitStack() as stack:
        bare = stack.enter_context(process.server([sys.executable, "-m", "bench.bare", str(bare_port)], bare_port))
        ours = stack.enter_context(process.server(serve, our_port, env=keys))
        make_segments(our_port)
        return measure(size, (bare, bare_port), (ours, our_port))


def measure(size: Size, bare: tuple[int, int], ours: tuple[int, int]) -> list[Figure]:
    """Load the two servers, each a process id and a port, in turn."""
    least, real, written = Tally(), Tally(), Tally()
    for server in (bare, ours):
        one_round(server, Tally(), size, seconds=1)
    for _ in range(size.rounds):
        one_round(bare, least, size, seconds=size.seconds)
        one_round(ours, real, size, seconds=size.seconds)
        one_round(ours, written, size, seconds=size.seconds / 2, client=("--attributes", str(ATTRIBUTES)))
    if real.errors or least.errors or written.errors:
        raise RuntimeError(f"{real.errors + written.errors} of our answers and {least.errors} of the bare ones not 200")
    return [
        Figure(
            name="server time per call, ours / bare", value=real.us_per_call / least.us_per_call, unit="x", most=2.2
        ),
        Figure(name="server time per call, bare", value=least.us_per_call, unit="us"),
        Figure(name="server time per call, ours (durable and applied)", value=real.us_per_call, unit="us"),
        Figure(
            name=f"server time per call, identify with {ATTRIBUTES} attributes / event",
            value=written.us_per_call / real.us_per_call, unit="x", most=3,
        ),
        Figure(name="calls per second, bare", value=least.calls / least.seconds, unit="1/s"),
        Figure(name="calls per second, ours", value=real.calls / real.seconds, unit="1/s"),
        Figure(name="p50, ours", value=median(real.p50_ms), unit="ms"),
        Figure(name="p99, ours", value=median(real.p99_ms), unit="ms", most=50),
        Figure(name="p99, bare", value=median(least.p99_ms), unit="ms"),
        Figure(
            name="share of a core the client used against ours", value=max(real.client_busy), unit="cores", most=0.9
        ),
        Figure(name="memory of our server afterwards", value=process.memory_bytes(ours[0]) / 2**20, unit="MB"),
    ]


def one_round(
    server: tuple[int, int], tally: Tally, size: Size, *, seconds: float, client: Sequence[str] = ()
) -> None:
    """Load one server and add up what it took; ``client`` are further arguments of ``bench.client``."""
    pid, port = server
    before = process.cpu_s(pid)
    options = ["--port", str(port), "--connections", str(CONNECTIONS), "--seconds", str(seconds)]
    options += ["--people", str(size.people), "--credentials", f"{SITE}:{KEY}", *client]
    answer = json.loads(process.run([sys.executable, "-m", "bench.client", *options], sample_s=1).output)
    wait_until_applied(port)
    tally.cpu_s += process.cpu_s(pid) - before
    tally.calls += int(answer["calls"])
    tally.errors += int(answer["errors"])
    tally.seconds += answer["seconds"]
    tally.p50_ms.append(answer["p50_ms"])
    tally.p99_ms.append(answer["p99_ms"])
    tally.client_busy.append(answer["client_busy"])


def wait_until_applied(port: int) -> None:
    """Facts are applied in order, so when this one is, all before it are. The bare server answers it as any other."""
    headers = {**BASIC, "Backstory-Wait": "applied"}
    process.call(port, "POST", "/api/v1/customers/p0/events", headers=headers, body=data.live_event(0))


def make_segments(port: int, count: int = 20, timeout_s: float = 60) -> None:
    """Segments over attributes, events, counts and windows, and the wait until all are built."""
    for number in range(count):
        segment = {"name": f"segment {number}", "type": "dynamic", "conditions": conditions(number)}
        process.call(port, "POST", "/v1/segments", headers=APP, body={"segment": segment})
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        listed = process.call(port, "GET", "/v1/segments", headers=APP)["segments"]
        if all(one["state"] == "finished" for one in listed):
            return
        time.sleep(0.1)
    raise RuntimeError(f"the segments were not built within {timeout_s} s")


def conditions(number: int) -> dict[str, object]:
    """The condition of the segment with this number; every fourth one is of the same sort."""
    name = data.EVENT_NAMES[number // 4 % 5]
    sorts: tuple[dict[str, object], ...] = (
        {"attribute": {"field": "visits", "operator": "gt", "value": 40 * number}},
        {"event": {"name": name, "within": {"last_s": 86_400 * (number + 1)}}},
        {"event": {"name": name, "count": {"at_least": 2 + number // 4}}},
        {
            "and": [
                {"attribute": {"field": "plan", "operator": "eq", "value": data.PLANS[number % 4]}},
                {"event": {"name": name, "where": {"attribute": {"field": "price", "operator": "gt", "value": 50}}}},
            ]
        },
    )
    return sorts[number % 4]


WORKLOAD = Workload(
    name="single_call",
    expects=(
        "a call that is durable before its 200 and applied to 20 segments costs the server at most 2.2 times what an "
        "empty answer costs: decoding is cheap, 64 connections share one sync, and the rest is HTTP's own"
    ),
    run=run,
)
