"""The two ways of a command to a workspace, as transports of the HTTP client: a server's socket, and this process."""

import concurrent.futures
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import anyio
import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.types import ASGIApp, Message, Scope

from backstory.edge.local import CommandError

_CHUNKS_MAX = 16


def socket_transport(path: Path) -> httpx.BaseTransport | None:
    """A way to the server behind a socket; None when no server listens there (any more)."""
    if not path.is_socket():
        return None
    # Where the path is too long for the kernel, the server left a link to a shorter one.
    address = os.readlink(path) if path.is_symlink() else os.path.abspath(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(address)
        except OSError:
            return None
    return httpx.HTTPTransport(uds=address)


class InProcess(httpx.BaseTransport):
    """Calls an ASGI application in this process; the body of the answer streams.

    ``Workspace`` methods block, so the application gets an event loop in a thread of its own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._exit = ExitStack()
        self._portal = self._exit.enter_context(start_blocking_portal())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        exchange = self._portal.call(_Exchange, self._portal, request.read())
        exchange.start(self._app, _scope(request))
        try:
            status, headers = exchange.head()
        except BaseException:
            exchange.close()
            raise
        return httpx.Response(status, headers=headers, stream=exchange, request=request)

    def close(self) -> None:
        self._exit.close()


class _Exchange(httpx.SyncByteStream):
    """One request and its answer, handed from the event loop to the caller chunk by chunk.

    A slow reader makes the application wait. When the caller leaves, the application hears of it and is waited for:
    long work ends where it may.
    """

    def __init__(self, portal: BlockingPortal, body: bytes) -> None:
        self._portal = portal
        self._body: bytes | None = body
        self._inlet, self._outlet = anyio.create_memory_object_stream[Message](_CHUNKS_MAX)
        self._left = anyio.Event()

    def start(self, app: ASGIApp, scope: Scope) -> None:
        self._ended = self._portal.start_task_soon(self._run, app, scope)

    def head(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        first = self._next()
        if first is None:
            self._ended.result()
            raise CommandError("the request was not answered")
        return first["status"], list(first["headers"])

    def __iter__(self) -> Iterator[bytes]:
        while (message := self._next()) is not None:
            yield message.get("body", b"")
        # An error behind the first byte must not look like the end of the answer.
        self._ended.result()

    def close(self) -> None:
        self._portal.call(self._leave)
        concurrent.futures.wait([self._ended])

    async def _run(self, app: ASGIApp, scope: Scope) -> None:
        async with self._inlet:
            await app(scope, self._receive, self._send)

    def _next(self) -> Message | None:
        try:
            return self._portal.call(self._outlet.receive)
        except anyio.EndOfStream:
            return None

    async def _leave(self) -> None:
        self._left.set()
        self._outlet.close()

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        with suppress(anyio.BrokenResourceError):
            await self._inlet.send(message)


def _scope(request: httpx.Request) -> Scope:
    raw_path, _, query = request.url.raw_path.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.url.path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": ("backstory", None),
        "client": None,
    }
