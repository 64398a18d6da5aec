"""Long work answered line by line: NDJSON from a worker thread, with backpressure.

The work calls ``emit`` with one JSON value per line. When the caller goes away or the server stops, the next
``emit`` raises ``Stopped``, so that the work ends at a place it chose. An error ends the stream with
``{"error": {"message"}}``: the status was sent long before.
"""

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable

import anyio
import anyio.from_thread
import anyio.to_thread
import msgspec
from anyio.streams.memory import MemoryObjectSendStream
from starlette.types import Receive, Scope, Send

from backstory.core.error import BackstoryError
from backstory.engine.file.options import Stopped

_log = logging.getLogger(__name__)

# Lines that may wait for a slow reader before the work waits too.
_LINES_MAX = 64

Emit = Callable[[object], None]
# What is emitted as the bytes of a line.
Frame = Callable[[object], bytes]


def line_frame(value: object) -> bytes:
    """A line of NDJSON."""
    return msgspec.json.encode(value) + b"\n"


def event_frame(value: object) -> bytes:
    """A server-sent event; None only says that somebody is there."""
    return b":\n\n" if value is None else b"data: " + msgspec.json.encode(value) + b"\n\n"


class LineStream:
    """A response (an ASGI application) whose body is what ``work`` emits, until ``stopping`` is set."""

    def __init__(
        self,
        work: Callable[[Emit], None],
        stopping: threading.Event,
        *,
        media_type: bytes = b"application/x-ndjson",
        frame: Frame = line_frame,
    ) -> None:
        self._work = work
        self._stopping = stopping
        self._media_type = media_type
        self._frame = frame

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", self._media_type)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        gone = threading.Event()
        inlet, outlet = anyio.create_memory_object_stream[bytes](_LINES_MAX)
        async with anyio.create_task_group() as group:
            group.start_soon(_watch, receive, gone)
            group.start_soon(self._run_aside, inlet, gone)
            try:
                async for line in outlet:
                    await send({"type": "http.response.body", "body": line, "more_body": True})
            finally:
                gone.set()
                outlet.close()
            group.cancel_scope.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _run_aside(self, inlet: MemoryObjectSendStream[bytes], gone: threading.Event) -> None:
        async with inlet:
            await anyio.to_thread.run_sync(self._run, inlet, gone)

    def _run(self, inlet: MemoryObjectSendStream[bytes], gone: threading.Event) -> None:
        def emit(line: object) -> None:
            if self._stopping.is_set():
                raise Stopped("the server is stopping: the same command goes on from here")
            if gone.is_set():
                raise Stopped("whoever asked for it went away")
            _hand_over(inlet, self._frame(line))

        try:
            self._work(emit)
        except Exception as error:
            _tell(inlet, error, self._frame)


async def _watch(receive: Receive, gone: threading.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()


def _hand_over(inlet: MemoryObjectSendStream[bytes], line: bytes) -> None:
    try:
        anyio.from_thread.run(inlet.send, line)
    except (anyio.BrokenResourceError, concurrent.futures.CancelledError, asyncio.CancelledError):
        raise Stopped("whoever asked for it went away, or the server is stopping") from None


def _tell(inlet: MemoryObjectSendStream[bytes], error: Exception, frame: Frame) -> None:
    """The last line after a failure; ours is logged in full, and shown without details."""
    if not isinstance(error, BackstoryError):
        _log.error("long work failed", exc_info=error)
    message = str(error) if isinstance(error, BackstoryError) else f"something went wrong on our side: {error!r}"
    try:
        _hand_over(inlet, frame({"error": {"message": message}}))
    except Stopped:
        _log.info("nobody was left to be told: %s", message)
