"""How outcomes come from the engine's threads to the waiting requests."""

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from backstory.core.error import StorageError
from backstory.core.fact import Receipt
from backstory.edge.bridge import Bridge, Waiter


class CountingLoop:
    """A real loop's wake-ups, counted."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.wakes = 0

    def create_future(self) -> "asyncio.Future[Any]":
        return self._loop.create_future()

    def call_soon_threadsafe(self, call: Callable[[], None]) -> None:
        self.wakes += 1
        self._loop.call_soon_threadsafe(call)


def start(calls: Iterable[Callable[[], None]]) -> threading.Thread:
    """Another thread that makes the calls one after the other."""

    def run() -> None:
        for call in calls:
            call()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def in_thread(*calls: Callable[[], None]) -> None:
    start(calls).join()


def test_one_wake_up_settles_a_batch() -> None:
    """However many requests a group commit lets go, the loop is woken once."""

    async def run() -> int:
        loop = CountingLoop(asyncio.get_running_loop())
        bridge = Bridge(loop)  # type: ignore[arg-type]
        waiters = [Waiter(bridge) for _ in range(500)]
        in_thread(*(waiter.on_accept for waiter in waiters))
        assert await asyncio.gather(*(waiter.accepted for waiter in waiters)) == [None] * 500
        return loop.wakes

    assert asyncio.run(run()) == 1


def test_each_batch_is_woken_for() -> None:
    """After a flush the next outcome wakes the loop again; nobody waits for a neighbour."""

    async def run() -> int:
        loop = CountingLoop(asyncio.get_running_loop())
        bridge = Bridge(loop)  # type: ignore[arg-type]
        for _ in range(3):
            waiter = Waiter(bridge)
            in_thread(waiter.on_accept)
            await waiter.accepted
        return loop.wakes

    assert asyncio.run(run()) == 3


def test_many_threads_lose_nothing() -> None:
    """Outcomes from several threads at once all arrive."""

    async def run() -> None:
        bridge = Bridge(asyncio.get_running_loop())
        groups = [[Waiter(bridge) for _ in range(300)] for _ in range(4)]
        threads = [start([waiter.on_accept for waiter in group]) for group in groups]
        await asyncio.gather(*(waiter.accepted for group in groups for waiter in group))
        for thread in threads:
            thread.join()

    asyncio.run(run())


def test_application_implies_acceptance() -> None:
    """Receipts settle the acceptance too, in whatever order the engine calls."""

    async def run() -> None:
        waiter = Waiter(Bridge(asyncio.get_running_loop()), until_applied=True)
        receipts = [Receipt(result="applied")]
        waiter.on_applied(receipts)
        waiter.on_accept()
        assert await waiter.accepted is None
        assert waiter.applied is not None
        assert await waiter.applied == receipts

    asyncio.run(run())


def test_an_error_is_an_outcome() -> None:
    """A refusal settles both waits with the error; after an acceptance only the second."""

    async def run() -> None:
        error = StorageError("full")
        refused = Waiter(Bridge(asyncio.get_running_loop()), until_applied=True)
        refused.on_error(error)
        assert await refused.accepted is error
        late = Waiter(Bridge(asyncio.get_running_loop()), until_applied=True)
        late.on_accept()
        late.on_error(error)
        assert await late.accepted is None
        assert late.applied is not None
        assert await late.applied is error

    asyncio.run(run())


def test_who_left_is_not_told() -> None:
    """A cancelled request does not disturb the others of its batch."""

    async def run() -> None:
        bridge = Bridge(asyncio.get_running_loop())
        gone, here = Waiter(bridge), Waiter(bridge)
        gone.accepted.cancel()
        in_thread(gone.on_accept, here.on_accept)
        await here.accepted

    asyncio.run(run())


@pytest.mark.parametrize("times", [1, 3])
def test_a_closed_loop_is_no_error(times: int) -> None:
    """Outcomes that come after the server has gone are dropped."""
    loop = asyncio.new_event_loop()
    waiter = Waiter(Bridge(loop))
    loop.close()
    for _ in range(times):
        waiter.on_accept()
    assert not waiter.accepted.done()
