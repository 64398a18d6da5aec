"""Batches read by a process beside the server: the same comes of them, whatever becomes of the process."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
import uvloop

from backstory.core.error import RequestError
from backstory.edge.decoder import READERS, Reader
from backstory.edge.decoding import FROM_BYTES, Decoding
from backstory.edge.track2_batch import Decoded

ITEMS = 1200


def operation(number: int) -> dict[str, Any]:
    return {
        "type": "person", "action": "event", "identifiers": {"id": str(number % 7)}, "name": "buy",
        "attributes": {"number": number},
    }  # fmt: skip


def call(number: int) -> dict[str, Any]:
    return {
        "type": "track", "userId": str(number % 7), "event": "buy", "properties": {"number": number},
        "timestamp": "2026-01-02T03:04:05.678Z", "messageId": f"m{number}",
    }  # fmt: skip


def body(items: list[Any]) -> bytes:
    made = msgspec.json.encode({"batch": items})
    assert len(made) >= FROM_BYTES
    return made


PLAIN = body([operation(number) for number in range(ITEMS)])
BODIES: list[tuple[Reader, bytes]] = [
    ("operations", PLAIN),
    ("calls", body([call(number) for number in range(ITEMS)])),
    ("operations", body([*map(operation, range(ITEMS)), {"type": "nothing"}, {"type": "person"}, 5])),
    ("operations", body([{**operation(0), "name": "x" * 40_000}, *map(operation, range(ITEMS))])),
    ("calls", body([*map(call, range(ITEMS)), {"type": "track"}, {"type": "identify", "userId": "5", "traits": {}}])),
]


def told(decoded: Decoded) -> tuple[object, ...]:
    refused = {number: (type(one), one.message, one.path) for number, one in decoded.refused.items()}
    return decoded.facts, decoded.sizes, refused


def run(work: Callable[[Decoding], Awaitable[None]], **options: float) -> None:
    async def inside() -> None:
        decoding = Decoding(asyncio.get_running_loop(), 1, restart_s=0, **options)
        try:
            await work(decoding)
        finally:
            pids = decoding.pids
            await decoding.close()
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(inside())


async def ready(decoding: Decoding, *, other_than: int = 0) -> int:
    """Ask until there is a process, or another one; returns its id."""
    async with asyncio.timeout(30):
        while not decoding.pids or decoding.pids == [other_than]:
            read_here = await asyncio.to_thread(READERS["operations"], PLAIN)
            assert told(await decoding.read("operations", PLAIN)) == told(read_here)
    return decoding.pids[0]


def test_the_same_comes_of_it() -> None:
    """Facts, and what is refused with where and why."""

    async def work(decoding: Decoding) -> None:
        await ready(decoding)
        found = await asyncio.gather(*(decoding.read(reader, sent) for reader, sent in BODIES))
        for decoded, (reader, sent) in zip(found, BODIES, strict=True):
            assert told(decoded) == told(READERS[reader](sent))

    run(work)


@pytest.mark.parametrize("sent", [PLAIN[:-1], b"\xff" * FROM_BYTES, b"[" * FROM_BYTES, b'{"batch":5,"x":"%s"}' % PLAIN])
def test_a_body_that_is_no_batch_is_refused_in_the_same_words(sent: bytes) -> None:
    """And the process goes on."""

    async def work(decoding: Decoding) -> None:
        pid = await ready(decoding)
        for reader in READERS:
            with pytest.raises(RequestError) as here:
                READERS[reader](sent)
            with pytest.raises(RequestError) as there:
                await decoding.read(reader, sent)
            assert (there.value.message, there.value.path) == (here.value.message, here.value.path)
        assert decoding.pids == [pid]

    run(work)


def test_what_a_killed_process_left_is_read_all_the_same() -> None:
    """However much waits for it; then there is another one."""

    async def work(decoding: Decoding) -> None:
        pid = await ready(decoding)
        asked = [asyncio.ensure_future(decoding.read(*BODIES[number % len(BODIES)])) for number in range(12)]
        await asyncio.to_thread(os.kill, pid, signal.SIGKILL)
        for number, decoded in enumerate(await asyncio.gather(*asked)):
            reader, sent = BODIES[number % len(BODIES)]
            assert told(decoded) == told(READERS[reader](sent))
        assert await ready(decoding, other_than=pid) != pid

    run(work)


def test_a_process_that_says_nothing_is_ended() -> None:
    """What waits for it is read here."""

    async def work(decoding: Decoding) -> None:
        pid = await ready(decoding)
        os.kill(pid, signal.SIGSTOP)
        decoded = await decoding.read("operations", PLAIN)
        assert told(decoded) == told(READERS["operations"](PLAIN))
        assert await ready(decoding, other_than=pid) != pid

    run(work, answer_s=0.2)


def test_small_batches_and_none_at_all_start_nothing() -> None:
    """A process is memory: it is there once it is of use."""

    async def work(decoding: Decoding) -> None:
        small = msgspec.json.encode({"batch": [operation(1)]})
        assert told(await decoding.read("operations", small)) == told(READERS["operations"](small))
        assert not decoding.pids

    run(work)
