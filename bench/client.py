"""HTTP/1.1 calls over connections that stay: each sends its next call when the last one was answered.

At once (a closed loop), or with `--rate` when it is due: each connection has its share of the calls, evenly spread, and
one that fell behind catches up as fast as it is answered. Runs as a process of its own, on loopback only, for a given
time or until SIGTERM: `python -m bench.client --port 8000 --seconds 5`.
Prints one JSON object: calls, errors, seconds, latencies in milliseconds, the share of the calls due that was sent, and
how busy the client itself was (a client without spare processor time measures itself).
"""

import argparse
import asyncio
import base64
import contextlib
import itertools
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import cast

import uvloop

from bench import data

REQUESTS = 20_000
REQUESTS_MAX = 200_000
SECONDS_MAX = 120


def requests(
    people: int, credentials: str, *, first: int = 0, count: int = REQUESTS, attributes: int = 0
) -> list[bytes]:
    """Calls of `track` with five properties, made beforehand so that sending one costs no more than a write.

    With ``attributes`` calls of `identify` with so many.
    """
    basic = base64.b64encode(credentials.encode()).decode()
    made: list[bytes] = []
    for number, person in enumerate(data.people_of(first, count, people), first):
        made_of = data.live_person(number, attributes) if attributes else data.live_event(number)
        body = json.dumps(made_of, separators=(",", ":")).encode()
        target = f"PUT /api/v1/customers/{person}" if attributes else f"POST /api/v1/customers/{person}/events"
        head = (
            f"{target} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Basic {basic}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


class Connection(asyncio.Protocol):
    """One connection: write a call, wait for the whole answer, note the time it took, go on until told to stop.

    With an interval the calls are due that many seconds apart, the first one at ``due_s`` of the event loop's clock.
    """

    def __init__(
        self,
        calls: Iterator[bytes],
        statuses: Counter[int],
        times_ns: list[int],
        *,
        due_s: float = 0.0,
        interval_s: float = 0.0,
    ) -> None:
        self.calls = calls
        self.due_s = due_s
        self.interval_s = interval_s
        self.waiting: asyncio.TimerHandle | None = None
        self.statuses = statuses
        self.times_ns = times_ns
        self.buffer = b""
        self.started_ns = 0
        self.stopping = False
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self.loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class
        self.send_when_due()

    def send_when_due(self) -> None:
        due_s, self.due_s = self.due_s, self.due_s + self.interval_s
        if self.interval_s and due_s > self.loop.time():
            self.waiting = self.loop.call_at(due_s, self.send)
        else:
            self.send()

    def stop(self) -> None:
        """Send nothing more; a call that is under way is waited for."""
        self.stopping = True
        if self.waiting is not None:
            self.waiting.cancel()
            self.transport.close()

    def send(self) -> None:
        self.waiting = None
        self.started_ns = time.perf_counter_ns()
        self.transport.write(next(self.calls))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = answer_end(self.buffer)
        if end is None:
            return
        self.times_ns.append(time.perf_counter_ns() - self.started_ns)
        self.statuses[int(self.buffer[9:12])] += 1
        self.buffer = self.buffer[end:]
        if self.stopping:
            self.transport.close()
        else:
            self.send_when_due()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.stopping:
            self.statuses[0] += 1
        if not self.done.done():
            self.done.set_result(None)


def answer_end(buffer: bytes) -> int | None:
    """Where the first answer in the buffer ends; None while it is incomplete."""
    head = buffer.find(b"\r\n\r\n")
    if head < 0:
        return None
    at = buffer[:head].lower().find(b"\r\ncontent-length:")
    length = int(buffer[at + 17 : head].split(b"\r\n", 1)[0]) if at >= 0 else 0
    end = head + 4 + length
    return end if len(buffer) >= end else None


async def load(
    port: int, connections: int, seconds: float, calls: list[bytes], *, rate: float = 0.0
) -> dict[str, float]:
    """Load 127.0.0.1:port; answers what the module says. ``rate`` is in calls per second, 0 means a closed loop."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    statuses: Counter[int] = Counter()
    times_ns: list[int] = []
    cycle = itertools.cycle(calls)
    started, cpu_started, started_s = time.perf_counter(), time.process_time(), loop.time()
    interval_s = connections / rate if rate else 0.0

    def made(number: int) -> Connection:
        due_s = started_s + interval_s * number / connections
        return Connection(cycle, statuses, times_ns, due_s=due_s, interval_s=interval_s)

    opened = [
        (await loop.create_connection(partial(made, number), "127.0.0.1", port))[1] for number in range(connections)
    ]
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopped.wait(), seconds)
    due = rate * (time.perf_counter() - started)
    for connection in opened:
        connection.stop()
    await asyncio.wait_for(asyncio.gather(*(connection.done for connection in opened)), timeout=30)
    elapsed = time.perf_counter() - started
    ordered = sorted(times_ns)
    return {
        "calls": len(ordered),
        "errors": sum(count for status, count in statuses.items() if status != 200),
        "seconds": elapsed,
        "p50_ms": percentile(ordered, 0.50) / 1e6,
        "p99_ms": percentile(ordered, 0.99) / 1e6,
        "max_ms": ordered[-1] / 1e6 if ordered else 0.0,
        "share_sent": min(1.0, len(ordered) / due) if due else 1.0,
        "client_busy": (time.process_time() - cpu_started) / elapsed,
    }


def percentile(ordered: list[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.client")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--people", type=int, default=100_000)
    parser.add_argument("--credentials", default="site:key")
    parser.add_argument("--rate", type=float, default=0, help="calls a second; 0 is as many as are answered")
    parser.add_argument("--first", type=int, default=0, help="the number of the first call")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="different calls; then they come again")
    parser.add_argument("--attributes", type=int, default=0, help="identify with so many attributes instead of events")
    options = parser.parse_args()
    count = min(options.requests, REQUESTS_MAX)
    calls = requests(
        options.people, options.credentials, first=options.first, count=count, attributes=options.attributes
    )
    seconds = min(options.seconds, SECONDS_MAX)
    result = uvloop.run(load(options.port, options.connections, seconds, calls, rate=options.rate))
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
