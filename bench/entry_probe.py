"""How long after its 200 an event shows that its person entered a segment: people sampled at an even pace.

For each sample one call of `track` about a person who is not in the segment yet, then reads of that person's segments,
one after the other with a short pause, until it is there. Where it was not shown by one read and shown by the next, it
became visible in between: ``shown_ms`` is when the answer that showed it had come (so a read's own time is in it),
``hidden_ms`` when the last read that did not show it was sent (0 if the first read showed it).

A process of its own, on loopback only, for a given time or until SIGTERM. Prints one JSON object: samples due, samples.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import signal
import sys
import time
from dataclasses import asdict, dataclass

import uvloop

SECONDS_MAX = 120
PAUSE_S = 0.003
# After so long a sample is given up and counts as that long.
PATIENCE_S = 10.0
EVENT = "entry_probe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One person's entry. ``at_s`` is the moment of the 200 on the machine's monotonic clock."""

    at_s: float
    shown_ms: float
    hidden_ms: float
    reads: int
    read_ms: float


class Line:
    """One connection that stays, one call at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, call: bytes) -> bytes:
        """The body of the answer; raises ``RuntimeError`` unless it is a 200."""
        self._writer.write(call)
        head = await self._reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        body = await self._reader.readexactly(length)
        if head[9:12] != b"200":
            raise RuntimeError(f"refused: {head[:80]!r} {body[:200]!r}")
        return body

    def close(self) -> None:
        self._writer.close()


class Probe:
    """Samples at ``rate`` a second, from the person of number ``first`` on."""

    def __init__(self, port: int, segment_id: int, first: int, rate: float, credentials: str, app_key: str) -> None:
        self._port = port
        self._segment_id = segment_id
        self._first = first
        self._rate = rate
        self._basic = base64.b64encode(credentials.encode()).decode()
        self._app_key = app_key
        self._stopped = asyncio.Event()
        self.due = 0
        self.samples: list[Sample] = []

    async def run(self, lines: int, seconds: float) -> None:
        """Until the time is over or SIGTERM comes; samples that were begun are finished."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stopped.set)
        started = time.monotonic()
        workers = [asyncio.create_task(self._work(number, lines, started)) for number in range(lines)]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)
        self._stopped.set()
        self.due = int(self._rate * (time.monotonic() - started))
        await asyncio.wait_for(asyncio.gather(*workers), PATIENCE_S + 20)

    async def _work(self, number: int, lines: int, started: float) -> None:
        line = Line(*await asyncio.open_connection("127.0.0.1", self._port))
        while not self._stopped.is_set():
            with contextlib.suppress(TimeoutError):
                due_s = started + number / self._rate - time.monotonic()
                await asyncio.wait_for(self._stopped.wait(), max(0.0, due_s))
                break
            self.samples.append(await self._sample(line, f"p{self._first + number}"))
            number += lines
        line.close()

    async def _sample(self, line: Line, person: str) -> Sample:
        event, read = self._event(person), self._read(person)
        await line.ask(event)
        at_s = time.monotonic()
        hidden_s, reads = 0.0, 0
        while True:
            sent_s = time.monotonic()
            body = await line.ask(read)
            got_s = time.monotonic()
            reads += 1
            if got_s - at_s > PATIENCE_S or shows(body, self._segment_id):
                return Sample(
                    at_s=at_s,
                    shown_ms=(got_s - at_s) * 1e3,
                    hidden_ms=hidden_s * 1e3,
                    reads=reads,
                    read_ms=(got_s - sent_s) * 1e3,
                )
            hidden_s = sent_s - at_s
            await asyncio.sleep(PAUSE_S)

    def _event(self, person: str) -> bytes:
        body = json.dumps({"name": EVENT, "data": {"price": 1}}).encode()
        head = (
            f"POST /api/v1/customers/{person}/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {self._basic}"
            f"\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def _read(self, person: str) -> bytes:
        return (
            f"GET /v1/customers/{person}/segments HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {self._app_key}\r\n\r\n"
        ).encode()


def shows(body: bytes, segment_id: int) -> bool:
    """Whether the segment is among those of the person."""
    return any(one["id"] == segment_id for one in json.loads(body)["segments"])


async def sample(options: argparse.Namespace) -> dict[str, object]:
    probe = Probe(
        options.port, options.segment, options.first, options.rate, options.credentials, options.app_key
    )
    await probe.run(options.lines, min(options.seconds, SECONDS_MAX))
    return {"due": probe.due, "samples": [asdict(one) for one in probe.samples]}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.entry_probe")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--segment", type=int, required=True, help="the segment that the event lets people enter")
    parser.add_argument("--first", type=int, default=0, help="the number of the first person")
    parser.add_argument("--rate", type=float, default=20, help="samples a second")
    parser.add_argument("--lines", type=int, default=16, help="connections, hence samples at the same time")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--credentials", required=True)
    parser.add_argument("--app-key", required=True)
    json.dump(uvloop.run(sample(parser.parse_args())), sys.stdout)


if __name__ == "__main__":
    main()
