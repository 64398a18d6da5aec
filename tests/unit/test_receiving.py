"""Bodies as they arrive: refused as soon as they are too long, given up when they take too long, unpacked in bounds."""

import asyncio
import gzip
from collections.abc import Callable
from typing import Any

import pytest

from backstory.core.error import RequestError
from backstory.core.limit import ENTITY_BODY_BYTES, LIMITS, PIPELINES_BATCH_BYTES
from backstory.edge.receiving import BodyReader, BodyTooLongError, BodyTooSlowError, CallerGone, unpacked

LIMIT = ENTITY_BODY_BYTES


def run(work: Callable[[BodyReader], Any], wait_s: float = 5) -> Any:
    async def inside() -> Any:
        return await work(BodyReader(asyncio.get_running_loop(), wait_s=wait_s))

    return asyncio.run(inside())


def pieces(*bodies: bytes, ends: bool = True) -> tuple[Callable[[], Any], list[int]]:
    """A receive that gives the bodies one by one and then waits for ever; and how many were asked for."""
    asked = [0]

    async def receive() -> dict[str, Any]:
        asked[0] += 1
        if asked[0] > len(bodies):
            await asyncio.Event().wait()
        last = ends and asked[0] == len(bodies)
        return {"type": "http.request", "body": bodies[asked[0] - 1], "more_body": not last}

    return receive, asked


def test_a_body_comes_in_pieces() -> None:
    """Pieces are put together; a body at the limit is taken."""
    receive, _ = pieces(b"a", b"b", b"c" * (LIMIT.value - 2))
    assert len(run(lambda reader: reader.read(receive, LIMIT))) == LIMIT.value


def test_an_announced_length_is_refused_before_anything_is_read() -> None:
    """Whoever says that too much will come is refused at once."""
    receive, asked = pieces(b"x")
    with pytest.raises(BodyTooLongError):
        run(lambda reader: reader.read(receive, LIMIT, str(LIMIT.value + 1).encode()))
    assert asked == [0]


def test_reading_stops_at_the_limit() -> None:
    """Of a body of many pieces no more is read than it takes to know."""
    receive, asked = pieces(*[b"x" * 1024] * 10_000)
    with pytest.raises(BodyTooLongError):
        run(lambda reader: reader.read(receive, LIMIT))
    assert asked[0] == LIMIT.value // 1024 + 1


@pytest.mark.parametrize("bodies", [(), (b"x",)])
def test_a_slow_body_is_given_up(bodies: tuple[bytes, ...]) -> None:
    """A body that does not come, or does not go on, ends in time; the task that read it goes on."""
    receive, _ = pieces(*bodies, ends=False)

    async def work(reader: BodyReader) -> str:
        with pytest.raises(BodyTooSlowError):
            await reader.read(receive, LIMIT)
        quick, _ = pieces(b"quick")
        return (await reader.read(quick, LIMIT)).decode()

    assert run(work, wait_s=0.01) == "quick"


def test_a_task_that_is_cancelled_stays_cancelled() -> None:
    """A cancellation from elsewhere is not taken for slowness."""
    receive, _ = pieces(ends=False)

    async def work(reader: BodyReader) -> None:
        task = asyncio.ensure_future(reader.read(receive, LIMIT))
        asyncio.get_running_loop().call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    run(work)


def test_a_caller_who_leaves_is_not_answered() -> None:
    """A disconnect in the middle of a body is no request."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    with pytest.raises(CallerGone):
        run(lambda reader: reader.read(receive, LIMIT))


def test_unpacking_is_bounded() -> None:
    """What unpacks to the limit is taken, one byte more is refused, and a bomb is never unpacked whole."""
    limit = PIPELINES_BATCH_BYTES
    assert len(unpacked(gzip.compress(b"x" * limit.value), b"gzip", limit)) == limit.value
    for size in (limit.value + 1, 100 * limit.value):
        with pytest.raises(BodyTooLongError):
            unpacked(gzip.compress(b"x" * size), b" GZIP ", limit)
    with pytest.raises(RequestError, match="Content-Encoding"):
        unpacked(b"x", b"br", limit)


def test_limits_have_names_of_their_own() -> None:
    """No two limits share a name."""
    assert len({limit.name for limit in LIMITS}) == len(LIMITS)
