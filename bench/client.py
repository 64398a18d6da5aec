"""A closed loop of HTTP/1.1 calls: each connection sends its next call when the last one was answered.

Runs as a process of its own, on loopback only, for a given time: `python -m bench.client --port 8000 --seconds 5`.
Prints one JSON object: calls, errors, seconds, latencies in milliseconds, and how busy the client itself was
(a client without spare processor time measures itself).
"""

import argparse
import asyncio
import base64
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import cast

import uvloop

from bench import data

REQUESTS_MAX = 20_000
SECONDS_MAX = 120


def requests(people: int, credentials: str) -> list[bytes]:
    """Calls of `track` with five properties, made beforehand so that sending one costs no more than a write."""
    basic = base64.b64encode(credentials.encode()).decode()
    made: list[bytes] = []
    for number in range(REQUESTS_MAX):
        body = json.dumps(data.live_event(number), separators=(",", ":")).encode()
        head = (
            f"POST /api/v1/customers/{data.person_of(number, people)}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Basic {basic}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


class Connection(asyncio.Protocol):
    """One connection: write a call, wait for the whole answer, note the time it took, go on until told to stop."""

    def __init__(self, calls: Iterator[bytes], statuses: Counter[int], times_ns: list[int]) -> None:
        self.calls = calls
        self.statuses = statuses
        self.times_ns = times_ns
        self.buffer = b""
        self.started_ns = 0
        self.stopping = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class
        self.send()

    def send(self) -> None:
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
            self.send()

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


async def load(port: int, connections: int, seconds: float, calls: list[bytes]) -> dict[str, float]:
    """Load 127.0.0.1:port; answers what the module says."""
    loop = asyncio.get_running_loop()
    statuses: Counter[int] = Counter()
    times_ns: list[int] = []
    cycle = itertools.cycle(calls)
    started, cpu_started = time.perf_counter(), time.process_time()
    opened = [
        (await loop.create_connection(lambda: Connection(cycle, statuses, times_ns), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.sleep(seconds)
    for connection in opened:
        connection.stopping = True
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
    options = parser.parse_args()
    calls = requests(options.people, options.credentials)
    seconds = min(options.seconds, SECONDS_MAX)
    json.dump(uvloop.run(load(options.port, options.connections, seconds, calls)), sys.stdout)


if __name__ == "__main__":
    main()
