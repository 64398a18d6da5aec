"""Batches over HTTP: how many events a second the server accepts, and applies, from batches of 500 KB.

Track v2 and Pipelines in turn, over a few connections: events with distinct ids of known people, with the segments of
``bench.single_call``. Calls of Pipelines carry the moment at which they were made, as those of the official clients do;
then as many of them as a tenth carry times of the past year in no order, as a script does that brings in history.
Accepted is what was answered 200, applied what all reads show; both in one run, backlog included
(429 with Retry-After is waited for). The server's processor time per event stands beside it: other work on the machine
does not change it much.
"""

import base64
import concurrent.futures
import http.client
import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bench import data, process
from bench.single_call import APP_KEY, KEY, SITE, make_segments, wait_until_applied
from bench.workload import Figure, Place, Scale, Workload

WRITE_KEY = "bench-write-key"
BATCH_BYTES = 500 * 1024
CONNECTIONS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    people: int
    events: int


SIZES: dict[Scale, Size] = {
    "quick": Size(people=10_000, events=100_000),
    "full": Size(people=100_000, events=1_000_000),
}


def run(scale: Scale, place: Place) -> Sequence[Figure]:
    size, folder = SIZES[scale], place.work / "data"
    source = data.people(place.data, size.people)
    process.run([*process.BACKSTORY, "backfill", "people", str(source), "--data", str(folder), "--yes", "--json"])
    keys = {"SITE_ID": SITE, "TRACK_KEY": KEY, "APP_KEY": APP_KEY, "CDP_KEY": WRITE_KEY}
    port = process.free_port()
    serve = [*process.BACKSTORY, "serve", "--data", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    figures: list[Figure] = []
    with ExitStack() as stack:
        environment = {f"BACKSTORY_{name}": value for name, value in keys.items()}
        pid = stack.enter_context(process.server(serve, port, env=environment))
        make_segments(port)
        for name, path, user, item in (
            ("Track v2", "/api/v2/batch", f"{SITE}:{KEY}", operation),
            ("Pipelines", "/v1/batch", f"{WRITE_KEY}:", call),
            ("Pipelines, history", "/v1/batch", f"{WRITE_KEY}:", old_call),
        ):
            events = size.events // 10 if item is old_call else size.events
            bodies = batches(size.people, events, item)
            figures += measure(name, (pid, port), path, user, bodies, events)
    return figures


def measure(
    name: str, server: tuple[int, int], path: str, user: str, bodies: list[bytes], events: int
) -> list[Figure]:
    pid, port = server
    headers = {
        "Authorization": "Basic " + base64.b64encode(user.encode()).decode(),
        "Content-Type": "application/json",
    }
    cpu_s, started = process.cpu_s(pid), time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(CONNECTIONS) as pool:
        shares = [bodies[number::CONNECTIONS] for number in range(CONNECTIONS)]
        list(pool.map(lambda share: send(port, path, headers, share), shares))
    accepted_s = time.monotonic() - started
    wait_until_applied(port)
    applied_s = time.monotonic() - started
    cpu_s = process.cpu_s(pid) - cpu_s
    return [
        Figure(name=f"{name}: events accepted", value=events / accepted_s, unit="1/s", least=100_000),
        Figure(name=f"{name}: events applied", value=events / applied_s, unit="1/s", least=50_000),
        Figure(name=f"{name}: server time per event, accepted and applied", value=cpu_s / events * 1e6, unit="us"),
    ]


def send(port: int, path: str, headers: dict[str, str], bodies: list[bytes]) -> None:
    """Batches over one connection; a full backlog is waited for."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for body in bodies:
        while True:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != 429:
                break
            time.sleep(0.02)
        if answer.status != 200 or said != b"{}":
            raise RuntimeError(f"{answer.status}: {said[:200]!r}")
    connection.close()


def batches(people: int, events: int, item: Callable[[int, str], dict[str, object]]) -> list[bytes]:
    """All events as bodies just under the limit."""
    made: list[bytes] = []
    items: list[bytes] = []
    length = 0
    for number, person in enumerate(data.people_of(0, events, people)):
        text = json.dumps(item(number, person), separators=(",", ":")).encode()
        if length + len(text) + 1 > BATCH_BYTES - 20:
            made.append(b'{"batch":[' + b",".join(items) + b"]}")
            items, length = [], 0
        items.append(text)
        length += len(text) + 1
    made.append(b'{"batch":[' + b",".join(items) + b"]}")
    return made


def operation(number: int, person: str) -> dict[str, object]:
    event = data.live_event(number)
    return {
        "type": "person", "action": "event", "identifiers": {"id": person}, "name": event["name"],
        "attributes": event["data"], "id": f"{number:08x}-0000-4000-8000-000000000000",
    }  # fmt: skip


def call(number: int, person: str) -> dict[str, object]:
    event = data.live_event(number)
    return {
        "type": "track", "userId": person, "event": event["name"], "properties": event["data"],
        "messageId": f"message-{number}", "timestamp": text_of(datetime.now(UTC)), "integrations": {},
        "context": {"library": {"name": "analytics-python", "version": "1.1.0"}},
    }  # fmt: skip


def old_call(number: int, person: str) -> dict[str, object]:
    """The same of the past year, no two at one moment and in no order."""
    ago = timedelta(seconds=60 + number * 7919 % 31_536_000, milliseconds=number % 1000)
    return {
        **call(number, person), "messageId": f"old-message-{number}", "timestamp": text_of(datetime.now(UTC) - ago),
    }  # fmt: skip


def text_of(moment: datetime) -> str:
    """A time as the official clients write it."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


WORKLOAD = Workload(
    name="batch_call",
    expects=(
        "items are decoded and checked many at once, by a process beside the server, at 3 to 7 us of processor time; "
        "writing the journal costs about 1 us, applying them together about 12; of history in no order, whoever has "
        "attributes younger than the event that moves them has their history read; and once 1.5 million events wait "
        "to leave the tail, that costs another 5 us each"
    ),
    run=run,
)
