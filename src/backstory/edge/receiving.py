"""Bodies as they arrive: bounded in size and in time, unpacked if they came packed.

A body is refused as soon as it is known to be too long: by its announced length, or while it is read. One that does
not arrive within the time is given up. Knows nothing of what is inside.
"""

import asyncio
import zlib

from starlette.types import Receive

from backstory.core.error import RequestError
from backstory.core.limit import BODY_WAIT_S, Limit

SWEEP_S = 5.0
_GZIP = 31


class BodyTooLongError(RequestError):
    """The body is longer than allowed; the rest of it was not read."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(limit.message.format(value=limit.value))


class BodyTooSlowError(RequestError):
    """The body did not arrive in time."""

    def __init__(self) -> None:
        super().__init__(BODY_WAIT_S.message.format(value=BODY_WAIT_S.value))


class CallerGone(Exception):
    """The client left before its request was complete: there is nobody to answer."""


class BodyReader:
    """Reads bodies on one event loop; one timer watches over all that are being read."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, wait_s: float = BODY_WAIT_S.value) -> None:
        self._loop = loop
        self._wait_s = wait_s
        # Since when each task waits; the oldest first.
        self._since: dict[asyncio.Task[object], float] = {}
        self._late: set[asyncio.Task[object]] = set()
        self._watching = False

    async def read(self, receive: Receive, limit: Limit, announced: bytes = b"") -> bytes:
        """The whole body; ``announced`` is its Content-Length. Raises the errors of this module."""
        if announced.isdigit() and int(announced[:20]) > limit.value:
            raise BodyTooLongError(limit)
        task = asyncio.current_task()
        assert task is not None
        self._since[task] = self._loop.time()
        if not self._watching:
            self._watch()
        try:
            return await _whole(receive, limit)
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            task.uncancel()
            raise BodyTooSlowError from None
        finally:
            del self._since[task]
            self._late.discard(task)

    def _watch(self) -> None:
        self._watching = True
        self._loop.call_later(min(SWEEP_S, self._wait_s), self._sweep)

    def _sweep(self) -> None:
        now_s = self._loop.time()
        for task, since_s in self._since.items():
            if now_s - since_s < self._wait_s:
                break
            if task not in self._late:
                self._late.add(task)
                task.cancel()
        self._watching = False
        if self._since:
            self._watch()


async def _whole(receive: Receive, limit: Limit) -> bytes:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise CallerGone
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        body = await _read_on(receive, body, limit)
    if len(body) > limit.value:
        raise BodyTooLongError(limit)
    return body


async def _read_on(receive: Receive, first: bytes, limit: Limit) -> bytes:
    body = bytearray(first)
    while len(body) <= limit.value:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerGone
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return bytes(body)


def unpacked(raw: bytes, encoding: bytes, limit: Limit) -> bytes:
    """The body behind a Content-Encoding: none or gzip. Never makes more bytes than the limit allows."""
    match encoding.strip().lower():
        case b"" | b"identity":
            return raw
        case b"gzip" | b"x-gzip":
            return _gunzip(raw, limit)
        case other:
            raise RequestError(f"Content-Encoding must be gzip or none, not {other[:40].decode('latin-1')!r}")


def _gunzip(raw: bytes, limit: Limit) -> bytes:
    body, rest = bytearray(), raw
    while rest:  # A gzip file may have several members.
        member = zlib.decompressobj(_GZIP)
        try:
            body += member.decompress(rest, limit.value + 1 - len(body))
        except zlib.error as error:
            raise RequestError(f"the body is not valid gzip: {error}") from None
        if len(body) > limit.value:
            raise BodyTooLongError(limit)
        if not member.eof:
            raise RequestError("the body is not valid gzip: it ends too early")
        rest = member.unused_data
    return bytes(body)
